"""What is left of the file system, and of our quota."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from typing import NamedTuple

_SECONDS = 5
_MOST_LINES = 4


class Space(NamedTuple):
    """What we may still write."""

    bytes: int
    inodes: int | None
    """None where the file system does not count them."""


def free(path: str) -> Space:
    """Ask the file system."""
    found = os.statvfs(path)
    inodes = found.f_favail if found.f_files else None
    return Space(found.f_bavail * found.f_frsize, inodes)


#: Programs that tell a user's quota, by type of file system; `{}` is the directory.
_QUOTA = {
    "lustre": ("lfs", "quota", "-h", "{}"),
    "gpfs": ("mmlsquota", "--block-size", "auto"),
    "beegfs": ("beegfs-ctl", "--getquota", "--uid", str(os.getuid())),
}
_QUOTA_ELSEWHERE = ("quota", "-s", "-w")
#: CephFS tells the quota of a directory itself.
_ATTRIBUTES = ("ceph.quota.max_bytes", "ceph.quota.max_files")


def quota(path: str, kind: str) -> str:
    """Return our quota, in the words of the program that tells it; empty when none does."""
    told = []
    for name in _ATTRIBUTES:
        with suppress(OSError, UnicodeDecodeError):  # it has none
            if value := os.getxattr(path, name).decode():
                told.append(f"{name} {value}")
    if told:
        return "; ".join(told)
    words = _QUOTA.get(kind, _QUOTA_ELSEWHERE)
    command = [word.replace("{}", path) for word in words]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):  # no such program, or no answer
        return ""
    if done.returncode:
        return ""
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    if all("none" in line for line in lines):  # no quota at all
        return ""
    return "; ".join(" ".join(line.split()) for line in lines[:_MOST_LINES])
