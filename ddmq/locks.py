"""Mutual exclusion for administration and housekeeping: no message ever waits for it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from ddmq.clock import Clock
from ddmq.errors import LockTimeout
from ddmq.log import warn
from ddmq.patience import WHY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ddmq.holder import Holder
    from ddmq.patience import Errand

#: What a file system answers that has no locks.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
#: A planted link is not followed, and a planted FIFO not waited for.
_FLAGS = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_HOLDER = 4096
#: How a holder's name begins. A file that begins otherwise is no lock file of ours.
_SIGNED = b'{"host"'
#: How often a lock file is opened again that somebody replaces or removes meanwhile.
_TRIES = 4
#: Seconds between two tries: the first, and the longest.
_TRY_FIRST, _TRY_LONGEST = 0.02, 0.5
#: Seconds that opening a lock file, and reading whom it names, may take at least.
_OPEN, _READ = 1.0, 0.3


@contextmanager
def exclusive(path: str, timeout: float) -> Iterator[None]:
    """Hold the lock at `path`; LockTimeout when others hold it for `timeout` seconds.

    So it is too when the file server does not let us open it, a second at least, since it
    waits for a client that died with the file open. The lock file names its holder while it
    is held; a crash leaves the name, which the next holder replaces. A file system without
    locks (Lustre without `-o flock`) is used without: only two administrators at once could
    notice, and no message is at stake.
    """
    from ddmq.lockfile import hold  # slow to import, and never on the path of a message

    clock = Clock()
    descriptor = _acquired(path, timeout, clock)
    if descriptor is None:
        warn(
            f"{path}: this file system has no locks; let one node administer at a time"
        )
        yield
        return
    lock = hold(descriptor)
    try:
        _sign(descriptor, _ourselves(clock).encode())
        yield
    finally:
        _sign(descriptor, b"")
        lock.release()


def _acquired(path: str, timeout: float, clock: Clock) -> int | None:
    """Return a descriptor of the lock file once it is ours; None where there are no locks.

    A thread opens it, as that may hang. Where we wait no more, it gives back what it gets.
    """
    deadline, pause = clock.monotonic() + timeout, _TRY_FIRST
    while True:
        left = deadline - clock.monotonic()
        trial = clock.begin(partial(_locked, path))
        if not trial.ends_within(max(left, _OPEN)):
            trial.leave(partial(_close_what_it_got, trial))
            raise LockTimeout(_held_up(path, max(timeout, _OPEN), clock))
        try:
            return trial.result()
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno in NO_LOCKS:
                return None
            raise
        left = deadline - clock.monotonic()
        if left <= 0:
            raise LockTimeout(_who(path, timeout))
        clock.sleep(min(pause, left))
        pause = min(pause * 2, _TRY_LONGEST)


def _close_what_it_got(trial: Errand[int], error: BaseException | None) -> None:
    if error is None:
        os.close(trial.result())


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


def _locked(path: str) -> int:
    """Return a descriptor of the lock file that has the lock.

    Raises BlockingIOError when others have it. A file that was removed or replaced while
    we locked it keeps nobody out: its name must still lead to it afterwards, by directories
    that are opened once more.
    """
    for _ in range(_TRIES):
        try:
            descriptor = _opened(path)
        except FileExistsError:  # it was made just after we missed it
            continue
        try:
            _refuse_planted(descriptor, path)
            _flock(descriptor, path)
            if _is_at(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise BlockingIOError(errno.EAGAIN, "it is replaced again and again", path)


def _opened(path: str) -> int:
    """Open a lock file, or make it so that all may lock it who may write to its directory."""
    with _directory_of(path) as directory:
        try:
            return _open(path, os.O_RDWR | _FLAGS, directory)
        except FileNotFoundError:
            mode = stat.S_IMODE(os.fstat(directory).st_mode) & 0o666
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS
        descriptor = _open(path, flags, directory, mode)
    with suppress(OSError):  # the umask had its say; others then ask us for permission
        os.fchmod(descriptor, mode)
    return descriptor


@contextmanager
def _directory_of(path: str) -> Iterator[int]:
    """Open the directory of a lock afresh, relative to the one above: neither may be a link.

    Opening it also drops what an NFS client remembers of names that were missing.
    """
    directory = os.path.dirname(path)
    above = _open(os.path.dirname(directory), _DIRECTORY | os.O_PATH)
    try:
        descriptor = _open(directory, _DIRECTORY, above)
    finally:
        os.close(above)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(path: str, flags: int, within: int | None = None, mode: int = 0) -> int:
    """Open a path, or its last name within a directory; errors name the path."""
    name = path if within is None else os.path.basename(path)
    try:
        return os.open(name, flags, mode, dir_fd=within)
    except OSError as error:
        error.filename = path
        raise


def _refuse_planted(descriptor: int, path: str) -> None:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not an ordinary file", path)
    if found.st_nlink > 1:  # we would write our name into the file behind the other one
        raise OSError(
            errno.EMLINK, "it has another name (a hard link): remove it", path
        )


def _flock(descriptor: int, path: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except PermissionError as error:  # so some file systems say that others have it
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), path) from error
    except OSError as error:
        error.filename = path
        raise


def _is_at(path: str, descriptor: int) -> bool:
    """Tell whether a path leads to an open file; what is wrong with it, the next try says."""
    try:
        with _directory_of(path) as directory:
            name = os.path.basename(path)
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        return os.path.samestat(found, os.fstat(descriptor))
    except OSError:
        return False


def _ourselves(clock: Clock) -> Holder:
    from ddmq.holder import Holder  # only administrators need these
    from ddmq.scheduler import environment, job_id

    job = job_id(environment())
    return Holder(os.uname().nodename, os.getpid(), job, clock.own_ns() / 1e9)


def _sign(descriptor: int, data: bytes) -> None:
    """Write our name into the lock file that we hold, in place; a full disk stops nobody.

    A file with another content is locked as well, but left as it is: it may be somebody's
    that was moved here.
    """
    with suppress(OSError):
        if _SIGNED.startswith(os.pread(descriptor, len(_SIGNED), 0)):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, data, 0)
            os.close(os.dup(descriptor))  # at a close, NFS clients write to the server


def holder_of(path: str) -> Holder | None:
    """Return who signed a lock file last; None: nobody whom we can read."""
    from ddmq.holder import Holder  # rarely needed

    try:
        with _directory_of(path) as directory:
            descriptor = _open(path, os.O_RDONLY | _FLAGS, directory)
    except OSError:
        return None
    try:
        return Holder.parse(os.read(descriptor, _MAX_HOLDER))
    except OSError:
        return None
    finally:
        os.close(descriptor)
