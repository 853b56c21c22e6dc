"""What a bug report needs to tell of ddmq, of this node, and of who runs it."""

from __future__ import annotations

import grp
import os
import pwd
from typing import TYPE_CHECKING

from ddmq import schedulers
from ddmq.diagnose.check import mounts
from ddmq.diagnose.versions import versions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def all_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the versions, the system, file systems, the scheduler, and the user's rights."""
    system = os.uname()
    told = {
        **versions(),
        "system": _distribution(),
        "kernel": f"{system.sysname} {system.release} {system.machine}",
        "directory": _place("."),
    }
    root = environ.get("DDMQ_ROOT")
    if root:
        told["DDMQ_ROOT"] = _place(root)
    scheduler = schedulers.detect(environ)
    told["scheduler"] = "none: not in a job"
    if scheduler is not None:
        told["scheduler"] = f"{scheduler.name}, job {schedulers.job_id(environ)}"
    umask = os.umask(0)  # there is no other way to read it
    os.umask(umask)
    told["umask"] = f"{umask:04o}"
    told["user"] = _named(os.geteuid(), lambda number: pwd.getpwuid(number).pw_name)
    groups = dict.fromkeys([os.getegid(), *os.getgroups()])
    told["groups"] = ", ".join(
        _named(each, lambda number: grp.getgrgid(number).gr_name) for each in groups
    )
    return told


def _distribution() -> str:
    """Return what the operating system calls itself."""
    try:
        with open("/etc/os-release", encoding="utf-8", errors="replace") as file:
            pairs = dict(line.rstrip().partition("=")[::2] for line in file)
    except OSError:
        return "unknown"
    return pairs.get("PRETTY_NAME", "unknown").strip("\"'")


def _place(named: str) -> str:
    """Return a directory, and what is mounted there; or why it can't be told."""
    try:
        os.stat(named)
        path = os.path.realpath(named)
    except OSError as error:
        return f"{named}: {error.strerror}"
    mount = mounts.mount_of(path, mounts.read())
    if mount is None:
        return f"{path}: on an unknown file system"
    return f"{path}: on {mount.kind} ({','.join(mount.options)})"


def _named(number: int, name_of: Callable[[int], str]) -> str:
    """Return the number of a user or a group with its name, where it has one."""
    try:
        return f"{number} ({name_of(number)})"
    except KeyError:
        return str(number)
