"""Where what is watched is shown: a terminal, or lines of text."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from ddmq.cli.panel import MOST_RUNS, cut, line, panel
from ddmq.clock import date

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TextIO

    from ddmq.cli.panel import QueueSeen
    from ddmq.clock import Clock

_colour = re.compile("\x1b\\[[0-9]*m")


class Screen:
    """Some lines of a terminal that are written over again and again; elsewhere, new lines.

    The cursor is hidden only while they are written, so that it is there whatever ends us.
    """

    def __init__(self, out: TextIO, clock: Clock, environ: Mapping[str, str]) -> None:
        self._out = out
        self._clock = clock
        self.is_terminal = out.isatty() and environ.get("TERM") != "dumb"
        self._is_coloured = self.is_terminal and not environ.get("NO_COLOR")
        #: How many columns each line has that is shown, and the terminal then had.
        self._widths: list[int] = []
        self._size = 0, 0

    def show(self, found: Sequence[QueueSeen]) -> None:
        """Show queues."""
        if not self.is_terminal:
            now = date(self._clock.time())
            self._write("".join(f"{now}  {line(seen)}\n" for seen in found))
            return
        self._size = columns, rows = self._asked()
        # In the last column, what is erased behind a line would be its end. The cursor can't go
        # up to what has left the screen, so the last row stays empty.
        lines = self._lines(found, columns - 1, rows - 1)
        # Where it has become narrower, the terminal has broken the lines that it showed.
        up = sum(max(-(-width // columns), 1) for width in self._widths)
        up = min(up, rows - 1)
        text = f"\x1b[{up}A" if up else ""
        text += "".join(f"\r{each}\x1b[K\n" for each in lines)
        self._widths = [len(_colour.sub("", each)) for each in lines]
        self._write(f"\x1b[?25l{text}\x1b[J\x1b[?25h")

    def _lines(self, found: Sequence[QueueSeen], columns: int, rows: int) -> list[str]:
        """Return as much of queues as there is room for: single runs are left out first."""
        lines: list[str] = []
        for runs in range(MOST_RUNS, -1, -1):
            panels = (
                panel(seen, columns, is_coloured=self._is_coloured, runs=runs)
                for seen in found
            )
            lines = [line for each in panels for line in each]
            if len(lines) <= rows:
                return lines
        more = cut(f"… and {len(lines) - rows + 1:,} lines more", columns)
        return [*lines[: rows - 1], more][:rows]

    def has_other_size(self) -> bool:
        """Tell whether the terminal has another size than when something was shown last."""
        return self.is_terminal and self._asked() != self._size

    def leave(self) -> None:
        """Leave the terminal as it was, below what is shown."""
        if self.is_terminal:
            with suppress(OSError):  # it is gone
                self._write("\r\x1b[0m\x1b[?25h\x1b[J")

    def _asked(self) -> tuple[int, int]:
        try:
            size = os.get_terminal_size(self._out.fileno())
        except OSError:
            return 80, 24
        return size.columns or 80, size.lines or 24

    def _write(self, text: str) -> None:
        self._out.buffer.write(text.encode("utf-8", "backslashreplace"))
        self._out.flush()
