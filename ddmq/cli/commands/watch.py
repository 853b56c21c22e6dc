"""`ddmq view --watch`: queues, shown again and again until somebody ends it."""

from __future__ import annotations

import os
import re
import signal
import sys
from contextlib import suppress
from math import inf, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq import Broker
from ddmq.cli.commands.workers import Workforce, in_words, of_all, with_progress
from ddmq.cli.errors import one_line
from ddmq.cli.spec import Reply
from ddmq.clock import Clock, date, span
from ddmq.errors import DdmqError, InvalidArgument, QueueNotFound
from ddmq.message import Counts
from ddmq.printable import printable, quoted
from ddmq.schedulers import environment
from ddmq.settings import show
from ddmq.storage.filesystem import CountedCalls, FileSystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import TextIO

    from ddmq import Failure, Overview, Running, WorkerSeen
    from ddmq.cli.spec import Context, Number
    from ddmq.storage.workers import Workers

#: Seconds from one refresh to the next: on a terminal, and elsewhere, where each adds lines.
EVERY, EVERY_LINE = 2.0, 10.0
#: File system calls for a refresh, on the average: for the workers, and for the messages.
CALLS_TO_LOOK, CALLS_TO_COUNT = 4, 4
#: What it costs to list the workers of a queue, and as much to read what one of them runs.
_LISTING = 3
#: A refresh begins no sooner than so many times the time that the last one took.
_REST = 20
#: Seconds over which the rate now is measured, and the fewest that tell it: a worker shows what it
#: has done every 10 s at most.
_LATELY, _LEAST = 75.0, 20.0
#: How far a rate may be off however many messages tell it, and the fewest messages that do.
_DOUBT, _FEWEST = 0.1, 4
#: Messages that are shown of those that run for long, and of those that failed.
_SLOWEST, _LATEST = 3, 3
#: Seconds after which counts are old, and for which a failure is of late.
_OLD, _RECENT = 60.0, 3600.0
#: Seconds after which a terminal is asked for its size again.
_GLANCE = 0.25
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
#: The parts of a bar: a name, a character and a colour for each.
_PARTS = (
    ("done", "#", "32"),
    ("at work", "=", "36"),
    ("waiting", ".", "37"),
    ("delayed", "~", "33"),
    ("dead", "x", "31"),
)
_colour = re.compile("\x1b\\[[0-9]*m")
#: For each unit the fewest seconds that are told in it, and its length.
_UNITS = ((2 * 86400, 86400, "days"), (7200, 3600, "h"), (120, 60, "min"), (0, 1, "s"))


class Seen(NamedTuple):
    """What is known of a queue."""

    root: str
    name: str
    counts: Counts | None
    """None: it could never be counted."""
    done: int
    """Messages that were acked by workers, as far as these are still remembered."""
    counted: float
    """Seconds since the messages were counted."""
    paused: str
    """Who paused it; empty: nobody did."""
    workers: Sequence[WorkerSeen]
    running: Sequence[tuple[float, WorkerSeen, Running]]
    """What has run for long, with the seconds that it has; the longest first."""
    failures: Sequence[tuple[float, WorkerSeen, Failure]]
    """What failed of late, with the seconds since then; the latest first."""
    ends_in: tuple[float, float] | None
    """The least and the most seconds until the jobs of live workers end; None: nobody knows."""
    rate: float | None
    """Messages a second of late; None: nobody knows yet."""
    overall: float | None
    """The same since the first worker started that is remembered."""
    done_in: tuple[float, float] | None
    """The least and the most seconds until all is done; None: nobody knows."""
    trouble: str = ""
    """Why it could not be looked at; empty: it could."""

    @property
    def busy(self) -> int:
        """How many slots are busy."""
        return sum(each.busy for each in self.workers if each.is_live)


# Text from numbers


def panel(seen: Seen, columns: int, *, is_coloured: bool) -> list[str]:
    """Return what is shown of a queue on a terminal, in lines of so many columns at most."""
    runs = [
        f"{span(length)}  {worker.host} slot {each.slot}  {with_progress(each)}"
        for length, worker, each in seen.running
    ]
    runs += [
        f"failed {span(ago)} ago  {worker.host}  {each.text}: {each.reason}"
        for ago, worker, each in seen.failures
    ]
    lines = [cut(f"{seen.name}: {_messages(seen)}", columns)]
    if seen.counts is not None and columns > 2 * len(_PARTS):
        lines.append(bar(_parts(seen), columns - 2, is_coloured=is_coloured))
    below = [_pace(seen), _crew(seen), *runs, *_remarks(seen)]
    return lines + [cut(f"  {each}", columns) for each in below if each]


