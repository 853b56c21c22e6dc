"""System calls, with the manners that network file systems ask for.

Paths are text and every call names one or two of them; below a root they are used by name, in
directories that are held (`ddmq.directories`). What each answer means on NFS and
GlusterFS was measured. Nothing here knows what a message is. Errors are `OSError`s that
name the path; the broker turns them into words.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq.directories import GONE, Directories

if TYPE_CHECKING:
    from collections.abc import Callable

#: What a file system answers to somebody who may only look.
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
#: Answers that say that nothing was done, unless a call was sent twice; EIO or EINTR may come
#: too late.
REFUSED = (*FORBIDDEN, errno.ENOSPC, errno.EDQUOT, errno.EBUSY)
#: Answers to a rename that say that this file, or its directory, is not for us to move.
IMMOVABLE = (*FORBIDDEN, errno.EBUSY, errno.EXDEV)
#: Where only root may make special files, or nobody.
_NO_SPECIAL = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
_EMPTY = stat.S_IFREG | 0o666
_UNSYNCABLE = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EISDIR)
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS
#: A FIFO that somebody planted must not make a reader or writer wait: hence O_NONBLOCK.
_FILL = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | _FLAGS
_OWN = _FILL | os.O_CREAT
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | _FLAGS
_CHUNK = 1 << 16
_LARGE = 1 << 20
_STALE_TRIES = 4
_MOUNTS = "/proc/self/mountinfo"
#: Besides disks, where who opens a directory learns at once how it is stamped.
_PROMPT = ("nfs", "nfs4", "tmpfs", "overlay", "zfs")
_ELECTIONS = 8
#: How often a directory is emptied to which others still add.
_MOST_ROUNDS = 100
#: Answers to an unlink of a directory.
_IS_DIRECTORY = (errno.EISDIR, errno.EPERM)
#: By how much a modification time may lie ahead before it is taken for none.
_AHEAD_NS = 3600 * 10**9


class Status(NamedTuple):
    """What `status` tells of a file: its type and mode, size in bytes, times in ns, names."""

    mode: int
    size: int
    modified_ns: int
    changed_ns: int
    names: int = 1

    @classmethod
    def of(cls, found: os.stat_result) -> Status:
        """Return what matters here of what the system says."""
        times = found.st_mtime_ns, found.st_ctime_ns
        return cls(found.st_mode, found.st_size, *times, found.st_nlink)

    def age(self, now_ns: int) -> float:
        """Return for how many seconds it has stood still, by the younger of its two times.

        While somebody makes a file with O_EXCL, an NFS server keeps something else where
        its modification time will be: others see any time at all, decades ago or ahead.
        The owner may set that time, too, but nobody the other one.
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
    """What changes whenever a directory does, or another one takes its name."""

    device: int
    inode: int
    modified_ns: int
    changed_ns: int

    @property
    def is_whole(self) -> bool:
        """Whether it tells whole seconds, as far as one can see."""
        return not (self.modified_ns % 10**9 or self.changed_ns % 10**9)


def is_shared(mode: int) -> bool:
    """Tell whether a group shares a directory: it may write, and new files are the group's."""
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
    """Closes a file in the end; errors name it, as `os` does for those of a path."""

    __slots__ = ("_close", "_descriptor", "_path")

    def __init__(
        self, close: Callable[[int], None], descriptor: int, path: str
    ) -> None:
        self._close = close
        self._descriptor = descriptor
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            self._close(self._descriptor)
        except OSError as failed:
            failed.filename = self._path
            raise
        if isinstance(error, OSError):
            error.filename = self._path


