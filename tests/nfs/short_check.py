"""`ddmq check` with fewer names, messages and kills, for emulated processors."""

from __future__ import annotations

import sys

from ddmq.cli.main import main
from ddmq.diagnose.check import probes, storm

if __name__ == "__main__":
    probes.NAMES, probes.LISTED = 40, 20
    storm.MESSAGES, storm.KILLS = 25, 2
    sys.exit(main())
