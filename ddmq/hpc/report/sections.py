"""What was gathered, in words and tables: the parts of the page, in their order; pure."""

from __future__ import annotations

from collections import Counter
from math import ceil
from typing import TYPE_CHECKING, NamedTuple, Union

from ddmq.clock import date
from ddmq.hpc.report.binned import rounded_up
from ddmq.hpc.report.gather import FULL, OTHERS, PIECES, over_hosts, redriving, rows
from ddmq.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ddmq.hpc.report.asked import Asked
    from ddmq.hpc.report.binned import Histogram
    from ddmq.hpc.report.gather import Gathered, Group, Kind, Long, WorkerRecord

#: Groups of failures, hosts, and hosts by name that are shown.
GROUPS, HOSTS, NAMED = 40, 20, 4
#: So many failures tell something about a host, that fails so many times as often as others.
_ENOUGH, _OFTEN = 3, 5
_BLOCKS = " ▁▂▃▄▅▆▇█"
#: Characters of a row of blocks.
BLOCKS = 60
#: So many times what was needed is enough.
_SPARE = 1.25
GIB = 1024**2
HOUR = 3600.0


class Share(NamedTuple):
    """A cell with a bar in it."""

    text: str
    share: float


class CommandLine(NamedTuple):
    """A cell with a command to copy."""

    text: str


class Blocks(NamedTuple):
    """A cell with a row of blocks, as high as something was busy."""

    text: str


Cell = Union[str, Share, CommandLine, Blocks]


class Table(NamedTuple):
    """A table; numbers are written to the right."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    folded: bool = False
    """Whether it is shown on demand only, on a page with charts."""


class Section(NamedTuple):
    """A part of the page."""

    name: str
    title: str
    words: Sequence[str]
    """Paragraphs; what stands between backticks is typed."""
    tables: Sequence[Table] = ()
    chart: str = ""
    """What its chart shows, in words; empty: it has none."""
    facts: Sequence[tuple[str, str]] = ()
    """Names, and what is most important."""


class Source(NamedTuple):
    """Where it is from."""

    root: str
    queues: Sequence[str]
    since: float | None
    made: float
    asked: Mapping[str, Asked]
    """For each queue of which it is known."""


# Numbers as people read them


def count(number: int, what: str) -> str:
    """Return a number and what it counts: `1 host`, `1,200 hosts`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def length(seconds: float) -> str:
    """Return a length of time with two units at most: 2.1 ms, 0.14 s, 12 min 30 s, 2 d 4 h."""
    if 0 < seconds < 0.0995:
        digits = 1 if seconds < 0.00995 else 0
        return f"{seconds * 1000:.{digits}f}".removesuffix(".0") + " ms"
    if seconds < 10:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + " s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    whole = round(seconds)
    for name, unit, small, part in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= unit:
            rest = whole % unit // part
            return f"{whole // unit:,} {name}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def size(kib: float) -> str:
    """Return an amount of memory: 700 MiB, 1.2 GiB."""
    if kib < 1024:
        return f"{kib:.0f} KiB"
    if kib < GIB:
        return f"{kib / 1024:,.0f} MiB"
    return f"{kib / GIB:,.1f} GiB"


def percent(part: float, whole: float) -> str:
    """Return a part in per cent: 98 %, 0.3 %."""
    if whole <= 0:
        return "-"
    number = 100 * part / whole
    if 0 < number < 0.1:
        return "< 0.1 %"
    return f"{number:.0f} %" if number >= 9.95 or number == 0 else f"{number:.1f} %"


def spent(part: float, whole: float, what: str) -> str:
    """Return a part of the time of cores or slots: `578 of 683 core hours`, `4.20 of 5.00 …`.

    Both are seconds, and told in the unit that suits the whole: hours, minutes or seconds.
    """
    units = ("hours", HOUR), ("minutes", 60.0), ("seconds", 1.0)
    unit, size = next((each for each in units if whole >= each[1]), units[-1])
    numbers = (n / size for n in (part, whole))
    told = (f"{n:,.0f}" if n >= 100 else f"{n:,.2f}" for n in numbers)
    return f"{' of '.join(told)} {what} {unit}"


