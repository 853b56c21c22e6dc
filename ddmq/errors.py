"""Every error that ddmq raises on purpose."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddmq.message import Message

_REMEDIES = {
    errno.ENOSPC: "free some space or inodes there, then try again",
    errno.EDQUOT: "your quota is used up: free some space or files, then try again",
    errno.EACCES: "ask its owner for permission, or see `ddmq create --mode`",
    errno.EPERM: "ask its owner for permission, or see `ddmq create --mode`",
    errno.EROFS: "this node has it mounted read-only: use another node",
    errno.ENOMEM: "this process may have no more memory: raise `ulimit -v`, or that of the job",
    errno.EIO: "the storage failed: ask its administrator, then try again",
    errno.ESTALE: "the file server no longer knows it: try again",
    errno.EMFILE: "this process has too many files open: raise `ulimit -n`",
    errno.ELOOP: "it is a symbolic link, and ddmq follows none inside a queue",
    errno.ENOTDIR: "something that is not a directory stands in its place: move it away",
}


def out_of_memory(path: str) -> OSError:
    """Return what a MemoryError means: the file at `path` can't be read, and others can."""
    return OSError(errno.ENOMEM, "not enough memory to read it", path)


class DdmqError(Exception):
    """The base of every error that ddmq raises on purpose."""


class InvalidArgument(DdmqError, ValueError):
    """A wrong argument: nothing was done."""


class InvalidSettings(DdmqError, ValueError):
    """A `ddmq.yaml`, or a change to one, that can't be used; names file, key and remedy."""


class UnknownLayout(DdmqError):
    """A later ddmq named the files of the queue: this one would take them for garbage."""

    def __init__(self, path: str, number: int, since: str | None, known: int) -> None:
        from ddmq import __version__  # the package imports us

        self.number = number
        which = f"ddmq {since}" if since else "a later ddmq"
        super().__init__(
            f"{path}: layout {number} needs {which} or newer, and this is ddmq "
            f"{__version__}, which knows layout {known} only; nothing was done: use a newer one"
        )


class RootNotFound(DdmqError):
    """The root directory is missing, or nobody has initiated it."""


class QueueNotFound(DdmqError):
    """The queue was never created, or somebody deleted it."""


class LeaseLost(DdmqError):
    """The lease ended before the message was settled; `messages` are those concerned."""

    def __init__(self, text: str, messages: Sequence[Message] = ()) -> None:
        super().__init__(text)
        self.messages = tuple(messages)


class LockTimeout(DdmqError):
    """Somebody else holds the lock that this administration needs."""


class StorageError(DdmqError):
    """The file system refused; every message is where it was before, or where it should go."""

    def __init__(self, error: OSError) -> None:
        from ddmq.printable import printable  # rarely needed

        self.errno = error.errno
        self.path = os.fspath(error.filename or "?")
        reason = error.strerror or str(error)
        remedy = _REMEDIES.get(error.errno or 0)
        text = printable(f"{self.path}: {reason}")
        super().__init__(f"{text}; {remedy}" if remedy else text)


class GarbageAhead(StorageError):
    """So much in line is no message that one call could not clear it away: the next one goes on."""

    def __init__(self, bucket: str) -> None:
        text = "half a second was not enough to make dead letters of what stands first here"
        super().__init__(OSError(errno.EAGAIN, f"{text}; try again", bucket))
