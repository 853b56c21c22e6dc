"""Consume, run, settle, drain."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ddmq.errors import GarbageAhead, QueueNotFound, QueuePaused, StorageError
from ddmq.hpc.brake import Brake
from ddmq.hpc.command import Surroundings
from ddmq.hpc.execution import CommandNotFound, Ended, Unfit
from ddmq.hpc.faults import AWAY, is_for_good, may_pass, told
from ddmq.hpc.heartbeat import Heartbeat, key_of
from ddmq.hpc.launcher import Launcher
from ddmq.hpc.limits import AHEAD_AT_MOST, Limits
from ddmq.hpc.poller import Poller
from ddmq.hpc.presence import Presence
from ddmq.hpc.settling import Settler
from ddmq.hpc.signals import Suspects
from ddmq.hpc.stream import Output
from ddmq.log import warn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ddmq.broker import Broker
    from ddmq.clock import Clock
    from ddmq.hpc.command import Command
    from ddmq.hpc.journal import Journal
    from ddmq.hpc.limits import Deadline, Durations
    from ddmq.hpc.options import WorkerOptions
    from ddmq.hpc.signals import Signals
    from ddmq.hpc.then import Then
    from ddmq.message import Message

_LONGEST_WAIT = 30.0
#: Seconds until a reader of our output that took nothing more is asked again.
_READER_WAIT = 0.1


class Job(NamedTuple):
    """What surrounds a worker: usually a batch job."""

    host: str
    id: str
    """The scheduler's, empty outside of a job."""
    environ: dict[str, str]
    """For the commands."""
    signals: Signals
    deadline: Deadline
    journal: Journal
    durations: Durations
    """Of recent messages; filled from the journals where there is a deadline."""
    clock: Clock


class Summary(NamedTuple):
    """What a worker did."""

    numbers: dict[str, int]
    """Messages acked, failed, released, moved and lost; one that was acked later has not failed."""
    stopped: str = ""
    """Why it stopped before it found the queue empty."""
    left: int = 0
    """Messages that waited or were delayed then."""
    broken: bool = False
    """Whether this node seems to be broken."""
    at_end: bool = False
    """Whether it stopped because the time of the job is over."""
    braked: bool = False
    """Whether it stopped because its first commands all failed."""
    then_is_left: bool = False
    """Whether it stopped before `--then` was run, and nobody else runs it."""
    then_has_failed: bool = False
    """Whether that failed for good."""


