"""Which result belongs to which message, as the journals of the workers tell."""

from __future__ import annotations

import os
from typing import NamedTuple

from ddmq.errors import InvalidArgument, StorageError
from ddmq.hpc import journal
from ddmq.settings import show

#: What becomes of a message for good, or until it runs again. All other runs tell nothing.
_TELLING = ("acked", "failed", "dead")


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


def manifest(queue_path: str, directory: str) -> list[Row]:
    """Return a row for each message that the journals know, in the order of their runs.

    Whoever may write to the queue may write what he likes into the journals, so a file is named
    only where it is seen in the directory. StorageError: that can't be listed.
    """
    try:
        there = set(os.listdir(directory))
    except OSError as error:
        raise StorageError(error) from error
    except ValueError as error:
        raise InvalidArgument(f"{show(directory)}: {error}") from error
    counting: dict[str, journal.Run] = {}
    unsure: set[journal.Run] = set()
    for run in journal.read(queue_path, unsure.add):
        other = counting.get(run.id)
        if run.result in _TELLING and _counts_more(run, other, unsure):
            counting[run.id] = run
    return [
        _row(run, there) for run in sorted(counting.values(), key=lambda run: run.start)
    ]


def _counts_more(
    run: journal.Run, other: journal.Run | None, unsure: set[journal.Run]
) -> bool:
    """Tell whether a run says more of its message: an ack is final, whatever the clocks say.

    One that is `unsure` is not: if the message ran again, that worker died before it acked.
    """
    if other is None:
        return True
    is_acked = run.result == "acked" and run not in unsure
    if is_acked != (other.result == "acked" and other not in unsure):
        return is_acked
    return run.start > other.start


def _row(run: journal.Run, there: set[str]) -> Row:
    name = (run.output or run.id) if run.result == "acked" else ""
    exit_ = run.signal or (0 if run.exit is None else run.exit)
    return Row(
        run.text, run.id, name if name in there else "", round(run.duration, 3), exit_
    )
