"""The line of waiting messages: who joins it, and who stands first in it.

Its buckets are those of `ddmq.buckets`. What is kept of a listing is a hint for a fraction
of a second, and a rename that fails corrects it.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from ddmq.buckets import TIDY_FOR
from ddmq.clock import Stopwatch
from ddmq.errors import GarbageAhead
from ddmq.fs import IMMOVABLE
from ddmq.names import MAX_STAMP, Bundle, Entry, Place, parse_place, random_below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ddmq.buckets import Buckets, End
    from ddmq.clock import Clock
    from ddmq.fs import FileSystem

#: Seconds for which a listing is believed: so long may a message of higher priority wait
#: that another process published.
FRESH = 0.2
#: Messages that one process adds to a bucket before it counts again.
_COUNT_EVERY = 100
_MAX_SPREAD = 512
#: The longest pause after a bundle was lost to a rival, in milliseconds.
_LONGEST_WAIT_MS = 256
_TRIES = 64
#: How often a name is tried for in vain before it is passed over; how many are remembered.
_VAIN, _MAX_VAIN = 24, 1000


class Waiting(NamedTuple):
    """A message or bundle that waits, and the path at which a listing showed it."""

    entry: Place
    path: str


class Tidying:
    """The half second that one call may spend on what stands in line and is no message.

    The first half is for what stands first. Then each bucket in which more is met is passed over
    for a second, so that what stands behind comes; when the second half is over, the call ends.
    """

    _watch: Stopwatch | None = None

    def __init__(self, line: Line) -> None:
        self._line = line

    def met(self, path: str) -> None:
        """Note that something at `path` was no message, and is dealt with; maybe GarbageAhead."""
        self._watch = self._watch or Stopwatch(self._line.clock)
        seconds = self._watch.seconds()
        if seconds > TIDY_FOR / 2:
            self._line.buckets.leave_for_later(os.path.dirname(path))
            self._line.forget()
        if seconds > TIDY_FOR:
            self.goes_on()

    def goes_on(self) -> bool:
        """Tell whether more may wait where nothing else does: in buckets that were passed over.

        This call, or one a moment ago, did so, and from now on they are looked at again.
        GarbageAhead: its time is over; the next call goes on there, nearer to what stands behind.
        """
        later = self._line.buckets.what_was_left()
        if not later:
            return False
        self._line.forget()
        if self._watch is not None and self._watch.seconds() > TIDY_FOR:
            raise GarbageAhead(later[0])
        return True


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
        buckets: Buckets,
        fs: FileSystem,
        clock: Clock,
        retire: Callable[[str, Bundle], object],
    ) -> None:
        self.buckets = buckets
        self._fs = fs
        self.clock = clock
        self._retire = retire
        self._tails: dict[int, _Tail] = {}
        self._head: _Head | None = None
        self._spread = 1
        self._contended = False
        self._losses = 0
        self._shared = False
        self._left: Waiting | None = None
        self._stamp = 0
        self._vain: dict[str, int] = {}

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
                if not self.buckets.is_kept(tail.path, os.path.dirname(source)):
                    raise
                self._tails.pop(entry.priority, None)
                self.buckets.pass_over(tail.path)
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
        end = self.buckets.end(priority)
        stamp = self.next_stamp(end.stamp + 1, messages)
        self._name(source, bundles, stamp)
        if sync:
            self._fs.sync_directory(source)
        path = self._become_bucket(source, end, priority, stamp)
        if path is None:
            return False
        self._tails[priority] = _Tail(path, stamp, 0, 0.0)  # full: look again
        self._notice(priority)
        if sync:
            self.buckets.sync(path)
        return True

    def _name(self, directory: str, bundles: Sequence[Bundle], stamp: int) -> None:
        for bundle in bundles:
            draft, name = f"{directory}/{bundle.id}", bundle.at(stamp).filename
            if not self._fs.rename(draft, f"{directory}/{name}"):
                raise FileNotFoundError(errno.ENOENT, "cleaned away meanwhile", draft)
            stamp += bundle.waiting

    def _become_bucket(
        self, source: str, end: End, priority: int, stamp: int
    ) -> str | None:
        """Move a directory to the end; return its new path, or None when it is gone."""
        for _ in range(_TRIES):
            path = self.buckets.place_after(end, priority, stamp)
            try:
                return path if self._fs.rename(source, path) else None
            except FileNotFoundError:  # a consumer removed what it was to be in
                end = self.buckets.end(priority)
            except PermissionError:
                if not self.buckets.passes_over_shelf_of(path):
                    raise
                end = self.buckets.end(priority)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                stamp += 1  # somebody else has a bucket of this stamp
        raise FileNotFoundError(errno.ENOENT, "its buckets keep vanishing", source)

    def rejoin(self, source: str, entry: Entry) -> bool:
        """Move the file `source` back to its old place; False when `source` is gone."""
        for _ in range(_TRIES):
            path = self.buckets.place_of(entry.priority, entry.stamp)
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
        stamp = max(self.clock.time_ns(), least, self._stamp + 1)
        self._stamp = stamp + number - 1
        return min(stamp, MAX_STAMP - number)

    def _tail_of(self, priority: int, *, sync: bool) -> _Tail:
        tail = self._tails.get(priority)
        now = self.clock.monotonic()
        if tail is None or tail.room <= 0 or not 0 <= now - tail.seen < FRESH:
            tail = self._last(priority, self._newest(priority, tail, now), tail)
        tail.room -= 1
        if sync and not tail.synced:
            self.buckets.sync(tail.path)
            tail.synced = True
        return tail

    def _last(self, priority: int, found: _Tail, before: _Tail | None) -> _Tail:
        """Keep what we found, unless another thread found something meanwhile.

        That may be a later one, and what it publishes next must not go to ours, on a shelf
        before that.
        """
        others = self._tails.get(priority)
        if others is None or others is before:
            self._tails[priority] = others = found
        return others

    def _newest(self, priority: int, kept: _Tail | None, now: float) -> _Tail:
        end = self.buckets.end(priority)
        path, stamp = end.bucket, end.stamp
        if kept is not None and kept.path == path and kept.room > 0:
            kept.seen = now
            return kept
        room = self.buckets.room_in(path) if path else 0
        if room <= 0:
            stamp, room = self.next_stamp(stamp + 1), self.buckets.size
            path = self.buckets.open_after(end, priority, stamp)
        return _Tail(path, stamp, min(room, _COUNT_EVERY), now)

    # Standing first in line

    def waiting(self, tidying: Tidying | None = None) -> Iterator[Waiting]:
        """Yield the first message in line; being asked again means that a rival took it."""
        tidying = tidying or Tidying(self)
        while True:
            first = self._first(tidying)
            if first is None:
                return
            yield first
            self._lost(first.entry)
            self._note_vain(first.path)

    def _first(self, tidying: Tidying) -> Waiting | None:
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
                self.buckets.put_aside(path)
                self._note_vain(path)
                tidying.met(path)
            elif isinstance(entry, Bundle) and not entry.waiting:
                self._retire_spent(path, entry)
                self._note_vain(path)
                tidying.met(path)
            else:
                return Waiting(entry, path)

    def _note_vain(self, path: str) -> None:
        """Pass over what listings show time and again, though it is not there to be moved.

        A rival's name is gone from the next listing. One that stays is a file server's mistake.
        """
        if len(self._vain) > _MAX_VAIN:
            self._vain.clear()
        self._vain[path] = self._vain.get(path, 0) + 1
        if self._vain[path] >= _VAIN:
            del self._vain[path]
            self.buckets.pass_over(path)

    def _retire_spent(self, path: str, bundle: Bundle) -> None:
        """Take out of the line a bundle of which no line waits, or pass it over."""
        try:
            self._retire(path, bundle)
        except OSError as error:
            if error.errno not in IMMOVABLE:
                self.buckets.refuse(path, path)
                raise
            self.buckets.pass_over(path, "can't be moved to work/", error)

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
        if head is None or not bundle.path.startswith(f"{head.path}/"):
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
        self.clock.sleep(random_below(longest_ms * 1000) / 1e6)

    def _fresh_head(self) -> _Head | None:
        head = self._head
        if head is None or not 0 <= self.clock.monotonic() - head.seen < FRESH:
            self._head = head = self._look()
        elif not head.names and head.bundle is None:
            head.names = self._order(self.buckets.names_in(head.path))
            if not head.names:
                self._head = head = self._look()
        return head

    def _look(self) -> _Head | None:
        """Go to the front, whichever bundle we went on with."""
        now, self._left = self.clock.monotonic(), None
        found = self.buckets.first()
        if found is None:
            return None
        return _Head(found.priority, found.path, self._order(found.names), now)

    def _order(self, names: list[str]) -> list[str]:
        """Turn names round, without the few first ones that rivals are probably after."""
        names.reverse()
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

    def places(self) -> Iterator[Waiting]:
        """Yield what waits, bucket by bucket; files that are neither are left out."""
        for priority, bucket in self.buckets.all():
            yield from self.places_in(priority, bucket)

    def places_in(self, priority: int, bucket: str) -> Iterator[Waiting]:
        """Yield what waits in one bucket, in order, what is passed over too."""
        for name in sorted(self.buckets.listed(bucket)):
            entry = parse_place(priority, name)
            if entry is not None:
                yield Waiting(entry, f"{bucket}/{name}")

    def find_bundle(
        self, priority: int, stamp: int, id_: str
    ) -> tuple[str, Bundle] | None:
        """Find a bundle by its id, and first where the stamp of one of its lines belongs."""
        for path in self.buckets.nearest(priority, stamp):
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