def line(seen: Seen) -> str:
    """Return what is printed of a queue where no terminal is."""
    told = [_messages(seen), _pace(seen), _crew(seen), *_remarks(seen)]
    return printable(f"{seen.name}: {'; '.join(filter(None, told))}")


def brief(seen: Seen) -> str:
    """Say how far a queue is in a few words, for one line of a terminal."""
    parts = _parts(seen)
    told = [f"{seen.done:,} of {sum(parts):,} done", _pace(seen), _slots(seen)]
    told += [f"{parts[-1]:,} dead"] if parts[-1] else []
    told += _remarks(seen, briefly=True)
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
    for (_, char, colour), cell in zip(_PARTS, cells):
        piece = char * cell
        text += f"\x1b[{colour}m{piece}\x1b[0m" if is_coloured and cell else piece
    return f"[{text}{' ' * (width - sum(cells))}]"


def done_within(
    left: int, rates: Iterable[tuple[float | None, int]]
) -> tuple[float, float] | None:
    """Return the least and the most seconds until `left` messages are done; None: unknown.

    For each rate, in messages a second, it is given how many messages tell it. Of few, it may be
    far off: by the square root of their number.
    """
    bounds = []
    for rate, number in rates:
        if rate and number >= _FEWEST:
            doubt = max(1 / sqrt(number), _DOUBT)
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
    from unicodedata import east_asian_width  # rarely needed

    width = 0
    for place, char in enumerate(text):
        width += 2 if east_asian_width(char) in "WF" else 1
        if width > columns:
            return text[:place]
    return text


def _parts(seen: Seen) -> tuple[int, ...]:
    """Return how many messages are in each part of the bar."""
    waiting, work, delayed, dead = seen.counts or (0, 0, 0, 0)
    return seen.done, work, waiting, delayed, dead


def _messages(seen: Seen) -> str:
    """Say how many messages are in each state."""
    if seen.counts is None:
        return "not counted yet"
    numbers = zip(_PARTS, _parts(seen))
    told = ", ".join(f"{number:,} {name}" for (name, _, _), number in numbers)
    return (
        f"{told} (counted {span(seen.counted)} ago)" if seen.counted >= _OLD else told
    )


def _pace(seen: Seen) -> str:
    """Say how fast it goes, and when all is done; empty: nobody works, or did."""
    told = []
    if seen.rate is not None and (seen.rate or seen.busy):
        told.append(f"{in_words(seen.rate) if seen.rate else 'nothing done'} now")
    if seen.overall:
        told.append(f"{in_words(seen.overall)} overall")
    if seen.done_in is not None:
        told.append(f"done {between(*seen.done_in)}")
    return ", ".join(told) or ("how fast it goes is not known yet" * bool(seen.busy))


def _crew(seen: Seen) -> str:
    """Say who works, and how busy they are; empty: no worker is remembered."""
    if not seen.workers:
        return ""
    slots = _slots(seen)
    text = f"; {slots}" if slots else ""
    if seen.ends_in is not None:
        text += f"; jobs end {between(*seen.ends_in)}"
    return f"workers: {of_all(seen.workers)}{text}"


def _slots(seen: Seen) -> str:
    """Say how many slots are busy; empty: there are none."""
    slots = sum(each.slots for each in seen.workers if each.is_live)
    return f"{seen.busy:,} of {slots:,} slots busy" if slots else ""


def _remarks(seen: Seen, *, briefly: bool = False) -> list[str]:
    """Say what somebody should know, and do."""
    told = [seen.trouble] if seen.trouble else []
    if seen.paused:
        told.append(f"paused {seen.paused}; workers take nothing")
    places = f"{quoted(seen.root)} {seen.name}"
    if seen.counts is not None and seen.counts.dead and not briefly:
        told.append(f"why messages are dead: `ddmq dead {places}`")
    waits = seen.counts is not None and (seen.counts.waiting or seen.counts.delayed)
    if waits and not any(worker.is_live for worker in seen.workers):
        ages = [worker.age for worker in seen.workers]
        length = f" for {span(min(ages))}" if ages else ""
        submit = f"`ddmq-submit … {places} …`"
        told.append(f"No worker has been seen{length}: submit some ({submit})")
    return told


# Looking


