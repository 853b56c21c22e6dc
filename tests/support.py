"""What several tests need: a clock that can be turned, and system calls that can fail."""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any

from ddmq.clock import Clock
from ddmq.storage.background import BackgroundCall
from ddmq.storage.filesystem import FileSystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The system calls that a `FileSystem` makes.
SYSTEM_CALLS = frozenset(
    [
        "open",
        "close",
        "read",
        "write",
        "fsync",
        "fchmod",
        "fstat",
        "lstat",
        "listdir",
        "rename",
        "unlink",
        "mknod",
        "symlink",
        "readlink",
        "mkdir",
        "rmdir",
        "chmod",
        "utime",
        "getxattr",
    ]
)


class FakeClock(Clock):
    """A clock that stands still until somebody sleeps or advances it."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        super().__init__()
        self.now_ns = int(now * 1e9)
        self.set_by_ns = 0  # by somebody who sets the time of this node

    def own_ns(self) -> int:
        return self.now_ns + self.set_by_ns

    def monotonic(self) -> float:
        return self.now_ns / 1e9

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)

    def begin(self, act: Callable[[], Any]) -> BackgroundCall[Any]:
        """Do it at once: while this clock stands still, nobody waits too long."""
        return BackgroundCall(act, in_thread=False)

    def synchronise(self, before_ns: int, stamped_ns: int, after_ns: int) -> None:
        """Real files bear the real time, which has nothing to do with this clock."""


@contextmanager
def in_time(seconds: int) -> Iterator[None]:
    """Nobody hangs: whoever waits for what never comes is told after so long."""

    def too_long(*_: Any) -> None:
        raise AssertionError("waited for something that never comes")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def ready(descriptor: int, event: int, seconds: float | None = None) -> bool:
    """Wait until one can read (`select.POLLIN`) or write (`select.POLLOUT`), or time is up."""
    poll = select.poll()  # `select.select` takes no descriptor above 1,023
    poll.register(descriptor, event)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


def open_files() -> list[str]:
    """Return the descriptors of this process, once what others left behind is closed."""
    gc.collect()
    return os.listdir("/proc/self/fd")


class Crash(BaseException):
    """The process died here: nothing may catch it."""


def path_of(descriptor: int) -> str:
    """Return the path of an open directory."""
    return os.readlink(f"/proc/self/fd/{descriptor}")


def in_full(
    name: str,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    path_of: Callable[[int], str] = path_of,
) -> tuple[Any, ...]:
    """Return arguments of a system call with paths in place of names in an open directory."""
    shown = list(arguments)
    directories = [options.get("dir_fd")]
    if name == "rename":
        directories = [options.get("src_dir_fd"), options.get("dst_dir_fd")]
    for place, descriptor in enumerate(directories, 1 if name == "symlink" else 0):
        if descriptor is not None:
            shown[place] = f"{path_of(descriptor)}/{shown[place]}"
    if name == "listdir" and isinstance(shown[0], int):
        shown[0] = path_of(shown[0])
    return tuple(shown)


class Calls:
    """The functions of `os`, each passing through `call(number, name, function, arguments)`.

    `number` counts the system calls from 0. Nothing is synced: no test cuts the power. `module`
    stands in for `os`.
    """

    def __init__(
        self,
        call: Callable[[int, str, Callable[..., Any], tuple[Any, ...]], Any],
        module: Any = os,
    ) -> None:
        self.call = call
        self.module = module
        self.made: list[str] = []
        self._directories: dict[int, str] = {}

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.module, name)
        if name not in SYSTEM_CALLS:
            return function

        def wrapped(*arguments: Any, **options: Any) -> Any:
            if name == "close" and self._directories.pop(arguments[0], None):
                return function(*arguments)  # by whoever looks last, sooner or later
            self.made.append(name)
            real = _no_fsync if name == "fsync" and self.module is os else function
            shown = in_full(name, arguments, options, self._path_of)

            def act(*given: Any) -> Any:
                kept = zip(given, shown, arguments)
                return real(*(own if g == s else g for g, s, own in kept), **options)

            result = self.call(len(self.made) - 1, name, act, shown)
            if name == "open" and arguments[1] & os.O_DIRECTORY:
                self._directories[result] = shown[0]
            return result

        return wrapped

    def _path_of(self, directory: int) -> str:
        """Return the path of an open directory, by which it was opened if we did so."""
        return self._directories.get(directory) or path_of(directory)


def _no_fsync(_: int) -> None:
    """Take the time of no disk."""


def _answer(code: int, name: str, arguments: tuple[Any, ...]) -> OSError:
    """Return the error that `os` raises: it names a path, but no descriptor.

    Those of `mknod` do not even name the path.
    """
    named = [a for a in arguments[:1] if isinstance(a, str) and name != "mknod"]
    return OSError(code, os.strerror(code), *named)


def counting() -> Calls:
    """Return system calls that only count."""
    return Calls(lambda _, __, function, arguments: function(*arguments))


def crashing_before(n: int) -> Calls:
    """Return system calls of which the n-th, from 0, is never made: the process died.

    As the kernel does for the dead, files are closed all the same.
    """

    def call(
        number: int, name: str, function: Callable[..., Any], arguments: Any
    ) -> Any:
        if number >= n:
            if name == "close":
                function(*arguments)
            raise Crash(n)
        return function(*arguments)

    return Calls(call)


def losing_reply(
    n: int,
    names: tuple[str, ...] = ("rename", "unlink"),
    code: int = errno.ENOENT,
    more: int = 0,
) -> Calls:
    """Return system calls of which the n-th among `names` is done but answers `code`.

    The next `more` calls fail with `code`, too: the server went away after it had done the first.
    """
    seen, failing = [0], [0]

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if failing[0] > 0:
            failing[0] -= 1
            if name == "close":
                function(*arguments)
            raise _answer(code, name, arguments)
        seen[0] += name in names
        is_it = name in names and seen[0] - 1 == n
        result = function(*arguments)
        if is_it:
            failing[0] = more
            if name == "open":
                os.close(result)  # a kernel that says no gives nobody a descriptor
            raise _answer(code, name, arguments)
        return result

    return Calls(call)


def remembering_missing(path: str) -> Calls:
    """Return system calls of an NFS client that looked for `path` before it was made.

    It believes that it is missing until it opens the directory in which it is.
    """
    remembered = [path]

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if name == "open" and arguments[0] == os.path.dirname(path):
            remembered.clear()
        asks_the_server = name in ("mkdir", "mknod")
        for known in remembered:
            for named in filter(lambda a: isinstance(a, str), arguments):
                is_it = named == known and not asks_the_server
                if is_it or named.startswith(f"{known}/"):
                    raise _answer(errno.ENOENT, name, (known,))
        return function(*arguments)

    return Calls(call)


def failing(n: int, code: int, *, twice: bool = False) -> Calls:
    """Return system calls of which the n-th fails with `code` and is not done.

    If `twice`, so does the next one of its name.
    """
    again: list[str] = []

    def call(
        number: int, name: str, function: Callable[..., Any], arguments: Any
    ) -> Any:
        if number == n:
            again.extend([name] * twice)
        elif name in again:
            again.remove(name)
        else:
            return function(*arguments)
        if name == "close":  # it fails, but the descriptor is gone all the same
            function(*arguments)
        raise _answer(code, name, arguments)

    return Calls(call)


def failing_from(
    n: int, code: int, among: tuple[str, ...] = (), times: float = inf
) -> Calls:
    """Return system calls of which the n-th and all later ones fail with `code`.

    Where `among` is set, only calls of those names fail. They fail `times` times.
    """
    seen = [0]

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if among and name not in among:
            return function(*arguments)
        seen[0] += 1
        if n < seen[0] <= n + times:
            if name == "close":
                function(*arguments)
            raise _answer(code, name, arguments)
        return function(*arguments)

    return Calls(call)


def interrupted(n: int, competitor: Callable[[], Any], among: str = "") -> Calls:
    """Return system calls before the n-th of which, from 0, a competitor does something.

    Where `among` is set, only calls of that name count.
    """
    seen, waiting = [0], [competitor]

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if among in ("", name):
            seen[0] += 1
            if seen[0] - 1 == n:
                waiting.pop()()  # so nothing that it refers to is kept open by these calls
        return function(*arguments)

    return Calls(call)


def writing_short(n: int, then: int = 0) -> Calls:
    """Return system calls of which the n-th `write`, from 0, writes only half.

    Where `then` is set, the one after it fails with that code.
    """
    seen = [0]

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if name != "write":
            return function(*arguments)
        seen[0] += 1
        if then and seen[0] - 2 == n:
            raise _answer(then, name, arguments)
        if seen[0] - 1 == n:
            descriptor, data = arguments
            return function(descriptor, data[: len(data) // 2])
        return function(*arguments)

    return Calls(call)


def remove_empty(buckets: Any) -> None:
    """Remove what is empty of the ready queue's directories, as housekeeping does."""
    for path in buckets.removable():
        FileSystem().rmdir(path)
