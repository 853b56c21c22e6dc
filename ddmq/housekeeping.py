"""What clients do because there is no server."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ddmq.errors import LockTimeout
from ddmq.fs import FORBIDDEN
from ddmq.locks import exclusive
from ddmq.log import warn
from ddmq.message import of_lease

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddmq.clock import Clock
    from ddmq.names import Lease
    from ddmq.settings import Settings
    from ddmq.store import Store

_Name = TypeVar("_Name")
_Fate = TypeVar("_Fate")
#: Seconds between two sweeps by one client, for each 100 leases one more: so all the
#: clients of a queue together list `work/` at most some hundred times a second.
SWEEP_EVERY = 1.0
_LEASES_PER_SECOND = 100
#: Seconds between two sweeps by a client that found nothing to consume.
SWEEP_EVERY_IDLE = 0.2
#: Seconds between two looks into `drop/`.
DROP_EVERY = 30.0
#: Seconds between two comparisons with the file server's clock.
CLOCK_EVERY = 600.0
#: Seconds after which leftovers are looked for, and after which no lock is waited for.
CLEAN_EVERY = 600.0
CLEAN_ANYWAY = 3600.0


class Swept(NamedTuple):
    """What a sweep found: numbers of messages."""

    requeued: int = 0
    dead: int = 0
    due: int = 0
    adopted: int = 0
    removed: int = 0
    """Leftovers of writers that died; they were no messages."""

    def plus(self, other: Swept) -> Swept:
        """Add number by number."""
        return Swept(*map(sum, zip(self, other)))


class Housekeeper:
    """Keeps one queue in order whenever its client interacts with it.

    Any number of them may work at once: each change is one rename, and one of them wins it.
    """

    def __init__(
        self, queue: str, store: Store, clock: Clock, settings: Callable[[], Settings]
    ) -> None:
        self._queue = queue
        self._store = store
        self._clock = clock
        self._settings = settings
        self._swept_at = self._dropped_at = float("-inf")
        self._cleaned_at = float("-inf")
        self._asked_clock_at = clock.monotonic()  # whoever opened the queue did so
        self._interval = SWEEP_EVERY
        self._troubled: set[object] = set()

    def sweep_when_due(self, *, idle: bool = False) -> bool:
        """Sweep if the last time is long enough ago; tell whether it was.

        Without permission, leave it to others.
        """
        now = self._clock.monotonic()
        interval = SWEEP_EVERY_IDLE if idle else self._interval
        if 0 <= now - self._swept_at < interval:
            return False
        self._swept_at = now
        try:
            self._sweep_all(now)
        except OSError as error:
            if error.errno not in FORBIDDEN:
                raise
        return True

    def _sweep_all(self, now: float) -> None:
        self._store.check()
        if now - self._asked_clock_at >= CLOCK_EVERY or self._clock.has_stepped():
            self._asked_clock_at = now
            self._store.learn_clock()
        self.expire()
        self.show_due()
        if not 0 <= now - self._dropped_at < DROP_EVERY:
            self._dropped_at = now
            self.adopt()
        if not 0 <= now - self._cleaned_at < CLEAN_EVERY:
            self._cleaned_at = now
            self._try(self._clean_if_elected, "cleaning")

    def expire(self) -> Swept:
        """Requeue or bury the messages whose lease is over."""
        expired, leases = self._store.expired()
        self._interval = SWEEP_EVERY * (1 + leases / _LEASES_PER_SECOND)
        fates = [self._try(self._expire, lease) for lease in expired]
        return Swept(fates.count("requeued"), fates.count("dead"))

    def show_due(self) -> Swept:
        """Put the delayed messages that are due at the end of the line."""
        shown = [self._try(self._store.show, delayed) for delayed in self._store.due()]
        return Swept(due=sum(number or 0 for number in shown))

    def _try(self, act: Callable[[_Name], _Fate], name: _Name) -> _Fate | None:
        """Do something for one message; its trouble must not stop the others'."""
        try:
            return act(name)
        except OSError as error:
            if error.errno not in FORBIDDEN and name not in self._troubled:
                self._troubled.add(name)
                warn(f"housekeeping of queue {self._queue}: {error}")
            return None

    def _expire(self, lease: Lease) -> str:
        """Do for a vanished consumer what a nack does, but count a loss."""
        try:
            return self._requeue_or_bury(lease)
        except OSError as error:
            if self._store.give_up(lease, error):
                return "dead"
            raise

    def _requeue_or_bury(self, lease: Lease) -> str:
        content = self._store.read_if_allowed(lease)
        if content is None:
            return "gone"
        message = of_lease(self._queue, lease, content, self._settings())
        lost = lease.entry._replace(losses=lease.entry.losses + 1)
        if not message.may_requeue:
            return "dead" if self._store.bury(lease, lost, "expired") else "gone"
        lost = lost._replace(priority=message.requeue_prio)
        return "requeued" if self._store.requeue(lease, lost) else "gone"

    def adopt(self) -> Swept:
        """Make messages of the files in `drop/` that stand still."""
        names = self._store.dropped()
        priority = self._settings().priority if names else 0
        adopt = partial(self._store.adopt, priority=priority)
        return Swept(adopted=[self._try(adopt, name) for name in names].count(True))

    def clean(self) -> Swept:
        """Do all housekeeping now, leftovers of dead writers included."""
        self._store.set_foreign_aside()
        leftovers = self._store.leftovers()
        remove = self._store.remove_if_abandoned
        removed = [self._try(remove, path) for path in leftovers]
        self._try(lambda _: self._store.complete_all(), "bundles")
        swept = self.expire().plus(self.show_due()).plus(self.adopt())
        self._store.line.remove_empty()
        self._store.mark_cleaned()
        return swept.plus(Swept(removed=removed.count(True)))

    def _clean_if_elected(self, _: str) -> None:
        """Clean when nobody has done so for long.

        The lock spares the file server a second cleaner. Nothing depends on it: when it
        can't be had for too long, it is done without.
        """
        ago = self._store.cleaned_ago()
        if -CLEAN_EVERY < ago < CLEAN_EVERY:
            return
        try:
            with exclusive(self._store.lock, timeout=0):
                self.clean()
        except LockTimeout:
            if abs(ago) > CLEAN_ANYWAY:
                self.clean()
