"""What becomes of a message when its command has ended, even where storage refuses it at first."""

from __future__ import annotations

import os
import signal
from collections import deque
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ddmq.clock import span
from ddmq.errors import DdmqError, LeaseLost, QueueNotFound, warn
from ddmq.holding.heartbeat import key_of
from ddmq.hpc.faults import AWAY, BadOutput, is_for_good, may_pass, told
from ddmq.hpc.journal import ACKING, Run, beginning
from ddmq.hpc.placeholders import text_of
from ddmq.hpc.running.execution import Ended
from ddmq.hpc.running.process import Outcome
from ddmq.printable import printable
from ddmq.seen import Failure
from ddmq.storage.names import Lease
from ddmq.storage.workers import MOST_FAILURES, MOST_TEXT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ddmq.broker import Broker
    from ddmq.holding.heartbeat import Heartbeat
    from ddmq.hpc.options import WorkerOptions
    from ddmq.hpc.running.execution import Execution
    from ddmq.hpc.worker import Job
    from ddmq.message import Message

_RETRY_FIRST, _RETRY_LONGEST = 1.0, 30.0
#: What a failure is in the journal: the message is tried again, or dead.
_FAILED = ("failed", "dead")
#: Seconds until a message is tried again that asked for it, where no backoff is given.
_LATER = 1.0
#: The same where this node, or a disk, had no room for it.
TROUBLED = 10.0
#: Seconds after which housekeeping has let in what was delayed.
_LET_IN = 1.0
#: Seconds for which the end waits for commands that were killed, and between two looks.
_LAST_WAIT, _LAST_LOOK = 2.0, 0.01
#: Characters of a text that are shown of a message that failed.
_MOST_SHOWN = 60
#: Runs whose logs are in one directory: two files each.
_LOGS_TOGETHER = 500


def nothing_done() -> dict[str, int]:
    """Return how many messages came to each end, before there is any."""
    return dict.fromkeys(("acked", "failed", "released", "moved", "lost"), 0)


def is_special(ended: Ended, options: WorkerOptions) -> bool:
    """Tell whether an exit status or an answer has a meaning of its own."""
    if ended.answer == "reject" or asks_for_later(ended, options):
        return True
    return ended.code in options.on_exit or ended.code in options.fatal


def asks_for_later(ended: Ended, options: WorkerOptions) -> bool:
    """Tell whether a command asks for another try later, which counts nothing."""
    return ended.code in options.retry_free or ended.answer == "release"


def _failure(message: Message, reason: str, now: float) -> Failure:
    """Return what others may want to see of a failure."""
    text = text_of(message.message)
    return Failure(message.id, now, text[:MOST_TEXT], reason[:MOST_TEXT])


def _named(message: Message) -> str:
    """Return how a warning names a message: by its id, and by its text, which is cut short."""
    text = printable(text_of(message.message)[: _MOST_SHOWN + 1])
    if len(text) > _MOST_SHOWN:
        text = f"{text[: _MOST_SHOWN - 1]}…"
    return f"message {message.id} ({text})"


def _at_last(act: Callable[[], None]) -> None:
    """Try something at the end; an error is told, and keeps nothing else from being tried."""
    try:
        act()
    except QueueNotFound:  # which ends the worker, and is told then
        return
    except DdmqError as error:  # so it is with each: all are tried
        warn(str(error))


class _Owed(NamedTuple):
    """What is to be done with a message as soon as the file system does it."""

    again: Callable[[], None]
    ended: Ended | None = None
    result: str = ""