def short_date(moment: float, width: float = 1.0) -> str:
    """Return a date and time, to the millisecond where pieces are short."""
    return date(moment) + (f".{int(moment * 1000) % 1000:03d}" if width < 1 else "")


def sections(found: Gathered, source: Source) -> list[Section]:
    """Return all parts of the page."""
    return [
        _what(found, source),
        _slots(found),
        _throughput(found),
        _durations(found),
        _failures(found, source),
        _memory(found, source),
        _workers(found),
        _tail(found),
    ]


def sentence(found: Gathered, source: Source) -> str:
    """Say what it was in one sentence."""
    names = ", ".join(map(printable, source.queues))
    queues = f"queue{'' if len(source.queues) == 1 else 's'} {names}"
    if found.span is None:
        return f"No run is in the journals of {queues}."
    whole = found.done + found.failed
    text = f"{count(whole, 'message')} of {queues}: {found.done:,} done, {found.failed:,} failed"
    text += f", in {length(found.span.seconds)}"
    text += f"; {spent(found.used, found.allocated, 'core')} used"
    text += f" ({percent(found.used, found.allocated)})"
    text += f"; {date(found.span.start)} to {date(found.span.end)}, {_where(found)}."
    return text


def _where(found: Gathered) -> str:
    """Say who worked, on which hosts, in how many jobs."""
    hosts = sorted({each.host for each in found.workers} - {OTHERS})
    jobs = {each.job for each in found.workers} - {""}
    number = len(found.workers) + max(found.more_workers - 1, 0)
    named = ", ".join(hosts[:NAMED]) + (", …" if len(hosts) > NAMED else "")
    more = " at least" if found.more_workers else ""
    text = f"by {count(number, 'worker')} on {count(len(hosts), 'host')}{more} ({printable(named)})"
    return text + (f" in {count(len(jobs), 'job')}{more}" if jobs else "")


def _what(found: Gathered, source: Source) -> Section:
    words = [sentence(found, source)]
    if source.since is not None:
        words.append(f"Only what began since {date(source.since)} is counted.")
    if found.span is not None:
        known = sum(each.is_shown for each in found.workers)
        words.append(
            "A slot counts as one core, since the journals do not tell how many cores a job had: "
            "allocated is each worker's slots times its life. That is from its start to its end, "
            "if the queue still knows the worker; else, from the begin of its first run to the "
            f"end of its last one. The queue knows {known:,} of "
            f"{count(len(found.workers), 'worker')}."
        )
    if found.left_out:
        words.append(
            f"{count(found.left_out, 'run')} began far from all others, by a clock that was wrong "
            "it seems: they are counted, and not shown over time."
        )
    if found.batches:
        words.append(
            "Some commands had several messages at once (--batch): what they took and used is "
            "divided evenly among these, but durations and memory are of the whole command."
        )
    results = [
        [printable(name), f"{number:,}", _MEANING.get(name, "")]
        for name, number in found.results.items()
    ]
    tables = [
        Table("Runs by what became of them", ("result", "runs", "it means"), results)
    ]
    if len(source.queues) > 1:
        each = [
            [printable(name), f"{good:,}", f"{bad:,}"]
            for name, (good, bad) in found.queues.items()
        ]
        tables.insert(0, Table("Queues", ("queue", "runs done", "runs failed"), each))
    if found.span is None:
        return Section("what", "What it was", words)
    facts = [
        ("messages", f"{found.done + found.failed:,}"),
        ("done", f"{found.done:,}"),
        ("failed", f"{found.failed:,}"),
        ("wall time", length(found.span.seconds)),
        ("used", spent(found.used, found.allocated, "core")),
        ("slots busy", percent(found.occupied, found.allocated)),
    ]
    return Section("what", "What it was", words, tables, facts=facts)


_MEANING = {
    "acked": "done",
    "moved": "moved to another queue by `--on-exit`",
    "failed": "failed, and was tried again later",
    "dead": "failed for good: a dead letter",
    "released": "interrupted and given back, which counts as no failure",
    "lost": "ended after its lease was over; the message came back",
    "cancelled": "ended by `ddmq cancel`",
}


