"""Mutual exclusion for administration and housekeeping: no message ever waits for it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ddmq.clock import Clock
from ddmq.errors import LockTimeout
from ddmq.log import warn
from ddmq.patience import WHY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ddmq.holder import Holder

#: What a file system answers that has no locks.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
#: A planted link is not followed, and a planted FIFO not waited for.
_FLAGS = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_HOLDER = 4096
#: Seconds between two tries: the first, and the longest.
_TRY_FIRST, _TRY_LONGEST = 0.02, 0.5
#: Seconds that opening a lock file, and reading whom it names, may take at least.
_OPEN, _READ = 1.0, 0.3


@contextmanager
def exclusive(path: str, timeout: float) -> Iterator[None]:
    """Hold the lock at `path`; LockTimeout when others hold it for `timeout` seconds.

    So it is too when the file server does not let us open it, a second at least, since it
    waits for a client that died with the file open. The lock file names its holder while it is held; a crash leaves the name, which the next
    holder replaces. A file system without locks (Lustre without `-o flock`) is used without:
    only two administrators at once could notice, and no message is at stake.
    """
    clock = Clock()
    lock = _acquired(path, timeout, clock)
    if lock is None:
        warn(
            f"{path}: this file system has no locks; let one node administer at a time"
        )
        yield
        return
    try:
        _sign(path, _ourselves(clock).encode())
        yield
    finally:
        _sign(path, b"")
        lock.release()


def _acquired(path: str, timeout: float, clock: Clock) -> Any:
    """Return the lock once it is ours; None where there are no locks.

    filelock empties the file before it knows whether it gets the lock, and with it the
    holder's name: so it only tries when the lock is free.
    """
    import filelock  # slow to import, and never on the path of a message

    lock = filelock.FileLock(path, timeout=0, mode=_mode(path))
    deadline, pause = clock.monotonic() + timeout, _TRY_FIRST
    while True:
        left = deadline - clock.monotonic()
        trial = clock.begin(partial(_is_free, path))
        if not trial.ends_within(max(left, _OPEN)):
            raise LockTimeout(_held_up(path, max(timeout, _OPEN), clock))
        free = trial.result()
        if free is None:
            return None
        if free and _try(lock, filelock.Timeout):
            return lock
        left = deadline - clock.monotonic()
        if left <= 0:
            raise LockTimeout(_who(path, timeout))
        clock.sleep(min(pause, left))
        pause = min(pause * 2, _TRY_LONGEST)


def _who(path: str, waited: float) -> str:
    from ddmq.holder import told  # rarely needed

    return told(path, holder_of(path), os.uname().nodename, waited)


def _held_up(path: str, waited: float, clock: Clock) -> str:
    """Say why a lock file can't be opened; reading it may hang as well."""
    reading = clock.begin(partial(holder_of, path))
    holder = reading.result() if reading.ends_within(_READ) else None
    named = f"; the lock file names {holder}" if holder is not None else ""
    return (
        f"{path}: this lock file could not be opened within {waited:g} seconds{named}; {WHY}; "
        "try again later, or wait longer with --lock-timeout (lock_timeout in ddmq.yaml)"
    )


def _try(lock: Any, refusal: type[Exception]) -> bool:
    try:
        lock.acquire()
    except refusal:  # somebody else was faster
        return False
    return True


def _is_free(path: str) -> bool | None:
    """Tell whether nobody holds the lock; None: files can't be locked here.

    Raises unless `path` is an ordinary file or missing: filelock would empty a link's target.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, _mode(path))
    try:
        _prepare(descriptor, path)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # somebody else holds it
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    finally:
        os.close(descriptor)
    return True


def _prepare(descriptor: int, path: str) -> None:
    """Let all lock it who may write to its directory, whatever the umask says."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not an ordinary file", path)
    if found.st_nlink > 1:  # filelock would empty the file behind the other name
        raise OSError(
            errno.EMLINK, "it has another name (a hard link): remove it", path
        )
    with suppress(PermissionError):  # not ours: whoever made it has done so
        os.fchmod(descriptor, _mode(path))


def _mode(path: str) -> int:
    """Return the mode of a lock file: who may write to its directory may lock it."""
    return stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) & 0o666


def _ourselves(clock: Clock) -> Holder:
    from ddmq.holder import Holder  # only administrators need these
    from ddmq.scheduler import environment, job_id

    job = job_id(environment())
    return Holder(os.uname().nodename, os.getpid(), job, clock.own_ns() / 1e9)


def _sign(path: str, data: bytes) -> None:
    """Write our name into the lock file that we hold, in place; a full disk stops nobody."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | _FLAGS)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, data)
        finally:
            os.close(descriptor)


def holder_of(path: str) -> Holder | None:
    """Return who signed a lock file last; None: nobody whom we can read."""
    from ddmq.holder import Holder  # rarely needed

    try:
        descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    except OSError:
        return None
    try:
        return Holder.parse(os.read(descriptor, _MAX_HOLDER))
    except OSError:
        return None
    finally:
        os.close(descriptor)
