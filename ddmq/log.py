"""Warnings for the operator; `logging` is imported with the first one."""

from __future__ import annotations

import sys


def warn(text: str) -> None:
    """Log a warning to the logger `ddmq`, in one line without control characters."""
    import logging  # slow to import, and rarely needed

    from ddmq.printable import printable

    logging.getLogger("ddmq").warning(printable(text))


def inform(text: str) -> None:
    """Log what is told on request only, as by `-v`. Whoever asked for it has imported `logging`."""
    if "logging" in sys.modules:
        import logging  # waits where another thread is just importing it

        from ddmq.printable import printable

        logging.getLogger("ddmq").info(printable(text))
