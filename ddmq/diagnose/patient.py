"""A queue that is looked at: every symptom asks it what is on disk, and nobody else."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ddmq.clock import Clock
from ddmq.storage.delayed import Delayed
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.names import PAUSED, SETTINGS_FILE, Bundle, is_shelf, known
from ddmq.storage.pause import read_pause
from ddmq.storage.range_names import RangeLease, parse_made_by
from ddmq.storage.store import Store
from ddmq.storage.then import FollowUp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ddmq.seen import Pause
    from ddmq.settings import Settings
    from ddmq.storage.filesystem import Status
    from ddmq.storage.names import Lease

PRIORITY, SHELF, BUCKET = "priority", "shelf", "bucket"


class LenientFileSystem(FileSystem):
    """A file system on which a directory that can't be listed looks empty.

    One broken directory must not hide what is wrong with the others.
    """

    def listing(self, path: str) -> list[str]:
        """List a directory in order."""
        try:
            return sorted(super().listing(path))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return []

    def hidden(self, path: str) -> list[str]:
        """List the hidden names in a directory in order."""
        try:
            return sorted(super().hidden(path))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return []


class ReadyDirectory(NamedTuple):
    """A directory below `ready/`."""

    priority: int
    path: str
    kind: str
    """`priority`, `shelf` or `bucket`."""
    names: list[str]
    """What is in it, if it is a bucket."""


class Patient:
    """A queue that is looked at. Looking changes nothing; `quarantine` and `set_mode` mend."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.settings = settings
        self._store = store
        self.path = store.path
        self._layout = layout = store.layout
        self.tmp = layout.tmp
        self.ready = layout.ready
        self.work = layout.work
        self.delayed = layout.delayed
        self.drop = layout.drop
        self.dead = layout.dead
        self.then = layout.then
        self.keys = layout.keys
        self.needed_later = (
            layout.then,
            layout.workers,
            layout.keys,
            layout.journal,
            layout.jobs,
        )
        """The directories beside `ready/` that are made when they are first needed."""
        self.lock = layout.lock
        self.bundles = layout.bundles
        self.lines = layout.lines
        self._fs = store.fs
        self._clock = store.clock
        self._time = store.time
        self._scan = store.scan
        self._leases = store.leases
        self._bundles = store.bundles
        self._leftovers = store.leftovers
        self._dead_letters = store.dead_letters

    @classmethod
    def at(cls, path: str, fs: FileSystem, settings: Settings) -> Patient:
        """Return the queue at a path."""
        return cls(Store(path, fs, Clock()), settings)

    # The time

    def learn_clock(self) -> OSError | None:
        """Compare our clock with the file server's; return what keeps us from it."""
        return self._time.learn()

    @property
    def clock_ahead(self) -> float:
        """By how many seconds our clock is ahead of the file server's."""
        return -self._clock.offset_ns / 1e9

    @property
    def now(self) -> float:
        """The file server's time, in seconds since 1970."""
        return self._clock.time()

    @property
    def now_ns(self) -> int:
        """The same in nanoseconds."""
        return self._clock.time_ns()

    # What is there

    def names(self, path: str) -> list[str]:
        """List a directory of the queue, in order."""
        return sorted(self._fs.listing(path))

    def status(self, path: str) -> Status | None:
        """Tell what a file or directory is, no link followed; None: it is gone."""
        return self._fs.status(path)

    @property
    def name(self) -> str:
        """The name of the queue."""
        return os.path.basename(self.path)

    def pause(self) -> Pause | None:
        """Return who paused the queue; None: nobody did."""
        if PAUSED not in self.names(self.ready):
            return None
        return read_pause(self._store)

    def put_aside(self) -> list[str]:
        """Return the directories that were moved away, since they were closed to others."""
        return self._layout.put_aside()

    def leases(self) -> list[Lease]:
        """Return the leases, first the one that expires first."""
        return self._leases.all()

    def holders(self) -> dict[str, tuple[str, int]]:
        """Return host and process of who holds a lease, by its token, as far as links tell.

        The link of a range names who claimed its lines. If they came back, and were taken
        again, its holder is another.
        """
        found = {}
        for held in known(RangeLease.parse, self.names(self.work)):
            if held.token == held.range.claim:
                with suppress(OSError):  # it is closed to us
                    target = self._fs.named_by(f"{self.work}/{held.filename}")
                    holder = parse_made_by(target)
                    if holder is not None:
                        found[held.token] = holder
        return found

    def delayed_messages(self) -> list[Delayed]:
        """Return the delayed messages, first the one that is due first."""
        found = map(Delayed.parse, self.names(self.delayed))
        return [delayed for delayed in found if delayed is not None]

    def follow_ups(self) -> list[FollowUp]:
        """Return what is to be run when the queue is done; none where nobody ever needed it."""
        if self._fs.status(self.then) is None:
            return []
        return known(FollowUp.parse, self.names(self.then))

    def foreign(self) -> list[str]:
        """Return the paths of what is no message in `work/` and `delayed/`."""
        return list(self._leftovers.foreign())

    def false_claims(self) -> list[str]:
        """Return the paths of what is no claim, and keeps the rest of a bundle waiting."""
        found = []
        for place in self._scan.places():
            bundle = place.entry
            if isinstance(bundle, Bundle):
                chain = self._bundles.chain(bundle.id, bundle.lines)
                if chain.end in chain.firsts:  # any claim ends behind its first line
                    found.append(f"{self.bundles}/{bundle.id}/{chain.end}")
        return found

    def notes_alone(self) -> list[str]:
        """Return the paths of notes without a dead letter."""
        return self._dead_letters.notes_alone()

    def ready_directories(self) -> Iterator[ReadyDirectory]:
        """Yield each directory below `ready/`, in order, after the one that it is in."""
        for priority, path, names in self._scan.everything():
            if os.path.dirname(path) == self.ready:
                kind = PRIORITY
            else:
                kind = SHELF if is_shelf(path) else BUCKET
            yield ReadyDirectory(priority, path, kind, names)

    def files(self) -> Iterator[str]:
        """Yield the paths of all files without which a message is lost, or what is known of it."""
        for directory in (os.path.dirname(self.path), self.path):
            yield f"{directory}/{SETTINGS_FILE}"
        for each in self.ready_directories():
            yield from (f"{each.path}/{name}" for name in each.names)
        for directory in (self.work, self.delayed, self.dead):
            yield from (f"{directory}/{name}" for name in self.names(directory))
        yield from map(self.lines, self.names(self.bundles))

    # What is mended

    def quarantine(self, path: str) -> None:
        """Move what is no message to the dead letters, with the reason."""
        self._dead_letters.quarantine(path)

    def set_mode(self, path: str) -> None:
        """Give a file or directory the mode that the queue asks for, where it is ours.

        A file that has another name too may be anything of ours: somebody linked it here.
        """
        status = self._fs.status(self.path)
        if status is None:
            return
        queue = stat.S_IMODE(status.mode)
        descriptor = self._fs.open_anything(path)
        try:
            found = os.fstat(descriptor)
            if stat.S_ISDIR(found.st_mode):
                os.chmod(f"/proc/self/fd/{descriptor}", queue)
            elif found.st_nlink == 1:
                mode = stat.S_IMODE(found.st_mode) | queue & 0o660
                os.chmod(f"/proc/self/fd/{descriptor}", mode)
        finally:
            os.close(descriptor)
