"""`ddmq workers` and `ddmq drain`: who works on a queue, and who is to end."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ddmq import Broker
from ddmq.cli.commands import ANY_QUEUES, QUEUES, ROOT, in_each
from ddmq.cli.spec import Command, Reply, option, switch
from ddmq.cli.workforce import of_all, why, with_progress
from ddmq.clock import span
from ddmq.errors import DdmqError, InvalidArgument, warn
from ddmq.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ddmq import WorkerSeen
    from ddmq.cli.spec import Context

_HEAD = (
    "host",
    "job",
    "state",
    "slots",
    "acked",
    "failed",
    "a minute",
    "memory",
    "seen",
)
#: Columns of these that stand at the left.
_TEXTS = 3
_MINUTE = 60


class Arguments(NamedTuple):
    """What `ddmq workers` can be told."""

    root: str = ROOT
    queue: list[str] | None = ANY_QUEUES
    all: bool = switch("-a --all", "those that ended, too, within the last week")


def workers(told: Arguments, context: Context) -> Reply:
    """Show who works on queues, what has run for long, and what failed of late."""
    broker = Broker(told.root, fs=context.fs)
    value, lines = {}, []
    for name in told.queue or broker.queues():
        try:
            found = broker.workers(name, running=True)
        except DdmqError as error:
            if told.queue:
                raise
            warn(f"queue {name} is left out: {error}")
            continue
        value[name] = [each.as_dict() for each in found]
        shown = [x for x in found if told.all or x.state != "ended"]
        lines.append(f"{name}: {of_all(found)}")
        lines += _table(shown)
    return Reply(value, "\n".join(map(printable, lines)))


def _table(found: Iterable[WorkerSeen]) -> Iterator[str]:
    """Yield a line for each worker, and one for each message that it has run for long."""
    rows: list[tuple[tuple[str, ...], list[str]]] = [(_HEAD, [])]
    rows += [(tuple(map(printable, _row(each))), _runs(each)) for each in found]
    if len(rows) == 1:
        return
    widths = [max(len(row[n]) for row, _ in rows) for n in range(len(_HEAD))]
    for row, runs in rows:
        cells = [
            cell.ljust(width) if n < _TEXTS else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths))
        ]
        yield f"  {'  '.join(cells)}".rstrip()
        yield from runs


def _row(found: WorkerSeen) -> tuple[str, ...]:
    rate = found.rate if found.is_live and found.busy else None
    return (
        f"{found.host}:{found.process}",
        found.job or "-",
        found.state,
        f"{found.busy}/{found.slots}",
        f"{found.acked}",
        f"{found.failed}",
        "-" if rate is None else f"{rate * _MINUTE:.3g}",
        f"{found.peak_kib // 1024} MiB" if found.peak_kib else "-",
        f"{span(found.age)} ago",
    )


def _runs(found: WorkerSeen) -> list[str]:
    """Return a line for each message that has run for long, first the one that began first.

    Then one for each of the latest failures.
    """
    now = found.age + found.seen
    runs = [
        f"    slot {each.slot}  {span(max(now - each.started, 0))}"
        f"  {each.id}  {with_progress(each.text, each)}"
        for each in sorted(found.running, key=lambda each: each.started)
    ]
    failed = [
        f"    failed {span(max(now - each.ended, 0))} ago"
        f"  {each.id}  {each.text}: {why(each, found)}"
        for each in found.failures
    ]
    return runs + failed


class Drain(NamedTuple):
    """What `ddmq drain` can be told."""

    root: str = ROOT
    queue: list[str] = QUEUES
    all: bool = switch("--all", "all workers of the queue")
    host: str | None = option("--host", "those on this host")
    job: str | None = option("--job", "those of this batch job, or of this array")


def drain(told: Drain, context: Context) -> Reply:
    """Let workers finish what they hold, take no more, and end."""
    if [told.all, bool(told.host), bool(told.job)].count(True) != 1:
        raise InvalidArgument("say which workers: --all, --host HOST or --job JOB")
    broker = Broker(told.root, fs=context.fs)
    host, job = told.host or "", told.job or ""
    asked = in_each(
        broker,
        told.queue,
        lambda name: broker.drain(name, host=host, job=job),
        "asked to drain",
    )
    lines = [
        f"{name}: {number} worker{'' if number == 1 else 's'} asked to drain; "
        "what runs is finished"
        for name, number in asked.items()
    ]
    return Reply({"asked": asked}, "\n".join(lines))


COMMANDS = (
    Command(
        "workers",
        "show who works on a queue: slots, messages, rate, last sign of life",
        "ddmq workers /scratch/mq jobs",
        Arguments,
        run=workers,
    ),
    Command(
        "drain",
        "let workers finish what they hold, take no more, and end",
        "ddmq drain /scratch/mq jobs --host node11",
        Drain,
        run=drain,
    ),
)
