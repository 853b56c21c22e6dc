"""The bundles of one queue: many messages in a file, taken by a rename that moves a cursor.

A claim takes three steps, so that each message is in one state whoever dies in between:

1. For each line an empty file in `tmp/`, named as its lease will be: no message yet.
2. The bundle is renamed to a later cursor under the claim's token. Of all who rename it from
   where it stood, one succeeds; the lines in between are leased from this moment.
3. The empty files are renamed into `work/`, the last line's last. Whoever claims next sees
   whether that one is still in `tmp/`, and completes the claim of a client that died.

A lease whose file is empty is never renamed, so that no listing can miss it: its message is
written into it first. A bundle of which no line waits stays in `work/` while there is such a
lease.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING

from ddmq.bundle import MAX_BUNDLE_BYTES, Lines
from ddmq.fs import REFUSED
from ddmq.message import MAX_BYTES, InvalidContent
from ddmq.names import LINE_SUFFIX, Bundle, Lease, Spent, new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ddmq.clock import Clock
    from ddmq.fs import FileSystem
    from ddmq.line import Line
    from ddmq.message import Content

#: How many bundles that were read are kept in memory.
_KEPT = 16
#: Seconds between looks for a bundle that others may be renaming, or that is shown late.
_PAUSES = 0.02, 0.1, 0.5, 2.0
#: Seconds for which no bundle is waited for after one that could not be found.
_HASTY_FOR = 30.0
#: Seconds after which a listing shows all that was in `work/` before a bundle came there.
SPENT_FOR = 10


class Bundles:
    """What is particular to messages that came in bundles."""

    def __init__(
        self, queue: str, fs: FileSystem, clock: Clock, line: Callable[[], Line]
    ) -> None:
        self.mode: int | None = None
        """The mode of new files, where the umask must not decide."""
        self._tmp = f"{queue}/tmp"
        self._work = f"{queue}/work"
        self._fs = fs
        self._clock = clock
        self._line = line
        self._read: dict[str, Lines] = {}
        self._completed: dict[str, str] = {}
        self._hasty_until = float("-inf")
        self._known: set[str] | None = None

    # Taking lines

    def lines(self, path: str, bundle: Bundle) -> Lines:
        """Return what a bundle holds; FileNotFoundError when it was renamed meanwhile."""
        return self._read.get(bundle.id) or self._keep(bundle.id, path)

    def _keep(self, id_: str, path: str) -> Lines:
        lines = Lines(self._fs.read(path, MAX_BUNDLE_BYTES + MAX_BYTES))
        self._read[id_] = lines
        for oldest in list(self._read)[:-_KEPT]:
            self._read.pop(oldest, None)
            self._completed.pop(oldest, None)
        return lines

    def claim(self, path: str, target: str, claimed: Bundle) -> list[Lease]:
        """Lease what `claimed` takes of the bundle at `path`, which goes to `target`.

        None when a rival was faster. After an error, the bundle's name tells whether the
        claim was made: then others complete it, and else clean the drafts away.
        """
        leases = claimed.leases()
        try:
            for lease in leases:
                self._fs.touch(f"{self._tmp}/{lease.filename}", self.mode)
        except OSError:
            self._discard(leases)
            raise
        try:
            won = self._fs.take(path, target)
        except OSError as error:
            if error.errno in REFUSED:  # else it may be done, and needs the drafts
                self._discard(leases)
            raise
        if won:
            return self._completing(claimed, leases)
        if won is False:
            self._discard(leases)
        return []

    def _discard(self, leases: Iterable[Lease]) -> None:
        for lease in leases:
            self._fs.discard(f"{self._tmp}/{lease.filename}")

    def _completing(self, claimed: Bundle, leases: list[Lease]) -> list[Lease]:
        """Move our leases into `work/`: those that we can, the others come back later."""
        for number, lease in enumerate(leases):
            try:
                self._move(lease)
            except OSError:
                if not number:
                    raise
                return leases[:number]
        self._completed[claimed.id] = claimed.token
        return leases

    def _move(self, lease: Lease) -> None:
        name = lease.filename
        source, target = f"{self._tmp}/{name}", f"{self._work}/{name}"
        try:
            self._fs.replace(source, target)
        except OSError:  # the claim is made: try once more before it is left to others
            self._fs.replace(source, target)

    def complete(self, bundle: Bundle) -> None:
        """Complete the claim that was made last, whose client may have died within it."""
        if not bundle.taken or self._completed.get(bundle.id) == bundle.token:
            return
        if self._is_complete(bundle):
            return
        for lease in bundle.leases():
            self._move(lease)

    def _is_complete(self, bundle: Bundle) -> bool:
        return self._fs.is_gone(f"{self._tmp}/{bundle.last_lease().filename}")

    def pending(self, bundle: Bundle) -> int:
        """Count the messages whose leases are still in `tmp/`: their client died or is slow.

        When the leases are over, they go where housekeeping looks for them.
        """
        if not bundle.taken or self._is_complete(bundle):
            return 0
        if bundle.expiry < self._now():
            self.complete(bundle)
            return 0
        names = set(self._fs.listing(self._tmp))
        return sum(lease.filename in names for lease in bundle.leases())

    def empty(self, path: str, bundle: Bundle) -> bool:
        """Let nobody take the lines that still wait; False when a rival was faster."""
        self.complete(bundle)
        emptied = bundle.emptied(new_token())
        target = beside(path, emptied)
        if not self._fs.rename(path, target):
            return False
        self.retire(target, emptied)
        return True

    def retire(self, path: str, bundle: Bundle) -> None:
        """Take out of the line a bundle of which no line waits."""
        self.complete(bundle)
        self._completed.pop(bundle.id, None)
        spent = Spent(self._now(), bundle.id)
        self._fs.rename(path, f"{self._work}/{spent.filename}")

    def _now(self) -> int:
        return self._clock.time_ns() // 1_000_000

    # What a line holds

    def content(self, lease: Lease) -> Content:
        """Return the message of a lease whose file is empty, or raise InvalidContent."""
        lines, number = self._lines_of(lease)
        return lines.content(number)

    def write_out(self, lease: Lease) -> bool:
        """Write its message into the file of a lease; False when that is gone.

        From then on it is a file as any other message has it.
        """
        path = f"{self._work}/{lease.filename}"
        try:
            lines, number = self._lines_of(lease)
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
        return self._read.get(id_) or self._find(lease, id_), number

    def _find(self, lease: Lease, id_: str) -> Lines:
        """Read a bundle again. A listing may miss one that others are renaming just then.

        When one was waited for in vain, no other is for a while: there may be many.
        """
        patient = self._clock.monotonic() >= self._hasty_until
        if patient:
            self._known = None
        elif not self._may_be_there(id_):
            raise self._lost(lease)
        pauses = _PAUSES if patient else ()
        for pause in (*pauses, 0.0):
            path = self._path_of(lease, id_)
            if path is not None:
                with suppress(FileNotFoundError):
                    return self._keep(id_, path)
            self._clock.sleep(pause)
        if patient:
            self._hasty_until = self._clock.monotonic() + _HASTY_FOR
        raise self._lost(lease)

    def _may_be_there(self, id_: str) -> bool:
        """Tell by one look at the whole queue whether to look for a bundle once more."""
        if self._known is None:
            places = (waiting.entry for waiting in self._line().places())
            names = map(Spent.parse, self._fs.listing(self._work))
            self._known = {p.id for p in places if isinstance(p, Bundle)}
            self._known |= {spent.id for spent in names if spent is not None}
        return id_ in self._known

    def _path_of(self, lease: Lease, id_: str) -> str | None:
        entry = lease.entry
        found = self._line().find_bundle(entry.priority, entry.stamp, id_)
        if found is not None:
            return found[0]
        for name in self._fs.listing(self._work):
            spent = Spent.parse(name)
            if spent is not None and spent.id == id_:
                return f"{self._work}/{name}"
        return None

    def _lost(self, lease: Lease) -> OSError:
        path = f"{self._work}/{lease.filename}"
        return OSError(errno.ENODATA, "its bundle can't be found", path)

    # What is left of bundles

    def remove_spent(self, names: Sequence[str]) -> None:
        """Remove the bundles in `work/` that no lease needs, by a fresh listing of it.

        Its leases came there before it, and it long enough ago for the listing to show them.
        """
        spent = [spent for name in names if (spent := Spent.parse(name)) is not None]
        needed = _lines_in(names) if spent else ()
        over = self._now() - SPENT_FOR * 1000
        for bundle in spent:
            if bundle.id not in needed and bundle.since < over:
                self._fs.discard(f"{self._work}/{bundle.filename}")

    def is_vain(self, lease: Lease) -> bool:
        """Tell whether a draft in `tmp/` is of a claim that was not made, and never will be.

        A claim that was made is completed. A client that is only slow finds the bundle
        under another token than the one it meant to take.
        """
        if lease.line is None:
            return True
        entry = lease.entry
        found = self._line().find_bundle(entry.priority, entry.stamp, lease.line[0])
        if found is None:
            return True
        path, bundle = found
        self.complete(bundle)
        renamed = beside(path, bundle.taking(0, 0, new_token()))
        return bundle.token != lease.token and self._fs.rename(path, renamed)


def beside(path: str, bundle: Bundle) -> str:
    """Return the path that a bundle at `path` gets under another name."""
    return f"{path.rpartition('/')[0]}/{bundle.filename}"


def _lines_in(names: Iterable[str]) -> set[str]:
    """Return the ids of the bundles of which there are lines among these leases."""
    leases = (Lease.parse(name) for name in names if name.endswith(LINE_SUFFIX))
    return {lease.line[0] for lease in leases if lease and lease.line}
