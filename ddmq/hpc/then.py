"""`--then COMMAND`: what a worker runs when its queue is done."""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING, TypeVar

from ddmq.errors import StorageError, warn
from ddmq.hpc.faults import AWAY, NOT_NOW, is_for_good
from ddmq.hpc.running.process import Process
from ddmq.hpc.signals import DRAIN
from ddmq.storage.names import new_token
from ddmq.storage.then import FAILED, LEASED, WAITING, FollowUps

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddmq.broker import Broker
    from ddmq.hpc.limits import Limits
    from ddmq.hpc.options import WorkerOptions
    from ddmq.hpc.poller import Poller
    from ddmq.hpc.running.process import Outcome
    from ddmq.hpc.worker import Job
    from ddmq.storage.then import FollowUp, HeldFollowUp

_Result = TypeVar("_Result")
#: The part of a lease after which it is renewed.
_PART = 3
#: Seconds until it is tried again, where the user does not say.
_BACKOFF = 10.0
#: Seconds between two looks at a queue that seems done while it changes: first, and longest.
_LOOK_FIRST, _LOOK_LONGEST = 0.05, 2.0
#: Seconds before the end of the grace at which the command is asked to end, at most.
_LAST = 2.0
#: Seconds between two tries where the file server is away, and between two looks at the command.
_RETRY, _WATCH = 1.0, 1.0
#: Seconds for which a killed command is waited for, and for a signal of our own after its own.
_DIES, _SIGNAL_LAG = 2.0, 0.5


