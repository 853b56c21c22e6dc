"""Moves messages that wait or are delayed to another queue of the root.

A message in a file of its own is moved by one rename, from where it stands to where it goes. So
it is in one queue or the other, also after a crash, and a consumer that is faster has it.

The line of a bundle is taken as a consumer takes it. The lines before it are claimed, too, since
claims are a chain, and put back to their old places at once, where nothing is counted. A crash
meanwhile leaves up to 56 lines leased for a minute.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ddmq.message import InvalidContent
from ddmq.storage.contents import Contents, open_entries
from ddmq.storage.delayed import Delayed
from ddmq.storage.directories import NO_DESCRIPTOR
from ddmq.storage.names import MAX_RANGE, Bundle, Entry, Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ddmq.storage.range_names import Range, RangeLease
    from ddmq.storage.store import Store

#: Seconds for which the lines are leased that are moved, or that stand before one.
_HELD_FOR = 60.0
#: These errors concern a whole file system, or this process, and no single message.
_OF_ALL = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, *NO_DESCRIPTOR)
#: How often all is looked through, as messages may change their state meanwhile.
_LOOKS = 3
_CANCELLED = "cancelled: it becomes a dead letter when its turn comes"


class Transfer:
    """Moves some messages from one queue to another."""

    def __init__(self, source: Store, target: Store, ids: Iterable[str]) -> None:
        self._source = source
        self._fs = source.fs
        self._time = source.time
        self._scan = source.scan
        self._bundles = source.bundles
        self._leases = source.leases
        self._ready = source.ready
        self._delayed = source.delayed
        self._layouts = source.layout, target.layout
        self._target_ready = target.ready
        self._target_delayed = target.delayed
        self._left = dict.fromkeys(ids)
        self._faults: dict[str, str] = {}

    def move(self) -> dict[str, str]:
        """Move what can be moved; return the ids of all others, each with the reason.

        PermissionError: we may not change one of the queues. Another OSError: a disk is full, say,
        so that no message can be moved.
        """
        asked = list(self._left)
        for layout in self._layouts:
            layout.require_change()
        self._leave_cancelled()
        for _ in range(_LOOKS):
            for place in self._scan.places():
                if not self._left:
                    break
                left = frozenset(self._left)
                wanted = list(open_entries(self._bundles, place.entry, left))
                if wanted:
                    self._move_from(place, wanted)
            for delayed in self._delayed.all():
                self._move_delayed(delayed)
            if not self._left:
                break
        self._ready.forget()
        for id_ in self._left:
            self._faults[id_] = self._why_not(id_)
        return {id_: self._faults[id_] for id_ in asked if id_ in self._faults}

    def _leave_cancelled(self) -> None:
        """Give up what is cancelled, since its mark would be left behind."""
        for id_ in self._source.cancelled.ids_if_any().intersection(self._left):
            self._left.pop(id_)
            self._faults[id_] = _CANCELLED

    def _move_from(self, place: Waiting, wanted: list[Entry]) -> None:
        """Move what is wanted of what waits at a place."""
        entry = place.entry
        try:
            if isinstance(entry, Entry):
                self._move_file(place.path, entry)
            elif isinstance(entry, Bundle):
                self._move_out_of(place, entry, wanted)
            else:
                self._move_in_range(place.path, entry)
        except InvalidContent as error:
            self._give_up(wanted, f"it holds no message: {error}")
        except OSError as error:
            self._give_up_for(wanted, error)

    def _move_file(self, path: str, entry: Entry) -> None:
        """Move a message in a file of its own; a consumer may be faster."""
        self._require_file(path)
        if self._target_ready.append(path, entry):
            self._left.pop(entry.id, None)

    def _move_out_of(self, place: Waiting, bundle: Bundle, wanted: list[Entry]) -> None:
        """Claim the lines of a bundle up to the last one that is wanted; put the others back."""
        last = int(wanted[-1].id.rpartition("-")[2])  # its line
        while (first := self._bundles.chain(bundle.id, bundle.lines).end) <= last:
            number = min(last + 1 - first, MAX_RANGE)
            claimed = self._bundles.claim(place, bundle, _HELD_FOR, number)
            if claimed is None:
                return  # competitors were faster, and the next look tells what is left
            held, place = claimed
            bundle = bundle._replace(is_open=True)
            self._move_lines(held)

    def _move_in_range(self, path: str, waiting: Range) -> None:
        """Take a range that waits, move what is wanted of it, and put the rest back."""
        self._bundles.find(waiting.bundle)
        expiry = self._time.end_of_lease(_HELD_FOR)
        held = self._leases.ranges.take(path, waiting, expiry)
        if held is not None:
            self._move_lines(held)

    def _move_lines(self, held: RangeLease) -> None:
        """Move what is wanted of the lines that we hold, and put the rest back."""
        try:
            self._leave_cancelled()  # what was cancelled before we took it
            for lease in held.leases():
                id_ = lease.entry.id
                if id_ not in self._left:
                    continue
                try:
                    self._bundles.content(lease)
                except InvalidContent as error:
                    self._give_up([lease.entry], f"it holds no message: {error}")
                    continue
                if self._leases.move(lease, lease.entry, self._target_ready):
                    self._left.pop(id_, None)
        finally:
            self._leases.ranges.put_rest(held.token, self._ready.put_back)

    def _move_delayed(self, delayed: Delayed) -> None:
        """Move a delayed message; it stays delayed until the same time."""
        entry = delayed.entry
        if not isinstance(entry, Entry) or entry.id not in self._left:
            return
        path = f"{self._delayed.path}/{delayed.filename}"
        try:
            self._require_file(path)
            target = f"{self._target_delayed.path}/{delayed.filename}"
            if self._fs.rename(path, target):
                self._left.pop(entry.id, None)
        except InvalidContent as error:
            self._give_up([entry], f"it holds no message: {error}")
        except OSError as error:
            self._give_up_for([entry], error)

    def _require_file(self, path: str) -> None:
        """Raise InvalidContent for what can be no message; whoever consumes it quarantines it."""
        found = self._fs.status(path)
        if found is not None and not found.is_file:
            raise InvalidContent("a link, a directory or a special file")

    def _give_up_for(self, entries: Iterable[Entry], error: OSError) -> None:
        """Leave messages where they are for an error, unless it concerns all others as well."""
        if error.errno in _OF_ALL:
            raise error
        self._give_up(entries, error.strerror or str(error))

    def _give_up(self, entries: Iterable[Entry], why: str) -> None:
        for entry in entries:
            if entry.id in self._left:
                self._left.pop(entry.id)
                self._faults[entry.id] = why

    def _why_not(self, id_: str) -> str:
        """Say why a message was not found among those that can be moved, and what to do."""
        found = Contents(self._source).find(id_)
        if found is None:
            return "no message of this queue, or not any more"
        return {
            "waiting": "consumers were faster each time; try again",
            "work": "at work; `ddmq release` gives it back, if its consumer is gone",
            "delayed": "delayed in a bundle with others, and can be moved when that is due",
            "dead": "a dead letter; `ddmq redrive` puts it back in line, then it can be moved",
        }[found.state]
