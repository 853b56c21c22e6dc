"""An NFS server and its clients, emulated: each client remembers, and answers from that.

A `Server` keeps the truth, which is a real directory. A `Mount` is a node that has it mounted:
it has the functions of `os` that a `FileSystem` calls, and may be shared by several brokers, the
processes of that node. What it gets wrong, and for how long, was measured with Linux clients:

- A name that was looked up is believed, there or missing, until its directory's attributes
  are fetched again: when the directory is opened or listed, when the node itself changes it, or
  after 30 to 60 seconds. A missing one can't be renamed, removed or opened, whoever made it
  since; making it exclusively tells the truth. Renames and removals of one that is there are
  decided by the server.
- The attributes of a file are believed for 3 to 60 seconds, even if it is gone or has moved,
  unless it is opened. What another node writes is not seen before it closes the file.
- A directory or file that somebody else removed answers ESTALE, or ENOENT if the kernel
  looks again. A directory that was moved is reached under the name that is remembered.
- Version 3 opens what it remembers, also when it has moved; version 4 asks the server.
- A file made with `O_EXCL` shows a time long ago, no size and, in version 3, no permission to
  the others, until its maker closes it.
- A listing is fetched in pages, and others act between them.
- Replies are slow or lost: a rename or removal was done, and ENOENT is said.

What a node did itself it always sees. Time is the clock of the test, which is the server's too.
Chance is seeded, and each wrong answer is counted in `Server.told`: a run without any shows
nothing. Functions that are missing here go to `os` and are counted in `Server.passed`; to add
one, follow `unlink` for a name and `chmod` for a file.
"""

from __future__ import annotations

import errno
import os
import random
import re
import stat
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from protocol.scenes import QUEUE, World
from support import Calls, FakeClock

from ddmq.storage.filesystem import FileSystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ddmq import Broker

#: The kinds of wrong answers.
NEGATIVE = "missing, though it is there"
POSITIVE = "there, though it is gone or moved"
ATTRIBUTES = "attributes of the past"
OF_DIRECTORY = "attributes of the past, of a directory"
GARBAGE = "a time long ago of a file being made"
UNWRITTEN = "without what its writer has not written back"
OLD_PAGE = "a listing with an old first page"
HELD_LISTING = "a listing of the past by a descriptor that was held"
STALE = "ESTALE"
OLD_NAME = "opened under a name that it has no more"
MOVED = "reached in a directory that has moved"
LOST = "done, and called missing"
SLOW = "slow, and others acted meanwhile"
#: What the kernel of an NFS server keeps in the time of a file that is made exclusively.
_VERIFIER_NS = 230_000_000 * 10**9
_START = 1_800_000_000
_DIRECTORY_FOR = (30.0, 60.0)
_FILE_FOR = (3.0, 60.0)
_NAMES = ("st_mode", "st_size", "st_mtime_ns")
#: What is different in each name: ids, tokens, and times to the nanosecond.
_RANDOM = re.compile("[0-9a-f]{16,}")


class Rates(NamedTuple):
    """How often what may happen does, from 0 to 1."""

    early: float = 0.5
    """Of what a node looks up: another process there had done so, as early as can be.

    That is, just after the node last asked the server for the directory. All processes of a node
    share what it remembers. Nobody looks up a name whose random part nobody can know yet.
    """
    forgets: float = 0.05
    """Of what a node remembers, as memory is needed for other things."""
    plus: float = 0.5
    """Of listings: also fetches the attributes of what they show."""
    estale: float = 0.5
    """Of stale handles: the caller is told, and the kernel does not look again."""
    lost: float = 0.0
    """Of renames, removals and new directories: done, and the reply is lost."""
    slow: float = 0.0
    """Of calls: others act before or after they are done."""
    paged: float = 0.0
    """Of listings: others act between the first page and the last."""


class Inode:
    """A file or directory on the server, whatever it is called now."""

    def __init__(self, found: os.stat_result, path: str) -> None:
        self.number = found.st_ino
        self.type = stat.S_IFMT(found.st_mode)
        self.path = path
        self.is_gone = False
        self.names_before: list[tuple[str, Inode | None]] = []
        """Of a directory, for each change the name, and what it stood for before."""
        self.before: tuple[float, os.stat_result, Mount] | None = None
        """Until when others saw which attributes, and whose change was the last."""
        self.modified_ns: int | None = None
        """Of a directory: by the server's clock; None: nobody here changed it."""
        self.changed_ns: int | None = None
        self.maker: Mount | None = None
        """Who makes it exclusively and has not closed it yet."""
        self.writers: set[Mount] = set()
        """Who has something to write back."""


