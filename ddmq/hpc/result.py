"""Exactly one result for each message, however often it ran."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from ddmq.fs import FileSystem
from ddmq.hpc.trouble import BadOutput, may_pass
from ddmq.names import Dead, new_token

if TYPE_CHECKING:
    from collections.abc import Container

#: Where results are while their command runs, below the output directory.
UNFINISHED = ".ddmq-unfinished"
#: What the kernel says where a directory stands that is not empty, or a file would go.
_IN_THE_WAY = (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR)
_LEADS_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Result:
    """The file or directory that a command makes at `path`, which then becomes `<id>`.

    Each run has a path of its own, so two runs of one message never write to the same. What
    is kept last has replaced what was kept before; of directories, the first one stays.
    """

    def __init__(self, directory: str, id_: str, token: str) -> None:
        self._directory = directory
        self._final = f"{directory}/{id_}"
        self._fs = FileSystem()
        self.path = f"{directory}/{UNFINISHED}/{id_}.{token}"
        os.makedirs(os.path.dirname(self.path), exist_ok=True)

    def keep(self, *, sync: bool) -> None:
        """Make what the command wrote the result, if it wrote anything.

        With `sync`, a file is on stable storage before its message may be acked. Raises
        BadOutput where the command is to blame, and OSError where the directory is.
        """
        try:
            if not self._was_made():
                return
            if sync:
                self._sync()
            self._move()
        except OSError as error:
            if may_pass(error):
                raise
            try_output(self._directory)  # raises what is wrong with it
            raise self._bad(f"no result: {error.strerror}") from error
        if sync:
            self._fs.sync_directory(self._directory)

    def _was_made(self) -> bool:
        try:
            mode = os.stat(self.path).st_mode
        except OSError as error:
            if error.errno in _LEADS_NOWHERE and os.path.islink(self.path):
                raise self._bad("a symbolic link that leads nowhere") from error
            if error.errno != errno.ENOENT:
                raise
            os.stat(os.path.dirname(self.path))  # else nobody knows what there is
            return False
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise self._bad("neither a file nor a directory")
        return True

    def _sync(self) -> None:
        if os.path.isdir(self.path):
            self._fs.sync_directory(self.path)
            return
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError as error:
            raise self._bad("not to be read by its own worker") from error
        try:
            os.fsync(descriptor)
        except OSError as error:
            error.filename = self.path
            raise
        finally:
            os.close(descriptor)

    def _move(self) -> None:
        try:
            self._fs.replace(self.path, self._final)
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise self._bad(f"on another file system than {self._final}") from error
            if error.errno == errno.ENOTDIR and os.path.isfile(self._final):
                raise self._bad("a directory, but its result was a file") from error
            if error.errno not in _IN_THE_WAY:
                raise
            self.discard()  # an earlier run made the same directory

    def _bad(self, what: str) -> BadOutput:
        return BadOutput(f"its output {self.path} is {what}")

    def discard(self) -> None:
        """Remove what the command wrote."""
        _remove(self.path)


def try_output(directory: str) -> None:
    """Make a result, as a command would, and keep and remove it."""
    name = f".ddmq-{new_token()}"
    unfinished = f"{directory}/{UNFINISHED}/{name}"
    fs = FileSystem()
    os.makedirs(os.path.dirname(unfinished), exist_ok=True)
    try:
        fs.create(unfinished, b"tried", sync=False)
        fs.replace(unfinished, f"{directory}/{name}")
    finally:
        fs.discard(unfinished)
        fs.discard(f"{directory}/{name}")


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