class Worker:
    """Runs a command for each message of a queue, some at a time.

    Its loop: look after what runs, settle what has ended, consume and run, wait. In the end it
    drains. What becomes of a message is the Settler's, when to stop is the Limits'.
    """

    def __init__(
        self,
        broker: Broker,
        queue: str,
        command: Sequence[str],
        *,
        options: WorkerOptions,
        job: Job,
    ) -> None:
        self._broker = broker
        self._queue = queue
        self._options = options
        self._clock = job.clock
        self._signals = job.signals
        self._journal = job.journal
        self._limits = Limits(options, job)
        self._heartbeat = Heartbeat(broker, job.clock, job.signals.wake)
        self._settler = Settler(
            broker, queue, self._heartbeat, options=options, job=job
        )
        self._brake = Brake(self._settler, self._limits, options, job.clock)
        self._poller = Poller(job.clock.monotonic, options.poll_max)
        self._presence = Presence(
            broker,
            queue,
            options,
            job,
            settler=self._settler,
            limits=self._limits,
            poller=self._poller,
            brake=self._brake,
        )
        self._then = self._new_then(job)
        self._suspects = Suspects(job.clock)
        self._outputs = Output(1), Output(2)
        self._launcher = Launcher(
            Surroundings(command, options, job.environ, job.clock, self._outputs)
        )
        self._running: list[Command] = []
        self._free = list(range(options.slots, 0, -1))
        self._ahead: deque[Message] = deque()
        """Messages that were taken and are to be started next."""
        self._alone: deque[Message] = deque()
        """Messages of a batch that failed: each is to be run by itself, before all others."""
        self._taken_at = 0.0
        self._share = 1
        """How many of the messages that were taken together each slot is to get."""
        self._fast_failures: list[Ended] = []
        self._ends_at = 0.0

    def _new_then(self, job: Job) -> Then | None:
        if not self._options.then:
            return None
        from ddmq.hpc.then import Then  # not every worker has one

        return Then(
            self._broker,
            self._queue,
            options=self._options,
            job=job,
            limits=self._limits,
            poller=self._poller,
            sleep=self._sleep,
        )

    def run(self) -> Summary:
        """Work until the queue is empty, a limit is reached, or somebody asks to drain.

        A queue that is gone, or not ours to change, ends it at once: DdmqError.
        """
        with self._heartbeat:
            try:
                self._work()
                self._drain()
                self._settle_fast_failures()
                self._brake.settle()
                self._dismiss()
                self._abandon()
                self._print_the_rest()
                return self._summary()
            finally:
                self._abandon()
                self._journal.flush()
                self._journal.close()
                self._presence.end()

    def _work(self) -> None:
        """Go round until there is nothing left to do, or it is time to drain."""
        while not self._limits.must_drain():
            ended = self._look_after_commands()
            # No slot waits for acks: when all that ended did so well, they come after the
            # next starts. A failure comes before, as it may forbid them.
            if not all(each.went_well for each in ended):
                self._settle(ended)
            try:
                has_started = self._take()
            finally:
                self._settle(ended)
            self._let_go_of_failures(is_idle=not has_started)
            if not has_started and self._is_over():
                return
            self._wait()

    # Consume, run

    def _take(self) -> bool:
        """Start a command in each free slot; False when there was nothing to start."""
        taken = False
        is_full = any(output.is_full for output in self._outputs)
        if self._ahead and (is_full or self._left_ahead() <= 0) and not self._alone:
            self._give_back_ahead()  # others may have a slot for them
        for _ in range(len(self._free)):
            if self._suspects.held:  # until it is known why they ended
                break
            if self._brake.pause(self._running):
                break
            if self._must_stop() or not self._limits.may_start(again=bool(self._alone)):
                break
            if is_full:
                break  # nobody reads what the others print
            messages = self._next()
            if not messages:
                break
            self._start(messages)
            taken = True
        if self._must_stop():
            self._give_back_ahead()
        return taken

    def _must_stop(self) -> bool:
        """Tell whether nothing more is to be started."""
        broken, again = self._settler.cannot_go_on, bool(self._alone)
        return self._limits.must_stop(broken, again=again)

    def _next(self) -> list[Message]:
        """Return the messages for the next free slot; none: there is none, or it is not time to look.

        One call to the file system takes messages for all free slots, and for the next seconds.
        """
        if self._alone:
            return [self._alone.popleft()]
        if not self._poller.is_due():
            return []
        if not self._ahead:
            free = len(self._free)
            try:
                messages = self._broker.consume(
                    self._queue,
                    self._limits.how_many(free),
                    unless=self._why_not,
                    heed_pause=True,
                )
            except GarbageAhead:
                self._poller.look_at_once()  # the queue is not empty
                return []
            except QueuePaused as error:
                self._poller.is_paused(error)
                return []
            except AWAY as error:
                if is_for_good(error):
                    raise
                self._poller.server_is_away(error)
                return []
            self._poller.looked(found=bool(messages))
            for message in messages:
                self._heartbeat.start(message)
            self._ahead.extend(messages)
            self._taken_at = self._clock.monotonic()
            self._share = -(-len(messages) // free)
            if messages and not self._is_armed():
                return []
        return self._batch()

    def _is_armed(self) -> bool:
        """Arm what is to be run when the queue is done; False: nothing may be run before it is."""
        try:
            if self._then is not None:
                self._then.arm()
        except AWAY as error:
            self._give_back_ahead()
            if is_for_good(error):
                raise
            self._poller.server_is_away(error)
            return False
        return True

    def _batch(self) -> list[Message]:
        """Take the next messages that may be run together: each free slot gets its share.

        One that came back runs alone, as it may be what makes a batch fail.
        """
        most = self._limits.for_one_command(self._share)
        batch: list[Message] = []
        while self._ahead and len(batch) < most:
            if self._ahead[0].requeue_counter and batch:
                break
            batch.append(self._ahead.popleft())
            if batch[0].requeue_counter:
                break
        return batch

    def _left_ahead(self) -> float:
        """Return the seconds for which what was taken ahead may still wait for a slot."""
        return self._taken_at + AHEAD_AT_MOST - self._clock.monotonic()

    def _give_back_ahead(self) -> None:
        """Give back what was taken and not started."""
        ahead = [*self._alone, *self._ahead]
        self._alone.clear()
        self._ahead.clear()
        self._settler.give_back_unstarted(ahead)

    def _why_not(self, message: Message) -> str | None:
        """Say why a message is not even to be read: it may be what kills its workers."""
        why_not = self._settler.why_not(message)
        self._limits.started += why_not is not None
        return why_not

    def _start(self, messages: list[Message]) -> None:
        """Start a command for messages, but for those for which one of ours still runs."""
        messages = [each for each in messages if not self._settler.takes_over(each)]
        if not messages:
            return
        first = messages[0]
        try:
            command = self._launcher.launch(messages, self._free[-1])
        except Unfit as error:
            self._limits.started += 1
            self._settler.reject(first, str(error))
            self._ahead.extendleft(reversed(messages[1:]))
            return
        except CommandNotFound as error:
            self._limits.stop_broken(str(error))
        except OSError as error:  # this node has no room for it, or no directory
            if may_pass(error):
                self._poller.server_is_away(StorageError(error))
                for message in messages:
                    self._settler.give_back(message, self._settler.delay)
                return
            self._limits.stop_broken(told(error))
        else:
            number = len(command.executions)
            self._limits.started += number
            self._ahead.extendleft(reversed(messages[number:]))
            self._free.pop()
            self._running.append(command)
            for execution in command.executions:
                self._settler.begin(execution)
            return
        for message in messages:
            self._settler.give_back(message)

    # Look after what runs, settle

    def _look_after_commands(self) -> list[Ended]:
        """End what must end, and try again what is owed; return what has ended by itself."""
        self._kill_what_is_lost()
        for command in self._running:
            command.watch()
        self._settler.retry()
        return self._suspects.cleared(self._collect())

    def _kill_what_is_lost(self) -> None:
        """Kill the commands whose message somebody else has by now, or may have."""
        for message in self._heartbeat.lost():
            key = key_of(message)
            self._ahead = deque(m for m in self._ahead if key_of(m) != key)
            self._alone = deque(m for m in self._alone if key_of(m) != key)
            for command in self._running:
                for execution in command.executions:
                    if key_of(execution.message) == key:
                        warn(
                            f"message {message.id}: its lease is lost, and its command killed; "
                            "others may have consumed it"
                        )
                        execution.lost = command.was_killed = True
                        command.kill()

    def _collect(self) -> list[Ended]:
        """Return the commands that have ended; their slots are free."""
        ended = []
        for command in list(self._running):
            outcome = command.outcome()
            if outcome is not None:
                self._running.remove(command)
                self._free.append(command.slot)
                self._poller.look_at_once()  # the message may be about to come back
                ended += [Ended(each, outcome) for each in command.executions]
        return ended

    def _settle(self, ended: list[Ended]) -> None:
        """Settle what has ended, and leave the list empty.

        A fast failure is settled later: maybe it is the node's fault, and no message's.
        """
        ended[:] = filter(self._stays_together, ended)
        self._brake.note(ended)
        acked = self._settler.ack_together(ended)
        while ended:
            each = ended.pop(0)
            if self._brake.holds(each):
                continue
            is_special = self._settler.is_special(each.outcome)
            if not is_special and self._limits.is_fast_failure(each):
                each.execution.forgo_result()
                self._fast_failures.append(each)
                self._limits.note_fast_failures(len(self._fast_failures))
                if self._limits.is_broken:
                    for failure in self._fast_failures:
                        self._settler.release(failure)
                    self._fast_failures.clear()
                continue
            self._settle_fast_failures()
            if each not in acked:
                self._settler.settle(each)
            if each.outcome.succeeded:
                self._limits.note_duration(each.execution.duration)
            self._limits.note_results(self._settler.numbers)

    def _stays_together(self, ended: Ended) -> bool:
        """Let a message be run by itself whose batch failed; False: it will be.

        Only so it shows which message is to blame.
        """
        execution, outcome = ended
        if len(execution.command.executions) == 1 or ended.went_well:
            return True
        if execution.lost or execution.was_killed or self._settler.is_later(outcome):
            return True
        self._settler.forget(ended)
        self._alone.append(execution.message)
        self._limits.started -= 1  # it is started once more
        return False

    def _settle_fast_failures(self) -> None:
        """Settle what failed fast as what it is: a failure of its message."""
        failures, self._fast_failures = self._fast_failures, []
        for each in failures:
            self._settler.settle(each)
        if failures:
            self._poller.look_at_once()

    def _let_go_of_failures(self, *, is_idle: bool) -> None:
        """Settle what the brake holds, where a slot is free and nothing else to be started."""
        waits = self._suspects.held or self._brake.pause(self._running)
        is_needed = is_idle and self._free and not waits
        if self._brake.settle(only_late=not is_needed):
            self._poller.look_at_once()

    # Wait

    def _is_over(self) -> bool:
        """Tell whether there is nothing left to do, when nothing could be started."""
        if self._running or self._suspects.held or self._alone:
            return False
        if self._settler.due_in() is not None:
            return False
        if self._fast_failures:
            self._settle_fast_failures()
            return False
        if self._must_stop():
            return True
        if not self._poller.has_been_empty_for(0):
            return False
        if not self._poller.looked_after(self._settler.back_at):
            return False  # what we had no room for is coming back
        until, lingers = self._options.until, self._options.wait
        try:
            if self._then is not None and not self._then.is_settled():
                return False
            if until == "forever" or not self._poller.has_been_empty_for(lingers):
                return False
            return until == "empty" or self._broker.is_empty(self._queue)
        except AWAY as error:
            if is_for_good(error):
                raise
            self._poller.server_is_away(error)
            return False

    def _wait(self) -> None:
        """Wait until something can be done."""
        waits = [command.due_in() for command in self._running]
        waits += [self._heartbeat.over_in(), self._settler.due_in()]
        waits += [self._limits.time_left(), self._journal.due_in()]
        if self._ahead:
            waits.append(max(self._left_ahead(), 0.0))
        if self._suspects.held:
            waits.append(self._suspects.due_in())
        elif self._free and not self._must_stop():
            pause = self._brake.pause(self._running)
            waits.append(pause or self._poller.due_in())
        self._sleep(min(w for w in (*waits, _LONGEST_WAIT) if w is not None))
        if self._journal.due_in() == 0:
            self._journal.flush()

    def _sleep(self, seconds: float) -> None:
        """Wait until a signal, a command's end or its output, but not longer."""
        seconds = min(seconds, self._presence.look(self._running))
        if not self._is_printed():
            seconds = _READER_WAIT
        readers = self._launcher.idle_readers(
            {command.slot for command in self._running}
        )
        writers: dict[int, Callable[[], object]] = {}
        for command in self._running:
            readers.update(command.readers())
            writers.update(command.writers())
        self._signals.wait(seconds, readers, writers)

    # Drain

    def _drain(self) -> None:
        """Ask the commands to end, wait for them, and give back what did not succeed."""
        notice, running = self._signals.notice, len(self._running)
        if notice is not None and running:
            warn(
                f"{notice.signal}: nothing more is consumed, and {running} running "
                f"{'command has' if running == 1 else 'commands have'} "
                f"{self._options.grace:g} s to end; the same once more, 5 s from now or "
                "later, kills at once"
            )
        self._give_back_ahead()
        self._launcher.dismiss()
        for command in self._running:
            command.terminate(self._options.term_signal)
        for each in self._suspects.take():  # now it is known why they ended
            self._settler.release(each)
        self._ends_at = until = self._clock.monotonic() + self._options.grace
        while self._running or self._settler.due_in() is not None:
            left = until - self._clock.monotonic()
            if left <= 0 or self._signals.haste_requested:
                return
            self._sleep(min(left, 1.0))
            self._kill_what_is_lost()
            self._settler.retry()
            for each in self._collect():
                if each.outcome.succeeded:
                    self._settler.settle(each)
                else:
                    self._settler.release(each)

    def _dismiss(self) -> None:
        """Let commands that stay end at the end of their input, or by a signal after the grace.

        Where it is time to drain, there is one grace for both.
        """
        is_asked = False
        while not self._launcher.dismiss():
            left = self._ends_at - self._clock.monotonic()
            is_hurried = self._limits.must_drain()
            is_late = left <= 0 and (is_asked or is_hurried)
            if is_late or self._signals.haste_requested:
                return
            if not is_asked and (left <= 0 or is_hurried):
                is_asked = True
                self._launcher.terminate(self._options.term_signal)
                self._ends_at += 0.0 if is_hurried else self._options.grace
            self._sleep(min(max(left, 0.0), 1.0))

    def _abandon(self) -> None:
        """Kill what still runs, and give back what is not settled."""
        running, self._running = self._running, []
        for command in running:
            try:
                command.kill()
            except OSError as error:  # the others are killed all the same
                ids = ", ".join(each.message.id for each in command.executions)
                warn(f"message {ids}: its command lives on: {error}")
        self._give_back_ahead()
        self._settler.close()
        self._launcher.close()

    def _is_printed(self) -> bool:
        """Print what waits; False: its reader does not take it all now."""
        return not [each for each in self._outputs if not each.flush()]

    def _print_the_rest(self) -> None:
        """Wait for whoever reads what commands printed, unless it is time to end."""
        until = self._clock.monotonic() + self._options.grace
        while not self._is_printed():
            shall_end = self._limits.stopped or self._signals.drain_requested
            is_late = shall_end and self._clock.monotonic() > until
            if is_late or self._signals.haste_requested:
                return
            self._signals.wait(_READER_WAIT, {})

    def _summary(self) -> Summary:
        """Say what was done, and what is left where the queue was not found empty."""
        limits, then, left, then_is_left = self._limits, self._then, 0, False
        if limits.stopped:
            with suppress(QueueNotFound, *AWAY):
                counts = self._broker.view(self._queue)[self._queue]
                left = counts.waiting + counts.delayed
                # Where others are at work, whoever is the last of them runs it.
                then_is_left = then is not None and not counts.work and then.is_left()
        return Summary(
            numbers={**self._settler.numbers, "failed": len(self._settler.failed)},
            stopped=limits.stopped,
            left=left,
            broken=limits.is_broken,
            at_end=limits.is_at_end(),
            braked=limits.is_braked,
            then_is_left=then_is_left,
            then_has_failed=then is not None and then.has_failed,
        )
