"""The keys of `ddmq.yaml`: checked, read from YAML, and layered.

A queue's file overrides that of its root, which overrides the defaults.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, cast

from ddmq.errors import InvalidArgument, InvalidSettings, UnknownLayout, did_you_mean
from ddmq.storage.names import MAX_PRIORITY, MIN_TIMEOUT_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

#: Bytes from which on a `ddmq.yaml` is too long.
MAX_FILE = 1 << 16
#: The layout of a queue's files: its number, and the first ddmq that knew it.
LAYOUT, LAYOUT_SINCE = 2, "1.0.0"
#: The one line of a queue's file that is not a setting. We read it without yaml.
LAYOUT_LINE = f"layout: {LAYOUT} (ddmq {LAYOUT_SINCE})"
_LAYOUT = r"""layout:[ \t]+ (?P<number>[1-9][0-9]{0,8})
    ( [ ] \(ddmq[ ](?P<since>[0-9][0-9A-Za-z.+-]{0,20})\) )?
    [ \t]* ( [ \t]\#[^\r\x85\u2028\u2029]* )? \r?"""
#: What yaml raises, beside its own errors, for a value that it can't construct.
_UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
_MAX_SECONDS = 10**9
#: The shortest timeout. Shorter ones would keep a file server busy with renewals.
_MIN_TIMEOUT = MIN_TIMEOUT_MS // 1000
_MAX_LIMIT = 10**8
#: The greatest value of `max_message_size`, and the smallest.
MAX_BYTES, _MIN_BYTES = 64 << 20, 1 << 10


class Settings(NamedTuple):
    """The settings that hold for one queue."""

    message_timeout: float = 600
    priority: int = 999
    requeue: bool = True
    requeue_prio: int = 0
    requeue_limit: int | None = None
    durable: bool = True
    lock_timeout: float = 10
    max_message_size: int = 1 << 20


class Layer(TypedDict, total=False):
    """What one `ddmq.yaml` sets: some of the settings, all of them checked."""

    message_timeout: float
    priority: int
    requeue: bool
    requeue_prio: int
    requeue_limit: int | None
    durable: bool
    lock_timeout: float
    max_message_size: int


class Limit:
    """How many bytes a message may have. This one is the default; a queue's own is in its file."""

    max_bytes = Settings().max_message_size
    """As it was when it was last read."""

    def reread(self) -> int:
        """Return it as it is now; what can't be read now leaves what was read last."""
        return self.max_bytes


class Setting:
    """One setting: what it means, and what a value must be."""

    def __init__(self, meaning: str, must: str, accepts: Callable[[Any], bool]) -> None:
        self.meaning = meaning
        self.must = must
        self.accepts = accepts


def is_number(value: Any) -> bool:
    """Tell whether a value of JSON or YAML is a number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_integer(value: Any, most: int, least: int = 0) -> bool:
    is_one = isinstance(value, int) and not isinstance(value, bool)
    return is_one and least <= value <= most


def _priority(meaning: str) -> Setting:
    must = f"an integer from 0 (first) to {MAX_PRIORITY}"
    return Setting(meaning, must, lambda v: _is_integer(v, MAX_PRIORITY))


def _boolean(meaning: str) -> Setting:
    return Setting(meaning, "true or false", lambda v: isinstance(v, bool))


#: Every key of `ddmq.yaml`, in the order in which it is shown.
SETTINGS: Mapping[str, Setting] = {
    "message_timeout": Setting(
        "seconds that a consumed message may stay unacknowledged",
        f"a number of seconds from {_MIN_TIMEOUT} to {_MAX_SECONDS}",
        lambda v: is_number(v) and _MIN_TIMEOUT <= v <= _MAX_SECONDS,
    ),
    "priority": _priority("priority of a message; lower is consumed first"),
    "requeue": _boolean("whether a message that failed or was lost is tried again"),
    "requeue_prio": _priority("priority of a message that is tried again"),
    "requeue_limit": Setting(
        "how often a message is tried again; then it is a dead letter",
        f"an integer from 0 to {_MAX_LIMIT}, or null for no limit",
        lambda v: v is None or _is_integer(v, _MAX_LIMIT),
    ),
    "durable": _boolean("whether publish waits until the message is on stable storage"),
    "lock_timeout": Setting(
        "seconds that administration waits for a lock",
        f"a positive number of seconds, at most {_MAX_SECONDS}",
        lambda v: is_number(v) and 0 < v <= _MAX_SECONDS,
    ),
    "max_message_size": Setting(
        "bytes that a message may have as JSON; a larger one is refused, or a dead letter",
        f"an integer of bytes from {_MIN_BYTES} to {MAX_BYTES}",
        lambda v: _is_integer(v, MAX_BYTES, _MIN_BYTES),
    ),
}

#: What a message may set for itself when it is published.
OVERRIDES: Mapping[str, Setting] = {
    "timeout": SETTINGS["message_timeout"],
    "requeue": SETTINGS["requeue"],
    "requeue_prio": SETTINGS["requeue_prio"],
    "requeue_limit": SETTINGS["requeue_limit"],
}

DELAY = Setting(
    "seconds until a message is visible",
    f"a number of seconds from 0 to {_MAX_SECONDS}",
    lambda v: is_number(v) and 0 <= v <= _MAX_SECONDS,
)


def fault(name: str, setting: Setting, value: Any) -> str | None:
    """Say in one line why `value` can't be used for `name`; None when it can."""
    if setting.accepts(value):
        return None
    return f"{name} is {show(value)}; it must be {setting.must}"


def check(name: str, setting: Setting, value: Any) -> None:
    """Raise InvalidArgument unless `value` can be used for `name`."""
    found = fault(name, setting, value)
    if found is not None:
        raise InvalidArgument(found)


def raised(values: dict[str, Any]) -> dict[str, Any]:
    """Return `values` with the shortest timeout in place of one that is too short.

    This is for what somebody wrote into a file. A command refuses a timeout that is too short.
    """
    short = {
        key: _MIN_TIMEOUT
        for key in ("message_timeout", "timeout")
        if is_number(values.get(key)) and 0 < values[key] < _MIN_TIMEOUT
    }
    return {**values, **short} if short else values


def show(value: Any) -> str:
    """Return a short text for any value, however large."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number with many digits"
    if isinstance(value, (int, float, str)):
        return repr(value)[:60]
    return f"of type {type(value).__name__}"


def template(*, of_queue: bool = False) -> str:
    """Return the text of a new `ddmq.yaml`: comments that explain each setting.

    The file of a queue begins with its layout.
    """
    lines = [
        "# Settings of ddmq. Uncomment a line to change it; a queue's file has the",
        "# last word over the root's. Running clients notice within a minute.",
    ]
    if of_queue:
        why = "# How the files of this queue are named: leave this line alone."
        lines = [why, LAYOUT_LINE, "", *lines]
    for key, setting in SETTINGS.items():
        default = show(getattr(_DEFAULTS, key))
        lines += ["", f"# {setting.meaning}", f"# ({setting.must})"]
        lines += [f"#{key}: {default}"]
    return "\n".join(lines) + "\n"


def parse(data: bytes, path: str, *, of_queue: bool = False) -> Layer:
    """Read what a `ddmq.yaml` sets. InvalidSettings names the file, the key and the remedy.

    The file of a queue must also name a layout that we know: else UnknownLayout.
    """
    text = decoded(data, path)
    if of_queue:
        layout = check_layout(text, path)
        text = "\n".join("" if x == layout else x for x in text.split("\n"))
    lines = (line.strip() for line in text.split("\n"))
    values: Any = None
    # Importing yaml costs a third of a command, and most files hold nothing but comments.
    if any(line and not line.startswith("#") for line in lines):
        values = _load(text, path)
    if isinstance(values, dict):
        values = raised(values)
    return checked({} if values is None else values, path)


def check_layout(text: str, path: str) -> str:
    """Return the line of a queue's `ddmq.yaml` that names its layout.

    Raises UnknownLayout when we don't know that layout, and InvalidSettings when the file
    names none.
    """
    lines = [x for x in text.split("\n") if x.partition(":")[0].rstrip() == "layout"]
    if lines == [LAYOUT_LINE]:
        return LAYOUT_LINE
    if not lines:
        raise InvalidSettings(
            f"{path}: it has no line `{LAYOUT_LINE}`; put it back if the queue was made by "
            f"ddmq {LAYOUT_SINCE} or later; take it over with `ddmq migrate` if ddmq 0.9 made it; "
            "else delete the queue and create it again"
        )
    if len(lines) > 1:
        raise InvalidSettings(
            f"{path}: {len(lines)} lines begin with layout; keep the one that ddmq wrote"
        )
    found = re.fullmatch(_LAYOUT, lines[0], re.VERBOSE)
    if found is None:
        raise InvalidSettings(
            f"{path}: {show(lines[0])} names no layout; write what ddmq did, such as "
            f"`{LAYOUT_LINE}`"
        )
    number = int(found["number"])
    if number != LAYOUT:
        raise UnknownLayout(path, number, found["since"], LAYOUT)
    return lines[0]


def checked(values: Any, path: str) -> Layer:
    """Return `values` when every key and value is a setting, or raise InvalidSettings."""
    if not isinstance(values, dict):
        raise InvalidSettings(
            f"{path}: {show(values)}; it must be lines of `key: value`"
        )
    for key, value in values.items():
        if key == "layout":
            raise InvalidSettings(
                f"{path}: layout is no setting; leave it out: ddmq writes it into the file "
                "of each queue, once and for all"
            )
        if key not in SETTINGS:
            known = ", ".join(SETTINGS)
            within = [each for each in SETTINGS if f"_{key}" in f"_{each}"]
            meant = f"; did you mean {' or '.join(within)}?" if within else ""
            meant = meant or did_you_mean(str(key), SETTINGS)
            raise InvalidSettings(
                f"{path}: unknown key {show(key)}{meant}; known are {known}"
            )
        found = fault(key, SETTINGS[key], value)
        if found is not None:
            raise InvalidSettings(f"{path}: {found}")
    return cast("Layer", values)


def decoded(data: bytes, path: str) -> str:
    """Return the text of a `ddmq.yaml`, or raise InvalidSettings."""
    if len(data) >= MAX_FILE:
        raise InvalidSettings(f"{path}: over {MAX_FILE} bytes; keep only the settings")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidSettings(f"{path}: not UTF-8 text; write it anew") from error


def _load(text: str, path: str) -> Any:
    import yaml  # slow to import, and most files hold comments alone

    class PlainLoader(yaml.SafeLoader):
        """A loader without merge keys: a small file that nests them takes hours to read."""

        def flatten_mapping(self, node: object) -> None:
            """Leave the key `<<` as it is; then no constructor accepts it."""

    try:
        return yaml.load(text, PlainLoader)
    except (yaml.YAMLError, *_UNREADABLE) as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where is not None else ""
        raise InvalidSettings(
            f"{path}: not YAML{line}; write `key: value` lines"
        ) from error


def parse_value(text: str) -> Any:
    """Read one value as `ddmq.yaml` would."""
    return _load(text, "value") if text.strip() else None


def dump(values: Any) -> str:
    """Return `values`, made of JSON types, as YAML.

    What is nested too deep for yaml is written as JSON, which is YAML as well.
    """
    import yaml  # slow to import, and rarely needed

    try:
        text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    except RecursionError:
        text = json.dumps(values, ensure_ascii=False)
    return text


def edited(
    text: str,
    changes: Layer,
    unset: Iterable[str],
    path: str = "ddmq.yaml",
    *,
    of_queue: bool = False,
) -> str:
    """Return the text of the `ddmq.yaml` at `path` with `changes` made and its comments kept.

    Lines are replaced, added or removed. A file in another style than `key: value` lines is
    written anew; of a queue's file, the line that names its layout stays.
    """
    before: dict[str, Any] = {**parse(text.encode(), path, of_queue=of_queue)}
    wanted = {k: v for k, v in {**before, **changes}.items() if k not in set(unset)}
    result = text
    for key in (*changes, *unset):
        line = ""
        if key in wanted:
            value = wanted[key]
            line = f"{key}: {repr(value) if is_number(value) else show(value)}\n"
        found = re.search(rf"^{key}[ \t]*:.*\n?", result, re.MULTILINE)
        if found is not None:
            result = result[: found.start()] + line + result[found.end() :]
        else:
            result = f"{result.rstrip()}\n{line}" if result.strip() else line
    with suppress(InvalidSettings):  # a line that we took for a key was something else
        if parse(result.encode(), path, of_queue=of_queue) == wanted:
            return result
    layout = f"{check_layout(text, path)}\n" if of_queue else ""
    return layout + (dump(wanted) if wanted else "")


def layered(*layers: Layer) -> Settings:
    """Return the settings that hold when each layer overrides those before it."""
    values = Layer()
    for layer in layers:
        values.update(layer)
    return Settings(**values)


_DEFAULTS = Settings()
