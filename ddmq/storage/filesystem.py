"""System calls, made so that their answers can be trusted on network file systems.

Paths are text, and each method takes one or two. Below a root, files are used by name in
directories that are held open (`ddmq.storage.directories`). What each answer means on NFS and
GlusterFS was measured. Nothing here knows what a message is. Errors are `OSError`s that name the
path; the broker explains them to users.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq.storage.directories import GONE, NO_DESCRIPTOR, Directories

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddmq.storage.directories import Directory, Nothing

#: Errors for a user who may only read.
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
#: Errors that say that nothing was done, unless a call was sent twice. (After EIO or EINTR, the
#: call may have been made.)
REFUSED = (*FORBIDDEN, errno.ENOSPC, errno.EDQUOT, errno.EBUSY)
#: Errors of a rename that say that we may not move this file, or out of this directory.
IMMOVABLE = (*FORBIDDEN, errno.EBUSY, errno.EXDEV)
#: Errors for a file that is no ordinary file, or that we may not read.
UNREADABLE = (
    errno.EACCES,
    errno.EPERM,
    errno.ELOOP,
    errno.EISDIR,
    errno.ENXIO,
    errno.EAGAIN,  # a FIFO that somebody holds open
)
#: Errors of file systems on which only root, or nobody, may make special files or links.
_NO_SPECIAL = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
#: The mode of a new file, which the umask narrows.
_MODE = 0o666
_EMPTY = stat.S_IFREG | _MODE
_UNSYNCABLE = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EISDIR)
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS
#: O_NONBLOCK, so that no reader or writer waits for a FIFO that somebody planted.
_FILL = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | _FLAGS
_OWN = _FILL | os.O_CREAT
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | _FLAGS
_CHUNK = 1 << 16
_LARGE = 1 << 20
#: Tries, each with whether it is the last, where ESTALE proves nothing.
_STALE_TRIES = (False, False, False, True)
_MOUNTS = "/proc/self/mountinfo"
#: File systems, besides those on disks, that show a directory's new stamp when it is opened.
_PROMPT = ("nfs", "nfs4", "tmpfs", "overlay", "zfs")
#: The attribute that no file has.
_NO_ATTRIBUTE = "user.ddmq"
_ELECTIONS = 8
#: How often we empty a directory to which others still add.
_MOST_ROUNDS = 100
#: Errors of an unlink of a directory.
_IS_DIRECTORY = (errno.EISDIR, errno.EPERM)
#: How far ahead a modification time may be before it is ignored.
_AHEAD_NS = 3600 * 10**9


class Status(NamedTuple):
    """The status of a file: type and mode, size in bytes, times in ns, and number of names."""

    mode: int
    size: int
    modified_ns: int
    changed_ns: int
    names: int = 1

    @classmethod
    def of(cls, found: os.stat_result) -> Status:
        """Return the part that we need of what the system says."""
        times = found.st_mtime_ns, found.st_ctime_ns
        return cls(found.st_mode, found.st_size, *times, found.st_nlink)

    def age(self, now_ns: int) -> float:
        """Return for how many seconds it has not changed, by the later of its two times.

        While a client makes a file with O_EXCL, an NFS server keeps other data in the place of
        its modification time. Other clients then see any time at all, decades ago or ahead. The
        owner may set the modification time, too. Nobody can set the change time.
        """
        is_ahead = self.modified_ns - now_ns > _AHEAD_NS
        modified_ns = 0 if is_ahead else self.modified_ns
        return (now_ns - max(modified_ns, self.changed_ns)) / 1e9

    @property
    def is_file(self) -> bool:
        """Whether this is an ordinary file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_directory(self) -> bool:
        """Whether this is a directory, and no symbolic link to one."""
        return stat.S_ISDIR(self.mode)


