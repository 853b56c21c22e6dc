"""No command outlives its worker, not even a worker that is killed with SIGKILL.

Everything that a worker starts bears a mark in its environment, which its children inherit
wherever they go: into other process groups, sessions or the background. A small shell, the
guardian, waits for the end of the worker and then kills whatever bears the mark. Then it removes
the files of the worker in which commands say how far they are. It is in a session of its own: PBS kills a job by sending SIGKILL to all processes of the job's session.

A container may get an environment without the mark. So who bears it takes with it all below it:
its children and theirs, its process group and its session.

A scheduler hands the environment on to a job that a command submits, which may run on this node.
That job bears the mark and is none of ours: its id is another one.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from ddmq import schedulers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    #: What several processes have in common, and its number.
    _Kin = tuple[str, int]

_PROC = "/proc"
_SHELL = "/bin/sh"
#: A worker that is a command of another worker has a guardian too, which must live on.
_GUARDIAN = "DDMQ_GUARDIAN=1"
_ENVIRON = {"PATH": "/usr/bin:/bin", "DDMQ_GUARDIAN": "1"}
_ROUNDS = 50
#: What is found is stopped before any of it is killed: it leaves no orphans that nobody finds.
_SCRIPT = """
trap '' TERM INT HUP QUIT USR1 USR2
read -r word
[ "$word" = done ] && exit
for round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    found=
    level=
    for marked in $(grep -lzxF "$1" /proc/[0-9]*/environ 2>/dev/null); do
        grep -zE "$3" "$marked" 2>/dev/null | grep -qzvxF "$4" && continue
        level="$level $marked"
    done
    while [ -n "$level" ]; do
        below=
        for process in $level; do
            process=${process#/proc/}
            process=${process%/environ}
            grep -qzxF "$2" "/proc/$process/environ" 2>/dev/null && continue
            kill -STOP "$process" 2>/dev/null || continue
            found="$found $process"
            below="$below $(cat /proc/$process/task/*/children 2>/dev/null)"
        done
        level=$below
    done
    for process in $found; do
        kill -9 -- "-$process" 2>/dev/null
        kill -9 "$process" 2>/dev/null
    done
    [ -n "$found" ] || break
    sleep 0.1
done
[ -z "$5" ] || rm -f -- "$5"*
"""


class Guardian:
    """Kills what bears `mark` (`NAME=value`) when this process has ended.

    It removes the files then whose paths begin with `files`, unless that is empty.
    """

    def __init__(self, mark: str, files: str = "") -> None:
        self.mark = mark
        jobs = f"^({'|'.join(schedulers.signs_of_jobs())})="
        ours = "\n".join(_signs_of_our_job())
        given = [mark, _GUARDIAN, jobs, ours, files]
        self._arguments = ["sh", "-c", _SCRIPT, "guardian", *given]
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

    def __exit__(self, *raised: object) -> None:
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


def kill_marked(mark: str, *known: int) -> None:
    """Kill every process of ours whose environment holds `mark`, and all below it.

    The processes in `known` are taken for marked, too: they may have cleared their environment.
    """
    kin: set[_Kin] = {(kind, pid) for kind in ("process", "group") for pid in known}
    spared: set[int] = set()
    killed: set[int] = set()
    for _ in range(_ROUNDS):
        stopped: set[int] = set()
        # What is stopped starts nothing that would be an orphan without a mark an instant later.
        while new := _found(mark.encode(), kin, spared) - stopped - killed:
            got = {pid for pid in new if _send(pid, signal.SIGSTOP)}
            stopped |= got
            spared |= new - got  # under sudo, or gone
        for pid in stopped:
            _send(pid, signal.SIGKILL)
        killed |= stopped
        if not stopped and not any(map(_kin_of, killed)):
            return


def _found(mark: bytes, kin: set[_Kin], spared: set[int]) -> set[int]:
    """Return the living processes with the mark, and those that are akin to them or to `kin`.

    To `kin` are added the process groups and sessions of all these, but not our own.
    """
    processes = _processes()
    new = [pid for pid in processes if _is_ours(pid, mark)]
    if not new and not kin:
        return set()
    members: dict[_Kin, list[int]] = {}
    kin_of: dict[int, list[_Kin]] = {}
    for pid in processes:
        kin_of[pid] = _kin_of(pid)
        for each in kin_of[pid]:
            members.setdefault(each, []).append(pid)
    # Those with the number 0 are the kernel's, or outside of our container.
    not_followed = {("group", os.getpgrp()), ("session", os.getsid(0))}
    not_followed |= {("group", 0), ("session", 0)}
    found: set[int] = set()
    for each in kin:
        new += members.get(each, ())
    while new:
        pid = new.pop()
        if pid in found or pid in spared or _GUARDIAN.encode() in _environ(pid):
            continue
        found.add(pid)
        theirs = set(kin_of[pid][2:]) - not_followed
        kin |= theirs
        for each in (("parent", pid), *theirs):
            new += members.get(each, ())
    return found


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir(_PROC) if name.isdigit()]
    except OSError:  # not Linux, or no descriptor is left: process groups must do
        return []


def descendants(pid: int) -> dict[int, bytes]:
    """Return the processes below one, and when each began: its number may be used again."""
    found: dict[int, bytes] = {}
    new = [pid]
    while new:
        tasks = f"{_PROC}/{new.pop()}/task"
        with suppress(OSError):  # it ends, or this is not Linux
            for task in os.listdir(tasks):
                with open(f"{tasks}/{task}/children", "rb") as children:
                    below = set(map(int, children.read().split())) - found.keys()
                found.update((child, _began(child)) for child in below)
                new += below
    return found


def living(known: Mapping[int, bytes]) -> list[int]:
    """Return those of `descendants` that still live."""
    return [pid for pid, began in known.items() if began and _began(pid) == began]


def _kin_of(pid: int) -> list[_Kin]:
    """Return itself, the parent, the process group and the session of a process that lives."""
    status = _status(pid)
    if not status:
        return []
    parent, group, session = map(int, status[1:4])
    return [
        ("process", pid),
        ("parent", parent),
        ("group", group),
        ("session", session),
    ]


def _began(pid: int) -> bytes:
    """Return when a process began that lives, in clock ticks; nothing for others."""
    return b"".join(_status(pid)[19:20])


def _status(pid: int) -> list[bytes]:
    """Return what the kernel says of a process, from its state on; nothing where it is dead."""
    try:
        with open(f"{_PROC}/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:  # gone
        return []
    return [] if fields[:1] in ([b"Z"], [b"X"]) else fields


def _is_ours(pid: int, mark: bytes) -> bool:
    """Tell whether a process bears the mark, and is in no other job."""
    environ = _environ(pid)
    if mark not in environ:
        return False
    signs = tuple(f"{name}=".encode() for name in schedulers.signs_of_jobs())
    ours = {os.fsencode(sign) for sign in _signs_of_our_job()}
    return all(x in ours for x in environ if x.startswith(signs))


def _environ(pid: int) -> list[bytes]:
    try:
        with open(f"{_PROC}/{pid}/environ", "rb") as environ:
            return environ.read().split(b"\0")
    except OSError:  # gone, or somebody else's
        return []


def _signs_of_our_job() -> list[str]:
    environ, names = schedulers.environment(), schedulers.signs_of_jobs()
    return [f"{name}={environ[name]}" for name in names if name in environ]


def _send(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
