"""Looks at queues again and again, by a few calls each time."""

from __future__ import annotations

import os
from math import inf
from typing import TYPE_CHECKING, Any

from ddmq import Broker
from ddmq.cli.errors import one_line
from ddmq.cli.panel import Pace, QueueSeen, brief
from ddmq.errors import DdmqError
from ddmq.storage.filesystem import CountedCalls, FileSystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ddmq import Failure, Running, WorkerSeen
    from ddmq.clock import Clock
    from ddmq.storage.workers import Workers

    #: A worker that has a file: the server's time, its state now, and when it was read.
    _Teller = tuple[float, WorkerSeen, WorkerSeen]

#: Seconds from one refresh to the next on a terminal.
EVERY = 2.0
#: Seconds between two lines of progress, where they do not go to a terminal.
EVERY_LINE = 60.0
#: File system calls for a refresh, on the average; and those that the first looks may make besides.
CALLS, FIRST_CALLS = 8, 100
#: The pause after a refresh is at least so many times as long as the refresh took.
REST = 20
#: Seconds over which the rate now is measured.
_LATELY = 75.0
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
        self._shown: Workers | None = None
        self._seen = QueueSeen(str(broker.root), name)
        self._seen_at = -inf
        self._trouble = ""
        #: How many were done when, of late.
        self._lately: list[tuple[float, int]] = []
        #: For each worker: when its file was read, and what it told.
        self._told: dict[Any, tuple[float, WorkerSeen]] = {}

    def observe(self, *, everything: bool = False) -> None:
        """List the workers, read the file of one (or `everything`), and count the messages.

        Workers come first. So none of them can tell of a message as done that is counted after.
        """
        workers = self._workers(everything=everything)
        overview = self._broker.overview(self.name)[self.name]
        now, before, counts = self._clock.monotonic(), self._seen, overview.counts
        # Workers say late what they have done. But a message that was there, and is no more, is done.
        missing = before.published - sum(counts)
        done = max(before.done, sum(x.acked + x.moved for x in workers), missing)
        recent = [x for x in self._lately if now - x[0] <= _LATELY]
        self._lately = [*(recent or self._lately[-1:]), (now, done)]
        told = [*self._tellers(workers)]
        ends = [max(x.ends - time, 0.0) for time, _, x in told if x.ends is not None]
        self._seen_at = now
        self._seen = QueueSeen(
            root=before.root,
            name=self.name,
            counts=counts,
            unrenewed=overview.unrenewed.number,
            done=done,
            paused=str(overview.paused or ""),
            workers=workers,
            running=_slowest(told),
            failures=_latest(told),
            ends_in=(min(ends), max(ends)) if ends else None,
            lately=Pace(done - self._lately[0][1], now - self._lately[0][0]),
            overall=_overall(workers),
        )

    def attempt(self, *, everything: bool = False) -> None:
        """Observe it; what goes wrong is shown until it goes well again."""
        try:
            self.observe(everything=everything)
            self._trouble = ""
        except DdmqError as error:
            self._trouble = one_line(error)

    def seen(self) -> QueueSeen:
        """Return what was observed last."""
        age = self._clock.monotonic() - self._seen_at
        return self._seen._replace(age=age, trouble=self._trouble)

    def _workers(self, *, everything: bool) -> list[WorkerSeen]:
        """List the workers; of the one whose file was read longest ago, read it again."""
        tell = [_key(each) for each in self._seen.workers if each.tells]
        key = min(tell, key=lambda key: self._told.get(key, (-inf,))[0], default=None)

        def wanted(worker: WorkerSeen) -> bool:
            return everything or _key(worker) == key

        if self._shown is None:
            self._shown = self._broker.with_workers(self.name, lambda each: each)
        try:  # without the checks that the broker makes, which cost more than the listing
            workers = self._shown.all(running=True, wanted=wanted)
        except OSError as error:
            raise DdmqError(f"workers can't be listed: {error.strerror}") from error
        now = self._clock.monotonic()
        tellers = {_key(each): each for each in workers if each.tells}
        self._told = {key: found for key, found in self._told.items() if key in tellers}
        self._told.update((k, (now, x)) for k, x in tellers.items() if wanted(x))
        if self._ours is None:
            return workers
        us, acked = (os.uname().nodename, os.getpid()), self._ours()
        return [  # sooner than it shows that
            x._replace(acked=acked, seen=x.seen + x.age, age=0.0)
            if (x.host, x.process) == us
            else x
            for x in workers
        ]

    def _tellers(self, workers: list[WorkerSeen]) -> Iterator[_Teller]:
        """Yield for each worker with a file: the server's time, its state now, and when read."""
        for worker in workers:
            if (found := self._told.get(_key(worker))) is not None:
                yield worker.seen + worker.age, worker, found[1]


def _slowest(tellers: Sequence[_Teller]) -> list[tuple[float, WorkerSeen, Running]]:
    found = [
        (max(now - run.started, 0.0), worker, run)
        for now, worker, told in tellers
        if worker.busy
        for run in told.running
    ]
    return sorted(found, key=lambda each: -each[0])[:_SLOWEST]


def _latest(tellers: Sequence[_Teller]) -> list[tuple[float, WorkerSeen, Failure]]:
    found = [
        (max(now - failure.ended, 0.0), worker, failure)
        for now, worker, told in tellers
        for failure in told.failures
    ]
    recent = [each for each in found if each[0] <= _RECENT]
    return sorted(recent, key=lambda each: each[0])[:_LATEST]


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
    """Observes queues, by a few calls a refresh: a look that costs more comes more rarely."""

    def __init__(self, queues: Sequence[Watched], calls: Mapping[str, int]) -> None:
        self._queues = queues
        self._calls = calls
        #: The queues; the one that was observed longest ago comes first.
        self._next = list(queues)
        #: How many calls may be made by now; below zero, so many were made too many.
        self._left = 0

    def begin(self, *, raises: bool) -> list[QueueSeen]:
        """Observe everything for the first time, whatever it costs."""
        before = self._made()
        for queue in self._queues:
            act = queue.observe if raises else queue.attempt
            act(everything=True)
        self._left = max(FIRST_CALLS - (self._made() - before), 0)
        return [queue.seen() for queue in self._queues]

    def refresh(self) -> list[QueueSeen]:
        """Observe the next queue, if the calls that may be made by now allow any.

        Each look is finished. If it takes more calls than that, the next looks wait longer.
        """
        self._left += CALLS
        if self._left > 0:
            queue, before = self._next.pop(0), self._made()
            self._next.append(queue)
            queue.attempt()
            self._left -= self._made() - before
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
