"""`ddmq cancel`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ddmq import Broker
from ddmq.cli.commands import QUEUE, ROOT
from ddmq.cli.spec import NAMES, Command, Reply, positional
from ddmq.errors import DdmqError

if TYPE_CHECKING:
    from ddmq.cli.spec import Context

#: How many of the messages that could not be cancelled are named.
_NAMED = 5
_SAID = {
    "dead": "cancelled",
    "waiting": "cancelled; it waits with others, and is dead when its turn comes",
    "delayed": "cancelled; it is delayed with others, and is dead when its turn comes",
    "work": "cancelled; it is at work, and its worker ends it with the next heartbeat",
}


class Arguments(NamedTuple):
    """What `ddmq cancel` can be told."""

    root: str = ROOT
    queue: str = QUEUE
    id: list[str] = positional(
        "of messages that wait, are delayed or at work", NAMES, metavar="ID[,ID...]"
    )


def cancel(told: Arguments, context: Context) -> Reply:
    """Make messages dead letters, now or as soon as can be."""
    states = Broker(told.root, fs=context.fs).cancel(told.queue, told.id)
    missed = [id_ for id_, state in states.items() if state not in _SAID]
    if missed:
        number = len(states) - len(missed)
        said = [f"{id_}: {states[id_]}" for id_ in missed]
        more = f"; and {len(said) - _NAMED} more" if len(said) > _NAMED else ""
        raise DdmqError(
            f"{number} of {len(states)} cancelled; not in queue {told.queue}: "
            f"{'; '.join(said[:_NAMED])}{more}"
        )
    lines = [f"{id_}: {_SAID[state]}" for id_, state in states.items()]
    return Reply({"cancelled": states}, "\n".join(lines))


COMMANDS = (
    Command(
        "cancel",
        "make dead letters of messages that nobody is to run, or to run on",
        "ddmq cancel /scratch/mq jobs 51cae176361033054412-13",
        Arguments,
        run=cancel,
    ),
)
