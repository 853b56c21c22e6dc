"""What clients do because there is no server."""

from __future__ import annotations

import os
from collections import deque
from contextlib import ExitStack, suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ddmq.bundles import BundleNotFound
from ddmq.clock import ClockUnknown
from ddmq.errors import LockTimeout
from ddmq.fs import FORBIDDEN
from ddmq.locks import exclusive
from ddmq.log import warn
from ddmq.message import Policy
from ddmq.names import random_below
from ddmq.patience import awaited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ddmq.clock import Clock
    from ddmq.names import Lease
    from ddmq.patience import Errand
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
#: Seconds for which whoever comes waits for a sweep: the first, and one beside another that
#: hangs already. It then goes on without him.
GRACE, GRACE_BESIDE = 0.8, 0.1
#: How many sweeps of one client hang at most.
MOST_HANGING = 8
#: Seconds between two looks into `drop/`.
DROP_EVERY = 30.0
#: Seconds between two sweeps of a client that sweeps often.
OFTEN = 10.0
#: Seconds between two comparisons with the file server's clock.
CLOCK_EVERY = 600.0
#: Seconds after which a bundle that can't be found is told: while many take from it on a
#: network file system, one look may miss it.
_MISSED_FOR = 60.0
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
        self._missed: dict[str, float] = {}
        self._unfinished = False
        self._delayed = 0
        self._busy: set[object] = set()
        self._hanging: list[Errand[None]] = []
        self._process = os.getpid()

    def sweep_when_due(self, *, idle: bool = False) -> bool:
        """Sweep if the last time is long enough ago; tell whether it was.

        A thread does it. When a call hangs in the file server, that thread hangs alone: the
        next sweep leaves out what it is at. Without permission, or the file server's time,
        leave it to others.
        """
        now = self._clock.monotonic()
        interval = SWEEP_EVERY_IDLE if idle else self._interval
        ago = now - self._swept_at
        if 0 <= ago < interval:
            return False
        hanging = self._count_hanging()
        if hanging == MOST_HANGING or 0 <= ago < interval * 2**hanging:
            return False  # it may also be that all is slow: don't make it slower
        self._swept_at = now
        sweep = self._clock.begin(partial(self._sweep_all, now, often=0 <= ago < OFTEN))
        if not sweep.ends_within(GRACE_BESIDE if hanging else GRACE):
            self._hanging.append(sweep)
            sweep.leave(self._tell)
            return True
        try:
            sweep.result()
        except ClockUnknown:
            return True
        except OSError as error:
            if error.errno not in FORBIDDEN:
                raise
        return True

    def _count_hanging(self) -> int:
        """Count our sweeps that did not end; those of a process that forked us are its own."""
        if self._process != os.getpid():
            self._process, self._busy, self._hanging = os.getpid(), set(), []
        self._hanging = [sweep for sweep in self._hanging if not sweep.has_ended]
        return len(self._hanging)

    def _tell(self, error: BaseException | None) -> None:
        """Warn, once, of what stopped a sweep that nobody waits for."""
        if error is None or (isinstance(error, OSError) and error.errno in FORBIDDEN):
            return
        text = f"{error!s:.500}"
        self._warn_once(text, text)

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
        expired, leases, needless = self._store.expired()
        held = leases - len(expired)
        self._interval = SWEEP_EVERY * (1 + held / _LEASES_PER_SECOND)
        fates = self._each(self._expire, expired, within)
        self._each(self._store.discard_recalled, needless, within)
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
        """Do something for one message; its trouble must not stop the others'.

        Nor must it hang twice: what another thread of ours is at is left out.
        """
        busy = self._busy
        if name in busy:
            return None
        busy.add(name)
        try:
            return act(name)
        except OSError as error:
            if error.errno not in FORBIDDEN:
                self._warn_once(name, str(error))
            return None
        finally:
            busy.discard(name)

    def _warn_once(self, about: object, text: str) -> None:
        if about not in self._troubled:
            self._troubled.add(about)
            warn(f"housekeeping of queue {self._queue}: {text}")

    def _expire(self, lease: Lease) -> str:
        """Do for a vanished consumer what a nack does, but count a loss.

        The name tells all that is needed: nothing is read but, for a line, its bundle. A line
        whose bundle can't be found stays where it is, and is looked at again later.
        """
        try:
            proven = self._store.proven(lease, patient=False)
        except BundleNotFound as error:
            now = self._clock.monotonic()
            if now - self._missed.setdefault(error.id, now) >= _MISSED_FOR:
                self._warn_once(error.id, str(error))
            return "unknown"
        self._missed.pop(lease.entry.id.partition("-")[0], None)
        if proven is None:
            return "gone"
        entry, lost = proven.entry, proven.entry.lost()
        policy = Policy.of(entry, self._settings())
        if not policy.may_requeue(entry.failures + entry.losses):
            return "dead" if self._store.bury(proven, lost, "expired") else "gone"
        lost = lost._replace(priority=policy.requeue_prio)
        return "requeued" if self._store.requeue(proven, lost) else "gone"

    def clean(self) -> Swept:
        """Do all housekeeping now, leftovers of dead writers included.

        What hangs is waited for, and told.
        """
        self._count_hanging()
        cleaning = self._clock.begin(self._clean_all)
        for sweep in self._hanging:
            with suppress(OSError):  # which it tells of itself
                awaited(sweep, self._what_hangs)
        return awaited(cleaning, self._what_hangs)

    def _what_hangs(self) -> str:
        names = [str(getattr(name, "filename", name)) for name in [*self._busy][:3]]
        where = f" at {', '.join(names)}" if names else ""
        return f"cleaning queue {self._queue} waits{where}"

    def _clean_all(self) -> Swept:
        removed = self._tidy(inf)
        swept = self._expire_all(inf).plus(self._show_due(inf))
        return swept.plus(self._adopt_all(inf)).plus(removed)

    def _tidy(self, within: float) -> Swept:
        """Put right what the dead left behind; the rest is left to the next cleaner."""
        store = self._store
        self._each(store.letters.set_aside, store.foreign(), within)
        remove = partial(store.remove_if_abandoned, now_ns=store.server_ns())
        removed = self._each(remove, store.leftovers(), within)
        complete = partial(store.complete_in, within=within)
        self._each(complete, store.buckets.all(), within)
        store.mark_cleaned()
        self._each(store.fs.rmdir, store.buckets.removable(), within)
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
