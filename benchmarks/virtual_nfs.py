"""An NFS server with a queue, and its clients' caches, in virtual time; used by `simulate.py`.

- `Server`: the files, in memory. Some threads serve the requests (RPCs) in the order in which they
  come. Changes of one directory are made one at a time, and so are renames between directories, as
  a Linux server does it.
- `Node`: the kernel of one client. It caches attributes, names (also those that it missed),
  permissions, listings and contents as Linux does, and asks the server for what it does not know.
- `Calls`: the system calls of one process on a node. It stands for `os` in a
  `ddmq.storage.filesystem.FileSystem`.

When a client asks what, was fitted to what was counted on real clients (`simulate.py --calibrate`).
Not in it: permissions, delegations, replies that get lost, and what a client's kernel makes wait.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from heapq import heapify, heapreplace
from math import inf
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from random import Random

    from virtual_time import Simulation, VirtualClock

#: Seconds for which a client believes attributes: at first, and at most (`acregmin` to `acdirmax`).
_FILE_FOR, _DIRECTORY_FOR, _LONGEST_FOR = 3.0, 30.0, 60.0
#: Seconds that a server's stamps are apart at least; on NFSv3 they are what tells a change.
_TICK_NS = 4_000_000
#: Bytes of a READ or WRITE; names of the first READDIR, after which each asks for twice as many.
_TRANSFER, _FIRST_NAMES = 1 << 20, 32
_DEVICE = os.makedev(8, 0)
_DIRECTORY, _FILE, _LINK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK
_PATH_ONLY = getattr(os, "O_PATH", 0)
_WRITES = os.O_WRONLY | os.O_RDWR


class Service(NamedTuple):
    """How fast a server is, in seconds."""

    threads: int
    look: float
    """A request that changes nothing."""
    change: float
    """A request that changes something, and is on stable storage when it is answered."""
    names: float = 2e-6
    """On top, for each name of a listing."""
    round_trip: float = 2e-4
    """On the network and at the client, both ways together."""
    kinds: dict[str, float] = {}  # noqa: RUF012 - never changed
    """Those of single kinds of requests, in place of `look` and `change`."""


class Inode:
    """A file, directory or symbolic link at the server."""

    __slots__ = ("change", "ctime", "data", "mode", "mtime", "names", "number", "refs")

    def __init__(self, number: int, mode: int, now_ns: int) -> None:
        self.number = number
        self.mode = mode
        self.mtime = self.ctime = now_ns
        self.change = 0
        self.refs = 1
        self.data = b""
        self.names: dict[str, Inode] = {}

    @property
    def is_directory(self) -> bool:
        """Whether this is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        """Whether this is a symbolic link."""
        return stat.S_ISLNK(self.mode)


class Status:
    """What `os.stat` returns, as far as ddmq looks at it."""

    __slots__ = (
        *("st_ctime_ns", "st_dev", "st_ino", "st_mode", "st_mtime_ns"),
        *("st_nlink", "st_size"),
    )

    def __init__(self, inode: Inode) -> None:
        self.st_dev = _DEVICE
        self.st_ino = inode.number
        self.st_mode = inode.mode
        self.st_nlink = inode.refs
        self.st_size = len(inode.data)
        self.st_mtime_ns = inode.mtime
        self.st_ctime_ns = inode.ctime


