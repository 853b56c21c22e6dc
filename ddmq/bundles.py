"""The bundles of one queue: many messages in a file, taken by a rename that moves a cursor.

A claim takes three steps, so that each message is in one state whoever dies in between:

1. For each line an empty file in `tmp/`, named as its lease will be: no message yet.
2. The bundle is renamed to a later cursor under the claim's token. Of all who rename it from
   where it stood, one succeeds; the lines in between are leased from this moment.
3. The empty files are renamed into `work/`, the last line's last. Whoever claims next sees
   whether that one is still in `tmp/`, and completes the claim of a client that died.

A lease whose file is empty is never renamed, so that no listing can miss it: its message is
written into it first. A bundle whose lines are all taken stays in `work/` while there is
such a lease.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ddmq.bundle import MAX_BUNDLE_BYTES, Lines
from ddmq.fs import REFUSED
from ddmq.message import MAX_BYTES, InvalidContent
from ddmq.names import LINE_SUFFIX, Bundle, Lease, new_token, parse_spent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ddmq.fs import FileSystem
    from ddmq.line import Line, Waiting
    from ddmq.message import Content
    from ddmq.names import Place

#: How many bundles that were read are kept in memory.
_KEPT = 4
#: How often a bundle is looked for that others may be renaming.
_LOOKS = 3


class Bundles:
    """What is particular to messages that came in bundles."""

    def __init__(self, queue: str, fs: FileSystem, line: Callable[[], Line]) -> None:
        self.mode: int | None = None
        """The mode of new files, where the umask must not decide."""
        self._tmp = f"{queue}/tmp"
        self._work = f"{queue}/work"
        self._fs = fs
        self._line = line
        self._read: dict[str, Lines] = {}
        self._completed: dict[str, str] = {}

    # Taking lines

    def lines(self, waiting: Waiting) -> Lines:
        """Return what a bundle holds; FileNotFoundError when it was renamed meanwhile."""
        known = self._read.get(waiting.entry.id)
        return known or self._keep(waiting.entry.id, waiting.path)

    def _keep(self, id_: str, path: str) -> Lines:
        lines = Lines(self._fs.read(path, MAX_BUNDLE_BYTES + MAX_BYTES))
        while len(self._read) >= _KEPT:
            oldest = next(iter(self._read))
            self._read.pop(oldest, None)
            self._completed.pop(oldest, None)
        self._read[id_] = lines
        return lines

    def claim(self, path: str, target: str, claimed: Bundle) -> list[Lease]:
        """Lease what `claimed` takes of the bundle at `path`, which goes to `target`.

        None when a rival was faster.
        """
        leases = claimed.leases()
        try:
            for lease in leases:
                self._fs.touch(f"{self._tmp}/{lease.filename}", self.mode)
        except OSError:
            self._discard(leases)
            raise
        try:
            won = self._fs.rename(path, target)
        except OSError as error:
            if error.errno in REFUSED:  # else it may be done, and needs the drafts
                self._discard(leases)
            raise
        if not won:
            self._discard(leases)
            return []
        return self._completing(claimed, leases)

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
        source, target = (f"{d}/{lease.filename}" for d in (self._tmp, self._work))
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

    def pending(self, place: Place) -> int:
        """Count the messages whose leases are still in `tmp/`, as their client died or is slow."""
        if not isinstance(place, Bundle) or not place.taken:
            return 0
        if self._is_complete(place):
            return 0
        names = set(self._fs.listing(self._tmp))
        return sum(lease.filename in names for lease in place.leases())

    def retire(self, waiting: Waiting) -> bool:
        """Take out of the line a bundle of which no line is to be taken any more."""
        bundle = waiting.entry
        assert isinstance(bundle, Bundle)
        self.complete(bundle)
        self._completed.pop(bundle.id, None)
        return self._fs.rename(waiting.path, f"{self._work}/{bundle.spent_name}")

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
        """Read a bundle again. A listing may miss one that others are renaming just then."""
        for _ in range(_LOOKS):
            try:
                waiting = self._line().find_bundle(
                    lease.entry.priority, lease.entry.stamp, id_
                )
                spent = f"{self._work}/spent.{id_}"
                return self._keep(id_, waiting.path if waiting else spent)
            except FileNotFoundError:
                continue
        path = f"{self._work}/{lease.filename}"
        raise OSError(errno.ENODATA, "its bundle can't be found", path)

    # What is left of bundles

    def remove_spent(self, names: Iterable[str]) -> None:
        """Remove the bundles in `work/` that no lease needs, by a listing and another one.

        A lease that moved in while the first was made is in the second.
        """
        unneeded = _unneeded(names)
        if not unneeded:
            return
        for id_ in unneeded & _unneeded(self._fs.listing(self._work)):
            self._fs.unlink(f"{self._work}/spent.{id_}")

    def is_vain(self, lease: Lease) -> bool:
        """Tell whether a draft in `tmp/` is of a claim that was not made, and never will be.

        A claim that was made is completed. A client that is only slow finds the bundle
        under another token than the one it meant to take.
        """
        if lease.line is None:
            return True
        found = self._line().find_bundle(
            lease.entry.priority, lease.entry.stamp, lease.line[0]
        )
        if found is None:
            return True
        bundle = found.entry
        assert isinstance(bundle, Bundle)
        self.complete(bundle)
        renamed = bundle.taking(0, 0, new_token())
        return bundle.token != lease.token and self._fs.rename(
            found.path, beside(found.path, renamed)
        )


def beside(path: str, bundle: Bundle) -> str:
    """Return the path that a bundle at `path` gets under another name."""
    return f"{path.rpartition('/')[0]}/{bundle.filename}"


def _unneeded(names: Iterable[str]) -> set[str]:
    names = list(names)
    spent = {id_ for name in names if (id_ := parse_spent(name)) is not None}
    if not spent:
        return spent
    lines = (Lease.parse(name) for name in names if name.endswith(LINE_SUFFIX))
    return spent - {lease.line[0] for lease in lines if lease and lease.line}
