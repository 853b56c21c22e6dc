"""Exactly one result for each message, however often it ran."""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple

from ddmq.hpc.folder import Folder, reached
from ddmq.hpc.trouble import BadOutput, may_pass
from ddmq.names import Dead, new_token

if TYPE_CHECKING:
    from collections.abc import Container

    from ddmq.fs import FileSystem

#: Where results are while their command runs, below the output directory.
UNFINISHED = ".ddmq-unfinished"
#: What the kernel says where a directory stands that is not empty, or a file would go.
_IN_THE_WAY = (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR)
_LEADS_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
#: What a directory that can't be synced says.
_UNSYNCABLE = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
#: A FIFO in the place of a file must make nobody wait.
_LOOK = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_ID = "(?:drop-|foreign-)?[0-9a-f]{20}(?:-[0-9]{1,5})?"
_TOKEN = "[0-9a-f]{16}"


class Unfinished(NamedTuple):
    """What a run makes at `$DDMQ_OUTPUT`, by its name in `.ddmq-unfinished`."""

    id: str
    """Of the message."""
    token: str
    """Of the run."""

    @property
    def filename(self) -> str:
        """The name."""
        return f"{self.id}.{self.token}"

    @classmethod
    def parse(cls, name: str) -> Unfinished | None:
        """Read a name; None: ddmq made no such name, and so leaves it alone."""
        id_, _, token = name.partition(".")
        made = is_result(id_) and re.fullmatch(_TOKEN, token)
        return cls(id_, token) if made else None


def is_result(name: str) -> bool:
    """Tell whether this is the id of a message as ddmq makes them, and so names a result.

    Whoever may write to a queue can give a message any other id, as the name of a file that
    its result would replace.
    """
    return re.fullmatch(_ID, name) is not None


class Result:
    """The file or directory that a command makes at `path`, which then becomes `<id>`.

    Each run has a path of its own, so two runs of one message never write to the same. What
    is kept last has replaced what was kept before; of directories, the first one stays.
    """

    def __init__(self, directory: str, id_: str, token: str) -> None:
        self._directory = directory
        self._id = id_
        self._name = Unfinished(id_, token).filename
        self.path = f"{directory}/{UNFINISHED}/{self._name}"
        with Folder.open(directory, make=True) as kept:
            kept.below(UNFINISHED, make=True).close()

    def keep(self, *, sync: bool) -> None:
        """Make what the command wrote the result, if it wrote anything.

        With `sync`, a file is on stable storage before its message may be acked. Raises
        BadOutput where the command is to blame, and OSError where the directory is.
        """
        try:
            with Folder.open(self._directory) as kept:
                with kept.below(UNFINISHED) as unfinished:
                    if not self._was_made(unfinished):
                        return
                    if sync:
                        self._sync(unfinished)
                    self._move(unfinished, kept)
                if sync:
                    kept.fs.sync_directory(".")
        except OSError as error:
            if may_pass(error):
                raise
            try_output(self._directory)  # raises what is wrong with it
            raise self._bad(f"no result: {error.strerror}") from error

    def _was_made(self, unfinished: Folder) -> bool:
        try:
            mode = os.stat(self._name, dir_fd=unfinished.descriptor).st_mode
        except OSError as error:
            error.filename = self.path
            if error.errno in _LEADS_NOWHERE and self._is_link(unfinished):
                raise self._bad("a symbolic link that leads nowhere") from error
            if error.errno != errno.ENOENT:
                raise
            return False
        self._require_kind(mode)
        return True

    def _is_link(self, unfinished: Folder) -> bool:
        found = unfinished.fs.status(f"./{self._name}")
        return found is not None and stat.S_ISLNK(found.mode)

    def _require_kind(self, mode: int) -> None:
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise self._bad("neither a file nor a directory")

    def _sync(self, unfinished: Folder) -> None:
        """Sync what is there now: it may be something else than a moment ago."""
        try:
            descriptor = os.open(self._name, _LOOK, dir_fd=unfinished.descriptor)
        except PermissionError as error:
            raise self._bad("not to be read by its own worker") from error
        except OSError as error:
            error.filename = self.path
            raise
        try:
            mode = os.fstat(descriptor).st_mode
            self._require_kind(mode)
            _fsync(descriptor, is_directory=stat.S_ISDIR(mode))
        except OSError as error:
            error.filename = self.path
            raise
        finally:
            os.close(descriptor)

    def _move(self, unfinished: Folder, kept: Folder) -> None:
        try:
            unfinished.move(self._name, kept, self._id)
        except OSError as error:
            if error.errno == errno.EXDEV:
                final = f"{self._directory}/{self._id}"
                raise self._bad(f"on another file system than {final}") from error
            if error.errno == errno.ENOTDIR:
                raise self._bad("a directory, but its result was a file") from error
            if error.errno not in _IN_THE_WAY:
                raise
            unfinished.remove(self._name)  # an earlier run made the same directory

    def _bad(self, what: str) -> BadOutput:
        return BadOutput(f"its output {self.path} is {what}")

    def discard(self) -> None:
        """Remove what the command wrote."""
        with suppress(OSError), reached(self._directory, UNFINISHED) as unfinished:
            unfinished.remove(self._name)


def _fsync(descriptor: int, *, is_directory: bool) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not is_directory or error.errno not in _UNSYNCABLE:
            raise


def try_output(directory: str) -> None:
    """Make a result, as a command would, and keep and remove it."""
    name = f".ddmq-{new_token()}"
    with ExitStack() as stack:
        kept = stack.enter_context(Folder.open(directory, make=True))
        unfinished = stack.enter_context(kept.below(UNFINISHED, make=True))
        try:
            unfinished.fs.create(f"./{name}", b"tried", sync=False)
            unfinished.move(name, kept, name)
        finally:
            unfinished.fs.discard(f"./{name}")
            kept.fs.discard(f"./{name}")


def remove_leftovers(directory: str, id_: str) -> None:
    """Remove what killed workers left of earlier runs of a message whose lease is ours.

    While we hold it nobody else does, so no other run of it will ever be kept: not even
    one that still goes on, on a node that was out of reach when its lease expired.
    """
    with suppress(OSError), reached(directory, UNFINISHED) as unfinished:
        _remove_all(unfinished, unfinished.names(), {id_})


def remove_leftovers_of_dead(directory: str, queue_path: str, fs: FileSystem) -> None:
    """Remove what killed workers left of the dead letters of a queue, which run no more.

    What is unfinished is listed first: a dead letter that is put back in line and runs
    again meanwhile makes another file. No clock is asked, and what is left of messages that
    are not in this queue is not judged: other queues may share the directory.
    """
    with suppress(OSError), reached(directory, UNFINISHED) as unfinished:
        names = unfinished.names()  # where there is none, whoever needs it complains
        if names:
            letters = map(Dead.parse, fs.listing(f"{queue_path}/dead"))
            _remove_all(unfinished, names, {dead.entry.id for dead in letters if dead})


def _remove_all(unfinished: Folder, names: list[str], ids: Container[str]) -> None:
    for name in names:
        made = Unfinished.parse(name)
        if made is not None and made.id in ids:
            unfinished.remove(name)
