"""`ddmq export` and `ddmq import`."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq import Broker, DdmqError, InvalidArgument, QueueNotFound, Seen
from ddmq.broker import STATES
from ddmq.cli.commands import FORCE, QUEUE, ROOT
from ddmq.cli.input import messages, readable_twice
from ddmq.cli.spec import Command, Reply, option, positional, switch
from ddmq.cli.whole_file import ordinary, whole_file
from ddmq.errors import warn
from ddmq.message import encode
from ddmq.printable import printable_json
from ddmq.settings import OVERRIDES, SETTINGS, check, show
from ddmq.storage.names import MAX_COUNT, MAX_NOTE, check_queue_name
from ddmq.untrusted import moment, parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ddmq.cli.spec import Context

#: How many that are left out are told one by one.
_TOLD = 10
#: What is not exported, as it is said otherwise or true only here.
_OF_HERE = ("queue", "host", "process")


class Export(NamedTuple):
    """What `ddmq export` can be told."""

    root: str = ROOT
    queue: str = QUEUE
    output: str | None = option(
        "-o --output",
        "this file, which is there whole or not at all; standard output by default",
        metavar="FILE",
    )
    work: bool = switch("--work", "what is at work, too")
    no_dead: bool = switch("--no-dead", "no dead letters")


def export(told: Export, context: Context) -> Reply:
    """Write messages as lines of JSON."""
    broker = Broker(told.root, fs=context.fs)
    left_out = _LeftOut()
    rows = _rows(broker, told, left_out)
    if told.output is not None and told.output != "-":
        number = 0
        with whole_file(ordinary(told.output, follow=True)) as file:
            for number, row in enumerate(rows, 1):
                file.write(_line(row))
                if number % 1000 == 0:
                    context.tell(f"{number:,} messages")
        left_out.tell()
        value = {"exported": number, "left_out": left_out.number}
        return Reply(value, str(number), status=left_out.status)
    if not context.is_typed:
        return Reply({"messages": list(rows)}, "", status=left_out.status)
    for row in rows:
        sys.stdout.buffer.write(_line(row))
    sys.stdout.buffer.flush()
    left_out.tell()
    return Reply({}, "", status=left_out.status)


class _LeftOut:
    """The messages that can't be exported: the first ones are told one by one."""

    def __init__(self) -> None:
        self.number = 0
        self.status = 0

    def note(self, seen: Seen) -> None:
        """Note one; the status is 1 if it is a message that may be readable later."""
        self.number += 1
        if not seen.is_none:
            self.status = 1
        if self.number <= _TOLD:
            warn(f"left out: {seen.id}, {seen.state}: {seen.fault}")

    def tell(self) -> None:
        """Tell how many there are, if not all were told."""
        if self.number > _TOLD:
            warn(f"left out: {self.number} in all")


def _rows(
    broker: Broker, told: Export, left_out: _LeftOut
) -> Iterator[Mapping[str, Any]]:
    for seen in broker.contents(told.queue, work=told.work):
        if seen.state == "dead" and told.no_dead:
            continue
        if seen.fault:
            left_out.note(seen)
            continue
        row = seen.as_dict()
        yield {key: value for key, value in row.items() if key not in _OF_HERE}


def _line(row: Mapping[str, Any]) -> bytes:
    return printable_json(row).encode() + b"\n"


class Import(NamedTuple):
    """What `ddmq import` can be told."""

    root: str = ROOT
    queue: str = QUEUE
    file: str = positional("what `ddmq export` wrote; - is standard input")
    force: bool = FORCE
    no_dead: bool = switch("--no-dead", "leave dead letters out")


