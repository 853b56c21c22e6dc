"""The bundles of one queue: many messages in a file, taken by a chain of claims.

A bundle is a directory in `bundles/`, which is there before its entry in the ready queue is. A
claim is a symbolic link in it. Its name is the number of the first line that it takes, and its
target says where it ends, and its token. Of all clients that make a link of one name, one
succeeds. The next claim begins where the last one ends, so no line is claimed twice, and none is
left out. Claims stay until the bundle is removed. So whoever reads the link can tell whether a
claim was made, at any time.

A client makes its lease of the range first, and then its claim. If it dies in between, others
make the claim in its place when that lease is over (`ddmq.storage.ranges`).

When the chain has reached its end, no line waits, and the entry is removed. When each claim is
over, the directory is removed.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq.errors import out_of_memory
from ddmq.message import InvalidContent, TooLarge
from ddmq.settings import MAX_BYTES
from ddmq.storage.directories import GONE
from ddmq.storage.filesystem import REFUSED, UNREADABLE
from ddmq.storage.layout import BundleNotFound, NoClaim
from ddmq.storage.names import (
    DRAINED,
    LINES,
    Bundle,
    Waiting,
    new_id,
    new_token,
    parse_directory,
    random_below,
)
from ddmq.storage.range_names import (
    RANGE_SUFFIX,
    NewClaim,
    RangeLease,
    made_by,
    parse_claim,
    parse_done,
    parse_first,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ddmq.clock import Clock
    from ddmq.message import Content
    from ddmq.settings import Limit
    from ddmq.storage.buckets import Buckets
    from ddmq.storage.bundle_file import BundleContent
    from ddmq.storage.filesystem import FileSystem
    from ddmq.storage.layout import Layout, ServerTime
    from ddmq.storage.names import Lease
    from ddmq.storage.range_names import Range

#: How many of the bundles that were read are kept in memory, and how many bytes of them.
_KEPT, _KEPT_BYTES = 16, 32 << 20
#: The most bundles for which we remember where the chain of claims ends.
_MOST_CHAINS = 1000
#: The most ranges for which we remember the present name: 0.4 KB each, which saves a listing.
_MOST_RANGES = 10_000
#: The most bundles for which we remember that we ended a claim. A cleaning finds the others.
_MOST_ENDED = 10_000
#: How often one client tries to claim where another was faster.
_TRIES = 6
#: Before a later try it pauses for a random share of so many times the time spent so far; and
#: for so many seconds at most.
_PAUSE, _LONGEST_PAUSE = 4, 1.0
#: Seconds until housekeeping looks again for a bundle that it did not find: first, and longest.
_REST, _LONGEST_REST = 1.0, 300.0
#: Seconds for which a purge may hold what it removes.
_PURGE_FOR = 60.0


_NO_LINE = "it is named as a line of a bundle, but not as which"


class Chain(NamedTuple):
    """The claims of a bundle."""

    firsts: frozenset[int]
    """For each claim, the number of its first line."""
    over: frozenset[int]
    """The same, for each claim that is over."""
    end: int
    """The number of the first line that waits."""


def _shrink(kept: dict[str, Any], most: int) -> None:
    """Forget the oldest of what is kept, if that is more than so many."""
    while len(kept) > most:
        with suppress(RuntimeError):  # another thread adds one just now
            kept.pop(next(iter(kept)), None)


def _end_of(target: str, first: int, lines: int) -> int | None:
    """Return where a claim ends, by its target; None: a bundle of so many lines has none such."""
    found = parse_claim(target)
    return found[0] if found is not None and first < found[0] <= lines else None


class Bundles:
    """Claims and removes bundles, and finds the messages of their lines."""

    def __init__(
        self,
        layout: Layout,
        fs: FileSystem,
        clock: Clock,
        time: ServerTime,
        *,
        buckets: Buckets,
        limit: Limit,
        ended: set[str],
    ) -> None:
        self.path = layout.bundles
        self._layout = layout
        self._fs = fs
        self._clock = clock
        self._time = time
        self._buckets = buckets
        self._passed = buckets.passed
        self._limit = limit
        self.races = 0
        """How many of our last claims met competitors even after we had listed the claims."""
        self.ranges: dict[str, RangeLease] = {}
        """The leased ranges by token, under the names that we saw last: a hint."""
        self._read: dict[str, BundleContent] = {}
        self._ends: dict[str, int] = {}
        """Where we last saw the chain of a bundle end. It may have grown since: a hint."""
        self._missed: dict[str, tuple[float, float]] = {}
        """Bundles that housekeeping did not find: when to look again, and how long the pause is."""
        self._us = 0, ""
        """The number of our process, which changes by a fork, and what its leases say of it."""
        self._ended = ended

    # Claiming

    def _opened(self, waiting: Waiting, bundle: Bundle) -> Waiting:
        """Give the entry of a bundle the name that it has from the first claim on; return it.

        Counting then need not look for claims in bundles from which nobody has taken a line.
        Nothing else depends on that name.
        """
        if bundle.is_open:
            return waiting
        entry = bundle._replace(is_open=True)
        path = f"{waiting.path.rpartition('/')[0]}/{entry.filename}"
        with suppress(FileNotFoundError):  # the entry is gone, and its bucket
            self._fs.rename(waiting.path, path)
        return Waiting(entry, path)

    def claim(
        self,
        waiting: Waiting,
        bundle: Bundle,
        timeout: float,
        n: int,
        started: int | None = None,
    ) -> tuple[RangeLease, Waiting] | None:
        """Lease up to `n` lines of a bundle that waits; None: we got none.

        So many of them are `started` at once; None: all.

        With the lease comes the bundle under the name that its entry has now. None: no line waits,
        as `is_drained` tells then; else competitors were faster, or we can't read the bundle now.
        InvalidContent: only the name was a bundle's; the file is quarantined or passed over. After
        any other error, the claim may have been made. Then the lease is there, too, and ends in its
        time.
        """
        if bundle.id not in self._read and not self._is_readable(waiting.path, bundle):
            return None
        first = self._ends.get(bundle.id)
        if first is None:
            first = self.chain(bundle.id, bundle.lines).end
            self._note_end(bundle.id, first)
        if first >= bundle.lines:
            return None
        waiting = self._opened(waiting, bundle)
        expiry = self._clock.compared_ms(timeout) or self._time.end_of_lease(timeout)
        token = os.urandom(8).hex()
        new = NewClaim.of_lines(
            bundle, first, n, expiry=expiry, token=token, started=started
        )
        claimed = self._make_claim(bundle, new, n, timeout, started)
        if claimed is None:
            return None
        self.remember(claimed)
        if claimed.range.end == bundle.lines:
            with suppress(OSError):  # we have the messages; the next client can do it
                self.drain(waiting.path, bundle.id)
        return claimed, waiting

    def _make_claim(
        self,
        bundle: Bundle,
        new: NewClaim,
        n: int,
        timeout: float,
        started: int | None,
    ) -> RangeLease | None:
        """Make a lease and its claim; where others were faster, try again behind theirs.

        None: they were faster each time, or the bundle was removed. Then no lease is left. Or
        the draft of our lease was cleaned away, because we were suspended for long.
        """
        if not self._make_lease(new):
            return None
        directory, work = f"{self.path}/{bundle.id}", self._layout.work
        began = self._clock.monotonic()
        for number in range(_TRIES):
            held, lease, target = new
            path = f"{directory}/{held.range.first}"
            try:
                elected = self._fs.elected(path, target)
            except OSError as error:
                # After other errors than these, the claim may have been made: keep the lease.
                is_gone = error.errno in GONE and error.filename == directory
                if is_gone or error.errno in REFUSED:
                    self._fs.discard(f"{work}/{lease}")
                if is_gone:
                    return None
                raise
            if elected == target:
                self._note_end(bundle.id, held.range.end)
                self.races = self.races + 1 if number > 1 else 0
                # This looks into the directory in which the claim is, wherever that is by now.
                if self._fs.is_alive(f"{directory}/{LINES}"):
                    return held
                break  # it was finished, and we came while it was removed
            found = self._claim_at(path, elected, bundle, f"{work}/{lease}")
            if number:  # others claim here right now: not all of us at once
                spent = self._clock.monotonic() - began
                pause = spent * _PAUSE * random_below(1000) / 1000
                self._clock.sleep(min(pause, _LONGEST_PAUSE))
            end = self.chain(bundle.id, bundle.lines).end if number else found
            self._note_end(bundle.id, end)
            if not held.range.first < end < bundle.lines:
                break
            # Its time begins now: the pauses may have been as long as it lasts.
            expiry = self._clock.compared_ms(timeout) or held.expiry
            token = held.token
            new = NewClaim.of_lines(
                bundle, end, n, expiry=expiry, token=token, started=started
            )
            if not self._fs.take(f"{work}/{lease}", f"{work}/{new.lease}"):
                return None  # it was over, and somebody took it over
        self._fs.discard(f"{work}/{new.lease}")
        return None

    def _claim_at(self, path: str, elected: str, bundle: Bundle, lease: str) -> int:
        """Return where the claim at `path` ends that was made in place of ours.

        Others may have put anything there. If that is surely no claim, our lease is removed.
        NoClaim: the bundle's claims do not go on. Any other OSError: nobody can tell. So it stays.
        """
        end = _end_of(elected, int(os.path.basename(path)), bundle.lines)
        if end is not None:
            return end
        there = self._fs.status(path)
        if elected or (there is not None and not stat.S_ISLNK(there.mode)):
            self._fs.discard(lease)
            raise NoClaim(path)
        raise OSError(errno.EAGAIN, "nobody can tell whose claim it is", path)

    def _make_lease(self, new: NewClaim) -> bool:
        """Make the lease of a claim; False: its draft was removed, or the lease was taken over.

        That happens to a client that was suspended. It must not make its claim then: nobody would
        know of the lines, or somebody else has the lease.
        """
        process, us = self._us
        if process != os.getpid():
            process = os.getpid()
            us = made_by(os.uname().nodename, process)
            self._us = process, us
        draft = f"{self._layout.tmp}/{os.urandom(10).hex()}"
        return self._fs.place_link(draft, us, f"{self._layout.work}/{new.lease}")

    def remember(self, held: RangeLease) -> None:
        """Note the present name of a leased range."""
        self.ranges[held.token] = held
        _shrink(self.ranges, _MOST_RANGES)

    def make_for(self, held: RangeLease) -> tuple[bool | None, bool]:
        """Make the claim of a lease that is over, unless it was made before.

        Its client may have died, or be suspended, before it made its claim. So this is the only
        way to decide whether there will ever be one. The first answer is True when there is now.
        False: somebody else has claimed the line, so this never was a lease. None: nobody can
        tell. The second answer: whether we made the claim, so that nobody has received the
        messages.
        """
        claimed, is_new = held.range, False
        path = f"{self.path}/{claimed.bundle}/{claimed.first}"
        elected = self._fs.named_by(path)  # which needs no space
        if not elected:
            try:
                self._fs.link(path, claimed.target)
                elected, is_new = claimed.target, True
            except FileExistsError:
                elected = self._fs.elected(path, claimed.target)
            except FileNotFoundError:
                return None, False
        if elected == claimed.target:
            # Its messages are the first to go when it is removed.
            is_alive = self._fs.is_alive(self._layout.lines(claimed.bundle))
            return is_alive or None, is_new
        return None if parse_claim(elected) is None else False, False

    def was_made(self, held: RangeLease) -> bool:
        """Tell whether the claim of a lease was made."""
        claimed = held.range
        path = f"{self.path}/{claimed.bundle}/{claimed.first}"
        return self._fs.named_by(path) == claimed.target

    def chain(self, id_: str, lines: int) -> Chain:
        """Look at the claims of a bundle of so many lines, which follow each other without a gap.

        What others put there is no claim if its name or its end can't be that of one.
        """
        directory = self._layout.bundle(id_)
        try:
            names = self._fs.listing(directory)
        except FileNotFoundError:
            return Chain(frozenset(), frozenset(), 0)
        found = (parse_first(name) for name in names)
        firsts = frozenset(
            first for first in found if first is not None and first < lines
        )
        done = filter(None, map(parse_done, names))
        over = {
            first: end for first, end, total in done if first < end <= total == lines
        }
        last = max(firsts, default=0)
        end = over.get(last, last)
        if last in firsts and last not in over:
            target = self._fs.named_by(f"{directory}/{last}")
            end = _end_of(target, last, lines) or last
        return Chain(firsts, frozenset(over), end)

    def _note_end(self, id_: str, end: int) -> None:
        self._ends[id_] = max(end, self._ends.get(id_, 0))
        _shrink(self._ends, _MOST_CHAINS)

    def path_of_lease(self, held: RangeLease) -> str:
        """Return the path of the lease of a range."""
        return f"{self._layout.work}/{held.filename}"

    def is_drained(self, bundle: Bundle) -> bool:
        """Tell whether we know that no line of a bundle waits."""
        return self._ends.get(bundle.id, 0) >= bundle.lines

    def _is_readable(self, path: str, bundle: Bundle) -> bool:
        """Read a bundle; False when it can't be read, or was removed meanwhile.

        What is no bundle is quarantined, and InvalidContent is raised. A bundle that we can't
        read now is passed over, and so is what can't be quarantined. So neither blocks others.
        """
        messages = self._layout.lines(bundle.id)
        try:
            self._keep(bundle.id)
        except InvalidContent as error:
            reason = f"a bundle that holds no messages: {error}"
            self._buckets.quarantine(messages, reason)
            self._put_away(path)
            raise
        except OSError as error:
            found = self._fs.status(messages)
            if found is not None and not found.is_file:
                self._buckets.quarantine(messages)
                self._put_away(path)
            elif error.errno in (*UNREADABLE, errno.ENOENT, errno.ENOTDIR):
                if self._fs.is_gone(path) or not self._fs.is_alive(path):
                    return False
                self._passed.add(path)
                self._passed.tell(path, "can't be read", error)
            else:
                raise
            return False
        return True

    def _put_away(self, path: str) -> None:
        """Remove the entry of what is no bundle, or pass it over where we can't."""
        try:
            self._fs.unlink(path)
        except OSError:
            self._passed.add(path)

    def _keep(self, id_: str) -> BundleContent:
        """Read a bundle, and keep it in memory with a few others."""
        content = self._content_of(id_, self._limit.max_bytes)
        self._read[id_] = content
        kept = list(self._read.items())
        size = 0
        for number, (oldest, each) in enumerate(reversed(kept)):
            size += each.size
            if number and (number >= _KEPT or size > _KEPT_BYTES):
                self._read.pop(oldest, None)
        return content

    def _content_of(self, id_: str, limit: int) -> BundleContent:
        """Read a bundle, at most as far as messages of at most `limit` bytes can make it."""
        from ddmq.storage.bundle_file import BundleContent, most_to_read

        path, most = self._layout.lines(id_), most_to_read(limit)
        try:
            return BundleContent(self._fs.read(path, most), most)
        except MemoryError as error:
            raise out_of_memory(path) from error

    # What becomes of a bundle

    def drain(self, path: str, id_: str) -> None:
        """Remove the entry of a bundle of which no line waits, and note that in its directory.

        An entry that is not at `path` may be there under another name. So nothing is noted then,
        and whoever removes the bundle looks for the entry first.
        """
        if self._fs.unlink(path):
            with suppress(OSError):
                self._fs.link_own(f"{self._layout.bundle(id_)}/{DRAINED}", DRAINED)

    def claim_rest(self, path: str, bundle: Bundle) -> Range | None:
        """Claim all lines that wait, and end that claim; None: none waits any more."""
        path = self._opened(Waiting(bundle, path), bundle).path
        work = self._layout.work
        while (first := self.chain(bundle.id, bundle.lines).end) < bundle.lines:
            expiry = self._time.end_of_lease(_PURGE_FOR)
            token = new_token()
            new = NewClaim.of_rest(bundle, first, expiry=expiry, token=token)
            if not self._make_lease(new):
                continue
            held, lease, target = new
            claim = f"{self.path}/{bundle.id}/{first}"
            try:
                elected = self._fs.elected(claim, target)
            except FileNotFoundError as error:
                if error.filename != self._layout.bundle(bundle.id):
                    raise
                # There is an entry, but no bundle.
                self._fs.discard(f"{work}/{lease}")
                break
            if elected == target:
                self.end_claim(f"{work}/{lease}", held)
                self.note_end_of_claim(bundle.id)  # whoever ended it
                self._note_end(bundle.id, bundle.lines)
                self.drain(path, bundle.id)
                return held.range
            self._claim_at(claim, elected, bundle, f"{work}/{lease}")
            self._fs.discard(f"{work}/{lease}")  # somebody else was faster
        self.drain(path, bundle.id)
        return None

    def end_claim(self, path: str, held: RangeLease) -> bool | None:
        """End a claim: move its range from `path` into the bundle, under a name that says so.

        False: the range is not at `path` any more. None: nobody can tell.
        """
        id_ = held.range.bundle
        moved = self._fs.take(path, f"{self.path}/{id_}/{held.done}")
        if moved:
            self.note_end_of_claim(id_)
        return moved

    def note_end_of_claim(self, id_: str) -> None:
        """Note that we ended a claim, which may have been the last one of its bundle.

        A client that leaves the housekeeping to others never looks at these notes. So their number
        is limited.
        """
        if len(self._ended) < _MOST_ENDED:
            self._ended.add(id_)

    def seem_finished(self, names: Iterable[str], *, of_all: bool = False) -> list[str]:
        """Return the ids of bundles that may be finished; `names` are those in `work/`.

        In these bundles we ended a claim, and no name shows a lease of a range of theirs. Whoever
        ends the last claim of a bundle removes it, so nobody else looks at it. If that client
        dies, a cleaning does: with `of_all`, all bundles are looked at of which somebody may have
        claimed lines.
        """
        ids = set(self._ended)
        if of_all:
            found = self._fs.listing(self._layout.bundles)
            ids |= set(filter(None, map(parse_directory, found)))
        if not ids:
            return []
        ranges = (RangeLease.parse(x) for x in names if x.endswith(RANGE_SUFFIX))
        ids -= {held.range.bundle for held in ranges if held}
        if of_all and ids:
            ids -= {bundle.id for _, bundle in self._entries() if not bundle.is_open}
        return sorted(ids)

    def _entries(self) -> Iterator[tuple[str, Bundle]]:
        """Yield the paths and entries of all bundles that wait."""
        from ddmq.storage.scan import Scan  # rarely needed

        for waiting in Scan(self._layout.ready, self._fs, self._passed).places():
            if isinstance(waiting.entry, Bundle):
                yield waiting.path, waiting.entry

    def remove_if_finished(self, id_: str) -> bool:
        """Remove a bundle of which each claim is over; False: some are not.

        Only what is there proves anything: the claims that are over must cover all its lines. A
        listing may leave out names that are made meanwhile. The directory gets another name
        first, and its messages are removed before the claims: whoever still claims a line there
        finds that its message is gone.
        """
        directory = self._layout.bundle(id_)
        self._ended.discard(id_)
        try:
            names = self._fs.listing(directory)
        except FileNotFoundError:
            return False
        over = sorted(filter(None, map(parse_done, names)))
        covered = 0
        for first, end, _ in over:
            covered = max(covered, end) if first <= covered else covered
        if not over or covered < max(total for _, _, total in over):
            return False
        if DRAINED not in names and not self._remove_entry(id_):
            self._ended.add(id_)
            return False
        self._ends.pop(id_, None)
        self._read.pop(id_, None)
        return self.remove(id_)

    def _remove_entry(self, id_: str) -> bool:
        """Remove the entry of a bundle, in case the client that made the last claim did not.

        False: a listing showed the entry under an old name. So it may still be there.
        """
        paths = [path for path, bundle in self._entries() if bundle.id == id_]
        gone = [self._fs.unlink(path) for path in paths]
        return all(gone)

    def remove(self, id_: str) -> bool:
        """Remove the directory of a bundle; False: it is gone, or a part of it stays."""
        ours = f"{self._layout.tmp}/{new_id()}"
        if not self._fs.rename(f"{self.path}/{id_}", ours):
            return False
        self._fs.recall(f"{ours}/{LINES}")
        return self._fs.remove_tree(ours, first=LINES)

    # The message of a line

    def content(self, lease: Lease) -> Content:
        """Return the message of a line, or raise InvalidContent."""
        id_, _, number = lease.entry.id.partition("-")
        bundle = self._read.get(id_) or self.find(id_)
        if not number.isdigit():
            raise InvalidContent(_NO_LINE)
        limit = self._limit.max_bytes
        try:
            return bundle.content(int(number), limit)
        except TooLarge:
            if self._limit.reread() <= limit:
                raise
        except MemoryError as error:
            raise out_of_memory(self._layout.lines(id_)) from error
        self._read.pop(id_, None)
        return self.content(lease)  # the limit was raised a moment ago

    def file_content(self, lease: Lease) -> tuple[bytes, bool]:
        """Return the content of the file that a line's message would have if published alone.

        The second answer: whether it must be on stable storage. If the bundle holds no such line,
        the content is empty, and becomes a dead letter.
        """
        if lease.line is None:
            return b"", False
        id_, number = lease.line
        try:
            bundle = self.find(id_)
            if bundle.goes_on(number):  # its publisher may have had another limit
                bundle = self._content_of(id_, MAX_BYTES)
        except InvalidContent:
            return b"", False
        return bundle.file_content(number), bundle.durable

    def find(self, id_: str) -> BundleContent:
        """Return the content of a bundle; BundleNotFound if there is none."""
        content = self._read.get(id_)
        if content is not None:
            return content
        try:
            return self._keep(id_)
        except FileNotFoundError as error:
            raise BundleNotFound(self._layout.bundle(id_), id_) from error

    def require(self, id_: str) -> None:
        """Raise BundleNotFound if there is no such bundle.

        The longer a bundle can't be found, the longer this client waits before it looks again.
        """
        now = self._clock.monotonic()
        again, rest = self._missed.get(id_, (now, _REST / 2))
        if now >= again:
            if self._fs.is_alive(self._layout.lines(id_)):
                self._missed.pop(id_, None)
                return
            rest = min(2 * rest, _LONGEST_REST)
            self._missed[id_] = now + rest, rest
        raise BundleNotFound(self._layout.bundle(id_), id_)
