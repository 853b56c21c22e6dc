"""Which result belongs to which message, as the journals of the workers tell."""

from __future__ import annotations

import os
from typing import NamedTuple

from ddmq.errors import DdmqError, InvalidArgument, StorageError, warn
from ddmq.hpc import journal
from ddmq.printable import quoted
from ddmq.settings import show
from ddmq.storage.names import parse_id

#: What becomes of a message for good, or until it runs again. All other runs tell nothing.
_TELLING = ("acked", "failed", "dead")
#: Directories that an error names.
_NAMED = 5


class Row(NamedTuple):
    """One message that ran, by the run that counts: the one that succeeded, or the last."""

    input: str
    """The text of the message, its beginning."""
    id: str
    file: str
    """The name of its result; empty where there is none in the directory now."""
    seconds: float
    """How long it ran."""
    exit: int | str
    """The exit status, or the name of the signal that ended it."""
    directory: str
    """The directory of its result; empty if its worker kept no results."""
    result: str
    """What became of it: acked, failed or dead."""


def manifest(queue_path: str, directory: str | None = None) -> list[Row]:
    """Return a row for each message that the journals know, in the order of publishing.

    A message is published when it joins the queue. Lines of one bundle are in their own order,
    whenever they ran. Another message that was lost, in a run that no journal knows, counts as
    published when it was requeued.

    Results are looked for in `directory`. Without it, they are looked for in the directories that
    the journals of this user's own workers name. DdmqError says what to do if they name none.

    Whoever may write to the queue may write what he likes into the journals, so a file is named
    only where it is seen in the directory. StorageError: that can't be listed.
    """
    there = {} if directory is None else {directory: _listed(directory)}
    counting: dict[str, tuple[journal.Run, str]] = {}
    unsure: set[journal.Run] = set()
    ours, others = set(), set()
    place = ""
    joined: dict[str, int] = {}  # by bundle, or by id

    def note(named: str, owner: int) -> None:
        nonlocal place
        if owner == os.geteuid():
            place = named
            ours.add(named)
        else:
            others.add(named)

    each = journal.read_each(queue_path, unsure=unsure.add, note_output=note)
    for _, runs in each:
        place = ""  # which a journal names before its runs, if at all
        for run in runs:
            bundle, line = _line_of(run.id)
            stamp = (run.stamp or int(run.start * 1e9)) - line
            joined[bundle] = min(stamp, joined.get(bundle, stamp))
            other, _ = counting.get(run.id, (None, ""))
            if run.result in _TELLING and _counts_more(run, other, unsure):
                counting[run.id] = run, place if directory is None else directory
    if directory is None:
        _require_named(queue_path, ours, others)
        there = {named: _listed_if_any(named) for named in ours}

    def order(row: tuple[journal.Run, str]) -> tuple[int, str]:
        bundle, line = _line_of(row[0].id)
        return joined[bundle] + line, bundle

    rows = sorted(counting.values(), key=order)
    return [_row(run, place, there.get(place, frozenset())) for run, place in rows]


def _line_of(id_: str) -> tuple[str, int]:
    """Return the bundle that a message was published in, and its line; else its id, and 0."""
    bundle, _, line = id_.rpartition("-")
    is_line = parse_id(bundle) is not None and line.isdecimal()
    return (bundle, int(line)) if is_line else (id_, 0)


def _listed(directory: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(directory))
    except OSError as error:
        raise StorageError(error) from error
    except ValueError as error:
        raise InvalidArgument(f"{show(directory)}: {error}") from error


def _listed_if_any(directory: str) -> frozenset[str]:
    """Return the names in a directory that a journal names, which may be removed by now."""
    try:
        return _listed(directory)
    except StorageError as error:
        warn(f"its results are left out: {error}")
        return frozenset()


def _require_named(queue_path: str, ours: set[str], others: set[str]) -> None:
    """Raise DdmqError if no directory is named; warn of those that other users named."""
    root, queue = os.path.split(queue_path)
    command = f"ddmq results {quoted(root)} {queue}"
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    named = ", ".join(map(quoted, sorted(others)[:_NAMED])) + more
    if ours and others:
        warn(
            f"results are left out that workers of other users keep in {named}; "
            f"`{command} DIR` lists those in one directory"
        )
    elif others:
        raise DdmqError(
            f"queue {queue}: workers of other users keep results in {named}; if one of these is "
            f"right, give it: `{command} DIR`"
        )
    elif not ours:
        raise DdmqError(
            f"queue {queue}: no worker has noted an --output-dir; give the directory of the "
            f"results: `{command} DIR`"
        )


def _counts_more(
    run: journal.Run, other: journal.Run | None, unsure: set[journal.Run]
) -> bool:
    """Tell whether a run says more of its message: an ack is final, whatever the clocks say.

    One that is `unsure` is not: if the message ran again, that worker died before it acked. Another
    journal of the same worker may tell what became of that run.
    """
    if other is None:
        return True
    is_acked = run.result == "acked" and run not in unsure
    if is_acked != (other.result == "acked" and other not in unsure):
        return is_acked
    return (run.start, run not in unsure) > (other.start, other not in unsure)


def _row(run: journal.Run, directory: str, there: frozenset[str]) -> Row:
    name = (run.output or run.id) if run.result == "acked" else ""
    exit_ = run.signal or (0 if run.exit is None else run.exit)
    file = name if name in there else ""
    seconds = round(run.duration, 3)
    return Row(run.text, run.id, file, seconds, exit_, directory, run.result)
