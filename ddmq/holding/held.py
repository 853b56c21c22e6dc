"""A consumed message that knows its broker: it settles itself, and is renewed meanwhile."""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import proxy

from ddmq.errors import DdmqError, LeaseLost, warn
from ddmq.holding.heartbeat import Heartbeat
from ddmq.message import Message
from ddmq.storage.names import Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ddmq.broker import Broker
    from ddmq.clock import Clock

#: Characters of a reason, and of the end of a traceback, that are kept of a failure.
_LONGEST_REASON, _LONGEST_TRACEBACK = 1000, 4096


class Keeper:
    """What renews the messages that are worked on with one broker: a heartbeat in each process."""

    def __init__(self, broker: Broker, clock: Clock) -> None:
        # Its thread must not keep alive a broker that everybody else has forgotten.
        self._broker: Broker = proxy(broker)
        self._clock = clock
        self._started: dict[int, _Started] = {}

    def heartbeat(self) -> Heartbeat:
        """Return the heartbeat of this process; it starts with the first message."""
        process = os.getpid()  # after a fork, its thread and its lock are the parent's
        if process not in self._started:
            new = _Started(threading.Lock(), Heartbeat(self._broker, self._clock), [])
            self._started.setdefault(process, new)
        lock, heartbeat, threads = self._started[process]
        with lock:
            if not threads:
                threads.append(heartbeat.__enter__())
        return heartbeat

    def close(self) -> None:
        """Renew nothing any more."""
        started = self._started.pop(os.getpid(), None)
        if started is not None and started.threads:
            started.heartbeat.__exit__(None, None, None)

    def forget(self) -> None:
        """Do the same, and wait for nothing."""
        started = self._started.get(os.getpid())
        if started is not None:
            started.heartbeat.end()


class _Started(NamedTuple):
    """The heartbeat of one process."""

    lock: threading.Lock
    heartbeat: Heartbeat
    threads: list[Heartbeat]
    """The same, when its thread has been started."""


