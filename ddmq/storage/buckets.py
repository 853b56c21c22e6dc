"""The directories of the ready queue: `ready/<priority>/<bucket>/`, and shelves of many buckets.

A bucket holds about 500 files. Each is a message, the entry of a bundle, or a range. The bucket's
name is the stamp of its first file. Once a priority has some hundred buckets, new ones are made on
a *shelf*. That is a directory of buckets; its name begins with the stamp of its first bucket, so it
is sorted among the buckets. So no directory that is listed on the way to a message grows with the
backlog, and a small queue has no shelf.

`PassedOver` has the names below `ready/` that this client leaves out for a while.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ddmq.clock import Stopwatch
from ddmq.errors import warn
from ddmq.storage.names import (
    CANCELLED,
    NO_MESSAGE,
    PAUSED,
    bucket_name,
    is_shelf,
    not_after,
    parse_priority,
    shelf_name,
    split,
    stamp_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ddmq.clock import Clock
    from ddmq.storage.filesystem import FileSystem
    from ddmq.storage.layout import Layout

#: The age from which on even the newest bucket or shelf of a priority is removed when empty.
_NEWEST_AGE_NS = 10 * 10**9
#: Seconds for which a name is passed over. The trouble may end, as when a ticket is renewed.
_PASSED_OVER_FOR = 30.0
#: Seconds for which one call quarantines what is no message, and until the next call does.
TIDY_FOR, TIDY_AGAIN = 0.5, 1.0
#: How often a name is tried in vain before it is passed over, and how many such are remembered.
_VAIN, _MAX_VAIN = 24, 1000


class End:
    """The newest bucket of a priority, and where the next one goes."""

    def __init__(self, bucket: str, stamp: int, room: str) -> None:
        #: The path of the newest bucket; empty when there is none.
        self.bucket = bucket
        #: The stamp of the newest bucket or shelf; 0: there is none. The next one gets a later one.
        self.stamp = stamp
        #: The directory in which the next bucket is made; empty: a new shelf.
        self.room = room


class PassedOver:
    """What one client passes over for a while, since it can't read, move or change it.

    Only a client that claims or publishes messages takes this hint. A search for evidence sees
    everything. Safe to use from several threads.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}
        self._left: list[str] = []
        self._refused: set[str] = set()
        self._told: set[str] = set()
        self._vain: dict[str, int] = {}

    def without(self, path: str, names: list[str]) -> list[str]:
        """Return the names in the directory `path`, without those that are passed over."""
        if not self._until:
            return names
        now, known = self._clock.monotonic(), list(self._until.items())
        self._until = over = {key: until for key, until in known if until > now}
        return [n for n in names if n not in over and f"{path}/{n}" not in over]

    def has(self, path: str) -> bool:
        """Tell whether a path is passed over now."""
        now = self._clock.monotonic()
        return self._until.get(path, now) > now

    def add(self, name: str) -> None:
        """Pass over a name or path for half a minute."""
        self._until[name] = self._clock.monotonic() + _PASSED_OVER_FOR

    def tell(self, name: str, trouble: str, error: OSError) -> None:
        """Warn once that something is passed over, and why."""
        if name not in self._told:
            self._told.add(name)
            warn(f"{name} {trouble} and is passed over: {error.strerror}")

    def remove(self, name: str) -> None:
        """Stop passing over a name or path."""
        self._until.pop(name, None)

    def refuse(self, name: str, known_as: str) -> None:
        """Pass over what could not be read or moved twice.

        So it does not block all messages behind it for ever.
        """
        if known_as in self._refused:
            self.add(name)
        self._refused.add(known_as)

    def tried_in_vain(self, path: str) -> None:
        """Count a rename that found nothing; pass over a name that listings go on to show.

        A name that a competitor has taken is gone from the next listing. A name that stays is
        an error of the file server.
        """
        if len(self._vain) > _MAX_VAIN:
            self._vain.clear()
        self._vain[path] = self._vain.get(path, 0) + 1
        if self._vain[path] >= _VAIN:
            del self._vain[path]
            self.add(path)

    def leave_for_later(self, bucket: str) -> None:
        """Pass over a bucket for a second, since too much in it is no message."""
        self._until[bucket] = self._clock.monotonic() + TIDY_AGAIN
        if bucket not in self._left:
            self._left.append(bucket)

    def what_was_left(self) -> list[str]:
        """Return the buckets that were left for later, and stop passing them over."""
        left, self._left = self._left, []
        for bucket in left:
            self.remove(bucket)
        return left


