"""The directories of a line: `ready/<priority>/<bucket>/`, with shelves where they are many.

A bucket holds about 500 files, each a message or a bundle of many, and is named by the stamp
of its first one. Where a priority has some hundred buckets, the next ones stand on a *shelf*,
a directory that is named by the stamp of its first bucket and stands among the buckets by it.
So nothing that is listed on the way to a message grows with the backlog, and a small queue
has no shelf.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from ddmq.clock import Stopwatch
from ddmq.log import warn
from ddmq.names import (
    are_buckets,
    are_in_priority,
    bucket_name,
    is_shelf,
    new_id,
    parse_priority,
    shelf_name,
    stamp_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ddmq.clock import Clock
    from ddmq.fs import FileSystem

#: Seconds for which this client passes over what it could not read, move or change: that
#: may pass, as when a ticket is renewed.
_PASSED_OVER_FOR = 30.0
#: Age at which even the newest bucket or shelf of a priority is removed when it is empty.
_NEWEST_AGE_NS = 10 * 10**9
#: Seconds for which one call clears away what is no message, and after which the next one does.
TIDY_FOR, TIDY_AGAIN = 0.5, 1.0


class End(NamedTuple):
    """The newest bucket of a priority, and where the next one goes."""

    bucket: str
    """The path of the newest one; empty when there is none."""
    stamp: int
    """That of the newest bucket or shelf, later than which the next one is; 0: none."""
    room: str
    """The directory in which the next one is made; empty: in a new shelf."""


class Filled(NamedTuple):
    """A bucket in which something waits, and what, in order."""

    priority: int
    path: str
    names: list[str]


class Buckets:
    """The buckets of one queue. Safe to use from several threads."""

    def __init__(
        self,
        path: str,
        fs: FileSystem,
        clock: Clock,
        set_aside: Callable[[str], bool],
        size: int,
    ) -> None:
        self.path = path
        self.size = size
        """How many files a bucket holds."""
        self.mode: int | None = None
        """The mode of new directories, where the umask must not decide."""
        self._fs = fs
        self._clock = clock
        self._set_aside = set_aside
        self._shelf_size = max(size // 2, 2)
        self._tidied_at = float("-inf")
        self._left: list[str] = []
        self._passed_over: dict[str, float] = {}
        """Until when, by name or path: a hint for claiming and joining alone."""
        self._refused: set[str] = set()
        self._told: set[str] = set()

    # Where something is added

    def end(self, priority: int) -> End:
        """Look up the newest bucket of a priority."""
        path = f"{self.path}/{priority}"
        names = self._in_priority(path)
        room = path if len(names) < self._shelf_size else ""
        if not names:
            return End("", 0, room)
        newest = f"{path}/{names[-1]}"
        if is_shelf(newest):
            return self._end_of_shelf(newest, stamp_of(names[-1]), room)
        return End(newest, stamp_of(names[-1]), room)

    def _end_of_shelf(self, shelf: str, stamp: int, beside: str) -> End:
        names = self._in_shelf(shelf)
        if not names and not self._fs.is_directory(shelf):
            return End("", stamp, beside)  # it was a file, set aside just now
        room = shelf if len(names) < self._shelf_size else beside
        if not names:
            return End("", stamp, room)
        return End(f"{shelf}/{names[-1]}", stamp_of(names[-1]), room)

    def room_in(self, bucket: str) -> int:
        """Return how many more files a bucket takes: none if it is no directory."""
        number = len(self._names(bucket))
        if not number and not self._fs.is_directory(bucket):
            return 0  # it was a file, set aside just now
        return self.size - number

    def place_after(self, end: End, priority: int, stamp: int) -> str:
        """Return the path of a new bucket, to be made at the end; what it is in is made.

        Others may remove that again while it is empty: then nothing can be moved there.
        """
        if not end.stamp:  # else we saw that it is there
            self._make_priority(priority)
        if end.room:
            return f"{end.room}/{bucket_name(stamp)}"
        shelf = f"{self.path}/{priority}/{shelf_name(stamp)}"
        self._make(shelf)
        return f"{shelf}/{bucket_name(stamp)}"

    def open_after(self, end: End, priority: int, stamp: int) -> str:
        """Make a new bucket at the end; return its path."""
        path = self.place_after(end, priority, stamp)
        self._make(path)
        return path

    def place_of(self, priority: int, stamp: int) -> str:
        """Return the path of the bucket in which a stamp belongs, maybe a new one."""
        path, own = f"{self.path}/{priority}", bucket_name(stamp)
        older = _not_after(self._in_priority(path), own)
        if older and is_shelf(older[-1]):
            path = f"{path}/{older[-1]}"
            return self._place_in(path, _not_after(self._in_shelf(path), own), own)
        if not older:
            self._make_priority(priority)
        return self._place_in(path, older, own)

    def _place_in(self, directory: str, older: list[str], own: str) -> str:
        if older:
            return f"{directory}/{older[-1]}"
        self._make(f"{directory}/{own}")
        return f"{directory}/{own}"

    def _make_priority(self, priority: int) -> None:
        path = f"{self.path}/{priority}"
        if not self._mkdir(path):
            self._fs.exists(path)  # an NFS client may remember that it was missing

    def _make(self, path: str) -> None:
        """Make a bucket or shelf; where that fails, so will the rename into it."""
        try:
            self._mkdir(path)
        except FileNotFoundError:  # a consumer removed what it was to be in
            return
        except PermissionError:
            if not self.passes_over_shelf_of(path):
                raise

    def passes_over_shelf_of(self, bucket: str) -> bool:
        """Pass over a shelf where no bucket can be made, if somebody keeps it to himself."""
        shelf = os.path.dirname(bucket)
        if not is_shelf(shelf) or not self.is_kept(shelf, os.path.dirname(shelf)):
            return False
        self.pass_over(shelf)
        return True

    def is_kept(self, directory: str, beside: str) -> bool:
        """Tell whether somebody keeps to himself a directory of a queue that is for us, too."""
        return self._fs.may_change(beside) and not self._fs.may_change(directory)

    def _mkdir(self, path: str) -> bool:
        if self.mode is None:
            return self._fs.mkdir(path)
        draft = f"{os.path.dirname(self.path)}/tmp/{new_id()}"
        return self._fs.mkdir_with_mode(path, self.mode, draft)

    def sync(self, bucket: str) -> None:
        """Put the name of a bucket on stable storage, and of all that it is in."""
        directory = bucket
        while directory != self.path:
            directory = os.path.dirname(directory)
            self._fs.sync_directory(directory)

    # Where something is taken

    def first(self) -> Filled | None:
        """Find the first bucket in which something waits; remove empty ones before it."""
        now_ns = self._clock.time_ns()  # before the listings, which may take long
        for priority in self.priorities():
            path = f"{self.path}/{priority}"
            names = self._in_priority(path)
            found = self._first_of(path, names, now_ns, newest=True)
            if found is not None:
                return Filled(priority, *found)
            if not names:
                self._fs.rmdir(path)
        return None

    def _first_of(
        self, directory: str, names: list[str], now_ns: int, *, newest: bool
    ) -> tuple[str, list[str]] | None:
        """Find the first of these that holds something; `newest`: nothing comes after them."""
        for name in names:
            path, last = f"{directory}/{name}", newest and name == names[-1]
            found = self._filled(path, now_ns, newest=last)
            if found is None and not self._remove_empty(path, now_ns, newest=last):
                found = self._filled(path, now_ns, newest=last)  # somebody added to it
            if found is not None:
                return found
        return None

    def _filled(
        self, path: str, now_ns: int, *, newest: bool
    ) -> tuple[str, list[str]] | None:
        if is_shelf(path):
            return self._first_of(path, self._in_shelf(path), now_ns, newest=newest)
        names = self.names_in(path)
        return (path, names) if names else None

    def _remove_empty(self, path: str, now_ns: int, *, newest: bool) -> bool:
        """Remove an empty bucket or shelf; False when it is not empty any more.

        The newest stays while somebody may be about to add to it.
        """
        stamp = stamp_of(os.path.basename(path))
        if newest and now_ns - stamp <= _NEWEST_AGE_NS:
            return True
        return self._fs.rmdir(path)

    def removable(self) -> Iterator[str]:
        """Yield the path of each bucket, shelf and priority, after all that is in it.

        `rmdir` decides whether it is empty. The newest one of a priority is left out while
        somebody may be about to add to it.
        """
        now_ns = self._clock.time_ns()  # before the listings, which may take long
        for priority in self.priorities():
            path = f"{self.path}/{priority}"
            yield from self._removable_in(
                path, self._in_priority(path), now_ns, last=True
            )
            yield path

    def _removable_in(
        self, directory: str, names: list[str], now_ns: int, *, last: bool
    ) -> Iterator[str]:
        for name in names:
            path, newest = f"{directory}/{name}", last and name == names[-1]
            if is_shelf(path):
                names_in = self._in_shelf(path)
                yield from self._removable_in(path, names_in, now_ns, last=newest)
            if not newest or now_ns - stamp_of(name) > _NEWEST_AGE_NS:
                yield path

    # All of them

    def priorities(self) -> list[int]:
        """Return the priorities that have a directory, the first one first."""
        found, others = [], []
        for name in self._fs.listing(self.path):
            priority = parse_priority(name)
            if priority is not None:
                found.append(priority)
            else:
                others.append(f"{self.path}/{name}")
        self._put_all_aside(others)
        return sorted(found)

    def all(self) -> Iterator[tuple[int, str]]:
        """Yield priority and path of every bucket, in order."""
        for priority in self.priorities():
            path = f"{self.path}/{priority}"
            for bucket in self._below(path, self._in_priority(path, every=True), list):
                yield priority, bucket

    def everything(self) -> Iterator[tuple[int, str, list[str]]]:
        """Yield priority, path and names of each directory below `ready/`, passed over or not.

        Nothing is moved by looking. What is no directory, or is gone, has no names; raises
        where we may not look. Those of a priority and of a shelf hold no messages.
        """
        for number in sorted(self._fs.listing(self.path)):
            priority = parse_priority(number)
            if priority is not None:
                yield from self._everything_in(priority, f"{self.path}/{number}")

    def _everything_in(
        self, priority: int, path: str, *, is_bucket: bool = False
    ) -> Iterator[tuple[int, str, list[str]]]:
        try:
            names = self._fs.listing(path)
        except (FileNotFoundError, NotADirectoryError):
            names = []
        if is_bucket:
            yield priority, path, names
            return
        yield priority, path, []
        are_ours = are_buckets if is_shelf(path) else are_in_priority
        for name in sorted(names):
            if are_ours([name]):
                yield from self._everything_in(
                    priority, f"{path}/{name}", is_bucket=not is_shelf(name)
                )

    def nearest(self, priority: int, stamp: int) -> Iterator[str]:
        """Yield the paths of buckets: where a stamp belongs, those before it, the others."""
        path, own = f"{self.path}/{priority}", bucket_name(stamp)

        def nearest_first(names: list[str]) -> list[str]:
            older = _not_after(names, own)
            return older[::-1] + names[len(older) :]

        return self._below(path, self._in_priority(path, every=True), nearest_first)

    def _below(
        self,
        directory: str,
        names: list[str],
        order: Callable[[list[str]], list[str]],
    ) -> Iterator[str]:
        """Yield the paths of buckets; a shelf is listed when it is its turn.

        `order` is given names in order, those of a priority and of each shelf.
        """
        for name in order(names):
            path = f"{directory}/{name}"
            if is_shelf(path):
                yield from self._below(path, self._in_shelf(path, every=True), order)
            else:
                yield path

    # What a listing shows, and what is passed over

    def _in_priority(self, path: str, *, every: bool = False) -> list[str]:
        """Return the names of the buckets and shelves of a priority, in order."""
        return self._sorted(path, are_in_priority, every=every)

    def _in_shelf(self, path: str, *, every: bool = False) -> list[str]:
        """Return the names of the buckets of a shelf, in order."""
        return self._sorted(path, are_buckets, every=every)

    def _sorted(
        self, path: str, are_ours: Callable[[list[str]], bool], *, every: bool
    ) -> list[str]:
        names = sorted(self.listed(path) if every else self._names(path))
        if are_ours(names):  # of hundreds, quicker than one by one
            return names
        ours = [name for name in names if are_ours([name])]
        others = set(names).difference(ours)
        self._put_all_aside([f"{path}/{name}" for name in others])
        return ours

    def _put_all_aside(self, paths: list[str]) -> None:
        """Set aside what does not belong here, for half a second; the rest waits a second."""
        watch = Stopwatch(self._clock) if paths else None
        for path in paths:
            if 0 <= self._clock.monotonic() - self._tidied_at < TIDY_AGAIN:
                return
            self.put_aside(path)
            if watch is not None and watch.seconds() > TIDY_FOR:
                self._tidied_at = self._clock.monotonic()

    def names_in(self, directory: str) -> list[str]:
        """Return the names in a directory, in order, but for what is passed over."""
        return sorted(self._names(directory))

    def _names(self, path: str) -> list[str]:
        names = self.listed(path)
        if not self._passed_over:
            return names
        now, known = self._clock.monotonic(), list(self._passed_over.items())
        self._passed_over = over = {key: until for key, until in known if until > now}
        return [n for n in names if n not in over and f"{path}/{n}" not in over]

    def listed(self, path: str) -> list[str]:
        """Return all names in a directory; none when it is gone, or we may not look."""
        try:
            return self._fs.listing(path)
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            self.put_aside(path)
            return []
        except PermissionError as error:
            self.pass_over(path, "can't be listed", error)
            return []

    def put_aside(self, path: str) -> None:
        """Set aside what does not belong here; what can't be moved is passed over."""
        now = self._clock.monotonic()
        if self._passed_over.get(path, now) <= now and not self._set_aside(path):
            self.pass_over(path)

    def pass_over(
        self, name: str, trouble: str = "", error: OSError | None = None
    ) -> None:
        """Let claims and publishers leave something out for half a minute, by name or path.

        That is a hint: whoever looks for evidence sees it nevertheless. The `trouble` is told once.
        """
        self._passed_over[name] = self._clock.monotonic() + _PASSED_OVER_FOR
        if error is not None and name not in self._told:
            self._told.add(name)
            warn(f"{name} {trouble} and is passed over: {error.strerror}")

    def heed(self, name: str) -> None:
        """Pass over something no more."""
        self._passed_over.pop(name, None)

    def leave_for_later(self, bucket: str) -> None:
        """Pass over a bucket for a second, in which too much is no message."""
        self._passed_over[bucket] = self._clock.monotonic() + TIDY_AGAIN
        if bucket not in self._left:
            self._left.append(bucket)

    def what_was_left(self) -> list[str]:
        """Return the buckets that were left for later, and pass them over no more."""
        left, self._left = self._left, []
        for bucket in left:
            self.heed(bucket)
        return left

    def refuse(self, name: str, known_as: str) -> None:
        """Let nothing that can't be read, time and again, stand before all others.

        The second time that it is refused, its name or path is passed over.
        """
        if known_as in self._refused:
            self.pass_over(name)
        self._refused.add(known_as)


def _not_after(names: list[str], bucket: str) -> list[str]:
    """Return those of sorted names whose stamp is not later than that of a bucket."""
    return [name for name in names if name[: len(bucket)] <= bucket]
