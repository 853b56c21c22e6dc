"""One client of a ready queue of its own, for the tests of that and of its buckets."""

from __future__ import annotations

import os
from pathlib import Path

from ddmq.storage.buckets import Buckets, PassedOver
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.layout import Layout
from ddmq.storage.names import Entry
from ddmq.storage.ready import ConsumeCall, ReadyQueue
from ddmq.storage.scan import Scan

#: Seconds after which even the newest bucket may go.
OLD = 11
#: Seconds for which a listing may be believed.
FRESH = 0.2


class Client:
    """One process that joins and takes messages."""

    def __init__(self, queue, clock, *, bucket_size=3, calls=os):
        self.queue = queue
        self.aside = []
        self.drained = set()
        self.fs = FileSystem(calls)
        self.layout = Layout(str(queue), self.fs, clock)
        self.scan = Scan(self.layout.ready, self.fs, PassedOver(clock))
        self.buckets = Buckets(
            self.layout,
            self.fs,
            clock,
            self.quarantine,
            passed=PassedOver(clock),
            size=bucket_size,
        )
        self.ready = ReadyQueue(self.buckets, lambda: self, self.fs, clock)

    def quarantine(self, path, reason=""):
        self.aside.append(Path(path).name)
        return False

    def is_drained(self, bundle):
        return bundle.id in self.drained

    def drain(self, path, id_):
        self.fs.unlink(path)

    def join(self, id_, priority=5):
        source = self.queue / "tmp" / id_
        source.touch()
        assert self.ready.append(str(source), Entry(priority, 0, id_))
        stamps = [w.entry.stamp for w in self.scan.places() if w.entry.id == id_]
        return Entry(priority, max(stamps, default=0), id_)

    def waiting(self):
        """Yield what comes first; being asked again means that a competitor took it."""
        while waiting := self.ready.first(ConsumeCall()):
            yield waiting
            self.ready.lost(waiting)

    def take(self):
        """Take the first message as a consumer does; None when there is none."""
        for waiting in self.waiting():
            if self.fs.unlink(waiting.path):
                return waiting.entry.id
        return None

    def take_all(self):
        return list(iter(self.take, None))


def buckets(queue, priority=5):
    places = sorted((queue / "ready" / str(priority)).iterdir())
    on_shelves = [
        sorted(place.iterdir()) if place.suffix else [place] for place in places
    ]
    return [bucket for some in on_shelves for bucket in some]


def sizes(queue):
    return [len(list(bucket.iterdir())) for bucket in buckets(queue)]


def number(count):
    return [f"{n:03d}" for n in range(count)]