class Watched:
    """A queue that is looked at again and again."""

    def __init__(self, broker: Broker, name: str, clock: Clock) -> None:
        self.name = name
        self._broker = broker
        self._clock = clock
        self._overview: Overview | None = None
        self._shown: Workers | None = None
        self._workers: list[WorkerSeen] = []
        self._troubles: dict[str, str] = {}
        #: When messages were counted, and how many were done then.
        self._counted = -inf, 0
        #: How many were done when, of late.
        self._lately: list[tuple[float, int]] = []
        #: What each worker told, and when that was read.
        self._told: dict[Any, tuple[float, WorkerSeen]] = {}

    @property
    def is_read_next(self) -> Any:
        """The worker of which it was read longest ago what it tells; None: nobody tells."""
        tell = [_key(each) for each in self._workers if each.tells]
        return min(tell, key=lambda key: self._told.get(key, (-inf,))[0], default=None)

    def look(self, wanted: Callable[[WorkerSeen], bool]) -> None:
        """List the workers; of those that are `wanted`, see what they tell."""
        if self._shown is None:
            self._shown = self._broker.with_workers(self.name, lambda each: each)
        try:  # without the checks that the broker makes, which cost more than the listing
            self._workers = self._shown.all(running=True, wanted=wanted)
        except OSError as error:
            raise DdmqError(f"workers can't be listed: {error.strerror}") from error
        now, done = self._clock.monotonic(), self._done()
        if self._lately and done < self._lately[-1][1]:
            self._lately = []  # workers were forgotten that ended long ago
        self._lately = [x for x in self._lately if now - x[0] <= _LATELY]
        self._lately.append((now, done))
        tell = {_key(each): each for each in self._workers if each.tells}
        self._told = {key: found for key, found in self._told.items() if key in tell}
        self._told.update((k, (now, x)) for k, x in tell.items() if wanted(x))

    def count(self) -> None:
        """Count the messages."""
        self._overview = self._broker.overview(self.name)[self.name]
        self._counted = self._clock.monotonic(), self._done()

    def attempt(self, act: Callable[..., None], *arguments: Any) -> None:
        """Look or count; what goes wrong is shown until it goes well again."""
        try:
            act(*arguments)
            self._troubles.pop(act.__name__, None)
        except DdmqError as error:
            self._troubles[act.__name__] = one_line(error)

    def seen(self) -> Seen:
        """Return what is known by now."""
        now, done = self._clock.monotonic(), self._done()
        counts, overview = None, self._overview
        if overview is not None:
            # What was done since it was counted waits no more.
            since = max(done - self._counted[1], 0)
            waiting = max(overview.counts.waiting - since, 0)
            counts = overview.counts._replace(waiting=waiting)
        rate, lately = None, 0
        if self._lately and now - self._lately[0][0] >= _LEAST:
            lately = done - self._lately[0][1]
            rate = lately / (now - self._lately[0][0])
        paused = overview.paused if overview is not None else None
        return Seen(
            root=str(self._broker.root),
            name=self.name,
            counts=counts,
            done=done,
            counted=now - self._counted[0],
            paused=str(paused or ""),
            workers=self._workers,
            running=self._slowest(),
            failures=self._latest(),
            ends_in=self._ends_in(),
            rate=rate,
            overall=_overall(self._workers),
            done_in=None if paused else self._done_in(counts, rate, lately),
            trouble="; ".join(sorted({*self._troubles.values()})),
        )

    def _done(self) -> int:
        return sum(each.acked for each in self._workers)

    def _done_in(
        self, counts: Counts | None, rate: float | None, lately: int
    ) -> tuple[float, float] | None:
        """Return when all is done, as the rate of late has it, and how long messages took."""
        force = Workforce.of(self._workers, counts) if counts is not None else None
        if counts is None or force is None or not force.busy:
            return None
        busy = [each for each in self._workers if each.is_live and each.busy]
        told = sum(each.acked + each.failed + each.moved for each in busy)
        left = counts.waiting + counts.delayed + counts.work
        return done_within(left, [(rate, lately), (force.rate, told)])

    def _slowest(self) -> list[tuple[float, WorkerSeen, Running]]:
        found = [
            (max(now - run.started, 0.0), worker, run)
            for now, worker, told in self._tellers()
            if worker.busy
            for run in told.running
        ]
        return sorted(found, key=lambda each: -each[0])[:_SLOWEST]

    def _latest(self) -> list[tuple[float, WorkerSeen, Failure]]:
        found = [
            (max(now - failure.ended, 0.0), worker, failure)
            for now, worker, told in self._tellers()
            for failure in told.failures
        ]
        recent = [each for each in found if each[0] <= _RECENT]
        return sorted(recent, key=lambda each: each[0])[:_LATEST]

    def _ends_in(self) -> tuple[float, float] | None:
        tellers = list(self._tellers())
        ends = [max(x.ends - now, 0.0) for now, _, x in tellers if x.ends is not None]
        return (min(ends), max(ends)) if ends else None

    def _tellers(self) -> Iterator[tuple[float, WorkerSeen, WorkerSeen]]:
        """Yield the time, by the file server's clock, a worker, and it when it was read."""
        for worker in self._workers:
            if (found := self._told.get(_key(worker))) is not None:
                yield worker.seen + worker.age, worker, found[1]


