"""The line of waiting messages: `ready/<priority>/<bucket>/<ready name>`.

A bucket holds about 500 files, each a message or a bundle of many, and is named by the stamp
of its first one, so nothing that is listed on the way to a message grows with the backlog. What is kept of a listing is
a hint for a fraction of a second, and a rename that fails corrects it.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from ddmq.log import warn
from ddmq.names import (
    MAX_STAMP,
    Bundle,
    Entry,
    Place,
    bucket_name,
    new_id,
    parse_bucket,
    parse_place,
    parse_priority,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ddmq.clock import Clock
    from ddmq.fs import FileSystem

#: Seconds for which a listing is believed: so long may a message of higher priority wait
#: that another process published.
FRESH = 0.2
#: Seconds for which is passed over what we may not read: a ticket may be renewed.
FORBIDDEN_FOR = 30.0
#: Messages that one process adds to a bucket before it counts again.
_COUNT_EVERY = 100
#: Age at which even the newest bucket of a priority is removed when it is empty.
_NEWEST_AGE_NS = 10 * 10**9
_MAX_SPREAD = 512
_TRIES = 64


class Waiting(NamedTuple):
    """A message or bundle that waits, and the path at which a listing showed it."""

    entry: Place
    path: str


class _Tail:
    """The bucket that a publisher adds to."""

    def __init__(self, path: str, stamp: int, room: int, seen: float) -> None:
        self.path = path
        self.stamp = stamp
        self.room = room
        self.seen = seen
        self.synced = False


class _Head:
    """What a listing showed of the bucket that a consumer takes from, the first one last."""

    def __init__(self, priority: int, path: str, names: list[str], seen: float) -> None:
        self.priority = priority
        self.path = path
        self.names = names
        self.seen = seen
        self.bundle: Waiting | None = None
        """The one that we take from, and go on with."""


class Line:
    """The waiting messages of one queue, in order. Safe to use from several threads."""

    def __init__(
        self,
        path: str,
        fs: FileSystem,
        clock: Clock,
        set_aside: Callable[[str], bool],
        retire: Callable[[Waiting], object],
        bucket_size: int,
    ) -> None:
        self.path = path
        self.mode: int | None = None
        """The mode of new directories, where the umask must not decide."""
        self._fs = fs
        self._clock = clock
        self._set_aside = set_aside
        self._retire = retire
        self._bucket_size = bucket_size
        self._tails: dict[int, _Tail] = {}
        self._head: _Head | None = None
        self._spread = 1
        self._contended = False
        self._stamp = 0
        self._stuck: dict[str, float] = {}

    # Joining the line

    def join(self, source: str, entry: Place, *, sync: bool = False) -> Place | None:
        """Move the file `source` to the end of the line; None when `source` is gone.

        The entry gets a new stamp, later than every one before. Where `sync` is set, its
        name is on stable storage when this returns.
        """
        for _ in range(_TRIES):
            tail = self._tail_of(entry.priority, sync=sync)
            joined = entry.at(self.next_stamp(tail.stamp, entry.waiting))
            try:
                moved = self._fs.rename(source, f"{tail.path}/{joined.filename}")
            except FileNotFoundError:  # a consumer removed the empty bucket
                self._tails.pop(entry.priority, None)
                continue
            if not moved:
                return None
            self._notice(entry.priority)
            if sync:
                self._fs.sync_directory(tail.path)
            return joined
        raise FileNotFoundError(errno.ENOENT, "its buckets keep vanishing", tail.path)

    def join_together(
        self, source: str, bundles: Sequence[Bundle], *, sync: bool
    ) -> bool:
        """Move the directory `source` to the end of the line, as a bucket; False: it is gone.

        It holds bundles of one priority by their ids, which all wait from then on: one
        rename makes them visible.
        """
        priority = bundles[0].priority
        messages = sum(bundle.waiting for bundle in bundles)
        newest = max(self._buckets(priority), default=0)
        stamp = self.next_stamp(newest + 1, messages)
        self._name(source, bundles, stamp)
        if sync:
            self._fs.sync_directory(source)
        if not self._become_bucket(source, priority, stamp):
            return False
        self._tails.pop(priority, None)
        self._notice(priority)
        if sync:
            self._fs.sync_directory(f"{self.path}/{priority}")
            self._fs.sync_directory(self.path)
        return True

    def _name(self, directory: str, bundles: Sequence[Bundle], stamp: int) -> None:
        for bundle in bundles:
            draft, name = f"{directory}/{bundle.id}", bundle.at(stamp).filename
            if not self._fs.rename(draft, f"{directory}/{name}"):
                raise FileNotFoundError(errno.ENOENT, "cleaned away meanwhile", draft)
            stamp += bundle.waiting

    def _become_bucket(self, source: str, priority: int, stamp: int) -> bool:
        for name in range(stamp, stamp + _TRIES):
            self._make_priority(priority)
            try:
                return self._fs.rename(source, self._bucket(priority, name))
            except FileNotFoundError:  # a consumer removed the empty priority
                continue
            except OSError as error:  # somebody else has a bucket of this stamp
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
        raise FileNotFoundError(errno.ENOENT, "its buckets keep vanishing", source)

    def rejoin(self, source: str, entry: Entry) -> bool:
        """Move the file `source` back to its old place; False when `source` is gone."""
        for _ in range(_TRIES):
            path = self._place_of(entry)
            try:
                moved = self._fs.rename(source, f"{path}/{entry.filename}")
            except FileNotFoundError:
                continue
            self._head = None
            return moved
        raise FileNotFoundError(errno.ENOENT, "its buckets keep vanishing", path)

    def _notice(self, priority: int) -> None:
        """Look again when we ourselves put something before what we take from."""
        head = self._head
        if head is not None and priority < head.priority:
            self._head = None

    def next_stamp(self, least: int = 0, number: int = 1) -> int:
        """Return the first of `number` stamps that nobody here has had."""
        # Two threads may read the same last stamp; the id then decides between them.
        stamp = max(self._clock.time_ns(), least, self._stamp + 1)
        self._stamp = stamp + number - 1
        return min(stamp, MAX_STAMP - number + 1)

    def _tail_of(self, priority: int, *, sync: bool) -> _Tail:
        tail = self._tails.get(priority)
        now = self._clock.monotonic()
        if tail is None or tail.room <= 0 or not 0 <= now - tail.seen < FRESH:
            tail = self._tails[priority] = self._newest(priority, tail, now)
        tail.room -= 1
        if sync and not tail.synced:
            self._fs.sync_directory(os.path.dirname(tail.path))
            self._fs.sync_directory(self.path)
            tail.synced = True
        return tail

    def _newest(self, priority: int, kept: _Tail | None, now: float) -> _Tail:
        newest = max(self._buckets(priority), default=0)
        if kept is not None and kept.stamp == newest and kept.room > 0:
            kept.seen = now
            return kept
        room = self._room(priority, newest) if newest else 0
        if room <= 0:
            newest, room = self.next_stamp(newest + 1), self._bucket_size
            self._make(priority, newest)
        return _Tail(
            self._bucket(priority, newest), newest, min(room, _COUNT_EVERY), now
        )

    def _room(self, priority: int, bucket: int) -> int:
        return self._bucket_size - len(self._names(self._bucket(priority, bucket)))

    def _place_of(self, entry: Entry) -> str:
        older = [b for b in self._buckets(entry.priority) if b <= entry.stamp]
        if not older:
            self._make(entry.priority, entry.stamp)
        return self._bucket(entry.priority, max(older, default=entry.stamp))

    def _make_priority(self, priority: int) -> None:
        path = f"{self.path}/{priority}"
        if not self._mkdir(path):
            self._fs.exists(path)  # an NFS client may remember that it was missing

    def _make(self, priority: int, bucket: int) -> None:
        self._make_priority(priority)
        with suppress(FileNotFoundError):  # then the rename into it will fail, too
            self._mkdir(self._bucket(priority, bucket))

    def _mkdir(self, path: str) -> bool:
        if self.mode is None:
            return self._fs.mkdir(path)
        draft = f"{os.path.dirname(self.path)}/tmp/{new_id()}"
        return self._fs.mkdir_with_mode(path, self.mode, draft)

    def _bucket(self, priority: int, stamp: int) -> str:
        return f"{self.path}/{priority}/{bucket_name(stamp)}"

    # Standing first in line

    def waiting(self) -> Iterator[Waiting]:
        """Yield the first message in line; being asked again means that a rival took it."""
        while True:
            first = self._first()
            if first is None:
                return
            yield first
            self._lost()

    def _first(self) -> Waiting | None:
        while True:
            head = self._fresh_head()
            if head is None:
                return None
            if head.bundle is not None:
                bundle, head.bundle = head.bundle, None
                return bundle
            try:
                name = head.names.pop()
            except IndexError:  # another thread took the last one
                continue
            path, entry = f"{head.path}/{name}", parse_place(head.priority, name)
            if entry is None:
                self._put_aside(path)
            elif entry.waiting:
                return Waiting(entry, path)
            else:
                self._retire(Waiting(entry, path))

    def forget(self) -> None:
        """List again before the next message: we changed the line ourselves."""
        self._head = None

    def stands_first(self, bundle: Waiting) -> None:
        """Note that a bundle still has messages that wait, under a name that we gave it."""
        if self._head is not None:
            self._head.bundle = bundle

    def _lost(self) -> None:
        """List again, and look further from the front, where fewer rivals are."""
        self._spread = min(self._spread * 2, _MAX_SPREAD)
        self._contended = True
        self._head = None

    def _fresh_head(self) -> _Head | None:
        head = self._head
        if head is None or not 0 <= self._clock.monotonic() - head.seen < FRESH:
            self._head = head = self._look()
        elif not head.names and head.bundle is None:
            head.names = self._order(self._names(head.path))
            if not head.names:
                self._head = head = self._look()
        return head

    def _look(self) -> _Head | None:
        now = self._clock.monotonic()
        for priority in self.priorities():
            buckets = sorted(self._buckets(priority))
            for bucket in buckets:
                path = self._bucket(priority, bucket)
                names = self._names(path)
                if not names and not self._remove_empty(path, bucket, buckets[-1]):
                    names = self._names(path)  # somebody added one just now
                if names:
                    return _Head(priority, path, self._order(names), now)
            if not buckets:
                self._fs.rmdir(f"{self.path}/{priority}")
        return None

    def _remove_empty(self, path: str, bucket: int, newest: int) -> bool:
        """Remove an empty bucket; False when it is not empty any more.

        The newest stays while somebody may be about to add to it.
        """
        if bucket == newest and self._clock.time_ns() - bucket <= _NEWEST_AGE_NS:
            return True
        return self._fs.rmdir(path)

    def _order(self, names: list[str]) -> list[str]:
        """Sort the first one last, without the few that rivals are probably after."""
        names.sort(reverse=True)
        skipped = _random_below(min(self._spread, len(names)))
        if not self._contended:
            self._spread = max(self._spread // 2, 1)
        self._contended = False
        return names[: len(names) - skipped] if skipped else names

    # All of it

    def priorities(self) -> list[int]:
        """Return the priorities that have a directory, the first one first."""
        return sorted(self._parsed(self.path, parse_priority, must_exist=True))

    def _buckets(self, priority: int) -> list[int]:
        return self._parsed(f"{self.path}/{priority}", parse_bucket, must_exist=False)

    def _parsed(
        self, path: str, parse: Callable[[str], int | None], *, must_exist: bool
    ) -> list[int]:
        found = []
        for name in self._fs.listing(path) if must_exist else self._names(path):
            number = parse(name)
            if number is not None:
                found.append(number)
            else:
                self._put_aside(f"{path}/{name}")
        return found

    def _names(self, path: str) -> list[str]:
        try:
            names = self._fs.listing(path)
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            self._put_aside(path)
            return []
        except PermissionError as error:
            self.pass_over(path, FORBIDDEN_FOR)
            warn(f"{path} is passed over: {error.strerror}")
            return []
        if self._stuck:
            return [name for name in names if not self._is_stuck(path, name)]
        return names

    def _is_stuck(self, path: str, name: str) -> bool:
        now = self._clock.monotonic()
        return any(self._stuck.get(key, 0) > now for key in (name, f"{path}/{name}"))

    def _put_aside(self, path: str) -> None:
        if path not in self._stuck and not self._set_aside(path):
            self.pass_over(path)

    def pass_over(self, name: str, seconds: float = inf) -> None:
        """Leave out what can't be moved, by name or path, whenever a listing shows it."""
        self._stuck[name] = self._clock.monotonic() + seconds

    def buckets(self) -> Iterator[tuple[int, str]]:
        """Yield priority and path of every bucket, in order."""
        for priority in self.priorities():
            for bucket in sorted(self._buckets(priority)):
                yield priority, self._bucket(priority, bucket)

    def places(self) -> Iterator[Waiting]:
        """Yield what waits, bucket by bucket; files that are neither are left out."""
        for priority, bucket in self.buckets():
            yield from self.places_in(priority, bucket)

    def places_in(self, priority: int, bucket: str) -> Iterator[Waiting]:
        """Yield what waits in one bucket, in order."""
        for name in self.names_in(bucket):
            entry = parse_place(priority, name)
            if entry is not None:
                yield Waiting(entry, f"{bucket}/{name}")

    def find_bundle(self, priority: int, stamp: int, id_: str) -> Waiting | None:
        """Find a bundle by its id, and by the stamp of one of its lines."""
        older = [b for b in self._buckets(priority) if b <= stamp]
        for bucket in sorted(older, reverse=True):
            path = self._bucket(priority, bucket)
            for name in self._names(path):
                if f".{id_}." in name:
                    bundle = Bundle.parse(priority, name)
                    return bundle and Waiting(bundle, f"{path}/{name}")
        return None

    def names_in(self, bucket: str) -> list[str]:
        """Return the names in one bucket, in order; none when it is gone."""
        return sorted(self._names(bucket))

    def remove_empty(self) -> None:
        """Remove buckets and priorities that are empty; `rmdir` decides."""
        for priority in self.priorities():
            buckets = sorted(self._buckets(priority))
            for bucket in buckets:
                self._remove_empty(self._bucket(priority, bucket), bucket, buckets[-1])
            self._fs.rmdir(f"{self.path}/{priority}")


def _random_below(limit: int) -> int:
    """Return a number from 0 to `limit` - 1, without the import of `random`."""
    return int.from_bytes(os.urandom(4), "big") % limit if limit > 1 else 0
