"""The loop of a worker: look after what runs, settle, take, wait; in the end, drain."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ddmq import schedulers
from ddmq.errors import QueueNotFound, StorageError, warn
from ddmq.holding.heartbeat import Heartbeat
from ddmq.hpc.beginning import TooLate, once_it_answers
from ddmq.hpc.faults import AWAY, is_for_good, may_pass, told
from ddmq.hpc.granted import granted
from ddmq.hpc.journal import Journal, durations
from ddmq.hpc.limits import Deadline, Durations, Limits, grace_within
from ddmq.hpc.poller import Poller
from ddmq.hpc.preflight import check_all, check_command
from ddmq.hpc.presence import Presence
from ddmq.hpc.results.result import remove_leftovers_of_dead
from ddmq.hpc.running.command import Surroundings
from ddmq.hpc.running.execution import CommandNotFound, Unfit
from ddmq.hpc.running.guardian import Guardian
from ddmq.hpc.running.progress import beginning
from ddmq.hpc.running.slots import Slots
from ddmq.hpc.running.stream import Output
from ddmq.hpc.settling import Settler, nothing_done
from ddmq.hpc.signals import Signals, Suspects
from ddmq.hpc.supply import Supply
from ddmq.hpc.triage import Triage
from ddmq.printable import quoted
from ddmq.storage.names import new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ddmq.broker import Broker
    from ddmq.clock import Clock
    from ddmq.hpc.options import WorkerOptions
    from ddmq.hpc.running.execution import Ended
    from ddmq.hpc.then import Then
    from ddmq.message import Message
    from ddmq.storage.filesystem import FileSystem

_LONGEST_WAIT = 30.0


class QueueProgress(Protocol):
    """Shows how far the queue is, below what commands print."""

    def look(self, acked: int, *, may_show: bool) -> float:
        """Show it where that is due; return the seconds until the next look."""

    def hide(self) -> None:
        """Make room for what is printed."""


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
    progress: QueueProgress | None = None
    stderr: Output | None = None
    """By way of which this process prints to standard error, as its commands do; None: it prints
    there itself."""


class Summary(NamedTuple):
    """What a worker did."""

    numbers: dict[str, int]
    """Messages acked, failed, released, moved and lost; one that was acked later has not failed."""
    stopped: str = ""
    """Why it stopped before it found the queue empty."""
    left: int | None = 0
    """Messages that waited or were delayed then, or that it could not give back. None: the file
    server did not say."""
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

    Its loop: look after what runs, settle what has ended, take and start, wait. In the end it
    drains. What runs is in the Slots, what waits for one in the Supply. When what has ended is
    settled is the Triage's, what becomes of its message the Settler's, when to stop the Limits'.
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
        self._clock = clock = job.clock
        self._signals = job.signals
        self._journal = job.journal
        self._limits = limits = Limits(options, job)
        self._heartbeat = Heartbeat(broker, clock, job.signals.wake)
        self._settler = Settler(
            broker, queue, self._heartbeat, options=options, job=job
        )
        self._poller = poller = Poller(clock.monotonic, options.poll_max)
        self._progress = job.progress
        hide = None if job.progress is None else job.progress.hide
        outputs = Output(1, hide), job.stderr or Output(2)
        outputs[1].make_room = hide
        surroundings = Surroundings(command, options, job.environ, clock, outputs)
        self._slots = Slots(surroundings, job.signals, clock)
        self._suspects = Suspects(clock)
        self._then: Then | None = None
        if options.then:
            from ddmq.hpc.then import Then  # not every worker has one

            self._then = Then(
                broker,
                queue,
                options=options,
                job=job,
                limits=limits,
                poller=poller,
                sleep=self._sleep,
            )
        self._supply = Supply(
            broker,
            queue,
            limits=limits,
            poller=poller,
            settler=self._settler,
            heartbeat=self._heartbeat,
            then=self._then,
            clock=clock,
        )
        self._triage = Triage(
            self._settler,
            self._supply,
            limits=limits,
            poller=poller,
            options=options,
            clock=clock,
        )
        self._presence = Presence(
            broker,
            queue,
            options,
            job,
            settler=self._settler,
            limits=limits,
            poller=poller,
            triage=self._triage,
            by_hand=os.isatty(2),
        )

    def run(self) -> Summary:
        """Work until the queue is empty, a limit is reached, or somebody asks to drain.

        A queue that is gone, or not ours to change, ends it at once: DdmqError.
        """
        is_gone = False
        with self._heartbeat:
            try:
                self._work()
                ends_at = self._drain()
                self._triage.settle_fast_failures()
                self._triage.settle_braked()
                self._slots.dismiss(ends_at, self._limits)
                self._abandon()
                self._slots.print_the_rest(self._limits)
                return self._summary()
            except QueueNotFound as error:
                is_gone = True
                raise QueueNotFound(
                    f"{self._broker.root}/{self._queue}: the queue is gone, with all its "
                    "messages: somebody deleted it; commands that ran were killed"
                ) from error
            finally:
                self._abandon(is_queue_gone=is_gone)
                self._journal.flush(at_end=True)
                self._journal.close()
                self._journal.tidy()
                self._presence.end()

    def _work(self) -> None:
        """Go round until there is nothing left to do, or it is time to drain."""
        while not self._limits.must_drain():
            self._end_what_is_not_ours()
            self._settler.retry()
            ended = self._suspects.cleared(self._collect())
            # No slot waits for acks: when all that ended did so well, they come after the
            # next starts. A failure comes before, as it may forbid them.
            if not all(each.went_well for each in ended):
                self._triage.settle(ended)
            try:
                has_started = self._take()
            finally:
                self._triage.settle(ended)
            # What the brake holds goes where a slot is free and nothing else to be started.
            waits = self._suspects.held or self._triage.pause(self._slots.running)
            is_needed = not has_started and self._slots.free and not waits
            self._triage.settle_braked(only_late=not is_needed)
            if not has_started and self._is_over():
                return
            self._wait()

    def _take(self) -> bool:
        """Start a command in each free slot; False when there was nothing to start."""
        slots, supply = self._slots, self._supply
        taken, is_full, left = False, slots.is_output_full, supply.left()
        if left is not None and (is_full or left == 0):
            supply.give_back_ahead()  # others may have a slot for them
        for _ in range(len(slots.free)):
            if self._suspects.held:  # until it is known why they ended
                break
            if self._triage.pause(slots.running) or self._must_stop():
                break
            if not self._limits.may_start(again=bool(supply.alone)):
                break
            if is_full:
                break  # nobody reads what the others print
            messages = supply.next(len(slots.free))
            if not messages:
                break
            self._start(messages)
            taken = True
        if self._must_stop():
            supply.give_back()
        return taken

    def _must_stop(self) -> bool:
        """Tell whether nothing more is to be started."""
        broken, again = self._settler.cannot_go_on, bool(self._supply.alone)
        return self._limits.must_stop(broken, again=again)

    def _start(self, messages: list[Message]) -> None:
        """Start a command for messages, without those for which a command of ours still runs."""
        messages = [each for each in messages if not self._settler.takes_over(each)]
        if not messages:
            return
        first = messages[0]
        try:
            command = self._slots.launch(messages)
        except Unfit as error:
            if self._is_name_freed(error):
                self._supply.put_back(messages)
                return
            self._limits.started += 1
            self._settler.reject(first, str(error))
            self._supply.put_back(messages[1:])
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
            self._supply.put_back(messages[number:])
            for execution in command.executions:
                self._settler.begin(execution)
            return
        for message in messages:
            self._settler.give_back(message)

    def _is_name_freed(self, error: Unfit) -> bool:
        """Free the name of a result that a message has which will not run again, if that is why."""
        if self._options.output_name is None:
            return False
        from ddmq.hpc.results import output_names  # rarely needed

        cause, queue = error.__cause__, self._queue
        if not isinstance(cause, output_names.NameTaken):
            return False
        try:
            return output_names.free_if_gone(
                self._options.output_dir or "",
                cause,
                output_names.home_of(f"{self._broker.root}/{queue}"),
                lambda id_: self._broker.status(queue, id_)[id_],
            )
        except AWAY as away:  # it is looked again when the file server is back
            if is_for_good(away):
                raise
            self._poller.server_is_away(away)
            return True

    # Look after what runs

    def _end_what_is_not_ours(self) -> None:
        """Give up what somebody else has by now, or may have, and what is cancelled."""
        for message in self._heartbeat.lost():
            if self._supply.lose(message):
                self._heartbeat.leave(message)  # nobody here knows of it any more
            self._slots.lose(message)
        for message in self._heartbeat.cancelled():
            if self._supply.lose(message):
                self._settler.cancel(message)
            self._slots.cancel(message)

    def _collect(self) -> list[Ended]:
        """Return what has ended; its slots are free."""
        ended = self._slots.collect()
        if ended:
            self._poller.look_at_once()  # a message may be about to come back
        return ended

    def _is_over(self) -> bool:
        """Tell whether there is nothing left to do, when nothing could be started."""
        if self._slots.running or self._suspects.held or self._supply.alone:
            return False
        if self._settler.due_in() is not None:
            return False
        if self._triage.settle_fast_failures():
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
        if self._signals.drain_requested:  # it came while we waited for `--then`
            return
        running = self._slots.running
        waits = [command.due_in() for command in running]
        waits += [self._heartbeat.over_in(), self._settler.due_in()]
        waits += [self._limits.time_left(), self._journal.due_in()]
        waits.append(self._supply.left())
        if self._suspects.held:
            waits.append(self._suspects.due_in())
        elif self._slots.free and not self._must_stop():
            waits.append(self._triage.pause(running) or self._poller.due_in())
        self._sleep(min(w for w in (*waits, _LONGEST_WAIT) if w is not None))
        if self._journal.due_in() == 0:
            self._journal.flush()

    def _sleep(self, seconds: float) -> None:
        """Wait for a signal, or a command's end or output, so long at most; be seen meanwhile."""
        look = self._presence.look(self._slots.running)
        if self._progress is not None:
            acked, may_show = (
                self._settler.numbers["acked"],
                not self._slots.is_within_line,
            )
            look = min(look, self._progress.look(acked, may_show=may_show))
        self._slots.wait(min(seconds, look))

    # The end

    def _drain(self) -> float:
        """Ask the commands to end, wait for them, and give back what did not succeed.

        Return when their time is over, on the monotonic clock.
        """
        notice, running = self._signals.notice, len(self._slots.running)
        if notice is not None and running:
            warn(
                f"{notice.signal}: nothing more is consumed, and {running} running "
                f"{'command has' if running == 1 else 'commands have'} "
                f"{self._options.grace:g} s to end; the same once more, 5 s from now or "
                "later, kills at once"
            )
        self._supply.give_back()
        self._slots.terminate()
        for each in self._suspects.take():  # now it is known why they ended
            each.execution.command.kill()  # with what they left
            self._settler.release(each)
        until = self._clock.monotonic() + self._options.grace
        while self._slots.running or self._settler.due_in() is not None:
            left = until - self._clock.monotonic()
            if left <= 0 or self._signals.haste_requested:
                break
            self._sleep(min(left, 1.0))
            self._end_what_is_not_ours()
            self._settler.retry()
            for each in self._collect():
                if each.counts_in_a_drain:
                    self._settler.settle(each)
                else:
                    self._settler.release(each)
        return until

    def _abandon(self, *, is_queue_gone: bool = False) -> None:
        """Kill what still runs, and give back what is not settled."""
        self._slots.kill()
        self._supply.give_back()
        self._settler.close(is_queue_gone=is_queue_gone)
        self._slots.close()

    def _summary(self) -> Summary:
        """Say what was done, and what is left where the queue was not found empty."""
        limits, then, then_is_left = self._limits, self._then, False
        left: int | None = 0
        if limits.stopped:
            try:
                counts = self._broker.view(self._queue)[self._queue]
                # Where others are at work, whoever is the last of them runs it.
                then_is_left = then is not None and not counts.work and then.is_left()
                left = counts.waiting + counts.delayed + self._settler.left_behind
            except QueueNotFound:
                pass  # with all that was left
            except AWAY:
                left = None
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