class Server:
    """The files, and who is served when."""

    def __init__(
        self,
        simulation: Simulation,
        clock: VirtualClock,
        service: Service,
        *,
        version: str,
        random: Random,
    ) -> None:
        self.simulation = simulation
        self.service = service
        self.is_v4 = version.startswith("4")
        self.counts: Counter[str] = Counter()
        self.busy = 0.0
        """Seconds of work, of all threads together."""
        self.held: Counter[int] = Counter()
        """Seconds for which each directory was being changed; 0: renames between two."""
        self.longest = 0.0
        """The longest time that a request took, in seconds."""
        self._clock = clock
        self._random = random
        self._threads = [0.0] * service.threads
        heapify(self._threads)
        self._locks: dict[int, float] = {}
        self._number = 1
        self.root = self.made(_DIRECTORY | 0o755)

    # When it answers

    def books(self, kind: str, seconds: float, locks: Sequence[int]) -> float:
        """Queue a request that is sent now; return when its reply is back."""
        way = self.service.round_trip / 2
        sent = self.simulation.now
        seconds = self.service.kinds.get(kind, seconds) * self._random.uniform(0.5, 1.5)
        begins = max(
            sent + way, self._threads[0], *(self._locks.get(n, 0.0) for n in locks)
        )
        ends = begins + seconds
        heapreplace(self._threads, ends)
        for number in locks:
            self._locks[number] = ends
            self.held[number] += seconds
        self.counts[kind] += 1
        self.busy += seconds
        self.longest = max(self.longest, ends + way - sent)
        return ends + way

    # What it holds

    def made(self, mode: int) -> Inode:
        """Make an inode that has no name yet."""
        self._number += 1
        return Inode(self._number, mode, self._clock.own_ns())

    def touched(self, *inodes: Inode) -> None:
        """Note a change of content or names."""
        now_ns = self._clock.own_ns()
        now_ns -= now_ns % _TICK_NS
        for inode in inodes:
            inode.mtime = now_ns
            self.marked(inode)

    def marked(self, inode: Inode) -> None:
        """Note a change of anything."""
        now_ns = self._clock.own_ns()
        inode.ctime = now_ns - now_ns % _TICK_NS
        inode.change = inode.change + 1 if self.is_v4 else inode.ctime

    def load(self, path: Path, inode: Inode | None = None) -> Inode:
        """Copy a real directory, with all that is in it."""
        inode = inode or self.root
        for each in path.iterdir():
            found = each.lstat()
            copy = inode.names[each.name] = self.made(found.st_mode)
            if copy.is_directory:
                self.load(each, copy)
            elif copy.is_link:
                copy.data = os.readlink(each).encode()
            else:
                copy.data = each.read_bytes()
        return inode


class Known:
    """What a node knows of an inode."""

    __slots__ = (
        *("access", "change", "epoch", "listing", "names", "read", "span"),
        *("status", "times", "until"),
    )

    def __init__(self) -> None:
        self.change: int | None = None
        self.status: Status | None = None
        self.until = 0.0
        """Until when the attributes are believed."""
        self.span = 0.0
        self.times = False
        """Whether the times are known: not after a change of our own, on NFSv4."""
        self.access = False
        self.epoch = 0
        """Grows when others have changed a directory: then all its names are looked up again."""
        self.names: dict[str, tuple[Inode | None, int]] = {}
        self.listing: list[str] | None = None
        self.read: int | None = None
        """The change attribute with which the content was read."""