def _slots(found: Gathered) -> Section:
    share = percent(found.occupied, found.allocated)
    peak = max((piece.busy for piece in found.busy), default=0.0)
    most = max(found.there, default=0.0)
    words = [
        f"The slots were busy for {share} of the time that they were there: "
        f"{spent(found.occupied, found.allocated, 'slot')}. At most {peak:,.0f} slots were busy at "
        f"once, and {most:,.0f} were there, in the mean of {length(found.width)}."
    ]
    table: list[list[Cell]] = [
        [
            short_date(piece.start, found.width),
            f"{piece.busy:,.1f}",
            f"{there:,.1f}",
            Share(percent(piece.busy, there), piece.busy / there if there else 0.0),
        ]
        for piece, there in zip(found.busy, found.there)
    ]
    header = ("from", "slots busy", "slots there", "busy")
    title = "Slots busy and slots there"
    return _timed("slots", title, found, words=words, header=header, table=table)


def _timed(
    name: str,
    title: str,
    found: Gathered,
    *,
    words: Sequence[str],
    header: Sequence[str],
    table: Sequence[Sequence[Cell]],
) -> Section:
    if found.span is None:
        return Section(name, title, ["Nothing ran."])
    tables = [Table(f"In pieces of {length(found.width)}", header, table, folded=True)]
    return Section(name, title, words, tables, f"{title} over time")


def rate_unit(found: Gathered) -> tuple[str, float]:
    """Return the unit in which messages are counted over time, and its seconds."""
    most = max((piece.done + piece.failed for piece in found.busy), default=0)
    for unit, seconds in (("second", 1.0), ("minute", 60.0)):
        if most * seconds / found.width >= 10:
            return unit, seconds
    return "hour", HOUR


def _throughput(found: Gathered) -> Section:
    unit, seconds = rate_unit(found)
    per = seconds / found.width
    rates = [piece.done * per for piece in found.busy]
    wall = found.span.seconds if found.span is not None else 0.0
    mean = found.done * seconds / wall if wall else 0.0
    words = [
        f"{mean:,.1f} messages a {unit} were done in the mean, and {max(rates, default=0):,.1f} "
        f"at most, in {length(found.width)}."
    ]
    most = max(rates, default=0.0) or 1.0
    table: list[list[Cell]] = [
        [
            short_date(piece.start, found.width),
            Share(f"{rate:,.1f}", rate / most),
            f"{piece.failed * per:,.1f}",
        ]
        for piece, rate in zip(found.busy, rates)
    ]
    header = ("from", f"done a {unit}", f"failed a {unit}")
    title = "Throughput"
    return _timed("throughput", title, found, words=words, header=header, table=table)


def _durations(found: Gathered) -> Section:
    title = "How long messages took"
    if not found.slowest:
        return Section("durations", title, ["Nothing ran."])
    times, words, tables = found.durations, [], []
    if times.number:
        words.append(
            f"Of {count(times.number, 'run')} that succeeded, half took less than "
            f"{length(times.below(0.5) or 0)}, 95 % less than {length(times.below(0.95) or 0)}, "
            f"and the longest {length(times.largest)}; {length(times.total / times.number)} in "
            "the mean."
        )
        tables.append(_bars(times, length, "Runs that succeeded, by their duration"))
    else:
        words.append("No run succeeded.")
    tables.insert(0, _longs("The slowest, whatever became of them", found.slowest))
    chart = "Number of runs by their duration" if times.number else ""
    return Section("durations", title, words, tables, chart)


def _bars(histogram: Histogram, write: Callable[[float], str], title: str) -> Table:
    bars = histogram.bars()
    most = max(bar.number for bar in bars)
    table: list[list[Cell]] = [
        [
            f"{write(bar.low)} to {write(bar.high)}",
            Share(f"{bar.number:,}", bar.number / most),
            percent(bar.number, histogram.number),
        ]
        for bar in bars
    ]
    return Table(title, ("from, to", "runs", "of all"), table, folded=True)


def _longs(title: str, runs: Iterable[Long]) -> Table:
    table = [
        [
            printable(run.text or run.id),
            length(run.seconds),
            date(run.end),
            printable(f"{run.result}, {run.how}"),
            printable(run.host),
        ]
        for run in runs
    ]
    return Table(title, ("message", "took", "ended", "result", "host"), table)


# Failures


