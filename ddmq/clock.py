"""The only module that reads the time or sleeps: it shows the file server's clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from ddmq.patience import Errand

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")
#: How far behind its own clock a file system may stamp: one tick of the kernel's timer.
_TICK_NS = 20_000_000
#: The same in seconds, and where it stamps in whole seconds.
_TICK, _LONG_TICK = 0.02, 1.05
_SECOND_NS = 1_000_000_000


class Clock:
    """The file server's clock, so that all nodes agree on when a lease expires.

    A process compares how the server stamps what it just touched with its own clock
    (`synchronise`). On a local disk the two are one clock and the offset is zero.
    """

    def __init__(self) -> None:
        self.offset_ns = 0
        self._start_ns: int | None = None

    def own_ns(self) -> int:
        """Return this node's own clock, in nanoseconds since 1970."""
        return time.time_ns()

    def time_ns(self) -> int:
        """Return the file server's time, in nanoseconds since 1970."""
        return self.own_ns() + self.offset_ns

    def time(self) -> float:
        """Return the file server's time, in seconds since 1970."""
        return self.time_ns() / _SECOND_NS

    def monotonic(self) -> float:
        """Return seconds that never go back, for measuring how long something took."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        time.sleep(seconds)

    def outlast_tick(self, *, is_long: bool) -> None:
        """Wait until files that change get another stamp than now; `is_long`: in whole seconds."""
        time.sleep(_LONG_TICK if is_long else _TICK)

    def begin(self, act: Callable[[], _Result]) -> Errand[_Result]:
        """Let a thread do something that may take longer than we want to wait."""
        return Errand(act)

    def is_compared(self) -> bool:
        """Tell whether we know the server's clock: ours was compared with it, and not set since.

        A machine that slept looks as if its clock was set: then it is compared once more.
        """
        start_ns = self._start_ns
        return start_ns is not None and abs(self._own_start() - start_ns) <= _SECOND_NS

    def _own_start(self) -> int:
        """Return what our own clock showed when the monotonic one began, if nobody set it."""
        return self.own_ns() - int(self.monotonic() * _SECOND_NS)

    def compare(self, stamp: Callable[[], int]) -> None:
        """Learn the server's offset; `stamp` returns how the server stamps what is done now."""
        start_ns = self._own_start()  # so a step while we compare is noticed later
        before_ns = self.own_ns()
        self.synchronise(before_ns, stamp(), self.own_ns())
        self._start_ns = start_ns

    def synchronise(self, before_ns: int, stamped_ns: int, after_ns: int) -> None:
        """Learn the server's offset from a stamp made between two readings of our own clock.

        An offset that the reading can't tell from zero is zero: processes on one node
        must not disagree by the length of a system call.
        """
        grain = _TICK_NS if stamped_ns % _SECOND_NS else _SECOND_NS
        if before_ns - grain <= stamped_ns <= after_ns:
            self.offset_ns = 0
        else:
            self.offset_ns = stamped_ns - (before_ns + after_ns) // 2


class ClockUnknown(OSError):
    """Nobody can say when a lease ends that is made now, or whether one is over."""


class Stopwatch:
    """How long something took, even if our clock was set or this machine slept meanwhile.

    The monotonic clock stands still while a machine sleeps, and the time of day can be set.
    So it is the greater of both: what may have happened in that time is not ruled out.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._began_ns = clock.time_ns()

    def seconds(self) -> float:
        """Return the seconds since this was made, or more."""
        shown = (self._clock.time_ns() - self._began_ns) / _SECOND_NS
        return max(self._clock.monotonic() - self._began, shown)


def date(seconds: float) -> str:
    """Return a point in time, in seconds since 1970, as people here write it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def seconds_of(text: str) -> float:
    """Return a point in time in ISO 8601 as seconds since 1970; ValueError: it is none.

    It is local time unless it names its zone.
    """
    from datetime import datetime  # only this needs it

    return datetime.fromisoformat(text).timestamp()