def import_(told: Import, context: Context) -> Reply:
    """Publish what was exported: first all lines are checked, so that one can't spoil the rest."""
    if told.force:
        check_queue_name(told.queue)  # before the root is made
    broker = Broker(told.root, create=told.force, fs=context.fs)
    limit = _limit(broker, told)
    published = [0]

    def note(number: int) -> None:
        published[0] = number
        context.tell(f"{number:,} messages")

    def seen(path: str, *, checks_size: bool) -> Iterator[Seen]:
        rows = messages(path, as_json=True, null=False, tell=lambda _: None)
        for number, row in enumerate(rows, 1):
            where = f"message {number} of {told.file}"
            found = seen_of(row, where)
            if told.no_dead and found.state == "dead":
                continue
            if checks_size:
                _check_size(found, where, limit)
            yield found

    with readable_twice(told.file) as path:
        for _ in seen(path, checks_size=True):
            pass
        try:
            number = broker.restore(told.queue, seen(path, checks_size=False), note)
        except (DdmqError, KeyboardInterrupt) as error:
            if not published[0]:
                raise
            told_so_far = (
                f"at least {published[0]} messages were imported before that, and would "
                "come twice if all were imported again"
            )
            if isinstance(error, KeyboardInterrupt):
                warn(f"interrupted; {told_so_far}")
                raise
            raise DdmqError(f"{error}; {told_so_far}") from error
    return Reply({"imported": number}, str(number))


def _limit(broker: Broker, told: Import) -> int:
    """Return how many bytes a message may have in the queue, which may be still to be made."""
    try:
        return broker.settings(told.queue).max_message_size
    except QueueNotFound:
        if not told.force:
            raise
        return broker.settings().max_message_size


def _check_size(seen: Seen, where: str, limit: int) -> None:
    """Raise InvalidArgument if a message can't be written, or would be too large."""
    try:
        encode(seen.message, seen.content_priority, limit)
    except InvalidArgument as error:
        raise InvalidArgument(f"{where}: {error}; nothing is imported") from error


def seen_of(row: Any, where: str) -> Seen:
    """Return the message that a line of an export holds, or raise InvalidArgument."""
    try:
        return _seen_of(row)
    except (InvalidArgument, TypeError) as error:
        raise InvalidArgument(
            f"{where}: {error}; nothing is imported: is it what `ddmq export` wrote?"
        ) from error


def _seen_of(row: Any) -> Seen:
    if not isinstance(row, dict) or "message" not in row:
        raise InvalidArgument('it is no object with a "message"')

    def read(key: str, default: Any, accepts: Callable[[Any], bool]) -> Any:
        value = row.get(key, default)
        if not accepts(value):
            raise InvalidArgument(f"{key} is {show(value)}")
        return value

    def is_counter(value: Any) -> bool:
        return type(value) is int and 0 <= value <= MAX_COUNT

    priority = SETTINGS["priority"]
    check("priority", priority, row.get("priority"))
    own = {key: row[key] for key in OVERRIDES if key in row}
    for key, value in own.items():
        check(key, OVERRIDES[key], value)
    published = row.get("published_priority", row["priority"])
    check("published_priority", priority, published)
    return Seen(
        row["message"],
        read("id", "", lambda value: isinstance(value, str)),
        "",
        read("state", "waiting", STATES.__contains__),
        row["priority"],
        read("failures", 0, is_counter),
        read("losses", 0, is_counter),
        own=own,
        published_priority=published,
        until=read(
            "until", None, lambda value: value is None or moment(value) is not None
        ),
        code=read("code", "rejected", _is_code),
        note=read("note", {}, _is_note),
    )


def _is_code(value: Any) -> bool:
    """Tell whether a word can be the reason in the name of a dead letter."""
    return isinstance(value, str) and re.fullmatch("[a-z]{1,20}", value) is not None


def _is_note(value: Any) -> bool:
    """Tell whether clients that list dead letters will read a note."""
    data = json.dumps(value).encode()
    try:
        parsed(data)
    except ValueError:
        return False
    return isinstance(value, dict) and len(data) <= MAX_NOTE


COMMANDS = (
    Command(
        "export",
        "write all that waits, is delayed or dead as lines of JSON",
        "ddmq export /scratch/mq jobs -o jobs.jsonl\n"
        "  ddmq export /scratch/mq jobs --work | gzip > jobs.jsonl.gz",
        Export,
        run=export,
        format=None,
    ),
    Command(
        "import",
        "publish what was exported, here or elsewhere; if it was before, it comes twice",
        "ddmq import /scratch2/mq jobs jobs.jsonl",
        Import,
        run=import_,
    ),
)