class Server:
    """The truth: a real directory, and what a file server knows of the files in it."""

    def __init__(
        self,
        root: str,
        clock: FakeClock,
        *,
        version: int = 4,
        seed: int = 0,
        rates: Rates | None = None,
        told: Counter[str] | None = None,
    ) -> None:
        self.root = root
        self.clock = clock
        self.version = version
        self.rates = rates or Rates()
        self.told = Counter() if told is None else told
        """How often a wrong answer of each kind was given."""
        self.asked: Counter[str] = Counter()
        """How often each function was called."""
        self.passed: Counter[str] = Counter()
        """Functions that are not emulated, and how often they were called."""
        self._seed = seed
        self._mounts = 0
        self.moment = 0
        """How many names came or went."""
        self._known: dict[str, Inode] = {}
        self._first_seen: dict[str, int] = {}

    def mount(self) -> Mount:
        """Return a node that has the directory mounted, and remembers nothing yet."""
        self._mounts += 1
        return Mount(self, random.Random(f"{self._seed} {self._mounts}"))

    def inode(self, path: str) -> Inode | None:
        """Return what is at `path` now."""
        known = self._known.get(path)
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            self._removed(path)
            return None
        if known is None or known.number != found.st_ino:
            self._removed(path)
            self._known[path] = known = Inode(found, path)
            self._see(path)
        return known

    def _removed(self, path: str) -> None:
        known = self._known.pop(path, None)
        if known is not None:
            known.is_gone = True

    def _see(self, path: str) -> None:
        """Note that from now on its random parts are known."""
        for part in _RANDOM.findall(path.rpartition("/")[2]):
            self._first_seen.setdefault(part, self.moment)

    def _was_foretold(self, name: str, moment: int) -> bool:
        """Tell whether somebody could have looked for a name at a moment."""
        seen = self._first_seen
        return all(seen.get(p, moment) < moment for p in _RANDOM.findall(name))

    def version_of(self, directory: Inode) -> tuple[int, int]:
        """Return what differs whenever the names in a directory do."""
        try:
            found = os.stat(directory.path)
        except FileNotFoundError:  # somebody removed it behind our back
            directory.is_gone = True
        else:
            directory.is_gone |= found.st_ino != directory.number
        if directory.is_gone:
            return -1, 0
        return len(directory.names_before), found.st_mtime_ns

    def changed(self, directory: Inode, name: str, before: Inode | None) -> None:
        """Note that a name came or went, and what it stood for before."""
        directory.names_before.append((name, before))
        self.moment += 1
        directory.modified_ns = directory.changed_ns = self.clock.now_ns

    def as_of(self, directory: Inode, known: _Remembered, name: str) -> Inode | None:
        """Return what a name stood for when a node last asked for a directory."""
        for changed, before in directory.names_before[max(known.version[0], 0) :]:
            if changed == name:
                if before is None and not self._was_foretold(name, known.moment):
                    break
                return before
        return self.inode(f"{directory.path}/{name}")

    def changes(self, inode: Inode, mount: Mount) -> None:
        """Keep what others see of a file until now, when a node changes it."""
        if inode.type == stat.S_IFREG and not inode.is_gone:
            found = self.attributes(inode, None)
            inode.before = self.clock.now_ns / 1e9, found, mount

    def made(self, path: str) -> Inode:
        """Note a new file or directory, and stamp it by the server's clock."""
        self._removed(path)
        inode = self.inode(path)
        assert inode is not None
        inode.modified_ns = now = self.clock.now_ns
        self.stamp(inode, now)
        return inode

    def stamp(self, inode: Inode, modified_ns: int) -> None:
        """Set when a file was modified, and that its attributes change now."""
        os.utime(inode.path, ns=(modified_ns, modified_ns), follow_symlinks=False)
        inode.changed_ns = self.clock.now_ns
        if inode.modified_ns is not None:
            inode.modified_ns = modified_ns

    def rename(self, source: str, target: str) -> None:
        """Rename for real, and let what is known follow."""
        moved, replaced = self.inode(source), self.inode(target)
        os.rename(source, target)
        if moved is None or moved is replaced:
            return
        self._removed(target)
        for path in [p for p in self._known if f"{p}/".startswith(f"{source}/")]:
            inode = self._known.pop(path)
            inode.path = target + path[len(source) :]
            self._known[inode.path] = inode
            self._see(inode.path)
        moved.changed_ns = self.clock.now_ns

    def remove(self, path: str, remove: Callable[[str], None]) -> None:
        """Unlink or remove for real."""
        self.inode(path)
        remove(path)
        self._removed(path)

    def attributes(self, inode: Inode, mount: Mount | None) -> os.stat_result:
        """Return what the server says of a file, to this node or to the others."""
        real = os.lstat(inode.path)
        fields = list(real)
        modified, changed = real.st_mtime_ns, inode.changed_ns or real.st_mtime_ns
        if stat.S_ISDIR(real.st_mode) and inode.modified_ns is not None:
            modified = inode.modified_ns
        if inode.maker not in (None, mount):
            modified = _VERIFIER_NS
            fields[stat.ST_SIZE] = 0
            if self.version == 3:
                fields[stat.ST_MODE] = stat.S_IFMT(real.st_mode)
        times = {"atime": real.st_atime_ns, "mtime": modified, "ctime": changed}
        fields[7:10] = [ns // 10**9 for ns in times.values()]
        more: dict[str, Any] = {f"st_{name}": ns / 1e9 for name, ns in times.items()}
        more.update((f"st_{name}_ns", ns) for name, ns in times.items())
        return os.stat_result(fields, more)


class _Stale(Exception):
    """A handle that is remembered is of something that is gone."""


class _Remembered:
    """What a node remembers of a directory."""

    def __init__(self, version: tuple[int, int], until: float, moment: int) -> None:
        self.version = version
        self.until = until
        self.moment = moment
        """When the server was asked, in names that came or went."""
        self.entries: dict[str, Inode | None] = {}


class _Opened:
    """What a node has open."""

    def __init__(self, inode: Inode, path: str) -> None:
        self.inode = inode
        self.path = path
        self.unwritten: list[bytes] = []
        self.listed: tuple[list[str], float] | None = None


class Mount:
    """A node: the functions of `os`, answered as an NFS client answers them."""

    def __init__(self, server: Server, chance: random.Random) -> None:
        self.server = server
        self.meanwhile: Callable[[str, str], object] | None = None
        """What others do while this node waits, if it says so.

        It is given the name of the call, `page` between the pages of a listing, and the path.
        """
        self._chance = chance
        self._directories: dict[Inode, _Remembered] = {}
        self._attributes: dict[Inode, tuple[os.stat_result, float]] = {}
        self._open: dict[int, _Opened] = {}
        self._trail: list[tuple[_Remembered, str]] = []
        self._waits = False

    def __getattr__(self, name: str) -> Any:
        function = getattr(os, name)
        if not callable(function):
            return function

        def passed(*arguments: Any, **options: Any) -> Any:
            self.server.passed[name] += 1
            return function(*arguments, **options)

        return passed

    # What is remembered

    @property
    def _now(self) -> float:
        return self.server.clock.now_ns / 1e9

    def _happens(self, rate: float) -> bool:
        return rate > 0 and self._chance.random() < rate

    def _lie(self, kind: str) -> None:
        self.server.told[kind] += 1

    def _entries(self, directory: Inode) -> _Remembered:
        """Return what is remembered of a directory, fetched again if that is too old."""
        if directory.is_gone and directory not in self._directories:
            raise _Stale
        known = self._directories.get(directory)
        if known is None:
            version, until = self.server.version_of(directory), self._fresh_until()
            known = _Remembered(version, until, self.server.moment)
            self._directories[directory] = known
        elif self._now >= known.until:
            self._revalidate(directory)
        return known

    def _fresh_until(self) -> float:
        return self._now + self._chance.uniform(*_DIRECTORY_FOR)

    def _revalidate(self, directory: Inode) -> None:
        """Ask the server whether a directory has changed, and forget its names if so."""
        version = self.server.version_of(directory)
        if directory.is_gone:
            raise _Stale
        known = self._directories.get(directory)
        if known is None:
            self._entries(directory)
            return
        if known.version != version:
            known.entries.clear()
        known.version, known.until = version, self._fresh_until()
        known.moment = self.server.moment

    def _change(self, directory: Inode, name: str, act: Callable[[str], Any]) -> Any:
        """Let the server change a name in a directory, of which this node then knows."""
        version = self.server.version_of(directory)
        if directory.is_gone:
            raise _Stale
        path = f"{directory.path}/{name}"
        before = self.server.inode(path)
        result = act(path)
        self._changed(directory, version, name, before)
        return result

    def _changed(
        self, directory: Inode, version: tuple[int, int], name: str, old: Inode | None
    ) -> None:
        known = self._entries(directory)
        self.server.changed(directory, name, old)
        if known.version != version:  # somebody else has changed it, too
            known.entries.clear()
        known.version = self.server.version_of(directory)
        known.until, known.moment = self._fresh_until(), self.server.moment

    def _look_up(self, directory: Inode, name: str) -> Inode | None:
        known = self._entries(directory)
        self._trail.append((known, name))
        if name not in known.entries or self._happens(self.server.rates.forgets):
            if directory.is_gone:
                raise _Stale
            known.entries[name] = self.server.inode(f"{directory.path}/{name}")
            if self._happens(self.server.rates.early):
                known.entries[name] = self.server.as_of(directory, known, name)
        return known.entries[name]

    def _above(self, path: str, dir_fd: int | None) -> tuple[Inode, str]:
        """Walk to the directory of a path; return that and the last name."""
        if dir_fd is not None and not path.startswith("/"):
            directory, rest = self._open[dir_fd].inode, path
        else:
            root = self.server.inode(self.server.root)
            if root is None:
                raise _error(errno.ENOENT, path)
            directory, rest = root, path[len(self.server.root) + 1 :]
        *parts, name = rest.split("/")
        for part in parts:
            inode = self._look_up(directory, part)
            if inode is None:
                raise self._missing(path)
            if inode.type == stat.S_IFREG:
                raise _error(errno.ENOTDIR, path)
            directory = inode
        if f"{directory.path}/{name}" != self._whole(path, dir_fd) and name:
            self._lie(MOVED)
        return directory, name

    def _walk(self, path: str, dir_fd: int | None) -> tuple[Inode, str, Inode]:
        """Walk to what is at a path, or raise that it is missing."""
        directory, name = self._above(path, dir_fd)
        inode = self._look_up(directory, name) if name else directory
        if inode is None:
            raise self._missing(path, dir_fd)
        return directory, name, inode

    def _whole(self, path: str, dir_fd: int | None) -> str:
        if dir_fd is None or not isinstance(path, str) or path.startswith("/"):
            return path
        return f"{self._open[dir_fd].inode.path}/{path}"

    def _missing(self, path: str, dir_fd: int | None = None) -> OSError:
        if os.path.lexists(self._whole(path, dir_fd)):
            self._lie(NEGATIVE)
        return _error(errno.ENOENT, path)

    # How the server is asked

    def _ask(self, function: str, paths: Iterable[Any], act: Callable[[], Any]) -> Any:
        """Do something by names; a handle that is stale is told, or looked up again."""
        self.server.asked[function] += 1
        first = next(iter(paths))
        self._maybe_slow(function, str(first))
        self._trail = []
        try:
            result = act()
        except _Stale:
            self._forget()
            if self._happens(self.server.rates.estale):
                self._lie(STALE)
                raise _error(errno.ESTALE, first) from None
            try:
                result = act()
            except _Stale:
                raise _error(errno.ENOENT, first) from None
        except OSError as error:
            error.filename = first if isinstance(first, str) else None
            raise
        self._maybe_slow(function, str(first))
        return result

    def _forget(self) -> None:
        """Look everything on the way up again, as the kernel does once it met ESTALE."""
        for known, name in self._trail:
            inode = known.entries.pop(name, None)
            if inode is not None:
                self._attributes.pop(inode, None)
                self._directories.pop(inode, None)
        self._trail = []

    def _maybe_slow(self, function: str, path: str) -> None:
        if self._happens(self.server.rates.slow / 2) and self._wait(function, path):
            self._lie(SLOW)

    def _wait(self, function: str, path: str) -> bool:
        """Let others act, who are not held up themselves; tell whether they did."""
        if self.meanwhile is None or self._waits:
            return False
        self._waits, trail = True, self._trail
        try:
            return bool(self.meanwhile(function, path))
        finally:
            self._waits, self._trail = False, trail

    def _maybe_lose(self, code: int) -> None:
        """Lose the reply to what was done, now and then."""
        if self._happens(self.server.rates.lost):
            self._lose(code)

    def _lose(self, code: int) -> None:
        self._lie(LOST)
        raise OSError(code, os.strerror(code))

    def _is_ours(self, path: Any, dir_fd: int | None = None) -> bool:
        if isinstance(path, int) or dir_fd is not None:
            return (path if dir_fd is None else dir_fd) in self._open
        return f"{path}/".startswith(f"{self.server.root}/")

    # Names

    def rename(
        self,
        source: str,
        target: str,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
    ) -> None:
        if not self._is_ours(source, src_dir_fd):
            os.rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            return

        def act() -> None:
            old, name, inode = self._walk(source, src_dir_fd)
            new, other = self._above(target, dst_dir_fd)
            self._write_back(inode)
            self._move(old, name, new, other)
            self._attributes.pop(inode, None)

        whole = self._whole(source, src_dir_fd), self._whole(target, dst_dir_fd)
        self._ask("rename", whole, act)

    def _move(self, old: Inode, name: str, new: Inode, other: str) -> None:
        version = self.server.version_of(new)
        path = f"{new.path}/{other}"
        if new.is_gone:
            raise _Stale
        before = self.server.inode(path)
        if before is not None:
            self.server.changes(before, self)
        try:
            self._change(old, name, lambda source: self.server.rename(source, path))
        except OSError:
            self._entries(old).entries.pop(name, None)
            self._entries(new).entries.pop(other, None)
            raise
        now = self.server.version_of(new) if new is old else version
        self._changed(new, now, other, before)
        self._entries(old).entries[name] = None
        known = self._entries(new)
        known.entries[other] = self.server.inode(path)
        if self._happens(self.server.rates.lost):
            known.entries[other], known.version = None, version
            self._lose(errno.ENOENT)

    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        self._remove("unlink", path, dir_fd)

    def rmdir(self, path: str, *, dir_fd: int | None = None) -> None:
        self._remove("rmdir", path, dir_fd)

    def _remove(self, function: str, path: str, dir_fd: int | None) -> None:
        remove = getattr(os, function)
        if not self._is_ours(path, dir_fd):
            remove(path, dir_fd=dir_fd)
            return

        def act() -> None:
            directory, name, _ = self._walk(path, dir_fd)
            known = self._entries(directory)
            before = self.server.inode(f"{directory.path}/{name}")
            if before is not None:
                self.server.changes(before, self)
            try:
                self._change(directory, name, lambda p: self.server.remove(p, remove))
            except FileNotFoundError:
                known.entries.pop(name, None)
                raise
            known.entries[name] = None
            self._maybe_lose(errno.ENOENT)

        self._ask(function, (self._whole(path, dir_fd),), act)

    def mkdir(self, path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        self._make("mkdir", path, dir_fd, lambda p: os.mkdir(p, mode))

    def mknod(
        self,
        path: str,
        mode: int = stat.S_IFREG | 0o600,
        device: int = 0,
        *,
        dir_fd: int | None = None,
    ) -> None:
        self._make("mknod", path, dir_fd, lambda p: os.mknod(p, mode, device))

    def symlink(
        self,
        target: str,
        path: str,
        target_is_directory: bool = False,
        *,
        dir_fd: int | None = None,
    ) -> None:
        self._make("symlink", path, dir_fd, lambda p: os.symlink(target, p))

    def _make(
        self,
        function: str,
        path: str,
        dir_fd: int | None,
        make: Callable[[str], Any],
        *,
        is_exclusive: bool = False,
    ) -> Any:
        """Make a name, of which the server knows best whether there is one."""
        if not self._is_ours(path, dir_fd):
            return make(self._whole(path, dir_fd))

        def act() -> Any:
            directory, name = self._above(path, dir_fd)
            known = self._entries(directory)
            try:
                made = self._change(directory, name, make)
            except FileExistsError:
                if self._happens(0.5):  # some kernels then forget that it was missing
                    known.entries.pop(name, None)
                raise
            known = self._entries(directory)
            inode = self.server.made(f"{directory.path}/{name}")
            known.entries[name] = inode
            if function == "mkdir":
                self._maybe_lose(errno.EEXIST)
            if function == "open":
                self._open[made] = _Opened(inode, path)
                inode.maker = self if is_exclusive else None
            return made

        return self._ask(function, (self._whole(path, dir_fd),), act)

    # What names lead to

    def lstat(self, path: str, *, dir_fd: int | None = None) -> os.stat_result:
        if not self._is_ours(path, dir_fd):
            return os.lstat(path, dir_fd=dir_fd)

        def act() -> os.stat_result:
            _, _, inode = self._walk(path, dir_fd)
            found = self._fetched(inode)
            if self.server.inode(self._whole(path, dir_fd)) is not inode:
                self._lie(POSITIVE)
            return found

        result: os.stat_result = self._ask("lstat", (self._whole(path, dir_fd),), act)
        return result

    def stat(
        self, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True
    ) -> os.stat_result:
        if isinstance(path, int):
            return self.fstat(path)
        if follow_symlinks and os.path.islink(self._whole(path, dir_fd)):
            return os.stat(path, dir_fd=dir_fd)
        return self.lstat(path, dir_fd=dir_fd)

    def _fetched(self, inode: Inode) -> os.stat_result:
        """Return attributes as they are remembered, or else as the server has them."""
        self._write_back(inode)
        known = self._attributes.get(inode)
        if known is None and self._happens(self.server.rates.early):
            known = self._fetched_early(inode)
        if known is None or self._now >= known[1]:
            return self._fetch(inode)
        if not inode.is_gone:
            now = self.server.attributes(inode, self)
            if any(getattr(known[0], name) != getattr(now, name) for name in _NAMES):
                is_directory = inode.type == stat.S_IFDIR
                self._lie(OF_DIRECTORY if is_directory else ATTRIBUTES)
        self._tell_of_time(known[0])
        return known[0]

    def _fetched_early(self, inode: Inode) -> tuple[os.stat_result, float] | None:
        """Remember what another process of this node could have fetched."""
        if inode.before is None or inode.before[2] is self:
            return None
        until = inode.before[0] + self._chance.uniform(*_FILE_FOR)
        self._attributes[inode] = known = inode.before[1], until
        return known

    def _fetch(self, inode: Inode) -> os.stat_result:
        if inode.is_gone:
            raise _Stale
        found = self.server.attributes(inode, self)
        until = self._now + self._chance.uniform(*_FILE_FOR)
        self._attributes[inode] = found, until
        if inode.writers - {self}:
            self._lie(UNWRITTEN)
        self._tell_of_time(found)
        return found

    def _tell_of_time(self, found: os.stat_result) -> None:
        if found.st_mtime_ns == _VERIFIER_NS:
            self._lie(GARBAGE)

    def access(self, path: str, mode: int, **options: Any) -> bool:
        dir_fd = options.get("dir_fd")
        if not self._is_ours(path, dir_fd):
            return os.access(path, mode, **options)

        def act() -> bool:
            _, _, inode = self._walk(path, dir_fd)
            return os.access(inode.path, mode)

        try:
            return bool(self._ask("access", (self._whole(path, dir_fd),), act))
        except OSError:
            return False

    def readlink(self, path: str, *, dir_fd: int | None = None) -> str:
        if not self._is_ours(path, dir_fd):
            return os.readlink(path, dir_fd=dir_fd)

        def act() -> str:
            _, _, inode = self._walk(path, dir_fd)
            if inode.is_gone:
                raise _Stale
            return os.readlink(inode.path)

        return str(self._ask("readlink", (self._whole(path, dir_fd),), act))

    def chmod(self, path: str, mode: int, *, dir_fd: int | None = None) -> None:
        if not self._is_ours(path, dir_fd):
            os.chmod(path, mode, dir_fd=dir_fd)
            return

        def act() -> None:
            inode = self._reached(path, dir_fd)
            os.chmod(inode.path, mode)
            inode.changed_ns = self.server.clock.now_ns

        self._ask("chmod", (self._whole(path, dir_fd),), act)

    def utime(
        self,
        path: Any,
        times: tuple[float, float] | None = None,
        *,
        ns: tuple[int, int] | None = None,
        dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        """Set a time; without one, the server's clock decides."""
        if not self._is_ours(path, dir_fd):
            os.utime(path, times, ns=ns, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
            return

        def act() -> None:
            inode = self._reached(path, dir_fd)
            modified = self.server.clock.now_ns
            if times is not None:
                modified = int(times[1] * 10**9)
            if inode.modified_ns is None:
                inode.modified_ns = modified
            self.server.stamp(inode, ns[1] if ns is not None else modified)

        self._ask("utime", (self._whole(path, dir_fd),), act)

    def _reached(self, path: Any, dir_fd: int | None) -> Inode:
        """Return what a change of attributes is for, and forget those of the past."""
        if isinstance(path, int):
            inode = self._open[path].inode
        else:
            inode = self._walk(path, dir_fd)[2]
        if inode.is_gone:
            raise _Stale
        self._write_back(inode)
        self.server.changes(inode, self)
        self._attributes.pop(inode, None)
        return inode

    # Listings

    def listdir(self, path: Any = ".") -> list[str]:
        if not self._is_ours(path):
            return os.listdir(path)
        whole = self._open[path].path if isinstance(path, int) else path
        names: list[str] = self._ask("listdir", (whole,), lambda: self._list(path))
        return names

    def _list(self, path: Any) -> list[str]:
        if isinstance(path, int):
            return self._list_held(self._open[path])
        _, _, inode = self._walk(path, None)
        return self._pages(inode)

    def _list_held(self, opened: _Opened) -> list[str]:
        """List by a descriptor: a second time as before, for up to a minute."""
        if opened.listed is None or self._now >= opened.listed[1]:
            opened.listed = self._pages(opened.inode), self._fresh_until()
        elif sorted(opened.listed[0]) != sorted(os.listdir(opened.inode.path)):
            self._lie(HELD_LISTING)
        return list(opened.listed[0])

    def _pages(self, inode: Inode) -> list[str]:
        self._revalidate(inode)
        pages = self._page(inode, -1)
        if pages and self._happens(self.server.rates.paged):
            pages = pages[: self._chance.randrange(1, len(pages) + 1)]
            self._wait("page", inode.path)
            if inode.is_gone:
                raise _Stale
            last = pages[-1]
            pages += self._page(inode, last[0])
            if pages != self._page(inode, -1):
                self._lie(OLD_PAGE)
        known = self._directories[inode]
        if self._happens(self.server.rates.plus):
            for _, name, found in pages:
                known.entries[name] = found
                if not found.is_gone and found not in self._attributes:
                    self._fetch(found)
        return [name for _, name, _ in pages]

    def _page(self, inode: Inode, after: int) -> list[tuple[int, str, Inode]]:
        """Return what stands after a place in a directory, in the order of hashes."""
        found = []
        for name in os.listdir(inode.path):
            place = place_of(name)
            if place > after:
                there = self.server.inode(f"{inode.path}/{name}")
                if there is not None:
                    found.append((place, name, there))
        return sorted(found, key=lambda item: item[:2])

    # Open files

    def open(
        self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
    ) -> int:
        if not self._is_ours(path, dir_fd):
            return os.open(path, flags, mode, dir_fd=dir_fd)
        is_exclusive = bool(flags & os.O_EXCL)
        is_there = os.path.lexists(self._whole(path, dir_fd))
        if flags & os.O_CREAT and (is_exclusive or not is_there):

            def make(place: str) -> int:
                return os.open(place, flags | os.O_EXCL, mode)

            made = self._make("open", path, dir_fd, make, is_exclusive=is_exclusive)
            return int(made)

        def act() -> int:
            inode = self._to_open(path, dir_fd, flags)
            place = os.devnull if inode.is_gone else inode.path
            descriptor = os.open(place, flags & ~(os.O_CREAT | os.O_DIRECTORY), mode)
            self._open[descriptor] = _Opened(inode, path)
            return descriptor

        return int(self._ask("open", (self._whole(path, dir_fd),), act))

    def _to_open(self, path: str, dir_fd: int | None, flags: int) -> Inode:
        directory, name, inode = self._walk(path, dir_fd)
        if flags & os.O_PATH:
            return inode
        if inode.type == stat.S_IFDIR:
            self._revalidate(inode)
            return inode
        now = self.server.inode(f"{directory.path}/{name}")
        if now is not inode:
            if self.server.version == 3 and not inode.is_gone:
                self._lie(OLD_NAME)
            elif now is None and self.server.version == 4:
                self._entries(directory).entries[name] = None
                raise _error(errno.ENOENT, path)
            else:
                raise _Stale  # another node has just replaced or removed it
        self._write_back(inode)
        self._fetch(inode)
        return inode

    def read(self, descriptor: int, length: int) -> bytes:
        opened = self._opened("read", descriptor)
        if opened is not None:
            self._require_open(opened.inode)
            self._write_back(opened.inode)
            if opened.inode.writers:
                self._lie(UNWRITTEN)
        return os.read(descriptor, length)

    def _require_open(self, inode: Inode) -> None:
        """Maybe raise ESTALE for a file that was removed: version 4 keeps what is open."""
        if not inode.is_gone or self.server.version == 4:
            return
        if self._happens(self.server.rates.estale):
            self._lie(STALE)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def write(self, descriptor: int, data: bytes) -> int:
        opened = self._opened("write", descriptor)
        if opened is None:
            return os.write(descriptor, data)
        opened.unwritten.append(bytes(data))
        opened.inode.writers.add(self)
        return len(data)

    def fsync(self, descriptor: int) -> None:
        opened = self._opened("fsync", descriptor)
        if opened is None:
            os.fsync(descriptor)
        else:
            self._write_back(opened.inode)

    def getxattr(self, descriptor: int, name: str) -> bytes:
        """Say that there is no such attribute: this server knows none."""
        raise _error(errno.ENOTSUP, None)

    def fstat(self, descriptor: int) -> os.stat_result:
        opened = self._opened("fstat", descriptor)
        if opened is None:
            return os.fstat(descriptor)
        if opened.inode.type == stat.S_IFDIR:
            try:
                return self._fetched(opened.inode)
            except _Stale:
                self._lie(STALE)
                raise _error(errno.ESTALE, None) from None
        self._require_open(opened.inode)
        if opened.inode.is_gone:
            return os.fstat(descriptor)
        return self._fetched(opened.inode)

    def fchmod(self, descriptor: int, mode: int) -> None:
        opened = self._opened("fchmod", descriptor)
        os.fchmod(descriptor, mode)
        if opened is not None:
            self.server.changes(opened.inode, self)
            self._attributes.pop(opened.inode, None)
            opened.inode.changed_ns = self.server.clock.now_ns

    def close(self, descriptor: int) -> None:
        opened = self._opened("close", descriptor)
        try:
            if opened is not None:
                self._write_back(opened.inode)
        finally:
            if opened is not None and opened.inode.maker is self:
                self.server.changes(opened.inode, self)
                opened.inode.maker = None
            self._open.pop(descriptor, None)
            os.close(descriptor)

    def _opened(self, function: str, descriptor: int) -> _Opened | None:
        opened = self._open.get(descriptor)
        if opened is not None:
            self.server.asked[function] += 1
            self._maybe_slow(function, opened.path)
        return opened

    def _write_back(self, inode: Inode) -> None:
        """Let the server have what this node wrote into a file."""
        if self not in inode.writers:
            return
        inode.writers.discard(self)
        self.server.changes(inode, self)
        for descriptor, opened in self._open.items():
            if opened.inode is inode and opened.unwritten:
                data, opened.unwritten = b"".join(opened.unwritten), []
                while data:
                    data = data[os.write(descriptor, data) :]
        self._attributes.pop(inode, None)
        self._require_open(inode)
        if not inode.is_gone:
            self.server.stamp(inode, self.server.clock.now_ns)


def place_of(name: str) -> int:
    """Return where a name stands in a listing: a server sorts by a hash."""
    return zlib.crc32(name.encode())


def _error(code: int, path: Any) -> OSError:
    """Return the error that `os` raises."""
    return OSError(code, os.strerror(code), path)


class _ServerClock(FakeClock):
    """The clock by which the emulated server stamps: who waits for its next tick turns it."""

    def outlast_tick(self, *, is_long: bool) -> None:
        self.advance(1.05 if is_long else 0.02)


class Nodes(World):
    """A root with one queue on an emulated server, whose clients are each on their own node.

    The time at its beginning is always the same, and so are the names of what comes then.
    """

    def __init__(
        self,
        root: Path,
        *,
        version: int = 4,
        seed: int = 0,
        rates: Rates | None = None,
        told: Counter[str] | None = None,
        **sizes: int,
    ) -> None:
        super().__init__(root, **sizes)
        super().broker(create=True).create_queue(QUEUE)
        self.clock = _ServerClock(_START)
        for directory, _, names in os.walk(self.root):
            for path in (directory, *(f"{directory}/{name}" for name in names)):
                os.utime(path, (_START, _START))
        self.server = Server(
            self.root, self.clock, version=version, seed=seed, rates=rates, told=told
        )

    def broker(self, calls: Calls | FileSystem | None = None, **options: Any) -> Broker:
        """Return a new client on a node that remembers nothing yet."""
        return self.broker_at(self.server.mount(), calls, **options)

    def broker_at(
        self, node: Mount, calls: Calls | FileSystem | None = None, **options: Any
    ) -> Broker:
        """Return a new client on this node, whose calls may pass through others."""
        fs = calls if isinstance(calls, FileSystem) else FileSystem(calls or node)
        if isinstance(fs.calls, Calls):
            fs.calls.module = node
        return super().broker(fs, **options)
