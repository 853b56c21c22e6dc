"""What `ddmq --completion SHELL` prints: the files here, made by `packaging/completion.py`."""

from __future__ import annotations

import argparse
from typing import Any

#: The shells that have one; each completes the words of all three programs.
SHELLS = ("bash", "zsh", "fish")


def completion(shell: str) -> str:
    """Return what a shell reads to complete the words of our commands."""
    from pkgutil import get_data  # only needed here

    return (get_data(__name__, f"ddmq.{shell}") or b"").decode()


class ShowCompletion(argparse.Action):
    """Prints it, and ends."""

    def __call__(self, parser: Any, _: Any, values: Any, __: Any = None) -> None:
        """Print it."""
        print(completion(values), end="")
        parser.exit()
