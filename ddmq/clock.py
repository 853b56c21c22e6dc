"""The file server's clock; the only module that reads the time or sleeps."""

from __future__ import annotations

import time
from math import ceil
from typing import TYPE_CHECKING, TypeVar

from ddmq.storage.background import BackgroundCall

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")
#: How far a file system's stamps may be behind its clock: one tick of the kernel's timer.
_TICK_NS = 20_000_000
#: The same in seconds; and for a file system that stamps in whole seconds.
_TICK, _LONG_TICK = 0.02, 1.05
_SECOND_NS = 1_000_000_000


class Clock:
    """The file server's clock, so that all nodes agree on when a lease expires.

    A process touches a file, and compares the server's stamp with its own clock (`compare`).
    On a local disk both are one clock, and the offset is zero.
    """

    own_ns = staticmethod(time.time_ns)
    """This node's own clock, in nanoseconds since 1970."""
    monotonic = staticmethod(time.monotonic)
    """Seconds that never go back, for measuring how long something took."""

    def __init__(self) -> None:
        self.offset_ns = 0
        self._start_ns: int | None = None

    def time_ns(self) -> int:
        """Return the file server's time, in nanoseconds since 1970."""
        return self.own_ns() + self.offset_ns

    def time(self) -> float:
        """Return the file server's time, in seconds since 1970."""
        return self.time_ns() / _SECOND_NS

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        time.sleep(seconds)

    def outlast_tick(self, *, is_long: bool) -> None:
        """Wait until a change gets a new stamp; `is_long` where stamps are whole seconds."""
        time.sleep(_LONG_TICK if is_long else _TICK)

    def begin(self, act: Callable[[], _Result]) -> BackgroundCall[_Result]:
        """Let a thread make a call that may take longer than we want to wait."""
        return BackgroundCall(act)

    def compared_ns(self) -> int | None:
        """Return the file server's time if we know it, in nanoseconds since 1970; else None.

        We know it if our clock was compared with the server's, and nobody has set ours since. A
        machine that slept looks as if its clock was set: then it is compared once more.
        """
        start_ns, own_ns = self._start_ns, self.own_ns()
        if start_ns is None:
            return None
        drift_ns = own_ns - start_ns - self.monotonic() * _SECOND_NS
        return own_ns + self.offset_ns if abs(drift_ns) <= _SECOND_NS else None

    def compared_ms(self, seconds: float = 0) -> int | None:
        """Return the same in `seconds` from now, in milliseconds, rounded up."""
        now_ns = self.compared_ns()
        if now_ns is None:
            return None
        return (now_ns + 999_999) // 1_000_000 + ceil(
            seconds * 1000
        )  # `in_ms`, made short

    def compare(self, stamp: Callable[[], int]) -> None:
        """Learn the server's offset; `stamp` lets the server stamp a file and returns the stamp."""
        # What our own clock showed when the monotonic one started, if nobody set it. First, so that
        # we notice later if it is set meanwhile.
        start_ns = self.own_ns() - int(self.monotonic() * _SECOND_NS)
        before_ns = self.own_ns()
        self.synchronise(before_ns, stamp(), self.own_ns())
        self._start_ns = start_ns

    def synchronise(self, before_ns: int, stamped_ns: int, after_ns: int) -> None:
        """Learn the server's offset from a stamp made between two readings of our own clock.

        An offset that may be zero, as far as the readings tell, is zero: processes on one
        node must not disagree by the length of a system call.
        """
        grain = _TICK_NS if stamped_ns % _SECOND_NS else _SECOND_NS
        if before_ns - grain <= stamped_ns <= after_ns:
            self.offset_ns = 0
        else:
            self.offset_ns = stamped_ns - (before_ns + after_ns) // 2


def in_ms(now_ns: int, seconds: float = 0) -> int:
    """Return the time `seconds` after `now_ns`, in milliseconds since 1970, rounded up."""
    return (now_ns + 999_999) // 1_000_000 + ceil(seconds * 1000)


class ClockUnknown(OSError):
    """The server's clock is unknown: we can't tell when a lease ends, or whether it has."""


class Stopwatch:
    """Measures how long something took, or a longer time, but never a shorter one.

    The monotonic clock stands still while a machine sleeps, and somebody may set the time of
    day. So it returns the greater of both differences.
    """

    def __init__(self, clock: Clock, began: tuple[float, int] | None = None) -> None:
        # Or when the monotonic clock and the server's showed `began`.
        self._clock = clock
        self._began, self._began_ns = began or (clock.monotonic(), clock.time_ns())

    def seconds(self) -> float:
        """Return the seconds since this was made, or more."""
        shown = (self._clock.time_ns() - self._began_ns) / _SECOND_NS
        return max(self._clock.monotonic() - self._began, shown)


def date(seconds: float) -> str:
    """Return the local date and time of a point in time in seconds since 1970."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def span(seconds: float) -> str:
    """Return a length of time in the unit that people would use: 90 s, 7 minutes, 3 days."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s"


def seconds_of(text: str) -> float:
    """Return a date in ISO 8601 as seconds since 1970; ValueError for another text.

    A date without a time zone is local time.
    """
    from datetime import datetime  # only this needs it

    return datetime.fromisoformat(text).timestamp()
