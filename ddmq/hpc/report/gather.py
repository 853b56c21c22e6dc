"""Gathers from a stream of runs what is told of them all, in memory that does not grow with it."""

from __future__ import annotations

import heapq
import re
from array import array
from collections import Counter
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from ddmq.hpc.journal import COMPACTED, how
from ddmq.hpc.report.binned import Histogram, Piece, Timeline
from ddmq.printable import printable, quoted
from ddmq.storage.layout import JOURNAL_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from ddmq.hpc.journal import Run
    from ddmq.seen import DeadLetter, Seen, WorkerSeen

#: What is kept one by one: workers, groups of failures, dead letters, slowest runs, latest ends.
WORKERS, GROUPS, LETTERS, SLOWEST, LATEST = 1000, 2000, 100_000, 20, 5
#: Kinds of results, besides those that workers write; and workers that are counted beyond those.
RESULTS, MORE = 50, 100_000
#: Exit statuses of a group that are told one by one.
CODES = 20
#: Ids of dead letters that one command can name.
IDS = 5
#: Runs that are held at once, and counted together.
_TOGETHER = 2000
#: Messages that are remembered as acked, to know which dead ones succeeded later.
_ACKED = 1 << 24
#: Pieces of the time that are told.
PIECES = 360
#: Characters of a text that are kept.
_TEXT = 200
#: The main part of the time is that in which all runs began but this share at each end. A run that
#: is farther from it than so many times its length, and so many seconds, is by a wrong clock.
_MAIN, _FAR, _NEAR = 0.001, 3.0, 3600.0
#: Seconds that a clock may be ahead of ours.
_AHEAD = 86400.0
#: The tail begins after the last moment at which so many slots were busy: this share of the most.
FULL = 0.9
OTHERS = "(others)"
#: What was moved by `--on-exit` is neither: it is done or fails in the other queue.
_DONE, _FAILED = frozenset(["acked"]), frozenset(["failed", "dead"])
_KNOWN = _DONE | _FAILED | {"moved", "released", "lost"}
#: The number of a worker's process, in what all of its journals have in common.
_process = re.compile(r"-([0-9]{1,18})-[^-]*\Z")
_number = re.compile(r"0x[0-9a-fA-F]+|[0-9]{4,}")


_Thing = TypeVar("_Thing")


class Tally(Generic[_Thing]):
    """Counts things: the first ones of them one by one, the rest together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.numbers: Counter[_Thing] = Counter()
        #: How often any of the rest was counted.
        self.others = 0

    def add(self, thing: _Thing, number: int = 1) -> None:
        """Count a thing."""
        if thing in self.numbers or len(self.numbers) < self._most:
            self.numbers[thing] += number
        else:
            self.others += number

    def take_in(self, other: Tally[_Thing]) -> None:
        """Add what another one has counted."""
        for thing, number in other.numbers.most_common():
            self.add(thing, number)
        self.others += other.others

    @property
    def only(self) -> _Thing | None:
        """The one thing that was counted; None: there were none, or several."""
        is_one = len(self.numbers) == 1 and not self.others
        return next(iter(self.numbers)) if is_one else None


class Long(NamedTuple):
    """One run that is told by itself."""

    seconds: float
    end: float
    id: str
    text: str
    host: str
    how: str
    result: str


class Kind(NamedTuple):
    """What the failures of a group have in common."""

    queue: str
    how: str
    host: str
    line: str
    """The last one of standard error, with `{}` for the message's text and `#` for numbers."""


class Group:
    """The failures of one kind."""

    def __init__(self) -> None:
        #: How many runs failed so, and how many of their messages are dead letters now.
        self.runs = self.letters = 0
        self.text = ""
        #: Of dead letters, the first ones.
        self.ids: list[str] = []
        self.codes: Tally[int | None] = Tally(CODES)
        self.reason: str | None = None

    def take_in(self, other: Group) -> None:
        """Add those of another kind."""
        self.runs += other.runs
        self.letters += other.letters
        self.text = self.text or other.text
        self.ids = (self.ids + other.ids)[:IDS]
        self.codes.take_in(other.codes)
        if other.letters:
            same = self.reason in (None, other.reason)
            self.reason = other.reason if same else ""


class WorkerRecord:
    """What one worker did, as far as its journal and its name tell."""

    def __init__(self, queue: str, host: str, job: str, process: int | None) -> None:
        self.queue = queue
        self.host = host
        self.job = job
        self.process = process
        self.slots = 0
        self.first, self.last = inf, -inf
        self.done = self.failed = self.others = 0
        self.cpu = self.busy = 0.0
        self.peak_kib = 0
        self.line = Timeline()
        #: Whether its name in `workers/` told from when to when it was there.
        self.is_shown = False

    @property
    def seconds(self) -> float:
        """For how long it was there."""
        return max(self.last - self.first, 0.0)


