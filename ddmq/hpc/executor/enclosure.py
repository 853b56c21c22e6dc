"""Directories that are closed to others, so that what is read there was written by their user."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from ddmq.errors import InvalidArgument, StorageError
from ddmq.printable import printable

_OF_OTHERS = stat.S_IWGRP | stat.S_IWOTH
#: A directory that may be passed through need not be readable; only Linux has it.
_PASS = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", 0)
_SHARED = "shared=True trusts all who may write there with every function that workers may call"
_PICKLED = (
    "what is unpickled runs as you, so serializer='cloudpickle' needs directories to which "
    "nobody else may write"
)
_THEIRS = "belongs to somebody else; name another one"
_OPEN = "may be written to by others; `chmod -R go-w` it, or name another one"
_MOVED = "is another directory than a moment ago; try again"


# For calls of functions in some modules


def require_own_names(root: str) -> None:
    """Raise InvalidArgument where others may put another directory in the place of a queue."""
    with suppress(FileNotFoundError):  # the broker says that
        mode = os.stat(root).st_mode
        if mode & _OF_OTHERS and not mode & stat.S_ISVTX:
            raise InvalidArgument(
                f"{root}: others may write there, and so replace a queue; `chmod go-w` or "
                f"`chmod +t` it, or use a root of your own; {_SHARED}"
            )


def require_own(path: str, held: os.stat_result | None = None) -> None:
    """Raise InvalidArgument where others may write to a directory; it need not be there yet.

    `held` is the one that was opened: it must be the one that is there.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(error) from error
    if not stat.S_ISDIR(found.st_mode):
        what = "is a link, or no directory; name the directory itself"
    elif held is not None and not os.path.samestat(found, held):
        what = _MOVED
    else:
        what = _fault_of_own(found)
    if what:
        raise InvalidArgument(f"{path}: it {what}; {_SHARED}")


# For pickles


class Enclosure:
    """Directories that nobody but us can write to, or put another in the place of.

    They and all above them are held open, and each `check` looks at what is held. While all
    belong to us (those above: or to root) and are closed to others, nobody else can exchange one
    for another. Those above may be sticky instead, as /tmp is.
    """

    def __init__(self, *paths: str) -> None:
        """Hold directories, whose paths have no links in them; InvalidArgument: one is open."""
        self._held: dict[str, int] = {}
        self._own = paths
        try:
            for path in paths:
                self._hold(path)
            self.check()
        except BaseException:
            self.close()
            raise

    def _hold(self, path: str) -> int:
        """Open a directory by way of those above it; "" is the first one."""
        if path not in self._held:
            above, _, name = path.rpartition("/")
            at = self._hold(above) if path else None
            try:
                self._held[path] = os.open(name or "/", _PASS, dir_fd=at)
            except OSError as error:  # a link since a moment ago, too
                error.filename = path
                raise StorageError(error) from error
        return self._held[path]

    def check(self) -> None:
        """Raise InvalidArgument where somebody else may write by now."""
        for path, descriptor in self._held.items():
            found = os.fstat(descriptor)
            if path in self._own:
                what = _fault_of_own(found)
                if not what and not _is_at(path, found):
                    what = _MOVED
            else:
                what = _fault_above(found)
            if what:
                raise InvalidArgument(f"{path or '/'}: it {what}; {_PICKLED}")

    def holds(self, path: str, found: os.stat_result) -> bool:
        """Tell whether this is the directory that is held for a path."""
        return os.path.samestat(found, os.fstat(self._held[path]))

    def close(self) -> None:
        """Let go of them."""
        while self._held:
            os.close(self._held.popitem()[1])


def check_below(path: str) -> None:
    """Raise InvalidArgument where somebody else made something below, or may do so.

    He may have done that while it was open to him. He may do it later where he held a directory
    open then, and that one was not closed with those above it.
    """
    try:
        for place, directories, files, at in os.fwalk(path, onerror=_refuse):
            for name in (*directories, *files):
                with suppress(FileNotFoundError):  # it was moved on
                    found = os.stat(name, dir_fd=at, follow_symlinks=False)
                    what = _fault_of_own(found)
                    if what == _THEIRS or (what and stat.S_ISDIR(found.st_mode)):
                        where = printable(f"{place}/{name}")
                        raise InvalidArgument(f"{where}: it {what}; {_PICKLED}")
    except OSError as error:
        raise StorageError(error) from error


def is_own_file(found: os.stat_result) -> bool:
    """Tell whether a file is ours, and nobody else may write to it."""
    return not _fault_of_own(found)


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _is_at(path: str, held: os.stat_result) -> bool:
    with suppress(OSError):
        return os.path.samestat(held, os.lstat(path))
    return False


def _fault_of_own(found: os.stat_result) -> str:
    """Say what is wrong with what must be ours alone; empty: nothing."""
    if found.st_uid != os.geteuid():
        return _THEIRS
    return _OPEN if found.st_mode & _OF_OTHERS else ""


def _fault_above(found: os.stat_result) -> str:
    """Say what is wrong with a directory above; empty: only root and we move what is in it."""
    if found.st_uid not in (0, os.geteuid()):
        return _THEIRS
    is_open = found.st_mode & _OF_OTHERS and not found.st_mode & stat.S_ISVTX
    return _OPEN.replace("-R ", "") if is_open else ""
