"""Tells in one word each where messages are, or what became of them.

All is told by names; no message is read. The queue comes first, and then the journals, where a
worker writes that it is acking a message before it acks it. So what is in the queue is never called
acked, and what a worker acked is found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddmq.storage.contents import open_entries
from ddmq.storage.layout import JOURNAL_BYTES, JOURNAL_LINE, JOURNAL_SUFFIX
from ddmq.storage.names import Lease, known, parse_ready_entry
from ddmq.storage.range_names import RangeLease

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ddmq.storage.store import Store

STATUSES = ("waiting", "work", "delayed", "acked", "dead", "unknown")
#: How each line of a journal begins.
_LINE_BEGINS = b'{"id": "'
#: How one begins that names a run which was acked.
_ACKED_BEGINS = b'{"acked": ["'
#: How often the journals are read anew, where somebody merges them meanwhile.
_READINGS = 5


def statuses(store: Store, ids: Iterable[str]) -> dict[str, str]:
    """Return for each id `waiting`, `work`, `delayed`, `acked`, `dead` or `unknown`.

    What moves from one directory to another while these are listed is looked for again. What was
    acked by no worker is unknown, as is what was purged or moved.
    """
    asked = list(dict.fromkeys(ids))
    found: dict[str, str] = {}

    def look() -> tuple[list[str], frozenset[str]] | None:
        """List all directories; return them, and the ids that are in none. None: there are none."""
        directories, seen = _look(store, frozenset(asked).difference(found))
        found.update(seen)
        missing = frozenset(asked).difference(found)
        return (directories, missing) if missing else None

    missed = look()
    if missed is not None:
        # A worker that died, or was refused, between journal and ack left what it held at work,
        # where it stays until its lease is over. So one more look finds it.
        acked = acked_by_workers(store, missed[1])
        if look() is not None:
            found.update((id_, "acked") for id_ in acked if id_ not in found)
    if len(found) < len(asked):
        # All others must be nowhere at one instant, as far as the queue is ever still.
        store.census.at_one_instant(look)
        left = frozenset(asked).difference(found)
        found.update((id_, "acked") for id_ in acked_by_workers(store, left))
    return {id_: found.get(id_, "unknown") for id_ in asked}


def gone(store: Store, ids: Iterable[str]) -> frozenset[str]:
    """Return which of these ids neither wait, nor are at work or delayed, for all that we can tell.

    One that was seen once is not looked for again. So where all are there, one look is enough.
    Where the queue is never still, those count as gone that ten looks did not show: the marks of
    others would else stay for as long as it is busy, and cost each claim a call.
    """
    wanted = set(ids)

    def look() -> tuple[list[str], frozenset[str]] | None:
        directories, seen = _look(store, frozenset(wanted))
        wanted.difference_update(x for x, state in seen.items() if state != "dead")
        return (directories, frozenset(wanted)) if wanted else None

    store.census.at_one_instant(look)
    return frozenset(wanted)


def _look(store: Store, wanted: frozenset[str]) -> tuple[list[str], dict[str, str]]:
    """List all directories; return them, and the states of those that are seen there.

    PermissionError: one of them is closed to us, so nobody can say what is not there.
    """
    layout, bundles, found = store.layout, store.bundles, {}
    directories = [layout.work, layout.delayed, layout.dead, layout.ready]
    names = frozenset(store.fs.listing(layout.work))
    for lease in known(Lease.parse, names):
        if lease.entry.id in wanted and not lease.is_line:
            found[lease.entry.id] = "work"
    for held in known(RangeLease.parse, names):
        range_ = held.range
        lines = [n for n in range_.leaving() if held.detached(n) in names]
        lines += range_.lines()
        ours = wanted.intersection(f"{range_.bundle}-{line}" for line in lines)
        if ours:
            directories.append(layout.bundle(range_.bundle))
            if bundles.was_made(held):
                found.update(dict.fromkeys(ours, "work"))
    entries = []
    for priority, path, inside in store.scan.everything():
        directories.append(path)
        entries += [("waiting", parse_ready_entry(priority, name)) for name in inside]
    entries += [("delayed", each.entry) for each in store.delayed.all()]
    for state, entry in entries:
        if entry is not None:
            for each in open_entries(bundles, entry, wanted):
                found[each.id] = state
    for dead in store.dead_letters.all():
        if dead.entry.id in wanted:
            found[dead.entry.id] = "dead"
    return directories, found


def acked_by_workers(store: Store, wanted: frozenset[str]) -> set[str]:
    """Return which of these ids the journals of the queue call acked.

    A run that a worker was about to ack did so, unless they say otherwise of it, or tell of a
    later run of the same message.
    """
    runs: dict[str, dict[float, set[str]]] = {}
    for _ in range(_READINGS if wanted else 0):
        if _read_journals(store, wanted, runs):
            break
    return {id_ for id_, said in runs.items() if _is_acked(said)}


def _is_acked(runs: dict[float, set[str]]) -> bool:
    """Tell whether one of the runs of a message, by when they began, was acked."""
    if {"acked"} in runs.values() or {"acking", "acked"} in runs.values():
        return True
    return runs[max(runs)] == {"acking"}


def _read_journals(
    store: Store, wanted: frozenset[str], runs: dict[str, dict[float, set[str]]]
) -> bool:
    """Note what the journals say of each run for some messages; False: one is gone meanwhile.

    Then it was merged with others, into one that we have not seen.
    """
    directory, passed, is_whole = store.layout.journal, store.passed, True
    try:
        names = store.fs.listing(directory)
    except (FileNotFoundError, NotADirectoryError):
        return True
    for name in names:
        if not name.endswith(JOURNAL_SUFFIX):
            continue
        try:
            data = store.fs.read(f"{directory}/{name}", JOURNAL_BYTES)
        except FileNotFoundError:
            is_whole = False
            continue
        except OSError as error:
            passed.tell(f"{directory}/{name}", "can't be read", error)
            continue
        for line in data.split(b"\n"):
            for begins in (_LINE_BEGINS, _ACKED_BEGINS):
                if line.startswith(begins) and len(line) < JOURNAL_LINE:
                    id_ = (
                        line[len(begins) :].partition(b'"')[0].decode(errors="replace")
                    )
                    if id_ in wanted:
                        _note_run(id_, line, runs)
    return is_whole


def _note_run(id_: str, line: bytes, runs: dict[str, dict[float, set[str]]]) -> None:
    """Note what a line of a journal says of a run; whoever may write there may write anything."""
    from ddmq.untrusted import parsed  # rarely needed

    try:
        said = parsed(line)
        is_usual = line.startswith(_LINE_BEGINS)
        start, result = (
            (said["start"], said["result"]) if is_usual else (said["acked"][1], "acked")
        )
        begun = float(start)
    except (ValueError, KeyError, TypeError, IndexError, OverflowError):
        return
    runs.setdefault(id_, {}).setdefault(begun, set()).add(str(result))
