"""The bundles of one queue: many messages in a file, taken by a rename that moves a cursor.

A claim takes three steps, so that each message is in one state whoever dies in between:

1. For each line a draft in `work/`: an empty file, and no lease yet.
2. The bundle is renamed to a later cursor under the claim's token. Of all who rename it from
   where it stood, one succeeds; the lines in between are leased from this moment, and the
   bundle's name tells which drafts these are.
3. The drafts are renamed to what they are now, the last line's last. Whoever claims next
   gives the bundle another name: so he first looks whether that draft is still there, and
   completes the claim of a client that died. A client that takes one line after the other,
   alone, leaves this step out: its draft is acked before anybody claims.

A completed lease whose file is empty is never renamed, so that no listing can miss it: its
message is written into it first. A bundle of which no line waits stays in `work/` while there
is such a lease.
"""

from __future__ import annotations

import errno
from math import inf
from typing import TYPE_CHECKING

from ddmq.bundle import Lines, most_to_read
from ddmq.errors import out_of_memory
from ddmq.fs import REFUSED
from ddmq.message import InvalidContent, TooLarge
from ddmq.names import LINE_SUFFIXES, Bundle, Lease, Spent, new_token
from ddmq.settings import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ddmq.clock import Clock
    from ddmq.fs import FileSystem
    from ddmq.line import Line
    from ddmq.message import Content

#: How many bundles that were read are kept in memory, and how many bytes of them.
_KEPT, _KEPT_BYTES = 16, 32 << 20
#: How often a bundle is looked for that others rename before it is read.
_RENAMES = 8
#: Seconds between looks for a bundle that others may be renaming, or that is shown late.
_PAUSES = 0.02, 0.1, 0.5, 2.0
#: Seconds until housekeeping looks again for a bundle that it missed: at first, and at most.
_REST, _LONGEST_REST = 1.0, 300.0
#: Seconds after which a listing shows all that was in `work/` before a bundle came there.
SPENT_FOR = 10


class BundleNotFound(OSError):
    """No look showed the bundle of a lease. That proves nothing: the lease stays as it is."""

    def __init__(self, path: str, id_: str) -> None:
        super().__init__(errno.ENODATA, "its bundle can't be found", path)
        self.id = id_


