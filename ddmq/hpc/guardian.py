"""No command outlives its worker, not even a worker that is killed with SIGKILL.

Everything that a worker starts bears a mark in its environment, which its children inherit
wherever they go: into other process groups, sessions or the background. A small shell, the
guardian, waits for the end of the worker and then kills whatever bears the mark. It is in a
session of its own: PBS kills a job by sending SIGKILL to all processes of the job's session.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

_PROC = "/proc"
_SHELL = "/bin/sh"
_ENVIRON = {"PATH": "/usr/bin:/bin"}
_ROUNDS = 50
_SCRIPT = """
trap '' TERM INT HUP QUIT USR1 USR2
read -r word
[ "$word" = done ] && exit
for round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    found=
    for environ in /proc/[0-9]*/environ; do
        grep -qzxF "$1" "$environ" 2>/dev/null || continue
        process=${environ#/proc/}
        kill -9 "${process%/environ}" 2>/dev/null && found=1
    done
    [ -n "$found" ] || exit
    sleep 0.1
done
"""


class Guardian:
    """Kills what bears `mark` (`NAME=value`) when this process is gone."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self._arguments = ["sh", "-c", _SCRIPT, "guardian", mark]
        self._read, self._write = os.pipe2(os.O_CLOEXEC)
        self.pid = self._started()

    def _started(self) -> int:
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        ends = (self._read, 0), (null, 1), (null, 2)
        try:
            return os.posix_spawn(
                _SHELL,
                self._arguments,
                _ENVIRON,
                file_actions=[(os.POSIX_SPAWN_DUP2, *end) for end in ends],
                setsid=True,
            )
        except NotImplementedError:  # the C library of this Python's makers couldn't
            return self._forked(ends)
        finally:
            os.close(null)

    def _forked(self, ends: Iterable[tuple[int, int]]) -> int:
        """Start the guardian without `posix_spawn`; return when it has its session."""
        started, starting = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                for end in ends:  # which may be one
                    os.set_inheritable(os.dup2(*end), True)  # noqa: FBT003 - positional only
                os.execve(_SHELL, self._arguments, _ENVIRON)
            finally:
                os._exit(127)
        os.close(starting)
        os.read(started, 1)  # its end: the child has become the shell
        os.close(started)
        return pid

    def __enter__(self) -> Guardian:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.dismiss()

    def dismiss(self) -> None:
        """Kill what bears the mark, and let the guardian go."""
        kill_marked(self.mark)
        with suppress(BrokenPipeError):
            os.write(self._write, b"done\n")
        os.close(self._write)
        os.close(self._read)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def kill_marked(mark: str) -> None:
    """Kill every process of ours whose environment holds `mark`, until there is none."""
    for _ in range(_ROUNDS):
        found = [pid for pid in _processes() if _bears(pid, mark.encode())]
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir(_PROC) if name.isdigit()]
    except OSError:  # not Linux, or no descriptor is left: process groups must do
        return []


def _bears(pid: int, mark: bytes) -> bool:
    try:
        with open(f"{_PROC}/{pid}/environ", "rb") as environ:
            return mark in environ.read().split(b"\0")
    except OSError:  # gone, or somebody else's
        return False
