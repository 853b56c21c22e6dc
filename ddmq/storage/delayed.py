"""The directory `delayed/` of one queue: messages and bundles that are not visible yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddmq.storage.names import Delayed, known

if TYPE_CHECKING:
    from ddmq.storage.filesystem import FileSystem
    from ddmq.storage.layout import Layout, ServerTime
    from ddmq.storage.names import ReadyEntry
    from ddmq.storage.ready import ReadyQueue


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
