"""Removes all messages that are in some states."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ddmq.seen import Counts
from ddmq.storage.delayed import Delayed
from ddmq.storage.filesystem import IMMOVABLE
from ddmq.storage.names import NOTE_SUFFIX, Bundle, known, new_token, parse_ready_entry
from ddmq.storage.range_names import (
    LEFT,
    OVER,
    Range,
    RangeLease,
    parse_detached,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ddmq.storage.store import Store


def purge(store: Store, states: Collection[str]) -> Counts:
    """Remove all messages that are in these states; return how many there were.

    What we may not remove stays, and all else is removed. Then an OSError says what stayed.
    """
    layout, purging = store.layout, _Purge(store)
    removed = dict.fromkeys(Counts._fields, 0)
    if "waiting" in states:
        removed["waiting"] = purging.waiting()
    for state, directory in (
        ("work", layout.work),
        ("delayed", layout.delayed),
        ("dead", layout.dead),
    ):
        if state in states:
            removed[state] = purging.all_in(directory)
    purging.empty_bundles()
    kept = purging.kept
    if kept:
        others = f" and {len(kept) - 1} more stay" if len(kept) > 1 else " stays"
        text = f"{kept[0].strerror}: this{others}, all else was removed"
        raise OSError(kept[0].errno, text, kept[0].filename)
    return Counts(**removed)


class _Purge:
    """Removes messages, each of its methods those of one directory; it returns their number."""

    def __init__(self, store: Store) -> None:
        self.kept: list[OSError] = []
        """The errors that say why something stays."""
        self._fs = store.fs
        self._scan = store.scan
        self._ready = store.ready
        self._bundles = store.bundles
        self._work = store.layout.work

    def waiting(self) -> int:
        """Remove what waits."""
        purged = 0
        self._ready.forget()
        for priority, bucket in self._scan.buckets():
            for name in self._scan.listed(bucket):
                path, entry = f"{bucket}/{name}", parse_ready_entry(priority, name)
                with self._keeping():
                    if isinstance(entry, Bundle):
                        rest = self._bundles.claim_rest(path, entry)
                        purged += rest.stamps if rest else 0
                    elif isinstance(entry, Range):
                        purged += self._range(path, RangeLease(entry, 0, new_token()))
                    else:
                        purged += self._file(path)
        return purged

    def all_in(self, directory: str) -> int:
        """Remove what is at work, delayed or dead."""
        purged = 0
        names = self._scan.listed(directory)
        ranges = known(RangeLease.parse, names)
        lines = {r.detached(line) for r in ranges for line in r.range.leaving()}
        for name in names:
            if parse_detached(name) and name not in lines:
                continue  # its range does not say that this is a message
            path, held = f"{directory}/{name}", RangeLease.parse(name)
            with self._keeping():
                if held is None:
                    purged += self._file(path)
                elif self._bundles.was_made(held):
                    # With the holder's own token, he would take the end of the claim for his.
                    purged += self._range(path, held._replace(token=new_token()))
        return purged

    def empty_bundles(self) -> None:
        """Remove the bundles of which nothing is left, so that their space is free at once.

        What can't be removed is left to the housekeeping.
        """
        with suppress(OSError):
            for id_ in self._bundles.seem_finished(self._fs.listing(self._work)):
                self._bundles.remove_if_finished(id_)

    @contextmanager
    def _keeping(self) -> Iterator[None]:
        """Note an error that says that we may not remove something, and go on."""
        try:
            yield
        except OSError as error:
            if error.errno not in IMMOVABLE:
                raise
            self.kept.append(error)

    def _range(self, path: str, found: RangeLease) -> int:
        """Remove what is left of a range: its claim is over. The bundle goes after all claims.

        Files of detached lines are removed by themselves, since they are in `work/`, too.
        """
        over = found.marked(found.range.lines(), OVER)
        over = over.marked(found.range.leaving(), LEFT)
        return found.range.waiting if self._bundles.end_claim(path, over) else 0

    def _file(self, path: str) -> int:
        found, name = self._fs.status(path), os.path.basename(path)
        if found is None or found.is_directory:
            return 0
        if not self._fs.unlink(path) or name.endswith(NOTE_SUFFIX):
            return 0
        delayed = Delayed.parse(name)
        if delayed is None:
            return 1
        if isinstance(delayed.entry, Bundle):  # nobody has taken anything of it
            self._bundles.remove(delayed.entry.id)
        return delayed.entry.waiting
