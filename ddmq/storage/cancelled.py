"""Messages that are cancelled: dead letters at once, or as soon as somebody has taken them.

What waits or is delayed in a file of its own becomes a dead letter by one rename. A line of a
bundle can't be taken out of it, and what is at work is somebody's. For these there is a name in
`ready/cancelled/`: a symbolic link that nobody follows, whose target says who made it, and when.
Whoever claims a message whose name is there, or finds its lease over, makes it a dead letter, and
then removes the name. Until then, the message is in whichever state it is in.

Each look at what waits lists `ready/`, and so shows whether there is a `cancelled`. It is removed
with the last name in it. So a queue in which nothing is cancelled costs no call more.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING
from weakref import proxy

from ddmq.errors import InvalidArgument
from ddmq.storage.dead_letters import Dead
from ddmq.storage.directories import GONE
from ddmq.storage.layout import ABANDONED
from ddmq.storage.names import (
    CANCELLED,
    Entry,
    is_id,
    new_token,
    parse_paused_by,
    random_below,
)
from ddmq.storage.pause import by_us

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ddmq.storage.names import Lease
    from ddmq.storage.store import Store

#: How often we make the directory again, which others remove when they find it empty.
_TRIES = 8
#: How long the name of one is kept that is not in the queue, in seconds.
_KEPT_FOR = ABANDONED
#: How long a listing is believed, by how long it took, and the most seconds.
_BELIEVED, _BELIEVED_AT_MOST = 20, 10.0
_NO_NAME = "no message's id, where cancellations are"


class Cancellations:
    """The names in `ready/cancelled/` of one queue."""

    def __init__(self, store: Store) -> None:
        # Both go together, without the garbage collector.
        self._store: Store = proxy(store)
        self._fs = store.fs
        self._layout = store.layout
        self._buckets = store.buckets
        self._passed = store.passed
        self._ready = store.ready
        self._path = store.layout.cancelled
        self._lately: frozenset[str] = frozenset()
        self._until = -inf
        """Until when that is believed, by the monotonic clock."""

    def ids(self) -> frozenset[str]:
        """Return the ids of the messages that are to become dead letters."""
        return frozenset(filter(is_id, self._listed()))

    def lately(self) -> frozenset[str]:
        """Return the same, as the last listing has shown it.

        It is believed for 20 times as long as that listing took, and for 10 s at most.

        So whoever makes many names there can't slow down each claim by a long listing. One that
        is returned may have been removed: `has` tells.
        """
        now = self._store.clock.monotonic()
        if now >= self._until:
            self._lately = self.ids()
            took = self._store.clock.monotonic() - now
            self._until = now + min(_BELIEVED * took, _BELIEVED_AT_MOST)
        return self._lately

    def has(self, id_: str, lately: frozenset[str]) -> bool:
        """Tell whether a message is cancelled now, if a listing has shown lately that it was."""
        try:
            return id_ in lately and self._fs.exists(f"{self._path}/{id_}")
        except FileNotFoundError:
            return False

    def _listed(self) -> list[str]:
        """List the directory; nothing is in it where there is none, or it is closed to us.

        Others may remove it and make it anew meanwhile. Then a handle of the former is stale.
        """
        for _ in range(2):
            try:
                return self._fs.listing(self._path)
            except FileNotFoundError:
                if CANCELLED not in self._fs.listing(self._layout.ready):
                    break
            except NotADirectoryError:
                self._buckets.quarantine(
                    self._path, "no directory, where cancellations are"
                )
            except PermissionError as error:
                self._passed.tell(self._path, "can't be listed", error)
                break
        return []

    def ids_if_any(self) -> frozenset[str]:
        """Return the same by one call, where nothing is cancelled, that no cache answers."""
        names = self._fs.listing(self._layout.ready)
        return self.ids() if CANCELLED in names else frozenset()

    def end(self, lease: Lease) -> bool:
        """Make a leased message a dead letter, as somebody asked; False: the lease is lost."""
        id_ = lease.entry.id
        note = {"reason": _reason(self._fs.named_by(f"{self._path}/{id_}"))}
        moved = self._store.dead_letter(lease, lease.entry, "cancelled", note)
        if moved:
            self.forget([id_])
        return moved

    def forget(self, ids: Iterable[str]) -> None:
        """Remove names, and the directory with the last one; what can't be removed stays."""
        names = [f"{self._path}/{id_}" for id_ in ids]
        for name in names:
            with suppress(OSError):  # a directory, say, which somebody put there
                self._fs.unlink(name)
        if names:
            self._fs.rmdir(self._path)

    def tidy(self, now_ns: int, within: float) -> None:
        """Remove names of messages that are not in the queue; they were acked or purged, say.

        `now_ns` was the file server's time before. A name that is younger than an hour stays:
        whoever made it saw the message. What nobody can remove like a name is quarantined. It
        looks `within` so many seconds, and each time at others first.
        """
        if CANCELLED not in self._fs.listing(self._layout.ready):
            return
        names, old = deque(self._listed()), []
        names.rotate(random_below(len(names)))
        clock, others = self._store.clock, 0
        end = clock.monotonic() + within
        while names and clock.monotonic() <= end:
            path = f"{self._path}/{names.popleft()}"
            found = self._fs.status(path)
            if found is None or found.age(now_ns) <= _KEPT_FOR:
                continue
            id_ = os.path.basename(path)
            if is_id(id_) and not found.is_directory:
                old.append(id_)
            else:
                others += self._store.dead_letters.quarantine(path, _NO_NAME)
        if old:
            from ddmq.storage.whereabouts import gone  # rarely needed

            self.forget(gone(self._store, old))
        if others:
            self._fs.rmdir(self._path)

    # Cancelling

    def cancel(self, ids: Iterable[str]) -> dict[str, str]:
        """Cancel messages; return where each is now, as `ddmq.storage.whereabouts` says it.

        `dead`: it is a dead letter, by us or before. `waiting`, `delayed` or `work`: it will be,
        when it is claimed or its lease is over. `acked` or `unknown`: there is nothing to cancel.
        InvalidArgument: one is no id, and nothing was done. An interrupted call can be repeated.
        """
        from ddmq.storage.whereabouts import statuses  # rarely needed

        asked = list(dict.fromkeys(ids))
        for id_ in asked:
            if not is_id(id_):
                raise InvalidArgument(f"{id_!r:.80} is no id of a message")
        self._layout.require_change()
        target = by_us(self._store)
        self._take_out(frozenset(asked), _reason(target))
        found = statuses(self._store, asked)
        for id_, state in found.items():
            if state in ("waiting", "delayed", "work"):
                self._name(id_, target)
        self.forget(id_ for id_, state in found.items() if state == "dead")
        self._ready.forget()
        self._until = -inf
        return found

    def _name(self, id_: str, target: str) -> None:
        """Make the name of a message, which may be there."""
        for _ in range(_TRIES):
            try:
                if self._fs.elected(f"{self._path}/{id_}", target):
                    return
            except OSError as error:
                if error.errno not in GONE:
                    raise
                # Nobody needed it, or the last name was removed. An NFS client calls it stale if
                # somebody has made it again meanwhile.
                self._layout.make_directory(self._path)
        raise OSError(errno.EAGAIN, "it is removed as often as it is made", self._path)

    def _take_out(self, wanted: frozenset[str], reason: str) -> None:
        """Make dead letters of what waits or is delayed in a file of its own."""
        store = self._store
        found = [(place.path, place.entry) for place in store.scan.places()]
        found += [
            (f"{store.delayed.path}/{each.filename}", each.entry)
            for each in store.delayed.all()
        ]
        for path, entry in found:
            if not isinstance(entry, Entry) or entry.id not in wanted:
                continue
            dead = Dead(entry, new_token(), "cancelled")
            store.dead_letters.write_note(dead, {"reason": reason})
            if not self._fs.rename(path, store.dead_letters.path_of(dead)):
                store.dead_letters.discard_note(dead)


def _reason(target: str) -> str:
    """Say who cancelled a message, as far as the target of its link tells."""
    found = parse_paused_by(target)
    return "cancelled" if found is None else f"cancelled by {found[0]} on {found[1]}"
