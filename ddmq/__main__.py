"""`python -m ddmq` is `ddmq`."""

import sys

from ddmq.cli import main

sys.exit(main())
