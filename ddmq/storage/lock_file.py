"""Lock files, opened and locked safely, with their holder's name; the only user of filelock.

Anybody who may write to a directory can put a link, a FIFO or a lie in place of its lock file.
So we follow no link, wait for no FIFO, and tell no user to type what the file contains.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import filelock

from ddmq.clock import date
from ddmq.printable import printable, quoted
from ddmq.schedulers import environment, job_id
from ddmq.storage.directories import GONE
from ddmq.untrusted import moment, parsed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ddmq.clock import Clock

_FLAGS = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: How often we open a lock file that others replace or remove meanwhile.
_TRIES = 4
#: Bytes of a lock file that we read, characters of a text in it, and the highest process id.
_MAX_FILE, _MAX_TEXT, _MAX_PID = 4096, 80, 1 << 31
#: How a lock file of ours begins, unless it is empty.
_SIGNED = b'{"host"'
#: filelock 4 makes the directories above the path that it is given, and follows links on the
#: way. Above this path there are none to be made, and nobody opens it.
_NO_PATH = "/a-descriptor-of-ddmq"


class Holder(NamedTuple):
    """A process that holds a lock, or held it last."""

    host: str
    pid: int
    job: str
    """The scheduler's id, empty outside of a job."""
    since: float
    """Seconds since 1970, by the clock of its host."""

    def encode(self) -> bytes:
        """Return what it writes into the lock file: one line of JSON."""
        return json.dumps(self._asdict()).encode() + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> Holder | None:
        """Read a lock file; None when it names nobody. Unknown fields are ignored."""
        try:
            found = parsed(data)
            texts = [printable(str(found[key])[:_MAX_TEXT]) for key in ("host", "job")]
            pid, since = found["pid"], moment(found["since"])
        except (ValueError, TypeError, KeyError):
            return None
        if type(pid) is not int or not 0 < pid < _MAX_PID or since is None:
            return None
        return cls(texts[0], pid, texts[1], since)

    def __str__(self) -> str:
        """Describe the holder in words."""
        job = f", job {self.job}" if self.job else ""
        since = "?" if moment(self.since) is None else date(self.since)
        return f"process {self.pid} on host {self.host}{job}, since {since}"


def ourselves(clock: Clock) -> Holder:
    """Return this process as the holder of a lock that it got now."""
    job = job_id(environment())
    return Holder(os.uname().nodename, os.getpid(), job, clock.own_ns() / 1e9)


def holder_of(path: str) -> Holder | None:
    """Return who signed a lock file last; None when we can read no name there."""
    try:
        with _directory_of(path) as directory:
            descriptor = _open(path, os.O_RDONLY | _FLAGS, directory)
    except OSError:
        return None
    try:
        return Holder.parse(os.read(descriptor, _MAX_FILE))
    except OSError:
        return None
    finally:
        os.close(descriptor)


def blame(path: str, holder: Holder | None, host: str, waited: float) -> str:
    """Say who keeps us on `host` from getting a lock, and what to do about it.

    The name in the file may be that of a holder that was killed. It may also be a lie, since any
    client that can take the lock can write there. So no command that we suggest quotes it.
    """
    remedy = "try again later, or wait longer with --lock-timeout (lock_timeout in ddmq.yaml)"
    find = f"`fuser -v {quoted(path)}`"
    if holder is None:
        return (
            f"{path}: another client holds this lock since over {waited:g} seconds, and left "
            f"no name; {remedy}; {find} on each node finds it"
        )
    end = (
        f"if it hangs, {find} on its node shows whether it is this one, to be ended; "
        "if its node is dead, remove this file"
    )
    if holder.host != host:
        who = f"its last known holder is {holder}"
    elif is_running(holder.pid):
        who = f"by what is written there, it is held by {holder}"
    else:
        who = f"its last known holder, {holder}, has ended"
        end = f"{find} on each node finds who holds it now"
    return f"{path}: the lock could not be had within {waited:g} seconds; {who}; {remedy}; {end}"