class Settler:
    """Settles the messages of one worker, and counts them.

    Each has an error boundary of its own: what is wrong with one message, its output or the queue
    it goes to concerns no other. What the file system refuses is owed, and tried again.
    """

    def __init__(
        self,
        broker: Broker,
        queue: str,
        heartbeat: Heartbeat,
        *,
        options: WorkerOptions,
        job: Job,
    ) -> None:
        self.numbers = nothing_done()
        self.failed: set[str] = set()
        """The ids of messages that failed and were not acked since."""
        self.failures: deque[Failure] = deque(maxlen=MOST_FAILURES)
        """The latest ones."""
        self.unsettled: dict[str, Execution] = {}
        """The runs that began and are not settled, by the id of their message."""
        self.cannot_go_on = ""
        """Why no further message is to be taken, where one has shown it."""
        self.back_at = float("-inf")
        """When the last message that failed or was given back is back, on the monotonic clock."""
        self.left_behind = 0
        """How many messages could not even be given back in the end."""
        self.peak_kib = 0
        """The most memory that a command had which has ended."""
        self.seconds = 0.0
        """How long all took that have ended, one after the other."""
        self._broker = broker
        self._queue = queue
        self._heartbeat = heartbeat
        self._options = options
        self._host = job.host
        self._job_id = job.id
        self._clock = job.clock
        self._signals = job.signals
        self._journal = job.journal
        self._owed: dict[str, _Owed] = {}
        self._noted: set[str] = set()
        """The tokens of runs that the journal calls `acking`, and that are not settled."""
        self._retry_at = 0.0
        self._pause = _RETRY_FIRST
        self._logged = 0

    def begin(self, execution: Execution) -> None:
        """Note a run, which will be settled; say where its logs go: 1,000 files in a directory."""
        self.unsettled[execution.message.id] = execution
        if self._options.keeps_log_of("failed") and not execution.log:
            worker = f"{self._host}-{self._job_id or 'no-job'}-{os.getpid()}"
            place = (
                f"{self._options.log_dir}/{worker}/{self._logged // _LOGS_TOGETHER:03d}"
            )
            name = f"{execution.message.id}.{int(execution.started * 1000)}"
            execution.command.log = f"{place}/{name}"
            self._logged += 1

    def takes_over(self, message: Message) -> bool:
        """Let an unsettled run go on under the new lease of its message, which came back to us.

        False when there is none, or when the message came back because it was settled after all:
        the nack or release was done, and only its reply was lost. A run that was killed for the
        lease that it lost stays killed: what it did says nothing of its message.
        """
        execution = self.unsettled.get(message.id)
        if execution is None:
            return False
        owed = self._owed.get(message.id)
        if owed is not None and owed.ended is not None:
            nacked = message.failures > execution.message.failures
            if owed.result == "released" or (owed.result in _FAILED and nacked):
                del self._owed[message.id]
                self._record(owed.ended, owed.result)
                return False
        self._heartbeat.stop(execution.message)
        execution.message, execution.lost = message, False
        warn(
            f"message {message.id} came back while we run it: its run has the new lease"
        )
        return True

    def settle(self, ended: Ended) -> None:
        """Do with a message what the outcome of its command says."""
        execution = ended.execution
        options, broker = self._options, self._broker
        if execution.lost:
            self._record(ended, "lost")
        elif execution.cancelled:
            self._do(ended, "cancelled", partial(broker.reject, cancelled=True))
        elif ended.went_well and not execution.was_killed:
            self._succeed(ended)
        elif execution.was_killed or execution.is_interrupted:
            self._do(ended, "released", broker.release)
        elif ended.code in options.on_exit:
            target = options.on_exit[ended.code]
            self._do(ended, "moved", partial(broker.move, queue=target))
        elif asks_for_later(ended, options):
            later = options.backoff[0] if options.backoff else _LATER
            self._do(ended, "released", partial(broker.release, delay=later))
        else:
            self._fail(ended, self._reason(ended))

    def ack_together(self, ended: Sequence[Ended]) -> set[Ended]:
        """Ack those that went well and keep no result, by one call; return them.

        Where the file system fails, none are returned, and they are settled one by one.
        """
        plain = [e for e in ended if e.went_well and not e.execution.may_have_result]
        plain = [e for e in plain if not (e.execution.lost or e.execution.was_killed)]
        if len(plain) < 2 or self._options.on_success is not None:
            return set()
        # Those of one range stand together, so that one rename acks them.
        plain.sort(key=lambda e: key_of(e.execution.message))
        self._note_acks(plain)
        held = [self._heartbeat.stop(each.execution.message) for each in plain]
        lost: set[str] = set()
        try:
            self._broker.ack(held)
        except LeaseLost as error:
            warn(str(error))
            lost = {key_of(message) for message in error.messages}
        except AWAY:
            for message in held:
                self._heartbeat.start(message)
            return set()
        for each in plain:
            is_lost = key_of(each.execution.message) in lost
            self._record(each, "lost" if is_lost else "acked")
        return set(plain)

    def forget(self, ended: Ended) -> None:
        """Forget a run that settles nothing: its message is run by itself now."""
        execution, outcome = ended
        self.unsettled.pop(execution.message.id, None)
        command = execution.command
        if execution is command.executions[0]:
            number = len(command.executions)
            warn(
                f"{outcome} of a batch: each of its {number} messages is run by itself"
            )
        execution.close(save=self._options.keeps_log_of("failed"))

    def release(self, ended: Ended) -> None:
        """Give a message back: it was interrupted, which counts nothing."""
        if ended.execution.lost or ended.execution.cancelled:
            self.settle(ended)
        else:
            self._do(ended, "released", self._broker.release)

    def reject(self, message: Message, reason: str) -> None:
        """Make a message that can't be run a dead letter."""
        self.failures.append(_failure(message, reason, self._clock.time()))
        warn(f"{_named(message)}: {reason}; a dead letter")
        self._end(message, "failed", partial(self._broker.reject, reason=reason))

    def cancel(self, message: Message) -> None:
        """Make a message that is cancelled, and was not run, a dead letter."""
        self._end(message, "cancelled", partial(self._broker.reject, cancelled=True))

    def give_back(self, message: Message, delay: float = 0.0) -> None:
        """Give back a message that was not run; nothing is counted."""
        release = partial(self._broker.release, delay=delay)
        self._end(message, "released", release, back_in=delay)

    def _end(
        self,
        message: Message,
        result: str,
        act: Callable[[Message], None],
        *,
        back_in: float | None = None,
        again: bool = False,
    ) -> None:
        """Settle a message that was not run; while the file system refuses, owe it.

        Then its lease is kept, as one that ends would count as a loss. `again`: it was tried
        before. If the lease is lost now, it was done, and only the reply was lost.
        """
        message = self._heartbeat.stop(message)
        try:
            act(message)
        except LeaseLost as error:
            if not again:
                warn(str(error))
                return
        except AWAY as error:
            if is_for_good(error):
                raise
            if not self._owed:
                warn(f"message {message.id} could not be settled yet: {error}")
            self._heartbeat.start(message)
            once_more = partial(
                self._end, message, result, act, back_in=back_in, again=True
            )
            self._owe(message.id, _Owed(once_more))
            return
        self.numbers[result] = self.numbers.get(result, 0) + 1
        if result == "failed":
            self.failed.add(message.id)
        if back_in is not None:
            self._comes_back_in(back_in)

    def give_back_unstarted(
        self, messages: list[Message], *, again: bool = False
    ) -> None:
        """Give back messages that wait for a slot; `again`: one for which that failed before."""
        if not messages:
            return
        held = [self._heartbeat.stop(message) for message in messages]
        try:
            self._broker.release(held)
        except QueueNotFound:  # which ends the worker, and is told then
            return
        except LeaseLost as error:
            if not again:  # else it was given back, and only the reply was lost
                warn(str(error))
        except DdmqError as error:
            if is_for_good(error) or not isinstance(error, AWAY):
                self.left_behind += len(held)
                warn(str(error))
                return
            if not self._owed:
                some = "a message" if len(held) == 1 else f"{len(held)} messages"
                warn(f"{some} could not be given back yet: {error}")
            # Their leases are kept, as one that ends would count as a loss.
            for each in held:
                self._heartbeat.start(each)
                once_more = partial(self.give_back_unstarted, [each], again=True)
                self._owe(each.id, _Owed(once_more))
            return
        self._comes_back_in(0)

    def _comes_back_in(self, delay: float) -> None:
        back_at = self._clock.monotonic() + delay + _LET_IN
        self.back_at = max(self.back_at, back_at)

    @property
    def delay(self) -> float:
        """Seconds until a message is tried again for which this node, or a disk, had no room."""
        return self._options.backoff[0] if self._options.backoff else TROUBLED

    # What to do

    def why_not(self, message: Message) -> str | None:
        """Say why a message has failed and is not run once more; None: it is to be run.

        If it still runs here, the end of that run decides, whatever its counts are.
        """
        if message.requeue_limit is not None or message.id in self.unsettled:
            return None
        if message.requeue_counter <= self._options.retries:
            return None
        self.numbers["failed"] += 1
        self.failed.add(message.id)
        return f"tried too often: {message.failures} failures, {message.losses} losses"

    def _reason(self, ended: Ended) -> str:
        how = str(ended.outcome)
        if ended.execution.timed_out:
            how = f"timed out after {self._options.timeout:g} s"
        return f"{how} on {self._host}"

    # Doing it

    def _fail(self, ended: Ended, reason: str) -> None:
        """Let a message be tried again after its backoff, or make it a dead letter."""
        execution, outcome = ended
        options, message = self._options, execution.message
        now, stderr = self._clock.time(), execution.tail()
        why = ": ".join((reason, *stderr.splitlines()[-1:]))
        self.failures.append(_failure(message, why, now))
        details = {
            "exit": outcome.exit,
            "signal": outcome.signal,
            "host": self._host,
            "job": self._job_id,
            "time": now,
            "log": execution.log,
            "logged": execution.logged,
            "stderr": stderr,
        }
        unlimited = message.requeue_limit is None
        is_tired = unlimited and message.requeue_counter >= options.retries
        act: Callable[[Message], None]
        delay = 0.0
        is_fatal = ended.code in options.fatal or ended.answer == "reject"
        if is_fatal or is_tired:
            act = partial(self._broker.reject, reason=reason, details=details)
        else:
            waits = options.backoff or (0.0,)
            delay = waits[min(message.failures, len(waits) - 1)]
            act = partial(
                self._broker.nack, delay=delay, reason=reason, details=details
            )
        is_dead = is_fatal or is_tired or not message.may_requeue
        follows = "a dead letter" if is_dead else self._tried_again(message, delay)
        warn(f"{_named(message)}: {reason}; {follows}")
        self._do(ended, "dead" if is_dead else "failed", act)

    def _tried_again(self, message: Message, delay: float) -> str:
        """Say which try comes next, of how many, and when."""
        most = message.requeue_limit
        most = self._options.retries if most is None else most
        pause = f" in {span(delay)}" if delay >= 1 else ""
        tries = f"{message.requeue_counter + 2} of {most + 1}"
        return f"tried again{pause} ({tries})"

    def _succeed(self, ended: Ended) -> None:
        """Keep the result, for which the lease must hold, and ack or move on.

        When the ack's reply was lost, only the ack is repeated: a lease that an ack has
        removed can't be renewed.
        """
        owed = _Owed(partial(self._succeed, ended), ended, "acked")
        with self._boundary(ended, owed):
            if ended.execution.may_have_result and not self._keep_result(ended):
                return
            self._note_acks([ended])
            act: Callable[[Message], None] = self._broker.ack
            goes_on = self._options.on_success
            if goes_on is not None and goes_on.kind == "queue":
                act = partial(self._broker.move, queue=goes_on.queue, anew=True)
            self._do(ended, "acked", act)

    def _keep_result(self, ended: Ended) -> bool:
        """Keep the result; False: it can't be kept, and the message is settled for that."""
        execution = ended.execution
        self._heartbeat.confirm(execution.message)
        durable = self._broker.settings(self._queue).durable
        try:
            self._publish_lines(execution)
            execution.keep_result(sync=durable)
        except BadOutput as error:
            self._fail(ended, str(error))
            return False
        except OSError as error:  # the output directory did not take it
            why = (
                f"message {execution.message.id}: its result is not kept: {told(error)}"
            )
            warn(why)
            delay = self.delay
            if not may_pass(error):
                self.cannot_go_on, delay = why, 0.0
            self._do(ended, "released", partial(self._broker.release, delay=delay))
            self._comes_back_in(delay)
            return False
        return True

    def _publish_lines(self, execution: Execution) -> None:
        """Publish the lines of an output, all at once, in the queue that is to have them.

        They are published with a key, so that only the lines of the first run count. The message
        may be run again: if we die before the ack, or if our lease is lost. The key is never
        forgotten. Else a worker that was suspended here for long would publish its lines as well.
        """
        goes_on = self._options.on_success
        if goes_on is None or goes_on.kind != "lines":
            return
        key = f"lines of {self._queue}/{execution.message.id}"
        try:
            self._broker.publish_many(goes_on.queue, execution.lines(), key=key)
        except (BadOutput, *AWAY):
            raise
        except DdmqError as error:
            why = f"its lines can't be published in {goes_on.queue}: {error}"
            raise BadOutput(why) from error

    def _do(self, ended: Ended, result: str, act: Callable[[Message], None]) -> None:
        """Do what was decided; while the file system refuses, owe it and keep the lease."""
        execution = ended.execution
        owed = _Owed(partial(self._do, ended, result, act), ended, result)
        goes_on = self._options.on_success and self._options.on_success.kind
        try:
            with self._boundary(ended, owed):
                execution.message = self._heartbeat.stop(execution.message)
                act(execution.message)
                self._record(ended, result)
        except DdmqError as error:
            if result != "moved" and (result, goes_on) != ("acked", "queue"):
                raise
            self._fail(ended, f"{self._reason(ended)}; it can't be moved: {error}")

    @contextmanager
    def _boundary(self, ended: Ended, owed: _Owed) -> Iterator[None]:
        """Let no error of one message reach another, but for what is wrong with the queue."""
        message = ended.execution.message
        try:
            yield
        except LeaseLost as error:
            warn(str(error))
            self._record(ended, "lost")
        except AWAY as error:
            if is_for_good(error):
                raise
            if not self._owed:  # one line for all, until the file system is back
                warn(f"message {message.id} could not be settled yet: {error}")
            self._heartbeat.start(ended.execution.message)
            self._owe(message.id, owed)

    def _owe(self, id_: str, owed: _Owed) -> None:
        self._owed[id_] = owed
        self._retry_at = self._clock.monotonic() + self._pause

    def due_in(self) -> float | None:
        """Return the seconds until the next try, None when nothing is owed."""
        if not self._owed:
            return None
        return max(self._retry_at - self._clock.monotonic(), 0.0)

    def retry(self) -> None:
        """Try again what is owed, if it is time."""
        if self.due_in() != 0:
            return
        self._pause = min(self._pause * 2, _RETRY_LONGEST)
        for id_ in list(self._owed):
            self._owed.pop(id_).again()
        if not self._owed:
            self._pause = _RETRY_FIRST

    def close(self, *, is_queue_gone: bool = False) -> None:
        """Settle what is owed and give back all else, as far as that can be done now.

        All commands were killed before. One that hangs in the kernel is waited for two seconds,
        and keeps nothing else back. What is left comes back when its lease is over.
        """
        owed, self._owed = self._owed, {}
        for each in owed.values():
            _at_last(each.again)
        # One that was owed before it was run again is still to be settled.
        tried = {id_ for id_, each in owed.items() if each.ended is not None}
        left = [e for id_, e in self.unsettled.items() if id_ not in tried]
        until = self._clock.monotonic() + _LAST_WAIT
        while (left := self._not_ended(left)) and self._clock.monotonic() < until:
            self._signals.wait(_LAST_LOOK, {})
        self.left_behind += len(self.unsettled.keys() | self._owed.keys())
        for execution in list(self.unsettled.values()):
            message = execution.message
            if not is_queue_gone:
                warn(
                    f"message {message.id} is left: it comes back when its lease is over"
                )
            outcome = execution.outcome() or Outcome(-signal.SIGKILL)
            execution.command.log = ""
            self._record(Ended(execution, outcome), "lost")
        self._owed.clear()

    def _not_ended(self, executions: list[Execution]) -> list[Execution]:
        """Settle those that have ended, and give back the interrupted ones; return the others."""
        others = []
        for execution in executions:
            outcome = execution.outcome()
            if outcome is None:
                others.append(execution)
                continue
            ended = Ended(execution, outcome)
            if ended.counts_in_a_drain:
                _at_last(partial(self.settle, ended))
            id_ = execution.message.id
            if id_ in self.unsettled and id_ not in self._owed:
                _at_last(partial(self.release, ended))
        return others

    def _record(self, ended: Ended, result: str) -> None:
        """Count what became of a message, keep its logs, and write the journal."""
        execution = ended.execution
        self.unsettled.pop(execution.message.id, None)
        self._heartbeat.stop(execution.message)
        is_logged = self._options.keeps_log_of(result)
        execution.close(save=is_logged, acked=result == "acked")
        counted = "failed" if result in _FAILED else result
        self.numbers[counted] = self.numbers.get(counted, 0) + 1
        self.peak_kib = max(self.peak_kib, ended.outcome.peak_kib)
        self.seconds += execution.duration / len(execution.command.executions)
        if result in _FAILED:
            self.failed.add(execution.message.id)
        elif result in ("acked", "moved"):
            self.failed.discard(execution.message.id)
        if result in (*_FAILED, "released"):  # no earlier look has seen it
            self.back_at = max(self.back_at, self._clock.monotonic())
        is_noted = execution.token in self._noted
        self._noted.discard(execution.token)
        run = self._run(ended, result)
        if is_noted and result == "acked":
            self._journal.confirm(run)
        else:
            self._journal.add(run)

    def _note_acks(self, ended: Sequence[Ended]) -> None:
        """Write to the journal that messages are about to be acked, by one call.

        So what was acked is found in the journals by whoever does not find it in the queue, even
        if we die before we can say more. What becomes of it instead is said by a line of its own.
        """
        for each in ended:
            token = each.execution.token
            if token not in self._noted:
                self._noted.add(token)
                if self._options.keeps_log_of("acked"):
                    each.execution.command.save()
                run = self._run(each, "acked")
                self._journal.add(run._replace(result=ACKING))
        self._journal.flush()

    def _run(self, ended: Ended, result: str) -> Run:
        """Return what the journal says of a run."""
        execution, outcome = ended
        message = execution.message
        lease = message.lease or Lease.parse(message.filename)
        is_logged = self._options.keeps_log_of(result)
        return Run(
            id=message.id,
            start=execution.started,
            duration=execution.duration,
            result=result,
            exit=outcome.exit,
            signal=outcome.signal,
            host=self._host,
            job=self._job_id,
            slot=execution.slot,
            peak_kib=outcome.peak_kib,
            cpu=outcome.cpu_seconds,
            log=execution.log if is_logged else "",
            text=beginning(text_of(message.message)),
            timed_out=execution.timed_out,
            output=execution.output,
            logged=execution.logged if is_logged else "",
            stamp=0 if lease is None else lease.entry.stamp,
            batch=len(execution.command.executions),
        )
