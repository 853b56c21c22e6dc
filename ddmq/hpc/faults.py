"""What an `OSError` or `DdmqError` means for a worker: it waits, or ends, or blames a message."""

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
#: What is answered while a file server, or the way to it, stands still: on a soft mount, say.
STANDS_STILL = (
    errno.EIO,
    errno.ETIMEDOUT,
    errno.ESTALE,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.ENOTCONN,
    errno.ESHUTDOWN,
)
#: Why no command starts for a while, whichever it is: too many processes or files, …
NOT_NOW = (
    errno.EAGAIN,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.ETXTBSY,
    *STANDS_STILL,
)


class BadOutput(DdmqError):
    """What a command made at `$DDMQ_OUTPUT` can be no result: its message failed."""


def is_for_good(error: Exception) -> bool:
    """Tell whether it is no use to ask a queue again: no permission, or read-only."""
    refused = (*_NO_PERMISSION, errno.EXDEV)
    return isinstance(error, StorageError) and error.errno in refused


def stands_still(error: BaseException) -> bool:
    """Tell whether an error came from a file server that stands still, as outages do."""
    origin: BaseException | None = error
    while origin is not None:
        if getattr(origin, "errno", None) in STANDS_STILL:
            return True
        origin = getattr(origin, "cause", origin.__cause__)
    return False


def may_pass(error: OSError) -> bool:
    """Tell whether a directory, or this node, may do later what it refused now."""
    return error.errno not in _FOR_GOOD


def told(error: OSError) -> str:
    """Return an error of the file system in words: to what it happened, and what to do."""
    return str(StorageError(error)).removeprefix("?: ")