def _failures(found: Gathered, source: Source) -> Section:
    title, failed = "Failures", sum(group.runs for _, group in found.groups)
    if not found.groups:
        return Section(
            "failures", title, ["No run failed, and there is no dead letter."]
        )
    words = [
        f"{count(failed, 'run')} failed, of {found.runs:,}. "
        f"{count(found.failed, 'message')} failed for good and did not succeed later. "
        f"{count(found.letters, 'dead letter')} "
        f"{'is' if found.letters == 1 else 'are'} left now."
    ]
    words += _blamed(found)
    words.append(
        "What a command said last is known of dead letters alone: the journals do not keep it. "
        "{} stands for the text of the message, # for a long number."
    )
    tables = [_over_hosts(found, source), _on_hosts(found, source)]
    left = found.groups[GROUPS:]
    if left:
        runs, letters = sum(g.runs for _, g in left), sum(g.letters for _, g in left)
        words.append(
            f"{count(len(left), 'more row')} of single hosts with {count(runs, 'run')} and "
            f"{count(letters, 'dead letter')} are not shown."
        )
    by_host = _by_host(found)
    tables.append(
        Table(
            "Hosts on which most failed",
            ("host", "runs", "failed", "share"),
            [
                [
                    printable(host),
                    f"{runs:,}",
                    f"{bad:,}",
                    Share(percent(bad, runs), bad / runs),
                ]
                for host, runs, bad in by_host[:HOSTS]
                if bad
            ],
        )
    )
    return Section("failures", title, words, tables)


def _over_hosts(found: Gathered, source: Source) -> Table:
    """Return the failures of all hosts together: whether it is the message or the node."""
    all_hosts = {each.host for each in found.workers} - {OTHERS}
    hosts: dict[Kind, Counter[str]] = {}
    for kind, group in found.groups:
        alike = hosts.setdefault(kind._replace(host=""), Counter())
        alike[kind.host] += group.runs
    table = [
        [
            *_named(kind, source),
            f"{group.runs:,}",
            f"{group.letters:,}",
            printable(group.text),
            _verdict(hosts[kind], all_hosts),
            *_redriven(kind, group, found, source),
        ]
        for kind, group in over_hosts(found)[:GROUPS]
    ]
    header = ("ended with", "last line", "runs", "dead now", "a message", "look at")
    title = "By how the command ended and the last line of its standard error"
    return Table(title, (*header, "redrive", "it redrives"), table)


def _on_hosts(found: Gathered, source: Source) -> Table:
    """Return the same for each host."""
    table = [
        [
            *_named(kind, source),
            printable(kind.host),
            f"{group.runs:,}",
            f"{group.letters:,}",
            *_redriven(kind, group, found, source),
        ]
        for kind, group in found.groups[:GROUPS]
    ]
    header = (
        "ended with",
        "last line",
        "host",
        "runs",
        "dead now",
        "redrive",
        "which are",
    )
    return Table("The same for each host", header, table, folded=True)


def _named(kind: Kind, source: Source) -> tuple[str, str]:
    how = f"{kind.queue}: {kind.how}" if len(source.queues) > 1 else kind.how
    return printable(how), printable(kind.line) or "(not kept)"


def _by_host(found: Gathered) -> list[tuple[str, int, int]]:
    """Return hosts with their runs and failures, those first that fail most often."""
    runs: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for each in found.workers:
        runs[each.host] += each.done + each.failed
        failed[each.host] += each.failed
    hosts = [(host, number, failed[host]) for host, number in runs.items() if number]
    return sorted(hosts, key=lambda row: (-row[2] / row[1], -row[2], row[0]))


def _blamed(found: Gathered) -> list[str]:
    """Name the hosts that fail far more often than all others together."""
    by_host, words = _by_host(found), []
    runs, failed = sum(row[1] for row in by_host), sum(row[2] for row in by_host)
    for host, its_runs, its_failed in by_host[:HOSTS]:
        others, others_failed = runs - its_runs, failed - its_failed
        if its_failed < _ENOUGH or others <= 0:
            continue
        if its_failed / its_runs >= _OFTEN * max(others_failed, 1) / others:
            words.append(
                f"{printable(host)} failed {percent(its_failed, its_runs)} of its runs, all others "
                f"{percent(others_failed, others)}: look at that host."
            )
    return words[:5]


