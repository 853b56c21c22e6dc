"""Signals become a request to drain, and wake up whoever waits."""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

DRAIN = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class Signals:
    """While entered, a signal asks for a drain, and the end of a child ends a `wait`.

    For the main thread only, as Python's signal handlers are.
    """

    def __init__(self) -> None:
        self.drain_requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        self._read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._write = write
        self._wakeup_before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in DRAIN:
            self._before[number] = signal.signal(number, self._request_drain)
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _ignore)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._read)
        os.close(self._write)

    def _request_drain(self, *_: object) -> None:
        self.drain_requested = True

    def wait(self, seconds: float) -> None:
        """Wait until a signal comes, a child's end above all, but not longer."""
        ready, _, _ = select.select([self._read], [], [], seconds)
        if ready:
            os.read(self._read, 4096)


def _ignore(*_: object) -> None:
    """Do nothing: that it was called has woken up `wait`."""
