"""`python -m ddmq.hpc` is `ddmq-worker`."""

import sys

from ddmq.cli.worker import main

sys.exit(main())