def _verdict(hosts: Counter[str], all_hosts: set[str]) -> str:
    """Say whether it is the message or the node, as far as this tells."""
    known = [
        host for host, number in hosts.items() if number and host not in ("", OTHERS)
    ]
    if sum(hosts.values()) < _ENOUGH or not known:
        return "too few to tell"
    if len(all_hosts) <= 1:
        return "one host ran all"
    if len(known) > 1:
        return f"the messages: {len(known)} of {len(all_hosts)} hosts"
    return f"the node: {printable(known[0])} alone"


def _redriven(
    kind: Kind, group: Group, found: Gathered, source: Source
) -> tuple[Cell, str]:
    """Return the command that redrives a group, and how many dead letters it means."""
    if not group.letters:
        return "-", "none is left"
    command, number = redriving(kind, group, found, source.root)
    if number > group.letters:
        return CommandLine(command), f"{number:,} dead letters, these among them"
    alone = "these, and maybe others" if found.reasons.others else "these alone"
    return CommandLine(command), alone


# Memory, and what to ask for


def _memory(found: Gathered, source: Source) -> Section:
    title, memory = "Peak memory, and what to ask for", found.memory
    words, tables = [], []
    if memory.number:
        most = memory.below(0.95) or 0.0
        words.append(
            f"Half of the commands used less than {size(memory.below(0.5) or 0)}, 95 % less than "
            f"{size(most)}, and none more than {size(memory.largest)}."
        )
        tables.append(_bars(memory, size, "Runs by their peak memory"))
    else:
        words.append("The journals tell no command's memory.")
    if found.batches and memory.number:
        words.append(
            "With --batch, a command is counted once for each of its messages."
        )
    for queue, asked in source.asked.items():
        words += [_advice(found, queue, asked, several=len(source.queues) > 1)]
    if not source.asked:
        words.append(
            "The journals do not tell what the jobs had, and no job script of ddmq-submit is left."
        )
        words += _needed(found, None)
    chart = "Number of runs by their peak memory" if memory.number else ""
    return Section("memory", title, words, tables, chart)


def _advice(found: Gathered, queue: str, asked: Asked, *, several: bool) -> str:
    """Compare what the latest job script asked for with what was used."""
    parts = []
    slots = asked.slots or max((each.slots for each in found.workers), default=1) or 1
    if asked.memory_kib is not None:
        parts.append(f"{size(asked.memory_kib / slots)} a slot")
    if asked.seconds is not None:
        parts.append(f"{length(asked.seconds)} of time")
    job = "job" if asked.is_noted else "job script"
    who = f"The latest {job} of {printable(queue)}" if several else f"The latest {job}"
    if not parts:
        told = f"{who} asked for no memory and no time."
    elif asked.is_noted:
        told = f"{who} had {' and '.join(parts)}, as its worker noted."
    else:
        told = f"{who} asked for {' and '.join(parts)}."
    return " ".join([told, *_needed(found, slots), *_lasted(found, queue, asked)])


