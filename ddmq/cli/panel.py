"""What is shown of a queue that is watched, as text: pure."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

from ddmq.cli.workforce import Workforce, ending, in_words, of_all, why, with_progress
from ddmq.clock import span
from ddmq.printable import printable, quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddmq import Counts, Failure, Running, WorkerSeen

#: Seconds after which it is said how old the numbers are.
_OLD = 60.0
#: How many runs are shown of a queue: those that run for long, and those that failed.
MOST_RUNS = 6
#: How far a rate may be off however many messages tell it.
_DOUBT = 0.1
#: So many messages tell a rate, or those that were finished in so many seconds.
_ENOUGH, _LONG = 10, 5.0
#: The states of messages, with a character and a colour of the bar for each.
_STATES = (
    ("done", "#", "32"),
    ("running", "=", "36"),
    ("taken ahead", "-", "36"),
    ("leased", "+", "36"),
    ("waiting", ".", "37"),
    ("delayed", "~", "33"),
    ("dead", "x", "31"),
)
#: Columns that the text of a message has at least, and what stands before a line that goes on.
_LEAST_TEXT, _GOES_ON = 24, "    "
#: For each unit the fewest seconds that are told in it, and its length.
_UNITS = ((2 * 86400, 86400, "days"), (7200, 3600, "h"), (120, 60, "min"), (0, 1, "s"))


class Pace(NamedTuple):
    """How many messages were finished, and in how many seconds."""

    finished: int
    seconds: float

    @property
    def rate(self) -> float | None:
        """Messages a second; None: too few are known."""
        if self.finished >= _ENOUGH or self.seconds >= _LONG:
            return self.finished / self.seconds if self.seconds else None
        return None


class QueueSeen(NamedTuple):
    """What one observation showed of a queue."""

    root: str
    name: str
    counts: Counts | None = None
    """None: it could never be counted."""
    unrenewed: int = 0
    """How many leases no consumer renewed for long."""
    done: int = 0
    """Messages that were acked, moved or purged: by workers that are remembered, or since then."""
    age: float = 0.0
    """Seconds since it was observed."""
    paused: str = ""
    """Who paused it; empty: nobody did."""
    workers: Sequence[WorkerSeen] = ()
    running: Sequence[tuple[float, WorkerSeen, Running]] = ()
    """What has run for long, with the seconds that it has; the longest first."""
    failures: Sequence[tuple[float, WorkerSeen, Failure]] = ()
    """What failed of late, with the seconds since then; the latest first."""
    ends_in: tuple[float, float] | None = None
    """The least and the most seconds until the jobs of live workers end; None: nobody knows."""
    lately: Pace = Pace(0, 0.0)
    overall: float | None = None
    """Messages a second since the first worker started that is remembered."""
    trouble: str = ""
    """Why it could not be looked at; empty: it could."""

    @property
    def published(self) -> int:
        """How many messages were published, as far as any are known."""
        return sum(self.states)

    @property
    def slots(self) -> int:
        """How many slots live workers have."""
        return sum(each.slots for each in self.workers if each.is_live)

    @property
    def states(self) -> tuple[int, ...]:
        """How many messages are in each of `_STATES`; each message is in one.

        Of the leases that are renewed, live workers run as many as they have slots.
        """
        waiting, work, delayed, dead = self.counts or (0, 0, 0, 0)
        leased = min(self.unrenewed, work) if self.slots else work
        running = min(work - leased, self.slots)
        ahead = work - leased - running
        return self.done, running, ahead, leased, waiting, delayed, dead

    @property
    def done_in(self) -> tuple[float, float] | None:
        """The least and the most seconds until all is done; None: nobody knows.

        By the rate of late, and by how long messages took.
        """
        force = Workforce.of(self.workers, self.counts) if self.counts else None
        if (
            force is None
            or not (force.busy or self.states[1])
            or self.paused
            or ending(self.counts)
        ):
            return None
        told = sum(
            x.acked + x.failed + x.moved for x in self.workers if x.is_live and x.busy
        )
        by_slots = Pace(told, told / force.rate) if force.rate else Pace(0, 0.0)
        found = done_within(sum(self.states[1:-1]), self.lately, by_slots)
        return found and (max(found[0] - self.age, 0.0), max(found[1] - self.age, 0.0))


def panel(
    seen: QueueSeen, columns: int, *, is_coloured: bool, runs: int = MOST_RUNS
) -> list[str]:
    """Return what is shown of a queue on a terminal, in lines of so many columns at most.

    Of what has run for long and what failed, so many `runs` are shown, in a line each.
    """
    lines = wrapped(f"{seen.name}: {_messages(seen)}", columns)
    if seen.counts is not None and columns > 2 * len(_STATES):
        lines.append(bar(seen.states, columns - 2, is_coloured=is_coloured))
    for each in filter(None, (_pace(seen), _crew(seen))):
        lines += wrapped(f"  {each}", columns)
    failures = min(len(seen.failures), max(runs // 2, runs - len(seen.running)))
    for length, worker, run in seen.running[: runs - failures]:
        before = f"  {span(length)}  {worker.host} slot {run.slot}  "
        lines.append(fitted(before, run.text, with_progress("", run), columns))
    for ago, worker, failure in seen.failures[:failures]:
        before = f"  failed {span(ago)} ago  {worker.host}  "
        after = f": {why(failure, worker)}"
        lines.append(fitted(before, failure.text, after, columns))
    for each in _remarks(seen):
        lines += wrapped(f"  {each}", columns)
    return lines


def line(seen: QueueSeen) -> str:
    """Return what is printed of a queue where no terminal is."""
    told = [_messages(seen), _pace(seen), _crew(seen), *_remarks(seen)]
    return printable(f"{seen.name}: {'; '.join(filter(None, told))}")


def brief(seen: QueueSeen) -> str:
    """Say how far a queue is in a few words, for one line of a terminal."""
    told = [_messages(seen), _pace(seen), *_remarks(seen, briefly=True)]
    return printable(f"{seen.name}: {', '.join(filter(None, told))}")


def bar(parts: Sequence[int], width: int, *, is_coloured: bool) -> str:
    """Return a bar with the parts of a whole, in brackets; a part of which there is any is seen."""
    whole = sum(parts)
    exact = [part * width / whole if whole else 0.0 for part in parts]
    cells = [max(int(share), int(share > 0)) for share in exact]
    while sum(cells) > width:
        cells[cells.index(max(cells))] -= 1
    while whole and sum(cells) < width:
        lacks = [share - cell for share, cell in zip(exact, cells)]
        cells[lacks.index(max(lacks))] += 1
    text = ""
    for (_, char, colour), cell in zip(_STATES, cells):
        piece = char * cell
        text += f"\x1b[{colour}m{piece}\x1b[0m" if is_coloured and cell else piece
    return f"[{text}{' ' * (width - sum(cells))}]"


def done_within(left: int, *paces: Pace) -> tuple[float, float] | None:
    """Return the least and the most seconds until `left` messages are done; None: unknown.

    Where few messages tell a pace, it may be far off: by the square root of their number.
    """
    bounds = []
    for pace in paces:
        if rate := pace.rate:
            doubt = max(1 / sqrt(pace.finished + 1), _DOUBT)
            bounds.append((left / rate / (1 + doubt), left / rate / (1 - doubt)))
    if not left or not bounds:
        return None
    return min(low for low, _ in bounds), max(high for _, high in bounds)


def between(low: float, high: float) -> str:
    """Say a range of times from now, in seconds: `in 25 to 40 min`, `in about 3 h`."""
    first, second = _in_unit(low), _in_unit(high)
    if first == second:
        return f"in about {second[0]:,} {second[1]}"
    if first[1] == second[1]:
        return f"in {first[0]:,} to {second[0]:,} {second[1]}"
    return f"in {first[0]:,} {first[1]} to {second[0]:,} {second[1]}"


def _in_unit(seconds: float) -> tuple[int, str]:
    length, unit = next((x, unit) for least, x, unit in _UNITS if seconds >= least)
    return max(round(seconds / length), 1), unit


def cut(text: str, columns: int) -> str:
    """Return as much of a text as a line of a terminal holds, with nothing that is obeyed."""
    text = printable(text)
    if text.isascii():
        return text[:columns]
    width = 0
    for place, char in enumerate(text):
        width += _width(char)
        if width > columns:
            return text[:place]
    return text


def wrapped(text: str, columns: int) -> list[str]:
    """Return a text in lines of a terminal, broken between words where it has any."""
    text, lines = printable(text), []
    goes_on = _GOES_ON if columns > 4 * len(_GOES_ON) else ""
    while text != (part := cut(text, columns)) and part:
        end = len(part) if text[len(part)] == " " else part.rfind(" ")
        if end <= len(text) - len(text.lstrip()):  # a word is wider than the terminal
            end = len(part)
        lines.append(text[:end].rstrip())
        text = goes_on + text[end:].lstrip()
    return [*lines, part]


def fitted(before: str, text: str, after: str, columns: int) -> str:
    """Return a line of a terminal; where it is too long, the end of the text is kept."""
    before, text, after = map(printable, (before, text, after))
    least = min(_LEAST_TEXT, columns - _width(before))
    room = max(columns - _width(before + after), least, 1)
    if _width(text) > room:
        text = "…" + cut(text[::-1], room - 1)[::-1]
    return cut(before + text + after, columns)


def _width(text: str) -> int:
    """Return how many columns a text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import east_asian_width  # rarely needed

    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def _messages(seen: QueueSeen) -> str:
    """Say how many messages were published, and how many of them are in each state."""
    if seen.counts is None:
        return "not counted yet"
    numbers = zip(_STATES, seen.states)
    told = [f"{n:,} {name}" for (name, _, _), n in numbers if n or name == "done"]
    old = f" ({span(seen.age)} ago)" if seen.age >= _OLD else ""
    return f"{seen.published:,} published: {', '.join(told)}{old}"


