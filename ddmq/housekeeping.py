"""What clients do because there is no server."""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from functools import partial
from math import inf
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ddmq.clock import ClockUnknown
from ddmq.errors import LockTimeout
from ddmq.fs import FORBIDDEN
from ddmq.locks import exclusive
from ddmq.log import warn
from ddmq.message import of_lease
from ddmq.names import random_below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
#: Seconds after which a sweep leaves the rest of each kind to the next one: whoever came
#: to consume does not wait until 100,000 expired leases are requeued.
SWEEP_FOR = 0.5
#: Seconds between two looks into `drop/`.
DROP_EVERY = 30.0
#: Seconds between two sweeps of a client that sweeps often.
OFTEN = 10.0
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
        self._swept_at = self._dropped_at = self._cleaned_at = -inf
        self._asked_clock_at = clock.monotonic()  # whoever opened the queue did so
        self._interval = SWEEP_EVERY
        self._troubled: set[object] = set()
        self._unfinished = False
        self._delayed = 0

    def sweep_when_due(self, *, idle: bool = False) -> bool:
        """Sweep if the last time is long enough ago; tell whether it was.

        Without permission, or the file server's time, leave it to others.
        """
        now = self._clock.monotonic()
        interval = SWEEP_EVERY_IDLE if idle else self._interval
        ago = now - self._swept_at
        if 0 <= ago < interval:
            return False
        self._swept_at = now
        try:
            self._sweep_all(now, often=0 <= ago < OFTEN)
        except ClockUnknown:
            return True
        except OSError as error:
            if error.errno not in FORBIDDEN:
                raise
        return True

    def _sweep_all(self, now: float, *, often: bool) -> None:
        self._store.check()
        often, self._unfinished = often and not self._unfinished, False
        if now - self._asked_clock_at >= CLOCK_EVERY:
            self._asked_clock_at = now
            self._store.learn_clock()
        self._expire_all(SWEEP_FOR)
        self._let_in(now, often=often)
        if not 0 <= now - self._cleaned_at < CLEAN_EVERY:
            self._cleaned_at = now
            self._try(self._clean_if_elected, "cleaning")
        if self._unfinished:
            self._interval, self._dropped_at = SWEEP_EVERY, -inf

    def _let_in(self, now: float, *, often: bool) -> None:
        """Let the delayed messages into the line that are due, and the dropped ones.

        Who looks often, and saw that none is delayed, looks for dropped ones instead: an
        idle client makes three calls, for the line, the leases, and one of these.
        """
        drop = not 0 <= now - self._dropped_at < DROP_EVERY
        if not drop or not often or self._delayed:
            self._show_due(SWEEP_FOR)
        if drop:
            self._dropped_at = now
            self._adopt_all(SWEEP_FOR)

    def _expire_all(self, within: float) -> Swept:
        """Requeue or bury the messages whose lease is over."""
        expired, leases = self._store.expired()
        held = leases - len(expired)
        self._interval = SWEEP_EVERY * (1 + held / _LEASES_PER_SECOND)
        fates = self._each(self._expire, expired, within)
        return Swept(fates.count("requeued"), fates.count("dead"))

    def _show_due(self, within: float) -> Swept:
        """Put the delayed messages that are due at the end of the line."""
        due, self._delayed = self._store.due()
        shown = self._each(self._store.show, due, within)
        return Swept(due=sum(number or 0 for number in shown))

    def _adopt_all(self, within: float) -> Swept:
        """Make messages of the files in `drop/` that stand still."""
        now_ns = self._store.server_ns()
        names = self._store.dropped()
        priority = self._settings().priority if names else 0
        adopt = partial(self._store.adopt, priority=priority, now_ns=now_ns)
        return Swept(adopted=self._each(adopt, names, within).count(True))

    def _each(
        self, act: Callable[[_Name], _Fate], names: Iterable[_Name], within: float
    ) -> list[_Fate | None]:
        """Do something for each message; what is left `within` seconds later is left.

        Half of the time is for the first ones, and half for some of the others: none waits
        for ever behind those that fail slowly, and several clients do not do the same.
        """
        left = deque(names)
        fates = self._in_time(act, left, within / 2)
        left.rotate(random_below(len(left)))
        fates += self._in_time(act, left, within / 2)
        self._unfinished = self._unfinished or bool(left)
        return fates

    def _in_time(
        self, act: Callable[[_Name], _Fate], left: deque[_Name], seconds: float
    ) -> list[_Fate | None]:
        """Do something for the first one, and for more while there is time."""
        end = self._clock.monotonic() + seconds
        fates = []
        while left:
            fates.append(self._try(act, left.popleft()))
            if self._clock.monotonic() > end:
                break
        return fates

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
            proven = self._store.proven(lease)
            return "gone" if proven is None else self._requeue_or_bury(proven)
        except OSError as error:
            if self._store.give_up(lease, error):
                return "gone" if lease.is_draft else "dead"
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

    def clean(self) -> Swept:
        """Do all housekeeping now, leftovers of dead writers included."""
        removed = self._tidy(inf)
        swept = self._expire_all(inf).plus(self._show_due(inf))
        return swept.plus(self._adopt_all(inf)).plus(removed)

    def _tidy(self, within: float) -> Swept:
        """Put right what the dead left behind; the rest is left to the next cleaner."""
        store = self._store
        self._each(store.letters.set_aside, store.foreign(), within)
        remove = partial(store.remove_if_abandoned, now_ns=store.server_ns())
        removed = self._each(remove, store.leftovers(), within)
        self._each(store.complete_in, store.buckets.all(), within)
        store.buckets.remove_empty()
        store.mark_cleaned()
        return Swept(removed=removed.count(True))

    def _clean_if_elected(self, _: str) -> None:
        """Clean when nobody has done so for long.

        The lock spares the file server a second cleaner. Nothing depends on it: when it
        can't be had for too long, or not at all, it is done without.
        """
        ago = self._store.cleaned_ago()
        if -CLEAN_EVERY < ago < CLEAN_EVERY:
            return
        with ExitStack() as stack:
            try:
                stack.enter_context(exclusive(self._store.lock, timeout=0))
            except (LockTimeout, OSError):
                if abs(ago) <= CLEAN_ANYWAY:
                    return
                self._store.require_change()
            self._tidy(SWEEP_FOR)
            self._expire_all(SWEEP_FOR)
