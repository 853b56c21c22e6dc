"""The ready queue: the waiting messages in order, appended at its end and taken from its front.

Its directories are in `ddmq.storage.buckets`. What a client keeps of a listing is a hint for a
fraction of a second, and a rename that fails corrects it.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from ddmq.clock import Stopwatch
from ddmq.errors import GarbageAhead
from ddmq.storage.buckets import TIDY_FOR
from ddmq.storage.filesystem import IMMOVABLE
from ddmq.storage.names import (
    MAX_STAMP,
    Bundle,
    Waiting,
    make,
    parse_ready_entry,
    random_below,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ddmq.clock import Clock
    from ddmq.storage.buckets import Buckets, End
    from ddmq.storage.bundles import Bundles
    from ddmq.storage.filesystem import FileSystem
    from ddmq.storage.names import ReadyEntry

#: Seconds for which a listing is believed. A message of higher priority, published by another
#: process, may be noticed that much later.
FRESH = 0.2
#: How many messages one process adds to a bucket before it counts its files again.
_COUNT_EVERY = 100
_MAX_SPREAD = 512
#: The longest pause after a bundle was lost to a competitor, in milliseconds.
_LONGEST_WAIT_MS = 256
_TRIES = 64


class ConsumeCall:
    """One call to consume: whether it heeds a pause, and how long garbage has held it up.

    It may spend half a second on garbage, which is what is no message. During the first half of
    that time, the call works from the front. During the second half, it passes over each bucket in
    which it meets more, for a second, and so reaches the messages behind. Then the call ends.
    """

    heeds_pause = False
    """Whether nothing is taken from a queue that is paused, as the last listing showed."""
    started: int | None = None
    """How many of the next messages are started as soon as they are taken; None: all."""
    watch: Stopwatch | None = None
    """Runs since the call met the first of what is no message."""


class _Tail:
    """The bucket that a publisher adds to."""

    def __init__(self, path: str, stamp: int, room: int, seen: float) -> None:
        self.path = path
        self.stamp = stamp
        self.room = room
        self.seen = seen
        self.synced = False


class _Head:
    """The names that a listing showed in a consumer's bucket, in reverse order."""

    def __init__(self, priority: int, path: str, names: list[str], seen: float) -> None:
        self.priority = priority
        self.path = path
        self.names = names
        self.seen = seen


