"""The line of waiting messages: `ready/<priority>/<bucket>/<ready name>`.

A bucket holds about 500 files, each a message or a bundle of many, and is named by the stamp
of its first one, so nothing that is listed on the way to a message grows with the backlog.
What is kept of a listing is a hint for a fraction of a second, and a rename that fails
corrects it.
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
    are_buckets,
    bucket_name,
    new_id,
    parse_place,
    parse_priority,
    random_below,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ddmq.clock import Clock
    from ddmq.fs import FileSystem

#: Seconds for which a listing is believed: so long may a message of higher priority wait
#: that another process published.
FRESH = 0.2
#: Seconds for which this client passes over what it could not read, or may not: a ticket
#: may be renewed.
TROUBLED_FOR = 30.0
#: Messages that one process adds to a bucket before it counts again.
_COUNT_EVERY = 100
#: Age at which even the newest bucket of a priority is removed when it is empty.
_NEWEST_AGE_NS = 10 * 10**9
_MAX_SPREAD = 512
#: The longest pause after a bundle was lost to a rival, in milliseconds.
_LONGEST_WAIT_MS = 256
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
        retire: Callable[[str, Bundle], object],
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
        self._losses = 0
        self._shared = False
        self._left: Waiting | None = None
        self._stamp = 0
        self._stuck: dict[str, float] = {}
        self._refused: set[str] = set()

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
            except PermissionError:
                if not self._is_kept(tail.path, source):
                    raise
                self._tails.pop(entry.priority, None)
                self.pass_over(tail.path)
                continue
            if not moved:
                return None
            self._notice(entry.priority)
            if sync:
                self._fs.sync_directory(tail.path)
            return joined
        raise FileNotFoundError(errno.ENOENT, "its buckets keep vanishing", tail.path)

    def _is_kept(self, bucket: str, source: str) -> bool:
        """Tell whether somebody keeps a bucket to himself, in a queue that we may change."""
        ours = self._fs.may_change(os.path.dirname(source))
        return ours and not self._fs.may_change(bucket)

    def join_together(
        self, source: str, bundles: Sequence[Bundle], *, sync: bool
    ) -> bool:
        """Move the directory `source` to the end of the line, as a bucket; False: it is gone.

        It holds bundles of one priority by their ids, which all wait from then on: one
        rename makes them visible.
        """
        priority = bundles[0].priority
        messages = sum(bundle.waiting for bundle in bundles)
        stamp = self.next_stamp(self._newest_stamp(priority) + 1, messages)
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
        for _ in range(_TRIES):
            self._make_priority(priority)
            try:
                return self._fs.rename(
                    source, self._bucket(priority, bucket_name(stamp))
                )
            except FileNotFoundError:  # a consumer removed the empty priority
                continue
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                stamp += 1  # somebody else has a bucket of this stamp
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
        return min(stamp, MAX_STAMP - number)

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
        newest = self._newest_stamp(priority)
        if kept is not None and kept.stamp == newest and kept.room > 0:
            kept.seen = now
            return kept
        room = self._room(priority, newest) if newest else 0
        if room <= 0:
            newest, room = self.next_stamp(newest + 1), self._bucket_size
            self._make(priority, newest)
        path = self._bucket(priority, bucket_name(newest))
        return _Tail(path, newest, min(room, _COUNT_EVERY), now)

    def _room(self, priority: int, bucket: int) -> int:
        path = self._bucket(priority, bucket_name(bucket))
        number = len(self._names(path))
        if not number and not self._fs.is_directory(path):
            return 0  # it was a file, set aside just now
        return self._bucket_size - number

    def _place_of(self, entry: Entry) -> str:
        own = bucket_name(entry.stamp)
        older = [name for name in self._buckets(entry.priority) if name <= own]
        if not older:
            self._make(entry.priority, entry.stamp)
        return self._bucket(entry.priority, older[-1] if older else own)

    def _make_priority(self, priority: int) -> None:
        path = f"{self.path}/{priority}"
        if not self._mkdir(path):
            self._fs.exists(path)  # an NFS client may remember that it was missing

    def _make(self, priority: int, bucket: int) -> None:
        self._make_priority(priority)
        with suppress(FileNotFoundError):  # then the rename into it will fail, too
            self._mkdir(self._bucket(priority, bucket_name(bucket)))

    def _mkdir(self, path: str) -> bool:
        if self.mode is None:
            return self._fs.mkdir(path)
        draft = f"{os.path.dirname(self.path)}/tmp/{new_id()}"
        return self._fs.mkdir_with_mode(path, self.mode, draft)

    def _bucket(self, priority: int, name: str) -> str:
        return f"{self.path}/{priority}/{name}"

    # Standing first in line

    def waiting(self) -> Iterator[Waiting]:
        """Yield the first message in line; being asked again means that a rival took it."""
        while True:
            first = self._first()
            if first is None:
                return
            yield first
            self._lost(first.entry)

    def _first(self) -> Waiting | None:
        while True:
            head = self._fresh_head()
            if head is None:
                return None
            bundle, head.bundle = head.bundle, None
            if bundle is not None:
                return bundle
            try:
                name = head.names.pop()
            except IndexError:  # another thread took the last one
                continue
            path, entry = f"{head.path}/{name}", parse_place(head.priority, name)
            if entry is None:
                self._put_aside(path)
            elif isinstance(entry, Bundle) and not entry.waiting:
                self._retire(path, entry)
            else:
                return Waiting(entry, path)

    def forget(self) -> None:
        """List again before the next message: we changed the line ourselves."""
        self._head = None

    def stands_first(self, bundle: Waiting) -> None:
        """Note that a bundle still has messages that wait, under a name that we gave it.

        We go on with it. Where it is shared it has another name soon, and a look at its
        bucket costs less than a claim in vain.
        """
        self._losses = 0
        head = self._head
        if head is None or not bundle.path.startswith(head.path):
            return
        if self._shared:
            head.names, self._left = [], bundle
        else:
            head.bundle = bundle

    def _lost(self, entry: Place) -> None:
        """List again, and look further from the front, where fewer rivals are."""
        self._spread = min(self._spread * 2, _MAX_SPREAD)
        self._contended = True
        head = self._head
        if head is not None and isinstance(entry, Bundle):
            head.names, head.bundle = [], None  # it is here still, under another name
            self._shared, self._left = True, None
            self._give_way()
        else:
            self._head = None

    def _give_way(self) -> None:
        """Wait a moment before we try for a bundle again: its rivals share one name."""
        self._losses += 1
        longest_ms = min(1 << self._losses, _LONGEST_WAIT_MS)
        self._clock.sleep(random_below(longest_ms * 1000) / 1e6)

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
            buckets = self._buckets(priority)
            for bucket in buckets:
                path = self._bucket(priority, bucket)
                names = self._names(path)
                if not names and not self._remove_empty(path, buckets[-1]):
                    names = self._names(path)  # somebody added one just now
                if names:
                    return _Head(priority, path, self._order(names), now)
            if not buckets:
                self._fs.rmdir(f"{self.path}/{priority}")
        return None

    def _remove_empty(self, path: str, newest: str) -> bool:
        """Remove an empty bucket; False when it is not empty any more.

        The newest stays while somebody may be about to add to it.
        """
        age_ns = self._clock.time_ns() - int(newest)
        if path.endswith(newest) and age_ns <= _NEWEST_AGE_NS:
            return True
        return self._fs.rmdir(path)

    def _order(self, names: list[str]) -> list[str]:
        """Sort the first one last, without the few that rivals are probably after."""
        names.sort(reverse=True)
        skipped = self._before_left(names)
        if skipped is None:
            skipped = random_below(min(self._spread, len(names)))
        if not self._contended:
            self._spread = max(self._spread // 2, 1)
        self._contended = False
        return names[: len(names) - skipped] if skipped else names

    def _before_left(self, names: list[str]) -> int | None:
        """Tell how many stand before the bundle that we left; whether rivals touched it."""
        left, self._left = self._left, None
        if left is not None:
            for number, name in enumerate(reversed(names)):
                if left.entry.id in name:
                    self._shared = not left.path.endswith(name)
                    return number
        return None

    # All of it

    def priorities(self) -> list[int]:
        """Return the priorities that have a directory, the first one first."""
        found = []
        for name in self._fs.listing(self.path):
            priority = parse_priority(name)
            if priority is not None:
                found.append(priority)
            else:
                self._put_aside(f"{self.path}/{name}")
        return sorted(found)

    def _buckets(self, priority: int) -> list[str]:
        """Return the names of the buckets of a priority, in order."""
        path = f"{self.path}/{priority}"
        names = self._names(path)
        if not are_buckets(names):
            names = [name for name in names if self._is_bucket(path, name)]
        names.sort()
        return names

    def _is_bucket(self, path: str, name: str) -> bool:
        if are_buckets([name]):
            return True
        self._put_aside(f"{path}/{name}")
        return False

    def _newest_stamp(self, priority: int) -> int:
        buckets = self._buckets(priority)
        return int(buckets[-1]) if buckets else 0

    def _names(self, path: str) -> list[str]:
        names = self._listed(path)
        if self._stuck:
            return [name for name in names if not self._is_stuck(path, name)]
        return names

    def _listed(self, path: str) -> list[str]:
        try:
            return self._fs.listing(path)
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            self._put_aside(path)
            return []
        except PermissionError as error:
            self.pass_over(path, TROUBLED_FOR)
            warn(f"{path} is passed over: {error.strerror}")
            return []

    def _is_stuck(self, path: str, name: str) -> bool:
        now = self._clock.monotonic()
        return any(self._stuck.get(key, 0) > now for key in (name, f"{path}/{name}"))

    def _put_aside(self, path: str) -> None:
        if path not in self._stuck and not self._set_aside(path):
            self.pass_over(path)

    def pass_over(self, name: str, seconds: float = inf) -> None:
        """Leave out what can't be moved, by name or path, whenever a listing shows it."""
        self._stuck[name] = self._clock.monotonic() + seconds

    def refuse(self, name: str, known_as: str) -> None:
        """Let nothing that can't be read, time and again, stand before all others.

        The second time that it is refused, its name or path is passed over for a while.
        """
        if known_as in self._refused:
            self.pass_over(name, TROUBLED_FOR)
        self._refused.add(known_as)

    def buckets(self) -> Iterator[tuple[int, str]]:
        """Yield priority and path of every bucket, in order."""
        for priority in self.priorities():
            for bucket in self._buckets(priority):
                yield priority, self._bucket(priority, bucket)

    def places(self) -> Iterator[Waiting]:
        """Yield what waits, bucket by bucket; files that are neither are left out."""
        for priority, bucket in self.buckets():
            yield from self.places_in(priority, bucket)

    def places_in(self, priority: int, bucket: str) -> Iterator[Waiting]:
        """Yield what waits in one bucket, in order, what is passed over too."""
        for name in sorted(self._listed(bucket)):
            entry = parse_place(priority, name)
            if entry is not None:
                yield Waiting(entry, f"{bucket}/{name}")

    def find_bundle(
        self, priority: int, stamp: int, id_: str
    ) -> tuple[str, Bundle] | None:
        """Find a bundle by its id, and first where the stamp of one of its lines belongs."""
        for bucket in _nearest_first(self._buckets(priority), bucket_name(stamp)):
            path = self._bucket(priority, bucket)
            for name in self._all_names(path):
                bundle = Bundle.parse(priority, name) if f".{id_}." in name else None
                if bundle is not None and bundle.id == id_:
                    return f"{path}/{name}", bundle
        return None

    def _all_names(self, path: str) -> list[str]:
        """List a bucket with what is passed over; raise where we may not look."""
        try:
            return self._fs.listing(path)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def names_in(self, bucket: str) -> list[str]:
        """Return the names in one bucket, in order; none when it is gone."""
        return sorted(self._names(bucket))

    def remove_empty(self) -> None:
        """Remove buckets and priorities that are empty; `rmdir` decides."""
        for priority in self.priorities():
            buckets = self._buckets(priority)
            for bucket in buckets:
                self._remove_empty(self._bucket(priority, bucket), buckets[-1])
            self._fs.rmdir(f"{self.path}/{priority}")


def _nearest_first(buckets: list[str], wanted: str) -> list[str]:
    """Sort buckets: the one in which a stamp belongs, those before it, and the others."""
    older = [name for name in buckets if name <= wanted]
    return older[::-1] + buckets[len(older) :]
