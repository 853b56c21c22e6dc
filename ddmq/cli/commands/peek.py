"""`ddmq peek` and `ddmq show`: messages that nobody takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ddmq import Broker
from ddmq.cli.commands import QUEUE, ROOT, positive
from ddmq.cli.commands.dead_letters import Dead, dead, tries_of, whole
from ddmq.cli.spec import NUMBER, Command, Reply, option, positional
from ddmq.clock import Clock, date, span
from ddmq.errors import DdmqError
from ddmq.printable import printable, printable_json

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
    if found.fault:
        return f"({found.fault})"
    message = found.message
    return message if isinstance(message, str) else printable_json(message)


class Show(NamedTuple):
    """What `ddmq show` can be told."""

    root: str = ROOT
    queue: str = QUEUE
    id: str = positional("the id of the message, as `ddmq peek` and others show it")


def show(told: Show, context: Context) -> Reply:
    """Show one message whole, wherever it is."""
    broker = Broker(told.root, fs=context.fs)
    found = broker.find(told.queue, told.id)
    if found is not None and found.state == "dead":
        reply = dead(Dead(told.root, told.queue, told.id, kinds=False), context)
        values = [{"state": "dead", **each} for each in reply.value["dead"]]
        return Reply({"messages": values}, reply.plain, shown=values[0])
    tries = tries_of(broker, told.queue, told.id)
    if found is None:
        last = f"; a worker noted of it: {tries[-1].result}" if tries else ""
        raise DdmqError(
            f"{told.id}: no message of queue {told.queue}{last}; it was acked, moved or purged, "
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
    return Reply({"messages": [value]}, "\n".join(map(printable, lines)), shown=value)


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
        "ddmq show /scratch/mq jobs 51cae176361033054412-13",
        Show,
        run=show,
    ),
)
