"""How far a command is, as it says itself: a line in `$DDMQ_PROGRESS`.

That is a file of one slot on a local disk, beside the outputs. On another node, or in a container
without that directory, it is missing, and nothing else is in its place.

A worker that is killed can't remove its files. Its guardian does, and the next worker of the same
user removes those of workers whose guardian was killed as well. A worker holds a lock on each of
its files. The kernel releases the lock when the process ends, so that no number of a process, which
may be used again, is needed to know which files are in use.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress

from ddmq.storage.names import new_token
from ddmq.storage.workers import MOST_TEXT

#: Bytes of the file's end in which the last line is looked for, and bytes that it may have.
_END, _MOST = 4096, 1 << 16
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: The directory may be open to all: what has such a name may be a link, or a FIFO by now.
_OLD = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_PREFIX = "ddmq-progress-"


def beginning(spool: str, worker: str) -> str:
    """Return what the paths of all files of a worker in a directory begin with."""
    return os.path.abspath(f"{spool}/{_PREFIX}{worker}")


def remove_leftovers(spool: str) -> None:
    """Remove the files of our user in a directory whose worker has ended."""
    with suppress(OSError):
        for name in os.listdir(spool):
            if name.startswith(_PREFIX):
                with suppress(OSError):  # another worker was faster, or it is in use
                    _remove_unused(f"{spool}/{name}")


def _remove_unused(path: str) -> None:
    """Remove a file of ours that no process has locked; OSError: one has, or it can't be known."""
    before = os.lstat(path)
    if not stat.S_ISREG(before.st_mode) or before.st_uid != os.geteuid():
        return
    descriptor = os.open(path, _OLD)
    try:
        if os.path.samestat(before, os.fstat(descriptor)):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
    finally:
        os.close(descriptor)


class SlotProgress:
    """What the commands of one slot say, one after the other."""

    def __init__(self, spool: str, worker: str = "") -> None:
        """Make the file in a directory; OSError: there is no room for it."""
        self.path = f"{beginning(spool, worker)}{new_token()}"
        """Where commands write."""
        self.descriptor = os.open(self.path, _NEW, 0o600)
        """Its number, which others may need more."""
        with suppress(
            OSError
        ):  # where nothing can be locked, no other worker removes it
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        if not os.fstat(self.descriptor).st_nlink:  # another one did so, just before
            os.close(self.descriptor)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)

    def forget(self) -> None:
        """Forget what was said."""
        with suppress(OSError):  # then it says what it says
            os.ftruncate(self.descriptor, 0)

    def said(self) -> str:
        """Return the last line that says something; empty: there is none, or it can't be read."""
        try:
            size = os.fstat(self.descriptor).st_size
            data = os.pread(self.descriptor, _END, max(size - _END, 0))
        except OSError:  # that is no reason to end what runs
            return ""
        if size > _MOST:  # it goes on in less
            self.forget()
        lines = data.decode(errors="replace").splitlines()
        told = [line.strip("\0 \t") for line in lines if line.strip("\0 \t")]
        return told[-1][:MOST_TEXT] if told else ""

    def close(self) -> None:
        """Remove it."""
        with suppress(OSError):
            os.unlink(self.path)
        os.close(self.descriptor)
