"""Removes all messages that are in some states."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ddmq.message import Counts
from ddmq.storage.filesystem import IMMOVABLE
from ddmq.storage.names import (
    DETACHED,
    NOTE_SUFFIX,
    Bundle,
    Delayed,
    Range,
    RangeLease,
    known,
    new_token,
    parse_detached,
    parse_ready_entry,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ddmq.storage.store import Store


def purge(store: Store, states: Collection[str]) -> Counts:
    """Remove all messages that are in these states; return how many there were.

    What we may not remove stays, and all else is removed. Then an OSError says what stayed.
    """
    kept: list[OSError] = []
    counts = [_purge(store, s, kept) if s in states else 0 for s in Counts._fields]
    if kept:
        others = f" and {len(kept) - 1} more stay" if len(kept) > 1 else " stays"
        text = f"{kept[0].strerror}: this{others}, all else was removed"
        raise OSError(kept[0].errno, text, kept[0].filename)
    return Counts(*counts)


def _purge(store: Store, state: str, kept: list[OSError]) -> int:
    scan, purged = store.scan, 0
    if state == "waiting":
        store.ready.forget()
        for priority, bucket in scan.buckets():
            for name in scan.listed(bucket):
                path, entry = f"{bucket}/{name}", parse_ready_entry(priority, name)
                with _keeping(kept):
                    if isinstance(entry, Bundle):
                        rest = store.bundles.claim_rest(path, entry)
                        purged += rest.stamps if rest else 0
                    elif isinstance(entry, Range):
                        purged += _purge_range(
                            store, path, RangeLease(entry, 0, new_token())
                        )
                    else:
                        purged += _purge_file(store, path)
        return purged
    layout = store.layout
    places = {"work": layout.work, "delayed": layout.delayed, "dead": layout.dead}
    directory = places[state]
    names = scan.listed(directory)
    ranges = known(RangeLease.parse, names)
    detached = {r.detached(line) for r in ranges for line in r.range.lines(DETACHED)}
    for name in names:
        if parse_detached(name) and name not in detached:
            continue  # its range does not say that this is a message
        path, held = f"{directory}/{name}", RangeLease.parse(name)
        with _keeping(kept):
            if held is None:
                purged += _purge_file(store, path)
            elif store.bundles.was_made(held):
                # With the holder's own token, he would take the end of the claim for his.
                ours = held._replace(token=new_token())
                purged += _purge_range(store, path, ours)
    return purged


@contextmanager
def _keeping(kept: list[OSError]) -> Iterator[None]:
    """Note an error that says that we may not remove something, and go on."""
    try:
        yield
    except OSError as error:
        if error.errno not in IMMOVABLE:
            raise
        kept.append(error)


def _purge_range(store: Store, path: str, found: RangeLease) -> int:
    """Remove what is left of a range: its claim is over. The bundle is removed after all claims.

    Files of detached lines are removed by themselves, since they are in `work/`, too.
    """
    if not store.fs.take(path, store.bundles.path_when_over(found)):
        return 0
    store.bundles.note_end_of_claim(found.range.bundle)
    return found.range.waiting


def _purge_file(store: Store, path: str) -> int:
    found, name = store.fs.status(path), os.path.basename(path)
    if found is None or found.is_directory:
        return 0
    if not store.fs.unlink(path) or name.endswith(NOTE_SUFFIX):
        return 0
    delayed = Delayed.parse(name)
    if delayed is None:
        return 1
    if isinstance(delayed.entry, Bundle):  # nobody has taken anything of it
        store.bundles.remove(store.layout.bundle(delayed.entry.id))
    return delayed.entry.waiting
