"""A call as a message, and what came of it as a result: both are JSON."""

from __future__ import annotations

import builtins
import json
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq.errors import DdmqError, InvalidArgument
from ddmq.hpc.calling import function_named
from ddmq.hpc.serving import Reject
from ddmq.untrusted import parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

#: Bytes of a result. Whoever collects it reads no more.
MAX_RESULT = 64 << 20
_TOO_LARGE = (
    f"what it returned is over {MAX_RESULT} bytes as JSON; "
    "write it to a file, and return the path"
)
#: Characters of an exception that are kept, and of its traceback.
_LONGEST_TEXT, _LONGEST_TRACEBACK = 10_000, 100_000


class CallFailed(DdmqError):
    """A call failed with an exception that can't be had here, or could not be made at all."""


class RemoteTraceback(Exception):
    """The traceback of a call, where it ran: the cause of its exception here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        """Show it as Python does, below this line."""
        return f'\n"""\n{self.text}"""'


class Call(NamedTuple):
    """What a message asks for: a function by its name, and what it is given."""

    key: str
    """What no other call has in its queue; the first in order comes first."""
    function: str
    """`module:name`."""
    args: list[Any]
    kwargs: dict[str, Any]
    each: bool = False
    """Whether `args` are those of several calls, one after the other."""

    def message(self) -> dict[str, Any]:
        """Return the message."""
        return self._asdict()

    @classmethod
    def parse(cls, message: Any) -> Call | None:
        """Read a message; None: it is no call."""
        kinds = {"key": str, "function": str, "args": list, "kwargs": dict}
        if not isinstance(message, dict) or message.keys() - {*kinds, "each"}:
            return None
        if not all(isinstance(message.get(n), kind) for n, kind in kinds.items()):
            return None
        each = message.get("each", False)
        if not isinstance(each, bool):
            return None
        if each and not all(isinstance(args, list) for args in message["args"]):
            return None
        return cls(**message)

    @property
    def module(self) -> str:
        """The module of its function."""
        return self.function.partition(":")[0]

    def made(self, function: Callable[..., Any]) -> Any:
        """Make it; return what the function returns."""
        if self.each:
            return [function(*args, **self.kwargs) for args in self.args]
        return function(*self.args, **self.kwargs)


class Answer(NamedTuple):
    """What came of a call."""

    key: str
    value: Any = None
    error: dict[str, Any] | None = None
    """The exception: `module`, `type`, `args`, `text` and `traceback`."""

    def data(self) -> bytes:
        """Return it as JSON; ValueError or TypeError: it can't be."""
        text = json.dumps(self._asdict(), allow_nan=False)
        if len(text) > MAX_RESULT:
            raise ValueError(_TOO_LARGE)
        return text.encode("ascii")

    @classmethod
    def parse(cls, data: bytes) -> Answer | None:
        """Read a result; None: it is none of a call."""
        try:
            said = parsed(data)
        except ValueError:
            return None
        if not isinstance(said, dict) or said.keys() != set(cls._fields):
            return None
        is_sound = isinstance(said["key"], str)
        is_sound = is_sound and isinstance(said["error"], (dict, type(None)))
        return cls(**said) if is_sound else None

    @classmethod
    def failed(cls, key: str, error: BaseException) -> Answer:
        """Return what tells of an exception."""
        import traceback  # slow to import

        kind, args = type(error), list(error.args)
        try:
            parsed(json.dumps(args, allow_nan=False).encode())
        except (TypeError, ValueError, RecursionError):
            args = []
        text = "".join(traceback.format_exception(kind, error, error.__traceback__))
        said = {
            "module": kind.__module__,
            "type": kind.__qualname__,
            "args": args,
            "text": str(error)[:_LONGEST_TEXT],
            "traceback": text[-_LONGEST_TRACEBACK:],
        }
        if len(json.dumps(args)) > _LONGEST_TEXT:
            said["args"] = []
        return cls(key, None, said)

    def exception(self, allowed: Collection[str]) -> Exception:
        """Return the exception of a call that failed.

        It has its own type where that is one of Python or of a module that is `allowed`, and
        imported here already. Any other is a CallFailed, whose text begins with the type.
        """
        said = self.error or {}
        text = str(said.get("text", ""))
        found = _kind(said.get("module"), said.get("type"), allowed)
        args = said.get("args")
        error: Exception = CallFailed(f"{said.get('type')}: {text}")
        if found is not None:
            given = args if isinstance(args, list) and args else [text] if text else []
            try:
                error = found(*given)
            except Exception:  # noqa: BLE001 - whatever its constructor wants, we don't have it
                error = CallFailed(f"{said.get('type')}: {text}")
        error.__cause__ = RemoteTraceback(str(said.get("traceback", "")))
        return error


def _kind(module: Any, name: Any, allowed: Collection[str]) -> type[Exception] | None:
    """Return a type of exception by its name; nothing is imported for it."""
    if not isinstance(module, str) or not isinstance(name, str):
        return None
    home = builtins if module == "builtins" else None
    if module in allowed:
        home = sys.modules.get(module)
    found = getattr(home, name, None)
    is_kind = isinstance(found, type) and issubclass(found, Exception)
    return found if is_kind and found.__module__ == module else None


class Caller:
    """Makes the calls of functions whose modules it was started for, and no others."""

    def __init__(self, *allowed: str) -> None:
        self._allowed = frozenset(allowed)

    def __call__(self, message: Any, output: str | None) -> None:
        """Make the call that a message asks for, and write what came of it to `output`."""
        call = Call.parse(message)
        if call is None:
            raise Reject("it is no call, as an Executor publishes them")
        if call.module not in self._allowed:
            raise Reject(
                f"{call.function[:200]}: this worker was not started for its module"
            )
        assert (
            output is not None
        )  # an Executor always starts it with an output directory
        data = self._answer(call)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(output, flags, 0o666), "wb") as file:
            file.write(data)

    def _answer(self, call: Call) -> bytes:
        try:
            data = Answer(call.key, call.made(function_named(call.function))).data()
            parsed(data)  # as whoever collects it will
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is the caller's to handle
            return Answer.failed(call.key, error).data()
        return data


def checked(call: Call) -> Call:
    """Return a call whose arguments are JSON; InvalidArgument: they are not."""
    try:
        json.dumps([call.args, call.kwargs], allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(
            f"the arguments of {call.function} are no JSON: {error}; write them to a file, "
            "and give its path"
        ) from error
    return call