class Bundles:
    """What is particular to messages that came in bundles."""

    def __init__(
        self,
        queue: str,
        fs: FileSystem,
        clock: Clock,
        line: Callable[[], Line],
        server_ns: Callable[[], int],
        limit: Callable[[float], int],
    ) -> None:
        self.mode: int | None = None
        """The mode of new files, where the umask must not decide."""
        self._work = f"{queue}/work"
        self._fs = fs
        self._clock = clock
        self._line = line
        self._server_ns = server_ns
        self._limit = limit
        self._read: dict[str, Lines] = {}
        self._completed: dict[str, str] = {}
        self._acked: dict[str, str] = {}
        self._missed: dict[str, tuple[float, float]] = {}
        """Of bundles that housekeeping missed: when to look again, and how long that is."""
        self._seen: tuple[float, dict[str, str]] = float("-inf"), {}
        """When it last looked everywhere, and the path of each bundle by its id."""

    # Taking lines

    def lines(self, path: str, bundle: Bundle) -> Lines:
        """Return what a bundle holds; FileNotFoundError when it was renamed meanwhile."""
        return self._read.get(bundle.id) or self._keep(bundle.id, path)

    def _keep(self, id_: str, path: str) -> Lines:
        lines = self._lines_at(path, self._limit(inf))
        self._read[id_] = lines
        kept = list(self._read.items())
        size = 0
        for number, (oldest, each) in enumerate(reversed(kept)):
            size += each.size
            if number and (number >= _KEPT or size > _KEPT_BYTES):
                self._read.pop(oldest, None)
                self._completed.pop(oldest, None)
                self._acked.pop(oldest, None)
        return lines

    def _lines_at(self, path: str, limit: int) -> Lines:
        """Read a bundle as far as one may be that holds messages of at most `limit` bytes."""
        most = most_to_read(limit)
        try:
            return Lines(self._fs.read(path, most), most)
        except MemoryError as error:
            raise out_of_memory(path) from error

    def claim(
        self, path: str, bundle: Bundle, target: str, claimed: Bundle
    ) -> list[Lease]:
        """Lease what `claimed` takes of the bundle at `path`, which goes to `target`.

        None when a rival was faster. After an error, the bundle's name tells whether the
        claim was made: then others complete it, and else remove the drafts.
        """
        drafts = claimed.drafts()
        try:
            for draft in drafts:
                self._fs.touch(self._path(draft), self.mode)
        except OSError:
            self._discard(drafts)
            raise
        try:
            won = self._fs.take(path, target)
        except OSError as error:
            # It may be done though it was refused when it was sent again: then it needs them.
            if error.errno in REFUSED and self._is_still_there(path):
                self._discard(drafts)
            raise
        if won:
            alone = self._acked.get(bundle.id) == bundle.token
            return self._completing(claimed, drafts, alone=alone)
        if won is False:
            self._discard(drafts)
        return []

    def _path(self, lease: Lease) -> str:
        return f"{self._work}/{lease.filename}"

    def _is_still_there(self, path: str) -> bool:
        try:
            return self._fs.exists(path)
        except OSError:
            return False

    def _discard(self, drafts: Iterable[Lease]) -> None:
        for draft in drafts:
            self._fs.discard(self._path(draft))

    def _completing(
        self, claimed: Bundle, drafts: list[Lease], *, alone: bool
    ) -> list[Lease]:
        """Complete our claim as far as we can: the other leases come back later.

        If we are `alone`, having acked the claim before, one line is left to whoever claims
        next, or puts the bundle away.
        """
        if alone and claimed.taken == 1:
            return drafts
        leases: list[Lease] = []
        for draft in drafts:
            try:
                leases.append(self._complete(draft))
            except OSError:
                if not leases:
                    raise
                return leases
        self._completed[claimed.id] = claimed.token
        return leases

    def _complete(self, draft: Lease) -> Lease:
        lease = draft.completed()
        source, target = self._path(draft), self._path(lease)
        try:
            self._fs.replace(source, target)
        except OSError:  # the claim is made: try once more before it is left to others
            self._fs.replace(source, target)
        return lease

    def complete(self, bundle: Bundle) -> None:
        """Complete the claim that was made last, before the bundle gets another name."""
        if not bundle.taken or self._completed.get(bundle.id) == bundle.token:
            return
        if not self._fs.is_gone(self._path(bundle.last_draft())):
            self._complete_all(bundle)

    def _complete_all(self, bundle: Bundle) -> None:
        for draft in bundle.drafts():
            self._complete(draft)

    def ack(self, lease: Lease) -> bool:
        """Finish a line: unlink its lease, which may be a draft that somebody completed."""
        if not self._unlink(lease):
            return False
        bundle = lease.entry.id.partition("-")[0]
        if bundle in self._read:
            self._acked[bundle] = lease.token
            if lease.is_draft:
                self._completed[bundle] = lease.token
        return True

    def _unlink(self, lease: Lease) -> bool:
        if self._fs.unlink(self._path(lease)):
            return True
        return lease.is_draft and self._fs.unlink(self._path(lease.completed()))

    def proven(self, draft: Lease, *, patient: bool) -> Lease | None:
        """Return the lease that a draft is; None: it is settled, or none and never will be.

        Then the draft goes. A client that is only slow finds the bundle under another token
        than the one it meant to take.
        """
        if draft.line is None:
            return draft  # of no bundle: it becomes a dead letter
        if self._fs.is_gone(self._path(draft)):
            return self.completed(draft)
        path = self._sought(draft, draft.line[0], patient=patient)
        bundle = Bundle.parse(draft.entry.priority, path.rpartition("/")[2])
        if bundle is not None and bundle.token == draft.token:
            self._complete_all(bundle)
            return draft.completed()
        if bundle is None or self._fence(path, bundle):
            self._discard([draft])
        return None

    def completed(self, draft: Lease) -> Lease | None:
        """Return the lease that somebody made of a draft; None: there is none."""
        lease = draft.completed()
        return lease if self._fs.exists(self._path(lease)) else None

    def _fence(self, path: str, bundle: Bundle) -> bool:
        """Let no claim be made that was begun; False: one was, or will be tried again."""
        self.complete(bundle)
        self._fs.recall(path)  # who made the draft, and died maybe, has read it
        fenced = beside(path, bundle.taking(0, 0, new_token()))
        return bool(self._fs.take(path, fenced))

    def empty(self, path: str, bundle: Bundle) -> bool:
        """Let nobody take the lines that still wait; False when a rival was faster."""
        self.complete(bundle)
        emptied = bundle.emptied(new_token())
        target = beside(path, emptied)
        if not self._fs.take(path, target):
            return False
        self.retire(target, emptied)
        return True

    def retire(self, path: str, bundle: Bundle) -> None:
        """Take out of the line a bundle of which no line waits."""
        self.complete(bundle)
        self._completed.pop(bundle.id, None)
        self._acked.pop(bundle.id, None)
        spent = Spent(self._server_ns() // 1_000_000, bundle.id)
        self._fs.rename(path, f"{self._work}/{spent.filename}")

    # What a line holds

    def content(self, lease: Lease) -> Content:
        """Return the message of a lease whose file is empty, or raise InvalidContent."""
        lines, number = self._lines_of(lease)
        limit = self._limit(inf)
        try:
            return lines.content(number, limit)
        except TooLarge:
            if self._limit(0) <= limit:
                raise
        except MemoryError as error:
            raise out_of_memory(self._path(lease)) from error
        self._read.pop(lease.entry.id.partition("-")[0], None)
        return self.content(lease)  # the limit was raised a moment ago

    def write_out(self, lease: Lease) -> bool:
        """Write its message into the file of a lease; False when that is gone.

        From then on it is a file as any other message has it.
        """
        path = self._path(lease)
        try:
            lines, number = self._lines_of(lease)
            if lines.goes_on(number):  # whoever published it may have had another limit
                lines = self._lines_at(
                    self._sought(lease, lease.entry.id.partition("-")[0], patient=True),
                    MAX_BYTES,
                )
        except (InvalidContent, OSError) as error:
            if self._fs.is_gone(path):
                return False
            if isinstance(error, InvalidContent):
                return True  # it stays empty, and becomes a dead letter
            raise
        return self._fs.fill(path, lines.file_content(number), sync=lines.durable)

    def _lines_of(self, lease: Lease) -> tuple[Lines, int]:
        if lease.line is None:
            raise InvalidContent("it is named as a line of a bundle, but not as which")
        id_, number = lease.line
        return self.find(lease, id_), number

    def find(self, lease: Lease, id_: str, *, patient: bool = True) -> Lines:
        """Return what the bundle of a lease holds; BundleNotFound where no look shows it."""
        known = self._read.get(id_)
        if known is not None:
            return known
        for _ in range(_RENAMES):
            path = self._sought(lease, id_, patient=patient)
            try:
                return self._keep(id_, path)
            except FileNotFoundError:  # somebody renamed it since
                self._seen = float("-inf"), {}
        raise BundleNotFound(self._path(lease), id_)

    def _sought(self, lease: Lease, id_: str, *, patient: bool) -> str:
        """Return the path of a bundle; BundleNotFound where no look shows it.

        A listing may miss one that others are renaming just then. So whoever is `patient`
        looks for three seconds.
        """
        if not patient:
            path = self._looked_up(lease, id_)
        else:
            path = self._path_of(lease, id_)
            for pause in _PAUSES:
                if path is not None:
                    break
                self._clock.sleep(pause)
                path = self._path_of(lease, id_)
        if path is None:
            raise BundleNotFound(self._path(lease), id_)
        return path

    def _looked_up(self, lease: Lease, id_: str) -> str | None:
        """Look for a bundle as housekeeping does: there may be thousands of such leases.

        One look everywhere is for all of them, at most once a second. The longer a bundle
        is missed, the longer it is until this client looks for it again.
        """
        now = self._clock.monotonic()
        again, rest = self._missed.get(id_, (now, _REST / 2))
        if now < again:
            return None
        seen_at, seen = self._seen
        path = seen.get(id_)
        if not 0 <= now - seen_at < _REST:
            path = self._path_of(lease, id_)
            if path is None:
                self._seen = now, self._everywhere()
                path = self._seen[1].get(id_)
        if path is None:
            rest = min(2 * rest, _LONGEST_REST)
            self._missed[id_] = now + rest, rest
        else:
            self._missed.pop(id_, None)
        return path

    def _everywhere(self) -> dict[str, str]:
        """Return the path of each bundle, in line or in `work/`, by its id."""
        found = {
            waiting.entry.id: waiting.path
            for waiting in self._line().places()
            if isinstance(waiting.entry, Bundle)
        }
        for name in self._fs.listing(self._work):
            spent = Spent.parse(name)
            if spent is not None:
                found[spent.id] = f"{self._work}/{name}"
        return found

    def _path_of(self, lease: Lease, id_: str) -> str | None:
        entry = lease.entry
        found = self._line().find_bundle(entry.priority, entry.stamp, id_)
        if found is not None:
            return found[0]
        return self._spent(id_)

    def _spent(self, id_: str) -> str | None:
        for name in self._fs.listing(self._work):
            spent = Spent.parse(name)
            if spent is not None and spent.id == id_:
                return f"{self._work}/{name}"
        return None

    # What is left of bundles

    def needless(self, names: Sequence[str], now: int) -> list[str]:
        """Return the paths of the bundles that no lease needs, by a listing begun at `now`.

        Its leases came there before it, and it long enough ago for the listing to show them.
        """
        spent = [spent for name in names if (spent := Spent.parse(name)) is not None]
        needed = _lines_in(names) if spent else ()
        over = now - SPENT_FOR * 1000
        return [
            f"{self._work}/{bundle.filename}"
            for bundle in spent
            if bundle.id not in needed and bundle.since < over
        ]


def beside(path: str, bundle: Bundle) -> str:
    """Return the path that a bundle at `path` gets under another name."""
    return f"{path.rpartition('/')[0]}/{bundle.filename}"


def _lines_in(names: Iterable[str]) -> set[str]:
    """Return the ids of the bundles of which there are lines among these leases."""
    leases = (Lease.parse(name) for name in names if name.endswith(LINE_SUFFIXES))
    return {lease.line[0] for lease in leases if lease and lease.line}
