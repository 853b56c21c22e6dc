"""Mutual exclusion for administration and housekeeping: no message ever waits for it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ddmq.errors import LockTimeout
from ddmq.log import warn

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def exclusive(path: str, timeout: float) -> Iterator[None]:
    """Hold the lock at `path`; LockTimeout when others hold it for `timeout` seconds.

    A file system without locks (Lustre without `-o flock`) is used without: only two
    administrators at once could notice, and no message is at stake.
    """
    import filelock  # slow to import, and never on the path of a message

    _refuse_link(path)
    lock = filelock.FileLock(path, timeout=timeout, mode=_mode(path))
    try:
        lock.acquire()
    except (filelock.Timeout, NotImplementedError) as error:
        if _can_lock(path):
            raise LockTimeout(
                f"{path}: another client holds this lock since over {timeout:g} seconds; "
                "try again later, or set lock_timeout higher"
            ) from error
        warn(
            f"{path}: this file system has no locks; let one node administer at a time"
        )
    try:
        yield
    finally:
        lock.release()


def _can_lock(path: str) -> bool:
    """Tell whether a lock could not be had because others hold it: filelock does not."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _NO_LOCKS
    finally:
        os.close(descriptor)
    return True


def _refuse_link(path: str) -> None:
    """Raise unless `path` is an ordinary file or missing: filelock would empty its target."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _mode(path: str) -> int:
    """Return the mode of a lock file: who may write to its directory may lock it."""
    return stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) & 0o666
