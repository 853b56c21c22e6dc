"""`python -m ddmq` is `ddmq`."""

import sys

from ddmq.cli import run_ddmq

sys.exit(run_ddmq())
