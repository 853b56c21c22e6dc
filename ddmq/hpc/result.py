"""Exactly one result for each message, however often it ran."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from ddmq.names import Dead

if TYPE_CHECKING:
    from collections.abc import Container

    from ddmq.fs import FileSystem

#: Where results are while their command runs, below the output directory.
UNFINISHED = ".ddmq-unfinished"


class Result:
    """The file or directory that a command makes at `path`, which then becomes `<id>`.

    Each run has a path of its own, so two runs of one message never write to the same. What
    is kept last has replaced what was kept before; of directories, the first one stays.
    """

    def __init__(self, directory: str, id_: str, token: str) -> None:
        self._directory = directory
        self._final = f"{directory}/{id_}"
        self.path = f"{directory}/{UNFINISHED}/{id_}.{token}"
        os.makedirs(os.path.dirname(self.path), exist_ok=True)

    def keep(self, *, sync: bool) -> None:
        """Make what the command wrote the result, if it wrote anything.

        With `sync`, a file is on stable storage before its message may be acked.
        """
        if not os.path.lexists(self.path):
            return
        if sync:
            _sync(self.path)
        try:
            os.replace(self.path, self._final)
        except OSError:
            if not os.path.isdir(self._final):
                raise
            self.discard()  # an earlier run made the same directory
        if sync:
            _sync(self._directory)

    def discard(self) -> None:
        """Remove what the command wrote."""
        _remove(self.path)


def remove_leftovers(directory: str, id_: str) -> None:
    """Remove what killed workers left of earlier runs of a message whose lease is ours.

    While we hold it nobody else does, so no other run of it will ever be kept: not even
    one that still goes on, on a node that was out of reach when its lease expired.
    """
    _remove_all(directory, _unfinished(directory), {id_})


def remove_leftovers_of_dead(directory: str, queue_path: str, fs: FileSystem) -> None:
    """Remove what killed workers left of the dead letters of a queue, which run no more.

    What is unfinished is listed first: a dead letter that is put back in line and runs
    again meanwhile makes another file. No clock is asked, and what is left of messages that
    are not in this queue is not judged: other queues may share the directory.
    """
    names = _unfinished(directory)
    if not names:
        return
    with suppress(OSError):  # nothing depends on it
        letters = map(Dead.parse, fs.listing(f"{queue_path}/dead"))
        _remove_all(directory, names, {dead.entry.id for dead in letters if dead})


def _unfinished(directory: str) -> list[str]:
    try:
        return os.listdir(f"{directory}/{UNFINISHED}")
    except OSError:  # there is none yet, or whoever needs it will complain
        return []


def _remove_all(directory: str, names: list[str], ids: Container[str]) -> None:
    for name in names:
        if name.partition(".")[0] in ids:
            _remove(f"{directory}/{UNFINISHED}/{name}")


def _remove(path: str) -> None:
    """Remove a file, or a directory with all that is in it; where we may not, leave it."""
    if os.path.isdir(path) and not os.path.islink(path):
        import shutil  # slow to import, and rarely needed

        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        os.unlink(path)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