class ReadyQueue:
    """The waiting messages of one queue, in order. Safe to use from several threads."""

    def __init__(
        self,
        buckets: Buckets,
        find_bundles: Callable[[], Bundles],
        fs: FileSystem,
        clock: Clock,
    ) -> None:
        self._buckets = buckets
        self._find_bundles = find_bundles
        self._passed = buckets.passed
        self._fs = fs
        self._clock = clock
        self._tails: dict[int, _Tail] = {}
        self._head: _Head | None = None
        self.front: Waiting | None = None
        """The bundle from which lines were claimed just now, and in which more wait.

        It comes first for as long as the listing is believed that showed it.
        """
        self._spread = 1
        self._contended = False
        self._races_lost = 0
        self._stamp = 0

    # Appending

    def append(self, source: str, entry: ReadyEntry, *, sync: bool = False) -> bool:
        """Move the file `source` to the end of the ready queue; False when `source` is gone.

        The message gets a new stamp, later than all before it. If `sync` is set, its name is
        on stable storage when this returns.
        """
        priority, tail = entry.priority, None
        for _ in range(_TRIES):
            tail, now = self._tails.get(priority), self._clock.monotonic()
            if tail is None or tail.room <= 0 or not 0 <= now - tail.seen < FRESH:
                tail = self._newest(priority, tail, now)
            tail.room -= 1
            if sync and not tail.synced:
                self._buckets.sync(tail.path)
                tail.synced = True
            name = entry.name_at(self.next_stamp(tail.stamp, entry.stamps))
            try:
                moved = self._fs.rename(source, f"{tail.path}/{name}")
            except FileNotFoundError:  # a consumer removed the empty bucket
                self._tails.pop(priority, None)
                continue
            except PermissionError:
                if not self._buckets.is_kept(tail.path, os.path.dirname(source)):
                    raise
                self._tails.pop(priority, None)
                self._passed.add(tail.path)
                continue
            if not moved:
                return False
            if self._head is not None:
                self._notice(priority)
            if sync:
                self._fs.sync_directory(tail.path)
            return True
        path = tail.path if tail is not None else source
        raise FileNotFoundError(errno.ENOENT, "its buckets keep vanishing", path)

    def append_bucket(
        self,
        source: str,
        bundles: Sequence[Bundle],
        *,
        make: Callable[[str], None],
        sync: bool,
    ) -> bool:
        """Move the directory `source` to the end, as a bucket; False when it is gone.

        `make` makes the entry at a path for each of the bundles, which are of one priority. One
        rename makes all of them visible at once.
        """
        priority = bundles[0].priority
        end = self._buckets.end(priority)
        messages = sum(bundle.stamps for bundle in bundles)
        stamp = following = self.next_stamp(end.stamp + 1, messages)
        for bundle in bundles:
            make(f"{source}/{bundle.name_at(following)}")
            following += bundle.stamps
        if sync:
            self._fs.sync_directory(source)
        return self.place_bucket(source, priority, stamp, end, sync=sync)

    def stamps_at_end(self, priority: int, bundles: Sequence[Bundle]) -> int:
        """Return the first of the stamps that bundles need at the end of a priority."""
        messages = sum(bundle.stamps for bundle in bundles)
        return self.next_stamp(self._buckets.end(priority).stamp + 1, messages)

    def place_bucket(
        self,
        source: str,
        priority: int,
        stamp: int,
        end: End | None = None,
        *,
        sync: bool,
    ) -> bool:
        """Move the directory `source`, with entries in it, to `end`; False when it is gone."""
        end = end or self._buckets.end(priority)
        path = self._become_bucket(source, end, priority, stamp)
        if path is None:
            return False
        self._tails[priority] = _Tail(path, stamp, 0, 0.0)  # full: look again
        self._notice(priority)
        if sync:
            self._buckets.sync(path)
        return True

    def _become_bucket(
        self, source: str, end: End, priority: int, stamp: int
    ) -> str | None:
        """Move a directory to the end as a bucket; return its path, or None when it is gone."""
        for _ in range(_TRIES):
            path = self._buckets.place_after(end, priority, stamp)
            try:
                return path if self._fs.rename(source, path) else None
            except FileNotFoundError:  # a consumer removed the directory above it
                end = self._buckets.end(priority)
            except PermissionError:
                if not self._buckets.passes_over_shelf_of(path):
                    raise
                end = self._buckets.end(priority)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                stamp += 1  # another client has made a bucket with this stamp
        raise FileNotFoundError(errno.ENOENT, "its buckets keep vanishing", source)

    def _notice(self, priority: int) -> None:
        """List again when we ourselves put something before what we take from."""
        head = self._head
        if head is not None and priority < head.priority:
            self._head = None

    def put_back(self, source: str, entry: ReadyEntry) -> bool:
        """Move the file `source` back to its old place; False when `source` is gone."""
        for _ in range(_TRIES):
            path = self._buckets.place_of(entry.priority, entry.place)
            try:
                moved = self._fs.rename(source, f"{path}/{entry.filename}")
            except FileNotFoundError:
                continue
            self._head = None
            return moved
        raise FileNotFoundError(errno.ENOENT, "its buckets keep vanishing", path)

    def next_stamp(self, least: int = 0, number: int = 1) -> int:
        """Return the first of `number` stamps that this process has not used yet."""
        # Two threads may read the same last stamp; the id then decides between them.
        clock, used = self._clock, self._stamp
        stamp = clock.own_ns() + clock.offset_ns
        if stamp <= used:
            stamp = used + 1
        if stamp < least:
            stamp = least
        if stamp > MAX_STAMP - number:
            stamp = MAX_STAMP - number
        self._stamp = stamp + number - 1
        return stamp

    def _newest(self, priority: int, kept: _Tail | None, now: float) -> _Tail:
        """Look up the bucket at the end, or make one, and keep it as our tail.

        Another thread may have set a tail meanwhile. Then its tail stays. It may be a later
        bucket than ours, and the next message of that thread must not go to an earlier one.
        """
        end = self._buckets.end(priority)
        if kept is not None and kept.path == end.bucket and kept.room > 0:
            kept.seen = now
            found = kept
        else:
            path, stamp = end.bucket, end.stamp
            room = self._buckets.room_in(path) if path else 0
            if room <= 0:
                stamp, room = self.next_stamp(stamp + 1), self._buckets.size
                path = self._buckets.open_after(end, priority, stamp)
            found = _Tail(path, stamp, min(room, _COUNT_EVERY), now)
        others = self._tails.get(priority)
        if others is None or others is kept:
            self._tails[priority] = others = found
        return others

    # Taking from the front

    def first(self, call: ConsumeCall) -> Waiting | None:
        """Return the message, bundle or range that comes first; None when nothing waits."""
        front, self.front = self.front, None
        if front is not None:
            self._races_lost = 0
        while True:
            head = self._head
            if head is None or not 0 <= self._clock.monotonic() - head.seen < FRESH:
                self._head = head = self._look()
            elif front is not None and front.path.startswith(f"{head.path}/"):
                return front
            elif not head.names:
                head.names = self._order(self._buckets.names_in(head.path))
                if not head.names:
                    self._head = head = self._look()
            if head is None:
                return None
            front = None  # it did not fit this listing, and will fit no later one
            try:
                name = head.names.pop()
            except IndexError:  # another thread took the last one
                continue
            path, entry = f"{head.path}/{name}", parse_ready_entry(head.priority, name)
            if entry is None:
                self._buckets.quarantine(path)
            elif isinstance(entry, Bundle) and self._find_bundles().is_drained(entry):
                self._put_away(path, entry)
            else:
                return make(Waiting, (entry, path))
            self._passed.tried_in_vain(path)
            self.met(call, path)

    def _put_away(self, path: str, bundle: Bundle) -> None:
        """Remove the entry of a drained bundle, or pass it over where we may not."""
        try:
            self._find_bundles().drain(path, bundle.id)
        except OSError as error:
            if error.errno not in IMMOVABLE:
                raise
            self._passed.add(path)
            self._passed.tell(path, "can't be removed", error)

    def lost(self, waiting: Waiting) -> None:
        """Note that competitors were faster.

        From now on we list again, and choose further from the front, where fewer competitors
        are. Before we try a bundle again we wait for a moment, so that not all its competitors
        claim at once.
        """
        self._spread = min(self._spread * 2, _MAX_SPREAD)
        self._contended = True
        self._head = None
        if isinstance(waiting.entry, Bundle):
            self._races_lost += 1
            longest_ms = min(1 << self._races_lost, _LONGEST_WAIT_MS)
            self._clock.sleep(random_below(longest_ms * 1000) / 1e6)
        self._passed.tried_in_vain(waiting.path)

    def shares(self) -> None:
        """Note that many take from the same bundle: choose further from the front next time."""
        self._spread = min(self._spread * 2, _MAX_SPREAD)
        self._contended, self._head = True, None

    def forget(self) -> None:
        """List again before the next message, because we changed the queue ourselves."""
        self._head = None

    def _look(self) -> _Head | None:
        """List from the front again."""
        now = self._clock.monotonic()
        found = self._buckets.first()
        if found is None:
            return None
        priority, path, names = found
        return _Head(priority, path, self._order(names), now)

    def _order(self, names: list[str]) -> list[str]:
        """Reverse names; leave out the first few while competitors probably try to claim them."""
        names.reverse()
        skipped = random_below(min(self._spread, len(names)))
        if not self._contended:
            self._spread = max(self._spread // 2, 1)
        self._contended = False
        return names[: len(names) - skipped] if skipped else names

    # What is no message

    def met(self, call: ConsumeCall, path: str) -> None:
        """Note that we met what is no message at `path`; raise GarbageAhead when time is up."""
        watch = call.watch = call.watch or Stopwatch(self._clock)
        seconds = watch.seconds()
        if seconds > TIDY_FOR / 2:
            self._passed.leave_for_later(os.path.dirname(path))
            self._head = None
        if seconds > TIDY_FOR:
            self.goes_on(call)

    def goes_on(self, call: ConsumeCall) -> bool:
        """Tell whether messages may still wait in buckets that were left for later.

        This call, or one a moment ago, passed over those; from now on they are listed again.
        GarbageAhead: the time of this call is up. The next call goes on there, and so comes
        nearer to the messages behind.
        """
        later = self._passed.what_was_left()
        if not later:
            return False
        self._head = None
        if call.watch is not None and call.watch.seconds() > TIDY_FOR:
            raise GarbageAhead(later[0])
        return True