def work(
    open_broker: Callable[[], Broker],
    queue: str,
    command: Sequence[str],
    *,
    options: WorkerOptions,
    deadline: Deadline,
    environ: Mapping[str, str],
    clock: Clock,
    fs: FileSystem,
    progress: Callable[[], QueueProgress | None] = lambda: None,
    stderr: Output | None = None,
    until_exit: bool = False,
) -> Summary:
    """Try all that a worker will need, make what surrounds it, and let it work.

    `open_broker` and `progress` are called again where the file server stands still at first.
    `until_exit` says that the process ends with the worker, see Signals.

    It runs in the main thread only, since it takes signals. DdmqError: something can't be used.
    """
    host, signals = os.uname().nodename, Signals(clock, until_exit=until_exit)
    grace = grace_within(deadline, clock.monotonic(), options.grace)
    options = options._replace(grace=grace)
    with ExitStack() as stack:
        from_now_on = partial(stack.enter_context, signals)

        def prepared() -> tuple[Broker, QueueProgress | None, Journal, Durations]:
            broker = open_broker()
            path = f"{broker.root}/{queue}"
            _try_all(broker, path, command, options=options, fs=fs)
            # How long messages take matters only where the end is known.
            known = durations(path) if deadline.at is not None else ()
            now = clock.own_ns() / 1e9
            left = deadline.passes_in(clock.monotonic(), grace=0)
            end = None if left is None else now + left
            resources = granted(environ, options.slots, now, end)
            mode = broker.mode_of(queue)
            kept = options.output_dir
            journal = Journal(
                path, host, clock, mode, granted=resources, output_dir=kept
            )
            return broker, progress(), journal, Durations(known)

        try:
            broker, shown, journal, known = once_it_answers(
                prepared,
                from_now_on,
                deadline=deadline,
                grace=options.grace,
                clock=clock,
            )
        except TooLate as error:
            at_end = deadline.ended(
                clock.monotonic(), options.grace, Durations(), signals.notice
            )
            return Summary(nothing_done(), stopped=str(error), left=None, at_end=at_end)
        if not signals.are_taken:
            from_now_on()
        mark = new_token()
        files = beginning(options.spool, mark)
        stack.enter_context(Guardian(f"DDMQ_WORKER={mark}", files))
        own = {"root": broker.root, "queue": queue, "worker": mark}
        job = Job(
            host,
            schedulers.job_id(environ),
            schedulers.with_variables(schedulers.without_chain(environ), **own),
            signals,
            deadline,
            journal,
            known,
            clock,
            shown,
            stderr,
        )
        return Worker(broker, queue, command, options=options, job=job).run()