class Buckets:
    """The buckets of one queue: it finds the last one to add to, and the first one to take from.

    Safe to use from several threads. What does not belong here is quarantined on the way.
    """

    def __init__(
        self,
        layout: Layout,
        fs: FileSystem,
        clock: Clock,
        quarantine: Callable[[str, str], bool],
        *,
        passed: PassedOver,
        size: int,
    ) -> None:
        self.size = size
        """How many files a bucket holds."""
        self.passed = passed
        self.is_paused = False
        """Whether our last listing of `ready/` showed that somebody paused the queue."""
        self.has_cancelled = False
        """Whether it showed that messages are cancelled, that may wait."""
        self._layout = layout
        self._fs = fs
        self._clock = clock
        self._quarantine = quarantine
        self._shelf_size = max(size // 2, 2)
        self._tidied_at = float("-inf")

    # Where something is added

    def end(self, priority: int) -> End:
        """Look up the newest bucket of a priority."""
        path = f"{self._layout.ready}/{priority}"
        names = self._seen(path)
        room = path if len(names) < self._shelf_size else ""
        if not names:
            return End("", 0, room)
        newest, stamp = f"{path}/{names[-1]}", stamp_of(names[-1])
        if not is_shelf(newest):
            return End(newest, stamp, room)
        names = self._seen(newest)
        if not names and not self._fs.is_directory(newest):
            return End("", stamp, room)  # it was a file, and is quarantined now
        if len(names) < self._shelf_size:
            room = newest
        if not names:
            return End("", stamp, room)
        return End(f"{newest}/{names[-1]}", stamp_of(names[-1]), room)

    def room_in(self, bucket: str) -> int:
        """Return how many more files a bucket takes; 0 if it is no directory."""
        number = len(self._names(bucket))
        if not number and not self._fs.is_directory(bucket):
            return 0  # it was a file, and is quarantined now
        return self.size - number

    def place_after(self, end: End, priority: int, stamp: int) -> str:
        """Return a path for a new bucket at the end; make the directories above it.

        Others may remove those again while they are empty. Then nothing can be moved there.
        """
        if not end.stamp:  # otherwise we saw the priority's directory
            self._make_priority(priority)
        if end.room:
            return f"{end.room}/{bucket_name(stamp)}"
        shelf = f"{self._layout.ready}/{priority}/{shelf_name(stamp)}"
        self._make(shelf)
        return f"{shelf}/{bucket_name(stamp)}"

    def open_after(self, end: End, priority: int, stamp: int) -> str:
        """Make a new bucket at the end; return its path."""
        path = self.place_after(end, priority, stamp)
        self._make(path)
        return path

    def place_of(self, priority: int, stamp: int) -> str:
        """Return the path of the bucket to which a stamp belongs; make it if needed."""
        path, own = f"{self._layout.ready}/{priority}", bucket_name(stamp)
        older = not_after(self._seen(path), own)
        if not older:
            self._make_priority(priority)
        elif is_shelf(older[-1]):
            path = f"{path}/{older[-1]}"
            older = not_after(self._seen(path), own)
        if older:
            return f"{path}/{older[-1]}"
        self._make(f"{path}/{own}")
        return f"{path}/{own}"

    def _make_priority(self, priority: int) -> None:
        path = f"{self._layout.ready}/{priority}"
        if not self._layout.make_directory(path):
            self._fs.exists(path)  # an NFS client may have cached that it was missing

    def _make(self, path: str) -> None:
        """Make a bucket or shelf. If that fails, the rename into it will fail too."""
        try:
            self._layout.make_directory(path)
        except FileNotFoundError:  # a consumer removed the directory above it
            return
        except PermissionError:
            if not self.passes_over_shelf_of(path):
                raise

    def passes_over_shelf_of(self, bucket: str) -> bool:
        """Pass over the shelf of a bucket if only its owner can change it; True if so."""
        shelf = os.path.dirname(bucket)
        if not is_shelf(shelf) or not self.is_kept(shelf, os.path.dirname(shelf)):
            return False
        self.passed.add(shelf)
        return True

    def is_kept(self, directory: str, beside: str) -> bool:
        """Tell whether we may change the directory `beside`, but not `directory`."""
        return self._fs.may_change(beside) and not self._fs.may_change(directory)

    def sync(self, bucket: str) -> None:
        """Put on stable storage the names of a bucket and the directories above it."""
        directory = bucket
        while directory != self._layout.ready:
            directory = os.path.dirname(directory)
            self._fs.sync_directory(directory)

    # Where something is taken from

    def first(self) -> tuple[int, str, list[str]] | None:
        """Find the first bucket in which something waits; remove empty ones before it.

        Return its priority, its path, and the names in it, in order.
        """
        now_ns = self._clock.time_ns()  # before the listings, which may take long
        for priority in self._priorities():
            path = f"{self._layout.ready}/{priority}"
            names = self._seen(path)
            found = self._first_of(path, names, now_ns, is_end=True)
            if found is not None:
                return priority, *found
            if not names:
                self._fs.rmdir(path)
        return None

    def _first_of(
        self, directory: str, names: list[str], now_ns: int, *, is_end: bool
    ) -> tuple[str, list[str]] | None:
        """Find the first of these buckets and shelves that holds something.

        `is_end` says that no later ones follow. Empty ones are removed, but the newest of all
        stays while somebody may be about to add to it.
        """
        for name in names:
            path, is_newest = f"{directory}/{name}", is_end and name == names[-1]
            found = self._filled(path, now_ns, is_end=is_newest)
            if found is None:
                if is_newest and now_ns - stamp_of(name) <= _NEWEST_AGE_NS:
                    continue
                if not self._fs.rmdir(path):  # maybe somebody added to it
                    found = self._filled(path, now_ns, is_end=is_newest)
            if found is not None:
                return found
        return None

    def _filled(
        self, path: str, now_ns: int, *, is_end: bool
    ) -> tuple[str, list[str]] | None:
        if is_shelf(path):
            return self._first_of(path, self._seen(path), now_ns, is_end=is_end)
        names = self.names_in(path)
        return (path, names) if names else None

    def removable(self) -> Iterator[str]:
        """Yield the paths of buckets, shelves and priorities, each after what it contains.

        The caller tries `rmdir`, which decides whether one is empty. The newest one of a
        priority is left out while somebody may be about to add to it.
        """
        now_ns = self._clock.time_ns()  # before the listings, which may take long
        for priority in self._priorities():
            path = f"{self._layout.ready}/{priority}"
            yield from self._removable_in(path, now_ns, is_end=True)
            yield path

    def _removable_in(
        self, directory: str, now_ns: int, *, is_end: bool
    ) -> Iterator[str]:
        names = self._seen(directory)
        for name in names:
            path, is_newest = f"{directory}/{name}", is_end and name == names[-1]
            if is_shelf(path):
                yield from self._removable_in(path, now_ns, is_end=is_newest)
            if not is_newest or now_ns - stamp_of(name) > _NEWEST_AGE_NS:
                yield path

    # Listings, without what is passed over. What does not belong there is quarantined.

    def _priorities(self) -> list[int]:
        """Return the priorities that have a directory, in order."""
        found, others, is_paused, has_cancelled = [], [], False, False
        for name in self._fs.listing(self._layout.ready):
            priority = parse_priority(name)
            if priority is not None:
                found.append(priority)
            elif name == PAUSED:
                is_paused = True
            elif name == CANCELLED:
                has_cancelled = True
            else:
                others.append(f"{self._layout.ready}/{name}")
        self.is_paused, self.has_cancelled = is_paused, has_cancelled
        self._quarantine_all(others)
        return sorted(found)

    def _seen(self, directory: str) -> list[str]:
        """Return the names of the buckets and shelves in a priority or on a shelf, in order."""
        ours, others = split(self._names(directory), is_shelf_=is_shelf(directory))
        self._quarantine_all([f"{directory}/{name}" for name in others])
        return ours

    def names_in(self, directory: str) -> list[str]:
        """Return the names in a directory, in order, without those that are passed over."""
        return sorted(self._names(directory))

    def _names(self, directory: str) -> list[str]:
        try:
            names = self._fs.listing(directory)
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            self.quarantine(directory)
            return []
        except PermissionError as error:
            self.passed.add(directory)
            self.passed.tell(directory, "can't be listed", error)
            return []
        return self.passed.without(directory, names)

    def _quarantine_all(self, paths: list[str]) -> None:
        """Quarantine for half a second what does not belong here; the rest waits a second."""
        watch = Stopwatch(self._clock) if paths else None
        for path in paths:
            if 0 <= self._clock.monotonic() - self._tidied_at < TIDY_AGAIN:
                return
            self.quarantine(path)
            if watch is not None and watch.seconds() > TIDY_FOR:
                self._tidied_at = self._clock.monotonic()

    def quarantine(self, path: str, reason: str = NO_MESSAGE) -> None:
        """Quarantine what does not belong here, or pass it over if it can't be moved."""
        if self.passed.has(path):
            return
        if not self._quarantine(path, reason):
            self.passed.add(path)
