"""`ddmq report`."""

from __future__ import annotations

import re
import sys
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from ddmq import Broker, InvalidArgument
from ddmq.cli.commands import QUEUES, ROOT
from ddmq.cli.spec import TABLE, Command, Reply, option, parse_seconds
from ddmq.cli.whole_file import ordinary, whole_file
from ddmq.clock import Clock, date, seconds_of
from ddmq.hpc import journal
from ddmq.printable import printable
from ddmq.settings import is_number, show

if TYPE_CHECKING:
    from ddmq.cli.spec import Context
    from ddmq.hpc.report.gather import Gathered
    from ddmq.hpc.report.sections import Source

_date = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Arguments(NamedTuple):
    """What `ddmq report` can be told."""

    root: str = ROOT
    queues: list[str] = QUEUES
    output: str | None = option(
        "-o --output",
        "the page, which is there whole or not at all; - is standard output, the default",
        metavar="FILE",
    )
    since: str | None = option(
        "--since",
        "only what began since: 2030-01-31, 2030-01-31T12:00, or 2h: so long ago",
        metavar="TIME",
    )


def report(told: Arguments, context: Context) -> Reply:
    """Tell what a run was, as a page or as numbers."""
    broker = Broker(told.root, fs=context.fs)
    for queue in told.queues:
        broker.settings(queue)  # there must be such a queue
    output = None if told.output == "-" else told.output
    is_page = context.is_typed and not (context.is_for_programs and told.output is None)
    if output is not None:
        ordinary(output, follow=False)
    elif is_page and told.output is None and sys.stdout.isatty():
        raise InvalidArgument(
            "say where the page is to go: -o report.html; or how to print the numbers: "
            "--format json, or csv"
        )
    now = Clock().own_ns() / 1e9
    since = None if told.since is None else moment_of(told.since, now)
    found, source = _gathered(broker, told.queues, context, since=since, now=now)
    from ddmq.hpc.report.sections import sentence

    plain = sentence(found, source)
    if output is not None or is_page:
        data = _page(found, source).encode("utf-8", "backslashreplace")
        if output is None:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return Reply({}, "")
        with whole_file(output) as file:
            file.write(data)
        plain = f"{printable(output)}: {plain}"
    if context.is_typed and not context.is_for_programs:
        return Reply({}, plain)
    from ddmq.hpc.report.numbers import flat, numbers

    value = numbers(found, source)
    return Reply(value, plain, rows=list(flat(value)))


def _gathered(
    broker: Broker,
    queues: list[str],
    context: Context,
    *,
    since: float | None,
    now: float,
) -> tuple[Gathered, Source]:
    """Read dead letters, journals and workers of all queues."""
    from ddmq.hpc.report.asked import Asked, asked
    from ddmq.hpc.report.gather import Gatherer
    from ddmq.hpc.report.sections import Source

    gatherer, scripts = Gatherer(-inf if since is None else since, now), {}
    for queue in dict.fromkeys(queues):
        for seen in broker.contents(queue):
            if seen.state == "waiting":  # all dead letters come before these
                break
            if seen.state == "dead":
                gatherer.add_letter(queue, seen)
        path = f"{broker.root}/{queue}"
        latest: list[journal.Granted] = []

        def note(
            granted: journal.Granted, latest: list[journal.Granted] = latest
        ) -> None:
            latest[:] = [max([granted, *latest], key=lambda each: each.start)]

        for number, (name, runs) in enumerate(journal.read_each(path, note), 1):
            gatherer.add_runs(queue, name, runs)
            context.tell(f"{number:,} journals")
        gatherer.add_workers(queue, broker.workers(queue))
        found = asked(path)
        if latest:
            found = (found or Asked()).noted_by(latest[0])
        if found is not None:
            scripts[queue] = found
    source = Source(broker.root, tuple(dict.fromkeys(queues)), since, now, scripts)
    return gatherer.gathered(), source


def _page(found: Gathered, source: Source) -> str:
    from ddmq.hpc.report.charts import figures, script
    from ddmq.hpc.report.page import page
    from ddmq.hpc.report.sections import sections

    plotly = script()
    charts = {} if plotly is None else figures(found)
    return page(source, sections(found, source), charts, plotly)


def moment_of(text: str, now: float) -> float:
    """Return a date, or a time that was so long ago, as seconds since 1970."""
    try:
        if _date.match(text):
            return seconds_of(text)
        length = parse_seconds(text)
    except (ValueError, InvalidArgument) as error:
        raise InvalidArgument(f"--since {show(text)} is no time") from error
    if not is_number(length) or not 0 <= length < inf:
        raise InvalidArgument(f"--since {show(text)} is no time")
    try:
        date(now - length)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidArgument(f"--since {show(text)} is before all dates") from error
    return now - float(length)


COMMANDS = (
    Command(
        "report",
        "make a page that tells what a run was, from the journals",
        "ddmq report /scratch/mq jobs -o report.html",
        Arguments,
        run=report,
        formats=TABLE,
    ),
)
