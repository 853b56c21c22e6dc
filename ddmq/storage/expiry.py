"""What becomes of messages whose leases are over: they are requeued, or become dead letters."""

from __future__ import annotations

from contextlib import suppress
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

from ddmq.message import Policy
from ddmq.storage.layout import BundleNotFound
from ddmq.storage.names import Lease
from ddmq.storage.range_names import LEFT, OPEN, TAKEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddmq.settings import Settings
    from ddmq.storage.range_names import RangeLease
    from ddmq.storage.store import Store

#: Seconds after which we warn of a bundle that can't be found. Its directory may be away for a
#: while, as a network file system may be.
_MISSED_FOR = 60.0


class Swept(NamedTuple):
    """What a sweep did: numbers of messages."""

    requeued: int = 0
    dead: int = 0
    due: int = 0
    adopted: int = 0
    removed: int = 0
    """Leftovers of dead clients; they were no messages."""

    def plus(self, other: Swept) -> Swept:
        """Add number by number."""
        return Swept(*map(sum, zip(self, other)))


class Expiry:
    """Requeues messages whose leases are over, or makes them dead letters.

    Each change is one rename. Where several clients try it at once, one of them succeeds.
    """

    def __init__(
        self,
        store: Store,
        settings: Callable[[], Settings],
        tell: Callable[[object, str], None],
    ) -> None:
        # `tell` gets the id of a bundle and a warning, which it gives once for each bundle.
        self.cancelled: frozenset[str] = frozenset()
        """The messages that are not tried again."""
        self._store = store
        self._settings = settings
        self._tell = tell
        self._layout = store.layout
        self._clock = store.clock
        self._fs = store.fs
        self._missed: dict[str, float] = {}

    def expire(self, lease: Lease | RangeLease) -> Swept:
        """Do what a nack does in place of a consumer that vanished, but count a loss.

        The names tell all that is needed, so no message is read. A range whose bundle can't be
        found stays, and is looked at again later.
        """
        if isinstance(lease, Lease):
            self._fs.recall(f"{self._layout.work}/{lease.filename}")
            return self._expire_one(lease)
        alone: list[Swept] = []

        def expire(detached: Lease) -> None:
            self._fs.recall(f"{self._layout.work}/{detached.filename}")
            alone.append(self._expire_one(detached))

        try:
            taken = self._store.leases.ranges.take_over(lease, expire)
        except BundleNotFound as error:
            now = self._clock.monotonic()
            if now - self._missed.setdefault(error.id, now) >= _MISSED_FOR:
                self._tell(error.id, str(error))
            return Swept()
        self._missed.pop(lease.range.bundle, None)
        swept = reduce(Swept.plus, alone, Swept())
        if taken is None:
            return swept
        held, was_received = taken
        return swept.plus(self._expire_range(held, was_received=was_received))

    def _expire_range(self, held: RangeLease, *, was_received: bool) -> Swept:
        """Requeue the open lines of a range that we have taken over, or let them be dead."""
        store = self._store
        found, ranges, ready = held.range, store.leases.ranges, store.ready
        swept, left = Swept(), []
        for lease in held.leases():
            if lease.entry.id not in self.cancelled:
                continue
            # A full disk, say, takes no file for one line. The others need none, and go on, and
            # so does this one, until somebody claims it.
            with suppress(OSError):
                swept = swept.plus(self._expire_one(lease))
                left.append(lease.number)
        held = held.marked(left, LEFT)
        found = held.range
        lines, entry = found.lines(), found.entry(found.first)
        if not lines:
            return swept
        if not was_received:
            ranges.put(held.token, lines, entry, ready.put_back)
            return swept
        policy = Policy.of(found, self._settings())
        if not policy.may_requeue(found.failures + found.losses):
            return reduce(Swept.plus, map(self._expire_one, held.leases()), swept)
        # Lines that were started count a loss, the others do not, and a range has one count for
        # all its lines. So the fewer of them leave it. Where the disk takes no files, all count.
        fewer = min(found.lines(OPEN), found.lines(TAKEN), key=len)
        for line in fewer:
            with suppress(OSError):
                swept = swept.plus(self._expire_one(held.lease_of(line)))
        if fewer:
            present = ranges.look(held.token)
            if present is None or not present.range.lines():
                return swept
            found = present.range
            lines, entry = found.lines(), found.entry(found.first)
        if found.lines(OPEN):
            again = policy.requeued(entry.lost())
            moved = ranges.put(held.token, lines, again, ready.append)
        else:
            moved = ranges.put(held.token, lines, entry, ready.put_back)
        return swept.plus(Swept(requeued=len(lines) if moved else 0))

    def _expire_one(self, lease: Lease) -> Swept:
        """Requeue one message whose lease is over, or make it a dead letter.

        One that its consumer has not started goes back to its place, and counts nothing.
        """
        if lease.entry.id in self.cancelled:
            return Swept(dead=int(self._store.cancelled.end(lease)))
        if not lease.is_started:  # no command has seen it
            return Swept(requeued=int(self._store.release(lease)))
        entry, lost = lease.entry, lease.entry.lost()
        policy = Policy.of(entry, self._settings())
        if not policy.may_requeue(entry.failures + entry.losses):
            dead = self._store.dead_letter(lease, lost, "expired")
            return Swept(dead=int(dead))
        again = policy.requeued(lost)
        return Swept(requeued=int(self._store.requeue(lease, again)))
