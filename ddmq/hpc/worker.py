"""Consume, run, settle, drain."""

from __future__ import annotations

import errno
import json
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ddmq.clock import Clock
from ddmq.errors import DdmqError, LeaseLost
from ddmq.hpc.heartbeat import Heartbeat
from ddmq.hpc.runner import Outcome, Running, filled
from ddmq.hpc.scheduler import environment, with_variables
from ddmq.log import warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddmq.broker import Broker
    from ddmq.hpc.signals import Signals
    from ddmq.message import Message

#: Seconds that commands get to end after a request to drain.
GRACE = 10.0
_LONGEST_WAIT = 60.0


class CommandNotFound(DdmqError):
    """The command can't be run on this node: no message is to blame."""


class Summary(NamedTuple):
    """What a worker did: numbers of messages."""

    acked: int = 0
    failed: int = 0
    released: int = 0
    lost: int = 0
    drained: bool = False


class _Slot(NamedTuple):
    heartbeat: Heartbeat
    running: Running


class Worker:
    """Runs a command for each message of a queue, some at a time, until the queue is empty."""

    def __init__(
        self,
        broker: Broker,
        queue: str,
        command: Sequence[str],
        signals: Signals,
        *,
        slots: int = 1,
        clock: Clock | None = None,
    ) -> None:
        self._broker = broker
        self._queue = queue
        self._command = command
        self._signals = signals
        self._slots = slots
        self._clock = clock or Clock()
        self._environ = environment()
        self._busy: list[_Slot] = []
        self._done = Summary()

    def run(self) -> Summary:
        """Work until the queue is empty, or somebody asks to drain."""
        try:
            while not self._signals.drain_requested:
                self._settle_finished()
                if not self._fill() and not self._busy:
                    return self._done
                self._wait()
            return self._drain()
        finally:
            self._abandon()

    def _fill(self) -> bool:
        """Start a command in each free slot; False when there was nothing to start."""
        free = self._slots - len(self._busy)
        messages = self._broker.consume(self._queue, free) if free else []
        for number, message in enumerate(messages):
            try:
                self._start(message)
            except CommandNotFound:
                self._broker.release(messages[number:])
                raise
        return bool(messages)

    def _start(self, message: Message) -> None:
        text = message.message
        text = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
        environ = with_variables(
            self._environ,
            id=message.id,
            queue=message.queue,
            message=text,
            requeue_counter=str(message.requeue_counter),
        )
        try:
            running = Running(filled(self._command, text), environ)
        except (OSError, ValueError) as error:
            self._could_not_start(message, error)
        else:
            heartbeat = Heartbeat(self._broker, message, self._clock)
            self._busy.append(_Slot(heartbeat, running))

    def _could_not_start(self, message: Message, error: OSError | ValueError) -> None:
        """Reject a text that can't be an argument; else it is the command that is wrong."""
        if isinstance(error, ValueError) or error.errno == errno.E2BIG:
            why = "holds a NUL" if isinstance(error, ValueError) else "is too long"
            self._broker.reject(message, f"its text {why}: it can't be an argument")
            self._count(failed=1)
            return
        name = self._command[0]
        raise CommandNotFound(f"{name}: {error.strerror}; nothing was run") from error

    def _settle_finished(self) -> None:
        for slot in list(self._busy):
            slot.heartbeat.beat()
            if slot.heartbeat.lost:
                slot.running.kill()
            outcome = slot.running.outcome()
            if outcome is not None:
                self._busy.remove(slot)
                self._settle(slot.heartbeat, outcome)

    def _settle(self, heartbeat: Heartbeat, outcome: Outcome) -> None:
        message = heartbeat.message
        try:
            if outcome.succeeded:
                self._broker.ack(message)
                self._count(acked=1)
            elif not heartbeat.lost:
                reason = f"{outcome} on {socket.gethostname()}"
                warn(f"message {message.id}: {reason}")
                self._broker.nack(message, reason=reason)
                self._count(failed=1)
            else:
                self._count(lost=1)
        except LeaseLost as error:
            warn(str(error))
            self._count(lost=1)

    def _wait(self) -> None:
        waits = [slot.heartbeat.due_in() for slot in self._busy]
        if self._busy and not any(slot.running.outcome() for slot in self._busy):
            self._signals.wait(min([*waits, _LONGEST_WAIT]))

    def _drain(self) -> Summary:
        """Let the commands end, and give back what did not succeed."""
        for slot in self._busy:
            slot.running.terminate()
        deadline = self._clock.monotonic() + GRACE
        while self._busy and self._clock.monotonic() < deadline:
            self._release_finished()
            if self._busy:
                self._signals.wait(deadline - self._clock.monotonic())
        self._abandon()
        return self._done._replace(drained=True)

    def _release_finished(self) -> None:
        for slot in list(self._busy):
            outcome = slot.running.outcome()
            if outcome is None:
                continue
            self._busy.remove(slot)
            if outcome.succeeded:
                self._settle(slot.heartbeat, outcome)
            else:
                self._release(slot.heartbeat.message)

    def _abandon(self) -> None:
        """Kill what still runs, and give it back."""
        for slot in self._busy:
            slot.running.kill()
            self._release(slot.heartbeat.message)
        self._busy.clear()

    def _release(self, message: Message) -> None:
        with suppress(LeaseLost):
            self._broker.release(message)
            self._count(released=1)

    def _count(self, **numbers: int) -> None:
        changed = {
            key: getattr(self._done, key) + more for key, more in numbers.items()
        }
        self._done = self._done._replace(**changed)