def _try_all(
    broker: Broker,
    path: str,
    command: Sequence[str],
    *,
    options: WorkerOptions,
    fs: FileSystem,
) -> None:
    """Try what a worker at the queue at `path` will need; DdmqError: something can't be used."""
    check_command(command, options)
    check_all(options, broker)
    if options.output_dir is not None:
        remove_leftovers_of_dead(options.output_dir, path, fs)
    # In the end, since all that is before is tried again while the file server stands still.
    what = "take, change and remove messages"
    _warn_of_writers((broker.root, path), what, fs)
    what = "change what is kept there, and lead a command that writes there elsewhere"
    kept = filter(None, (options.output_dir, options.log_dir))
    _warn_of_writers(map(os.path.realpath, kept), what, fs)


def deadline_from(
    environ: Mapping[str, str],
    clock: Clock,
    *,
    time: float | None = None,
    at: float | None = None,
    min_remaining: float | None = None,
) -> Deadline:
    """Return when the job ends: in `time` seconds, `at` a time, or when the scheduler says.

    The earliest counts.
    """
    now, theirs, ends = clock.own_ns() / 1e9, schedulers.end_time(environ), [at]
    if time is not None:
        ends.append(now + time)
    known = [end for end in (theirs, *ends) if end is not None]
    first = min(known) if known else None
    return Deadline(
        None if first is None else clock.monotonic() + first - now,
        schedulers.least_remaining(environ),
        min_remaining,
        schedulers.warning(environ),
        is_schedulers=first is not None and first == theirs,
    )


def _warn_of_writers(directories: Iterable[str], what: str, fs: FileSystem) -> None:
    """Warn of each directory that everybody may write to; `what` says what they can do there."""
    for path in directories:
        found = fs.status(path)
        if found is not None and found.mode & stat.S_IWOTH:
            warn(
                f"everybody may write to {path}, so everybody can {what}; "
                f"chmod o-w {quoted(path)}, unless all are to be trusted"
            )
