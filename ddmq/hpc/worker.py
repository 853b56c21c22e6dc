"""Consume, run, settle, drain."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ddmq.errors import GarbageAhead, QueueNotFound, StorageError
from ddmq.hpc.execution import CommandNotFound, Execution, Unfit
from ddmq.hpc.heartbeat import Heartbeat, token_of
from ddmq.hpc.idleness import Idleness
from ddmq.hpc.settling import Settler
from ddmq.hpc.signals import DRAIN
from ddmq.hpc.trouble import AWAY, is_for_good, may_pass, told
from ddmq.log import warn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ddmq.broker import Broker
    from ddmq.errors import DdmqError
    from ddmq.hpc.job import Job
    from ddmq.hpc.options import Options
    from ddmq.hpc.runner import Outcome
    from ddmq.message import Message

    _Ended = tuple[Execution, Outcome]

_LONGEST_WAIT = 30.0
#: A failure within so many seconds is a fast one.
_FAST = 5.0
#: Seconds for which what a signal ended may have been ended with the job: PBS signals the
#: commands before the worker.
_SIGNAL_LAG = 0.5
#: Messages after which a share of failures means something.
_ENOUGH = 10


class Summary(NamedTuple):
    """What a worker did."""

    numbers: dict[str, int]
    """Messages acked, failed, released, moved and lost."""
    stopped: str = ""
    """Why it stopped before it found the queue empty."""
    left: int = 0
    """Messages that waited or were delayed then."""
    broken: bool = False
    """Whether this node seems to be broken."""
    at_end: bool = False
    """Whether it stopped because the time of the job is over."""


class Worker:
    """Runs a command for each message of a queue, some at a time."""

    def __init__(
        self,
        broker: Broker,
        queue: str,
        command: Sequence[str],
        options: Options,
        job: Job,
    ) -> None:
        self._broker = broker
        self._queue = queue
        self._command = command
        self._options = options
        self._job = job
        self._clock = job.clock
        self._heartbeat = Heartbeat(broker, job.clock, job.signals.wake)
        self._settler = Settler(broker, queue, options, job, self._heartbeat)
        self._idleness = Idleness(job.clock.monotonic, options.poll_max)
        self._running: list[Execution] = []
        self._free = list(range(options.slots, 0, -1))
        self._fast_failures: list[_Ended] = []
        self._doubtful: list[_Ended] = []
        self._doubted_until = self._signalled_until = 0.0
        self._started = 0
        self._stopped = ""
        self._broken = False

    def run(self) -> Summary:
        """Work until the queue is empty, a limit is reached, or somebody asks to drain.

        A queue that is gone, or not ours to change, ends it at once: DdmqError.
        """
        with self._heartbeat:
            try:
                while not self._must_drain():
                    if not self._turn() and self._is_over():
                        break
                    self._wait()
                return self._close()
            finally:
                self._abandon()
                self._job.journal.flush()
                self._job.journal.close()

    def _turn(self) -> bool:
        """Do what there is to do; False when nothing could be started.

        No slot waits for acks: when all that ended did so well, they come after the next
        starts. A failure comes before, as it may forbid them.
        """
        ended = self._attend()
        if not all(outcome.succeeded and not e.timed_out for e, outcome in ended):
            self._finish(ended)
        try:
            return self._take()
        finally:
            self._finish(ended)

    # Taking messages

    def _take(self) -> bool:
        """Start a command in each free slot; False when there was nothing to start."""
        taken = False
        for _ in range(len(self._free)):
            if not self._may_take() or (message := self._consumed()) is None:
                break
            self._receive(message)
            taken = True
        return taken

    def _may_take(self) -> bool:
        if not self._free or self._doubtful or self._must_stop():
            return False
        if not self._idleness.is_over():
            return False
        most, now = self._options.max_messages, self._clock.own_ns() / 1e9
        if most is not None and self._started >= most:
            self._stopped = f"{most} messages were started"
        elif not self._job.deadline.allows(now, self._job.durations):
            self._stopped = "too little time remains for another message"
        return not self._stopped

    def _must_stop(self) -> bool:
        """Tell whether no more messages are to be taken."""
        if self._settler.cannot_go_on:
            self._stop_broken(self._settler.cannot_go_on)
        return bool(self._stopped)

    def _stop_broken(self, why: str) -> None:
        """Take no more: what goes wrong here is no message's fault. What runs goes on."""
        self._stopped = self._stopped or why
        self._broken = True

    def _consumed(self) -> Message | None:
        try:
            messages = self._broker.consume(self._queue, unless=self._why_not)
        except GarbageAhead:
            self._idleness.end()  # the queue is not empty
            return None
        except AWAY as error:
            self._wait_for_server(error)
            return None
        self._idleness.looked(found=bool(messages))
        return messages[0] if messages else None

    def _why_not(self, message: Message) -> str | None:
        """Say why a message is not even to be read: it may be what kills its workers."""
        why_not = self._settler.why_not(message)
        self._started += why_not is not None
        return why_not

    def _wait_for_server(self, error: DdmqError) -> None:
        if is_for_good(error):
            raise error
        self._idleness.server_is_away(error)

    def _receive(self, message: Message) -> None:
        """Start a command for a message, if none of ours still runs for it."""
        self._heartbeat.start(message)
        if self._settler.takes_over(message):
            return
        self._started += 1
        try:
            self._start(message)
        except Unfit as error:
            self._settler.reject(message, str(error))
        except CommandNotFound as error:
            self._stop_broken(str(error))
            self._settler.give_back(message)
        except OSError as error:
            self._could_not_start(message, error)

    def _start(self, message: Message) -> None:
        surroundings = self._options, self._job.environ, self._clock
        execution = Execution(message, self._free[-1], self._command, *surroundings)
        self._free.pop()
        self._running.append(execution)
        self._settler.begin(execution)

    def _could_not_start(self, message: Message, error: OSError) -> None:
        """Give a message back for which this node has no room, or no directory."""
        if may_pass(error):
            self._idleness.server_is_away(StorageError(error))
            self._settler.give_back(message, self._settler.delay)
        else:
            self._stop_broken(told(error))
            self._settler.give_back(message)

    # Attending to what runs

    def _attend(self) -> list[_Ended]:
        """Look after what runs; return what has ended, whose slots are free."""
        self._heed_losses()
        for execution in self._running:
            execution.watch()
        self._settler.retry()
        return self._without_doubtful(self._ended())

    def _without_doubtful(self, ended: list[_Ended]) -> list[_Ended]:
        """Hold back what may have failed only because the job is being ended.

        A scheduler may signal the commands before the worker. So a command that such a
        signal ended, or that failed just then, waits for ours, for a moment in which no
        other starts. If none comes it is a failure.
        """
        now = self._clock.monotonic()
        if any(_was_signalled(*each) for each in ended):
            self._signalled_until = now + _SIGNAL_LAG
        certain: list[_Ended] = []
        for each in ended:
            if _is_sure(*each) or now >= self._signalled_until:
                certain.append(each)
            else:
                self._doubtful.append(each)
                self._doubted_until = now + _SIGNAL_LAG
        if self._doubtful and now >= self._doubted_until:
            certain += self._doubtful
            self._doubtful = []
        return certain

    def _ended(self) -> list[_Ended]:
        ended = []
        for execution in list(self._running):
            outcome = execution.outcome()
            if outcome is not None:
                self._vacate(execution)
                ended.append((execution, outcome))
        return ended

    def _heed_losses(self) -> None:
        """Kill the commands whose message somebody else has by now, or may have."""
        for message in self._heartbeat.lost():
            for execution in self._running:
                if token_of(execution.message) == token_of(message):
                    warn(
                        f"message {message.id}: its lease is lost, and its command killed; "
                        "others may have consumed it"
                    )
                    execution.lost = execution.was_killed = True
                    execution.kill()

    def _finish(self, ended: list[_Ended]) -> None:
        """Settle what has ended, and leave the list empty."""
        while ended:
            self._finish_one(*ended.pop(0))

    def _finish_one(self, execution: Execution, outcome: Outcome) -> None:
        if self._is_fast_failure(execution, outcome):
            self._hold_back(execution, outcome)
            return
        self._settle_held_back()
        self._settler.settle(execution, outcome)
        if outcome.succeeded:
            self._job.durations.add(execution.duration)
        self._stop_after_failures()

    def _vacate(self, execution: Execution) -> None:
        self._running.remove(execution)
        self._free.append(execution.slot)
        self._idleness.end()  # the message may be about to come back to the queue

    def _is_fast_failure(self, execution: Execution, outcome: Outcome) -> bool:
        if self._options.fast_failures is None or outcome.succeeded:
            return False
        if execution.lost or execution.was_killed:
            return False
        return execution.duration < _FAST and not self._settler.is_special(outcome)

    def _hold_back(self, execution: Execution, outcome: Outcome) -> None:
        """Settle a fast failure later: maybe it is the node's fault, and no message's."""
        self._fast_failures.append((execution, outcome))
        number = len(self._fast_failures)
        if not self._broken and number == self._options.fast_failures:
            self._broken = True
            self._stopped = (
                f"this node looks broken: {number} failures in a row within seconds"
            )
        if self._broken:
            for held in self._fast_failures:
                self._settler.release(*held)
            self._fast_failures.clear()

    def _settle_held_back(self) -> None:
        held, self._fast_failures = self._fast_failures, []
        for execution, outcome in held:
            self._settler.settle(execution, outcome)
        if held:
            self._idleness.end()

    def _stop_after_failures(self) -> None:
        numbers, options = self._settler.numbers, self._options
        failed, runs = numbers["failed"], numbers["failed"] + numbers["acked"]
        many = options.max_failures is not None and failed >= options.max_failures
        share = options.max_failed_share
        many = many or (
            share is not None and runs >= _ENOUGH and failed >= share * runs
        )
        if many and not self._stopped:
            self._stopped = f"{failed} of {runs} messages failed"

    # Waiting and ending

    def _wait(self) -> None:
        """Wait until something can be done."""
        waits = [execution.due_in() for execution in self._running]
        waits += [self._heartbeat.over_in(), self._settler.due_in(), self._time_left()]
        waits += [self._job.journal.due_in()]
        if self._doubtful:
            waits.append(max(self._doubted_until - self._clock.monotonic(), 0.0))
        elif self._free and not self._must_stop():
            waits.append(self._idleness.due_in())
        seconds = min(w for w in (*waits, _LONGEST_WAIT) if w is not None)
        self._job.signals.wait(seconds, self._readers())
        if self._job.journal.due_in() == 0:
            self._job.journal.flush()

    def _time_left(self) -> float | None:
        """Return the seconds until the commands must be asked to end."""
        return self._job.deadline.passes_in(
            self._clock.own_ns() / 1e9, self._options.grace
        )

    def _readers(self) -> dict[int, Callable[[], object]]:
        return {fd: read for e in self._running for fd, read in e.readers().items()}

    def _must_drain(self) -> bool:
        left = self._time_left()
        if self._job.signals.drain_requested:
            self._stopped = "it was asked to drain"
        elif left is not None and left <= 0:
            self._stopped = "its time is over"
        else:
            return False
        return True

    def _is_over(self) -> bool:
        if self._running or self._doubtful or self._settler.due_in() is not None:
            return False
        if self._fast_failures:
            self._settle_held_back()
            return False
        return self._must_stop() or self._is_empty_for_good()

    def _is_empty_for_good(self) -> bool:
        until = self._options.until
        if until == "forever" or not self._idleness.lasted(self._options.wait):
            return False
        if not self._idleness.looked_after(self._settler.back_at):
            return False  # what we had no room for is coming back
        return until == "empty" or self._is_done()

    def _is_done(self) -> bool:
        try:
            return self._broker.is_empty(self._queue)
        except AWAY as error:
            self._wait_for_server(error)
            return False

    def _close(self) -> Summary:
        self._drain()
        self._settle_held_back()
        self._abandon()
        numbers = dict(self._settler.numbers)
        return Summary(
            numbers, self._stopped, self._left(), self._broken, self._is_at_end()
        )

    def _is_at_end(self) -> bool:
        """Tell whether the time of the job is over, so that its chain goes on."""
        job, now = self._job, self._clock.own_ns() / 1e9
        notice, grace = job.signals.notice, self._options.grace
        return job.deadline.ended(now, grace, job.durations, notice)

    def _drain(self) -> None:
        """Ask the commands to end, wait for them, and give back what did not succeed."""
        for execution in self._running:
            execution.terminate(self._options.term_signal)
        doubtful, self._doubtful = self._doubtful, []
        for each in doubtful:  # now it is known why they ended
            self._settler.release(*each)
        until = self._clock.monotonic() + self._options.grace
        while self._running or self._settler.due_in() is not None:
            left = until - self._clock.monotonic()
            if left <= 0 or self._job.signals.haste_requested:
                return
            self._job.signals.wait(min(left, 1.0), self._readers())
            self._heed_losses()
            self._settler.retry()
            self._give_back_finished()

    def _give_back_finished(self) -> None:
        for execution, outcome in self._ended():
            settle = (
                self._settler.settle if outcome.succeeded else self._settler.release
            )
            settle(execution, outcome)

    def _abandon(self) -> None:
        """Kill what still runs, and give back what is not settled."""
        running, self._running = self._running, []
        for execution in running:
            try:
                execution.kill()
            except OSError as error:  # the others are killed all the same
                warn(f"message {execution.message.id}: its command lives on: {error}")
        self._settler.close()

    def _left(self) -> int:
        """Return how many messages are left, where the worker did not find the queue empty."""
        if not self._stopped:
            return 0
        try:
            counts = self._broker.view(self._queue)[self._queue]
        except (QueueNotFound, *AWAY):
            return 0
        return counts.waiting + counts.delayed


def _is_sure(execution: Execution, outcome: Outcome) -> bool:
    """Tell whether a command succeeded, or we ended it ourselves."""
    ours = execution.timed_out or execution.lost or execution.was_killed
    return ours or outcome.succeeded


def _was_signalled(execution: Execution, outcome: Outcome) -> bool:
    """Tell whether what asks a worker to drain ended a command, and we did not send it."""
    return not _is_sure(execution, outcome) and outcome.code - 128 in DRAIN
