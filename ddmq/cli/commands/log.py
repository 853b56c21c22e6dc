"""`ddmq log`."""

from __future__ import annotations

from heapq import nsmallest
from typing import TYPE_CHECKING, NamedTuple

from ddmq import Broker
from ddmq.cli.commands import QUEUE, ROOT, logs_of, positive
from ddmq.cli.spec import NUMBER, TABLE, Command, Reply, option, switch
from ddmq.clock import Clock
from ddmq.hpc import journal
from ddmq.printable import printable

if TYPE_CHECKING:
    from ddmq.cli.spec import Context, Number


class Arguments(NamedTuple):
    """What `ddmq log` can be told."""

    root: str = ROOT
    queue: str = QUEUE
    failed: bool = switch("--failed", "only those that did not succeed")
    host: str | None = option("--host", "only those on this host")
    text: str | None = option(
        "--text",
        "only those of messages that have TEXT in them, with the paths of their logs",
        metavar="TEXT",
    )
    slowest: Number = option(
        "--slowest", "the slowest N, slowest first", NUMBER, metavar="N"
    )
    compact: bool = switch(
        "--compact", "merge the journals of workers that ended a week ago"
    )


def log(told: Arguments, context: Context) -> Reply:
    """List the runs in the journals of a queue."""
    broker = Broker(told.root, fs=context.fs)
    broker.settings(told.queue)  # there must be such a queue
    path = f"{broker.root}/{told.queue}"
    if told.compact:
        number = journal.compact(path, Clock().own_ns() / 1e9)
        return Reply({"compacted": number}, f"{number} journals compacted")
    wanted = (
        run
        for run in journal.read(path)
        if told.host in (None, run.host)
        and (told.text is None or told.text in run.text)
        and not (told.failed and run.result in ("acked", "released"))
    )
    if told.slowest is not None:  # of a million, only these are kept
        runs = nsmallest(
            positive(told.slowest), wanted, key=lambda run: (-run.duration, run.start)
        )
    else:
        runs = sorted(wanted, key=lambda run: run.start)
    shown, lines = [run._asdict() for run in runs], []
    for run in runs:
        lines.append(journal.told(run))
        if told.text is not None:
            lines += [f"    log {path}" for path in logs_of(run.log, run.logged)]
    return Reply({"runs": shown}, "\n".join(map(printable, lines)), shown=shown)


COMMANDS = (
    Command(
        "log",
        "list the runs of commands that workers kept in their journals",
        "ddmq log /scratch/mq jobs --failed --format json\n"
        "  ddmq log /scratch/mq jobs --text samples/s17.txt",
        Arguments,
        run=log,
        formats=TABLE,
    ),
)