class FileSystem:
    """The file system as seen by one process.

    `calls` is the module whose functions are the system calls, so that a test can count
    them, make the n-th fail, or lose a reply.
    """

    def __init__(self, calls: Any = os, *, root: str | None = None) -> None:
        self.directories = Directories(calls)
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
        """Use what is below a root by name, in directories that are held."""
        self.directories.hold_below(root)

    def let_go(self) -> None:
        """Hold no directory any more; the next call opens them again."""
        self.directories.let_go()

    def _closing(self, descriptor: int, path: str) -> _Closing:
        return _Closing(self.calls.close, descriptor, path)

    def rename(self, source: str, target: str) -> bool:
        """Move `source` to `target`; False when `source` is gone.

        A retransmitted rename can answer ENOENT though it happened, so the target is
        looked for before that is believed. FileNotFoundError: the target's directory is
        missing.
        """
        try:
            self.directories.rename(source, target)
        except OSError as error:
            if error.errno not in GONE:
                raise
            if error.filename == os.path.dirname(target):
                raise _missing(error.filename) from error
            return self._is_at(target)
        return True

    def take(self, source: str, target: str) -> bool | None:
        """Move `source` to a `target` that is ours alone; False: a rival was faster.

        None: nobody knows, since what is only called stale proves nothing.
        """
        try:
            self.directories.rename(source, target)
        except OSError as error:
            if error.errno not in GONE:
                raise
            if error.filename == os.path.dirname(target):
                return False if error.errno == errno.ENOENT else None
            try:
                self.directories.lstat(target)
            except OSError as again:
                return False if again.errno == errno.ENOENT else None
        return True

    def replace(self, source: str, target: str) -> None:
        """Move `source`, which nobody else moves, to a `target` that may exist.

        Where a reply says that `source` is gone, it was moved.
        """
        try:
            self.directories.rename(source, target)
        except OSError as error:
            if error.errno not in GONE or self.exists(source):
                raise

    def unlink(self, path: str) -> bool:
        """Remove a file; False when it was gone already."""
        try:
            self.directories.unlink(path)
        except OSError as error:
            if error.errno not in GONE:
                raise
            return False
        return True

    def exists(self, path: str) -> bool:
        """Tell whether `path` exists now, on the server.

        Opening its directory first drops what an NFS client remembers of names that were
        missing. FileNotFoundError: the directory itself is missing. If `path` is called
        stale even then, a listing decides.
        """
        self._revalidate(os.path.dirname(path))
        return self._is_at(path)

    def _is_at(self, path: str) -> bool:
        """Tell whether `path` exists, in a directory that was just opened afresh."""
        try:
            self.directories.lstat(path)
        except OSError as error:
            if error.errno not in GONE:
                raise
            if error.errno == errno.ENOENT:
                return False
            directory, name = os.path.split(path)
            return name in self._names(directory)
        return True

    def recall(self, path: str) -> None:
        """Wait until no client has a delegation of a file, if we may.

        An NFSv4 server lets a rename or unlink of it wait until it has given up a client that
        died: a minute or two. Meanwhile the kernel of this node lets nobody else rename
        anything on that mount. Opening the file for writing waits as well, but for itself alone,
        since it was looked up before; nothing is written.
        """
        with suppress(OSError):
            found = Status.of(self.directories.lstat(path))
            if found.is_file and found.names == 1:
                self.calls.close(self.directories.open(path, _FILL))

    def is_gone(self, path: str) -> bool:
        """Tell whether a file is gone that we never missed before; ESTALE alone is no proof."""
        try:
            self.directories.lstat(path)
        except OSError as error:
            if error.errno not in GONE:
                raise
            return error.errno == errno.ENOENT or not self.exists(path)
        return False

    def _revalidate(self, directory: str) -> None:
        try:
            self.directories.opened(directory)
        except OSError as error:
            if error.errno == errno.ESTALE:
                raise _missing(directory) from error
            raise

    def status(self, path: str) -> Status | None:
        """Tell the type, size and age of `path` itself, no link followed; None: gone."""
        try:
            found = self.directories.lstat(path)
        except OSError as error:
            if error.errno not in GONE:
                raise
            return None
        return Status.of(found)

    def status_when_opened(self, path: str) -> Status | None:
        """Tell size and age of a file as the server has them now; None: we may not open it.

        Opening it drops what an NFS client remembers, for up to a minute.
        """
        try:
            descriptor = self.directories.open(path, _READ)
        except OSError:
            return None
        with self._closing(descriptor, path):
            return Status.of(self.calls.fstat(descriptor))

    def stamp(self, path: str) -> Stamp | None:
        """Tell how a directory is stamped now, opening it afresh; None: it is gone."""
        try:
            found = self.directories.opened(path).status()
        except OSError as error:
            if error.errno not in (*GONE, errno.ENOTDIR):
                raise
            return None
        return Stamp(found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)

    def is_prompt(self, device: int) -> bool:
        """Tell whether a directory that is opened there shows each change, and not a second later.

        Disks do, and what is known to; what is not known may be like GlusterFS.
        """
        if os.major(device):
            return True
        try:
            with open(_MOUNTS, encoding="utf-8", errors="replace") as mounts:
                lines = [line for line in mounts if f" 0:{os.minor(device)} " in line]
        except OSError:  # not told here
            return False
        kinds = [line.partition(" - ")[2].partition(" ")[0] for line in lines]
        return bool(kinds) and set(kinds) <= set(_PROMPT)

    def listing(self, path: str) -> list[str]:
        """List a directory afresh, hidden names left out, in no order.

        Raises FileNotFoundError when it is gone and NotADirectoryError when it is
        anything else, a symbolic link above all. Names that begin with a dot are the
        file system's own (`.nfs…`) or not finished yet (`rsync`).
        """
        return [name for name in self._names(path) if name[0] != "."]

    def hidden(self, path: str) -> list[str]:
        """List the names that `listing` leaves out."""
        return [name for name in self._names(path) if name[0] == "."]

    def _names(self, path: str) -> list[str]:
        try:
            opened = self.directories.opened(path)
            names: list[str] = self.calls.listdir(opened.descriptor)
        except OSError as error:
            error.filename = path
            if error.errno == errno.ESTALE:
                raise _missing(path) from error
            raise
        return names

    def is_directory(self, path: str) -> bool:
        """Tell whether `path` is a directory, and no symbolic link to one."""
        found = self.status(path)
        return found is not None and found.is_directory

    def require_directory(self, path: str) -> None:
        """Raise FileNotFoundError or NotADirectoryError unless `path` is a directory.

        If another one is held under this name, that is let go.
        """
        try:
            found = self.directories.lstat(path)
        except OSError as error:
            self.directories.forget(path)
            if error.errno == errno.ESTALE:
                raise _missing(path) from error
            raise
        if not stat.S_ISDIR(found.st_mode):
            self.directories.forget(path)
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        self.directories.compare(path, found)

    def may_read(self, path: str) -> bool:
        """Tell whether we have the permission; what is gone or no file is for `read` to say."""
        try:
            self.calls.close(self.directories.open(path, _READ))
        except OSError as error:
            return error.errno not in FORBIDDEN
        return True

    def may_change(self, directory: str) -> bool:
        """Tell whether we may add names to a directory and remove them."""
        return self.directories.may_change(directory)

    def create(
        self, path: str, data: bytes, *, sync: bool, mode: int | None = None
    ) -> None:
        """Write a new file whole, or leave none: of several who do so, one succeeds.

        `mode` overrides the umask. Where `sync` is set, the data is on stable storage
        when this returns.
        """
        self._write_new(path, _NEW, data, sync=sync, mode=mode)

    def create_own(
        self, path: str, data: bytes, *, sync: bool, mode: int | None = None
    ) -> None:
        """Do so under a name that only we can know, since 64 random bits or more are in it.

        Without O_EXCL, since nobody can have made that file: on NFS this spares a request,
        and the modification time is one from the beginning (see `Status.age`).
        """
        self._write_new(path, _OWN, data, sync=sync, mode=mode)

    def _write_new(
        self, path: str, flags: int, data: bytes, *, sync: bool, mode: int | None
    ) -> None:
        try:
            descriptor = self.directories.open(path, flags, 0o666)
        except FileExistsError:
            raise
        except OSError:  # which may be an answer that came too late
            self.discard(path)
            raise
        try:
            with self._closing(descriptor, path):  # where NFS reports a full disk
                self._fill(descriptor, data, mode)
                if sync:
                    self.calls.fsync(descriptor)
        except OSError:
            self.discard(path)
            raise

    def touch(self, path: str, mode: int | None = None) -> None:
        """Make an empty file that only we can have named so.

        One system call, where files can be made so and no `mode` is wanted; that it exists
        is then our own doing, of which the reply was lost.
        """
        if mode is not None:
            self.create_own(path, b"", sync=False, mode=mode)
            return
        try:
            self.directories.mknod(path, _EMPTY)
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in _NO_SPECIAL:
                raise
            self.create_own(path, b"", sync=False)

    def fill(self, path: str, data: bytes, *, sync: bool) -> bool:
        """Write the content of a file that is empty, or holds a part of it; False: gone.

        Several may do so at once, with the same data. A file that has another name too is
        not ours: somebody planted it.
        """
        try:
            descriptor = self.directories.open(path, _FILL)
        except OSError as error:
            if error.errno not in GONE:
                raise
            if not self.exists(path):
                return False
            descriptor = self.directories.open(path, _FILL)
        with self._closing(descriptor, path):
            self._refuse_planted(descriptor, len(data))
            self._fill(descriptor, data, None)
            if sync:
                self.calls.fsync(descriptor)
        return True

    def _refuse_planted(self, descriptor: int, most: int) -> None:
        found = self.calls.fstat(descriptor)
        ours = stat.S_ISREG(found.st_mode) and found.st_nlink <= 1
        if not ours or found.st_size > most:
            raise OSError(errno.EINVAL, "not an empty file of ddmq")

    def _fill(self, descriptor: int, data: bytes, mode: int | None) -> None:
        if mode is not None:
            self.calls.fchmod(descriptor, mode)
        written = self.calls.write(descriptor, data)
        while written < len(data):
            written += self.calls.write(descriptor, data[written:])

    def discard(self, path: str) -> None:
        """Remove a file that nobody needs, if that is possible."""
        with suppress(OSError):
            self.directories.unlink(path)

    def read(self, path: str, most: int = _CHUNK) -> bytes:
        """Read a file to its end or to `most` bytes; no link is followed.

        A FIFO is not waited for. A file that another node just replaced answers ESTALE, and
        one that was looked up too early ENOENT: its directory and it are opened again.
        """
        for _ in range(_STALE_TRIES):
            try:
                return self._read_once(path, most)
            except OSError as error:
                if error.errno not in GONE:
                    raise
                if error.errno == errno.ENOENT:
                    return self._read_afresh(path, most)
                stale = error
        raise stale

    def _read_afresh(self, path: str, most: int) -> bytes:
        """Read what an NFS client may remember to be missing."""
        self._revalidate(os.path.dirname(path))
        return self._read_once(path, most)

    def _read_once(self, path: str, most: int) -> bytes:
        descriptor = self.directories.open(path, _READ)
        with self._closing(descriptor, path):
            chunks: list[bytes] = [self.calls.read(descriptor, _CHUNK)]
            size = len(chunks[0])
            while chunks[-1] and size < most:
                chunks.append(self.calls.read(descriptor, min(most - size, _LARGE)))
                size += len(chunks[-1])
        return b"".join(chunks)

    def mkdir(self, path: str) -> bool:
        """Make a directory; False when it exists."""
        try:
            self.directories.mkdir(path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno == errno.ESTALE:
                raise _missing(path) from error
            raise
        return True

    def elect(self, path: str, candidate: str) -> bool:
        """Tell whether `candidate` is whom the link at `path` names; it leads nowhere.

        The first one who makes it is elected. Since it says who, in the same step, no lost
        reply hides that. Two who make one file or link at once may both hear from GlusterFS
        that it exists, and there is none: so whom it names decides, or it is tried again.
        Where there are no links, the first one who makes a file is elected.
        """
        for _ in range(_ELECTIONS):
            try:
                self.directories.symlink(candidate, path)
            except FileExistsError:
                named = self._named_by(path)
                if named:
                    return named == candidate
            except OSError as error:
                return self._elect_despite(error, path, candidate)
            else:
                return True
        return False

    def _elect_despite(self, error: OSError, path: str, candidate: str) -> bool:
        if error.errno not in _NO_SPECIAL:  # an answer that may have come too late
            if self._named_by(path) != candidate:
                raise error
            return True
        try:
            self.create(path, b"", sync=False)
        except FileExistsError:
            return False
        return True

    def _named_by(self, link: str) -> str:
        """Return where a link leads; nothing when there is none that can be read now."""
        try:
            self._revalidate(os.path.dirname(link))
            return self.directories.readlink(link)
        except OSError as error:
            if error.errno not in (*GONE, errno.EINVAL):
                raise
            return ""

    def chmod(self, path: str, mode: int) -> None:
        """Set a mode that the umask does not touch.

        Somebody may have put another file in its place: no link is followed.
        """
        descriptor = self.directories.open(path, _READ)
        with self._closing(descriptor, path):
            self._refuse_linked(descriptor)
            self.calls.fchmod(descriptor, mode)

    def _refuse_linked(self, descriptor: int) -> None:
        found = self.calls.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            raise OSError(errno.EINVAL, "it has another name too")

    def mkdir_with_mode(self, path: str, mode: int, draft: str) -> bool:
        """Make a directory whose mode the umask does not touch; False when it exists.

        It is made as `draft` and moved, so that no crash leaves one that others can't use.
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
        """Remove a directory if it is empty and we may; the system call decides."""
        try:
            self.directories.rmdir(path)
        except OSError:
            return False
        return True

    def remove_directory(self, path: str) -> bool:
        """Remove a directory with the files in it, as far as that is possible.

        Whoever puts another one in its place meanwhile does not lead us there.
        """
        with suppress(OSError):
            opened = self.directories.opened(path)
            for name in self.calls.listdir(opened.descriptor):
                with suppress(OSError):
                    self.calls.unlink(name, dir_fd=opened.descriptor)
        return self.rmdir(path)

    def remove_tree(self, path: str) -> bool:
        """Remove a directory with all that is in it; tell whether it is gone.

        Each directory is opened by its name in the one above, and no link is followed. Others may
        still add to it, through a directory that they hold: so this is repeated until the
        directories themselves are gone, or nothing can be removed any more.
        """
        for _ in range(_MOST_ROUNDS):
            try:
                top = self.directories.opened(path)
                removed = self._empty(top.descriptor)
            except OSError as error:
                return error.errno in GONE
            if self.rmdir(path) or not removed:
                break
        return self.status(path) is None

    def _empty(self, top: int) -> int:
        """Remove what is in a directory; return how much could be removed, or moved.

        What is deeper comes up first, so that no depth needs more than two descriptors.
        """
        names, done = self.calls.listdir(top), 0
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
                with self._closing(inner, name):
                    brought = self._bring_up(inner, top)
                names += brought
                done += len(brought)
            with suppress(OSError):
                self.calls.rmdir(name, dir_fd=top)
                done += 1
        return done

    def _bring_up(self, inner: int, top: int) -> list[str]:
        """Remove the files in a directory, and move directories out of it; return their names."""
        brought = []
        for name in self.calls.listdir(inner):
            with suppress(OSError):
                try:
                    self.calls.unlink(name, dir_fd=inner)
                except OSError as error:
                    if error.errno not in _IS_DIRECTORY:
                        continue
                    above = os.urandom(8).hex()
                    try:  # which one that is empty needs no permission for, but a move does
                        self.calls.rmdir(name, dir_fd=inner)
                    except OSError:
                        self.calls.rename(name, above, src_dir_fd=inner, dst_dir_fd=top)
                        brought.append(above)
        return brought

    def sync_directory(self, path: str) -> None:
        """Put the names in a directory on stable storage.

        File systems that can't do it for a directory say so (EINVAL), and one that
        somebody has removed needs it no more.
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
        """Return how the server stamps a directory that is touched now.

        This needs no space, and no more than the permission to write. It is opened after
        that, since an NFS client may remember an older time.
        """
        self.directories.touch(directory)
        return self.directories.opened(directory).status().st_mtime_ns

    def birth_ns(self, path: str) -> int:
        """Return how the server stamps a file made now; nothing is left behind."""
        try:
            descriptor = self.directories.open(path, _OWN, 0o600)
            with self._closing(descriptor, path):
                return int(self.calls.fstat(descriptor).st_mtime_ns)
        finally:
            self.discard(path)


def _missing(path: str) -> FileNotFoundError:
    """Return the error for a directory of which ESTALE says that another node removed it."""
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