class Node:
    """The kernel of one client, with its caches."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.simulation = server.simulation
        self._known: dict[int, Known] = {}

    def known(self, inode: Inode) -> Known:
        """Return what is known of an inode."""
        found = self._known.get(inode.number)
        if found is None:
            found = self._known[inode.number] = Known()
        return found

    # Requests

    def looks(self, kind: str, *, names: int = 0) -> None:
        """Make a request that changes nothing."""
        service = self.server.service
        seconds = service.look + names * service.names
        self.simulation.wait_until(self.server.books(kind, seconds, ()))

    def changes(self, kind: str, *directories: Inode) -> None:
        """Make a request that changes something in these directories."""
        locks = [each.number for each in directories]
        if len(locks) > 1:
            locks.append(0)  # one rename between directories at a time
        service = self.server.service
        self.simulation.wait_until(self.server.books(kind, service.change, locks))
        for directory in directories:
            _require(directory)

    def later(self, kind: str) -> None:
        """Make a request for which nobody waits."""
        self.server.books(kind, self.server.service.look, ())

    # Attributes

    def learn(self, inode: Inode) -> Known:
        """Take the attributes from a reply."""
        known, longest = self.known(inode), _LONGEST_FOR
        if known.change == inode.change and known.span:
            known.span = min(2 * known.span, longest)
        else:
            known.span = _DIRECTORY_FOR if inode.is_directory else _FILE_FOR
        if known.change != inode.change:
            self._others_changed(known, inode)
        known.until = self.simulation.now + known.span
        known.status, known.times = Status(inode), True
        return known

    def _others_changed(self, known: Known, inode: Inode) -> None:
        known.change = inode.change
        known.epoch += 1
        known.access = False
        known.listing = None

    def asks(self, inode: Inode) -> Known:
        """Ask for attributes."""
        self.looks("GETATTR")
        _require(inode)
        return self.learn(inode)

    def uses(self, inode: Inode) -> Known:
        """Make sure that we may use a directory, or a file on NFSv3."""
        known = self.known(inode)
        if known.access and self.simulation.now >= known.until:
            self.asks(inode)
        if not known.access:
            self.looks("ACCESS")
            _require(inode)
            self.learn(inode)
            known.access = True
        return known

    def doubt(self, inode: Inode) -> None:
        """Ask for the attributes the next time that somebody wants them."""
        self.known(inode).until = -inf

    def status(self, inode: Inode) -> Status:
        """Return the attributes, which may be as old as they are believed."""
        known = self.known(inode)
        if self.simulation.now >= known.until or not known.times:
            self.asks(inode)
        assert known.status is not None
        return known.status

    def changed(self, directory: Inode, before: int) -> None:
        """Take note of our own change of a directory, and of others' before it."""
        known = self.known(directory)
        if known.change != before:
            self._others_changed(known, directory)
            known.span = _DIRECTORY_FOR
        known.change = directory.change
        known.listing = None
        known.until = self.simulation.now + (known.span or _DIRECTORY_FOR)
        known.status, known.times = Status(directory), not self.server.is_v4

    # Names

    def finds(self, directory: Inode, name: str) -> Inode:
        """Return what has a name, as far as we know; FileNotFoundError: nothing has."""
        known = self.uses(directory)
        found, epoch = known.names.get(name, (None, -1))
        if epoch != known.epoch:
            self.looks("LOOKUP")
            _require(directory)
            found = directory.names.get(name)
            known.names[name] = found, known.epoch
            if found is not None:
                self.learn(found)
        if found is None:
            raise _error(errno.ENOENT)
        return found

    def note(self, directory: Inode, name: str, inode: Inode | None) -> None:
        """Remember what has a name."""
        known = self.known(directory)
        known.names[name] = inode, known.epoch

    def forget(self, directory: Inode, name: str) -> None:
        """Look a name up again next time."""
        self.known(directory).names.pop(name, None)

    def listed(self, directory: Inode) -> list[str]:
        """Return the names in a directory, from the cache if nothing has changed."""
        known = self.known(directory)
        if self.simulation.now >= known.until:
            self.asks(directory)
        if known.listing is None:
            names, seen = list(directory.names), 0
            change, page = directory.change, _FIRST_NAMES
            while True:
                part = min(page, len(names) - seen)
                self.looks("READDIR", names=part)
                _require(directory)
                seen, page = seen + part, 2 * page
                if seen >= len(names):
                    break
            if known.change != change:
                self.learn(directory)
            if directory.change != change:
                return names
            known.listing = names
        return list(known.listing)


class _Open:
    """A descriptor."""

    __slots__ = ("buffer", "dirty", "inode", "offset", "path_only", "unread")

    def __init__(self, inode: Inode, *, path_only: bool, dirty: bool) -> None:
        self.inode = inode
        self.path_only = path_only
        self.offset = 0
        self.buffer = bytearray()
        self.dirty = dirty
        self.unread = True


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _is_below(inode: Inode, top: Inode) -> bool:
    """Tell whether an inode is `top`, or below it."""
    return inode is top or any(_is_below(inode, each) for each in top.names.values())


def _require(inode: Inode) -> None:
    """Raise ESTALE if an inode is gone."""
    if not inode.refs:
        raise _error(errno.ESTALE)


