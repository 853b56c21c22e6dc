"""What becomes of a message, by how its command ended; done in spite of the file system."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq.errors import LeaseLost, RootNotFound, StorageError
from ddmq.hpc.journal import Run
from ddmq.log import warn

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddmq.broker import Broker
    from ddmq.hpc.execution import Execution
    from ddmq.hpc.heartbeat import Heartbeat
    from ddmq.hpc.job import Job
    from ddmq.hpc.options import Options
    from ddmq.hpc.runner import Outcome
    from ddmq.message import Message

#: What the file system answers for a while when a server is away.
AWAY = (StorageError, RootNotFound)
_RETRY_FIRST, _RETRY_LONGEST = 1.0, 30.0
#: Seconds until a message is tried again that asked for it, where no backoff is given.
_LATER = 1.0
#: Runs whose logs are in one directory: two files each.
_LOGS_TOGETHER = 500


class Ended(NamedTuple):
    """A command that ended."""

    execution: Execution
    outcome: Outcome
    log: str
    """Where its logs go, without `.out` and `.err`; empty for nowhere."""


class Settler:
    """Settles the messages of one worker, and counts them."""

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
        self._broker = broker
        self._queue = queue
        self._options = options
        self._job = job
        self._heartbeat = heartbeat
        self._owed: list[Callable[[], None]] = []
        self._retry_at = 0.0
        self._pause = _RETRY_FIRST
        self._runs = 0

    def settle(self, execution: Execution, outcome: Outcome) -> None:
        """Do with a message what its outcome says."""
        ended = Ended(execution, outcome, self._log_of(execution))
        if execution.lost:
            self._record(ended, "lost")
            return
        result, act = self._verdict(ended)
        self._do(ended, result, act)

    def release(self, execution: Execution, outcome: Outcome) -> None:
        """Give a message back: it was interrupted, which counts nothing."""
        ended = Ended(execution, outcome, self._log_of(execution))
        self._do(ended, "released", self._broker.release)

    def reject(self, message: Message, reason: str) -> None:
        """Make a message a dead letter that could not be run."""
        try:
            self._broker.reject(message, reason)
        except (LeaseLost, *AWAY) as error:  # then it comes back, and is rejected then
            warn(str(error))
        self.numbers["failed"] += 1

    # What to do

    def is_special(self, outcome: Outcome) -> bool:
        """Tell whether its exit status has a meaning of its own."""
        options, code = self._options, outcome.code
        return code in options.on_exit or code in options.fatal | options.retry_free

    def _verdict(self, ended: Ended) -> tuple[str, Callable[[Message], None]]:
        options, code, broker = self._options, ended.outcome.code, self._broker
        if ended.outcome.succeeded and not ended.execution.timed_out:
            return "acked", partial(self._ack, ended.execution)
        if code in options.on_exit:
            return "moved", partial(broker.move, queue=options.on_exit[code])
        if code in options.retry_free:
            later = options.backoff[0] if options.backoff else _LATER
            return "released", partial(broker.release, delay=later)
        return "failed", self._failure(ended)

    def _ack(self, execution: Execution, message: Message) -> None:
        """Ack, after the result is in place: for which the lease must hold."""
        if self._options.output_dir is not None:
            message = self._broker.renew(message)
            execution.keep_result(sync=self._broker.settings(self._queue).durable)
        self._broker.ack(message)

    def _failure(self, ended: Ended) -> Callable[[Message], None]:
        message, broker = ended.execution.message, self._broker
        reason, details = self._reason(ended), self._details(ended)
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
        """Say why a message is not to be run any more: it may be what kills its workers."""
        if message.requeue_limit is not None:
            return None
        if message.requeue_counter <= self._options.retries:
            return None
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

    def _do(self, ended: Ended, result: str, act: Callable[[Message], None]) -> None:
        """Do what was decided; while the file system refuses, owe it and keep the lease."""
        message = self._heartbeat.stop(ended.execution.message)
        try:
            act(message)
        except LeaseLost as error:
            warn(str(error))
            result = "lost"
        except AWAY as error:
            warn(f"message {message.id} could not be settled yet: {error}")
            self._heartbeat.start(message)
            self._owe(partial(self._do, ended, result, act))
            return
        self._record(ended, result)

    def _owe(self, again: Callable[[], None]) -> None:
        self._owed.append(again)
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
        owed, self._owed = self._owed, []
        for again in owed:
            again()
        if not self._owed:
            self._pause = _RETRY_FIRST

    def _record(self, ended: Ended, result: str) -> None:
        execution, outcome = ended.execution, ended.outcome
        self._heartbeat.stop(execution.message)
        execution.close(ended.log if self._is_logged(result) else "")
        self.numbers[result] += 1
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
