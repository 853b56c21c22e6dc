"""Removes all messages that are in some states."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ddmq.fs import IMMOVABLE
from ddmq.names import DRAFT_SUFFIX, NOTE_SUFFIX, Bundle, Delayed, Spent
from ddmq.store import Counts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ddmq.store import Store


def purge(store: Store, states: Collection[str]) -> Counts:
    """Remove all messages that are in these states; return how many they were.

    What is not for us to remove stops nothing: it stays, and an OSError tells of it in the end.
    """
    kept: list[OSError] = []
    counts = [_purge(store, s, kept) if s in states else 0 for s in Counts._fields]
    if kept:
        others = f" and {len(kept) - 1} more stay" if len(kept) > 1 else " stays"
        text = f"{kept[0].strerror}: this{others}, all else was removed"
        raise OSError(kept[0].errno, text, kept[0].filename)
    return Counts(*counts)


def _purge(store: Store, state: str, kept: list[OSError]) -> int:
    if state == "waiting":
        store.line.forget()
        return sum(_purge_bucket(store, *b, kept) for b in store.buckets.all())
    if state == "work":
        for waiting in store.line.places():
            with _keeping(kept):
                store.complete_at(waiting)
    places = {"work": store.work, "delayed": store.delayed, "dead": store.letters.path}
    directory, purged = places[state], 0
    for name in store.buckets.listed(directory):
        if not name.endswith(DRAFT_SUFFIX):  # of a claim that is being made
            with _keeping(kept):
                purged += _purge_file(store, f"{directory}/{name}")
    return purged


@contextmanager
def _keeping(kept: list[OSError]) -> Iterator[None]:
    """Let what is not for us to remove stay, and the next one be removed all the same."""
    try:
        yield
    except OSError as error:
        if error.errno not in IMMOVABLE:
            raise
        kept.append(error)


def _purge_bucket(store: Store, priority: int, bucket: str, kept: list[OSError]) -> int:
    """Remove what waits; what is taken already still needs its bundle."""
    purged = 0
    for name in store.buckets.listed(bucket):
        path, bundle = f"{bucket}/{name}", Bundle.parse(priority, name)
        with _keeping(kept):
            if bundle is None:
                purged += _purge_file(store, path)
            else:
                purged += _purge_bundle(store, path, bundle)
    return purged


def _purge_bundle(store: Store, path: str, bundle: Bundle) -> int:
    found: tuple[str, Bundle] | None = path, bundle
    while found is not None:
        path, bundle = found
        if store.bundles.empty(path, bundle):
            return bundle.waiting
        # Somebody took some of it, and it has another name.
        found = store.line.find_bundle(bundle.priority, bundle.stamp, bundle.id)
    return 0


def _purge_file(store: Store, path: str) -> int:
    found, name = store.fs.status(path), os.path.basename(path)
    if found is None or found.is_directory or Spent.parse(name) is not None:
        return 0
    if not store.fs.unlink(path) or name.endswith(NOTE_SUFFIX):
        return 0
    delayed = Delayed.parse(name)
    return 1 if delayed is None else delayed.entry.waiting
