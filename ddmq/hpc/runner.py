"""One message, one process, one Outcome; knows no queue."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: The kernel's limit for one argument or variable, in bytes: 128 KiB with a NUL at its end.
MAX_ARGUMENT = (128 << 10) - 1
#: Python ignores these, and whoever it starts would do so, too.
_RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)


class Outcome(NamedTuple):
    """How a command ended."""

    status: int
    """Its exit status, or minus the number of the signal that ended it."""
    cpu_seconds: float = 0.0
    """Of the command and of all its children that it waited for."""
    peak_kib: int = 0
    """The largest resident memory of any of them."""

    @property
    def succeeded(self) -> bool:
        """Whether it exited with 0."""
        return self.status == 0

    @property
    def code(self) -> int:
        """The exit status as shells have it: 128 + n for signal n."""
        return self.status if self.status >= 0 else 128 - self.status

    @property
    def exit(self) -> int | None:
        """The exit status, None when a signal ended it."""
        return self.status if self.status >= 0 else None

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended it, None when it exited."""
        if self.status >= 0:
            return None
        try:
            return signal.Signals(-self.status).name
        except ValueError:
            return str(-self.status)

    def __str__(self) -> str:
        """Say it in words."""
        return (
            f"exit status {self.exit}"
            if self.signal is None
            else f"killed by {self.signal}"
        )


class Process:
    """A command that was started: in a process group of its own, without a shell."""

    def __init__(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> None:
        """Start it. OSError: the command can't be run; ValueError: an argument holds NUL.

        Of standard input, output and error, what is None is empty or the worker's own.
        """
        ends = {0: stdin, 1: stdout, 2: stderr}
        actions = [
            (os.POSIX_SPAWN_DUP2, fd, n) for n, fd in ends.items() if fd is not None
        ]
        if stdin is None:
            actions.append((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0))  # type: ignore[arg-type]
        self.pid = os.posix_spawnp(
            arguments[0],
            list(arguments),
            environ,
            file_actions=actions,
            setpgroup=0,
            setsigdef=_RESTORED,
        )
        self._outcome: Outcome | None = None

    def outcome(self) -> Outcome | None:
        """Return how it ended, None while it runs."""
        if self._outcome is None:
            self._reap(os.WNOHANG)
        return self._outcome

    def wait(self) -> Outcome:
        """Wait until it has ended; return how."""
        while self._outcome is None:
            self._reap(0)
        return self._outcome

    def _reap(self, options: int) -> None:
        pid, status, used = os.wait4(self.pid, options)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            cpu = used.ru_utime + used.ru_stime
            self._outcome = Outcome(code, cpu, used.ru_maxrss)

    def send(self, number: int) -> None:
        """Send a signal to its process group, as far as that is still ours."""
        with suppress(ProcessLookupError, PermissionError):  # gone, or under sudo
            os.killpg(self.pid, number)
