"""Roots and queues: made, listed and deleted."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ddmq.clock import Clock
from ddmq.config import SettingsFile
from ddmq.errors import InvalidArgument, InvalidSettings, QueueNotFound
from ddmq.fs import is_shared
from ddmq.locks import exclusive
from ddmq.log import warn
from ddmq.names import SETTINGS_FILE, check_queue_name, new_token
from ddmq.patience import awaited
from ddmq.settings import Settings
from ddmq.store import DIRECTORIES

if TYPE_CHECKING:
    from ddmq.fs import FileSystem

_DELETED = ".deleted-"
#: Seconds for which who creates a queue helps to remove what others deleted.
_LEFT_FOR = 2.0


def make_root(
    root: str,
    fs: FileSystem,
    mode: int | None = None,
    lock_timeout: float | None = None,
) -> None:
    """Make and initiate a root; what exists already stays as it is."""
    if lock_timeout is None:  # there are no settings yet
        lock_timeout = Settings().lock_timeout
    if fs.status(root) is None:
        _make_directories(root, fs)
        if mode is not None:
            fs.chmod(root, mode)
    if not SettingsFile(root, fs).exists():
        with exclusive(f"{root}/lock", lock_timeout):
            SettingsFile(root, fs).initiate(_file_mode(mode))


def _make_directories(path: str, fs: FileSystem) -> None:
    """Make a directory and those above it, so that a power cut leaves their names."""
    above = os.path.dirname(path)
    if fs.status(above) is None:
        _make_directories(above, fs)
    fs.mkdir(path)
    with suppress(OSError):  # we may pass through it, but not open it
        fs.sync_directory(above)


def make_queue(
    root: str, queue: str, fs: FileSystem, *, mode: int | None, lock_timeout: float
) -> bool:
    """Make and initiate a queue, or mend one that lacks a directory; False when it exists.

    Its `ddmq.yaml` comes last and makes it a queue: after a crash, do it again. One whose
    layout we don't know is left alone.
    """
    with exclusive(f"{root}/lock", lock_timeout):
        _remove_deleted(root, fs, patient=False)
        path, is_new = f"{root}/{queue}", not is_queue(root, queue, fs)
        file = SettingsFile(path, fs, of_queue=True)
        if not is_new:
            file.check_layout()
        for directory in (path, *(f"{path}/{name}" for name in DIRECTORIES)):
            fs.mkdir(directory)
            fs.require_directory(directory)  # no link to somewhere else
            if mode is not None and is_new:
                fs.chmod(directory, mode)
        if (
            fs.status(f"{path}/lock") is None
        ):  # a full disk must not keep us from cleaning
            fs.create(f"{path}/lock", b"", sync=False, mode=_file_mode(mode))
        made = file.initiate(_file_mode(mode))
        fs.sync_directory(root)
    return made


def delete_queue(root: str, queue: str, fs: FileSystem, lock_timeout: float) -> None:
    """Delete a queue with all its messages: it is gone at once, its files a little later.

    Of two that delete, one does it and the other raises QueueNotFound. What a crash
    leaves is removed by the next administrator. A queue of a later ddmq is left alone.
    """
    with exclusive(f"{root}/lock", lock_timeout):
        if not is_queue(root, queue, fs):
            raise queue_not_found(root, queue)
        with suppress(InvalidSettings, OSError):  # what is broken can be deleted
            SettingsFile(f"{root}/{queue}", fs, of_queue=True).check_layout()
        _refuse_what_is_not_ours(f"{root}/{queue}", fs)
        fs.replace(f"{root}/{queue}", f"{root}/{_DELETED}{new_token()}")
        fs.let_go()  # what we hold of it has moved, too
        _remove_deleted(root, fs, patient=True)


def _remove_deleted(root: str, fs: FileSystem, *, patient: bool) -> None:
    for name in fs.hidden(root):
        if name.startswith(_DELETED):
            path = f"{root}/{name}"
            found = fs.status(path)
            if found is not None and not found.is_directory:
                fs.discard(path)
            else:
                removing = Clock().begin(partial(fs.remove_tree, path))
                if not removing.ends_within(_LEFT_FOR):
                    if not patient:
                        return
                    awaited(removing, partial(str, f"{path} is not removed yet"))
            if fs.status(path) is not None:
                warn(
                    f"{path}: what was deleted could not be removed entirely; remove it by hand"
                )


def _refuse_what_is_not_ours(path: str, fs: FileSystem) -> None:
    """Raise PermissionError unless all directories of a queue can be emptied by us."""
    for directory in (path, *(f"{path}/{name}" for name in DIRECTORIES)):
        found = fs.status(directory)
        if found is not None and not fs.may_change(directory):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), directory)


def is_queue(root: str, queue: str, fs: FileSystem) -> bool:
    """Tell whether there is an initiated queue of this name."""
    try:
        if not fs.exists(f"{root}/{queue}"):
            return False
        fs.require_directory(f"{root}/{queue}")
        return fs.exists(f"{root}/{queue}/{SETTINGS_FILE}")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:  # it may be one; whoever uses it will be told
        return True


def queues(root: str, fs: FileSystem) -> list[str]:
    """Return the names of all queues, sorted."""
    return sorted(
        name
        for name in fs.listing(root)
        if may_be_queue(name) and is_queue(root, name, fs)
    )


def may_be_queue(name: str) -> bool:
    """Tell whether a queue can have this name."""
    try:
        return check_queue_name(name) == name
    except InvalidArgument:
        return False


def queue_not_found(root: str, queue: str) -> QueueNotFound:
    """Return the error for a queue that is not there."""
    return QueueNotFound(
        f"{root}/{queue}: no such queue; create it with `ddmq create` or -f (create=True)"
    )


def checked_mode(mode: int | None) -> int | None:
    """Return `mode`, or raise InvalidArgument unless a queue can be used with it."""
    if mode is None or _is_usable(mode):
        return mode
    raise InvalidArgument(
        f"mode {mode:o} can't be used; for a queue of your own use 700, for a group 2770"
    )


def _is_usable(mode: int) -> bool:
    """Tell whether its owner may do all, and others too wherever they may write.

    Files take the group of a directory only with setgid; in a sticky one, nobody could
    consume what another published.
    """
    if not 0 <= mode <= 0o7777 or mode & stat.S_IRWXU != stat.S_IRWXU:
        return False
    if mode & stat.S_ISVTX:
        return False
    return not mode & (stat.S_IWGRP | stat.S_IWOTH) or bool(mode & stat.S_ISGID)


def shared_mode(root: str, fs: FileSystem) -> int | None:
    """Return the mode of a root that a group shares, else None."""
    found = fs.status(root)
    if found is None or not is_shared(found.mode) or found.mode & stat.S_ISVTX:
        return None
    return stat.S_IMODE(found.mode)


def _file_mode(mode: int | None) -> int | None:
    return None if mode is None else mode & 0o666
