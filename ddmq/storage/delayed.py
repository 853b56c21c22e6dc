"""The directory `delayed/` of one queue: messages and bundles that are not visible yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ddmq.storage.names import NUMBER, Grammar, known, parse_ready_entry

if TYPE_CHECKING:
    from ddmq.storage.filesystem import FileSystem
    from ddmq.storage.layout import Layout, ServerTime
    from ddmq.storage.names import ReadyEntry
    from ddmq.storage.ready import ReadyQueue


_delayed = Grammar(rf"([0-9]{{13}})\.{NUMBER}\.(.+)")


class Delayed(NamedTuple):
    """A message or a bundle in `delayed/`, which is not visible before `due`."""

    entry: ReadyEntry
    due: int
    """Milliseconds since 1970."""

    @property
    def filename(self) -> str:
        """The name in `delayed/`."""
        return f"{self.due:013d}.{self.entry.priority}.{self.entry.filename}"

    @classmethod
    def parse(cls, filename: str) -> Delayed | None:
        """Read a name found in `delayed/`."""
        match = _delayed.fullmatch(filename)
        if match is None:
            return None
        due, priority, place = match.groups()
        entry = parse_ready_entry(int(priority), place)
        return None if entry is None else cls(entry, int(due))


class DelayedMessages:
    """The messages and bundles in `delayed/`. The name of each tells when it is due."""

    def __init__(
        self, layout: Layout, fs: FileSystem, time: ServerTime, ready: ReadyQueue
    ) -> None:
        self.path = layout.delayed
        self._fs = fs
        self._time = time
        self._ready = ready

    def postpone(self, source: str, entry: ReadyEntry, delay: float) -> bool:
        """Move the file `source` here for `delay` seconds; False when it is gone."""
        self._time.is_known()  # compare the clocks if we can: ours may have been set
        delayed = Delayed(entry, self._time.in_ms(delay))
        return self._fs.rename(source, f"{self.path}/{delayed.filename}")

    def sync(self) -> None:
        """Put the names in `delayed/` on stable storage."""
        self._fs.sync_directory(self.path)

    def all(self) -> list[Delayed]:
        """Return the delayed messages and bundles."""
        return known(Delayed.parse, self._fs.listing(self.path))

    def make_due(self, delayed: Delayed) -> int:
        """Move a message or bundle to the end of the ready queue; return how many messages came."""
        path = f"{self.path}/{delayed.filename}"
        return delayed.entry.waiting if self._ready.append(path, delayed.entry) else 0
