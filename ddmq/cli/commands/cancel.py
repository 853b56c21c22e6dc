"""`ddmq cancel`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ddmq import Broker
from ddmq.cli.commands import QUEUE, ROOT
from ddmq.cli.selection import Named, Selection, by_text, in_queue
from ddmq.cli.spec import Command, Reply, group
from ddmq.errors import DdmqError
from ddmq.storage.names import is_made_id

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
    named: Named = group(Named)


def cancel(told: Arguments, context: Context) -> Reply:
    """Make messages dead letters, now or as soon as can be."""
    broker = Broker(told.root, fs=context.fs)
    look = in_queue(broker, told.queue)
    selection = Selection(broker, told.queue, look, whole_text=True)
    states = broker.cancel(
        told.queue, selection.required(told.named, keeps_unknown=True)
    )
    missed = [id_ for id_, state in states.items() if state not in _SAID]
    if missed:
        number = len(states) - len(missed)
        said = [f"{id_}: {states[id_]}" for id_ in missed]
        more = f"; and {len(said) - _NAMED} more" if len(said) > _NAMED else ""
        odd = next((id_ for id_ in missed if not is_made_id(id_)), None)
        more += "" if odd is None else f"; {by_text(odd)}"
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
        "ddmq cancel /scratch/mq jobs 51cae176361033054412-13\n"
        "  ddmq cancel /scratch/mq jobs --text 'sample 17'",
        Arguments,
        run=cancel,
    ),
)