def _pace(seen: QueueSeen) -> str:
    """Say how fast it goes, and when all is done; empty: nobody works, or did."""
    told, rate, is_running = [], seen.lately.rate, bool(seen.states[1])
    if rate or (rate is not None and is_running):
        told.append(f"{in_words(rate) if rate else 'nothing done'} now")
    if seen.overall:
        told.append(f"{in_words(seen.overall)} overall")
    if seen.done_in is not None:
        told.append(f"done {between(*seen.done_in)}")
    elif seen.published and (end := ending(seen.counts)):
        told.append(end)
    return ", ".join(told) or ("how fast it goes is not known yet" * is_running)


def _crew(seen: QueueSeen) -> str:
    """Say who works; empty: no worker is remembered."""
    if not seen.workers:
        return ""
    text = f"; {seen.slots:,} slots" if seen.slots else ""
    if seen.ends_in is not None:
        text += f"; jobs end {between(*seen.ends_in)}"
    return f"workers: {of_all(seen.workers)}{text}"


def _remarks(seen: QueueSeen, *, briefly: bool = False) -> list[str]:
    """Say what somebody should know, and do."""
    told = [seen.trouble] if seen.trouble else []
    if seen.paused:
        told.append(f"paused {seen.paused}; workers take nothing")
    places = f"{quoted(seen.root)} {quoted(seen.name)}"
    if seen.counts is not None and seen.counts.dead and not briefly:
        told.append(f"why messages are dead: `ddmq dead -k {places}`")
    waits = seen.counts is not None and (seen.counts.waiting or seen.counts.delayed)
    if waits and not any(worker.is_live for worker in seen.workers):
        ages = [worker.age for worker in seen.workers]
        seen_last = (
            f": the last one was seen {span(max(min(ages), 1))} ago" if ages else ""
        )
        submit = f"submit some (`ddmq-submit … {places} …`)"
        told.append(f"No worker runs{seen_last}; {submit}")
    return told
