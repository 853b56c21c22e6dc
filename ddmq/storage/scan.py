"""Lists what is below `ready/`, and changes nothing.

Counting, housekeeping, diagnosis and the search for evidence list the buckets this way. They also
see what this client passes over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ddmq.storage.names import (
    PAUSED,
    Waiting,
    is_shelf,
    parse_priority,
    parse_ready_entry,
    split,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ddmq.storage.buckets import PassedOver
    from ddmq.storage.filesystem import FileSystem


class Filled(NamedTuple):
    """A directory below `ready/`, and the names in it. Only a bucket holds messages."""

    priority: int
    path: str
    names: list[str]


class Scan:
    """Lists the directories below `ready/` of one queue."""

    def __init__(self, path: str, fs: FileSystem, passed: PassedOver) -> None:
        self.path = path
        self.is_paused = False
        """Whether the last listing of `ready/` showed that somebody paused the queue."""
        self._fs = fs
        self._passed = passed

    def listed(self, path: str) -> list[str]:
        """Return all names in a directory; none if it is gone, no directory, or closed to us."""
        try:
            return self._fs.listing(path)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except PermissionError as error:
            self.tell(error)
            return []

    def tell(self, error: PermissionError) -> None:
        """Warn once that a directory is closed to us, by the error that says so."""
        self._passed.tell(str(error.filename), "can't be listed", error)

    def priorities(self) -> list[int]:
        """Return the priorities that have a directory, in order."""
        names = self._fs.listing(self.path)
        self.is_paused = PAUSED in names
        found = map(parse_priority, names)
        return sorted(priority for priority in found if priority is not None)

    def buckets(self) -> Iterator[tuple[int, str]]:
        """Yield priority and path of every bucket, in order."""
        for priority in self.priorities():
            for bucket in self._below(f"{self.path}/{priority}"):
                yield priority, bucket

    def everything(self) -> Iterator[Filled]:
        """Yield each directory below `ready/`, with the names in it.

        What is gone or no directory has no names. Raises PermissionError if one is closed to us.
        """
        for priority in self.priorities():
            first = f"{self.path}/{priority}"
            directories = [first]
            while directories:
                path = directories.pop(0)
                try:
                    names = self._fs.listing(path)
                except (FileNotFoundError, NotADirectoryError):
                    names = []
                if path != first and not is_shelf(path):
                    yield Filled(priority, path, names)
                    continue
                yield Filled(priority, path, [])
                ours, _ = split(names, is_shelf_=is_shelf(path))
                directories[:0] = [f"{path}/{name}" for name in ours]

    def places(self) -> Iterator[Waiting]:
        """Yield the messages, bundles and ranges that wait, bucket by bucket, and nothing else."""
        for priority, bucket in self.buckets():
            yield from self.places_in(priority, bucket)

    def places_in(self, priority: int, bucket: str) -> Iterator[Waiting]:
        """Yield the messages, bundles and ranges that wait in one bucket, in order."""
        for name in sorted(self.listed(bucket)):
            entry = parse_ready_entry(priority, name)
            if entry is not None:
                yield Waiting(entry, f"{bucket}/{name}")

    def _below(self, directory: str) -> Iterator[str]:
        """Yield the paths of the buckets below a priority or shelf, in order.

        A shelf is listed when its turn comes.
        """
        ours, _ = split(self.listed(directory), is_shelf_=is_shelf(directory))
        for name in ours:
            if is_shelf(name):
                yield from self._below(f"{directory}/{name}")
            else:
                yield f"{directory}/{name}"
