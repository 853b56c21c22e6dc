"""Directories that are held open: what is done in them is done by name.

A path means something else as soon as somebody who may write above it swaps a directory for
another, or for a link. So below a root each directory is opened once, relative to the one that it
is in, no link followed, and then used through its descriptor: nobody can lead us out of the root.

A descriptor follows its directory when that is renamed. So it is compared with the name when a
queue is checked (once a second while it is used), whenever the directory is listed, and when a
call finds nothing or a stale handle; another directory that has the name then takes its place.
"""

from __future__ import annotations

import errno
import os
from typing import Any

#: Answers that say that there is nothing of this name, or that a handle is of what is gone.
GONE = (errno.ENOENT, errno.ESTALE)
#: Answers after which we hold nothing any more: we may have too many, or somebody closed ours.
_LET_GO = (errno.EMFILE, errno.ENFILE, errno.EBADF)
_HELD = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
#: How many directories are held at most: this, or a 32nd of the descriptors that we may have.
_MOST = 32


class Directory:
    """A directory that is open as long as somebody refers to this object.

    So one that is held no more is closed after the last call in it, whichever thread makes that.
    """

    __slots__ = ("_calls", "_process", "descriptor")

    def __init__(self, descriptor: int, calls: Any) -> None:
        self.descriptor = descriptor
        self._calls = calls
        self._process = os.getpid()

    def __del__(self) -> None:
        # A process that was forked may have closed all, and its numbers are of other files.
        if self._process == os.getpid():
            self._calls.close(self.descriptor)

    def status(self) -> os.stat_result:
        """Tell what it is, and how it is stamped."""
        found: os.stat_result = self._calls.fstat(self.descriptor)
        return found

    def is_what(self, found: os.stat_result) -> bool:
        """Tell whether this is the directory of which the system said so."""
        try:
            ours = self.status()
        except OSError:  # it is stale
            return False
        return (ours.st_dev, ours.st_ino) == (found.st_dev, found.st_ino)


class _Nothing:
    """Stands for no directory: a path is used as it is."""

    descriptor = None


_NOTHING = _Nothing()


