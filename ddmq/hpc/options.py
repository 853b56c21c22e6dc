"""What a worker can be told, and how it is written on a command line."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, NamedTuple

from ddmq.clock import seconds_of
from ddmq.errors import InvalidArgument
from ddmq.names import check_queue_name

if TYPE_CHECKING:
    from collections.abc import Mapping

#: EX_TEMPFAIL: try again later, it is not this message's fault.
RETRY_FREE = frozenset((75,))
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class Options(NamedTuple):
    """Everything that `ddmq-worker` can be told about its work. Times are in seconds."""

    slots: int = 1
    stdin: bool = False
    timeout: float | None = None
    grace: float = 10.0
    term_signal: int = signal.SIGTERM
    fatal: frozenset[int] = frozenset()
    retry_free: frozenset[int] = RETRY_FREE
    on_exit: Mapping[int, str] = {}
    """The queue to which a message is moved, by exit status."""
    retries: int = 3
    """How often a message without a requeue_limit is tried again."""
    backoff: tuple[float, ...] = ()
    log_dir: str | None = None
    logs: str = "failed"
    log_limit: int = 10 << 20
    output_dir: str | None = None
    wait: float = 0.0
    until: str = "empty"
    """empty, done or forever."""
    max_messages: int | None = None
    max_failures: float | None = None
    max_failed_share: float | None = None
    fast_failures: int | None = None
    poll_max: float = 5.0
    spool: str = "/tmp"
    """Where outputs are kept while a command runs: a local disk."""


def seconds(text: str) -> float:
    """Read seconds, or [D-]HH:MM:SS as schedulers write it."""
    days, dash, clock = text.rpartition("-")
    total = 0.0
    try:
        for part in clock.split(":"):
            total = total * 60 + float(part)
        total += float(days if dash else 0) * 86400
    except ValueError as error:
        raise InvalidArgument(
            f"{text!r} is no time; write seconds or HH:MM:SS"
        ) from error
    if not 0 <= total < 10**9 or clock.count(":") > 2:
        raise InvalidArgument(f"{text!r} is no time; write seconds or HH:MM:SS")
    return total


def pauses(text: str) -> tuple[float, ...]:
    """Read several times with commas."""
    return tuple(seconds(part) for part in text.split(","))


def number(text: str) -> int:
    """Read a number of things, which may be 0."""
    if not text.isdigit():
        raise InvalidArgument(f"{text!r} is not a number")
    return int(text)


def positive(text: str) -> int:
    """Read a number of things, at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise InvalidArgument(f"{text!r} is not a positive number")
    return int(text)


def moment(text: str) -> float:
    """Read a point in time: seconds since 1970, or ISO 8601 (local time unless it says so)."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return seconds_of(text)
    except ValueError as error:
        raise InvalidArgument(
            f"{text!r} is no time; write 2030-01-31T12:00:00 or seconds since 1970"
        ) from error


def codes(text: str) -> frozenset[int]:
    """Read exit statuses with commas; 3-7 means all from 3 to 7."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(code(first), code(last or first) + 1))
    return frozenset(found)


def code(text: str) -> int:
    """Read one exit status; 128 + n stands for signal n, as shells have it."""
    if text.isdigit() and int(text) <= 255:
        return int(text)
    raise InvalidArgument(f"{text!r} is no exit status; it must be a number up to 255")


def on_exit(text: str) -> tuple[int, str]:
    """Read CODE=queue:NAME."""
    status, _, action = text.partition("=")
    kind, _, name = action.partition(":")
    if kind != "queue":
        raise InvalidArgument(f"{text!r} is not CODE=queue:NAME")
    return code(status), check_queue_name(name)


def size(text: str) -> int:
    """Read a number of bytes, such as 10M."""
    number, unit = text.rstrip("kKmMgG"), text[len(text.rstrip("kKmMgG")) :].upper()
    if number.isdigit() and unit in _UNITS:
        return int(number) * _UNITS[unit]
    raise InvalidArgument(f"{text!r} is no size; write a number, K, M or G behind it")


def signal_number(text: str) -> int:
    """Read the name of a signal, with or without SIG, or its number."""
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    try:
        return signal.Signals(int(text)) if text.isdigit() else signal.Signals[name]
    except (KeyError, ValueError) as error:
        raise InvalidArgument(f"{text!r} is no signal; write TERM, USR1 …") from error


def limit(text: str) -> tuple[float | None, float | None]:
    """Read N or P%; return the number or the share, from 0 to 1."""
    number, percent = text.rstrip("%"), text.endswith("%")
    try:
        value = float(number)
    except ValueError as error:
        raise InvalidArgument(
            f"{text!r} is neither a number nor a percentage"
        ) from error
    if not 0 < value < 10**9 or (percent and value > 100):
        raise InvalidArgument(f"{text!r} is neither a number nor a percentage")
    return (None, value / 100) if percent else (value, None)
