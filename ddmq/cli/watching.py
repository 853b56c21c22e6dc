"""Looks at queues again and again, by a few calls each time."""

from __future__ import annotations

import os
from math import inf
from typing import TYPE_CHECKING, Any

from ddmq import Broker
from ddmq.cli.errors import one_line
from ddmq.cli.panel import QueueSeen, brief, done_within
from ddmq.cli.workforce import Workforce, is_tail
from ddmq.errors import DdmqError
from ddmq.storage.filesystem import CountedCalls, FileSystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ddmq import Counts, Failure, Overview, Running, WorkerSeen
    from ddmq.clock import Clock
    from ddmq.storage.workers import Workers

#: Seconds from one refresh to the next on a terminal.
EVERY = 2.0
#: Seconds between two lines of progress, where they do not go to a terminal.
EVERY_LINE = 60.0
#: File system calls for a refresh, on the average: for the workers, and for the messages.
CALLS_TO_LOOK, CALLS_TO_COUNT = 4, 4
#: The calls that it takes to list the workers of a queue; to read what one of them runs takes as
#: many.
_LISTING = 3
#: The pause after a refresh is at least so many times as long as the refresh took.
REST = 20
#: Seconds over which the rate now is measured, and the fewest that tell it: a worker shows what it
#: has done every 10 s at most.
_LATELY, _LEAST = 75.0, 20.0
#: The most messages that are shown: of those that run for long, and of those that failed.
_SLOWEST, _LATEST = 3, 3
#: Seconds for which a failure is shown.
_RECENT = 3600.0


class Watched:
    """A queue that is looked at again and again."""

    def __init__(
        self,
        broker: Broker,
        name: str,
        clock: Clock,
        ours: Callable[[], int] | None = None,
    ) -> None:
        """`ours` tells how many messages were acked by a worker of this process, if it is one."""
        self.name = name
        self._ours = ours
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
        #: For each worker: when its file was read, and what it told.
        self._told: dict[Any, tuple[float, WorkerSeen]] = {}

    @property
    def read_next(self) -> Any:
        """The key of the worker whose file was read longest ago; None: no worker has a file."""
        tell = [_key(each) for each in self._workers if each.tells]
        return min(tell, key=lambda key: self._told.get(key, (-inf,))[0], default=None)

    def look(self, wanted: Callable[[WorkerSeen], bool]) -> None:
        """List the workers; of those that are `wanted`, read the files, too."""
        if self._shown is None:
            self._shown = self._broker.with_workers(self.name, lambda each: each)
        try:  # without the checks that the broker makes, which cost more than the listing
            self._workers = self._shown.all(running=True, wanted=wanted)
        except OSError as error:
            raise DdmqError(f"workers can't be listed: {error.strerror}") from error
        if self._ours is not None:  # sooner than it shows that
            us, acked = (os.uname().nodename, os.getpid()), self._ours()
            self._workers = [
                x._replace(acked=acked, seen=x.seen + x.age, age=0.0)
                if (x.host, x.process) == us
                else x
                for x in self._workers
            ]
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

    def seen(self) -> QueueSeen:
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
        tellers = list(self._tellers())
        ends = [max(x.ends - time, 0.0) for time, _, x in tellers if x.ends is not None]
        return QueueSeen(
            root=str(self._broker.root),
            name=self.name,
            counts=counts,
            done=done,
            counted=now - self._counted[0],
            paused=str(paused or ""),
            workers=self._workers,
            running=self._slowest(),
            failures=self._latest(),
            ends_in=(min(ends), max(ends)) if ends else None,
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
        """Estimate when all is done, by the rate of late and by how long messages took."""
        force = Workforce.of(self._workers, counts) if counts is not None else None
        if counts is None or force is None or not force.busy or is_tail(counts):
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

    def _tellers(self) -> Iterator[tuple[float, WorkerSeen, WorkerSeen]]:
        """Yield for each worker with a file: the server's time, its state now, and when read."""
        for worker in self._workers:
            if (found := self._told.get(_key(worker))) is not None:
                yield worker.seen + worker.age, worker, found[1]


def _key(worker: WorkerSeen) -> tuple[str, int, float]:
    return worker.host, worker.process, worker.started


def _overall(workers: Sequence[WorkerSeen]) -> float | None:
    """Return the rate since the first worker started, until one last said what it has done."""
    done = sum(each.acked for each in workers)
    if not done:
        return None
    length = max(x.seen for x in workers) - min(x.started for x in workers)
    return done / length if length > 0 else None


class Watch:
    """Looks at queues, by a few calls a refresh: a look that costs more comes more rarely."""

    def __init__(self, queues: Sequence[Watched], calls: Mapping[str, int]) -> None:
        self._queues = queues
        self._calls = calls
        #: The queues; the one that was looked at longest ago comes first.
        self._to_look, self._to_count = list(queues), list(queues)
        #: How many calls may be made by now; below zero, so many were made too many.
        self._calls_to_look = self._calls_to_count = 0

    def begin(self, *, raises: bool) -> list[QueueSeen]:
        """Look at everything for the first time, whatever it costs."""
        for queue in self._queues:
            for act, arguments in ((queue.look, (lambda _: True,)), (queue.count, ())):
                if raises:
                    act(*arguments)
                else:
                    queue.attempt(act, *arguments)
        return [queue.seen() for queue in self._queues]

    def refresh(self) -> list[QueueSeen]:
        """Look at as much as the calls that may be made by now allow.

        Each look is finished. If it takes more calls than that, the next looks wait longer.
        """
        saved = min(self._calls_to_look, _LISTING)
        self._calls_to_look = saved + CALLS_TO_LOOK
        for _ in self._queues:
            if self._calls_to_look < _LISTING:
                break
            queue, before = self._to_look.pop(0), self._made()
            self._to_look.append(queue)
            reads = self._calls_to_look >= 2 * _LISTING
            key = queue.read_next if reads else None
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


class Progress:
    """How far one queue is, for those who wait for it; looked at as `--watch` does."""

    def __init__(
        self,
        root: str,
        name: str,
        fs: FileSystem,
        clock: Clock,
        *,
        ours: Callable[[], int] | None = None,
    ) -> None:
        """`ours`: see `Watched`."""
        broker, fs = looker(root, fs)
        self._clock = clock
        self._queue = Watched(broker, name, clock, ours)
        self._watch = Watch([self._queue], calls_of(fs))
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
        self._next = now + max(every, (now - began) * REST)
        return brief(seen)


def looker(root: str, fs: FileSystem) -> tuple[Broker, FileSystem]:
    """Return a broker that only looks, and its file system, which counts the calls."""
    if not isinstance(fs.calls, CountedCalls):
        fs = FileSystem(CountedCalls())
    return Broker(root, clean=False, fs=fs), fs


def calls_of(fs: FileSystem) -> Mapping[str, int]:
    """Return how often each call was made."""
    assert isinstance(fs.calls, CountedCalls)
    return fs.calls.numbers
