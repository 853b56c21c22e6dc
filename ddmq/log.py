"""What an operator acts on, said once; `logging` is imported when there is something."""

from __future__ import annotations


def warn(text: str) -> None:
    """Log a warning under the name `ddmq`, in one line that a terminal only shows."""
    import logging  # slow to import, and rarely needed

    from ddmq.printable import printable

    logging.getLogger("ddmq").warning(printable(text))
