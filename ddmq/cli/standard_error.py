"""Standard error while a worker runs: nobody waits for its reader, and nothing is lost."""

from __future__ import annotations

import io
import os
import sys
from math import inf
from typing import Any

from ddmq.clock import Clock
from ddmq.hpc.running.stream import Output

#: Seconds for which a reader that takes nothing is waited for, where there is hurry.
_PATIENCE = 1.0


class StandardError:
    """While entered, what is printed to `sys.stderr` goes by way of `output`.

    A worker shares that with its commands. A pager that stands still, or a terminal after Ctrl-S,
    would else hold up the worker with its first warning: it would obey no signal any more, and
    keep for ever what it holds.
    """

    def __init__(self) -> None:
        self.output = Output(2)
        self.is_hurried = False
        """Whether it is time to end, whoever reads."""

    def __enter__(self) -> StandardError:
        self._before = before = sys.stderr
        if sys.stderr is sys.__stderr__:  # and no stand-in, as tests have them
            raw: Any = _Raw(self.output)  # it needs no buffer, which types ask for
            sys.stderr = io.TextIOWrapper(
                raw, before.encoding, before.errors, line_buffering=True
            )
        return self

    def __exit__(self, *raised: object) -> None:
        sys.stderr.flush()
        sys.stderr = self._before
        self.output.finish(_PATIENCE if self.is_hurried else inf, Clock())


class _Raw(io.RawIOBase):
    """An output of this process, as a file of Python."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(2)

    def fileno(self) -> int:
        return 2

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        self._output.write(self, bytes(data))
        return len(data)
