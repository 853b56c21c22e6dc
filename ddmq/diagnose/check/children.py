"""Processes that we fork and watch, and that end with us."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_ENDS = (signal.SIGTERM, signal.SIGHUP)
_INTERRUPTIONS = (signal.SIGINT, *_ENDS)


class Child:
    """A forked process."""

    def __init__(self, run: Callable[[], object], *, group: bool = False) -> None:
        """Start it; with a group of its own, what it starts can be killed with it."""
        self.pid = os.fork()
        self._group = group
        self._ended = False
        if self.pid == 0:
            _run_and_exit(run, group=group)
        if group:
            with suppress(OSError):  # it may be faster than we are
                os.setpgid(self.pid, self.pid)

    def is_alive(self) -> bool:
        """Tell whether it still runs."""
        self._reap(os.WNOHANG)
        return not self._ended

    def kill(self) -> None:
        """Kill it, with its group where it has one, and wait for its end."""
        if self._group:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        if self.is_alive():
            os.kill(self.pid, signal.SIGKILL)
            self._reap(0)

    def _reap(self, options: int) -> None:
        if not self._ended:
            try:
                self._ended = os.waitpid(self.pid, options)[0] != 0
            except ChildProcessError:  # we were interrupted before we could note it
                self._ended = True


class Family:
    """All that one process has started."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    def start(self, run: Callable[[], object], *, group: bool = False) -> Child:
        """Start a process. `end` will end it, even if a signal interrupts us right now."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTIONS)
        try:
            self._children.append(Child(run, group=group))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return self._children[-1]

    def end(self) -> None:
        """Kill those that still run."""
        for child in self._children:
            child.kill()


def _run_and_exit(run: Callable[[], object], *, group: bool) -> None:
    """Be the child, and never return: the parent's cleaning up must not happen twice."""
    status = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTIONS)
        if group:
            os.setpgid(0, 0)
        run()
        status = 0
    finally:
        if status and not isinstance(sys.exc_info()[1], KeyboardInterrupt):
            sys.excepthook(*sys.exc_info())
        os._exit(status)


@contextmanager
def ended_like_interrupted() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does: clean up first."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = [(number, signal.signal(number, interrupt)) for number in _ENDS]
    except ValueError:  # not the main thread: nothing is sent to us
        before = []
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