class Stamp(NamedTuple):
    """A value that changes whenever a directory changes, or another one takes its name."""

    device: int
    inode: int
    modified_ns: int
    changed_ns: int

    @property
    def is_whole(self) -> bool:
        """Whether both times are whole seconds, as on a file system that knows no fractions."""
        return not (self.modified_ns % 10**9 or self.changed_ns % 10**9)


def is_shared(mode: int) -> bool:
    """Tell whether a group shares a directory: it may write, and new files get that group."""
    shared = stat.S_ISGID | stat.S_IWGRP
    return mode & shared == shared


class CountedCalls:
    """System calls that are counted, by their names in `os`."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        function, numbers = getattr(os, name), self.numbers

        def counted(*arguments: Any, **named: Any) -> Any:
            numbers[name] = numbers.get(name, 0) + 1
            return function(*arguments, **named)

        setattr(self, name, counted)
        return counted


class _Closing:
    """Closes a file at the end; errors get its path, as `os` does for calls with a path."""

    __slots__ = ("_close", "_descriptor", "_path")

    def __init__(
        self, close: Callable[[int], None], descriptor: int, path: str
    ) -> None:
        self._close = close
        self._descriptor = descriptor
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, *raised: object) -> None:
        _, error, _ = raised
        try:
            self._close(self._descriptor)
        except OSError as failed:
            failed.filename = self._path
            raise
        if isinstance(error, OSError):
            error.filename = self._path


class FileSystem:
    """The file system as seen by one process.

    `calls` is the module whose functions are the system calls. With another one, a test can
    count them, make the n-th fail, or lose a reply.
    """

    def __init__(self, calls: Any = os, *, root: str | None = None) -> None:
        self.directories = Directories(calls)
        self._held = self.directories.held
        self._asks_when_opening: bool | None = None
        """Whether the server is asked when a file is opened; None: we do not know yet."""
        if root is not None:
            self.hold_below(root)

    @property
    def calls(self) -> Any:
        """The system calls that are made."""
        return self.directories.calls

    @calls.setter
    def calls(self, calls: Any) -> None:
        self.directories.calls = calls

    def hold_below(self, root: str) -> None:
        """Hold the directories below a root open, and use the files in them by name."""
        self.directories.hold_below(root)

    def let_go(self) -> None:
        """Hold no directory any more; the next call opens them again."""
        self.directories.let_go()

    # System calls by name

    def _call(self, name: str, path: str, *arguments: Any, **options: Any) -> Any:
        """Make a system call for a path, and a second time if its directory was replaced.

        An `OSError` names the path.
        """
        directories = self.directories
        held: Directory | Nothing | None = None
        try:
            held, own_name = directories.above(path)
            call = getattr(directories.calls, name)
            return call(own_name, *arguments, dir_fd=held.descriptor, **options)
        except OSError as error:
            error.filename = path
            makes = name in ("mkdir", "mknod")
            makes = makes or (name == "open" and bool(arguments[0] & os.O_CREAT))
            if held is None or not directories.may_succeed_now(
                error, held, makes=makes
            ):
                raise
        del held  # if it was let go of, it is closed before others get its number
        return directories.call(name, path, *arguments, **options)

    def _open(self, path: str, flags: int, mode: int = _MODE) -> int:
        """Open a file. This is `_call` with fewer steps, since it is done for each message."""
        directory, _, name = path.rpartition("/")
        held = self._held.get(directory)
        if held is None:
            return int(self._call("open", path, flags, mode))
        directories = self.directories
        try:
            calls = directories.calls
            descriptor: int = calls.open(name, flags, mode, dir_fd=held.descriptor)
        except OSError as error:
            error.filename, makes = path, bool(flags & os.O_CREAT)
            if not directories.may_succeed_now(error, held, makes=makes):
                raise
        else:
            return descriptor
        del held  # as in `_call`
        return int(directories.call("open", path, flags, mode))

    def _unlink(self, path: str) -> None:
        """Remove a file. This is `_call` with fewer steps, since it is done for each message."""
        directory, _, name = path.rpartition("/")
        held = self._held.get(directory)
        if held is None:
            self._call("unlink", path)
            return
        directories = self.directories
        try:
            directories.calls.unlink(name, dir_fd=held.descriptor)
        except OSError as error:
            error.filename = path
            if not directories.may_succeed_now(error, held, makes=False):
                raise
        else:
            return
        del held  # as in `_call`
        directories.call("unlink", path)

    def _lstat(self, path: str) -> os.stat_result:
        """Return the status of a path, following no link; what is missing is not retried."""
        try:
            found: os.stat_result = self.directories.call("lstat", path)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            found = self._call("lstat", path)
        return found

    def _move(self, source: str, target: str) -> None:
        """Rename a file or directory; let go of what we hold of it, and below it.

        After ENOENT or ESTALE, the target's directory is opened afresh. If it was replaced, the
        rename is tried once more. An error that names that directory says that it is gone.
        """
        directories, held = self.directories, self._held
        for is_last in (False, True):
            new: Directory | Nothing | None = None
            try:
                directory, _, name = source.rpartition("/")
                old: Directory | Nothing | None = held.get(directory)
                if old is None:
                    old, name = directories.above(source)
                directory, _, other = target.rpartition("/")
                new = held.get(directory)
                if new is None:
                    new, other = directories.above(target)
                directories.calls.rename(
                    name, other, src_dir_fd=old.descriptor, dst_dir_fd=new.descriptor
                )
                break
            except OSError as error:
                error.filename, error.filename2 = source, target
                if is_last or error.errno not in GONE:
                    raise
                if not directories.may_be_there(error, new):
                    raise
        if source in held:
            directories.forget(source)

    # Names that move and go

    def rename(self, source: str, target: str) -> bool:
        """Move `source` to `target`; False when `source` is gone.

        An NFS client may send a rename twice; the second answer is ENOENT though the rename was
        made. So we look for the target before we believe ENOENT. ESTALE proves nothing: while a
        listing shows `source`, it is tried again. FileNotFoundError: the target's directory is
        missing.
        """
        for is_last in _STALE_TRIES:
            try:
                self._move(source, target)
            except OSError as error:
                if error.errno not in GONE:
                    raise
                if error.filename == os.path.dirname(target):
                    raise _missing(error.filename) from error
                if self._is_at(target):
                    return True
                if error.errno == errno.ENOENT or not self._is_listed(source):
                    return False
                if is_last:
                    raise
            else:
                return True
        raise AssertionError(source)

    def take(self, source: str, target: str) -> bool | None:
        """Move `source` to a `target` that only we use; False: a competitor was faster.

        None: nobody knows, since ESTALE alone proves nothing.
        """
        try:
            self._move(source, target)
        except OSError as error:
            if error.errno not in GONE:
                raise
            if error.filename == os.path.dirname(target):
                return False if error.errno == errno.ENOENT else None
            try:
                self._lstat(target)
            except OSError as again:
                return False if again.errno == errno.ENOENT else None
        return True

    def replace(self, source: str, target: str) -> None:
        """Move `source`, which nobody else moves, to a `target` that may exist.

        If a reply says that `source` is gone, our rename was made.
        """
        try:
            self._move(source, target)
        except OSError as error:
            if error.errno not in GONE or self.exists(source):
                raise

    def unlink(self, path: str) -> bool:
        """Remove a file; False when it was gone already."""
        try:
            self._unlink(path)
        except OSError as error:
            if error.errno not in GONE:
                raise
            return False
        return True

    def exists(self, path: str) -> bool:
        """Tell whether `path` exists on the server now.

        Its directory is opened first, so that an NFS client forgets which names it has cached
        as missing. FileNotFoundError: the directory itself is missing. If the answer for
        `path` is ESTALE even then, a listing decides.
        """
        self._revalidate(os.path.dirname(path))
        return self._is_at(path)

    def _is_at(self, path: str) -> bool:
        """Tell whether `path` exists, after its directory was opened afresh."""
        try:
            self._lstat(path)
        except OSError as error:
            if error.errno not in GONE:
                raise
            return error.errno == errno.ESTALE and self._is_listed(path)
        return True

    def _is_listed(self, path: str) -> bool:
        """Tell whether a listing shows `path`, which is believed where ESTALE is said of it."""
        directory, name = os.path.split(path)
        try:
            return bool(name) and name in self._names(directory)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except PermissionError:  # we may not list what is above a root, say
            return True

    def recall(self, path: str) -> None:
        """Wait until no client has a delegation of a file, if we may open it.

        A client that died may have one. An NFSv4 server then delays a rename or unlink of the
        file until it gives that client up, which takes a minute or two. Meanwhile the kernel of
        this node lets nobody else rename anything on that mount. To open the file for writing
        takes as long, but delays nobody else, since the file was looked up before. Nothing is
        written.
        """
        with suppress(OSError):
            found = Status.of(self._lstat(path))
            if found.is_file and found.names == 1:
                self.calls.close(self._open(path, _FILL))

    def is_alive(self, path: str) -> bool:
        """Tell whether a file exists on the server now, under whatever name.

        It is opened, since an NFS client may have cached that it exists. A GlusterFS client may
        answer that, too, from what it remembers. So there, the server is asked for an attribute.
        A file that is only held open somewhere has no name left. If we may not open it, or the
        server answers otherwise, it exists. ESTALE alone is no proof: it must say so twice.
        """
        return self._is_there(path) or self._is_there(path)

    def _is_there(self, path: str) -> bool:
        try:
            descriptor = self._open(path, _READ)
        except OSError as error:
            if error.errno == errno.ENOTDIR:
                return False
            return error.errno not in GONE or self._has_name(path)
        calls = self.directories.calls
        try:
            found = calls.fstat(descriptor)
            if self._asks_when_opening is None:
                self._asks_when_opening = self.is_prompt(found.st_dev)
            if found.st_nlink and not self._asks_when_opening:
                calls.getxattr(descriptor, _NO_ATTRIBUTE)
            return bool(found.st_nlink)
        except OSError as error:
            if error.errno != errno.ESTALE or self._asks_when_opening is False:
                return error.errno not in GONE
        finally:
            with suppress(OSError):  # GlusterFS: it is gone
                calls.close(descriptor)
        return self._has_name(path)

    def _has_name(self, path: str) -> bool:
        """Tell whether `path` exists, as `exists` does; False: nor does its directory."""
        try:
            return self.exists(path)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def is_gone(self, path: str) -> bool:
        """Tell whether a file is gone that we have not missed before; ESTALE alone is no proof."""
        try:
            self._lstat(path)
        except OSError as error:
            if error.errno not in GONE:
                raise
            return error.errno == errno.ENOENT or not self.exists(path)
        return False

    def _revalidate(self, directory: str) -> None:
        """Open a directory afresh. FileNotFoundError: it is gone, and no listing shows it."""
        try:
            self.directories.opened(directory)
        except OSError as error:
            if error.errno == errno.ESTALE and not self._is_listed(directory):
                raise _missing(directory) from error
            raise

    def status(self, path: str) -> Status | None:
        """Return type, size and times of `path` itself, following no link; None: it is gone.

        ESTALE is raised if it is said of a name that a listing shows.
        """
        try:
            found = self._lstat(path)
        except OSError as error:
            if error.errno not in GONE:
                raise
            if error.errno == errno.ESTALE and self._is_listed(path):
                raise
            return None
        return Status.of(found)

    def status_when_opened(self, path: str) -> Status | None:
        """Return size and times of a file as the server has them; None: it can't be opened.

        Opening it makes an NFS client drop its cached status, which may be a minute old.
        """
        try:
            descriptor = self._open(path, _READ)
        except OSError:
            return None
        with _Closing(self.calls.close, descriptor, path):
            return Status.of(self.calls.fstat(descriptor))

    def stamp(self, path: str) -> Stamp | None:
        """Open a directory afresh and return its stamp; None: it is gone."""
        try:
            found = self.directories.opened(path).status()
        except OSError as error:
            if error.errno not in (*GONE, errno.ENOTDIR):
                raise
            return None
        return Stamp(found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)

    def is_prompt(self, device: int) -> bool:
        """Tell whether a directory on this device, when opened, shows each change at once.

        Disks do, and the file systems in `_PROMPT`. Others may show it a second later, as
        GlusterFS does.
        """
        if os.major(device):
            return True
        try:
            with open(_MOUNTS, encoding="utf-8", errors="replace") as mounts:
                lines = [line for line in mounts if f" 0:{os.minor(device)} " in line]
        except OSError:  # this system does not tell
            return False
        kinds = [line.partition(" - ")[2].partition(" ")[0] for line in lines]
        return bool(kinds) and set(kinds) <= set(_PROMPT)

    def listing(self, path: str) -> list[str]:
        """Open a directory afresh and list it without hidden names, in no order.

        Raises FileNotFoundError when it is gone, and NotADirectoryError when it is anything
        else, such as a symbolic link. Names that begin with a dot are the file system's own
        (`.nfs…`), or of files that are not finished yet (`rsync`).
        """
        return [name for name in self._names(path) if name[0] != "."]

    def hidden(self, path: str) -> list[str]:
        """List the names that `listing` leaves out."""
        return [name for name in self._names(path) if name[0] == "."]

    def _names(self, path: str) -> list[str]:
        """List a directory that is opened afresh.

        That it is gone, ESTALE must say twice, and the directory above must not show it.
        """
        for is_last in (False, True):
            opened: Directory | None = None
            try:
                opened = self.directories.opened(path)
                names: list[str] = self.calls.listdir(opened.descriptor)
                break
            except OSError as error:
                error.filename = path
                if (
                    error.errno in NO_DESCRIPTOR and not is_last
                ):  # a listing needs one more
                    del opened
                    self.let_go()
                    continue
                if error.errno != errno.ESTALE:
                    raise
                if is_last and self._is_listed(path):
                    raise
                if is_last:
                    raise _missing(path) from error
        return names

    def is_directory(self, path: str) -> bool:
        """Tell whether `path` is a directory, and no symbolic link to one."""
        found = self.status(path)
        return found is not None and found.is_directory

    def require_directory(self, path: str) -> Status:
        """Return the status of a directory.

        Raises FileNotFoundError or NotADirectoryError unless `path` is one. If we hold another
        directory under this name, we let go of that.
        """
        try:
            found = self._lstat(path)
        except OSError as error:
            self.directories.forget(path)
            if error.errno == errno.ESTALE and not self._is_listed(path):
                raise _missing(path) from error
            raise
        if not stat.S_ISDIR(found.st_mode):
            self.directories.forget(path)
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        self.directories.compare(path, found)
        return Status.of(found)

    def may_change(self, directory: str) -> bool:
        """Tell whether we may add names to a directory and remove them."""
        try:
            return bool(self._call("access", directory, os.W_OK | os.X_OK))
        except OSError:
            return False

    @staticmethod
    def is_read_only(path: str) -> bool:
        """Tell whether this node has mounted a directory so that nobody can change it."""
        try:
            return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
        except OSError:
            return False

    def create(
        self, path: str, data: bytes, *, sync: bool, mode: int | None = None
    ) -> None:
        """Write a whole new file, or leave none; of several clients that do so, one succeeds.

        `mode` overrides the umask. If `sync` is set, the data is on stable storage when this
        returns.
        """
        self.create_own(path, data, sync=sync, mode=mode, flags=_NEW)

    def create_own(
        self,
        path: str,
        data: bytes,
        *,
        sync: bool,
        mode: int | None = None,
        flags: int = _OWN,
    ) -> None:
        """Do so under a name that only we can know, since it has 64 random bits or more.

        Nobody else can have made that file, so O_EXCL is not needed. On NFS this saves a request,
        and the file has a true modification time from the beginning (see `Status.age`). Only
        `create` gives other `flags`.
        """
        try:
            descriptor = self._open(path, flags)
        except FileExistsError:
            raise
        except OSError:  # the file may have been made all the same
            self.discard(path)
            raise
        calls = self.directories.calls
        try:
            try:
                if mode is not None:
                    calls.fchmod(descriptor, mode)
                written = calls.write(descriptor, data)
                while written < len(data):
                    written += calls.write(descriptor, data[written:])
                if sync:
                    calls.fsync(descriptor)
            finally:
                calls.close(descriptor)  # where NFS reports a full disk
        except OSError as error:
            error.filename = path
            self.discard(path)
            raise

    def touch(self, path: str, mode: int | None = None) -> None:
        """Make an empty file under a name that only we can know.

        This is one system call, if the file system has it and no `mode` is wanted. If the file
        exists then, we made it ourselves, and the reply was lost.
        """
        if mode is not None:
            self.create_own(path, b"", sync=False, mode=mode)
            return
        try:
            self._call("mknod", path, _EMPTY)
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in _NO_SPECIAL:
                raise
            self.create_own(path, b"", sync=False)

    def discard(self, path: str) -> None:
        """Remove a file that nobody needs; ignore errors."""
        with suppress(OSError):
            self._unlink(path)

    def read(self, path: str, most: int = _CHUNK, end: bytes | None = None) -> bytes:
        """Read a file to its end or to `most` bytes; follow no link, and wait for no FIFO.

        A short file of one line that ends with `end` is known to be whole: no further call looks
        for more. With more lines, one call may have read the first ones only.

        ESTALE means that another node has just replaced the file: it is opened again. ENOENT may
        mean that it was looked up too early: its directory and then the file are opened again.
        """
        for is_last in _STALE_TRIES:
            try:
                return self._read_once(path, most, end)
            except OSError as error:
                if error.errno not in GONE:
                    raise
                if error.errno == errno.ENOENT:
                    # An NFS client may have cached that it was missing.
                    self._revalidate(os.path.dirname(path))
                    return self._read_once(path, most, end)
                if is_last:
                    raise
        raise AssertionError(path)

    def _read_once(self, path: str, most: int, end: bytes | None) -> bytes:
        descriptor, calls = self._open(path, _READ), self.directories.calls
        try:
            try:
                data: bytes = calls.read(descriptor, _CHUNK)
                is_whole = end is not None and len(data) < _CHUNK and data.endswith(end)
                if not is_whole or data.count(b"\n") > 1:
                    chunks, size = [data], len(data)
                    while chunks[-1] and size < most:
                        chunks.append(calls.read(descriptor, min(most - size, _LARGE)))
                        size += len(chunks[-1])
                    data = b"".join(chunks)
            finally:
                calls.close(descriptor)
        except OSError as error:
            error.filename = path
            raise
        return data

    def mkdir(self, path: str) -> bool:
        """Make a directory; False when it exists."""
        try:
            self._call("mkdir", path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno == errno.ESTALE:
                raise _missing(path) from error
            raise
        return True

    def elect(self, path: str, candidate: str) -> bool:
        """Elect one of several candidates; tell whether it is `candidate`.

        On a file system without symbolic links, the first one to make a file is elected.
        """
        try:
            return self.elected(path, candidate) == candidate
        except OSError as error:
            if error.errno not in _NO_SPECIAL:
                raise
        try:
            self.create(path, b"", sync=False)
        except FileExistsError:
            return False
        return True

    def elected(self, path: str, candidate: str) -> str:
        """Elect one of several candidates, and return it; empty: nobody knows which it is.

        The elected candidate is the one whose name the symbolic link at `path` holds. The
        link's target does not exist. Each candidate tries to make the link, and the first one
        succeeds. The link and the name in it are made in one step, so a lost reply can't hide
        who was elected. On GlusterFS, two clients that make the same link at once may both be
        told that it exists, although it does not. So the link is read, and if there is none, it
        is tried again. FileNotFoundError that names the directory of `path`: it is missing. Any
        other error names `path`. We may have been elected then, unless it is one that a file
        system gives before it does anything (`REFUSED`).
        """
        for _ in range(_ELECTIONS):
            try:
                self.link(path, candidate)
            except OSError as error:
                exists = error.errno == errno.EEXIST
                try:
                    # After another error, too, the link may be there, and may be ours.
                    named = self.named_by(path)
                    if not named and error.errno in GONE:
                        self._revalidate(os.path.dirname(path))
                except FileNotFoundError:
                    raise
                except OSError:  # this one says nothing about the link
                    if exists:
                        break
                    named = ""
                if named:
                    return named
                if not exists:
                    raise
            else:
                return candidate
        return ""

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link at `path`. Nobody follows it, so its target may be any text."""
        directories = self.directories
        for is_last in (False, True):
            held: Directory | Nothing | None = None
            try:
                directory, _, name = path.rpartition("/")
                held = self._held.get(directory)
                if held is None:
                    held, name = directories.above(path)
                directories.calls.symlink(target, name, dir_fd=held.descriptor)
                break
            except OSError as error:
                error.filename, error.filename2 = path, None
                if is_last or held is None:
                    raise
                if not directories.may_succeed_now(error, held, makes=True):
                    raise

    def link_own(self, path: str, target: str) -> None:
        """Make one under a name that only we can know: if it exists, we have made it."""
        with suppress(FileExistsError):
            self.link(path, target)

    def place_link(self, draft: str, target: str, path: str) -> bool:
        """Make a link at `draft`, which only we know, and move it to `path`; False: it was removed.

        A server may carry out one request twice, the second time much later. It makes a link once
        more then, but what a rename should move is gone.
        """
        try:
            self.link_own(draft, target)
            return self.rename(draft, path)
        except OSError:
            self.discard(draft)
            raise

    def named_by(self, link: str) -> str:
        """Return the target of a link; empty when there is none.

        ESTALE is asked about again, and raised if it is said of a name that is there.
        """
        for is_last in (False, True):
            try:
                self._revalidate(os.path.dirname(link))
                return str(self._call("readlink", link))
            except OSError as error:
                if error.errno not in (*GONE, errno.EINVAL):
                    raise
                if error.errno != errno.ESTALE or not self._is_listed(link):
                    break
                if is_last:
                    raise
        return ""

    def open_anything(self, path: str) -> int:
        """Open a file of any kind, only for its status; return its descriptor."""
        return self._open(path, os.O_PATH | _FLAGS)

    def chmod(self, path: str, mode: int) -> None:
        """Set a mode that the umask does not change.

        Somebody may have put another file in its place, so no link is followed.
        """
        descriptor = self._open(path, _READ)
        with _Closing(self.calls.close, descriptor, path):
            found = self.calls.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
                raise OSError(errno.EINVAL, "it has another name too")
            self.calls.fchmod(descriptor, mode)

    def mkdir_with_mode(self, path: str, mode: int, draft: str) -> bool:
        """Make a directory whose mode the umask does not change; False when it exists.

        It is made as `draft` and then moved, so that no crash leaves one that others can't use.
        """
        made = False
        try:
            self.mkdir(draft)
            self.chmod(draft, mode)
            made = self.rename(draft, path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        finally:
            if not made:
                self.rmdir(draft)
        return made

    def rmdir(self, path: str) -> bool:
        """Remove a directory if it is empty and we may; tell whether it was removed."""
        try:
            self._call("rmdir", path)
        except OSError:
            return False
        if path in self._held:
            self.directories.forget(path)
        return True

    def remove_tree(self, path: str, *, first: str = "") -> bool:
        """Remove a directory with all that is in it; tell whether it is gone.

        If there is a file `first` in it, that goes before all else, which stays if it stays.

        Each directory is opened by its name in the one above, and no link is followed. Others may
        still add files, through a directory that they hold. So this is repeated until the
        directories themselves are gone, or nothing more can be removed.
        """
        for _ in range(_MOST_ROUNDS):
            try:
                top = self.directories.opened(path)
                removed = self._empty(top.descriptor, first)
            except OSError as error:
                return error.errno in GONE
            if self.rmdir(path) or not removed:
                break
        return self.status(path) is None

    def _empty(self, top: int, first: str) -> int:
        """Remove what is in a directory; return how many names were removed or moved.

        Directories further down are moved up into `top` first. So two descriptors are enough
        at any depth.
        """
        names, done = self.calls.listdir(top), 0
        if first in names:
            try:
                self.calls.unlink(first, dir_fd=top)
                names.remove(first)
            except OSError as error:
                if error.errno not in (*GONE, *_IS_DIRECTORY):
                    raise
        while names:
            name = names.pop()
            try:
                self.calls.unlink(name, dir_fd=top)
                done += 1
                continue
            except OSError as error:
                if error.errno not in _IS_DIRECTORY:
                    continue
            with suppress(OSError):
                flags = os.O_RDONLY | os.O_DIRECTORY | _FLAGS
                inner = self.calls.open(name, flags, dir_fd=top)
                with _Closing(self.calls.close, inner, name):
                    brought = self._bring_up(inner, top)
                names += brought
                done += len(brought)
            with suppress(OSError):
                self.calls.rmdir(name, dir_fd=top)
                done += 1
        return done

    def _bring_up(self, inner: int, top: int) -> list[str]:
        """Remove the files in a directory, move its directories to `top`; return their names."""
        brought = []
        for name in self.calls.listdir(inner):
            with suppress(OSError):
                try:
                    self.calls.unlink(name, dir_fd=inner)
                except OSError as error:
                    if error.errno not in _IS_DIRECTORY:
                        continue
                    above = os.urandom(8).hex()
                    try:  # first, since a move needs a permission that this does not
                        self.calls.rmdir(name, dir_fd=inner)
                    except OSError:
                        self.calls.rename(name, above, src_dir_fd=inner, dst_dir_fd=top)
                        brought.append(above)
        return brought

    def sync_directory(self, path: str) -> None:
        """Put the names in a directory on stable storage.

        A file system that can't do this for directories says so (EINVAL). A directory that
        somebody has removed needs no sync.
        """
        try:
            opened = self.directories.opened(path)
        except OSError as error:
            if error.errno not in GONE:
                raise
            return
        try:
            self.calls.fsync(opened.descriptor)
        except OSError as error:
            error.filename = path
            if error.errno not in _UNSYNCABLE:
                raise

    def touched_ns(self, directory: str) -> int:
        """Touch a directory; return the time that the server gave it.

        This needs no space, and only the permission to write. Then the directory is opened,
        since an NFS client may have cached an older time.
        """
        self._call("utime", directory, None, follow_symlinks=False)
        return self.directories.opened(directory).status().st_mtime_ns

    def birth_ns(self, path: str) -> int:
        """Make a file and remove it; return the time that the server gave it."""
        try:
            descriptor = self._open(path, _OWN, 0o600)
            with _Closing(self.calls.close, descriptor, path):
                return int(self.calls.fstat(descriptor).st_mtime_ns)
        finally:
            self.discard(path)


def _missing(path: str) -> FileNotFoundError:
    """Return the error for a directory that another node removed, which ESTALE told us."""
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
