"""One process at a line of its own, for the tests of the line and of its buckets."""

from __future__ import annotations

import os
from pathlib import Path

from ddmq.buckets import Buckets
from ddmq.fs import FileSystem
from ddmq.line import Line
from ddmq.names import Entry

#: Seconds after which even the newest bucket may go.
OLD = 11
#: Seconds for which a listing may be believed.
FRESH = 0.2


class Client:
    """One process that joins and takes messages."""

    def __init__(self, queue, clock, *, bucket_size=3, calls=os):
        self.queue = queue
        self.aside = []
        self.fs = FileSystem(calls)
        self.buckets = Buckets(
            *(f"{queue}/ready", self.fs, clock), self._set_aside, bucket_size
        )
        self.line = Line(
            self.buckets, self.fs, clock, lambda path, _: self.aside.append(path)
        )

    def _set_aside(self, path):
        self.aside.append(Path(path).name)
        return False

    def join(self, id_, priority=5):
        source = self.queue / "tmp" / id_
        source.touch()
        return self.line.join(str(source), Entry(priority, 0, id_))

    def take(self):
        """Take the first message as a consumer does; None when there is none."""
        for waiting in self.line.waiting():
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
