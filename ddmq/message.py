"""Messages, their options, and their form as JSON; pure."""

from __future__ import annotations

import json
from enum import Enum
from math import isinf
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq.errors import InvalidArgument
from ddmq.settings import (
    DELAY,
    MAX_BYTES,
    OVERRIDES,
    SETTINGS,
    check,
    fault,
    raised,
)
from ddmq.storage.names import make, overrides_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Optional, Union

    from ddmq.settings import Settings
    from ddmq.storage.names import Entry, Lease
    from ddmq.storage.range_names import Range


class Unset(Enum):
    """Says that an argument was left out, where None means something."""

    UNSET = "unset"


UNSET = Unset.UNSET


class PublishOptions(NamedTuple):
    """What a publisher says about messages; where it is None or UNSET, the settings decide."""

    priority: int | None = None
    timeout: float | None = None
    requeue: bool | None = None
    requeue_prio: int | None = None
    requeue_limit: int | Unset | None = UNSET
    delay: float = 0
    durable: bool | None = None

    def checked(self) -> dict[str, Any]:
        """Return what the messages set themselves, or raise InvalidArgument."""
        own: dict[str, Any] = {}
        for key in ("timeout", "requeue", "requeue_prio"):
            if getattr(self, key) is not None:
                own[key] = getattr(self, key)
        if self.requeue_limit is not UNSET:
            own["requeue_limit"] = self.requeue_limit
        if self.priority is not None:
            check("priority", SETTINGS["priority"], self.priority)
        if self.durable is not None:
            check("durable", SETTINGS["durable"], self.durable)
        check("delay", DELAY, self.delay)
        for key, value in own.items():
            check(key, OVERRIDES[key], value)
        return own


if TYPE_CHECKING:
    #: What `PublishOptions` consist of: they are such a tuple, and a plain one is made faster.
    OptionFields = tuple[
        Optional[int],
        Optional[float],
        Optional[bool],
        Optional[int],
        Union[int, Unset, None],
        float,
        Optional[bool],
    ]


class Publication(NamedTuple):
    """What all messages of one publication have in common."""

    priority: int
    policy: str = ""
    """What the names of the messages say of timeout and so on."""
    delay: float = 0
    """Seconds until they are visible."""
    durable: bool = True
    """Whether they survive a power cut once they are published."""


class InvalidContent(ValueError):
    """A file that holds no message; the text says why, for its dead letter."""


class TooLarge(InvalidContent):
    """A file over the limit of its queue. It is read no further, and never parsed."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"its file is over {limit} bytes long (max_message_size)")


class Content(NamedTuple):
    """What a message file holds: written once, before the message exists."""

    message: Any
    priority: Any
    """As it was published."""
    overrides: Mapping[str, Any] = {}
    """What a dropped file sets of timeout and so on. Once it is adopted, its name says so."""

    def priority_or(self, default: int) -> int:
        """Return the priority it was published with, where it says so."""
        own = self.priority
        return own if SETTINGS["priority"].accepts(own) else default


class Policy(NamedTuple):
    """The rules for one message: what its name says overrides the queue's settings."""

    timeout: float
    requeue: bool
    requeue_prio: int
    requeue_limit: int | None

    @classmethod
    def of(cls, entry: Entry | Range, settings: Settings) -> Policy:
        """Return the policy of a message, or of all in a range; no content is read."""
        own = overrides_of(entry.policy) if entry.policy else {}
        return cls(
            own.get("timeout", settings.message_timeout),
            own.get("requeue", settings.requeue),
            own.get("requeue_prio", settings.requeue_prio),
            own.get("requeue_limit", settings.requeue_limit),
        )

    def unrenewed_for(self, expiry: int, now: float) -> float | None:
        """Return the seconds since a lease was renewed or made, if over half of its timeout.

        The lease tells that by its `expiry`, in milliseconds since 1970; `now` is in seconds.
        """
        age = now - (expiry / 1000 - self.timeout)
        return age if age > self.timeout / 2 else None

    def may_requeue(self, counter: int) -> bool:
        """Tell whether a message that came back so often is tried once more."""
        if not self.requeue:
            return False
        return self.requeue_limit is None or counter < self.requeue_limit

    def requeued(self, entry: Entry) -> Entry:
        """Return the entry, whose counts have grown, as it waits to be tried once more."""
        return entry._replace(priority=self.requeue_prio)


class _MessageFields(NamedTuple):
    message: Any
    """Any JSON value; text is the common case."""
    id: str
    queue: str
    priority: int
    """The priority at which it waited; lower is first."""
    timeout: float
    """Seconds that the lease lasts."""
    requeue: bool
    requeue_prio: int
    requeue_limit: int | None
    failures: int
    """How often it was nacked."""
    losses: int
    """How often its lease expired."""
    filename: str
    """Its name in `work/`, which proves the lease."""