def _anyone(_: WorkerSeen) -> bool:
    return True


def _key(worker: WorkerSeen) -> tuple[str, int, float]:
    return worker.host, worker.process, worker.started


def _overall(workers: Sequence[WorkerSeen]) -> float | None:
    """Return the rate since the first worker started, until now or until the last one ended."""
    done = sum(each.acked for each in workers)
    if not done:
        return None
    live = [each.seen + each.age for each in workers if each.is_live]
    end = max(live or [each.seen for each in workers])
    length = end - min(each.started for each in workers)
    return done / length if length > 0 else None


class Watch:
    """Looks at queues, by a few calls a refresh: what costs more comes the more seldom."""

    def __init__(self, queues: Sequence[Watched], calls: Mapping[str, int]) -> None:
        self._queues = queues
        self._calls = calls
        #: Those at which nobody looked for longest first.
        self._to_look, self._to_count = list(queues), list(queues)
        #: How many calls may be made for it by now; less than none were made too many.
        self._calls_to_look = self._calls_to_count = 0

    def begin(self, *, raises: bool) -> list[Seen]:
        """Look at everything for the first time, whatever it costs."""
        for queue in self._queues:
            for act, arguments in ((queue.look, (_anyone,)), (queue.count, ())):
                if raises:
                    act(*arguments)
                else:
                    queue.attempt(act, *arguments)
        return [queue.seen() for queue in self._queues]

    def refresh(self) -> list[Seen]:
        """Look at as much as may be by now.

        No look is made by halves: what one costs too much, the next ones wait for.
        """
        saved = min(self._calls_to_look, _LISTING)
        self._calls_to_look = saved + CALLS_TO_LOOK
        for _ in self._queues:
            if self._calls_to_look < _LISTING:
                break
            queue, before = self._to_look.pop(0), self._made()
            self._to_look.append(queue)
            reads = self._calls_to_look >= 2 * _LISTING
            key = queue.is_read_next if reads else None
            queue.attempt(queue.look, lambda worker, key=key: _key(worker) == key)
            self._calls_to_look -= self._made() - before
        self._calls_to_count = min(self._calls_to_count, 0) + CALLS_TO_COUNT
        if self._calls_to_count > 0:
            queue, before = self._to_count.pop(0), self._made()
            self._to_count.append(queue)
            queue.attempt(queue.count)
            self._calls_to_count -= self._made() - before
        return [queue.seen() for queue in self._queues]

    def _made(self) -> int:
        return sum(self._calls.values())


# Showing


