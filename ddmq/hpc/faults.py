"""Whose fault an error is: a worker waits, gives the message back, blames it, or ends."""

from __future__ import annotations

import errno

from ddmq.errors import DdmqError, RootNotFound, StorageError

#: What the file system answers for a while when a server is away.
AWAY = (StorageError, RootNotFound)
_NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)
#: What is wrong for good with a directory or a command, until somebody mends it.
_FOR_GOOD = (
    *_NO_PERMISSION,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EINVAL,
)


class BadOutput(DdmqError):
    """What a command made at `$DDMQ_OUTPUT` can be no result: its message failed."""


def is_for_good(error: Exception) -> bool:
    """Tell whether it is no use to ask a queue again: no permission, or read-only."""
    refused = (*_NO_PERMISSION, errno.EXDEV)
    return isinstance(error, StorageError) and error.errno in refused


def may_pass(error: OSError) -> bool:
    """Tell whether a directory, or this node, may do later what it refused now."""
    return error.errno not in _FOR_GOOD


def told(error: OSError) -> str:
    """Return an error of the file system in words: to what it happened, and what to do."""
    return str(StorageError(error)).removeprefix("?: ")