class Calls:
    """The system calls of one process, by their names in `os`."""

    def __init__(self, node: Node, mount: Path, cpu: float) -> None:
        self.number = 0
        """How many were made."""
        self._node = node
        self._server = node.server
        self._mount = f"{mount}/"
        self._cpu = cpu
        self._open: dict[int, _Open] = {}
        self._last = 1 << 20

    # Paths and descriptors

    def _at(self, path: str, dir_fd: int | None) -> tuple[Inode, str]:
        """Return the directory in which a path ends, and the name there."""
        self.number += 1
        if self._cpu:
            self._node.simulation.sleep(self._cpu)
        if dir_fd is not None:
            directory = self._of(dir_fd).inode
        else:
            if not path.startswith(self._mount):
                raise _error(errno.ENOENT)
            directory, path = self._server.root, path[len(self._mount) :]
        *above, name = path.split("/")
        for each in above:
            directory = self._node.finds(directory, each)
            if (
                not directory.is_directory
            ):  # no link is followed: where it points is nothing
                missing = directory.is_link
                raise _error(errno.ENOENT if missing else errno.ENOTDIR)
        return directory, name

    def _of(self, descriptor: int) -> _Open:
        try:
            return self._open[descriptor]
        except KeyError:
            raise _error(errno.EBADF) from None

    def _opened(self, inode: Inode, *, path_only: bool, dirty: bool = False) -> int:
        self._last += 1
        self._open[self._last] = _Open(inode, path_only=path_only, dirty=dirty)
        return self._last

    # Open, read, write, close

    def open(
        self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
    ) -> int:
        """Open or make a file, or open a directory."""
        node, (directory, name) = self._node, self._at(path, dir_fd)
        if flags & os.O_CREAT:
            return self._create(directory, name, flags, mode)
        inode = node.finds(directory, name)
        if flags & os.O_DIRECTORY and not inode.is_directory:
            raise _error(errno.ENOTDIR)
        if inode.is_link and not flags & _PATH_ONLY:
            raise _error(errno.ELOOP)
        if flags & _PATH_ONLY:
            return self._opened(inode, path_only=True)
        if inode.is_directory:
            if flags & _WRITES:
                raise _error(errno.EISDIR)
            node.asks(inode)
            node.uses(inode)
        else:
            inode = self._open_file(directory, name, inode)
            if flags & os.O_TRUNC:
                self._fill(inode, b"")
        return self._opened(inode, path_only=False)

    def _open_file(self, directory: Inode, name: str, inode: Inode) -> Inode:
        node = self._node
        if self._server.is_v4:  # by name
            node.looks("OPEN")
            _require(directory)
            found = directory.names.get(name)
            if found is None:
                node.forget(directory, name)
                raise _error(errno.ENOENT)
            node.note(directory, name, found)
            node.learn(found).access = True
            return found
        try:
            node.asks(inode)
        except OSError:
            node.forget(directory, name)
            inode = node.finds(directory, name)
            node.asks(inode)
        return inode

    def _create(self, directory: Inode, name: str, flags: int, mode: int) -> int:
        """Make a file, or open the one that there is."""
        node = self._node
        node.uses(directory)
        node.changes("OPEN" if self._server.is_v4 else "CREATE", directory)
        inode = directory.names.get(name)
        if inode is not None:
            node.learn(inode)
            node.note(directory, name, inode)
            if flags & os.O_EXCL:
                raise _error(errno.EEXIST)
            if inode.is_directory:
                raise _error(errno.EISDIR)
            if inode.is_link:
                raise _error(errno.ELOOP)
        else:
            inode = self._name(directory, name, _FILE | (mode & 0o7777 & ~0o022))
            if flags & os.O_EXCL:
                node.changes("SETATTR")
                if self._server.is_v4:
                    node.looks("GETATTR")
            node.learn(inode).access = True
        return self._opened(inode, path_only=False, dirty=True)

    def _name(self, directory: Inode, name: str, mode: int) -> Inode:
        """Make something; the request was served."""
        inode, before = self._server.made(mode), directory.change
        directory.names[name] = inode
        self._server.touched(directory, inode)
        self._node.changed(directory, before)
        self._node.note(directory, name, inode)
        return inode

    def read(self, descriptor: int, size: int) -> bytes:
        """Read on from where the last read ended."""
        file = self._of(descriptor)
        data = self.pread(descriptor, size, file.offset)
        file.offset += len(data)
        return data

    def pread(self, descriptor: int, size: int, offset: int) -> bytes:
        """Read a part; the whole content is asked for at once."""
        self.number += 1
        file = self._of(descriptor)
        if file.inode.is_directory:
            raise _error(errno.EISDIR)
        known = self._node.known(file.inode)
        if file.unread and known.read != known.change and file.inode.data:
            for _ in range(0, len(file.inode.data), _TRANSFER):
                self._node.looks("READ")
                _require(file.inode)
            known.read = known.change
        file.unread = False
        return file.inode.data[offset : offset + size]

    def write(self, descriptor: int, data: bytes) -> int:
        """Keep what is to be written until the file is synced or closed."""
        self.number += 1
        file = self._of(descriptor)
        file.buffer += data
        return len(data)

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        """Keep it, for a file that is written from its beginning."""
        if offset != len(self._of(descriptor).buffer):
            raise _error(errno.ENOSYS)
        return self.write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        """Send what is to be written; a directory needs nothing."""
        self.number += 1
        file = self._of(descriptor)
        if not file.buffer:
            return
        data, file.buffer = bytes(file.buffer), bytearray()
        parts = range(0, len(data), _TRANSFER)
        for _ in parts:
            self._node.changes("WRITE")
        if len(parts) > 1:
            self._node.changes("COMMIT")
        _require(file.inode)
        self._fill(file.inode, data)
        known = self._node.learn(file.inode)
        known.read = known.change

    fdatasync = fsync

    def _fill(self, inode: Inode, data: bytes) -> None:
        inode.data = data
        self._server.touched(inode)

    def ftruncate(self, descriptor: int, size: int) -> None:
        """Cut a file."""
        self.number += 1
        inode = self._of(descriptor).inode
        self._node.changes("SETATTR")
        _require(inode)
        self._fill(inode, inode.data[:size].ljust(size, b"\0"))
        self._node.learn(inode)

    def close(self, descriptor: int) -> None:
        """Send what is to be written, and give the descriptor back."""
        file = self._open.get(descriptor)
        if file is not None and not file.inode.is_directory and not file.path_only:
            try:
                self.fsync(descriptor)
            finally:
                self._open.pop(descriptor, None)
                if self._server.is_v4:
                    self._node.later("CLOSE")
        elif self._open.pop(descriptor, None) is None:
            raise _error(errno.EBADF)

    # Status

    def lstat(self, path: str, *, dir_fd: int | None = None) -> Status:
        """Return the status of a name."""
        inode = self._node.finds(*self._at(path, dir_fd))
        return self._node.status(inode)

    def stat(
        self,
        path: str | int,
        *,
        dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> Status:
        """Return the status of a name or descriptor."""
        if isinstance(path, int):
            return self.fstat(path)
        inode = self._node.finds(*self._at(path, dir_fd))
        if inode.is_link and follow_symlinks:
            raise _error(errno.ENOENT)
        return self._node.status(inode)

    def fstat(self, descriptor: int) -> Status:
        """Return the status of a descriptor."""
        self.number += 1
        return self._node.status(self._of(descriptor).inode)

    def access(self, path: str, mode: int, *, dir_fd: int | None = None) -> bool:
        """Tell whether a path can be used: all that is there can."""
        del mode
        try:
            self._node.uses(self._node.finds(*self._at(path, dir_fd)))
        except OSError:
            return False
        return True

    def listdir(self, path: str | int) -> list[str]:
        """List a directory."""
        if isinstance(path, int):
            self.number += 1
            inode = self._of(path).inode
            if self._of(path).path_only:
                raise _error(errno.EBADF)
        else:
            inode = self._node.finds(*self._at(path, None))
            if inode.is_link:
                raise _error(errno.ENOENT)
            self._node.asks(inode)
        if not inode.is_directory:
            raise _error(errno.ENOTDIR)
        return self._node.listed(inode)

    def readlink(self, path: str, *, dir_fd: int | None = None) -> str:
        """Return the target of a symbolic link."""
        inode = self._node.finds(*self._at(path, dir_fd))
        if not inode.is_link:
            raise _error(errno.EINVAL)
        known = self._node.known(inode)
        if known.read != known.change:
            self._node.looks("READLINK")
            _require(inode)
            known.read = known.change
        return inode.data.decode()

    def utime(
        self,
        path: str,
        times: tuple[float, float] | None = None,
        *,
        ns: tuple[int, int] | None = None,
        dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        """Set the modification time, to the server's by default."""
        del follow_symlinks
        inode = self._node.finds(*self._at(path, dir_fd))
        self._node.changes("SETATTR")
        _require(inode)
        self._server.touched(inode)
        if times is not None or ns is not None:
            inode.mtime = int(times[1] * 1e9) if times is not None else ns[1]  # type: ignore[index]
        self._node.learn(inode)

    def fchmod(self, descriptor: int, mode: int) -> None:
        """Set the mode of an open file."""
        self.number += 1
        inode = self._of(descriptor).inode
        self._node.changes("SETATTR")
        _require(inode)
        inode.mode = stat.S_IFMT(inode.mode) | mode
        self._server.marked(inode)
        self._node.learn(inode)

    # Names

    def mkdir(self, path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        """Make a directory."""
        self._make(path, _DIRECTORY | (mode & ~0o022), dir_fd, "MKDIR")

    def symlink(
        self,
        target: str,
        path: str,
        target_is_directory: bool = False,  # noqa: FBT001, FBT002 - as in `os`
        *,
        dir_fd: int | None = None,
    ) -> None:
        """Make a symbolic link."""
        del target_is_directory
        inode = self._make(path, _LINK | 0o777, dir_fd, "SYMLINK")
        inode.data = target.encode()

    def mknod(
        self,
        path: str,
        mode: int = 0o600,
        device: int = 0,
        *,
        dir_fd: int | None = None,
    ) -> None:
        """Make an empty file, exclusively: that is several requests."""
        del device
        v4 = self._server.is_v4
        self._make(path, mode & ~0o022, dir_fd, "OPEN" if v4 else "CREATE")
        self._node.changes("SETATTR")
        if v4:
            self._node.looks("GETATTR")
            self._node.later("CLOSE")

    def _make(self, path: str, mode: int, dir_fd: int | None, kind: str) -> Inode:
        directory, name = self._at(path, dir_fd)
        node = self._node
        known = node.uses(directory)
        found, epoch = known.names.get(name, (None, -1))
        if found is not None and epoch == known.epoch:
            raise _error(errno.EEXIST)
        node.changes(kind, directory)
        if name in directory.names:
            node.forget(directory, name)
            raise _error(errno.EEXIST)
        inode = self._name(directory, name, mode)
        node.learn(inode)
        return inode

    def link(
        self,
        source: str,
        target: str,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        """Give a file a second name."""
        del follow_symlinks
        inode = self._node.finds(*self._at(source, src_dir_fd))
        directory, name = self._at(target, dst_dir_fd)
        self._node.uses(directory)
        self._node.changes("LINK", directory)
        _require(inode)
        if name in directory.names:
            raise _error(errno.EEXIST)
        if inode.is_directory:
            raise _error(errno.EPERM)
        before = directory.change
        directory.names[name] = inode
        inode.refs += 1
        self._server.touched(directory)
        self._server.marked(inode)
        self._node.changed(directory, before)
        self._node.note(directory, name, inode)
        self._node.doubt(inode)

    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        """Remove a name of a file."""
        directory, name = self._at(path, dir_fd)
        if self._node.finds(directory, name).is_directory:
            raise _error(errno.EISDIR)
        self._remove(directory, name, "REMOVE", self._check_file)

    def rmdir(self, path: str, *, dir_fd: int | None = None) -> None:
        """Remove an empty directory."""
        directory, name = self._at(path, dir_fd)
        if not self._node.finds(directory, name).is_directory:
            raise _error(errno.ENOTDIR)
        self._remove(directory, name, "RMDIR", self._check_empty)

    def _check_file(self, inode: Inode) -> None:
        if inode.is_directory:
            raise _error(errno.EISDIR)

    def _check_empty(self, inode: Inode) -> None:
        if not inode.is_directory:
            raise _error(errno.ENOTDIR)
        if inode.names:
            raise _error(errno.ENOTEMPTY)

    def _remove(
        self, directory: Inode, name: str, kind: str, check: Callable[[Inode], None]
    ) -> None:
        node = self._node
        node.changes(kind, directory)
        inode = directory.names.get(name)
        if inode is None:
            node.forget(directory, name)
            raise _error(errno.ENOENT)
        check(inode)
        before = directory.change
        del directory.names[name]
        inode.refs -= 1
        self._server.touched(directory)
        self._server.marked(inode)
        node.changed(directory, before)
        node.note(directory, name, None)
        node.doubt(inode)

    def rename(
        self,
        source: str,
        target: str,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
    ) -> None:
        """Move a file or directory, over what has its new name."""
        node = self._node
        old, name = self._at(source, src_dir_fd)
        new, other = self._at(target, dst_dir_fd)
        self.number -= 1
        node.finds(old, name)
        node.uses(new)
        node.changes("RENAME", *((old, new) if old is not new else (old,)))
        inode, there = old.names.get(name), new.names.get(other)
        if inode is None:
            node.forget(old, name)
            raise _error(errno.ENOENT)
        if there is inode:
            return
        if _is_below(new, inode):
            raise _error(errno.EINVAL)
        if there is not None and _is_below(old, there):
            raise _error(errno.ENOTEMPTY)
        if there is not None:
            if inode.is_directory and not there.is_directory:
                raise _error(errno.ENOTDIR)
            if there.is_directory and not inode.is_directory:
                raise _error(errno.EISDIR)
            if there.names:
                raise _error(errno.ENOTEMPTY)
            there.refs -= 1
            self._server.marked(there)
            node.doubt(there)
        befores = old.change, new.change
        del old.names[name]
        new.names[other] = inode
        self._server.touched(*{old, new})
        self._server.marked(inode)
        node.changed(old, befores[0])
        if new is not old:
            node.changed(new, befores[1])
        node.note(old, name, None)
        node.note(new, other, inode)
        node.doubt(inode)  # its change time is another one now

    replace = rename
