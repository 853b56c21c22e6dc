"""One process and its outcome: this module knows no queue."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from ddmq.hpc.running.guardian import descendants, kill_marked, living

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

#: The kernel's limit for one argument or variable, in bytes: 128 KiB with a NUL at its end.
MAX_ARGUMENT = (128 << 10) - 1
#: The descriptor on which a command that stays answers.
REPLY = 3
#: Said where nobody knows whether a command did its work.
_UNKNOWN = "it ended, and something else in this program has got its exit status"
#: Python ignores some, and whoever started this process may have ignored others.
_RESTORED = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


def encoded(text: str) -> bytes:
    """Return the bytes of an argument or a variable: in UTF-8 where the locale has none for it."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:  # a text of a message in the locale C, or Latin-1
        return text.encode("utf-8", "surrogateescape")


class Outcome(NamedTuple):
    """How a command ended."""

    status: int
    """Its exit status, or minus the number of the signal that ended it."""
    cpu_seconds: float = 0.0
    """Of the command and of all its children that it waited for."""
    peak_kib: int = 0
    """The largest resident memory of any of them."""
    answer: str = ""
    """What a command that stays said: `ack`, `nack`, `release`, `reject`; empty: it ended."""
    why: str = ""
    """What it said besides."""

    @property
    def succeeded(self) -> bool:
        """Whether it exited with 0, or said that it did its work."""
        return self.status == 0 and self.answer in ("", "ack")

    @property
    def code(self) -> int:
        """The exit status as shells have it: 128 + n for signal n; -1 where it answered."""
        if self.answer:
            return -1
        return self.status if self.status >= 0 else 128 - self.status

    @property
    def exit(self) -> int | None:
        """The exit status, None when a signal ended it, or it answered."""
        return self.status if self.status >= 0 and not self.answer else None

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended it, None when it exited or answered."""
        if self.status >= 0 or self.answer:
            return None
        try:
            return signal.Signals(-self.status).name
        except ValueError:
            return str(-self.status)

    def __str__(self) -> str:
        """Say it in words."""
        if self.answer:
            return self.why or f"it answered {self.answer}"
        return (
            f"exit status {self.exit}"
            if self.signal is None
            else f"killed by {self.signal}"
        )


class Process:
    """A command that was started: in a process group of its own, without a shell.

    All that it starts bears its `mark` (`NAME=value`), which is in its environment. What cleared
    its environment is known from when the command was asked to end.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        reply: int | None = None,
        cores: Collection[int] | None = None,
        mark: str = "",
    ) -> None:
        """Start it. OSError: the command can't be run; ValueError: an argument holds NUL.

        Of standard input, output and error, what is None is empty or the worker's own. `reply`
        becomes its descriptor 3. It runs on `cores` from its first instruction on; None: on those
        of the worker.
        """
        ends = {0: stdin, 1: stdout, 2: stderr, REPLY: reply}
        actions = [
            (os.POSIX_SPAWN_DUP2, fd, n) for n, fd in ends.items() if fd is not None
        ]
        if stdin is None:
            empty = os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0
            actions.append(empty)  # type: ignore[arg-type]
        with _handing_on(cores):
            self.pid = os.posix_spawnp(
                os.fsdecode(encoded(arguments[0])),  # an error names it
                [encoded(text) for text in arguments],
                {encoded(name): encoded(text) for name, text in environ.items()},
                file_actions=actions,
                setpgroup=0,
                setsigdef=_RESTORED,
                setsigmask=(),
            )
        self._mark = mark
        self._was_asked = False
        self._below: dict[int, bytes] = {}
        self._outcome: Outcome | None = None

    def outcome(self) -> Outcome | None:
        """Return how it ended, None while it runs."""
        if self._outcome is None:
            self._reap(os.WNOHANG)
            self._end_rest()
        return self._outcome

    def _end_rest(self) -> None:
        """If it was asked to end, and has, kill all that it started: its message may run elsewhere.

        In no other case are all processes of this node looked at.
        """
        if self._outcome is not None and self._was_asked:
            self.kill()

    def wait(self) -> Outcome:
        """Wait until it has ended; return how."""
        while self._outcome is None:
            self._reap(0)
        return self._outcome

    def _reap(self, options: int) -> None:
        try:
            pid, status, used = os.wait4(self.pid, options)
        except ChildProcessError:  # another thread of the program waits for any child
            self._outcome = Outcome(0, answer="nack", why=_UNKNOWN)
            return
        if pid:
            code = os.waitstatus_to_exitcode(status)
            cpu = used.ru_utime + used.ru_stime
            self._outcome = Outcome(code, cpu, used.ru_maxrss)

    def send(self, number: int) -> None:
        """Ask it to end: send a signal to its process group, as far as that is still ours."""
        self._was_asked = True
        if self.outcome() is not None:  # its number may be somebody else's by now
            return
        self._below = descendants(self.pid)  # their parents may end first
        self._send(number)

    def kill(self) -> None:
        """Kill it and everything that it started, in whatever process group or session.

        What hangs in the kernel, or runs under sudo, lives on.
        """
        if self._outcome is not None:  # another process may have its number
            kill_marked(self._mark, *living(self._below))
            return
        kill_marked(self._mark, self.pid, *living(self._below))
        self._send(signal.SIGKILL)  # where there is no /proc

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):  # gone, or under sudo
            os.killpg(self.pid, number)


def share_of_cores(slot: int, slots: int) -> list[int]:
    """Return which of our cores one of `slots` slots has, counted from 1.

    They are neighbours, and no slot has two more than another. Where there are more slots than
    cores, each has one core, which several share.
    """
    ours = sorted(os.sched_getaffinity(0))
    if slots > len(ours):
        return [ours[(slot - 1) % len(ours)]]
    first, end = ((slot - 1 + i) * len(ours) // slots for i in (0, 1))
    return ours[first:end]


@contextmanager
def _handing_on(cores: Collection[int] | None) -> Iterator[None]:
    """Let this thread, and no other one, run on some cores only, as what it starts does.

    `posix_spawn` has no word for it.
    """
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        try:
            os.sched_setaffinity(0, before)
        except (
            OSError
        ):  # the administrator took some of them away; the process runs already
            with suppress(OSError):
                os.sched_setaffinity(0, range(os.cpu_count() or 1))
