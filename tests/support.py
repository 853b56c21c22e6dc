"""What several tests need: a clock that can be turned, and system calls that can fail."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from ddmq.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

#: The system calls that a `FileSystem` makes.
SYSTEM_CALLS = frozenset(
    "open close read write fsync fchmod fstat lstat listdir rename unlink mkdir rmdir chmod".split()
)


class FakeClock(Clock):
    """A clock that stands still until somebody sleeps or advances it."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        super().__init__()
        self.now_ns = int(now * 1e9)

    def own_ns(self) -> int:
        return self.now_ns

    def monotonic(self) -> float:
        return self.now_ns / 1e9

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)

    def synchronise(self, before_ns: int, stamped_ns: int, after_ns: int) -> None:
        """Real files bear the real time, which has nothing to do with this clock."""


class Crash(BaseException):
    """The process died here: nothing may catch it."""


class Calls:
    """The functions of `os`, each passing through `call(number, name, function, arguments)`.

    `number` counts the system calls from 0.
    """

    def __init__(
        self, call: Callable[[int, str, Callable[..., Any], tuple[Any, ...]], Any]
    ) -> None:
        self.call = call
        self.made: list[str] = []

    def __getattr__(self, name: str) -> Any:
        function = getattr(os, name)
        if name not in SYSTEM_CALLS:
            return function

        def wrapped(*arguments: Any) -> Any:
            self.made.append(name)
            return self.call(len(self.made) - 1, name, function, arguments)

        return wrapped


def counting() -> Calls:
    """Return system calls that only count."""
    return Calls(lambda _, __, function, arguments: function(*arguments))


def crashing_before(n: int) -> Calls:
    """Return system calls of which the n-th, from 0, is never made: the process died."""

    def call(number: int, _: str, function: Callable[..., Any], arguments: Any) -> Any:
        if number >= n:
            raise Crash(n)
        return function(*arguments)

    return Calls(call)


def losing_reply(n: int, names: tuple[str, ...] = ("rename", "unlink")) -> Calls:
    """Return system calls of which the n-th among `names` is done but answers ENOENT."""
    seen = [0]

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        result = function(*arguments)
        if name in names:
            seen[0] += 1
            if seen[0] - 1 == n:
                raise FileNotFoundError(errno.ENOENT, "reply lost", arguments[0])
        return result

    return Calls(call)


def failing(n: int, code: int) -> Calls:
    """Return system calls of which the n-th fails with `code` and is not done."""

    def call(number: int, _: str, function: Callable[..., Any], arguments: Any) -> Any:
        if number == n:
            raise OSError(code, os.strerror(code), arguments[0])
        return function(*arguments)

    return Calls(call)
