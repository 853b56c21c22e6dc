"""Signals ask a worker to drain, wake it up, and may end its commands before they reach it."""

from __future__ import annotations

import atexit
import os
import select
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ddmq.clock import Clock
    from ddmq.hpc.running.execution import Ended

DRAIN = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
#: They announce the end of a job: who has drained already need not hear of it.
ANNOUNCE = (signal.SIGUSR1, signal.SIGUSR2)
#: Slurm sends a signal twice within milliseconds: only a later one is another.
_SAME_WITHIN = 5.0
#: Seconds for which the worker waits for a signal of its own after one has ended a command.
_SIGNAL_LAG = 0.5
_LONGEST = 3600.0


class Notice(NamedTuple):
    """The signal that asked for a drain."""

    signal: str
    """Its name."""
    at: float
    """When it came, in seconds of the monotonic clock."""


class Signals:
    """While entered, a signal asks for a drain, a later one for haste.

    The end of a child ends a `wait`. For the main thread only, as Python's signal handlers are.

    Where the process ends with the worker (`until_exit`), SIGUSR1 and SIGUSR2 end it no more
    afterwards: they announce the end of a job, and would kill the worker while it submits the next
    one. After a drain, none of the four does, so that a signal that is repeated changes no exit
    status. They have a handler meanwhile, which no child inherits, and are ignored at the exit.
    """

    def __init__(self, clock: Clock, *, until_exit: bool = False) -> None:
        self.drain_requested = False
        self.haste_requested = False
        self.notice: Notice | None = None
        self.are_taken = False
        self._clock = clock
        self._first = 0.0
        self._before: dict[int, Any] = {}
        self._until_exit = until_exit

    def __enter__(self) -> Signals:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup_before = signal.set_wakeup_fd(
            self._write, warn_on_full_buffer=False
        )
        for number in DRAIN:
            self._before[number] = signal.signal(number, self._request)
        # There is nothing to do: that it was called has woken up `wait`.
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        # Whoever started this process may have blocked them.
        self._blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, self._before)
        self.are_taken = True
        return self

    def __exit__(self, *raised: object) -> None:
        self.are_taken = False
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
        stay = DRAIN if self.drain_requested else ANNOUNCE
        for number, handler in self._before.items():
            if self._until_exit and number in stay:
                atexit.register(signal.signal, number, signal.SIG_IGN)
            elif handler is not None:  # else it is not one of Python
                signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._read)
        os.close(self._write)

    def _request(self, number: int, _: object) -> None:
        now = self._clock.monotonic()
        if not self.drain_requested:
            self._first = now
            name = signal.Signals(number).name
            self.notice = Notice(name, now)
        elif now - self._first > _SAME_WITHIN:
            self.haste_requested = True
        self.drain_requested = True

    def wake(self) -> None:
        """End a `wait`, from another thread."""
        with suppress(BlockingIOError):  # then there is enough that ends it
            os.write(self._write, b"\0")

    def wait(
        self,
        seconds: float,
        readers: Mapping[int, Callable[[], object]],
        writers: Mapping[int, Callable[[], object]] = {},
    ) -> None:
        """Wait for a signal, a child's end, a `wake` or a descriptor, but not longer.

        `readers` says for each descriptor what to call when it can be read, `writers` when it
        takes something.
        """
        poll = select.poll()
        for descriptor in (self._read, *readers):
            poll.register(descriptor, select.POLLIN)
        for descriptor in writers:
            poll.register(descriptor, select.POLLOUT)
        for descriptor, _ in poll.poll(min(max(seconds, 0.0), _LONGEST) * 1000):
            if descriptor == self._read:
                os.read(self._read, 4096)
            else:
                (readers.get(descriptor) or writers[descriptor])()


class Suspects:
    """Commands that may have failed only because the job is being ended.

    A scheduler may signal the commands before the worker: PBS does. So a command that such a
    signal ended, or that failed just then, is held back for half a second. If the worker gets a
    signal of its own meanwhile, the command was interrupted. If it gets none, the command failed.
    Nothing else is started until that is known.
    """

    def __init__(self, clock: Clock) -> None:
        self.held: list[Ended] = []
        self._clock = clock
        self._held_until = self._signalled_until = 0.0

    def cleared(self, ended: list[Ended]) -> list[Ended]:
        """Return those of which it is known why they ended, also of the ones that were held."""
        now = self._clock.monotonic()
        if any(each.was_signalled for each in ended):
            self._signalled_until = now + _SIGNAL_LAG
        known: list[Ended] = []
        for each in ended:
            if each.is_certain or now >= self._signalled_until:
                known.append(each)
            else:
                self.held.append(each)
                self._held_until = now + _SIGNAL_LAG
        return known if self.due_in() else known + self.take()

    def due_in(self) -> float:
        """Return the seconds until all that are held have failed."""
        return max(self._held_until - self._clock.monotonic(), 0.0)

    def take(self) -> list[Ended]:
        """Return those that are held, and hold them no more."""
        held, self.held = self.held, []
        return held
