"""What each command does: named arguments in, one reply out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq import source
from ddmq.broker import STATES, UNSET, Broker
from ddmq.clock import Clock, date
from ddmq.errors import DdmqError, InvalidArgument, LeaseLost
from ddmq.printable import printable, printable_json
from ddmq.settings import checked, show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ddmq.hpc.journal import Run
    from ddmq.message import DeadLetter, Message
    from ddmq.store import Counts

    #: The arguments of one call, by name; and "tell", which shows progress.
    Values = Mapping[str, Any]

NOTHING_TO_CONSUME = 3


class Reply(NamedTuple):
    """What a command answers."""

    value: Mapping[str, Any]
    """As JSON types: all that `ddmq json` prints."""
    plain: str
    """For people."""
    shown: Any = None
    """What `--format json` and `yaml` print, where that is not `value`."""
    status: int = 0
    undo: Callable[[], None] | None = None
    """What to do when the answer can't be given."""


def _broker(values: Values) -> Broker:
    return Broker(
        values["root"],
        create=bool(values.get("force")),
        clean=not values.get("skip_cleaning"),
        fs=values["fs"],
        lock_timeout=values.get("lock_timeout"),
    )


def view(values: Values) -> Reply:
    """Count the messages of queues, or name the queues."""
    broker = _broker(values)
    if values["names"]:
        names = values["queue"] or broker.queues()
        return Reply({"queues": names}, "\n".join(names))
    counts = broker.view(values["queue"])
    return Reply(
        {name: count._asdict() for name, count in counts.items()}, _table(counts)
    )


def _table(counts: Mapping[str, Counts]) -> str:
    width = max(map(len, ("queue", *counts)))
    lines = [f"{'queue':<{width}} " + "".join(f"{state:>10}" for state in STATES)]
    for name, count in counts.items():
        lines.append(f"{name:<{width}} " + "".join(f"{number:>10}" for number in count))
    return "\n".join(lines)


def create(values: Values) -> Reply:
    """Make queues."""
    broker = Broker(
        values["root"],
        create=values["force"],
        mode=values["mode"],
        lock_timeout=values["lock_timeout"],
        fs=values["fs"],
    )
    made = {
        name: broker.create_queue(name, mode=values["mode"])
        for name in values["queue"] or ()
    }
    told = [f"{name}: {'created' if new else 'exists'}" for name, new in made.items()]
    return Reply({"created": made}, "\n".join(told) or f"{broker.root}: initiated")


def delete(values: Values) -> Reply:
    """Delete queues."""
    broker = _broker(values)
    for name in values["queue"]:
        broker.delete_queue(name)
    told = "\n".join(f"{name}: deleted" for name in values["queue"])
    return Reply({"deleted": values["queue"]}, told)


def publish(values: Values) -> Reply:
    """Publish one message, or the lines of a file."""
    if (values["message"] is UNSET) == (values["from_file"] is None):
        raise InvalidArgument("publish one message or --from-file, and not both")
    broker, queue, options = _broker(values), values["queue"], _options(values)
    if values["from_file"] is not None:
        told = source.messages(
            values["from_file"],
            as_json=bool(values["json"]),
            null=bool(values["null"]),
            tell=values["tell"],
        )
        number = broker.publish_many(queue, told, **options)
        return Reply({"published": number}, str(number))
    id_ = broker.publish(queue, _message(values), **options)
    return Reply({"id": id_}, id_)


def _options(values: Values) -> dict[str, Any]:
    names = ("priority", "timeout", "requeue", "requeue_prio", "delay", "durable")
    options = {name: values[name] for name in names if values[name] is not None}
    if values["requeue_limit"] is not UNSET:
        options["requeue_limit"] = values["requeue_limit"]
    return options


def _message(values: Values) -> Any:
    message = values["message"]
    if message == "-" and values["typed"]:
        message = source.standard_input().removesuffix("\n")
    return source.from_json(message, "message") if values["json"] else message


def consume(values: Values) -> Reply:
    """Lease messages and show them."""
    number = 1 if values["number"] is None else values["number"]
    broker = _broker(values)
    messages = broker.consume(values["queue"], number)
    shown = [message.as_dict() for message in messages]
    if not messages:
        return Reply({"messages": []}, "", [], NOTHING_TO_CONSUME)
    texts = [_text(message.message) for message in messages]
    plain = texts[0] if number == 1 else "\n".join(map(printable, texts))
    return Reply(
        {"messages": shown},
        plain,
        shown if number > 1 else shown[0],
        undo=partial(broker.release, messages),
    )


def _text(message: Any) -> str:
    return message if isinstance(message, str) else printable_json(message)


def settle(
    done: str, settle: Callable[[Broker, Message, Values], object]
) -> Callable[[Values], Reply]:
    """Return a command that does something to each leased message that is named."""

    def run(values: Values) -> Reply:
        broker, ids, lost = _broker(values), [], []
        for name in values["id"]:
            try:
                message = broker.leased(values["queue"], name)
                settle(broker, message, values)
                ids.append(message.id)
            except LeaseLost as error:
                lost.append(str(error))
        plain = "\n".join(f"{id_}: {done}" for id_ in ids)
        if not lost:
            return Reply({done: ids}, plain)
        raise LeaseLost(
            "; ".join(lost) + (f"; {done}: {', '.join(ids)}" if ids else "")
        )

    return run


def nack(broker: Broker, message: Message, values: Values) -> None:
    """Nack one leased message."""
    delay = 0 if values["delay"] is None else values["delay"]
    broker.nack(message, delay=delay, reason=values["reason"] or "")


