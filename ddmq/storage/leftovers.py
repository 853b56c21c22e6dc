"""What dead clients left behind in one queue, and what is no message of ddmq at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddmq.storage.delayed import Delayed
from ddmq.storage.layout import ABANDONED, ABANDONED_INPUT
from ddmq.storage.names import LINES, Lease, new_id, parse_directory
from ddmq.storage.range_names import RangeLease, parse_detached

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ddmq.storage.census import Census
    from ddmq.storage.dead_letters import DeadLetters
    from ddmq.storage.filesystem import FileSystem, Status
    from ddmq.storage.layout import Layout, ServerTime


class Leftovers:
    """Finds and removes what nobody needs any more."""

    def __init__(
        self,
        layout: Layout,
        fs: FileSystem,
        time: ServerTime,
        *,
        census: Census,
        dead_letters: DeadLetters,
    ) -> None:
        self._layout = layout
        self._fs = fs
        self._time = time
        self._census = census
        self._dead_letters = dead_letters

    def all(self) -> list[str]:
        """Return the paths of what dead clients may have left behind.

        These are drafts in `tmp/`, notes without a dead letter, detached files of which no range
        tells, bundles without messages, and ranges that have been over for a day and whose bundle
        does not exist. Until then, a bundle that somebody moved away can be put back.
        """
        tmp = self._layout.tmp
        drafts = [f"{tmp}/{name}" for name in self._fs.listing(tmp)]
        before = self._time.now_ms() - ABANDONED_INPUT * 1000
        stray = self._census.strays(before)
        return drafts + self._dead_letters.notes_alone() + stray

    def remove_if_abandoned(self, path: str, now_ns: int) -> bool:
        """Remove a leftover that was too old for a live writer at `now_ns`, before the listing."""
        found = self._fs.status(path)
        if found is None or found.age(now_ns) <= abandoned_after(found):
            return False
        if found.is_directory:
            return self.remove_drafts(path)
        return self._fs.unlink(path)

    def remove_drafts(self, directory: str) -> bool:
        """Remove a directory of bundles, after renaming it so that a slow publisher can't use it.

        It may be a bucket already, although its publisher got an error, or no reply yet. A client
        that has cached the old name would then empty the bucket. So if the rename finds nothing,
        nothing is removed.
        """
        ours = f"{self._layout.tmp}/{new_id()}"
        return self._fs.rename(directory, ours) and self._fs.remove_tree(
            ours, first=LINES
        )

    def tidy(self, bucket: tuple[int, str]) -> None:
        """Quarantine what only has the name of a bucket."""
        try:
            self._fs.listing(bucket[1])
        except NotADirectoryError:
            self._dead_letters.quarantine(bucket[1])
        except (FileNotFoundError, PermissionError):
            return

    def foreign(self) -> Iterator[str]:
        """Yield the paths of what does not belong in `work/`, `delayed/` or `bundles/`."""
        work, delayed = self._layout.work, self._layout.delayed
        for name in self._fs.listing(work):
            lease = Lease.parse(name)
            is_message = lease and not lease.is_line  # no file is a line's lease
            if (
                not is_message
                and not RangeLease.parse(name)
                and not parse_detached(name)
            ):
                yield f"{work}/{name}"
        for name in self._fs.listing(self._layout.bundles):
            path = f"{self._layout.bundles}/{name}"
            if parse_directory(name) is not None:
                found = self._fs.status(path)
                if found is None or found.is_directory:
                    continue  # one that is gone was removed since, as its messages were done
            yield path
        for name in self._fs.listing(delayed):
            if Delayed.parse(name) is None:
                yield f"{delayed}/{name}"


def abandoned_after(found: Status) -> int:
    """Return the age in seconds from which on a leftover's writer must be dead."""
    return ABANDONED_INPUT if found.is_directory else ABANDONED
