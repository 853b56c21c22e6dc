"""How far a command is, in one line of a terminal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from ddmq.printable import printable

if TYPE_CHECKING:
    from ddmq.clock import Clock

#: Seconds between two changes of the line, and before the first.
_EVERY = 0.5


class Terminal(Protocol):
    """What a line needs of a terminal."""

    def write(self, text: str, /) -> object:
        """Write a text."""

    def flush(self) -> object:
        """Write what waits."""

    def fileno(self) -> int:
        """Return the descriptor."""


class ProgressLine:
    """A line of a terminal that is written over again and again."""

    def __init__(self, terminal: Terminal, clock: Clock) -> None:
        self._terminal = terminal
        self._clock = clock
        self._written = clock.monotonic()
        self._width = 0

    def show(self, text: str) -> None:
        """Show `text`, unless something was shown a moment ago."""
        if self._clock.monotonic() - self._written > _EVERY:
            self._written = self._clock.monotonic()
            self._write(text)

    def clear(self) -> None:
        """Leave an empty line for what comes next."""
        if self._width:
            self._write("")
            self._terminal.write("\r")

    def _write(self, text: str) -> None:
        try:
            columns = os.get_terminal_size(self._terminal.fileno()).columns
        except OSError:
            columns = 0
        text = printable(text)
        if columns:  # in a second line, it would not be written over
            text = text[: columns - 1]
        self._terminal.write("\r" + text.ljust(self._width))
        self._terminal.flush()
        self._width = len(text)
