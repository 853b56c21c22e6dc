"""Directories that this process holds open, so that nobody can lead it out of a root.

Anybody who may write above a directory can swap it for another one, or for a link. Then the same
path means something else. So below a root, each directory is opened once, by its name in the
directory above it, and no link is followed. From then on its files are used by name, relative to
the descriptor.

A descriptor follows its directory when that is renamed. So we compare it with the name: when a
queue is checked (once a second while it is used), whenever the directory is listed, and when a
call finds nothing or a stale handle. If another directory has the name by then, we open that.
"""

from __future__ import annotations

import errno
import os
from typing import Any

#: Errors that say that nothing has this name, or that what a handle stands for is gone.
GONE = (errno.ENOENT, errno.ESTALE)
#: Errors that say that too many files are open, in this process or on this node.
NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
#: Errors after which we close all directories: too many files are open, or ours were closed.
_LET_GO = (*NO_DESCRIPTOR, errno.EBADF)
_HELD = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
#: The most directories that a client holds open (`most_held`).
MOST_HELD = 32
#: It holds at most this part of the descriptors that its process may have.
SHARE = 32


class _Process:
    """The process that we are. To ask the system for it is a call for each directory opened."""

    number = os.getpid()

    @classmethod
    def was_forked(cls) -> None:
        """Note that this is the child of the one that was known."""
        cls.number = os.getpid()


os.register_at_fork(after_in_child=_Process.was_forked)


class Directory:
    """A directory that is open as long as something refers to this object.

    So it is closed after the last call that uses it, in whichever thread that is.
    """

    __slots__ = ("_calls", "_process", "descriptor")

    def __init__(self, descriptor: int, calls: Any) -> None:
        self.descriptor = descriptor
        self._calls = calls
        self._process = _Process.number

    def __del__(self) -> None:
        # A forked process may have closed all descriptors, and use their numbers for other files.
        if self._process == _Process.number:
            self._calls.close(self.descriptor)

    def status(self) -> os.stat_result:
        """Return its status, times included."""
        found: os.stat_result = self._calls.fstat(self.descriptor)
        return found

    def is_what(self, found: os.stat_result) -> bool:
        """Tell whether this is the directory that has the status `found`."""
        try:
            ours = self.status()
        except OSError:  # it is stale
            return False
        return (ours.st_dev, ours.st_ino) == (found.st_dev, found.st_ino)


class Nothing:
    """Stands for no held directory: a path is used as it is."""

    descriptor = None


NOTHING = Nothing()


def most_held() -> int:
    """Return how many directories a client holds open at most, by the limit of its process."""
    return max(1, min(MOST_HELD, os.sysconf("SC_OPEN_MAX") // SHARE))


class Directories:
    """The directories that are held. Safe to use from several threads, and after a fork.

    Only directories below the roots given to `hold_below` are held. Any other path is used as it
    is.
    """

    def __init__(self, calls: Any) -> None:
        self.calls = calls
        self.held: dict[str, Directory] = {}
        """By path. A call that uses one refers to it meanwhile, so that it stays open."""
        self._roots: tuple[str, ...] = ()
        self._most = most_held()

    def hold_below(self, root: str) -> None:
        """Hold the directories of a root, whose own path nobody else can change, from now on."""
        if root not in self._roots:
            self._roots += (root,)

    def above(self, path: str) -> tuple[Directory | Nothing, str]:
        """Return the directory that holds a path, opened if need be, and the name there."""
        directory, _, name = path.rpartition("/")
        held = self.held.get(directory)
        if held is not None:
            return held, name
        if self._is_ours(directory):
            return self._hold(directory), name
        return NOTHING, path

    def call(self, name: str, path: str, *arguments: Any, **options: Any) -> Any:
        """Make a system call for a path, once; an `OSError` names the path."""
        try:
            held, own_name = self.above(path)
            call = getattr(self.calls, name)
            return call(own_name, *arguments, dir_fd=held.descriptor, **options)
        except OSError as error:
            error.filename = path
            raise

    def _is_ours(self, directory: str) -> bool:
        return any(f"{directory}/".startswith(f"{root}/") for root in self._roots)

    def may_succeed_now(
        self, error: OSError, held: Directory | Nothing, *, makes: bool
    ) -> bool:
        """Open the directory of a failed call afresh; tell whether the call may succeed now.

        ESTALE says that a handle is stale. ENOENT, for a call that makes something, can only
        mean that the directory is missing. For any other call, ENOENT is the caller's to judge.
        """
        if isinstance(held, Nothing):
            return False
        if error.errno in _LET_GO:
            self.let_go()
            return True
        if error.errno != errno.ESTALE and not (makes and error.errno == errno.ENOENT):
            return False
        try:
            now = self.opened(str(error.filename).rpartition("/")[0])
            # What a stale handle stands for is gone, though a server may reuse its inode number.
            return error.errno == errno.ESTALE or not held.is_what(now.status())
        except OSError:
            return False

    def may_be_there(self, error: OSError, new: Directory | Nothing | None) -> bool:
        """Open the directories of a failed rename afresh; tell whether it may succeed now.

        It may if the target's directory is another one now. The source is not looked for: a
        listing showed it.
        """
        now = self.opened(str(error.filename2).rpartition("/")[0])
        if error.errno == errno.ESTALE:
            self.opened(str(error.filename).rpartition("/")[0])
            return True  # though a server may reuse the inode number of what is gone
        if isinstance(new, Nothing):
            return False
        return new is None or not new.is_what(now.status())

    def opened(self, path: str) -> Directory:
        """Open a directory afresh, for reading. Only then NFS and GlusterFS show its present state.

        Below a root it is held from now on, in place of the one held before.
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
        """Let go of a directory if its name now stands for another one, with status `found`."""
        held = self.held.get(path)
        if held is not None and not held.is_what(found):
            self.forget(path)

    def forget(self, path: str) -> None:
        """Let go of a directory, and of all below it."""
        for known in list(self.held):
            if f"{known}/".startswith(f"{path}/"):
                self.held.pop(known, None)

    def let_go(self) -> None:
        """Let go of all of them; the next call opens them again."""
        self.held.clear()

    def _hold(self, path: str, flags: int = _HELD) -> Directory:
        try:
            opened = self._open(path, flags)
        except OSError as error:
            if error.errno in GONE:
                self.forget(path)
            raise
        # No lock, since a fork might leave it locked. Each of these statements is atomic.
        self.held.pop(path, None)
        self.held[path] = opened
        for oldest in list(self.held)[: -self._most]:
            self.held.pop(oldest, None)
        return opened

    def _open(self, path: str, flags: int) -> Directory:
        """Open a directory by its name in the one above; if it is missing, open that afresh first.

        An NFS client may have looked for it too early, or the one above may be replaced by now.
        """
        try:
            return self._open_once(path, flags)
        except OSError as error:
            if error.errno not in GONE or path in self._roots:
                raise
            self.opened(path.rpartition("/")[0])
        return self._open_once(path, flags)

    def _open_once(self, path: str, flags: int) -> Directory:
        """Open it; if there is no descriptor for it, let go of those that we hold first."""
        try:
            return self._open_by_name(path, flags)
        except OSError as error:
            if error.errno not in _LET_GO:
                raise
            self.let_go()
        return self._open_by_name(path, flags)

    def _open_by_name(self, path: str, flags: int) -> Directory:
        if path in self._roots:
            return Directory(self.calls.open(path, flags), self.calls)
        above, name = self.above(path)
        flags |= os.O_NOFOLLOW
        descriptor = self.calls.open(name, flags, dir_fd=above.descriptor)
        return Directory(descriptor, self.calls)
