"""`ddmq workers` and `ddmq drain`: who works on a queue, and who is to end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq import Broker
from ddmq.cli.commands import ANY_QUEUES, QUEUES, ROOT
from ddmq.cli.spec import Command, Reply, option, switch
from ddmq.clock import span
from ddmq.errors import DdmqError, InvalidArgument
from ddmq.log import warn
from ddmq.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ddmq import Counts, Running, WorkerSeen
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


def of_all(found: Sequence[WorkerSeen]) -> str:
    """Say how many workers there are in each state."""
    states = [each.state for each in found]
    parts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    return ", ".join(parts) or "no worker has been seen"


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
        f"  {each.id}  {with_progress(each)}"
        for each in sorted(found.running, key=lambda each: each.started)
    ]
    failed = [
        f"    failed {span(max(now - each.ended, 0))} ago  {each.id}  {each.text}: {each.reason}"
        for each in found.failures
    ]
    return runs + failed


def with_progress(run: Running) -> str:
    """Say which message runs, and how far it is where its command said so."""
    return f"{run.text} ({run.progress})" if run.progress else run.text


class Workforce(NamedTuple):
    """The workers of a queue, all together."""

    workers: int
    """How many live."""
    slots: int
    busy: int
    rate: float | None
    """Messages a second; None: nobody knows yet."""
    done_in: float | None
    """Seconds until all that is there now is done, at that rate; None: nobody knows."""
    unseen_for: float
    """Seconds since a worker gave a sign of life."""
    done: int
    """Messages that they acked, with those that ended and are still remembered."""

    @classmethod
    def of(cls, found: Sequence[WorkerSeen], counts: Counts) -> Workforce | None:
        """Return those of a queue; None: no worker was ever seen, within a week."""
        if not found:
            return None
        live = [each for each in found if each.is_live]
        rates = [each.rate for each in live if each.busy]
        known = [rate for rate in rates if rate is not None]
        # Of the busy ones that have finished nothing yet, the others tell the rate.
        busy = sum(x.busy for x in live if x.rate is not None)
        slots_busy = sum(each.busy for each in live)
        rate = sum(known) * slots_busy / busy if known and busy else None
        left = counts.waiting + counts.delayed + counts.work
        return cls(
            workers=len(live),
            slots=sum(each.slots for each in live),
            busy=slots_busy,
            rate=rate,
            done_in=left / rate if rate and left else None,
            unseen_for=min(each.age for each in found),
            done=sum(each.acked for each in found),
        )

    def told(self, counts: Counts) -> str:
        """Say it in a line; empty: there is nothing to say."""
        if not self.workers:
            waits = counts.waiting or counts.delayed
            text = f"No worker has been seen for {span(self.unseen_for)}"
            return text if waits else ""
        workers = "1 worker" if self.workers == 1 else f"{self.workers:,} workers"
        text = f"{workers}, {self.busy:,} of {self.slots:,} slots busy"
        if self.rate:
            text += f", {in_words(self.rate)}"
        if self.done_in is not None:
            text += f", done in about {span(self.done_in)}"
        return text

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        return self._asdict()


def in_words(rate: float) -> str:
    """Say how many messages are finished, by the minute, or by the hour where these are few."""
    unit, number = ("minute", rate * _MINUTE)
    if number < 1:
        unit, number = "hour", number * 60
    text = f"{number:,.0f}" if number >= 10 else f"{number:.2g}"
    return (
        f"{text} message{'' if text == '1' else 's'} a{'n' * (unit == 'hour')} {unit}"
    )


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
    asked = {name: broker.drain(name, host=host, job=job) for name in told.queue}
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
        workers,
    ),
    Command(
        "drain",
        "let workers finish what they hold, take no more, and end",
        "ddmq drain /scratch/mq jobs --host node11",
        Drain,
        drain,
    ),
)
