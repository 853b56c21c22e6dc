"""`ddmq move`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ddmq import Broker
from ddmq.cli.commands import QUEUE, ROOT
from ddmq.cli.spec import NAMES, Command, Reply, positional
from ddmq.errors import DdmqError

if TYPE_CHECKING:
    from ddmq.cli.spec import Context

#: How many of the messages that could not be moved are named.
_NAMED = 5


class Move(NamedTuple):
    """What `ddmq move` can be told."""

    root: str = ROOT
    queue: str = QUEUE
    id: list[str] = positional(
        "of messages that wait or are delayed", NAMES, metavar="ID[,ID...]"
    )
    target: str = positional("the name of the other queue, in the same root")


def move(told: Move, context: Context) -> Reply:
    """Move messages to another queue."""
    broker, ids = Broker(told.root, fs=context.fs), list(dict.fromkeys(told.id))
    faults = broker.move_waiting(told.queue, ids, told.target)
    moved = [id_ for id_ in ids if id_ not in faults]
    if faults:
        said = [f"{id_}: {why}" for id_, why in faults.items()]
        more = f"; and {len(said) - _NAMED} more" if len(said) > _NAMED else ""
        raise DdmqError(
            f"{len(moved)} of {len(ids)} moved to {told.target}; not moved: "
            f"{'; '.join(said[:_NAMED])}{more}"
        )
    lines = [f"{id_}: moved to {told.target}" for id_ in moved]
    return Reply({"moved": moved}, "\n".join(lines))


COMMANDS = (
    Command(
        "move",
        "move messages that wait or are delayed to another queue",
        "ddmq move /scratch/mq jobs 51cae176361033054412-13 bigmem",
        Move,
        run=move,
    ),
)