def _lasted(found: Gathered, queue: str, asked: Asked) -> list[str]:
    """Compare the time that jobs had with how long their workers were there."""
    lives = [x.seconds for x in found.workers if x.queue == queue and x.host != OTHERS]
    longest = max(lives, default=0.0)
    if not asked.seconds or longest <= 0:
        return []
    told = (
        f"Workers were there for {length(sum(lives) / len(lives))} in the mean, and "
        f"{length(longest)} at most: {percent(longest, asked.seconds)} of the time that the "
        "latest job had."
    )
    enough = -(-longest * _SPARE // 60)
    if enough * 60 >= asked.seconds:
        return [told]
    return [told, f"For as much work, `--time {enough:.0f}m` would have been enough."]


def _needed(found: Gathered, slots: int | None) -> list[str]:
    """Say what would have been enough, with the options that ask for it."""
    words = []
    memory, times = found.memory, found.durations
    number = slots or max((each.slots for each in found.workers), default=0) or 1
    if memory.number:
        nearly = _option_of((memory.below(0.95) or 0.0) / 1024 * number)
        whole = _option_of(memory.largest / 1024 * number)
        words.append(
            f"For {count(number, 'slot')}, `-o mem={nearly}M` holds 95 % of the messages in "
            f"all slots at once, and `-o mem={whole}M` the largest in each. What is killed for "
            "its memory can be redriven with more: `ddmq redrive ROOT QUEUE --code 137`."
        )
    if times.number:
        limit = _option_of(times.largest * 1.5)
        words.append(
            f"95 % of the messages took less than {length(times.below(0.95) or 0)}, and none more "
            f"than {length(times.largest)}: `--timeout {limit}` ends only what hangs, and a "
            "job's `--time` needs to be longer than that."
        )
    busy = found.occupied
    if busy > 0:
        cores = found.used / busy
        words.append(f"A busy slot used {cores:.2f} cores in the mean.")
    return words


def _option_of(value: float) -> str:
    """Return an amount as an option has it: whole, enough, and not 0, which would be no limit."""
    return f"{max(ceil(rounded_up(value) - 1e-6), 1)}"


# Workers, and the end


def worker_name(number: int, worker: WorkerRecord) -> str:
    """Return the name of a worker in charts and tables."""
    return printable(f"{number} {worker.host}")


def _workers(found: Gathered) -> Section:
    title = "Workers"
    if not found.workers:
        return Section("workers", title, ["No worker is known."])
    words = [
        "Each row is a worker, from the left to the right the time: how many of its slots were "
        "busy. Where nothing is drawn, it was not there."
    ]
    if found.more_workers:
        words.append(
            f"{count(found.more_workers, 'worker')} more are one row, {OTHERS}: its slots and its "
            "life are no worker's."
        )
    unknown = sum(each.process is None for each in found.workers)
    if unknown:
        words.append(
            f"{count(unknown, 'row')} may be of several workers: of journals that `ddmq log "
            "--compact` merged, host and job are known, not the process."
        )
    chart = "How busy each worker was over time" if found.span is not None else ""
    return Section("workers", title, words, [_table_of_workers(found)], chart)


def _table_of_workers(found: Gathered) -> Table:
    header = (
        "worker",
        "job",
        "slots",
        "from",
        "for",
        "done",
        "failed",
        "busy",
        "memory",
        "",
    )
    table: list[list[Cell]] = []
    shares = {id(worker): row for worker, row in rows(found, PIECES)}
    several = len(found.queues) > 1
    for number, each in enumerate(found.workers, 1):
        there = each.seconds * each.slots
        queue = f" ({printable(each.queue)})" if several else ""
        table.append(
            [
                worker_name(number, each) + queue,
                printable(each.job),
                f"{each.slots:,}",
                date(each.first),
                length(each.seconds),
                f"{each.done:,}",
                f"{each.failed:,}",
                Share(percent(each.busy, there), each.busy / there if there else 0.0),
                size(each.peak_kib) if each.peak_kib else "-",
                Blocks(blocks(shares.get(id(each), []))),
            ]
        )
    return Table("Workers, as they began", header, table, folded=True)


def blocks(shares: Sequence[float | None]) -> str:
    """Return shares as a row of blocks, empty where there is none."""
    if not shares:
        return ""
    number = min(BLOCKS, len(shares))
    text = ""
    for n in range(number):
        part = shares[n * len(shares) // number : (n + 1) * len(shares) // number]
        there = [share for share in part if share is not None]
        if not there:
            text += " "
            continue
        text += _BLOCKS[1 + min(int(sum(there) / len(there) * 8), 7)]
    return text


def _tail(found: Gathered) -> Section:
    title, tail = "The tail", found.tail
    if tail is None or found.span is None:
        return Section("tail", title, ["Nothing ran."])
    idle = max(tail.there - tail.busy, 0.0)
    wall = found.span.seconds
    words = [
        f"From the last moment at which {FULL * 100:.0f} % of the most slots were busy, it took "
        f"{length(tail.seconds)} to the end: {percent(tail.seconds, wall)} of the time. Slots were "
        f"idle meanwhile for {spent(idle, tail.there, 'slot')}: "
        f"{percent(idle, found.allocated)} of all that was allocated. (To {length(found.width)}.)"
    ]
    if tail.seconds > wall / 20 and idle > 0:
        words.append(
            "To shorten it, publish the longest messages first, or with a priority of their own; "
            "and let workers end as soon as nothing waits (without `--until-done`)."
        )
    return Section("tail", title, words, [_longs("The last to end", found.latest)])
