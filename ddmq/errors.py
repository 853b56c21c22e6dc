"""What people are told: the errors of the public API, with what to do, and warnings."""

from __future__ import annotations

import errno
import os
import sys
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from ddmq.message import Message

_Item = TypeVar("_Item")
_Method = TypeVar("_Method", bound="Callable[..., Any]")

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
    errno.ENFILE: "this node has too many files open: try again later, or use another node",
    errno.ELOOP: "it is a symbolic link, and ddmq follows none inside a queue",
    errno.ENOTDIR: "something that is not a directory stands in its place: move it away",
}


#: How many known words are compared with one that is not.
_COMPARED = 1000


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean WORD?` where a known word is much like this one, else nothing."""
    from difflib import get_close_matches  # slow to import, and rarely needed

    found = get_close_matches(word[:100], [*known][:_COMPARED], 1)
    return f"; did you mean {found[0]}?" if found else ""


def real_path(path: str, what: str = "") -> str:
    """Return a path without links.

    InvalidArgument: it is below the current directory, and that is gone.
    """
    try:
        return os.path.realpath(path)
    except FileNotFoundError as error:  # of `os.getcwd`
        raise InvalidArgument(
            f"{what}{path!r} is below the current directory, which is gone: `cd` to another one"
        ) from error


def out_of_memory(path: str) -> OSError:
    """Return the error for a file that does not fit in memory; others may still fit."""
    return OSError(errno.ENOMEM, "not enough memory to read it", path)


class DdmqError(Exception):
    """The base of every error that ddmq raises on purpose.

    Where it leaves the API, it is alone: Python prints the line of the caller and the text. What
    else is known of it is in `cause` and `traces`, which are not pickled with it.
    """

    __slots__ = ("_cause", "_traces")

    @property
    def cause(self) -> BaseException | None:
        """The error that led to this one, such as an OSError; None: there is none."""
        return self.__cause__ or getattr(self, "_cause", None)

    @property
    def traces(self) -> tuple[TracebackType, ...]:
        """Where it came from within ddmq, the outermost part first."""
        return getattr(self, "_traces", ())

    def alone(self, cause: BaseException | None = None) -> DdmqError:
        """Return it without traceback, to be raised `from None`; it keeps what it loses."""
        self._cause = cause or self.cause
        if self.__traceback__ is not None:
            self._traces = (self.__traceback__, *self.traces)
        return self.with_traceback(None)


def public(method: _Method) -> _Method:
    """Let a method of the API raise each DdmqError alone, without causes and inner frames."""

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except DdmqError as error:
            raise error.alone() from None

    return cast("_Method", call)


def each_public(items: Iterator[_Item]) -> Iterator[_Item]:
    """Yield what an iterator of the API yields; raise each DdmqError alone."""
    try:
        yield from items
    except DdmqError as error:
        raise error.alone() from None


class InvalidArgument(DdmqError, ValueError):
    """An argument is wrong; nothing was done."""


class InvalidSettings(DdmqError, ValueError):
    """A `ddmq.yaml`, or a change to one, can't be used; the text names file, key and remedy."""


class UnknownLayout(DdmqError):
    """Another ddmq laid out the queue; nothing was done, since we don't know its file names.

    `number` is the queue's layout.
    """

    def __init__(self, path: str, number: int, since: str | None, known: int) -> None:
        from ddmq import __version__  # the package imports us

        self.number = number
        which = f"ddmq {since} or newer" if since else "a later ddmq"
        what = "use a newer one"
        if number < known:
            which = "a ddmq that was never released"
            what = "remove its directory and create it again"
        super().__init__(
            f"{path}: layout {number} needs {which}, and this is ddmq {__version__}, "
            f"which knows layout {known} only; nothing was done: {what}"
        )


#: How an error tells callers in Python, and nobody else, what they can do.
IN_PYTHON = ", or by Broker(root, create=True)"


def creates(root: str, *queues: str) -> str:
    """Return the command line that creates a root and queues, in backquotes."""
    from ddmq.printable import quoted  # rarely needed

    words = [quoted(root), *([quoted(",".join(queues))] if queues else [])]
    return f"`ddmq create -f {' '.join(words)}`"


class RootNotFound(DdmqError):
    """There is no root at this path: no directory, or one that nobody has initiated.

    Where a root can be created, `root` is its path, and the text has the command line.
    """

    def __init__(self, text: str, root: str = "") -> None:
        self.root = root
        self.how = f"; create it with {creates(root)}{IN_PYTHON}" if root else ""
        super().__init__(text + self.how)


class QueueNotFound(DdmqError):
    """There is no such queue: no client created it, or one deleted it.

    Where a queue can be created, `root` is the path of its root, and the text has the command line.
    """

    def __init__(self, text: str, root: str = "", queue: str = "") -> None:
        self.root, self.queue = root, queue
        self.how = f"; create it with {creates(root, queue)}" if root else ""
        super().__init__(text + self.how)


class MessageNotFound(DdmqError):
    """There is no such message, or no such dead letter, in the queue; nothing was changed."""


class QueuePaused(DdmqError):
    """Somebody paused the queue, and who heeds that takes nothing until it is resumed."""


class LeaseLost(DdmqError):
    """A lease ended before its message was settled; `messages` are the messages concerned."""

    def __init__(self, text: str, messages: Sequence[Message] = ()) -> None:
        super().__init__(text)
        self.messages = tuple(messages)


class LockTimeout(DdmqError):
    """The lock that administration needs could not be had in time."""


class StorageError(DdmqError):
    """The file system refused; each message is where it was before, or where it should go."""

    def __init__(self, error: OSError) -> None:
        self.errno = error.errno
        self.path = os.fspath("?" if error.filename is None else error.filename)
        reason = error.strerror or str(error)
        remedy = _REMEDIES.get(error.errno or 0)
        text = f"{self.path or repr('')}: {reason}"
        try:
            from ddmq.printable import printable  # rarely needed

            text = printable(text)
        except OSError:  # no descriptor is left to import it
            text = ascii(text)
        super().__init__(f"{text}; {remedy}" if remedy else text)


class GarbageAhead(StorageError):
    """One call could not clear away all the garbage ahead of the messages; the next one goes on.

    Garbage is what stands in the ready queue and is no message.
    """

    def __init__(self, bucket: str) -> None:
        text = "half a second was not enough to make dead letters of what stands first here"
        super().__init__(OSError(errno.EAGAIN, f"{text}; try again", bucket))


# What is told without raising an error


def warn(text: str) -> None:
    """Log a warning to the logger `ddmq`, in one line without control characters.

    A program of ddmq prints it to standard error. A program that uses ddmq as a library prints
    nothing, unless it has configured `logging`.
    """
    import logging  # slow to import, and rarely needed

    from ddmq.printable import printable

    logger = logging.getLogger("ddmq")
    # Every program of ddmq has this module. No handler is added before, as that imports `logging`.
    if not logger.handlers and "ddmq.cli.errors" not in sys.modules:
        logger.addHandler(logging.NullHandler())
    logger.warning(printable(text))


def inform(text: str) -> None:
    """Log what is told on request only, as by `-v`. Whoever asked for it has imported `logging`."""
    if "logging" in sys.modules:
        import logging  # waits where another thread is just importing it

        from ddmq.printable import printable

        logging.getLogger("ddmq").info(printable(text))
