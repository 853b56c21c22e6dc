"""What an operator acts on, said once; `logging` is imported when there is something."""

from __future__ import annotations


def warn(text: str) -> None:
    """Log a warning under the name `ddmq`."""
    import logging  # slow to import, and rarely needed

    logging.getLogger("ddmq").warning(text)
