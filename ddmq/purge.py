"""Removes all messages that are in one state."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ddmq.names import DRAFT_SUFFIX, NOTE_SUFFIX, Bundle, Delayed, Spent

if TYPE_CHECKING:
    from ddmq.store import Store


def purge(store: Store, state: str) -> int:
    """Remove all messages that are in a state of `Counts`; return how many they were."""
    places = {"work": store.work, "delayed": store.delayed, "dead": store.letters.path}
    if state == "waiting":
        store.line.forget()
        return sum(_purge_bucket(store, *bucket) for bucket in store.buckets.all())
    if state == "work":
        store.complete_all()
    directory = places[state]
    names = store.buckets.listed(directory)
    return sum(
        _purge_file(store, f"{directory}/{name}")
        for name in names
        if not name.endswith(DRAFT_SUFFIX)  # of a claim that is being made
    )


def _purge_bucket(store: Store, priority: int, bucket: str) -> int:
    """Remove what waits; what is taken already still needs its bundle."""
    purged = 0
    for name in store.buckets.listed(bucket):
        path, bundle = f"{bucket}/{name}", Bundle.parse(priority, name)
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