class HeldMessage:
    """A consumed message that is bound to its broker: `with message:` works on it.

    It has all that a `Message` has. Inside of `with`, a thread renews its lease. At the end:

    - The block has ended well: the message is acked. LeaseLost: it was lost meanwhile, and others
      may have it. StorageError: it could not be acked; its lease ends by itself.
    - An exception: it is nacked, with the exception as its reason and the end of the traceback as
      `stderr` in its note. KeyboardInterrupt, SystemExit and whatever else is no Exception: it is
      released, which counts nothing. The exception goes on in any case. That the message could
      not be settled is a warning then.
    - The block has settled the message: nothing more is done.

    Outside of `with` nobody renews it. In a process that was forked inside, nothing happens at
    the end: the message is its parent's. Pickled, it is a plain `Message`.
    """

    message: Any
    id: str
    queue: str
    priority: int
    timeout: float
    requeue: bool
    requeue_prio: int
    requeue_limit: int | None
    failures: int
    losses: int
    filename: str
    requeue_counter: int
    may_requeue: bool
    as_dict: Callable[[], dict[str, Any]]

    def __init__(
        self, message: Message, broker: Broker, keep: Callable[[], Heartbeat]
    ) -> None:
        """Bind a message to a broker; `keep` returns the heartbeat that renews it."""
        self.is_settled = False
        """Whether it was settled here, or its lease was found to be lost."""
        self._value = message
        self._broker = broker
        self._keep = keep
        self._heartbeat: Heartbeat | None = None
        self._process = os.getpid()

    if not TYPE_CHECKING:  # so that a name that is mistyped is found

        def __getattr__(self, name: str) -> Any:
            """Return what the message says of itself."""
            if name.startswith("_"):
                raise AttributeError(name)
            return getattr(self.value, name)

    def __repr__(self) -> str:
        """Say which message it is."""
        return f"HeldMessage({self.value!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process have the message without our broker."""
        return Message, tuple(self.value)

    @property
    def value(self) -> Message:
        """The message as a plain value, under the name that it has now."""
        heartbeat = self._renewing()
        if heartbeat is not None:
            self._value = heartbeat.present(self._value)
        return self._value

    @property
    def lease_ends(self) -> float:
        """When others may have it unless it is renewed, in seconds since 1970."""
        lease = Lease.parse(self.value.filename)
        assert lease is not None  # it was consumed
        return lease.expiry / 1000

    @property
    def is_lost(self) -> bool:
        """Whether its lease was lost inside of `with`, as far as is known by now."""
        heartbeat = self._renewing()
        return heartbeat is not None and not heartbeat.holds(self._value)

    def _renewing(self) -> Heartbeat | None:
        """Return what renews it, in the process that works on it."""
        return self._heartbeat if self._process == os.getpid() else None

    # Settling

    def ack(self) -> None:
        """Finish it; LeaseLost when we no longer had the lease."""
        self._settle(self._broker.ack)

    def nack(
        self,
        *,
        delay: float = 0,
        reason: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Say that it failed: it is tried again after `delay` seconds, or is dead."""
        nack = partial(self._broker.nack, delay=delay, reason=reason, details=details)
        self._settle(nack)

    def release(self, *, delay: float = 0) -> None:
        """Give it back unharmed; nothing is counted."""
        self._settle(partial(self._broker.release, delay=delay))

    def reject(
        self, reason: str = "", details: Mapping[str, Any] | None = None
    ) -> None:
        """Make it a dead letter at once, whatever its limits say."""
        reject = partial(self._broker.reject, reason=reason, details=details)
        self._settle(reject)

    def move(self, queue: str) -> None:
        """Put it at the end of another ready queue, its counts unchanged."""
        self._settle(partial(self._broker.move, queue=queue))

    def renew(self, timeout: float | None = None) -> None:
        """Prolong its lease now, to `timeout` seconds or its own; LeaseLost when it was lost.

        Inside of `with`, the next renewal, after a third of its own timeout, is for its own again.
        """
        self._hand_over(lambda held: self._broker.renew(held, timeout))

    def _settle(self, act: Callable[[Message], None]) -> None:
        def settle(message: Message) -> None:
            act(message)
            self.is_settled = True

        self._hand_over(settle)

    def _hand_over(self, act: Callable[[Message], Message | None]) -> None:
        """Do something with the message, which nobody renews meanwhile; then go on renewing it."""
        heartbeat, self._value = self._renewing(), self.value
        if heartbeat is not None:
            self._value = heartbeat.stop(self._value)
        try:
            self._value = act(self._value) or self._value
        except LeaseLost:
            self.is_settled = True
            raise
        finally:
            if heartbeat is not None and not self.is_settled:
                heartbeat.start(self._value)

    # Working on it

    def __enter__(self) -> HeldMessage:
        """Let its lease be renewed from now on."""
        if not self.is_settled and self._heartbeat is None:
            heartbeat = self._keep()
            heartbeat.start(self._value)
            self._heartbeat = heartbeat
        return self

    def __exit__(self, *raised: object) -> None:
        """Settle it, unless the block has done so."""
        _, error, _ = raised
        if self._process != os.getpid():
            return
        try:
            if self.is_settled:
                return
            if error is None:
                self.ack()
            elif isinstance(error, Exception):
                self._fail(error)
            else:
                self.release()
        except DdmqError as refused:
            if error is None:
                raise
            warn(f"message {self.id} could not be given back: {refused}")
        finally:
            if self._heartbeat is not None:
                self._value = self._heartbeat.stop(self._value)
                self._heartbeat = None

    def _fail(self, error: Exception) -> None:
        """Nack it, and let the note tell what its traceback ended with."""
        import traceback  # slow to import

        from ddmq.printable import printable_lines

        lines = traceback.format_exception(type(error), error, error.__traceback__)
        [*_, last] = traceback.format_exception_only(type(error), error)
        said = printable_lines("".join(lines))[-_LONGEST_TRACEBACK:]
        details = {"host": os.uname().nodename, "stderr": said}
        reason = printable_lines(last.strip())[:_LONGEST_REASON]
        self.nack(reason=reason, details=details)