class Then:
    """Sees to it that a command runs when the queue is done, once by all workers if none dies.

    It arms that when the worker takes messages. The worker that finds the queue done leases it as
    one leases a message, and runs the command.
    """

    def __init__(
        self,
        broker: Broker,
        queue: str,
        *,
        options: WorkerOptions,
        job: Job,
        limits: Limits,
        poller: Poller,
        sleep: Callable[[float], None],
    ) -> None:
        # `sleep` waits for so many seconds, or until a signal or a child's end.
        self._broker = broker
        self._queue = queue
        self._options = options
        self._environ = job.environ
        self._signals = job.signals
        self._clock = job.clock
        self._limits = limits
        self._poller = poller
        self._sleep = sleep
        self.has_failed = False
        """Whether the command has failed for good."""
        self._told_dead = 0
        self._ours: set[str] = set()
        """The tokens of those that failed here, and that we try again."""
        self._in_doubt = False
        """Whether one may be leased to us of which we know nothing, after an error."""

    def _do(self, act: Callable[[FollowUps], _Result]) -> _Result:
        return self._broker.with_follow_ups(self._queue, act)

    def arm(self) -> None:
        """Arm it, for messages that were taken, before any of them is run."""
        self._do(FollowUps.arm)

    def is_left(self) -> bool:
        """Tell whether it is left to others, now that this worker stops."""
        if self._told_dead:
            return False
        found = self._do(FollowUps.all)
        return any(each.state not in (LEASED, FAILED) for each in found)

    def is_settled(self) -> bool:
        """Run it if the queue is done and nobody else does; False: the worker must not end yet.

        One that is given back, as the queue was not done after all, is looked for once more:
        whoever held the last message may have ended meanwhile, and found nothing to be taken.
        """
        try:
            return self._settle()
        except AWAY:
            self._in_doubt = True
            raise

    def _settle(self) -> bool:
        pause = _LOOK_FIRST
        while not self._limits.must_drain():
            found, free = self._do(FollowUps.look)
            self._in_doubt = self._in_doubt and any(x.is_pending for x in found)
            if not free:
                return not any(map(self._stays_for, found))
            counts = self._broker.view(self._queue)[self._queue]
            if counts.waiting or counts.work or counts.delayed:
                return True  # then whoever does the last of them does this, too
            if counts.dead and not self._options.then_even_if_dead:
                self._tell_of_dead(counts.dead)
                return True
            timeout = self._broker.settings(self._queue).message_timeout
            held = self._do(
                partial(FollowUps.claim, follow_up=free[0], timeout=timeout)
            )
            if held is None:
                continue
            others = self._do(partial(FollowUps.superseded, held=held))
            if self._broker.is_empty(self._queue):
                self._begin(held, others, timeout)
                self._poller.look_at_once()
                return False
            self._do(partial(FollowUps.give_back, held=held))
            self._sleep(pause)
            pause = min(pause * 2, _LOOK_LONGEST)
        return True

    def _stays_for(self, found: FollowUp) -> bool:
        """Tell whether the worker stays until it may take one, or somebody has done it."""
        if found.state == WAITING and found.token in self._ours:
            return True
        waits = self._in_doubt or self._options.until == "done"
        return found.is_pending and waits

    def _tell_of_dead(self, number: int) -> None:
        if number != self._told_dead:
            self._told_dead = number
            letters = f"{number} dead letter{'s' * (number > 1)}"
            warn(
                f"queue {self._queue} is done, but for {letters}: --then is not run; "
                "redrive them, or run a worker with --then-even-if-dead"
            )

    def _begin(
        self, held: HeldFollowUp, others: list[FollowUp], timeout: float
    ) -> None:
        """Start the command of a follow-up that we have leased, and see it through."""
        dead = self._broker.view(self._queue)[self._queue].dead
        if dead and not self._options.then_even_if_dead:
            self._do(partial(FollowUps.give_back, held=held))
            self._tell_of_dead(dead)
            return
        run = _Run(held, timeout, self._clock.monotonic())
        begun = self._do(partial(FollowUps.begin, held=held, timeout=timeout))
        if begun is None:
            return  # others have it
        run.held = begun
        self._do(partial(FollowUps.remove, follow_ups=others))
        environ = {
            **self._environ,
            "DDMQ_THEN_ID": begun.id,
            "DDMQ_THEN_DEAD": str(dead),
            "DDMQ_RUN": run.token,
        }
        try:
            mark = f"DDMQ_RUN={run.token}"
            process = Process(self._options.then, environ, mark=mark)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in NOT_NOW:
                self._surely(run, partial(FollowUps.give_back, held=run.held))
                raise StorageError(error) from error  # the worker tries again later
            self._fail(run, f"it can't be run: {error}")
            return
        self._watch(run, process)

    def _watch(self, run: _Run, process: Process) -> None:
        """Wait for the command, renew its lease meanwhile, and settle it by how it ended."""
        grace, drained_at, was_asked = self._options.grace, inf, False
        outcome: Outcome | None = None
        try:
            while (outcome := process.outcome()) is None:
                now = self._clock.monotonic()
                if now >= run.due and not self._renew(run):
                    warn(
                        f"{self}: its lease is lost, and it is killed; others may run it"
                    )
                    return
                if drained_at == inf and self._limits.must_drain():
                    drained_at = now
                left = drained_at + grace - now
                if left <= 0 or self._signals.haste_requested:
                    break
                if left <= min(_LAST, grace / 2) and not was_asked:
                    was_asked = True
                    process.send(self._options.term_signal)
                self._sleep(min(_WATCH, max(run.due - now, 0.0), left))
        finally:
            if outcome is None:
                self._kill(process)
        if outcome is not None and outcome.succeeded:
            self._surely(run, partial(FollowUps.finish, held=run.held))
            return
        if outcome is not None and outcome.code - 128 in DRAIN:
            self._sleep(_SIGNAL_LAG)  # a scheduler may signal it before the worker
        if outcome is None or self._limits.must_drain():
            warn(f"{self}: it was interrupted, which counts nothing; it is run again")
            self._surely(run, partial(FollowUps.give_back, held=run.held))
        else:
            self._fail(run, str(outcome))

    def _renew(self, run: _Run) -> bool:
        """Renew the lease; False: others may have it."""
        began = self._clock.monotonic()
        try:
            longer = self._do(
                partial(FollowUps.renew, held=run.held, timeout=run.timeout)
            )
        except AWAY as error:
            if is_for_good(error):
                raise
            run.due = began + _RETRY
            return began < run.ends
        if longer is not None:
            run.renewed(longer, began)
        return longer is not None

    def _kill(self, process: Process) -> None:
        process.kill()
        until = self._clock.monotonic() + _DIES
        while process.outcome() is None and self._clock.monotonic() < until:
            self._sleep(_RETRY / 10)

    def _fail(self, run: _Run, how: str) -> None:
        """Count a failure: it is tried again here after a while, or has failed for good."""
        waits = self._options.backoff or (_BACKOFF,)
        delay = waits[min(run.held.follow_up.failures, len(waits) - 1)]
        fail = partial(
            FollowUps.fail, held=run.held, retries=self._options.retries, delay=delay
        )
        failed, is_ours = self._surely(run, fail) or (None, False)
        if failed is None or not is_ours:
            return
        if failed.state == WAITING:
            self._ours.add(failed.token)
            warn(f"{self}: {how}; tried again in {delay:g} s")
            return
        self.has_failed = True
        warn(
            f"{self}: {how}; it failed {failed.failures} times, and is not tried again; run it "
            f"yourself, with DDMQ_THEN_ID={run.held.id}; new messages arm it anew"
        )

    def _surely(self, run: _Run, act: Callable[[FollowUps], _Result]) -> _Result | None:
        """Do something while the lease holds, however often the file server is away; None: not."""
        while True:
            try:
                return self._do(act)
            except AWAY as error:
                late = self._clock.monotonic() + _RETRY > run.ends
                if late or is_for_good(error) or self._signals.haste_requested:
                    self._in_doubt = True
                    warn(
                        f"{self}: how it ended can't be told, so it is run again: {error}"
                    )
                    return None
                self._sleep(_RETRY)

    def __str__(self) -> str:
        """Say what it runs."""
        return f"--then {' '.join(self._options.then)}"


class _Run:
    """A command that runs, and the lease of its follow-up."""

    def __init__(self, held: HeldFollowUp, timeout: float, began: float) -> None:
        self.token = new_token()
        self.timeout = timeout
        self.renewed(held, began)

    def renewed(self, held: HeldFollowUp, began: float) -> None:
        """Note a renewal that began at a time on the monotonic clock."""
        self.held = held
        self.due, self.ends = began + self.timeout / _PART, began + self.timeout
