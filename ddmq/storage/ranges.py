"""The leased ranges of one queue: what becomes of the lines that a claim took.

A range is a symbolic link in `work/`. Its name has a letter for each of its lines. To ack some of
them is one rename, to the name in which their letters say that they are over. The last rename
moves the range into its bundle's directory, where it says that the claim is over.

A line that leaves its range alone (since it failed, or is renewed by itself) is *detached*, in
steps of which each is one change that everybody sees:

1. Its message is put into a file of its own, which is no message yet.
2. The range gets the name that says that this line is detached. Now the file is the message.
3. The file is moved to where the message goes.
4. The range gets the name that says that this line has left.

Two may hold one lease, as two threads do. Each finds that a rename was made, by himself or by the
other, when its target is there. So no two changes that differ may make one name: what left has
another letter than what was acked, and each try to detach a line has a mark of its own.

Whoever dies in between leaves the rest to those who take over the range when its lease is over.
They first see to the detached files, and then give the range a name with a token of theirs. So
its former holder, if it is only slow, finds nothing under the names that it knows.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ddmq.storage.layout import BundleNotFound
from ddmq.storage.names import Lease, new_mark, new_token
from ddmq.storage.range_names import (
    DETACHED,
    LEFT,
    OPEN,
    OVER,
    TAKEN,
    UNSTARTED,
    RangeLease,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from ddmq.storage.bundles import Bundles
    from ddmq.storage.filesystem import FileSystem
    from ddmq.storage.layout import Layout, ServerTime
    from ddmq.storage.names import Entry, ReadyEntry
    from ddmq.storage.range_names import Range

#: How often we look for a range that somebody else changes at the same time.
_TRIES = 8
#: Seconds for which whoever takes over a range may take to see to it.
_TAKEN_FOR = 30.0


class Ranges:
    """The leased ranges. Safe to use from several threads.

    What this client remembers of a range's name is a hint. If a rename finds nothing, the range
    is found by its token in a listing.
    """

    def __init__(
        self, layout: Layout, fs: FileSystem, time: ServerTime, bundles: Bundles
    ) -> None:
        self._layout = layout
        self._fs = fs
        self._time = time
        self._bundles = bundles
        self._known = bundles.ranges

    def look(self, token: str) -> RangeLease | None:
        """Find a range by the token of its holder in a listing; None: there is none."""
        part = f".{token}."
        for name in self._fs.listing(self._layout.work):
            held = RangeLease.parse(name) if part in name else None
            if held is not None and held.token == token:
                self._bundles.remember(held)
                return held
        self._known.pop(token, None)
        return None

    def _present(self, token: str) -> Iterator[RangeLease]:
        """Yield a range under the name that we remember, and then as listings show it.

        A listing may leave out a name that is made meanwhile. So two in a row must miss it.
        """
        known = self._known.get(token)
        if known is not None:
            yield known
        has_missed = False
        for _ in range(_TRIES):
            held = self.look(token)
            if held is not None:
                has_missed = False
                yield held
            elif has_missed:
                return
            else:
                has_missed = True

    def _change(self, held: RangeLease, new: RangeLease) -> bool:
        """Give a range another name; False: it has not the name that we knew, or nobody knows.

        If all its lines are over, it moves to where that says that the claim is over.
        """
        path = self._bundles.path_of_lease(held)
        if not new.range.is_over:
            if not self._fs.take(path, self._bundles.path_of_lease(new)):
                return False
            self._known.pop(held.token, None)
            self._bundles.remember(new)
            return True
        if self._bundles.end_claim(path, new):
            self._known.pop(held.token, None)
            return True
        if self._fs.exists(self._layout.bundle(new.range.bundle)):
            return False
        return self._fs.unlink(path)  # its bundle's directory is gone

    # What becomes of its lines

    def ack(self, token: str, lines: Collection[int]) -> set[int]:
        """Finish lines; return those that were leased until then.

        One that was detached, by somebody who did not come further, is finished with its file.
        """
        unlinked: set[int] = set()
        for held in self._present(token):
            detached = set(held.range.leaving()).intersection(lines)
            for number in detached - unlinked:
                if self._fs.unlink(f"{self._layout.work}/{held.detached(number)}"):
                    unlinked.add(number)
            ours = {number for number in lines if held.range.is_open(number)}
            left = detached & unlinked
            new = held.marked(ours, OVER).marked(left, LEFT)
            if not ours | left or self._change(held, new):
                return ours | unlinked
        return unlinked

    def renew(
        self, token: str, lines: Collection[int], expiry: int, *, together: bool
    ) -> RangeLease | None:
        """Make a range last until `expiry`; None: it is lost, or has more open lines than these.

        With `together`, these are renewed, too.
        """
        for held in self._present(token):
            longer = held._replace(expiry=expiry)
            if not together and not set(held.range.lines()) <= set(lines):
                return None
            if self._change(held, longer):
                return longer
        return None

    def start(self, token: str, lines: Collection[int]) -> RangeLease | None:
        """Note that lines are started, by one rename; None: the range is lost."""
        for held in self._present(token):
            started = held.marked(
                set(held.range.lines(TAKEN)).intersection(lines), OPEN
            )
            if started == held or self._change(held, started):
                return started
        return None

    def leave(self, lease: Lease, move: Callable[[str], bool]) -> bool:
        """Detach a line and let `move` put its file where it goes; False when it is lost."""
        path = self.detach(lease)
        if path is None:
            return False
        moved = move(path)
        self._end(lease)
        return moved

    def detach(self, lease: Lease) -> str | None:
        """Write the message of a line into a file of its own; return its path, None: it is lost.

        If one was detached before, by somebody who did not come further, its file is the message.
        Another line that was detached like that gets a lease of its own first, since the range's
        name has one mark only. Our own rename may have been made though it failed. Then our file
        is the message already. So it is never written to again, and is not removed here.

        BundleNotFound: a listing shows that we have the line, and its message can't be found.
        """
        number, mark, is_written = lease.number, new_mark(), False
        work = self._layout.work
        for tries, held in enumerate(self._present(lease.token)):
            detached = held.range.leaving()
            if number in detached:
                path = f"{work}/{held.detached(number)}"
                if self._fs.exists(path):
                    return path
                self._end(lease)  # it has gone on, and only the reply to that was lost
                return None
            if not held.range.is_open(number):
                return None
            for other in detached:
                self._set_aside(held, other)
            apart = UNSTARTED if number in held.range.lines(TAKEN) else DETACHED
            new = held.marked(detached, LEFT).marked([number], apart, mark)
            path = f"{work}/{new.detached(number)}"
            if not is_written:
                try:
                    data, sync = self._bundles.file_content(lease)
                except BundleNotFound:
                    if tries:
                        raise
                    continue  # the range that we remember may be gone, as its bundle is
                self._fs.create_own(path, data, sync=sync, mode=self._layout.file_mode)
                is_written = True
            if self._change(held, new):
                return path
        return None

    def _set_aside(self, held: RangeLease, line: int) -> None:
        """Give a detached line a lease of its own, which ends with that of its range."""
        work = self._layout.work
        is_started = held.lease_of_detached(line).is_started
        entry = held.range.entry(line)
        own = Lease.of(entry, held.expiry, held.token, is_started=is_started)
        # If it is not there, it has gone on already.
        self._fs.rename(f"{work}/{held.detached(line)}", f"{work}/{own.filename}")

    def _end(self, lease: Lease) -> None:
        """Note that a detached line has gone; if that fails, others will when the lease is over."""
        number = lease.number
        with suppress(OSError):
            for held in self._present(lease.token):
                is_ours = number in held.range.leaving()
                if not is_ours or self._change(held, held.marked([number], LEFT)):
                    return

    def put(
        self,
        token: str,
        lines: Collection[int],
        entry: Entry,
        place: Callable[[str, ReadyEntry], bool],
    ) -> bool | None:
        """Let `place` put a range back into the ready queue with the counts of `entry`.

        False: it is lost. None: it has other lines that are leased, or one of these is detached
        since it could not be moved on. So these must leave alone.
        """
        for held in self._present(token):
            back = held.range
            detached = back.leaving()
            if detached or set(back.lines()) != set(lines):
                return False if set(lines).isdisjoint(back.lines() + detached) else None
            back = back.started()._replace(
                priority=entry.priority, failures=entry.failures, losses=entry.losses
            )
            if place(self._bundles.path_of_lease(held), back):
                self._known.pop(token, None)
                return True
        return False

    # Taking one

    def take(
        self, path: str, waiting: Range, expiry: int, started: int | None = None
    ) -> RangeLease | None:
        """Lease a range that waits in a bucket; None: a competitor was faster.

        So many of its lines are `started` at once; None: all.
        """
        held = RangeLease(waiting.started(started), expiry, new_token())
        if not self._fs.rename(path, self._bundles.path_of_lease(held)):
            return None
        self._bundles.remember(held)
        return held

    def put_rest(self, token: str, place: Callable[[str, ReadyEntry], bool]) -> None:
        """Let `place` put back what is left of a range that we hold to its old place."""
        try:
            self._put_rest(token, place)
        except OSError:  # once more, before it is left until its lease is over
            with suppress(OSError):
                self._put_rest(token, place)

    def _put_rest(
        self, token: str, place: Callable[[str, ReadyEntry], bool]
    ) -> bool | None:
        """Let `place` put back all lines of a range that are open, or were being detached."""
        held = self._known.get(token) or self.look(token)
        if held is None:
            return False
        for line in held.range.leaving():
            path = f"{self._layout.work}/{held.detached(line)}"
            place(path, held.range.entry(line))
            self._end(held.lease_of(line))
        entry = held.range.entry(held.range.first)
        return self.put(token, held.range.lines(), entry, place)

    def take_over(
        self, held: RangeLease, expire: Callable[[Lease], object]
    ) -> tuple[RangeLease, bool] | None:
        """Take over a range whose lease is over; None: it was changed, or never was a lease.

        Return its new lease, and whether anybody may have received its messages: not if he died
        before he made his claim.

        `expire` does with a message in a file of its own what is to be done with an expired one.
        BundleNotFound: the bundle can't be found, and the range stays as it is.
        """
        self._bundles.require(held.range.bundle)
        detached = held.range.leaving()
        for line in detached:
            expire(held.lease_of_detached(line))
        ours = held.marked(detached, LEFT)._replace(
            expiry=self._time.end_of_lease(_TAKEN_FOR), token=new_token()
        )
        if not self._fs.take(
            self._bundles.path_of_lease(held), self._bundles.path_of_lease(ours)
        ):
            return None
        made, is_new = self._bundles.make_for(ours)
        if made is False:
            self._fs.discard(self._bundles.path_of_lease(ours))
        if not made:
            return None
        self._bundles.remember(ours)
        if ours.range.is_over:
            self._change(ours, ours)
            return None
        return ours, not is_new
