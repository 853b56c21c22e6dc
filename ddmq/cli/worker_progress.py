"""How far a queue is, said by a worker while it works: `ddmq-worker --progress`."""

from __future__ import annotations

import logging
import os
import select
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ddmq.cli.progress import ProgressLine
from ddmq.cli.watching import EVERY, EVERY_LINE, Progress
from ddmq.clock import date
from ddmq.hpc.running.stream import unwaiting
from ddmq.storage.background import BackgroundCall
from ddmq.storage.filesystem import FileSystem

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from ddmq.clock import Clock

#: Seconds until what had to make room is shown again, and between two looks at a call.
_SOON = 0.6


class WorkerProgress:
    """In the last line of a terminal; where there is none, in a line now and then.

    A thread looks at the queue, and what the reader does not take at once is not written: the
    worker waits for nothing here.
    """

    def __init__(self, root: str, queue: str, clock: Clock, stream: TextIO) -> None:
        self._clock = clock
        self._stream = _Unwaiting(stream)
        self._line: ProgressLine | None = None
        self._every = EVERY_LINE
        self._warnings = _Warnings(stream, self.hide)
        if stream.isatty():
            self._line, self._every = ProgressLine(self._stream, clock), EVERY
            logging.getLogger("ddmq").addHandler(self._warnings)
        self._acked = 0
        self._progress = Progress(
            root, queue, FileSystem(), clock, ours=lambda: self._acked
        )
        self._text = ""
        self._call: BackgroundCall[str | None] | None = None
        self._next = clock.monotonic()

    def look(self, acked: int, *, may_show: bool) -> float:
        """Show what is known by now, if it `may_show`; return the seconds until the next look.

        `acked` is how many messages this worker acked.
        """
        self._acked = acked
        now = self._clock.monotonic()
        if self._call is None and now >= self._next:
            self._call = BackgroundCall(partial(self._progress.told, 0.0))
            self._next = now + self._every
        elif self._call is not None and self._call.has_ended:
            text = None
            # What others wrote into the queue must not end a worker: what was known stands on.
            with suppress(Exception):
                text = self._call.result()
            self._call = None
            self._text = text or self._text
            if self._line is None and text:
                self._stream.write(f"{date(self._clock.time())}  {text}\n")
        if self._line is not None and self._text and may_show:
            self._line.show(self._text)
        if self._line is not None or self._call is not None:
            return _SOON
        return max(self._next - now, 0.0)

    def hide(self) -> None:
        """Leave the line to what is printed there."""
        if self._line is not None:
            self._line.clear()

    def close(self) -> None:
        """Show it no more."""
        self.hide()
        logging.getLogger("ddmq").removeHandler(self._warnings)
        self._stream.close()


class _Unwaiting:
    """An output of this process, which gets what it takes at once; the rest is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._descriptor = unwaiting(stream.fileno())
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)

    def write(self, text: str) -> None:
        """Write a short text."""
        data = text.encode(self._stream.encoding, "replace")[: select.PIPE_BUF]
        with suppress(OSError):  # a terminal that is gone
            if self._poll.poll(0):
                os.write(self._descriptor, data)

    def close(self) -> None:
        """Write no more."""
        if self._descriptor != self._stream.fileno():
            os.close(self._descriptor)
            self._descriptor = self._stream.fileno()

    def flush(self) -> None:
        """All is written."""

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor


class _Warnings(logging.Handler):
    """Prints warnings as ever, where the line stood."""

    def __init__(self, stream: TextIO, hide: Callable[[], object]) -> None:
        super().__init__()
        self._stream = stream
        self._hide = hide

    def emit(self, record: logging.LogRecord) -> None:
        """Print one."""
        self._hide()
        with suppress(OSError):  # nobody reads them
            print(self.format(record), file=self._stream)
