"""`python -m ddmq.hpc` is `ddmq-worker`."""

import sys

from ddmq.cli import run_worker

sys.exit(run_worker())
