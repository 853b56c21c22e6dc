"""How roots and queues are made and deleted."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ddmq.clock import Clock
from ddmq.errors import InvalidArgument, InvalidSettings, QueueNotFound, warn
from ddmq.settings import Settings
from ddmq.storage.background import wait_for
from ddmq.storage.filesystem import is_shared
from ddmq.storage.layout import DIRECTORIES, KEYS, THEN, WORKERS, is_queue
from ddmq.storage.locks import exclusive
from ddmq.storage.names import hidden_name, new_token
from ddmq.storage.settings_file import SettingsFile

if TYPE_CHECKING:
    from ddmq.storage.filesystem import FileSystem

#: How hidden names begin of what is to go: of deleted queues, and of what is not made yet.
_DELETED = ".deleted-"
#: Seconds for which a client that creates a queue removes what others deleted.
_LEFT_FOR = 2.0


def make_root(
    root: str,
    fs: FileSystem,
    mode: int | None = None,
    lock_timeout: float | None = None,
) -> None:
    """Make and initiate a root; one that exists stays as it is."""
    if lock_timeout is None:  # there are no settings yet
        lock_timeout = Settings().lock_timeout
    if fs.status(root) is None:
        _make_directories(root, fs, mode)
    if not SettingsFile(root, fs).exists():
        with exclusive(f"{root}/lock", lock_timeout):
            SettingsFile(root, fs).initiate(_file_mode(mode))


def _make_directories(path: str, fs: FileSystem, mode: int | None = None) -> None:
    """Make a directory and those above it; their names survive a power cut.

    A crash leaves none that has not its `mode`, since one that exists stays as it is.
    """
    above, name = os.path.split(path)
    if fs.status(above) is None:
        _make_directories(above, fs)
    if mode is None:
        fs.mkdir(path)
    else:
        _make_with_mode(path, mode, f"{above.rstrip('/')}/{hidden_name(name)}", fs)
    with suppress(OSError):  # we may be allowed to pass through it, but not to open it
        fs.sync_directory(above)


def _make_with_mode(path: str, mode: int, draft: str, fs: FileSystem) -> None:
    """Make a directory with a mode, unless it exists. An error names it, and no draft."""
    try:
        fs.mkdir_with_mode(path, mode, draft)
    except OSError as error:
        if error.filename == draft:
            error.filename = path
        raise


def make_queue(
    root: str, queue: str, fs: FileSystem, *, mode: int | None, lock_timeout: float
) -> bool:
    """Make and initiate a queue, or mend one that lacks a directory; False when it exists.

    Its `ddmq.yaml` is written last, and makes the directory a queue. After a crash, call this
    again. A queue whose layout we don't know stays as it is.
    """
    with exclusive(f"{root}/lock", lock_timeout):
        _remove_deleted(root, fs, patient=False)
        path, is_new = f"{root}/{queue}", not is_queue(root, queue, fs)
        file = SettingsFile(path, fs, of_queue=True)
        if not is_new:
            file.check_layout()
        for directory in (path, *(f"{path}/{name}" for name in DIRECTORIES)):
            _make_directory(directory, fs, mode if is_new else None)
        # It is made now, since on a full disk nobody could make it in order to clean.
        if fs.status(f"{path}/lock") is None:
            _make_lock(path, fs, _file_mode(mode), is_new=is_new)
        for name in fs.hidden(path):  # of a client that died while it made the queue
            if name.startswith(_DELETED) and not fs.rmdir(f"{path}/{name}"):
                fs.discard(f"{path}/{name}")
        made = file.initiate(_file_mode(mode))
        fs.sync_directory(root)
    return made


def _make_directory(path: str, fs: FileSystem, mode: int | None) -> None:
    """Make a directory unless it exists, and give it a mode that it has not.

    A crash leaves none that others can't use: they go on where its maker died.
    """
    if mode is None:
        fs.mkdir(path)
    elif fs.status(path) is None:
        draft = f"{os.path.dirname(path)}/{_DELETED}{new_token()}"
        _make_with_mode(path, mode, draft, fs)
    found = fs.require_directory(path)  # no link to somewhere else
    if mode is not None and stat.S_IMODE(found.mode) != mode:
        fs.chmod(path, mode)


def _make_lock(path: str, fs: FileSystem, mode: int | None, *, is_new: bool) -> None:
    """Make the lock file of a queue; nobody locks that of one which is not made yet."""
    lock = f"{path}/lock"
    if not is_new:
        fs.create(lock, b"", sync=False, mode=mode)
        return
    draft = f"{path}/{_DELETED}{new_token()}"
    fs.create_own(draft, b"", sync=False, mode=mode)
    fs.replace(draft, lock)


def delete_queue(root: str, queue: str, fs: FileSystem, lock_timeout: float) -> None:
    """Delete a queue with all its messages: it is gone at once, its files a little later.

    When two clients delete it, one of them raises QueueNotFound. The next administrator
    removes what a crash leaves. A queue of a later ddmq stays as it is.
    """
    with exclusive(f"{root}/lock", lock_timeout):
        if not is_queue(root, queue, fs):
            raise QueueNotFound(f"{root}/{queue}: no such queue", root, queue)
        path = f"{root}/{queue}"
        with suppress(InvalidSettings, OSError):  # what is broken can be deleted
            SettingsFile(path, fs, of_queue=True).check_layout()
        names = (*DIRECTORIES, THEN, WORKERS, KEYS)
        for directory in (path, *(f"{path}/{name}" for name in names)):
            # What stands in the place of one is removed like a file.
            if fs.is_directory(directory) and not fs.may_change(directory):
                text = os.strerror(errno.EACCES)
                raise PermissionError(errno.EACCES, text, directory)
        fs.replace(path, f"{root}/{_DELETED}{new_token()}")
        fs.let_go()  # the directories that we hold open have moved, too
        _remove_deleted(root, fs, patient=True)


def _remove_deleted(root: str, fs: FileSystem, *, patient: bool) -> None:
    """Remove the files of deleted queues; unless `patient`, stop when one takes long."""
    for name in fs.hidden(root):
        if not name.startswith(_DELETED):
            continue
        path = f"{root}/{name}"
        if fs.rmdir(path):  # it may be closed to us, but empty
            continue
        found = fs.status(path)
        if found is not None and not found.is_directory:
            fs.discard(path)
        else:
            removing = Clock().begin(partial(fs.remove_tree, path))
            is_late = not removing.ends_within(_LEFT_FOR)
            if is_late and not patient:
                return
            if is_late:
                wait_for(removing, partial(str, f"{path} is not removed yet"))
        if fs.status(path) is not None:
            what = "what was deleted could not be removed entirely"
            warn(f"{path}: {what}; remove it by hand")


def checked_mode(mode: Any) -> int | None:
    """Return `mode`, or raise InvalidArgument unless a queue can be used with it.

    The owner must have all rights. Where others may write, the directories need setgid, so
    that files get the directory's group. They must not be sticky: then nobody could consume
    what another user published.
    """
    if mode is None:
        return None
    if not isinstance(mode, int):
        raise InvalidArgument(f"mode is {mode!r:.60}; it must be a number, as 0o2770")
    is_owners = 0 <= mode <= 0o7777 and mode & stat.S_IRWXU == stat.S_IRWXU
    is_shared_well = mode & stat.S_ISGID or not mode & (stat.S_IWGRP | stat.S_IWOTH)
    if is_owners and is_shared_well and not mode & stat.S_ISVTX:
        return mode
    raise InvalidArgument(
        f"mode {mode:o} can't be used; for a queue of your own use 700, for a group 2770"
    )


def shared_mode(root: str, fs: FileSystem) -> int | None:
    """Return the mode of a root that a group shares; None when it is not shared."""
    found = fs.status(root)
    if found is None or not is_shared(found.mode) or found.mode & stat.S_ISVTX:
        return None
    return stat.S_IMODE(found.mode)


def _file_mode(mode: int | None) -> int | None:
    return None if mode is None else mode & 0o666
