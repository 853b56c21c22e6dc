"""A call as a message, and what came of it as a result: both are JSON."""

from __future__ import annotations

import builtins
import json
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ddmq.errors import DdmqError
from ddmq.untrusted import parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_Error = TypeVar("_Error", bound=BaseException)
#: Bytes of a result. Whoever collects it reads no more.
MAX_RESULT = 64 << 20
_TOO_LARGE = (
    f"what it returned is over {MAX_RESULT} bytes as JSON; "
    "write it to a file, and return the path"
)
#: What names a call: when its run began, a part of a token, and its number.
_KEY = re.compile(r"[0-9]{19}[0-9a-f]{4}-[0-9]{9,12}", re.ASCII)
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
    pickle: str = ""
    """Function and arguments, pickled and in Base64; empty: they are those above."""

    def message(self) -> dict[str, Any]:
        """Return the message."""
        said = self._asdict()
        if not self.pickle:
            del said["pickle"]
        return said

    @classmethod
    def all_in(cls, message: Any) -> list[Call]:
        """Read a message of one or of several calls; none: it is no such message."""
        is_many = isinstance(message, dict) and message.keys() == {"calls"}
        said = message["calls"] if is_many else [message]
        calls = list(map(cls.parse, said)) if isinstance(said, list) else []
        return [] if None in calls else [call for call in calls if call is not None]

    @classmethod
    def parse(cls, message: Any) -> Call | None:
        """Read a message; None: it is no call."""
        kinds = {"key": str, "function": str, "args": list, "kwargs": dict}
        if not isinstance(message, dict) or message.keys() - set(cls._fields):
            return None
        if not all(isinstance(message.get(n), kind) for n, kind in kinds.items()):
            return None
        each, pickle = message.get("each", False), message.get("pickle", "")
        if not isinstance(each, bool) or not isinstance(pickle, str):
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


def is_key(name: str) -> bool:
    """Tell whether this is what an Executor names a call, and so the file of its result."""
    return _KEY.fullmatch(name) is not None


class Answer(NamedTuple):
    """What came of a call."""

    key: str
    value: Any = None
    error: dict[str, Any] | None = None
    """The exception: `module`, `type`, `args`, `text` and `traceback`."""
    pickle: str = ""
    """What came of it, pickled and in Base64; empty: it is one of those above."""

    def data(self) -> bytes:
        """Return it as JSON; ValueError or TypeError: it can't be."""
        said = self._asdict()
        if not self.pickle:
            del said["pickle"]
        text = json.dumps(said, allow_nan=False)
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
        if not isinstance(said, dict):
            return None
        kinds: dict[str, Any] = {
            "key": str,
            "value": object,
            "error": (dict, type(None)),
            "pickle": str,
        }
        if said.keys() | {"pickle"} != kinds.keys():
            return None
        is_sound = all(isinstance(found, kinds[name]) for name, found in said.items())
        return cls(**said) if is_sound else None

    @classmethod
    def failed(cls, key: str, error: BaseException) -> Answer:
        """Return what tells of an exception."""
        kind, args = type(error), []
        try:
            args = list(error.args)
            parsed(json.dumps(args, allow_nan=False).encode())
        except (TypeError, ValueError, RecursionError):
            args = []
        said = {
            "module": kind.__module__,
            "type": kind.__qualname__,
            "args": args,
            "text": _text_of(error)[:_LONGEST_TEXT],
            "traceback": traceback_of(error),
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
        return caused(error, str(said.get("traceback", "")))


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as why:  # noqa: BLE001 - whatever it does, the call has been made
        return f"its text can't be had: {type(why).__name__}"


def traceback_of(error: BaseException) -> str:
    """Return the end of a traceback."""
    import traceback  # slow to import

    kind, trace = type(error), error.__traceback__
    return "".join(traceback.format_exception(kind, error, trace))[-_LONGEST_TRACEBACK:]


def caused(error: _Error, traceback: str) -> _Error:
    """Return an exception whose cause is its traceback where it was raised."""
    # As Python itself does: a frozen dataclass lets nobody else set anything.
    BaseException.__setattr__(error, "__cause__", RemoteTraceback(traceback))
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
