"""What is strange in a queue: garbage, leftovers, odd dead letters, lost bundles, a pause."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ddmq.diagnose.finding import NOTE, Finding, counted, listed, wrong
from ddmq.diagnose.patient import BUCKET, PRIORITY, SHELF
from ddmq.diagnose.symptoms.times import LATE
from ddmq.printable import quoted
from ddmq.storage.dead_letters import Dead
from ddmq.storage.drop import SETTLED
from ddmq.storage.leftovers import abandoned_after
from ddmq.storage.names import (
    CANCELLED,
    NOTE_SUFFIX,
    PAUSED,
    Bundle,
    are_buckets,
    are_in_priority,
    parse_directory,
    parse_priority,
    parse_ready_entry,
)
from ddmq.storage.range_names import RangeLease

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ddmq.diagnose.patient import Patient


def lost_bundles(patient: Patient) -> Iterator[Finding]:
    """Look for leases that are over, of messages whose bundle is nowhere.

    All is looked at twice: one listing may miss a name.
    """
    late = (patient.now - LATE) * 1000
    lost = {}
    for name in patient.names(patient.work):
        held = RangeLease.parse(name)
        if held is not None and held.expiry < late:
            lost[name] = held.range.bundle
    for _ in range(2):
        if not lost:
            return
        ids = filter(None, map(parse_directory, patient.names(patient.bundles)))
        known = {id_ for id_ in ids if patient.status(patient.lines(id_))}
        for each in patient.ready_directories():
            entries = (parse_ready_entry(each.priority, name) for name in each.names)
            known |= {entry.id for entry in entries if isinstance(entry, Bundle)}
        lost = {name: bundle for name, bundle in lost.items() if bundle not in known}
    if lost:
        bundles = ", ".join(sorted(set(lost.values()))[:3])
        number = counted(len(lost), "lease")
        text = (
            f"{number} over, and the bundle with the message can't be found: {bundles}"
        )
        remedy = (
            "was it moved, or is it in a directory that we may not list? "
            "put it back, or remove these leases: their messages are gone with it"
        )
        paths = [f"{patient.work}/{name}" for name in lost]
        yield wrong("lost bundles", text, remedy, paths=paths)


def false_claims(patient: Patient) -> Iterator[Finding]:
    """Look for what keeps messages waiting, since it is where they are claimed, and no claim.

    All is looked at twice: one listing may miss the mark of a claim that is over.
    """
    found = patient.false_claims()
    if found:
        again = set(patient.false_claims())
        found = [path for path in found if path in again]
    if found:
        text = f"{listed(found)}: no claim of ddmq, and keeps its bundle waiting"
        yield wrong("false claims", text, "remove it", paths=found)


def paused(patient: Patient) -> Iterator[Finding]:
    """Say that somebody paused the queue."""
    found = patient.pause()
    if found is not None:
        text = f"{found}: workers finish what they hold, and take no more"
        remedy = f"to go on: ddmq resume … {quoted(patient.name)}"
        yield Finding("paused", NOTE, text, remedy, found._asdict())


def put_aside(patient: Patient) -> Iterator[Finding]:
    """Name what was moved away, since it was closed, and may hold messages that can come back."""
    found = patient.put_aside()
    if found:
        text = f"{listed(found)}: moved away by `--fix`, as it was closed; messages may be in it"
        remedy = (
            "let its owner move what is in it back to where it was, or remove it; until then "
            "no leftover of a bundle is removed"
        )
        figures = {"number": len(found)}
        yield Finding("put aside", NOTE, text, remedy, figures, paths=tuple(found))


def garbage(patient: Patient) -> Iterator[Finding]:
    """Look for what is no message where messages are."""
    found = patient.foreign()
    for name in patient.names(patient.ready):
        if parse_priority(name) is None and name not in (PAUSED, CANCELLED):
            found.append(f"{patient.ready}/{name}")
    for each in patient.ready_directories():
        if each.kind == BUCKET:
            names = [n for n in each.names if not parse_ready_entry(each.priority, n)]
        else:
            belong = are_buckets if each.kind == SHELF else are_in_priority
            names = [n for n in patient.names(each.path) if not belong([n])]
        found += [f"{each.path}/{name}" for name in names]
    if found:
        text, remedy = (
            f"{listed(found)}: no message",
            "moves it to dead/, with the reason",
        )
        yield wrong("garbage", text, remedy, fix="quarantine", paths=found)


def odd_dead_letters(patient: Patient) -> Iterator[Finding]:
    """Look for what is no dead letter among the dead letters."""
    odd = []
    for name in patient.names(patient.dead):
        path = f"{patient.dead}/{name}"
        is_letter = Dead.parse(name) is not None and not os.path.isdir(path)
        if not is_letter and not name.endswith(NOTE_SUFFIX):
            odd.append(path)
    if odd:
        text = f"{listed(odd)}: among the dead letters, and no message"
        yield wrong("dead", text, "move it away, or remove it", paths=odd)


def leftovers(patient: Patient) -> Iterator[Finding]:
    """Look for files of writers that died: drafts, and notes without a dead letter."""
    now_ns = patient.now_ns  # before the listings, which may take long
    drafts = [f"{patient.tmp}/{name}" for name in patient.names(patient.tmp)]
    old = []
    for path in drafts + patient.notes_alone():
        found = patient.status(path)
        if found is not None and found.age(now_ns) > abandoned_after(found):
            old.append(path)
    if old:
        text = f"{listed(old)}: left by a writer that died over an hour ago"
        yield wrong("leftovers", text, "removes them", fix="clean", paths=old)


def empty_buckets(patient: Patient) -> Iterator[Finding]:
    """Look for buckets in which nothing waits, but for the newest one of each priority.

    The same goes for shelves on which no bucket is.
    """
    empty = []
    newest_bucket, newest_of_all = {}, {}
    for each in patient.ready_directories():
        if each.kind == PRIORITY:
            continue
        if each.kind == BUCKET:
            newest_bucket[each.priority] = each.path
            names = each.names
        else:
            names = patient.names(each.path)
        newest_of_all[each.priority] = each.path
        if not names and os.access(each.path, os.R_OK):
            empty.append(each.path)
    kept = {*newest_bucket.values(), *newest_of_all.values()}
    empty = [path for path in empty if path not in kept]
    if empty:
        text = f"{listed(empty)}: empty, and not the newest"
        yield wrong("buckets", text, "removes them", fix="clean", paths=empty)


def undropped(patient: Patient) -> Iterator[Finding]:
    """Look for dropped files that nobody has taken."""
    now_ns = patient.now_ns  # before the listing, which may take long
    old = []
    for name in patient.names(patient.drop):
        found = patient.status(path := f"{patient.drop}/{name}")
        if found is not None and found.age(now_ns) > SETTLED + LATE:
            old.append(path)
    if old:
        text = f"{listed(old)}: dropped, and not taken: nobody keeps house"
        yield wrong("drop", text, "makes messages of them", fix="clean", paths=old)
