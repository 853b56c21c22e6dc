"""The messages of one queue, each with its text, for those who look and take none.

Nothing is changed. A message that moves on between a listing and the reading is left out where it
was. To get all of them, list what is at work or delayed first, and then what waits: a message that
moves once is not missed then.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from ddmq.message import Content, InvalidContent
from ddmq.seen import Seen, letter
from ddmq.storage.layout import BundleNotFound
from ddmq.storage.names import Bundle, Entry, Lease, known, overrides_of
from ddmq.storage.range_names import Range, RangeLease, parse_made_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ddmq.storage.bundles import Bundles
    from ddmq.storage.names import ReadyEntry
    from ddmq.storage.store import Store

#: How often we look for a message that may move from one state to another meanwhile.
_LOOKS = 2
#: How often we look for a lease that is renewed at the same time.
_RENEWALS = 8


class Beginnings(frozenset[str]):
    """Beginnings of ids, in place of the ids that a client looks for: it has all such ids."""

    def __contains__(self, id_: object) -> bool:
        return str(id_).startswith(tuple(self))


class Contents:
    """Reads the messages of one queue.

    Each method yields all of one state, or only those with the ids in `wanted`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue = os.path.basename(store.path)
        self._fs = store.fs
        self._files = store.files
        self._work = store.layout.work
        self._scan = store.scan
        self._bundles = store.bundles
        self._leases = store.leases
        self._delayed = store.delayed

    def find(self, id_: str) -> Seen | None:
        """Return one message, wherever it is; None: it is in no state."""
        wanted = frozenset([id_])
        for _ in range(_LOOKS):
            for look in (self.leased, self.waiting, self.delayed, self.dead):
                for found in look(wanted):
                    return found
        return None

    def everything(
        self, *, work: bool, wanted: frozenset[str] | None = None
    ) -> Iterator[Seen]:
        """Yield all that is delayed, dead or waiting, and with `work` what is at work; each once.

        What moves meanwhile from one state to another is not yielded twice. It is missed if it
        was at work for a moment, and with `work` if it comes back while this goes on.
        """
        known_ids: set[str] = set()
        looks = (self.delayed, self.dead, self.waiting, self.leased)
        for look in looks if work else looks[:-1]:
            for found in look(wanted):
                if found.id not in known_ids:
                    known_ids.add(found.id)
                    yield found

    def waiting(self, wanted: frozenset[str] | None = None) -> Iterator[Seen]:
        """Yield what waits, in the order in which it would be consumed."""
        for place in self._scan.places():
            yield from self._at(place.path, place.entry, "waiting", wanted)

    def delayed(self, wanted: frozenset[str] | None = None) -> Iterator[Seen]:
        """Yield what is delayed, the first that is due first."""
        for each in sorted(self._delayed.all(), key=lambda found: found.due):
            path, until = f"{self._delayed.path}/{each.filename}", each.due / 1000
            for found in self._at(path, each.entry, "delayed", wanted):
                yield found._replace(until=until)

    def leased(self, wanted: frozenset[str] | None = None) -> Iterator[Seen]:
        """Yield what is at work, first what expires first."""
        names = sorted(self._fs.listing(self._work))
        there = frozenset(names)
        for name in names:
            held = RangeLease.parse(name)
            if held is not None:
                yield from self._in_range(held, there, wanted)
                continue
            for lease in known(Lease.parse, [name]):
                if lease.is_line or (wanted and lease.entry.id not in wanted):
                    continue
                found = self._leased_alone(lease)
                if found is not None:
                    yield found

    def dead(self, wanted: frozenset[str] | None = None) -> Iterator[Seen]:
        """Yield the dead letters by priority and age; `fault` says which hold no message."""
        letters = self._store.dead_letters
        for dead in letters.all():
            if wanted and dead.entry.id not in wanted:
                continue
            path = letters.path_of(dead)
            read = partial(self._files.read, path, dead.entry)
            found = self._seen(path, dead.entry, "dead", read)
            if found is not None:
                note = letters.note(dead)
                reason = letter(self._queue, dead, None, note).reason
                yield found._replace(code=dead.code, reason=reason, note=note)

    def _at(
        self, path: str, entry: ReadyEntry, state: str, wanted: frozenset[str] | None
    ) -> Iterator[Seen]:
        """Yield the messages of what waits or is delayed at a path."""
        for each in open_entries(self._bundles, entry, wanted):
            if isinstance(entry, Entry):
                read = partial(self._files.read, path, each)
            else:
                read = partial(self._line, each)
            found = self._seen(path, each, state, read)
            if found is not None:
                yield found

    def _in_range(
        self, held: RangeLease, names: frozenset[str], wanted: frozenset[str] | None
    ) -> Iterator[Seen]:
        """Yield the leased lines of a range, those included that have files of their own."""
        range_, path = held.range, self._bundles.path_of_lease(held)
        detached = [x for x in range_.leaving() if held.detached(x) in names]
        entries = [range_.entry(x) for x in sorted(range_.lines() + detached)]
        entries = [each for each in entries if not wanted or each.id in wanted]
        if not entries or not self._bundles.was_made(held):
            return
        maker = None
        if held.token == range_.claim:  # else somebody else holds it by now
            maker = parse_made_by(self._fs.named_by(path))
        for entry in entries:
            found = self._seen(path, entry, "work", partial(self._line, entry))
            if found is not None:
                yield found._replace(
                    until=held.expiry / 1000,
                    host=maker[0] if maker else "",
                    process=maker[1] if maker else None,
                )

    def _leased_alone(self, lease: Lease) -> Seen | None:
        """Return a leased message in a file of its own; its holder may renew it meanwhile."""
        current: Lease | None = lease
        for _ in range(_RENEWALS):
            if current is None:
                break
            path = f"{self._work}/{current.filename}"
            read = partial(self._files.read, path, current.entry)
            found = self._seen(path, current.entry, "work", read)
            if found is not None:
                return found._replace(until=current.expiry / 1000)
            current = self._leases.current(current)
        return None

    def _line(self, entry: Entry) -> Content:
        """Read the message of a line."""
        return self._bundles.content(Lease(entry, 0, "", ""))

    def _seen(
        self, path: str, entry: Entry, state: str, read: Callable[[], Content]
    ) -> Seen | None:
        """Return a message that stands at a path; None: it has gone on meanwhile."""
        content, fault, is_none = Content(None, None), "", False
        try:
            content = read()
        except FileNotFoundError:
            return None
        except InvalidContent as error:
            fault, is_none = str(error), True
        except OSError as error:
            if isinstance(error, BundleNotFound) and self._fs.is_gone(path):
                return None
            fault = f"it can't be read now: {error.strerror}"
        return Seen(
            content.message,
            entry.id,
            self._queue,
            state,
            entry.priority,
            entry.failures,
            entry.losses,
            own=overrides_of(entry.policy),
            published_priority=content.priority_or(entry.priority),
            fault=fault,
            is_none=is_none,
        )


def open_entries(
    bundles: Bundles, entry: ReadyEntry, wanted: frozenset[str] | None
) -> Iterator[Entry]:
    """Yield the messages that wait in a file, a range or a bundle, in order.

    Of a bundle of which no message is wanted, no claim is looked for.
    """
    if isinstance(entry, Entry):
        lines: Any = [entry]
    elif isinstance(entry, Range):
        lines = map(entry.entry, entry.lines())
    elif wanted and not any(
        each.startswith(f"{entry.id}-") or entry.id.startswith(each) for each in wanted
    ):
        return
    else:
        first = bundles.chain(entry.id, entry.lines).end
        lines = (line_of(entry, number) for number in range(first, entry.lines))
    for each in lines:
        if not wanted or each.id in wanted:
            yield each


def line_of(bundle: Bundle, number: int) -> Entry:
    """Return what the name of a line's message would say if the line left its bundle."""
    id_ = f"{bundle.id}-{number}"
    return Entry(bundle.priority, bundle.stamp + number, id_, policy=bundle.policy)