class Letter(NamedTuple):
    """What is kept of a dead letter."""

    how: str
    line: str


class Span(NamedTuple):
    """From when to when."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return max(self.end - self.start, 0.0)


class Tail(NamedTuple):
    """The end, when not all slots had something to do any more."""

    start: float
    seconds: float
    busy: float
    """Slot seconds."""
    there: float
    """The same of the slots that were there."""


class Gathered(NamedTuple):
    """All that is told of a run, or of several queues together."""

    runs: int
    results: Mapping[str, int]
    """How many runs had each result."""
    done: int
    failed: int
    """Messages that failed for good and did not succeed later."""
    span: Span | None
    left_out: int
    """Runs that began far from all others."""
    queues: Mapping[str, tuple[int, int]]
    """Of each queue, how many runs did well and how many failed."""
    workers: list[WorkerRecord]
    more_workers: int
    """Those that are one row together."""
    width: float
    """Seconds of a piece."""
    busy: list[Piece]
    there: list[float]
    """Slots, for each piece."""
    durations: Histogram
    memory: Histogram
    """In KiB."""
    slowest: list[Long]
    latest: list[Long]
    groups: list[tuple[Kind, Group]]
    letters: int
    reasons: Tally[tuple[str, int | None, str]]
    """Dead letters by queue, exit status as shells have it, and reason."""
    tail: Tail | None
    batches: bool
    """Whether some commands had several messages at once."""

    @property
    def used(self) -> float:
        """Core seconds that commands used."""
        return sum(each.cpu for each in self.workers)

    @property
    def occupied(self) -> float:
        """Seconds for which slots were busy, together."""
        return sum(each.busy for each in self.workers)

    @property
    def allocated(self) -> float:
        """Seconds for which slots were there, together."""
        return sum(each.seconds * each.slots for each in self.workers)


def over_hosts(found: Gathered) -> list[tuple[Kind, Group]]:
    """Return the failures of all hosts together, by how often there was a run of each kind."""
    merged: dict[Kind, Group] = {}
    for kind, group in found.groups:
        merged.setdefault(kind._replace(host=""), Group()).take_in(group)
    return sorted(
        merged.items(), key=lambda each: (-each[1].runs, -each[1].letters, each[0])
    )


def redriving(kind: Kind, group: Group, found: Gathered, root: str) -> tuple[str, int]:
    """Return the command that redrives the dead letters of a group, and how many it means."""
    words = ["ddmq", "redrive", quoted(root), quoted(kind.queue)]
    if group.letters <= len(group.ids):
        return " ".join([*words, quoted(",".join(group.ids))]), group.letters
    code = group.codes.only
    reason = group.reason or ("timed out" if kind.how == "timed out" else "")
    if code is not None:
        words += ["--code", str(code)]
    if reason and printable(reason) == reason and len(reason) < _TEXT:
        words += ["--reason", quoted(reason)]
    else:
        reason = ""
    meant = sum(
        number
        for (queue, its_code, its_reason), number in found.reasons.numbers.items()
        if queue == kind.queue
        and (code is None or its_code == code)
        and reason in its_reason
    )
    return " ".join(words), meant


class Gatherer:
    """Takes in journals, dead letters and workers, in this order: letters, runs, workers."""

    def __init__(self, since: float = -inf, now: float = inf) -> None:
        self._since = since
        self._now = now
        self._workers: dict[tuple[str, str, str, str], WorkerRecord] = {}
        self._more: set[int] = set()
        self._results: Counter[str] = Counter()
        self._queues: dict[str, list[int]] = {}
        self._durations, self._memory = Histogram(), Histogram()
        self._slowest: list[tuple[float, int, Long]] = []
        self._latest: list[tuple[float, int, Long]] = []
        self._groups: dict[Kind, Group] = {}
        self._letters: dict[tuple[str, str], Letter] = {}
        self._letter_count = 0
        self._reasons: Tally[tuple[str, int | None, str]] = Tally(GROUPS)
        self._dead: set[int] = set()
        self._more_dead = 0
        self._acked = array("q")
        self._batches = False
        self._counter = 0

    # Dead letters

    def add_letter(self, queue: str, seen: Seen | DeadLetter) -> None:
        """Take in a dead letter: what its command said last stands only there."""
        note = seen.note
        time = note.get("time")
        if isinstance(time, (int, float)) and time < self._since:
            return
        text = seen.message if isinstance(seen.message, str) else ""
        code = _code_of(note)
        line, end = last_line(note.get("stderr"), text), _how_of(seen)
        host = note.get("host")
        self._letter_count += 1
        self._reasons.add((queue, code, seen.reason))
        if len(self._letters) < LETTERS:
            self._letters[queue, seen.id] = Letter(end, line)
        kind = Kind(queue, end, host if isinstance(host, str) else "", line)
        group = self._group(kind)
        group.letters += 1
        group.text = group.text or text[:_TEXT]
        group.codes.add(code)
        # Only what all of them say can tell them from others.
        same = group.reason in (None, seen.reason)
        group.reason = seen.reason if same else ""
        if len(group.ids) < IDS:
            group.ids.append(seen.id)

    def _group(self, kind: Kind) -> Group:
        found = self._groups.get(kind)
        if found is None:
            if len(self._groups) >= GROUPS:
                kind = Kind(kind.queue, OTHERS, "", "")
            found = self._groups.setdefault(kind, Group())
        return found

    # Runs

    # A million of runs: what is inside of their loops is written to be quick.

    def add_runs(self, queue: str, name: str, runs: Iterable[Run]) -> None:
        """Take in a journal, given the name of its file."""
        name, since = _worker_name(name), self._since
        counted = self._queues.setdefault(queue, [0, 0])
        recent = (run for run in runs if run.start >= since)
        while some := list(islice(recent, _TOGETHER)):
            for result, number in Counter(run.result for run in some).items():
                self._results[self._result_of(result)] += number
            done = [run for run in some if run.result in _DONE]
            failed = [run for run in some if run.result in _FAILED]
            counted[0] += len(done)
            counted[1] += len(failed)
            self._durations.add_all([run.duration for run in done])
            self._memory.add_all([run.peak_kib for run in some if run.peak_kib])
            self._acked.extend(hash(r.id) for r in done[: _ACKED - len(self._acked)])
            for run in failed:
                self._add_failure(queue, run)
            self._add_to_workers(queue, name, some)
            self._keep_extremes(some)

    def _add_to_workers(self, queue: str, name: str, runs: list[Run]) -> None:
        """Add runs to what their workers did; most have the same one as the run before."""
        worker = None
        for run in runs:
            _, start, duration, result = run[:4]
            host, job, slot, peak, cpu = run[6:11]
            if worker is None or host != worker.host or job != worker.job:
                worker = self._worker(queue, name, host, job)
            end, share = start + duration, 1.0
            if run.batch > 1:
                share, self._batches = 1 / run.batch, True
            line = worker.line
            ended = line.add(start, end, share)
            if result in _DONE:
                ended.done += 1
                worker.done += 1
            elif result in _FAILED:
                ended.failed += 1
                worker.failed += 1
            else:
                worker.others += 1
            worker.busy += duration * share
            worker.cpu += cpu * share
            if peak > worker.peak_kib:
                worker.peak_kib = peak
            if slot > worker.slots:
                worker.slots = slot
            if start < worker.first:
                worker.first = start
            if end > worker.last:
                worker.last = end

    def _keep_extremes(self, runs: list[Run]) -> None:
        """Keep the runs that are longer, or end later, than those that are kept."""
        slow, late = _least(self._slowest, SLOWEST), _least(self._latest, LATEST)
        for run in runs:
            end = run.start + run.duration
            if run.duration > slow:
                slow = self._keep(self._slowest, SLOWEST, run.duration, run)
            if end > late:
                late = self._keep(self._latest, LATEST, end, run)

    def _result_of(self, result: str) -> str:
        """Return the name under which a new result is counted; anybody may write any text."""
        result = result[:_TEXT]
        if result in _KNOWN or result in self._results:
            return result
        return result if len(self._results.keys() - _KNOWN) < RESULTS else OTHERS

    def _worker(self, queue: str, name: str, host: str, job: str) -> WorkerRecord:
        """Return the worker of a run; those that are too many are one."""
        key = (queue, name, host[:_TEXT], job[:_TEXT])
        found = self._workers.get(key)
        if found is None:
            if len(self._workers) >= WORKERS:
                if len(self._more) < MORE:
                    self._more.add(hash(key))
                key, host, job, name = (queue, OTHERS, "", ""), OTHERS, "", ""
            process = _process.search(name)
            number = None if process is None else int(process[1])
            found = WorkerRecord(queue, host[:_TEXT], job[:_TEXT], number)
            # In the end, all have the bins of the widest, so why begin with finer ones?
            widest = max((x.line.width for x in self._workers.values()), default=0)
            line = found.line
            line.widen_to(widest)
            found = self._workers.setdefault(key, found)
        return found

    def _add_failure(self, queue: str, run: Run) -> None:
        if run.result == "dead":
            if len(self._dead) < LETTERS:
                self._dead.add(hash(run.id))
            else:
                self._more_dead += 1
        end, letter = how(run)[:_TEXT], self._letters.get((queue, run.id))
        line = letter.line if letter is not None and letter.how == end else ""
        group = self._group(Kind(queue, end, run.host[:_TEXT], line))
        group.runs += 1
        group.text = group.text or run.text[:_TEXT]

    def _keep(
        self, heap: list[tuple[float, int, Long]], most: int, value: float, run: Run
    ) -> float:
        """Keep a run if its value is among the largest; return what the next one must exceed."""
        self._counter += 1
        long = Long(
            seconds=run.duration,
            end=run.start + run.duration,
            id=run.id[:_TEXT],
            text=run.text[:_TEXT],
            host=run.host[:_TEXT],
            how=how(run)[:_TEXT],
            result=run.result[:_TEXT],
        )
        push = heapq.heappush if len(heap) < most else heapq.heappushpop
        push(heap, (value, -self._counter, long))
        return _least(heap, most)

    # Workers

    def add_workers(self, queue: str, seen: Iterable[WorkerSeen]) -> None:
        """Take in what workers told of themselves: from when to when, and with how many slots."""
        known: dict[tuple[str, int | None], list[WorkerRecord]] = {}
        for worker in self._workers.values():
            if worker.queue == queue:
                known.setdefault((worker.host[:63], worker.process), []).append(worker)
        for each in seen:
            if each.seen < self._since or each.seen < each.started:
                continue
            alike = known.get((each.host[:63], each.process), [])
            its = [
                w
                for w in alike
                if w.first < each.seen + 60 and w.last > each.started - 60
            ]
            if not its:
                if len(self._workers) >= WORKERS:
                    continue
                idle = WorkerRecord(queue, each.host, each.job, each.process)
                self._workers[
                    queue, f"{each.started}", each.host, f"{each.process}"
                ] = idle
                its = [idle]
            worker = its[0]
            worker.is_shown = True
            worker.slots = max(worker.slots, each.slots)
            worker.first = min(worker.first, max(each.started, self._since))
            worker.last = max(worker.last, each.seen)

    # What it comes to

    def gathered(self) -> Gathered:
        """Return what all of it comes to."""
        workers = sorted(
            self._workers.values(), key=lambda w: (w.queue, w.first, w.host, w.job)
        )
        busy, there = Timeline(most=4 * PIECES), Timeline(most=4 * PIECES)
        for worker in workers:
            worker.slots = max(worker.slots, 1)
            busy.take_in(worker.line)
        span, left_out = _main_span(busy, workers, self._now + _AHEAD)
        pieces: list[Piece] = []
        slots: list[float] = []
        tail, width = None, busy.width
        if span is not None:
            for worker in workers:
                start, end = max(worker.first, span.start), min(worker.last, span.end)
                if start < end:
                    there.add(start, end, worker.slots)
            both = max(busy.width, there.width)
            busy.widen_to(both)
            there.widen_to(both)
            pieces = busy.pieces(span.start, span.end, PIECES)
            there.widen_to(busy.width)
            slots = [p.busy for p in there.pieces(span.start, span.end, PIECES)]
            width = busy.width
            tail = _tail(span, pieces, slots, width)
        dead = self._dead - (
            self._dead & set(filter(self._dead.__contains__, self._acked))
        )
        return Gathered(
            runs=sum(self._results.values()),
            results=dict(self._results.most_common()),
            done=sum(worker.done for worker in workers),
            failed=len(dead) + self._more_dead,
            span=span,
            left_out=left_out,
            queues={name: (good, bad) for name, (good, bad) in self._queues.items()},
            workers=workers,
            more_workers=len(self._more),
            width=width,
            busy=pieces,
            there=slots,
            durations=self._durations,
            memory=self._memory,
            slowest=_in_order(self._slowest),
            latest=_in_order(self._latest),
            groups=sorted(
                self._groups.items(), key=lambda g: (-g[1].letters, -g[1].runs, g[0])
            ),
            letters=self._letter_count,
            reasons=self._reasons,
            tail=tail,
            batches=self._batches,
        )


def _main_span(
    line: Timeline, workers: Sequence[WorkerRecord], latest: float
) -> tuple[Span | None, int]:
    """Return from when to when almost all was, and how many runs began far from that.

    A node whose clock is years off would else make one point of all that is right. What began
    when the others did is believed to have ended when it says, if that is over.
    """
    low, high = line.share_begun(_MAIN), line.share_begun(1 - _MAIN)
    if low is None or high is None:
        return None, 0
    high += line.width
    far = max(_FAR * (high - low), _NEAR)
    begin, end = low - far, high + far
    left_out = sum(
        each.began
        for key, each in line.bins.items()
        if not begin <= key * line.width <= end
    )
    starts = [worker.first for worker in workers if begin <= worker.first <= end]
    ends = [
        worker.last
        for worker in workers
        if begin <= worker.first <= end and worker.last <= latest
    ]
    return Span(min(starts, default=low), max(ends, default=high)), left_out


def rows(
    gathered: Gathered, most: int
) -> Iterator[tuple[WorkerRecord, list[float | None]]]:
    """Yield each worker with the share of its slots that was busy, in pieces of the time.

    None: it was not there.
    """
    if gathered.span is not None:
        for worker in gathered.workers:
            line = Timeline(most=MOST_PIECES)
            line.take_in(worker.line)
            yield worker, shares(worker, line, gathered.span, most)


MOST_PIECES = 4 * PIECES


def shares(
    worker: WorkerRecord, line: Timeline, span: Span, most: int
) -> list[float | None]:
    """Return which share of a worker's slots was busy, in pieces; None: it was not there."""
    found: list[float | None] = []
    for piece in line.pieces(span.start, span.end, most):
        end = piece.start + line.width
        there = min(end, worker.last) - max(piece.start, worker.first)
        if there <= 0 or worker.slots <= 0:
            found.append(None)
        else:
            seconds = piece.busy * line.width
            found.append(min(seconds / (there * worker.slots), 1.0))
    return found


