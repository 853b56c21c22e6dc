"""Mutual exclusion for administration and housekeeping: no message ever waits for it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
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

    if not _has_locks(path):
        warn(
            f"{path}: this file system has no locks; let one node administer at a time"
        )
        yield
        return
    lock = filelock.FileLock(path, timeout=timeout, mode=_mode(path))
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise LockTimeout(
            f"{path}: another client holds this lock since over {timeout:g} seconds; try "
            "again later, or set lock_timeout higher"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _has_locks(path: str) -> bool:
    """Tell whether files can be locked here: filelock's answer depends on its version.

    Raises unless `path` is an ordinary file or missing: filelock would empty a link's target.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, _mode(path))
    try:
        _prepare(descriptor, path)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # somebody else holds it
        return True
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    finally:
        os.close(descriptor)
    return True


def _prepare(descriptor: int, path: str) -> None:
    """Let all lock it who may write to its directory, whatever the umask says."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "not an ordinary file", path)
    with suppress(PermissionError):  # not ours: whoever made it has done so
        os.fchmod(descriptor, _mode(path))


def _mode(path: str) -> int:
    """Return the mode of a lock file: who may write to its directory may lock it."""
    return stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) & 0o666
