"""A worker shows itself: others see by a name in `workers/` how it does, and what it runs.

No message depends on it. A thread makes each call, and the worker's loop does not wait for it. Of
failures, only the first is told. A worker lists `workers/` to see how many there are, and so how
often it may rename; the numbers are in `ddmq.storage.workers`. The same listing shows whether
somebody asks it to drain.
"""

from __future__ import annotations

import os
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from ddmq.errors import DdmqError, QueueNotFound, warn
from ddmq.hpc.placeholders import text_of
from ddmq.seen import Activity, Running
from ddmq.storage.names import new_token
from ddmq.storage.workers import (
    AWAY,
    BRAKING,
    DRAINING,
    ENDED,
    IDLE,
    MOST_TEXT,
    PAUSED,
    RENAME_EVERY,
    SIGN_EVERY,
    WORKING,
    Turn,
    WorkerName,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddmq.broker import Broker
    from ddmq.hpc.limits import Limits
    from ddmq.hpc.options import WorkerOptions
    from ddmq.hpc.poller import Poller
    from ddmq.hpc.running.command import Command
    from ddmq.hpc.settling import Settler
    from ddmq.hpc.triage import Triage
    from ddmq.hpc.worker import Job
    from ddmq.storage.background import BackgroundCall
    from ddmq.storage.workers import Workers

#: Seconds after which a run is told of.
_LONG = 10.0
#: Seconds for which a turn lasts, and by which the next one may come earlier.
_GRAIN = 1.0
#: So few workers may rename all at once.
_FEW = 10
#: Seconds between two renames of a worker that was started by hand, and for how many seconds it
#: renames that often.
_EARLY, _EARLY_FOR = 2.0, 60.0
#: Intervals after which a worker renames though its turn moves on and on.
_ENOUGH = 3
#: Seconds for which the end waits for a call that hangs; while one hangs, the loop looks so often.
_PATIENCE = 1.0


class Presence:
    """What one worker shows of itself.

    `look` is called in each round of its loop, before it waits.
    """

    def __init__(
        self,
        broker: Broker,
        queue: str,
        options: WorkerOptions,
        job: Job,
        *,
        settler: Settler,
        limits: Limits,
        poller: Poller,
        triage: Triage,
        by_hand: bool = False,
    ) -> None:
        """`by_hand`: it runs on a terminal, where somebody wants to see how it goes."""
        self._broker = broker
        self._queue = queue
        self._slots = options.slots
        self._job = job
        self._clock = clock = job.clock
        self._settler = settler
        self._limits = limits
        self._poller = poller
        self._triage = triage
        self._token = new_token()
        self._started = int(clock.time() * 1000)
        self._shown: WorkerName | None = None
        self._told = Activity()
        self._call: BackgroundCall[None] | None = None
        self._turn: Turn | None = None
        self._next = self._sign_at = clock.monotonic()
        self._shown_at = -inf
        self._occupied = 0.0
        """Seconds for which slots were busy, together."""
        self._busy = 0
        self._looked_at = clock.monotonic()
        self._early_until = clock.monotonic() + _EARLY_FOR if by_hand else -inf
        self._is_refused = self._is_asked = False

    def look(self, running: Sequence[Command]) -> float:
        """Show what has changed, and a sign of life, when it is our turn.

        Return the seconds until the next look is due. A worker that is idle looks often enough.
        """
        self._show_when_due(running)
        if not running:
            return inf
        if self._call is not None and not self._call.has_ended:
            return _PATIENCE
        return max(self._next - self._clock.monotonic(), 0.0)

    def _show_when_due(self, running: Sequence[Command]) -> None:
        now = self._clock.monotonic()
        self._occupied += (now - self._looked_at) * self._busy
        self._looked_at, self._busy = now, len(running)
        if self._call is not None and not self._call.has_ended:
            return
        if self._is_asked:
            self._limits.drain()
        if now < self._next:
            return
        name, activity = self._name(running), self._activity(running)
        shown = self._shown
        is_same = shown is not None and shown == name._replace(work=shown.work)
        if is_same and activity == self._told and now < self._sign_at:
            missed = (now - self._next) // self._interval + 1
            self._next += missed * self._interval
            return
        self._next = now + self._interval  # whatever becomes of the call
        self._call = self._clock.begin(partial(self._show, name, activity))

    def end(self) -> None:
        """Show that the worker has ended, with its totals; wait for that only for a second.

        One that never had anything to do was never shown.
        """
        call = self._call
        self._call = None  # it refers to us, and we to what the broker holds
        if call is None or not call.ends_within(_PATIENCE):
            return
        name = self._name((), ENDED)
        self._clock.begin(partial(self._show_end, name)).ends_within(_PATIENCE)

    # What is shown

    def _name(self, running: Sequence[Command], state: str = "") -> WorkerName:
        """Return the name to be shown, still with the time of the name that is shown now."""
        settler, shown = self._settler, self._shown
        # What a slot does between two commands counts, too.
        busy = sum(command.duration for command in running)
        work = round(max(self._occupied - busy, settler.seconds) * 1000)
        return WorkerName(
            token=self._token,
            time=self._started if shown is None else shown.time,
            state=state or self._state(running),
            every=int(SIGN_EVERY) if shown is None else shown.every,
            started=self._started,
            slots=self._slots,
            busy=len(running),
            acked=settler.numbers["acked"],
            failed=len(settler.failed),
            released=settler.numbers["released"],
            moved=settler.numbers["moved"],
            work=work if shown is None else max(work, shown.work),
            peak=settler.peak_kib,
            process=os.getpid(),
            job=self._job.id,
            host=self._job.host,
        )

    def _state(self, running: Sequence[Command]) -> str:
        limits = self._limits
        if limits.is_braked or self._triage.pause(running):
            return BRAKING
        if limits.stopped or self._job.signals.drain_requested:
            return DRAINING
        if self._poller.is_server_away:
            return AWAY
        if self._poller.is_queue_paused:
            return PAUSED
        return WORKING if running else IDLE

    def _activity(self, running: Sequence[Command]) -> Activity:
        """Return what runs for long, by slot, what failed of late, and when the job ends."""
        ahead, clock = self._clock.offset_ns / 1e9, self._clock
        left = self._job.deadline.passes_in(clock.monotonic(), grace=0)
        ends = None if left is None else clock.own_ns() / 1e9 + left
        runs = [
            Running(
                each.slot,
                each.message.id,
                round(each.started + ahead),
                text_of(each.message.message)[:MOST_TEXT],
                command.progress(),
            )
            for command in running
            if command.duration >= _LONG
            for each in command.executions
        ]
        failures = tuple(self._settler.failures)
        if not runs and not failures:
            return Activity()  # the end of the job alone is not worth a file
        if ends is not None:
            # By the file server's clock, once: that it drifts is no reason to write again.
            ends = self._told.ends or round(ends + ahead)
        return Activity(tuple(sorted(runs)), failures, ends)

    # What its thread does

    def _show(self, name: WorkerName, activity: Activity) -> None:
        """Show a name and what it does, unless by now it is another one's turn."""
        try:
            self._broker.with_workers(
                self._queue, partial(self._show_in, name=name, activity=activity)
            )
        except QueueNotFound:  # the loop says so
            pass
        except (DdmqError, OSError) as error:
            if not self._is_refused:
                self._is_refused = True
                warn(f"this worker can't be seen by others now: {error}")

    def _show_in(
        self, workers: Workers, *, name: WorkerName, activity: Activity
    ) -> None:
        if self._shown is not None and not self._is_our_turn(workers, name):
            return
        every = int(max(SIGN_EVERY, self._interval))
        name = name._replace(time=int(self._clock.time() * 1000), every=every)
        workers.show(self._shown, name)
        now = self._clock.monotonic()
        self._shown, self._shown_at, self._sign_at = name, now, now + every
        if self._is_early:
            self._next = now + _EARLY
        elif self._turn is None:  # not all that start together look together
            self._next = now + RENAME_EVERY * (1 + os.urandom(1)[0] / 255)
        else:
            least = self._turn.interval - _GRAIN
            self._next = now + least + self._turn.after(self._clock.time() + least)
        if activity != self._told:
            workers.tell(self._token, activity)
            self._told = activity

    @property
    def _is_early(self) -> bool:
        """Whether somebody wants to see it now, and few others are there."""
        few = self._turn is None or self._turn.number <= _FEW
        return few and self._clock.monotonic() < self._early_until

    @property
    def _interval(self) -> float:
        if self._is_early:
            return _EARLY
        return RENAME_EVERY if self._turn is None else self._turn.interval

    def _is_our_turn(self, workers: Workers, name: WorkerName) -> bool:
        """Look how many workers there are, and who is to drain; tell whether we may rename."""
        look = workers.look(self._token)
        self._turn = turn = look.turn
        self._is_asked = any(drain.means(name) for drain in look.drains)
        if self._is_early:
            return True
        now = self._clock.monotonic()
        passed, moment = now - self._shown_at, self._clock.time()
        left = max(turn.interval - _GRAIN - passed, 0.0)
        is_our_turn = turn.number <= _FEW or turn.since(moment) <= _GRAIN
        if not left and (is_our_turn or passed >= _ENOUGH * turn.interval):
            return True
        self._next = now + left + turn.after(moment + left)
        return False

    def _show_end(self, name: WorkerName) -> None:
        """Show that it has ended, whoever's turn it is."""

        def show(workers: Workers) -> None:
            ended = name._replace(time=int(self._clock.time() * 1000))
            workers.show(self._shown, ended)
            if self._told != Activity():
                workers.tell(self._token, Activity())

        self._broker.with_workers(self._queue, show)
