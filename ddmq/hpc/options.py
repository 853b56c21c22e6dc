"""What a worker can be told, and how it is written on a command line."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq.clock import seconds_of
from ddmq.errors import InvalidArgument
from ddmq.hpc.placeholders import SLOTS, names_in, without_placeholders
from ddmq.settings import is_number
from ddmq.storage.names import check_queue_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: EX_TEMPFAIL: try again later, it is not this message's fault.
RETRY_FREE = frozenset((75,))
#: In place of an exit status: the command took too long.
TIMEOUT = "timeout"
_variable = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_part = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])")
_with_units = re.compile(f"(?:{_part.pattern})+")
#: Digits of a number that is read; more than any needs.
_DIGITS = 18
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class Next(NamedTuple):
    """What goes on in another queue when a command succeeded."""

    kind: str
    """`queue`: the message. `lines`: each line of its output, as a message."""
    queue: str


class WorkerOptions(NamedTuple):
    """Everything that `ddmq-worker` can be told about its work. Times are in seconds."""

    slots: int = 1
    stdin: bool = False
    batch: int = 1
    """How many messages a command gets at most."""
    persistent: bool = False
    """Whether a command stays for one message after the other."""
    env: Mapping[str, str] = {}
    """Variables for the commands; placeholders in the values are replaced."""
    bind: bool = False
    """Whether each slot has its own share of the cores."""
    timeout: float | None = None
    grace: float = 10.0
    term_signal: int = signal.SIGTERM
    fatal: frozenset[int] = frozenset()
    retry_free: frozenset[int] = RETRY_FREE
    on_exit: Mapping[int | str, str] = {}
    """The queue to which a message is moved, by exit status, or `timeout`."""
    on_success: Next | None = None
    """Where a message goes on, or its output, when its command succeeded."""
    retries: int = 3
    """How often a message without a requeue_limit is tried again."""
    backoff: tuple[float, ...] = ()
    group: bool = False
    """Whether what a command prints is passed on in one piece, when it ends."""
    tag: bool = False
    """Whether each line that is passed on begins with the text of its message."""
    log_dir: str | None = None
    logs: str = "failed"
    log_limit: int = 10 << 20
    output_dir: str | None = None
    output_name: str | None = None
    """What a result is called: a text with placeholders. None: as the id of its message."""
    wait: float = 0.0
    until: str = "empty"
    """empty, done or forever."""
    max_messages: int | None = None
    max_failures: float | None = None
    max_failed_share: float | None = None
    fast_failures: int | None = None
    brake: bool = True
    """Whether it stops when the first commands all fail."""
    then: tuple[str, ...] = ()
    """The words of a command to run when the queue is done; none: nothing is run."""
    then_even_if_dead: bool = False
    """Whether it is run though there are dead letters."""
    poll_max: float = 5.0
    spool: str = "/tmp"
    """Where outputs are kept while a command runs: a local disk."""

    @property
    def has_logs(self) -> bool:
        """Whether what some commands print is kept in `log_dir`."""
        return self.log_dir is not None and self.logs != "none"

    def keeps_log_of(self, result: str) -> bool:
        """Tell whether that holds for a run with this result, as the journal calls it."""
        return self.has_logs and (self.logs == "all" or result != "acked")

    def checked(self, queue: str) -> WorkerOptions:
        """Return them; InvalidArgument where a program gave what no command line could say.

        `queue` is the one that the worker consumes.
        """
        for names, is_right, must in _RULES:
            for name in names:
                value = getattr(self, name)
                default = WorkerOptions._field_defaults[name]
                if value is not default and not is_right(value):
                    raise InvalidArgument(f"{name} is {value!r:.60}; it must be {must}")
        for name in self.env:
            variable(f"{name}=")
        if self.output_name is not None:
            output_name(self.output_name)
            if self.output_dir is None:
                raise InvalidArgument("output_name needs output_dir")
        for code_, name in self.on_exit.items():
            on_exit(f"{code_}=queue:{name}")
        if TIMEOUT in self.on_exit and self.timeout is None:
            raise InvalidArgument("on_exit: timeout needs a timeout")
        if self.on_success is not None:
            kind, name = on_success(":".join(self.on_success))
            if name == queue:
                raise InvalidArgument("on_success: the next queue must be another one")
            if kind == "lines" and self.output_dir is None:
                raise InvalidArgument("on_success with lines needs output_dir")
        return self


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_time(value: Any) -> bool:
    return is_number(value) and 0 <= value < 10**9


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


_RULES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (
        ("slots", "batch", "max_messages", "fast_failures", "log_limit"),
        lambda value: _is_count(value) and value > 0,
        "a positive number",
    ),
    (("retries",), _is_count, "a number"),
    (("timeout", "grace", "wait", "poll_max"), _is_time, "a number of seconds"),
    (
        ("backoff",),
        lambda value: isinstance(value, tuple) and all(map(_is_time, value)),
        "a tuple of seconds",
    ),
    (
        ("fatal", "retry_free"),
        lambda value: isinstance(value, (set, frozenset))
        and all(map(_is_count, value)),
        "a set of exit statuses",
    ),
    (
        ("max_failures", "max_failed_share"),
        lambda value: is_number(value) and value > 0,
        "a number above 0",
    ),
    (
        ("bind", "brake", "group", "tag", "stdin", "persistent", "then_even_if_dead"),
        lambda value: isinstance(value, bool),
        "True or False",
    ),
    (
        ("term_signal",),
        lambda value: isinstance(value, int) and value in set(signal.Signals),
        "the number of a signal",
    ),
    (
        ("env",),
        lambda value: isinstance(value, dict)
        and all(map(_is_text, value))
        and all(isinstance(text, str) for text in value.values()),
        "a dict of names and texts",
    ),
    (
        ("on_exit",),
        lambda value: isinstance(value, dict)
        and all(_is_count(status) or status == TIMEOUT for status in value)
        and all(map(_is_text, value.values())),
        "a dict of exit statuses (or 'timeout') and names of queues",
    ),
    (
        ("on_success",),
        lambda value: isinstance(value, Next) and all(map(_is_text, value)),
        "queue:NAME or lines:NAME",
    ),
    (("output_name",), _is_text, "a text with placeholders"),
    (("until",), ("empty", "done", "forever").__contains__, "empty, done or forever"),
    (("logs",), ("failed", "all", "none").__contains__, "failed, all or none"),
    (("log_dir", "output_dir", "spool"), _is_text, "the path of a directory"),
    (
        ("then",),
        lambda value: isinstance(value, tuple) and all(map(_is_text, value)),
        "a tuple of words",
    ),
)


def seconds(text: str) -> float:
    """Read seconds, 90s, 5m, 1h30m, 2d, or [D-]HH:MM:SS as schedulers write it."""
    if _with_units.fullmatch(text):
        parts = _part.findall(text)
        return _believed(text, sum(float(n) * _SECONDS[unit] for n, unit in parts))
    days, dash, clock = text.rpartition("-")
    total = 0.0
    try:
        for part in clock.split(":"):
            total = total * 60 + float(part)
        total += float(days if dash else 0) * 86400
    except ValueError as error:
        raise _no_time(text) from error
    if clock.count(":") > 2:
        raise _no_time(text)
    return _believed(text, total)


def _believed(text: str, total: float) -> float:
    if not 0 <= total < 10**9:
        raise _no_time(text)
    return total


def _no_time(text: str) -> InvalidArgument:
    return InvalidArgument(f"{text!r} is no time; write seconds, or 5m, 1h, HH:MM:SS")


def pauses(text: str) -> tuple[float, ...]:
    """Read several times with commas."""
    return tuple(seconds(part) for part in text.split(","))


def _is_whole(text: str) -> bool:
    """Tell whether a text is a whole number that `int` reads: not `²`, nor thousands of digits."""
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS


def number(text: str) -> int:
    """Read a number of things, which may be 0."""
    if not _is_whole(text):
        raise InvalidArgument(f"{text!r}: it must be a whole number, 0 or more")
    return int(text)


def positive(text: str) -> int:
    """Read a number of things, at least 1."""
    if not _is_whole(text) or int(text) < 1:
        raise InvalidArgument(f"{text!r}: it must be a whole number, 1 or more")
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
    if _is_whole(text) and int(text) <= 255:
        return int(text)
    raise InvalidArgument(f"{text!r} is no exit status; it must be a number up to 255")


def on_exit(text: str) -> tuple[int | str, str]:
    """Read CODE=queue:NAME, or timeout=queue:NAME."""
    status, _, action = text.partition("=")
    kind, _, name = action.partition(":")
    if kind != "queue":
        raise InvalidArgument(
            f"{text!r} is neither CODE=queue:NAME nor timeout=queue:NAME"
        )
    return status if status == TIMEOUT else code(status), check_queue_name(name)


def on_success(text: str) -> Next:
    """Read queue:NAME or lines:NAME."""
    kind, _, name = text.partition(":")
    if kind not in ("queue", "lines"):
        raise InvalidArgument(f"{text!r} is neither queue:NAME nor lines:NAME")
    return Next(kind, check_queue_name(name))


def output_name(text: str) -> str:
    """Read the name of a result, in which placeholders stand for parts of its message.

    It is the same whenever the message runs, so no placeholder may stand for the slot.
    """
    names = names_in(text)
    if not set(names) - SLOTS:
        raise InvalidArgument(
            f"{text!r} is the same name for all messages; write {{/}}, {{id}} or {{field}} in it"
        )
    if set(names) & SLOTS:
        raise InvalidArgument(f"{text!r}: a message may run again in another slot")
    outside = without_placeholders(text)
    if "/" in outside or text.startswith("."):
        raise InvalidArgument(
            f"{text!r} is no name in --output-dir; write it without a slash, "
            "and no dot at its beginning"
        )
    return text


def variable(text: str) -> tuple[str, str]:
    """Read NAME=VALUE, in whose value placeholders stand for parts of the message or the slot.

    Names that begin with DDMQ_ are ours: by one of them a command is found and killed.
    """
    name, equals, value = text.partition("=")
    if not equals or not _variable.fullmatch(name):
        raise InvalidArgument(f"{text!r} is not NAME=VALUE")
    if name.startswith("DDMQ_"):
        raise InvalidArgument(f"{name} is set by ddmq; choose another name")
    return name, value


def command_line(text: str) -> tuple[str, ...]:
    """Read a command with its arguments, quoted as for a shell; no shell will run it."""
    import shlex  # rarely needed

    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise InvalidArgument(f"{text!r} is no command: {error}") from error
    if not words or not words[0] or "\0" in text:
        raise InvalidArgument(f"{text!r} is no command; write 'sbatch collect.sh'")
    return words


def size(text: str) -> int:
    """Read a number of bytes, such as 10M."""
    number, unit = text.rstrip("kKmMgG"), text[len(text.rstrip("kKmMgG")) :].upper()
    if _is_whole(number) and unit in _UNITS:
        return int(number) * _UNITS[unit]
    raise InvalidArgument(f"{text!r} is no size; write a number, K, M or G behind it")


def signal_number(text: str) -> int:
    """Read the name of a signal, with or without SIG, or its number."""
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    try:
        return signal.Signals(int(text)) if _is_whole(text) else signal.Signals[name]
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
