"""`python -m ddmq.hpc` is `ddmq-worker`."""

import sys

from ddmq.hpc.cli import main

sys.exit(main())