def _tail(
    span: Span, pieces: list[Piece], slots: list[float], width: float
) -> Tail | None:
    """Find the last moment at which nearly as many slots were busy as ever."""
    most = max((piece.busy for piece in pieces), default=0.0)
    if most <= 0:
        return None
    last = max(n for n, piece in enumerate(pieces) if piece.busy >= FULL * most)
    start = min(max(pieces[last].start + width, span.start), span.end)
    return Tail(
        start=start,
        seconds=span.end - start,
        busy=sum(piece.busy for piece in pieces[last + 1 :]) * width,
        there=sum(slots[last + 1 :]) * width,
    )


def _least(heap: list[tuple[float, int, Long]], most: int) -> float:
    """Return what a value must exceed to be among the largest."""
    return heap[0][0] if len(heap) >= most else -inf


def _in_order(heap: list[tuple[float, int, Long]]) -> list[Long]:
    return [
        long for _, _, long in sorted(heap, key=lambda each: each[:2], reverse=True)
    ]


def last_line(said: Any, text: str) -> str:
    """Return the last line of what a command said, alike for alike failures.

    The text of the message is `{}` in it, and addresses and long numbers are `#`.
    """
    if not isinstance(said, str):
        return ""
    lines = said[-4096:].split("\n")
    line = next((each.strip() for each in reversed(lines) if each.strip()), "")
    if len(text) >= 3:
        line = line.replace(text, "{}")
    return _number.sub("#", line)[:_TEXT]


def _worker_name(journal: str) -> str:
    """Return what all journals of one worker have in common; empty: several are merged in it."""
    if journal.startswith(COMPACTED):
        return ""
    return journal.removesuffix(JOURNAL_SUFFIX).rpartition(".")[0]


def _how_of(seen: Seen | DeadLetter) -> str:
    """Return how the command of a dead letter ended, in the words of a journal."""
    note = seen.note
    signal, exit_ = note.get("signal"), note.get("exit")
    if seen.reason.startswith("timed out"):
        return "timed out"
    if isinstance(signal, str) and signal:
        return signal[:_TEXT]
    if type(exit_) is int:
        return f"exit {exit_}"[:_TEXT]
    return "answered" if "stderr" in note else seen.reason[:_TEXT]


def _code_of(note: Mapping[str, Any]) -> int | None:
    """Return the exit status that a note tells, as shells have it; None: it tells none."""
    import signal  # slow to import, and needed only where something failed

    status, name = note.get("exit"), note.get("signal")
    if isinstance(name, str) and name in signal.Signals.__members__:
        return 128 + signal.Signals[name]
    return status if type(status) is int else None