class Directories:
    """System calls that take paths. Safe to use from several threads, and after a fork.

    Below the roots that were told they are made by name, in directories that are held; anywhere
    else by path. An `OSError` names the path.
    """

    def __init__(self, calls: Any) -> None:
        self.calls = calls
        self._roots: tuple[str, ...] = ()
        self._held: dict[str, Directory] = {}
        self._most = max(1, min(_MOST, os.sysconf("SC_OPEN_MAX") // 32))

    def hold_below(self, root: str) -> None:
        """Hold the directories of a root, whose own path nobody else can change."""
        if root not in self._roots:
            self._roots += (root,)

    # Calls by name

    def _call(self, name: str, path: str, *arguments: Any, **options: Any) -> Any:
        """Make a system call for a path, a second time if the directory is another one now."""
        held = None
        for is_last in (False, True):
            try:
                held, own_name = self._above(path)
                call = getattr(self.calls, name)
                return call(own_name, *arguments, dir_fd=held.descriptor, **options)
            except OSError as error:
                error.filename = path
                if is_last or held is None:
                    raise
                if not self._may_succeed_now(error, held, name, arguments):
                    raise
        raise AssertionError(path)

    def _above(self, path: str) -> tuple[Directory | _Nothing, str]:
        """Return the directory in which a path is, and its name there."""
        directory, _, name = path.rpartition("/")
        held = self._held.get(directory)
        if held is not None:
            return held, name
        if self._is_ours(directory):
            return self._hold(directory), name
        return _NOTHING, path

    def _is_ours(self, directory: str) -> bool:
        return any(f"{directory}/".startswith(f"{root}/") for root in self._roots)

    def _may_succeed_now(
        self,
        error: OSError,
        held: Directory | _Nothing,
        call: str,
        arguments: tuple[Any, ...],
    ) -> bool:
        """Open the directory of a call that failed afresh; tell whether it may succeed now.

        A handle that is stale says so. Where something is made, what is missing can only be
        the directory; anywhere else it is looked for, or taken for gone, by who asks.
        """
        if isinstance(held, _Nothing):
            return False
        if error.errno in _LET_GO:
            self.let_go()
            return True
        makes = call in ("mkdir", "mknod") or (
            call == "open" and arguments[0] & os.O_CREAT
        )
        if error.errno != errno.ESTALE and not (makes and error.errno == errno.ENOENT):
            return False
        try:
            now = self.opened(str(error.filename).rpartition("/")[0])
            # A stale handle is of what is gone, though a server may use its number again.
            return error.errno == errno.ESTALE or not held.is_what(now.status())
        except OSError:
            return False

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        """Open a file; return its descriptor."""
        return int(self._call("open", path, flags, mode))

    def unlink(self, path: str) -> None:
        """Remove a file."""
        self._call("unlink", path)

    def mkdir(self, path: str) -> None:
        """Make a directory."""
        self._call("mkdir", path)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        self._call("rmdir", path)
        if path in self._held:
            self.forget(path)

    def mknod(self, path: str, mode: int) -> None:
        """Make a file."""
        self._call("mknod", path, mode)

    def readlink(self, path: str) -> str:
        """Read where a link leads."""
        return str(self._call("readlink", path))

    def touch(self, path: str) -> None:
        """Set the times of a file or directory to those of the server's clock."""
        self._call("utime", path, None, follow_symlinks=False)

    def may_change(self, directory: str) -> bool:
        """Tell whether we may add names to a directory and remove them."""
        try:
            return bool(self._call("access", directory, os.W_OK | os.X_OK))
        except OSError:
            return False

    def symlink(self, target: str, path: str) -> None:
        """Make a symbolic link."""
        held, name = self._above(path)
        try:
            self.calls.symlink(target, name, dir_fd=held.descriptor)
        except OSError as error:
            error.filename, error.filename2 = path, None
            raise

    def lstat(self, path: str) -> os.stat_result:
        """Tell what a path is, no link followed; what is not there is not looked for again."""
        try:
            held, name = self._above(path)
            found: os.stat_result = self.calls.lstat(name, dir_fd=held.descriptor)
        except OSError as error:
            error.filename = path
            if error.errno != errno.ESTALE:
                raise
            found = self._call("lstat", path)
        return found

    def rename(self, source: str, target: str) -> None:
        """Rename a file or directory; what is held of it, and below it, is let go.

        Where something is called missing or stale, the directory of the target is opened
        afresh, and if it was another one, this is done once more. An error that names that
        directory says that it is gone.
        """
        for is_last in (False, True):
            new: Directory | _Nothing | None = None
            try:
                old, name = self._above(source)
                new, other = self._above(target)
                self.calls.rename(
                    name, other, src_dir_fd=old.descriptor, dst_dir_fd=new.descriptor
                )
                break
            except OSError as error:
                error.filename, error.filename2 = source, target
                if is_last or error.errno not in GONE:
                    raise
                if not self._may_be_there(error, new):
                    raise
        if source in self._held:
            self.forget(source)

    def _may_be_there(self, error: OSError, new: Directory | _Nothing | None) -> bool:
        """Open the directories of a rename afresh; tell whether it was done in others.

        Of a source that is called missing, this says nothing: it was there when it was listed.
        """
        now = self.opened(str(error.filename2).rpartition("/")[0])
        if error.errno == errno.ESTALE:
            self.opened(str(error.filename).rpartition("/")[0])
            return True  # though a server may use the number of what is gone again
        if isinstance(new, _Nothing):
            return False
        return new is None or not new.is_what(now.status())

    # Directories

    def opened(self, path: str) -> Directory:
        """Open a directory afresh, for reading: only then NFS and GlusterFS tell what is true.

        Below a root it is held from now on, in place of any that was.
        """
        try:
            if not self._is_ours(path):
                return Directory(
                    self.calls.open(path, _READ | os.O_NOFOLLOW), self.calls
                )
            return self._hold(path, _READ)
        except OSError as error:
            error.filename = path
            raise

    def compare(self, path: str, found: os.stat_result) -> None:
        """Let go of a directory that is not what its name stands for now."""
        held = self._held.get(path)
        if held is not None and not held.is_what(found):
            self.forget(path)

    def forget(self, path: str) -> None:
        """Let go of a directory, and of all that were opened through it."""
        for known in list(self._held):
            if f"{known}/".startswith(f"{path}/"):
                self._held.pop(known, None)

    def let_go(self) -> None:
        """Let go of all of them; the next call opens them again."""
        self._held.clear()

    def _hold(self, path: str, flags: int = _HELD) -> Directory:
        try:
            opened = self._open(path, flags)
        except OSError as error:
            if error.errno in GONE:
                self.forget(path)
            raise
        # No lock, which a fork might leave locked: each of these is done in one step.
        self._held.pop(path, None)
        self._held[path] = opened
        for oldest in list(self._held)[: -self._most]:
            self._held.pop(oldest, None)
        return opened

    def _open(self, path: str, flags: int) -> Directory:
        """Open a directory by its name in the one above, which is opened afresh if it is missing.

        An NFS client may have looked for it too early, or the one above be another one by now.
        """
        try:
            return self._open_once(path, flags)
        except OSError as error:
            if error.errno in _LET_GO:
                self.let_go()
            elif error.errno not in GONE or path in self._roots:
                raise
            else:
                self.opened(path.rpartition("/")[0])
        return self._open_once(path, flags)

    def _open_once(self, path: str, flags: int) -> Directory:
        if path in self._roots:
            return Directory(self.calls.open(path, flags), self.calls)
        above, name = self._above(path)
        flags |= os.O_NOFOLLOW
        descriptor = self.calls.open(name, flags, dir_fd=above.descriptor)
        return Directory(descriptor, self.calls)