class Message(_MessageFields):
    """A consumed message. It stays leased until it is settled or its timeout is over."""

    if TYPE_CHECKING:  # no annotation in the class, since nobody could resolve it
        lease: Lease | None
        """The lease that `filename` tells, which saves reading it; None where others made this."""
    else:
        lease = None

    def __getstate__(self) -> dict[str, Any] | None:
        """Leave the lease out of a pickle: the file name says the same to any version."""
        own = {name: of for name, of in self.__dict__.items() if name != "lease"}
        return own or None

    @property
    def requeue_counter(self) -> int:
        """How often it came back: failures and losses together."""
        return self.failures + self.losses

    @property
    def policy(self) -> Policy:
        """The rules for it, as they were when it was consumed."""
        return Policy(self.timeout, self.requeue, self.requeue_prio, self.requeue_limit)

    @property
    def may_requeue(self) -> bool:
        """Whether it would be tried again after one more failure or loss."""
        return self.policy.may_requeue(self.requeue_counter)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        return {**self._asdict(), "requeue_counter": self.requeue_counter}


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _finite(text: str) -> float:
    """Read a number; one like 1e999 would be written as Infinity, which is no JSON."""
    number = float(text)
    if isinf(number):
        raise ValueError(f"{text:.40} is beyond all numbers")
    return number


#: How a message file ends. Nothing that we write before that has a line break, so a file that was
#: read up to this is whole.
END = b"}\n"
_FRAME = b'{"message":%b,"priority":%d' + END
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
#: What may stand around a JSON value.
_SPACE = " \t\n\r"
#: What a file may set itself beside its message; only dropped files do.
_OVERRIDES = frozenset(OVERRIDES)
_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def encode(message: Any, priority: int, limit: int = MAX_BYTES) -> bytes:
    """Return the content of a new message file, of at most `limit` bytes."""
    data = _as_json(message)
    content = _FRAME % (data, priority)
    if len(content) > limit:
        raise _too_large(data, len(content), limit)
    return content


def encode_message(message: Any, around: int = 0, limit: int = MAX_BYTES) -> bytes:
    """Return a message as one line of JSON, for a file with `around` more bytes."""
    data = _as_json(message)
    if len(data) + around > limit:
        raise _too_large(data, len(data) + around, limit)
    return data


def _as_json(message: Any) -> bytes:
    try:
        return _encoder.encode(message).encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            "message has bytes that are no UTF-8, or a lone surrogate; it must be Unicode text"
        ) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"message is no JSON value: {error}") from error


def _too_large(data: bytes, size: int, limit: int) -> InvalidArgument:
    return InvalidArgument(
        f"message is {size} bytes long, over {limit} (max_message_size), and begins with "
        f"{data[:30].decode(errors='replace')!r}; write it to a file and publish the path"
    )


def content_of(message: bytes, priority: int) -> bytes:
    """Return the content of a message file, with a message from `encode_message`."""
    return _FRAME % (message, priority)


def decode_message(data: bytes) -> Any:
    """Read what `encode_message` wrote, or raise InvalidContent."""
    if not data:
        raise InvalidContent("its file is empty")
    try:
        # As `_decoder.decode`, but faster: that looks for space by a regular expression, twice.
        text = data.decode("utf-8")
        start = 0 if text[0] == "{" else len(text) - len(text.lstrip(_SPACE))
        value, end = _decoder.raw_decode(text, start)
        more = text[end:].lstrip(_SPACE)
        if more:
            raise json.JSONDecodeError("Extra data", text, len(text) - len(more))
    except (ValueError, RecursionError) as error:
        raise InvalidContent(f"its file is not JSON, or cut short: {error}") from error
    if b"\\u" in data:
        _refuse_surrogates(value)
    return value


def decode_object(data: bytes) -> dict[str, Any]:
    """Read a JSON object, or raise InvalidContent."""
    value = decode_message(data)
    if not isinstance(value, dict):
        raise InvalidContent("its file holds JSON, but no object")
    return value


def decode(data: bytes, limit: int = MAX_BYTES) -> Content:
    """Read the content of a message file, or raise InvalidContent; over `limit`, TooLarge."""
    if len(data) > limit:
        raise TooLarge(limit)
    value = decode_message(data)
    if not isinstance(value, dict) or "message" not in value:
        raise InvalidContent('its file is JSON, but no object with a "message"')
    overrides = {} if _OVERRIDES.isdisjoint(value) else _overrides_in(value)
    return make(Content, (value["message"], value.get("priority"), overrides))


def _refuse_surrogates(value: Any) -> None:
    try:
        _encoder.encode(value).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidContent("in its file, a text has a lone surrogate") from error
    except RecursionError as error:
        raise InvalidContent("its file is not JSON, but nested too deep") from error


def decode_dropped(data: bytes, limit: int = MAX_BYTES) -> Content:
    """Read a file that came through `drop/`: a message as `encode` writes it, or plain text.

    A JSON object with a "message" is a message as `encode` writes it. Anything else is text,
    and loses its last newline.
    """
    try:
        return decode(data, limit)
    except TooLarge:
        raise
    except InvalidContent:
        return Content(_text(data), None)


def _text(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidContent("its file is not UTF-8 text") from error
    return text.removesuffix("\n")


def _overrides_in(value: dict[str, Any]) -> dict[str, Any]:
    """Return what the content of a file sets itself, or raise InvalidContent."""
    overrides = raised({key: value[key] for key in OVERRIDES if key in value})
    for key, own in overrides.items():
        found = fault(key, OVERRIDES[key], own)
        if found is not None:
            raise InvalidContent(f"in its file, {found}")
    return overrides