class Screen:
    """Some lines of a terminal that are written over again and again; elsewhere, new lines.

    The cursor is hidden only while they are written, so that it is there whatever ends us.
    """

    def __init__(self, out: TextIO, clock: Clock, environ: Mapping[str, str]) -> None:
        self._out = out
        self._clock = clock
        self.is_terminal = out.isatty() and environ.get("TERM") != "dumb"
        self._is_coloured = self.is_terminal and not environ.get("NO_COLOR")
        #: How many columns each line has that is shown, and the terminal then had.
        self._widths: list[int] = []
        self._size = 0, 0

    def show(self, found: Sequence[Seen]) -> None:
        """Show queues."""
        if not self.is_terminal:
            now = date(self._clock.time())
            self._write("".join(f"{now}  {line(seen)}\n" for seen in found))
            return
        self._size = columns, rows = self._asked()
        lines: list[str] = []
        for seen in found:
            # In the last column, what is erased behind a line would be its end.
            lines += panel(seen, columns - 1, is_coloured=self._is_coloured)
        lines = lines[: rows - 1]  # the cursor can't go up to what has left the screen
        # Where it has become narrower, the terminal has broken the lines that it showed.
        up = sum(max(-(-width // columns), 1) for width in self._widths)
        up = min(up, rows - 1)
        text = f"\x1b[{up}A" if up else ""
        text += "".join(f"\r{each}\x1b[K\n" for each in lines)
        self._widths = [len(_colour.sub("", each)) for each in lines]
        self._write(f"\x1b[?25l{text}\x1b[J\x1b[?25h")

    def has_other_size(self) -> bool:
        """Tell whether the terminal has another size than when something was shown last."""
        return self.is_terminal and self._asked() != self._size

    def leave(self) -> None:
        """Leave the terminal as it was, below what is shown."""
        if self.is_terminal:
            with suppress(OSError):  # it is gone
                self._write("\r\x1b[0m\x1b[?25h\x1b[J")

    def _asked(self) -> tuple[int, int]:
        try:
            size = os.get_terminal_size(self._out.fileno())
        except OSError:
            return 80, 24
        return size.columns or 80, size.lines or 24

    def _write(self, text: str) -> None:
        self._out.buffer.write(text.encode("utf-8", "backslashreplace"))
        self._out.flush()


class Progress:
    """How far one queue is, for those who wait for it; looked at as `--watch` does."""

    def __init__(self, root: str, name: str, fs: FileSystem, clock: Clock) -> None:
        broker, fs = _looker(root, fs)
        self._clock = clock
        self._queue = Watched(broker, name, clock)
        self._watch = Watch([self._queue], _numbers(fs))
        self._next: float | None = None

    def told(self, every: float) -> str | None:
        """Say it, unless it was said less than `every` seconds ago; then None."""
        began = self._clock.monotonic()
        if self._next is None:
            [seen] = self._watch.begin(raises=False)
        elif began < self._next:
            return None
        else:
            [seen] = self._watch.refresh()
        now = self._clock.monotonic()
        self._next = now + max(every, (now - began) * _REST)
        return brief(seen)


def _looker(root: str, fs: FileSystem) -> tuple[Broker, FileSystem]:
    """Return a broker that only looks, and its file system, which counts the calls."""
    if not isinstance(fs.calls, CountedCalls):
        fs = FileSystem(CountedCalls())
    return Broker(root, clean=False, fs=fs), fs


def _numbers(fs: FileSystem) -> Mapping[str, int]:
    """Return how often each call was made."""
    assert isinstance(fs.calls, CountedCalls)
    return fs.calls.numbers


class _Stopped(BaseException):
    """A signal asks us to end."""


def watch(
    root: str, names: list[str] | None, seconds: Number, context: Context
) -> Reply:
    """Show queues until Ctrl-C; a signal that ends us does so when the terminal is as it was."""
    if context.is_for_programs:
        raise InvalidArgument("--watch is for people: it has no other format")
    screen = Screen(sys.stdout, Clock(), environment())
    every = seconds or (EVERY if screen.is_terminal else EVERY_LINE)
    if not isinstance(every, (int, float)) or not 0 < every < inf:
        raise InvalidArgument(f"--watch is {show(every)}; it must be positive seconds")
    clock = Clock()
    broker, fs = _looker(root, context.fs)
    queues = [Watched(broker, name, clock) for name in names or broker.queues()]
    if not queues:
        raise QueueNotFound(f"{root}: there is no queue; make one with `ddmq create`")
    stopped: list[int] = []

    def stop(number: int, _: Any) -> None:
        stopped.append(number)
        raise _Stopped

    before = {number: signal.getsignal(number) for number in (*_SIGNALS, signal.SIGINT)}
    ours = [n for n in _SIGNALS if before[n] != signal.SIG_IGN]
    with suppress(KeyboardInterrupt, _Stopped):
        try:
            for number in ours:
                signal.signal(number, stop)
            look = Watch(queues, _numbers(fs))
            _go_on(look, screen, float(every), clock, raises=bool(names))
        finally:
            # From now on a signal ends us at once, also where the terminal takes nothing.
            for number in (*ours, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            screen.leave()
            for number in (*ours, signal.SIGINT):
                signal.signal(number, before[number] or signal.SIG_DFL)
    if stopped:
        signal.signal(stopped[0], signal.SIG_DFL)
        os.kill(os.getpid(), stopped[0])
    return Reply({}, "")


def _go_on(
    look: Watch, screen: Screen, every: float, clock: Clock, *, raises: bool
) -> None:
    """Look, show and wait, again and again."""
    began = clock.monotonic()
    found = look.begin(raises=raises)
    while True:
        screen.show(found)
        now = clock.monotonic()
        until = now + max(every, (now - began) * _REST)
        while (left := until - clock.monotonic()) > 0:
            clock.sleep(min(left, _GLANCE))
            if screen.has_other_size():
                screen.show(found)
        began = clock.monotonic()
        found = look.refresh()
