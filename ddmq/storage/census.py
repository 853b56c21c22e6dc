"""Counts what is in one queue, and tells whether it is empty. It changes nothing."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ddmq.seen import Counts
from ddmq.storage.names import (
    LINES,
    Bundle,
    Lease,
    known,
    parse_directory,
    parse_ready_entry,
    past,
)
from ddmq.storage.range_names import (
    DETACHED_SUFFIX,
    RANGE_SUFFIX,
    Range,
    RangeLease,
    parse_detached,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ddmq.clock import Clock
    from ddmq.storage.bundles import Bundles, Chain
    from ddmq.storage.dead_letters import DeadLetters
    from ddmq.storage.delayed import DelayedMessages
    from ddmq.storage.filesystem import FileSystem, Stamp
    from ddmq.storage.layout import Layout
    from ddmq.storage.names import Entry, Waiting
    from ddmq.storage.scan import Scan

_Seen = TypeVar("_Seen")
#: How often we look at a queue that seems empty while its directories change.
_LOOKS = 5
#: Seconds after which every client sees a directory's new stamp. GlusterFS takes one second.
_LATE = 1.1

#: What a directory of a bundle that is closed to us seems to hold.
_CLOSED = {LINES, ""}


class AtWork(NamedTuple):
    """A lease that was counted: of one message, or of the lines of a range."""

    entry: Entry | Range
    expiry: int
    """When it ends, in milliseconds since 1970."""
    number: int
    """How many messages it holds."""


class Census:
    """Lists all directories of one queue."""

    def __init__(
        self,
        layout: Layout,
        fs: FileSystem,
        clock: Clock,
        scan: Scan,
        *,
        bundles: Bundles,
        delayed: DelayedMessages,
        dead_letters: DeadLetters,
    ) -> None:
        self._layout = layout
        self._fs = fs
        self._clock = clock
        self._scan = scan
        self._bundles = bundles
        self._delayed = delayed
        self._dead_letters = dead_letters

    @property
    def is_paused(self) -> bool:
        """Whether the last look showed that somebody paused the queue."""
        return self._scan.is_paused

    def counts(self) -> Counts:
        """Count the messages in each state."""
        counts, _ = self.look()
        return counts

    def look(self) -> tuple[Counts, Iterator[AtWork]]:
        """Count each message once, and yield the leases of those at work.

        Clients move messages while we list one directory after the other. A message that two
        listings show is counted by the later one. Messages come back from `work/`, so that is
        listed first and again. So we count all messages that were there at the end of the
        listings, and besides these some that were acked meanwhile. Only a message that was leased
        and given back between two listings may be missed.
        """
        before, places = self._fs.listing(self._layout.work), [*self._scan.places()]
        ranges = known(RangeLease.parse, before)
        in_use = {held.range.bundle: held.range.total for held in ranges}
        opened = (e for e, _ in places if isinstance(e, Bundle) and e.is_open)
        in_use.update((bundle.id, bundle.lines) for bundle in opened)
        chains = {id_: self._bundles.chain(id_, n) for id_, n in in_use.items()}
        names = dict.fromkeys([*before, *self._fs.listing(self._layout.work)])
        delayed = [each.entry for each in self._delayed.all()]
        dead = self._dead_letters.ids()
        later = {*dead, *(entry.id for entry in delayed)}
        alone = {lease.entry.id: lease for lease in known(Lease.parse, names)}
        at_work = [
            AtWork(lease.entry, lease.expiry, 1)
            for id_, lease in alone.items()
            if id_ not in later
        ]
        claims: dict[tuple[str, int, str], RangeLease] = {}
        for held in known(RangeLease.parse, names):
            range_ = held.range
            claims.setdefault((range_.bundle, range_.first, range_.claim), held)
        found = [entry for entry, _ in places if isinstance(entry, Range)]
        found += [held.range for held in claims.values()]
        competing = Counter((range_.bundle, range_.first) for range_ in found)
        seen = {*later, *alone}
        for held in claims.values():
            if self._is_made(held, competing, chains):
                range_ = held.range
                lines = range_.lines() + [
                    n for n in range_.leaving() if held.detached(n) in names
                ]
                ids = {f"{range_.bundle}-{line}" for line in lines} - seen
                at_work.append(AtWork(range_, held.expiry, len(ids)))
                seen |= ids
        lines_seen: dict[str, set[int]] = {}
        for bundle, _, line in (id_.rpartition("-") for id_ in seen):
            if line.isdecimal():
                lines_seen.setdefault(bundle, set()).add(int(line))
        waiting = sum(self._waiting(x, chains, seen, lines_seen) for x in places)
        leased = sum(each.number for each in at_work)
        counts = Counts(waiting, leased, sum(e.waiting for e in delayed), len(dead))
        return counts, iter(at_work)

    def _waiting(
        self,
        place: Waiting,
        chains: Mapping[str, Chain],
        seen: set[str],
        lines_seen: Mapping[str, set[int]],
    ) -> int:
        """Return how many messages wait at a place, without those that were `seen` elsewhere."""
        entry = place.entry
        if isinstance(entry, Range):
            return sum(f"{entry.bundle}-{line}" not in seen for line in entry.lines())
        chain = chains.get(entry.id)
        if chain is None:
            return entry.waiting * (entry.id not in seen)
        if not chain.firsts and not self._fs.exists(place.path):
            return 0  # its last line was acked meanwhile
        lines = range(chain.end, entry.waiting)  # of which a planted name has very many
        return len(lines) - sum(n in lines for n in lines_seen.get(entry.id, ()))

    def _is_made(
        self,
        held: RangeLease,
        competing: Mapping[tuple[str, int], int],
        chains: Mapping[str, Chain],
    ) -> bool:
        """Tell whether the claim of a range was made; only one of those that compete was.

        If that claim is over, the lease that is still there is of another client.
        """
        bundle, first = held.range.bundle, held.range.first
        chain = chains.get(bundle)
        if chain is None or first not in chain.firsts or first in chain.over:
            return False
        return competing[bundle, first] == 1 or self._bundles.was_made(held)

    def is_empty(self) -> bool:
        """Tell whether no message waits, is leased or delayed; dead letters do not count.

        While we list the directories, a message may move from one that we have not listed yet
        to one that we have. So we compare the directories' stamps from before and after the
        listings. If no stamp changed, all directories were empty at one instant. If they keep
        changing, other clients are at work, and the answer is no.
        """
        return self.at_one_instant(self._bare) is not None

    def strays(self, before: int) -> list[str]:
        """Return the paths of what belongs to missing bundles, or to ranges that are over.

        The client that made a range was stopped before its claim, until others had emptied the
        bundle; or while it detached a line, until others had taken over the range. A range
        counts if it is over since `before`, in milliseconds since 1970. So do bundles without an
        entry, a range or a claim: their publisher died before anybody saw them. While the queue
        changes, or a directory is closed to us, or was and is put aside, nobody can tell which
        these are, and they stay.
        """
        names = self._fs.listing(self._layout.work)
        odd = any(name.endswith((RANGE_SUFFIX, DETACHED_SUFFIX)) for name in names)
        if not odd and not self._fs.listing(self._layout.bundles):
            return []
        try:
            _, stray = self._strays(before)
            if not stray:  # the usual case, and quicker than what follows
                return []
            stray = self.at_one_instant(partial(self._strays, before)) or []
            # Asked afterwards: what is put aside from now on was closed to us until then.
            return [] if self._layout.put_aside() else stray
        except PermissionError as error:
            self._scan.tell(error)
            return []

    def at_one_instant(
        self, look: Callable[[], tuple[list[str], _Seen] | None]
    ) -> _Seen | None:
        """Return what `look` saw, if all of it was true at one instant; None if not.

        `look` returns the directories that it listed, and what it saw there. It returns None
        if that already gives the answer.
        """
        for _ in range(_LOOKS):
            seen = look()
            if seen is None:
                return None
            paths = seen[0]
            stamps = self._stamps(paths)
            # A change from now on must not give a directory the stamp that we have seen.
            self._clock.outlast_tick(is_long=all(stamp.is_whole for stamp in stamps))
            again = look()
            if again is None:
                return None
            if again != seen or self._stamps(paths) != stamps:
                continue
            if all(map(self._fs.is_prompt, {stamp.device for stamp in stamps})):
                return seen[1]
            self._clock.sleep(_LATE)
            if self._stamps(paths) == stamps:
                return seen[1]
        return None

    def _stamps(self, paths: list[str]) -> list[Stamp]:
        """Return the stamps that directories have now; none for one that is gone."""
        found = map(self._fs.stamp, paths)
        return [stamp for stamp in found if stamp is not None]

    def _bare(self) -> tuple[list[str], bool] | None:
        """List all directories in which messages wait, are leased or delayed.

        None: one of them holds a message. Raises OSError if one can't be listed.
        """
        layout = self._layout
        directories = [layout.delayed, layout.work, layout.ready]
        for priority, path, names in self._scan.everything():
            directories.append(path)
            for name in names:
                place = parse_ready_entry(priority, name)
                if isinstance(place, Bundle):
                    directory = layout.bundle(place.id)
                    directories.append(directory)
                    chain = self._bundles.chain(place.id, place.lines)
                    if chain.end < place.lines and self._fs.is_directory(directory):
                        return None
                elif place is not None and place.waiting:
                    return None
        names = self._fs.listing(layout.work)
        if known(Lease.parse, names):
            return None
        for held in known(RangeLease.parse, names):
            directories.append(layout.bundle(held.range.bundle))
            if not held.range.is_over and self._bundles.was_made(held):
                return None
        return None if self._delayed.all() else (directories, True)

    def _strays(self, before: int) -> tuple[list[str], list[str]]:
        """List all directories that tell of bundles and ranges, as far as that is needed.

        Return these, and the paths of what belongs to nothing.
        """
        layout, entries = self._layout, []
        directories = [layout.bundles, layout.work, layout.delayed, layout.ready]
        for priority, path, names in self._scan.everything():
            directories.append(path)
            entries += [parse_ready_entry(priority, name) for name in names]
        entries += [delayed.entry for delayed in self._delayed.all()]
        names = self._fs.listing(layout.work)
        ranges = known(RangeLease.parse, names)
        shown = {entry.id for entry in entries if isinstance(entry, Bundle)}
        taken = {entry.bundle for entry in entries if isinstance(entry, Range)}
        taken |= {held.range.bundle for held in ranges}
        over = [RangeLease.parse(name) for name in past(names, before)]
        missed = {held.range.bundle for held in over if held} - shown
        bundles = set(
            filter(None, map(parse_directory, self._fs.listing(layout.bundles)))
        )
        unused = bundles - shown - taken
        inside = {id_: self._names_in_bundle(id_) for id_ in missed | unused}
        # What is closed to us can't be compared either, and stays whatever is in it.
        listed = (id_ for id_ in sorted(inside) if inside[id_] != _CLOSED)
        directories += map(layout.bundle, listed)
        holders = {held.token for held in ranges}
        files = [(name, parse_detached(name)) for name in names]
        stray = [name for name, file in files if file and file.token not in holders]
        stray += [
            held.filename
            for held in over
            if held and LINES not in inside.get(held.range.bundle, {LINES})
        ]
        stray = [f"{layout.work}/{name}" for name in stray]
        # One that has been claimed, and whose messages are there, may be missed by somebody.
        stray += [
            layout.bundle(id_)
            for id_ in sorted(unused)
            if inside[id_] == {LINES} or LINES not in inside[id_]
        ]
        return directories, stray

    def _names_in_bundle(self, id_: str) -> set[str]:
        """List the directory of a bundle; nothing is in it if it is gone, or no directory.

        One that is closed to us has messages that others know of, for all that we can tell.
        """
        try:
            return set(self._fs.listing(self._layout.bundle(id_)))
        except (FileNotFoundError, NotADirectoryError):
            return set()
        except PermissionError:
            return _CLOSED
