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
    dir: str | None = positional(
        "the --output-dir of the workers; by default, all those that your workers noted in the "
        "journals",
        is_required=False,
    )


def results(told: Arguments, context: Context) -> Reply:
    """List which result belongs to which message."""
    broker = Broker(told.root, fs=context.fs)
    broker.settings(told.queue)  # there must be such a queue
    rows = manifest(f"{broker.root}/{told.queue}", told.dir)
    shown = [row._asdict() for row in rows]
    has_several = len({row.directory for row in rows if row.file}) > 1
    lines = [described(row, with_directory=has_several) for row in rows]
    return Reply({"results": shown}, "\n".join(lines), shown=shown)


def described(row: Row, *, with_directory: bool) -> str:
    """Return one row for people."""
    how = row.exit if isinstance(row.exit, str) else f"exit {row.exit}"
    file = f"{row.directory}/{row.file}" if row.file and with_directory else row.file
    return printable(
        f"{row.id}  {how:<8} {row.seconds:>9.2f} s  {file or '-'}  {row.input}"
    )


COMMANDS = (
    Command(
        "results",
        "list which result belongs to which message, by the journals",
        "ddmq results /scratch/mq jobs\n"
        "  ddmq results /scratch/mq jobs results --format csv > manifest.csv",
        Arguments,
        run=results,
        formats=TABLE,
    ),
)
