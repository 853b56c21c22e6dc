"""The housekeeping that clients do, because there is no server.

Expired leases are requeued, delayed messages made due, dropped files adopted, leftovers removed.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import ExitStack, suppress
from functools import partial, reduce
from math import inf
from typing import TYPE_CHECKING, TypeVar

from ddmq.clock import ClockUnknown
from ddmq.errors import LockTimeout, warn
from ddmq.storage.background import wait_for
from ddmq.storage.filesystem import FORBIDDEN
from ddmq.storage.names import Lease, known, parse_lease, past, random_below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ddmq.settings import Settings
    from ddmq.storage.background import BackgroundCall
    from ddmq.storage.delayed import Delayed
    from ddmq.storage.expiry import Expiry, Swept
    from ddmq.storage.range_names import RangeLease
    from ddmq.storage.store import Store

_Name = TypeVar("_Name")
_Fate = TypeVar("_Fate")
#: Seconds between two sweeps by one client, and one more for each 100 leases. So all clients
#: of a queue together list `work/` at most some hundred times a second.
SWEEP_EVERY = 1.0
_LEASES_PER_SECOND = 100
#: Seconds between two sweeps by a client that found nothing to consume.
SWEEP_EVERY_IDLE = 0.2
#: Seconds after which a sweep leaves the rest of each kind to the next sweep. So no consumer
#: waits until 100,000 expired leases are requeued.
SWEEP_FOR = 0.5
#: Seconds for which a caller waits for a sweep; the second, if another sweep already hangs. The
#: caller then goes on without it.
GRACE, GRACE_BESIDE = 0.8, 0.1
#: The most sweeps of one client that may hang.
MOST_HANGING = 8
#: Seconds between two looks into `drop/`.
DROP_EVERY = 30.0
#: A client sweeps often if its last sweep was fewer seconds ago than this.
OFTEN = 10.0
#: Seconds between two comparisons with the file server's clock.
CLOCK_EVERY = 600.0
#: Seconds until leftovers are removed again, and until that is done even without the lock.
CLEAN_EVERY = 600.0
CLEAN_ANYWAY = 3600.0


def find_expired(
    store: Store, *, of_all: bool = False, end_all: bool = False
) -> tuple[list[Lease | RangeLease], int, list[str]]:
    """List `work/` once; return what housekeeping has to do there.

    That is: the leases that are over by the file server's clock, the earliest first; how many names
    there are; and the ids of bundles that may be finished. These are bundles of which we ended a
    claim, or with `of_all` those of dead clients, too. With `end_all`, all leases count as over.
    """
    time, fs = store.time, store.fs
    now = time.now_ms()  # before the listing: that may take long
    names = fs.listing(store.layout.work)
    over = sorted(names) if end_all else past(names, now)
    leases: list[Lease | RangeLease] = known(parse_lease, over)
    if not store.ended and not of_all:
        return leases, len(names), []
    return leases, len(names), store.bundles.seem_finished(names, of_all=of_all)


def find_due(store: Store) -> tuple[list[Delayed], int]:
    """Return what is due in `delayed/`, the earliest first, and how many names there are."""
    time, fs = store.time, store.fs
    now = time.now_ms()  # before the listing, which may take long
    names = fs.listing(store.layout.delayed)
    over = past(names, now)
    if not over:  # then the module for it is not needed
        return [], len(names)
    from ddmq.storage.delayed import Delayed

    return known(Delayed.parse, over), len(names)


class Housekeeper:
    """Does the housekeeping of one queue whenever its client interacts with it.

    Any number of clients may do so at once. Each change is one rename, and one client makes it.
    """

    def __init__(
        self, queue: str, store: Store, settings: Callable[[], Settings]
    ) -> None:
        self._queue = queue
        self._store = store
        self._settings = settings
        clock = self._clock = store.clock
        self._layout = store.layout
        self._time = store.time
        self._fs = store.fs
        self._swept_at = self._dropped_at = self._cleaned_at = -inf
        self._asked_clock_at = clock.monotonic()  # whoever opened the queue did so
        self._interval = SWEEP_EVERY
        self._troubled: set[object] = set()
        self._unfinished = False
        self._number_delayed = 0
        self._busy: set[object] = set()
        self._hanging: list[BackgroundCall[None]] = []
        self._process = os.getpid()
        self._known_expiry: Expiry | None = None

    @property
    def _expiry(self) -> Expiry:
        """What becomes of leases that are over, once there are any."""
        if self._known_expiry is None:
            from ddmq.storage.expiry import Expiry

            self._known_expiry = Expiry(self._store, self._settings, self._warn_once)
        return self._known_expiry

    def sweep_when_due(self, *, idle: bool = False) -> bool:
        """Sweep if the last sweep is long enough ago; tell whether it is.

        A thread does it. When the file server lets a call hang, only that thread hangs, and the
        next sweep leaves out the file at which it hangs. A client that lacks the permission, or
        the file server's time, leaves the sweep to others.
        """
        now = self._clock.monotonic()
        interval = SWEEP_EVERY_IDLE if idle else self._interval
        ago = now - self._swept_at
        if 0 <= ago < interval:
            return False
        hanging = self._count_hanging()
        if hanging == MOST_HANGING or 0 <= ago < interval * 2**hanging:
            return False  # or the file server is just slow: don't make it slower
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

    @property
    def due_at(self) -> float:
        """When the next sweep is due, by the monotonic clock."""
        return self._swept_at + self._interval

    def _count_hanging(self) -> int:
        """Count our sweeps that hang; those of the process that forked us are not ours."""
        if self._process != os.getpid():
            self._process, self._busy, self._hanging = os.getpid(), set(), []
        self._hanging = [sweep for sweep in self._hanging if not sweep.has_ended]
        return len(self._hanging)

    def _tell(self, error: BaseException | None) -> None:
        """Warn once of the error that ended a sweep for which nobody waits."""
        if error is None or (isinstance(error, OSError) and error.errno in FORBIDDEN):
            return
        text = f"{error!s:.500}"
        self._warn_once(text, text)

    def _sweep_all(self, now: float, *, often: bool) -> None:
        self._layout.check()
        often, self._unfinished = often and not self._unfinished, False
        if now - self._asked_clock_at >= CLOCK_EVERY:
            self._asked_clock_at = now
            self._time.learn()
        self._expire_all(SWEEP_FOR)
        # An idle client makes three calls, for the ready queue, the leases, and one of these.
        # So whoever looks often, and saw that none is delayed, looks for dropped ones instead.
        drop = not 0 <= now - self._dropped_at < DROP_EVERY
        if not drop or not often or self._number_delayed:
            self._make_due(SWEEP_FOR)
        if drop:
            self._dropped_at = now
            self._adopt_all(SWEEP_FOR)
        if not 0 <= now - self._cleaned_at < CLEAN_EVERY:
            self._cleaned_at = now
            self._try(self._clean_if_elected, "cleaning")
        if self._unfinished:
            self._interval, self._dropped_at = SWEEP_EVERY, -inf

    def _expire_all(
        self, within: float, *, of_all: bool = False, end_all: bool = False
    ) -> list[Swept | None]:
        """Requeue the messages whose lease has expired, or make them dead letters.

        With `end_all`, all leases count as expired. Then remove bundles that are finished: our
        own, or with `of_all` those of others too. Return what was done for each lease for which
        there was time; None: it could not be done.
        """
        over, number, bundles = find_expired(
            self._store, of_all=of_all, end_all=end_all
        )
        fates: list[Swept | None] = []
        held = number - len(over)
        self._interval = SWEEP_EVERY * (1 + held / _LEASES_PER_SECOND)
        if over:
            self._expiry.cancelled = self._store.cancelled.ids_if_any()
            fates = self._each(self._expiry.expire, over, within)
        if bundles:
            self._each(self._store.bundles.remove_if_finished, bundles, within)
        return fates

    def _make_due(self, within: float) -> int:
        """Move the delayed messages whose time has come to the end of the ready queue.

        Return their number.
        """
        come, self._number_delayed = find_due(self._store)
        if not come:
            return 0
        made = self._each(self._store.delayed.make_due, come, within)
        return sum(number or 0 for number in made)

    def _adopt_all(self, within: float) -> int:
        """Make messages of the files in `drop/` that have not changed for a while.

        Return their number.
        """
        now_ns = self._time.now_ns()
        names = sorted(self._fs.listing(self._layout.drop))
        if not names:  # then the module for it is not needed
            return 0
        drop = self._store.drop
        priority = self._settings().priority
        adopt = partial(drop.adopt, priority=priority, now_ns=now_ns)
        return self._each(adopt, names, within).count(True)

    def _each(
        self, act: Callable[[_Name], _Fate], names: Iterable[_Name], within: float
    ) -> list[_Fate | None]:
        """Do something for each message, for at most `within` seconds.

        Half of the time is for the first messages, and half for some of the others at random.
        So none waits for ever behind those that fail slowly, and several clients do not all do
        the same work.
        """
        left, fates = deque(names), []
        for is_second_half in (False, True):
            if is_second_half:
                left.rotate(random_below(len(left)))
            end = self._clock.monotonic() + within / 2
            while left:
                fates.append(self._try(act, left.popleft()))
                if self._clock.monotonic() > end:
                    break
        self._unfinished = self._unfinished or bool(left)
        return fates

    def _try(self, act: Callable[[_Name], _Fate], name: _Name) -> _Fate | None:
        """Do something for one message; an error must not stop the work for the others.

        Nor must two threads hang at the same message. So one at which another thread of ours
        works is left out.
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

    def clean(self, *, end_leases: bool = False) -> Swept:
        """Do all housekeeping now, and remove the leftovers of dead clients.

        With `end_leases`, all leases count as expired. This waits for calls that hang, and logs
        at which files.
        """
        from ddmq.storage.expiry import Swept  # rarely needed

        def clean_all() -> Swept:
            removed, trouble = 0, None
            try:
                removed = self._tidy(inf)
            except OSError as error:  # no message may wait for what others left
                trouble = error
            fates = self._expire_all(inf, of_all=True, end_all=end_leases)
            come, adopted = self._make_due(inf), self._adopt_all(inf)
            if trouble is not None:
                raise trouble
            swept = Swept(due=come, adopted=adopted, removed=removed)
            return reduce(Swept.plus, filter(None, fates), swept)

        self._count_hanging()
        cleaning = self._clock.begin(clean_all)
        for sweep in self._hanging:
            with suppress(OSError):  # that sweep warns of it itself
                wait_for(sweep, self._what_hangs)
        return wait_for(cleaning, self._what_hangs)

    def _what_hangs(self) -> str:
        names = [str(getattr(name, "filename", name)) for name in [*self._busy][:3]]
        where = f" at {', '.join(names)}" if names else ""
        return f"cleaning queue {self._queue} waits{where}"

    def _tidy(self, within: float) -> int:
        """Put right what the dead left behind; the rest is left to the next cleaner.

        Return how many leftovers were removed.
        """
        from ddmq.storage.keys import Keys  # only a cleaning looks there
        from ddmq.storage.workers import Workers

        store, buckets = self._store, self._store.buckets
        leftovers, letters = store.leftovers, store.dead_letters
        scan = store.scan
        self._each(letters.quarantine, leftovers.foreign(), within)
        now_ns = self._time.now_ns()  # before all listings by which ages are judged
        remove = partial(leftovers.remove_if_abandoned, now_ns=now_ns)
        # Bundles without an entry may be those of drafts that are to be published.
        kept = Keys(store).complete_old(now_ns, within)
        found = [x for x in leftovers.all() if kept.isdisjoint((x, os.path.dirname(x)))]
        removed = self._each(remove, found, within)
        removed += self._each(self._fs.unlink, Workers(store).old(within), within)
        self._each(leftovers.tidy, scan.buckets(), within)
        self._try(partial(store.cancelled.tidy, within=within), now_ns)
        self._layout.mark_cleaned()
        self._each(self._fs.rmdir, buckets.removable(), within)
        return removed.count(True)

    def _clean_if_elected(self, _: str) -> None:
        """Remove leftovers if no client has done so for long, and we get the lock.

        The lock spares the file server a second cleaner. Nothing else depends on it. So if it
        can't be had for an hour, or not at all, this client cleans without it.
        """
        now_ns = self._time.now_ns()
        found = self._fs.status(self._layout.cleaned)
        ago = inf if found is None else found.age(now_ns)
        if -CLEAN_EVERY < ago < CLEAN_EVERY:
            return
        from ddmq.storage.locks import exclusive  # rarely needed

        with ExitStack() as stack:
            try:
                stack.enter_context(exclusive(self._layout.lock, timeout=0))
            except (LockTimeout, OSError):
                if abs(ago) <= CLEAN_ANYWAY:
                    return
                self._layout.require_change()
            self._try(self._tidy, SWEEP_FOR)
            self._expire_all(SWEEP_FOR, of_all=True)
