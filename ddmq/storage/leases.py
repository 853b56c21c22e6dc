"""The leases of one queue, each with a token that proves who holds it.

A message in a file of its own is leased by that file, which is in `work/` then. A line of a bundle
is leased as part of a range (`ddmq.storage.ranges`).
"""

from __future__ import annotations

from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING

from ddmq.storage.names import Lease, parse_lease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ddmq.storage.buckets import PassedOver
    from ddmq.storage.bundles import Bundles
    from ddmq.storage.filesystem import FileSystem
    from ddmq.storage.layout import Layout, ServerTime
    from ddmq.storage.names import Entry, ReadyEntry
    from ddmq.storage.range_names import RangeLease
    from ddmq.storage.ranges import Ranges
    from ddmq.storage.ready import ReadyQueue


class Leases:
    """The leases in `work/`."""

    def __init__(
        self,
        layout: Layout,
        fs: FileSystem,
        time: ServerTime,
        find_bundles: Callable[[], Bundles],
        *,
        passed: PassedOver,
    ) -> None:
        self.path = layout.work
        self._layout = layout
        self._fs = fs
        self._time = time
        self._find_bundles = find_bundles
        self._passed = passed
        self._ranges: Ranges | None = None

    @property
    def ranges(self) -> Ranges:
        """The leases of the lines of bundles, for whoever has some."""
        if self._ranges is None:
            from ddmq.storage.ranges import Ranges

            self._ranges = Ranges(
                self._layout, self._fs, self._time, self._find_bundles()
            )
        return self._ranges

    def all(self) -> list[Lease]:
        """Return the leases of messages; the one that expires first comes first.

        A range whose claim is being made at this moment counts as leased.
        """
        found: list[Lease] = []
        for name in sorted(self._fs.listing(self.path)):
            held = parse_lease(name)
            if held is not None:
                found += [held] if isinstance(held, Lease) else held.leases()
        return found

    def ack(self, leases: Sequence[Lease]) -> list[Lease]:
        """Finish messages; return those that are not there.

        Lines of one range are finished by one rename, if they stand beside each other here.
        """
        missed: list[Lease] = []
        lines: list[Lease] = []
        for lease in leases:
            if lines and not (lease.is_line and lease.token == lines[0].token):
                missed += self._ack_lines(lines)
                lines = []
            if lease.is_line:
                lines.append(lease)
            elif not self._fs.unlink(f"{self.path}/{lease.filename}"):
                missed.append(lease)
        if lines:
            missed += self._ack_lines(lines)
        return missed

    def _ack_lines(self, lines: Sequence[Lease]) -> list[Lease]:
        """Finish lines of one range; return those that are not there."""
        acked = self.ranges.ack(lines[0].token, _numbers(lines))
        return [lease for lease in lines if lease.number not in acked]

    def renew(
        self, leases: Sequence[Lease], timeout: float, *, together: bool = False
    ) -> list[Lease | None]:
        """Make leases last for `timeout` seconds from now; None for each that is lost.

        All open lines of one range are renewed by one rename, if they stand beside each other
        here. If the range has others, they leave it; with `together`, the others are renewed too.
        """
        expiry = self._time.end_of_lease(timeout)
        renewed: list[Lease | None] = []
        for token, lines in _ranges_in(leases):
            held: RangeLease | None = None
            if token:
                numbers = _numbers(lines)
                held = self.ranges.renew(token, numbers, expiry, together=together)
            left = set(held.range.lines()) if held else set()
            for lease in lines:
                if held is not None and lease.number in left:
                    renewed.append(held.lease_of(lease.number))
                else:
                    # Another thread may have started a line since this lease was told.
                    is_started = lease.is_started or lease.is_line
                    renewed.append(self._alone(lease, expiry, is_started=is_started))
        return renewed

    def start(self, leases: Sequence[Lease]) -> list[Lease | None]:
        """Note that messages are started, before anything runs for them; None for each lost one.

        Lines of one range are started by one rename, if they stand beside each other here.
        """
        started: list[Lease | None] = []
        for token, lines in _ranges_in(leases):
            held = self.ranges.start(token, _numbers(lines)) if token else None
            for lease in lines:
                if held is not None and held.range.is_open(lease.number):
                    started.append(held.lease_of(lease.number))
                elif token or lease.is_started:
                    started.append(None if token else lease)
                else:
                    started.append(self._alone(lease, lease.expiry, is_started=True))
        return started

    def keep_some(self, held: RangeLease, number: int) -> list[Lease]:
        """Let the first lines of a range leave it; return the leases of their own files."""
        kept = (
            self._alone(line, held.expiry, is_started=line.is_started)
            for line in held.leases()[:number]
        )
        return [lease for lease in kept if lease is not None]

    def _alone(self, lease: Lease, expiry: int, *, is_started: bool) -> Lease | None:
        """Lease a message until `expiry` by a file of its own; None: it is lost."""
        own = Lease.of(lease.entry, expiry, lease.token, is_started=is_started)
        target = f"{self.path}/{own.filename}"
        moved = self.leave(lease, lambda path: self._fs.rename(path, target))
        return own if moved else None

    def put_together(
        self, leases: Sequence[Lease], place: Callable[[str, ReadyEntry], bool]
    ) -> list[Lease]:
        """Let `place` put ranges back of which these are all open lines; return the others."""
        others: list[Lease] = []
        for token, lines in _ranges_in(leases):
            entry = lines[0].entry
            if not token or not self.ranges.put(token, _numbers(lines), entry, place):
                others += lines
        return others

    def leave(self, lease: Lease, move: Callable[[str], bool]) -> bool:
        """Let `move` move the file of a message away; False when it is gone.

        The message of a line is written into a file first.
        """
        if lease.is_line:
            return self.ranges.leave(lease, move)
        return move(f"{self.path}/{lease.filename}")

    def move(self, lease: Lease, entry: Entry, other: ReadyQueue) -> bool:
        """Put a message at the end of another ready queue on this file system, as `entry`."""
        return self.leave(lease, lambda path: other.append(path, entry))

    def put(
        self, lease: Lease, entry: Entry, place: Callable[[str, ReadyEntry], bool]
    ) -> bool:
        """Let `place` put a message back into the ready queue as `entry`; False: it is gone.

        A range of which only this line is left goes back itself.
        """
        if lease.is_line:
            done = self.ranges.put(lease.token, [lease.number], entry, place)
            if done is not None:
                return done
        return self.leave(lease, lambda path: place(path, entry))

    def is_valid(self, lease: Lease) -> bool:
        """Tell whether a listed lease is one: the claim of a line may not have been made."""
        if not lease.is_line:
            return True
        held = self.ranges.look(lease.token)
        return held is not None and self._find_bundles().was_made(held)

    def current(self, lease: Lease) -> Lease | None:
        """Find a lease by its token, since another thread may have renewed it."""
        for name in self._fs.listing(self.path):
            held = parse_lease(name) if lease.token in name else None
            if held is None:
                continue
            same = [held] if isinstance(held, Lease) else self._leases_in(held)
            for found in same:
                if found.is_same_claim(lease):
                    return found
        return None

    def _leases_in(self, held: RangeLease) -> list[Lease]:
        """Remember the present name of a range; return the leases of what is left of it."""
        self._find_bundles().remember(held)
        lines = held.range.lines() + held.range.leaving()
        return [held.lease_of(number) for number in lines]

    def is_finished(self, lease: Lease) -> bool:
        """Tell whether an ack or a move that found nothing was done before: its reply was lost.

        It was if our lease has not expired, so that nobody could have taken the message, and
        if the message is nowhere in the queue.
        """
        if not self._time.is_known() or self._time.in_ms(0) > lease.expiry:
            return False
        return not self.has_message_of(lease)

    def has_message_of(self, lease: Lease) -> bool:
        """Tell whether the message of a lease, which may be of another queue, is in this queue."""
        from ddmq.storage.scan import Scan  # rarely needed

        scan = Scan(self._layout.ready, self._fs, self._passed)
        places = [self.path, self._layout.delayed, self._layout.dead]
        places += [path for _, path in scan.buckets()]
        places.append(self.path)  # somebody may have consumed it meanwhile
        for path in places:
            with suppress(FileNotFoundError, NotADirectoryError):
                if any(self._has(name, lease) for name in self._fs.listing(path)):
                    return True
        return False

    def _has(self, name: str, lease: Lease) -> bool:
        """Tell whether a name says that it has the message of a lease."""
        if f".{lease.entry.id}." in name:
            return True
        line = lease.line
        if line is None or f".{line[0]}." not in name:
            return False
        from ddmq.storage.range_names import Range, RangeLease  # rarely needed

        leased = RangeLease.parse(name)
        found = leased.range if leased else Range.parse(0, name)
        if found is None or not found.is_open(line[1]):
            return False
        # Somebody may have died between his lease of the same line and his claim.
        return leased is None or self._find_bundles().was_made(leased)


def _ranges_in(leases: Sequence[Lease]) -> Iterator[tuple[str | None, list[Lease]]]:
    """Yield the lines of one range together, with its token; any other lease alone, with None."""
    if len(leases) == 1:  # as most are
        yield leases[0].token if leases[0].is_line else None, list(leases)
        return
    for token, lines in groupby(leases, lambda x: x.token if x.is_line else None):
        if token is None:
            yield from ((None, [lease]) for lease in lines)
        else:
            yield token, list(lines)


def _numbers(lines: Iterable[Lease]) -> list[int]:
    return [lease.number for lease in lines]
