"""What becomes of a message, by how its command ended; done in spite of the file system."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq.errors import DdmqError, LeaseLost
from ddmq.hpc.journal import Run
from ddmq.hpc.runner import Outcome
from ddmq.hpc.trouble import AWAY, BadOutput, is_for_good, may_pass, told
from ddmq.log import warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ddmq.broker import Broker
    from ddmq.hpc.execution import Execution
    from ddmq.hpc.heartbeat import Heartbeat
    from ddmq.hpc.job import Job
    from ddmq.hpc.options import Options
    from ddmq.message import Message

_RETRY_FIRST, _RETRY_LONGEST = 1.0, 30.0
#: Seconds until a message is tried again that asked for it, where no backoff is given.
_LATER = 1.0
#: Seconds until a message is tried again for which a disk or this node had no room.
TROUBLED = 10.0
#: Seconds after which housekeeping has let in what was delayed.
_LET_IN = 1.0
#: Seconds for which the end waits for commands that were killed, and between two looks.
_LAST_WAIT, _LAST_LOOK = 2.0, 0.01
#: Runs whose logs are in one directory: two files each.
_LOGS_TOGETHER = 500


class Ended(NamedTuple):
    """A command that ended."""

    execution: Execution
    outcome: Outcome
    log: str
    """Where its logs go, without `.out` and `.err`; empty for nowhere."""


class _Owed(NamedTuple):
    """What is to be done with a message as soon as the file system does it."""

    again: Callable[[], None]
    ended: Ended | None = None
    result: str = ""


class Settler:
    """Settles the messages of one worker, and counts them.

    Each within a boundary of its own: what is wrong with one message, its output or the queue
    it goes to concerns no other. What the file system refuses is owed, and tried again.
    """

    def __init__(
        self,
        broker: Broker,
        queue: str,
        options: Options,
        job: Job,
        heartbeat: Heartbeat,
    ) -> None:
        self.numbers = dict.fromkeys(
            ("acked", "failed", "released", "moved", "lost"), 0
        )
        self.unsettled: dict[str, Execution] = {}
        """The runs that began and are not settled, by the id of their message."""
        self.cannot_go_on = ""
        """Why no further message is to be taken, where one has shown it."""
        self.back_at = float("-inf")
        """When, on the monotonic clock, the last message comes back that failed or was given back."""
        self._broker = broker
        self._queue = queue
        self._options = options
        self._job = job
        self._heartbeat = heartbeat
        self._owed: dict[str, _Owed] = {}
        self._retry_at = 0.0
        self._pause = _RETRY_FIRST
        self._runs = 0

    def begin(self, execution: Execution) -> None:
        """Note a run, which will be settled."""
        self.unsettled[execution.message.id] = execution

    def takes_over(self, message: Message) -> bool:
        """Let an unsettled run go on under the new lease of its message, which came back to us.

        False when there is none, or when its message came back because it was settled: a nack
        whose reply was lost counts once, and a release has given back what it was to give.
        Where a run was killed for the lease that it lost, what it did says nothing.
        """
        execution = self.unsettled.get(message.id)
        if execution is None:
            return False
        owed = self._owed.get(message.id)
        if owed is not None and owed.ended is not None:
            nacked = message.failures > execution.message.failures
            if owed.result == "released" or (owed.result == "failed" and nacked):
                del self._owed[message.id]
                self._record(owed.ended, owed.result)
                return False
        self._heartbeat.stop(execution.message)
        execution.message, execution.lost = message, False
        warn(
            f"message {message.id} came back while we run it: its run has the new lease"
        )
        return True

    def settle(self, execution: Execution, outcome: Outcome) -> None:
        """Do with a message what its outcome says."""
        ended = Ended(execution, outcome, self._log_of(execution))
        if execution.lost:
            self._record(ended, "lost")
        elif outcome.succeeded and not (execution.timed_out or execution.was_killed):
            self._succeed(ended)
        else:
            self._do(ended, *self._verdict(ended))

    def release(self, execution: Execution, outcome: Outcome) -> None:
        """Give a message back: it was interrupted, which counts nothing."""
        ended = Ended(execution, outcome, self._log_of(execution))
        if execution.lost:
            self._record(ended, "lost")
        else:
            self._do(ended, "released", self._broker.release)

    def reject(self, message: Message, reason: str) -> None:
        """Make a message a dead letter that could not be run."""
        try:
            self._broker.reject(self._heartbeat.stop(message), reason)
        except (LeaseLost, *AWAY) as error:  # then it comes back, and is rejected then
            if is_for_good(error):
                raise
            warn(str(error))
        self.numbers["failed"] += 1

    def give_back(self, message: Message, delay: float = 0.0) -> None:
        """Give a message back that was not run, which counts nothing."""
        message = self._heartbeat.stop(message)
        try:
            self._broker.release(message, delay=delay)
        except LeaseLost as error:
            warn(str(error))
        except AWAY as error:
            if is_for_good(error):
                raise
            self._heartbeat.start(message)
            self._owe(message.id, _Owed(partial(self.give_back, message, delay)))
            return
        self.numbers["released"] += 1
        self._comes_back_in(delay)

    def _comes_back_in(self, delay: float) -> None:
        back_at = self._job.clock.monotonic() + delay + _LET_IN
        self.back_at = max(self.back_at, back_at)

    @property
    def delay(self) -> float:
        """Seconds after which is tried again what this node, or a disk, had no room for."""
        return self._options.backoff[0] if self._options.backoff else TROUBLED

    # What to do

    def is_special(self, outcome: Outcome) -> bool:
        """Tell whether its exit status has a meaning of its own."""
        options, code = self._options, outcome.code
        return code in options.on_exit or code in options.fatal | options.retry_free

    def _verdict(self, ended: Ended) -> tuple[str, Callable[[Message], None]]:
        options, code, broker = self._options, ended.outcome.code, self._broker
        if ended.execution.was_killed:
            return "released", broker.release
        if code in options.on_exit:
            return "moved", partial(broker.move, queue=options.on_exit[code])
        if code in options.retry_free:
            later = options.backoff[0] if options.backoff else _LATER
            return "released", partial(broker.release, delay=later)
        return "failed", self._failure(ended, self._reason(ended))

    def _failure(self, ended: Ended, reason: str) -> Callable[[Message], None]:
        message, broker = ended.execution.message, self._broker
        details = self._details(ended)
        warn(f"message {message.id}: {reason}")
        if ended.outcome.code in self._options.fatal or self._is_tired(message):
            return partial(broker.reject, reason=reason, details=details)
        backoff = self._options.backoff
        delay = backoff[min(message.failures, len(backoff) - 1)] if backoff else 0.0
        return partial(broker.nack, delay=delay, reason=reason, details=details)

    def _is_tired(self, message: Message) -> bool:
        """Tell whether a message without a limit has been tried often enough."""
        unlimited = message.requeue_limit is None
        return unlimited and message.requeue_counter >= self._options.retries

    def why_not(self, message: Message) -> str | None:
        """Say why a message is a failure without being run once more; None: it is to be run.

        One that still runs here is to be heard of, whatever it counts.
        """
        if message.requeue_limit is not None or message.id in self.unsettled:
            return None
        if message.requeue_counter <= self._options.retries:
            return None
        self.numbers["failed"] += 1
        return f"tried too often: {message.failures} failures, {message.losses} losses"

    def _reason(self, ended: Ended) -> str:
        how = str(ended.outcome)
        if ended.execution.timed_out:
            how = f"timed out after {self._options.timeout:g} s"
        return f"{how} on {self._job.host}"

    def _details(self, ended: Ended) -> dict[str, Any]:
        return {
            "exit": ended.outcome.exit,
            "signal": ended.outcome.signal,
            "host": self._job.host,
            "job": self._job.id,
            "time": self._job.clock.time(),
            "log": ended.log,
            "stderr": ended.execution.tail(),
        }

    # Doing it

    def _succeed(self, ended: Ended) -> None:
        """Keep the result, for which the lease must hold, and ack.

        When the ack's reply was lost, only the ack is repeated: a lease that an ack has
        removed can't be renewed.
        """
        execution = ended.execution
        owed = _Owed(partial(self._succeed, ended), ended, "acked")
        with self._boundary(ended, owed):
            if execution.may_have_result:
                self._heartbeat.confirm(execution.message)
                durable = self._broker.settings(self._queue).durable
                try:
                    execution.keep_result(sync=durable)
                except BadOutput as error:
                    self._do(ended, "failed", self._failure(ended, str(error)))
                    return
                except OSError as error:
                    self._give_back_unkept(ended, error)
                    return
            self._do(ended, "acked", self._broker.ack)

    def _give_back_unkept(self, ended: Ended, error: OSError) -> None:
        """Give a message back whose result the output directory did not take."""
        why = f"message {ended.execution.message.id}: its result is not kept: {told(error)}"
        warn(why)
        delay = self.delay
        if not may_pass(error):
            self.cannot_go_on, delay = why, 0.0
        self._do(ended, "released", partial(self._broker.release, delay=delay))
        self._comes_back_in(delay)

    def _do(self, ended: Ended, result: str, act: Callable[[Message], None]) -> None:
        """Do what was decided; while the file system refuses, owe it and keep the lease."""
        execution = ended.execution
        owed = _Owed(partial(self._do, ended, result, act), ended, result)
        try:
            with self._boundary(ended, owed):
                execution.message = self._heartbeat.stop(execution.message)
                act(execution.message)
                self._record(ended, result)
        except DdmqError as error:
            if result != "moved":
                raise
            reason = f"{self._reason(ended)}; it can't be moved: {error}"
            self._do(ended, "failed", self._failure(ended, reason))

    @contextmanager
    def _boundary(self, ended: Ended, owed: _Owed) -> Iterator[None]:
        message = ended.execution.message
        try:
            yield
        except LeaseLost as error:
            warn(str(error))
            self._record(ended, "lost")
        except AWAY as error:
            if is_for_good(error):
                raise
            warn(f"message {message.id} could not be settled yet: {error}")
            self._heartbeat.start(ended.execution.message)
            self._owe(message.id, owed)

    def _owe(self, id_: str, owed: _Owed) -> None:
        self._owed[id_] = owed
        self._retry_at = self._job.clock.monotonic() + self._pause

    def due_in(self) -> float | None:
        """Return the seconds until the next try, None when nothing is owed."""
        if not self._owed:
            return None
        return max(self._retry_at - self._job.clock.monotonic(), 0.0)

    def retry(self) -> None:
        """Try again what is owed, if it is time."""
        if self.due_in() != 0:
            return
        self._pause = min(self._pause * 2, _RETRY_LONGEST)
        for id_ in list(self._owed):
            self._owed.pop(id_).again()
        if not self._owed:
            self._pause = _RETRY_FIRST

    def close(self) -> None:
        """Settle what is owed and give back all else, as far as that can be done now.

        All were killed. What hangs in the kernel is not waited for, and keeps nothing else
        back. What is left comes back when its lease is over.
        """
        for each in list(self._owed.values()):
            self._at_last(each.again)
        left = [e for id_, e in self.unsettled.items() if id_ not in self._owed]
        clock = self._job.clock
        until = clock.monotonic() + _LAST_WAIT
        while (left := self._not_ended(left)) and clock.monotonic() < until:
            self._job.signals.wait(_LAST_LOOK, {})
        for execution in list(self.unsettled.values()):
            message = execution.message
            warn(f"message {message.id} is left: it comes back when its lease is over")
            outcome = execution.outcome() or Outcome(-signal.SIGKILL)
            self._record(Ended(execution, outcome, ""), "lost")
        self._owed.clear()

    def _not_ended(self, executions: list[Execution]) -> list[Execution]:
        """Settle those that have ended, ack what succeeded; return the others."""
        others = []
        for execution in executions:
            outcome = execution.outcome()
            if outcome is None:
                others.append(execution)
                continue
            if outcome.succeeded:
                self._at_last(partial(self.settle, execution, outcome))
            id_ = execution.message.id
            if id_ in self.unsettled and id_ not in self._owed:
                self._at_last(partial(self.release, execution, outcome))
        return others

    def _at_last(self, act: Callable[[], None]) -> None:
        try:
            act()
        except DdmqError as error:  # so it is with each: all are tried
            warn(str(error))

    def _record(self, ended: Ended, result: str) -> None:
        execution, outcome = ended.execution, ended.outcome
        self.unsettled.pop(execution.message.id, None)
        self._heartbeat.stop(execution.message)
        execution.close(ended.log if self._is_logged(result) else "")
        self.numbers[result] += 1
        if result in ("failed", "released"):  # no earlier look has seen it
            self.back_at = max(self.back_at, self._job.clock.monotonic())
        self._job.journal.add(
            Run(
                execution.message.id,
                execution.started,
                execution.duration,
                result,
                outcome.exit,
                outcome.signal,
                self._job.host,
                self._job.id,
                execution.slot,
                outcome.peak_kib,
                outcome.cpu_seconds,
                ended.log if self._is_logged(result) else "",
            )
        )

    # Logs

    def _is_logged(self, result: str) -> bool:
        options = self._options
        if options.log_dir is None or options.logs == "none":
            return False
        return options.logs == "all" or result != "acked"

    def _log_of(self, execution: Execution) -> str:
        """Return where the logs of a run go: directories of at most 1,000 files."""
        if not self._is_logged("failed"):
            return ""
        worker = f"{self._job.host}-{self._job.id or 'no-job'}-{os.getpid()}"
        directory = (
            f"{self._options.log_dir}/{worker}/{self._runs // _LOGS_TOGETHER:03d}"
        )
        self._runs += 1
        return f"{directory}/{execution.message.id}.{int(execution.started * 1000)}"