def is_running(pid: int) -> bool:
    """Tell whether this host has a process with this id."""
    if pid <= 0:  # these name groups of processes
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it belongs to somebody else
        return True
    return True


def lock_at(path: str) -> int:
    """Open and lock the lock file at `path`; return its descriptor.

    Raises BlockingIOError when others hold the lock. While we locked the file, somebody may
    have removed or replaced it. A lock on such a file keeps nobody out: so afterwards its name
    must still lead to it, through directories that we open once more.
    """
    for _ in range(_TRIES):
        try:
            descriptor = _opened(path)
        except FileExistsError:  # somebody made it just after we missed it
            continue
        try:
            _lock(path, descriptor)
            if _is_at(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise BlockingIOError(errno.EAGAIN, "it is replaced again and again", path)


def _opened(path: str) -> int:
    """Open a lock file, or make one for all users who may write to its directory."""
    with _directory_of(path) as directory:
        try:
            return _open(path, os.O_RDWR | _FLAGS, directory)
        except FileNotFoundError:
            mode = stat.S_IMODE(os.fstat(directory).st_mode) & 0o666
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS
        descriptor = _open(path, flags, directory, mode)
    with suppress(
        OSError
    ):  # if the umask took a mode bit, others will ask for permission
        os.fchmod(descriptor, mode)
    return descriptor


def _lock(path: str, descriptor: int) -> None:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not an ordinary file", path)
    if (
        found.st_nlink > 1
    ):  # our name would be written into the file with the other name
        raise OSError(
            errno.EMLINK, "it has another name (a hard link): remove it", path
        )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except PermissionError as error:  # some file systems mean: others hold it
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), path) from error
    except OSError as error:
        error.filename = path
        raise


def _is_at(path: str, descriptor: int) -> bool:
    """Tell whether a path leads to an open file, and to no link or file in its directory's place.

    Any other error says nothing about the file, and the next try may not meet it.
    """
    try:
        with _directory_of(path) as directory:
            name = os.path.basename(path)
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        return os.path.samestat(found, os.fstat(descriptor))
    except OSError as error:
        if error.errno not in (*GONE, errno.ENOTDIR, errno.ELOOP):
            raise
        return False


@contextmanager
def _directory_of(path: str) -> Iterator[int]:
    """Open the directory of a lock, relative to the one above it: neither may be a link.

    An NFS client remembers names that were missing; opening the directory makes it ask again.
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


class HeldFile(filelock.BaseFileLock):
    """The lock on a file that we opened ourselves.

    filelock's own locks open their path. Version 3 follows a link there, empties its target
    and changes the target's mode. This lock opens nothing: it locks the descriptor that it is
    given, and closes it at the end. In a forked child, filelock 4 closes it too: so the child
    does not keep the lock.
    """

    def __init__(self, lock_file: str = _NO_PATH, *, descriptor: int) -> None:
        # Not bound to a thread: housekeeping may release the lock in another one.
        super().__init__(lock_file, timeout=0, thread_local=False)
        self._descriptor = descriptor

    def _acquire(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # filelock looks whether we have it
            return
        self._context.lock_file_fd = self._descriptor

    def _release(self) -> None:
        self._context.lock_file_fd = None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        finally:
            os.close(self._descriptor)


def hold(descriptor: int) -> filelock.BaseFileLock:
    """Return a lock on an open file that nobody else has locked; `release` closes the file."""
    lock = HeldFile(_NO_PATH, descriptor=descriptor)
    lock.acquire()
    return lock


def sign(descriptor: int, data: bytes) -> None:
    """Write the holder's name, or nothing, into the lock file that we hold.

    If that fails, on a full disk say, the lock is held all the same. A file with other content
    is locked, but left as it is: somebody may have moved a file of his here.
    """
    with suppress(OSError):
        if _SIGNED.startswith(os.pread(descriptor, len(_SIGNED), 0)):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, data, 0)
            os.close(os.dup(descriptor))  # at a close, NFS clients write to the server
