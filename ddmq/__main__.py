"""`python -m ddmq` is `ddmq`."""

import sys

from ddmq.cli.main import main

sys.exit(main())
