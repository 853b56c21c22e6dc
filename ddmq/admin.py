"""Roots and queues: made, listed and deleted."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from ddmq.config import SettingsFile
from ddmq.errors import InvalidArgument, QueueNotFound
from ddmq.locks import exclusive
from ddmq.names import SETTINGS_FILE, check_queue_name, new_token
from ddmq.settings import Settings
from ddmq.store import DIRECTORIES

if TYPE_CHECKING:
    from ddmq.fs import FileSystem

_DELETED = ".deleted-"


def make_root(root: str, fs: FileSystem, mode: int | None = None) -> None:
    """Make and initiate a root; what exists already stays as it is."""
    if fs.status(root) is None:
        os.makedirs(root, exist_ok=True)
        if mode is not None:
            fs.chmod(root, mode)
    if not SettingsFile(root, fs).exists():
        with exclusive(f"{root}/lock", Settings().lock_timeout):
            SettingsFile(root, fs).initiate(_file_mode(mode))


def make_queue(
    root: str, queue: str, fs: FileSystem, *, mode: int | None, lock_timeout: float
) -> bool:
    """Make and initiate a queue; False when it exists.

    Its `ddmq.yaml` comes last and makes it a queue: after a crash, do it again.
    """
    with exclusive(f"{root}/lock", lock_timeout):
        _remove_deleted(root, fs)
        if is_queue(root, queue, fs):
            return False
        path = f"{root}/{queue}"
        for directory in (path, *(f"{path}/{name}" for name in DIRECTORIES)):
            fs.mkdir(directory)
            fs.require_directory(directory)  # no link to somewhere else
            if mode is not None:
                fs.chmod(directory, mode)
        made = SettingsFile(path, fs).initiate(_file_mode(mode))
        fs.sync_directory(root)
    return made


def delete_queue(root: str, queue: str, fs: FileSystem, lock_timeout: float) -> None:
    """Delete a queue with all its messages: it is gone at once, its files a little later.

    Of two that delete, one does it and the other raises QueueNotFound. What a crash
    leaves is removed by the next administrator.
    """
    with exclusive(f"{root}/lock", lock_timeout):
        if not is_queue(root, queue, fs):
            raise queue_not_found(root, queue)
        fs.replace(f"{root}/{queue}", f"{root}/{_DELETED}{new_token()}")
        _remove_deleted(root, fs)


def _remove_deleted(root: str, fs: FileSystem) -> None:
    import shutil  # slow to import, and rarely needed

    for name in fs.hidden(root):
        if name.startswith(_DELETED):
            shutil.rmtree(f"{root}/{name}")


def is_queue(root: str, queue: str, fs: FileSystem) -> bool:
    """Tell whether there is an initiated queue of this name."""
    found = fs.status(f"{root}/{queue}")
    if found is None or not found.is_directory:
        return False
    return fs.status(f"{root}/{queue}/{SETTINGS_FILE}") is not None


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
    if mode is None or (0 <= mode <= 0o7777 and mode & stat.S_IRWXU == stat.S_IRWXU):
        return mode
    raise InvalidArgument(
        f"mode {mode:o} leaves its owner without access; for a group use 2770"
    )


def _file_mode(mode: int | None) -> int | None:
    return None if mode is None else mode & 0o666