def purge(values: Values) -> Reply:
    """Remove messages."""
    broker = _broker(values)
    states = STATES if values["only"] is None else values["only"]
    counts = {name: broker.purge(name, states) for name in values["queue"]}
    return Reply(
        {name: count._asdict() for name, count in counts.items()}, _table(counts)
    )


def clean(values: Values) -> Reply:
    """Do all housekeeping."""
    broker, names = _broker(values), values["queue"]
    swept = broker.clean_all() if names is None else {n: broker.clean(n) for n in names}
    found = {name: numbers._asdict() for name, numbers in swept.items()}
    told = [
        f"{name}: " + ", ".join(f"{number} {what}" for what, number in swept.items())
        for name, swept in found.items()
    ]
    return Reply(found, "\n".join(told))


def dead(values: Values) -> Reply:
    """List dead letters."""
    letters = _broker(values).dead(values["queue"])
    shown = [letter.as_dict() for letter in letters]
    return Reply({"dead": shown}, "\n".join(map(_obituary, letters)), shown)


def _obituary(letter: DeadLetter) -> str:
    """Tell all that is known of a dead letter, what its command said last included."""
    from ddmq.untrusted import moment  # rarely needed

    note = letter.note
    lines = [f"{letter.id}  {_text(letter.message)}", f"    {letter.reason}"]
    time = moment(note.get("time"))
    if time is not None:
        lines[1] += f", {date(time)}"
    told = {key: value for key, value in note.items() if isinstance(value, str)}
    lines += [f"    {key} {told[key]}" for key in ("job", "log") if told.get(key)]
    lines += [f"    | {line}" for line in told.get("stderr", "").splitlines()[-5:]]
    return "\n".join(map(printable, lines))


def log(values: Values) -> Reply:
    """List the runs in the journals of a queue."""
    from ddmq.hpc import journal  # no other command reads journals

    broker, queue = _broker(values), values["queue"]
    broker.settings(queue)  # there must be such a queue
    path = f"{broker.root}/{queue}"
    if values["compact"]:
        number = journal.compact(path, Clock().own_ns() / 1e9)
        return Reply({"compacted": number}, f"{number} journals compacted")
    runs = sorted(_wanted(journal.read(path), values), key=lambda run: run.start)
    if values["slowest"] is not None:
        slowest = sorted(runs, key=lambda run: run.duration, reverse=True)
        runs = slowest[: _number(values["slowest"])]
    shown, told = [run._asdict() for run in runs], map(journal.told, runs)
    return Reply({"runs": shown}, "\n".join(map(printable, told)), shown)


def _wanted(runs: Iterable[Run], values: Values) -> Iterator[Run]:
    for run in runs:
        is_here = values["host"] is None or run.host == values["host"]
        if is_here and (
            not values["failed"] or run.result not in ("acked", "released")
        ):
            yield run


def _number(value: Any) -> int:
    if isinstance(value, int) and value > 0:
        return value
    raise InvalidArgument(f"{show(value)} is no positive number of runs")


def redrive(values: Values) -> Reply:
    """Put dead letters back in line."""
    number = _broker(values).redrive(values["queue"], values["id"])
    return Reply({"redriven": number}, str(number))


def wait(values: Values) -> Reply:
    """Wait until queues are empty."""
    broker, timeout = _broker(values), values["timeout"]

    def progress(name: str) -> None:
        values["tell"](f"{name}: {_told(broker.view(name))}")

    clock, left = Clock(), timeout
    began = clock.monotonic()
    for name in values["queue"]:
        if not broker.wait(name, left, progress):
            counts = broker.view(name)
            raise DdmqError(
                f"after {timeout} seconds, queue {name} is not empty: {_told(counts)}"
            )
        if timeout is not None:
            left = max(timeout - (clock.monotonic() - began), 0)
    return Reply({"empty": values["queue"]}, "")


def _told(counts: Mapping[str, Counts]) -> str:
    return ", ".join(
        f"{number} {state}"
        for count in counts.values()
        for state, number in count._asdict().items()
    )


def config(values: Values) -> Reply:
    """Show or change settings."""
    broker, queue = _broker(values), values["queue"]
    changes, unset = values["set"] or {}, values["unset"] or []
    settings = broker.settings(queue)
    checked(changes, f"{broker.root}/{queue or ''}".rstrip("/") + "/ddmq.yaml")
    if changes or unset:
        settings = broker.update_settings(queue, unset=unset, **changes)
    lines = [f"{key}: {show(value)}" for key, value in settings._asdict().items()]
    return Reply(settings._asdict(), "\n".join(lines))


def check(values: Values) -> Reply:
    """Check a file system."""
    from ddmq.check import session  # only this command needs all that
    from ddmq.scheduler import environment

    place = session.Place(values["dir"], values["dir2"])
    if values["timeout"] is not None:
        place = place._replace(timeout=_number(values["timeout"]))
    clients = None if values["clients"] is None else _number(values["clients"])
    found = session.check(place, environment(), clients, values["tell"])
    if found is None:  # another process reports
        return Reply({}, "", [])
    return Reply(found.as_dict(), str(found), status=0 if found.is_safe else 1)


def doctor(values: Values) -> Reply:
    """Look what is wrong with queues."""
    from ddmq.doctor import diagnose  # only this command needs it

    found = diagnose(values["root"], values["queue"], fix=bool(values["fix"]))
    return Reply(found.as_dict(), str(found), status=0 if found.is_well else 1)
