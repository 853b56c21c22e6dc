"""`ddmq results`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ddmq import Broker
from ddmq.cli.commands import QUEUE, ROOT
from ddmq.cli.spec import TABLE, Command, Reply, positional
from ddmq.hpc.results.manifest import Row, manifest
from ddmq.printable import printable

if TYPE_CHECKING:
    from ddmq.cli.spec import Context


class Arguments(NamedTuple):
    """What `ddmq results` can be told."""

    root: str = ROOT
    queue: str = QUEUE
    dir: str = positional("the --output-dir of the workers")


def results(told: Arguments, context: Context) -> Reply:
    """List which result belongs to which message."""
    broker = Broker(told.root, fs=context.fs)
    broker.settings(told.queue)  # there must be such a queue
    rows = manifest(f"{broker.root}/{told.queue}", told.dir)
    shown = [row._asdict() for row in rows]
    return Reply({"results": shown}, "\n".join(map(described, rows)), shown=shown)


def described(row: Row) -> str:
    """Return one row for people."""
    how = row.exit if isinstance(row.exit, str) else f"exit {row.exit}"
    return printable(
        f"{row.id}  {how:<8} {row.seconds:>9.2f} s  {row.file or '-'}  {row.input}"
    )


COMMANDS = (
    Command(
        "results",
        "list which result belongs to which message, by the journals",
        "ddmq results /scratch/mq jobs results --format csv > manifest.csv",
        Arguments,
        run=results,
        formats=TABLE,
    ),
)
