"""A lock on a descriptor that we opened ourselves; the only importer of filelock."""

from __future__ import annotations

import fcntl
import os

import filelock

#: filelock 4 makes the directories of the path that it is told, through links too. This one
#: has none to be made; nothing opens it.
_NO_PATH = "/a-descriptor-of-ddmq"


class HeldFile(filelock.BaseFileLock):
    """The lock on a file that is open.

    filelock's own locks open their path: version 3 follows a link there, empties its target
    and changes the target's mode. This one only locks what it is given, and closes it at the
    end. In a process that was forked, filelock 4 closes it too, so that no child keeps the lock.
    """

    def __init__(self, lock_file: str = _NO_PATH, *, descriptor: int) -> None:
        # Usable in all threads: housekeeping may give it back in another one.
        super().__init__(lock_file, timeout=0, thread_local=False)
        self._descriptor = descriptor

    def _acquire(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # filelock asks whether we have it
            return
        self._context.lock_file_fd = self._descriptor

    def _release(self) -> None:
        self._context.lock_file_fd = None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        finally:
            os.close(self._descriptor)


def hold(descriptor: int) -> filelock.BaseFileLock:
    """Lock an open file, which nobody else has locked; `release` closes it."""
    lock = HeldFile(_NO_PATH, descriptor=descriptor)
    lock.acquire()
    return lock
