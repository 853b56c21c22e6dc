"""`ddmq peek` and `ddmq show`: messages that nobody takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq import Broker
from ddmq.cli.commands import QUEUE, ROOT, positive
from ddmq.cli.commands.dead_letters import tries_of, whole, whole_letters
from ddmq.cli.selection import Named, Selection, in_queue
from ddmq.cli.spec import NUMBER, Command, Reply, group, option
from ddmq.clock import Clock, date, span
from ddmq.errors import MessageNotFound
from ddmq.printable import printable, printable_json, text_of

if TYPE_CHECKING:
    from ddmq import Seen
    from ddmq.cli.spec import Context, Number

_USUALLY = 10
#: The last time, in seconds since 1970, that can be written as a date: in the year 9999.
_LAST = 253_402_300_799


class Peek(NamedTuple):
    """What `ddmq peek` can be told."""

    root: str = ROOT
    queue: str = QUEUE
    number: Number = option(
        "-n --number", f"so many at most; {_USUALLY} by default", NUMBER
    )


def peek(told: Peek, context: Context) -> Reply:
    """Show the messages that would be consumed next."""
    number = _USUALLY if told.number is None else positive(told.number)
    found = Broker(told.root, fs=context.fs).peek(told.queue, number)
    shown = [each.as_dict() for each in found]
    lines = [f"{x.id}  {x.priority}  {printable(_text(x))}" for x in found]
    return Reply({"messages": shown}, "\n".join(lines), shown=shown)


def _text(found: Seen) -> str:
    return f"({found.fault})" if found.fault else text_of(found.message)


class Show(NamedTuple):
    """What `ddmq show` can be told."""

    root: str = ROOT
    queue: str = QUEUE
    named: Named = group(Named)


def show(told: Show, context: Context) -> Reply:
    """Show messages whole, wherever they are."""
    broker = Broker(told.root, fs=context.fs)
    look = in_queue(broker, told.queue, journals=True)
    values: list[dict[str, Any]] = []
    lines = []
    for id_ in Selection(broker, told.queue, look).required(told.named):
        value, plain = _shown(broker, told.queue, id_)
        values += value
        lines.append(plain)
    shown = values[0] if len(values) == 1 else values
    return Reply({"messages": values}, "\n".join(lines), shown=shown)


def _shown(broker: Broker, queue: str, id_: str) -> tuple[list[dict[str, Any]], str]:
    """Return all that is known of a message, for programs and for people."""
    found = broker.find(queue, id_)
    if found is not None and found.state == "dead":
        letters = [each for each in broker.dead(queue) if each.id == id_]
        each, plain = whole_letters(broker, queue, letters)
        return [{"state": "dead", **value} for value in each], plain
    tries = tries_of(broker, queue, id_)
    if found is None:
        last = f"; a worker noted of it: {tries[-1].result}" if tries else ""
        raise MessageNotFound(
            f"{id_}: no message of queue {queue}{last}; it was acked, moved or purged, "
            "or is in another queue; `ddmq log` lists what workers ran, `ddmq peek` what waits"
        )
    value = {**found.as_dict(), "tries": [run._asdict() for run in tries]}
    lines = [found.id, f"    {_state(found)}"]
    lines += [f"    {found.failures} failures, {found.losses} losses"]
    if found.own:
        own = ", ".join(f"{k} {printable_json(v)}" for k, v in found.own.items())
        lines += [f"    {own}"]
    if found.fault:
        lines += [f"    {found.fault}"]
    lines += whole(found.message, tries)
    return [value], "\n".join(map(printable, lines))


def _state(found: Seen) -> str:
    """Say where a message is that is not dead."""
    if found.until is None:
        return f"waits at priority {found.priority}"
    left = found.until - Clock().time()
    when = f"in {span(left)}" if left >= 0 else f"{span(-left)} ago"
    until = f"{date(min(found.until, _LAST))}, {when}"
    if found.state == "delayed":
        return f"delayed until {until}; then it waits at priority {found.priority}"
    holder = f"; taken by process {found.process} on {found.host}" if found.host else ""
    return f"at work; its lease ends {until}, unless it is renewed{holder}"


COMMANDS = (
    Command(
        "peek",
        "show the messages that would be consumed next, and take none",
        "ddmq peek /scratch/mq jobs -n 3",
        Peek,
        run=peek,
    ),
    Command(
        "show",
        "show one message whole: waiting, at work, delayed or dead",
        "ddmq show /scratch/mq jobs 51cae176361033054412-13\n"
        "  ddmq show /scratch/mq jobs --text 'sample 17'",
        Show,
        run=show,
    ),
)
