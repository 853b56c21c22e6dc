"""`ddmq check` with fewer names, messages and kills, for emulated processors."""

from __future__ import annotations

import sys

from ddmq.check import probes, storm
from ddmq.cli import main

if __name__ == "__main__":
    probes.NAMES, probes.LISTED = 60, 30
    storm.MESSAGES, storm.KILLS = 40, 3
    sys.exit(main())
