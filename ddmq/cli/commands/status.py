"""`ddmq status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq import Broker
from ddmq.cli.commands import QUEUE, ROOT
from ddmq.cli.commands.dead_letters import all_tries_of, history
from ddmq.cli.selection import Named, Selection, by_text, in_queue
from ddmq.cli.spec import TABLE, Command, Reply, group, switch
from ddmq.errors import InvalidArgument, StorageError, warn
from ddmq.printable import printable
from ddmq.storage.names import is_made_id

if TYPE_CHECKING:
    from ddmq.cli.spec import Context

#: What Snakemake is told. It asks again while a job runs, so what nobody can find has failed: it
#: would wait for that for ever, and a job that is run once more does no harm.
_SNAKEMAKE = {
    "waiting": "running",
    "work": "running",
    "delayed": "running",
    "acked": "success",
    "dead": "failed",
    "unknown": "failed",
}
#: The exit status is that of the first of these that any message is in.
_EXIT = (
    ("dead", 4),
    ("work", 5),
    ("waiting", 5),
    ("delayed", 5),
    ("unknown", 3),
    ("acked", 0),
)


class Arguments(NamedTuple):
    """What `ddmq status` can be told."""

    root: str = ROOT
    queue: str = QUEUE
    named: Named = group(Named)
    history: bool = switch(
        "--history", "with each try: when, how it ended, where, and its logs"
    )
    snakemake: bool = switch(
        "--snakemake",
        "of one message: running, success or failed, with exit status 0",
    )


def status(told: Arguments, context: Context) -> Reply:
    """Tell in a word where each message is, or what became of it."""
    if told.snakemake:
        return _for_snakemake(told, context)
    broker = Broker(told.root, fs=context.fs)
    states = broker.status(told.queue, _ids(broker, told))
    for id_, state in states.items():
        if state == "unknown" and not is_made_id(id_):
            warn(f"{id_} is unknown; {by_text(id_)}")
    rows: list[dict[str, Any]] = [{"id": x, "state": y} for x, y in states.items()]
    if told.history or context.is_verbose:
        lines = _add_history(broker, told.queue, rows)
    else:
        lines = [f"{row['id']}  {row['state']}" for row in rows]
        lines = [rows[0]["state"]] if len(rows) == 1 else lines
    found = (code for state, code in _EXIT if state in states.values())
    plain = "\n".join(map(printable, lines))
    return Reply({"messages": rows}, plain, shown=rows, status=next(found, 0))


def _ids(broker: Broker, told: Arguments) -> list[str]:
    look = in_queue(broker, told.queue, journals=True)
    selection = Selection(broker, told.queue, look)
    return selection.required(told.named, keeps_unknown=True)


def _add_history(broker: Broker, queue: str, rows: list[dict[str, Any]]) -> list[str]:
    """Add what workers noted of each message, and why it is dead; return all of it as lines."""
    tries, lines = all_tries_of(broker, queue, [row["id"] for row in rows]), []
    for row in rows:
        id_, state = row["id"], row["state"]
        found = broker.find(queue, id_) if state == "dead" else None
        row["reason"] = found.reason if found else ""
        row["tries"] = [run._asdict() for run in tries[id_]]
        lines += [f"{id_}  {state}", *(f"    {x}" for x in history(tries[id_]))]
        lines += [f"    {found.reason}"] if found else []
    return lines


def _for_snakemake(told: Arguments, context: Context) -> Reply:
    """Tell what Snakemake understands: one word, and any other exit status than 0 ends it."""
    if told.named.id is not None and len(told.named.id) != 1:
        raise InvalidArgument("--snakemake is of one message")
    word = "running"
    try:
        broker = Broker(told.root, fs=context.fs)
        [state] = broker.status(told.queue, _ids(broker, told)).values()
        word = _SNAKEMAKE[state]
    except StorageError as error:  # a look that failed says nothing, and it asks again
        warn(str(error))
    return Reply({"state": word}, word)


COMMANDS = (
    Command(
        "status",
        "tell where messages are, or what became of them, in a word each",
        "ddmq status /scratch/mq jobs 51cae176361033054412-13\n"
        "  ddmq status /scratch/mq jobs 51cae176361033054412-13 -v   # with each try\n"
        "  ddmq status /scratch/mq jobs --text 'sample 17'",
        Arguments,
        run=status,
        formats=TABLE,
    ),
)
