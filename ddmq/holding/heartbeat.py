"""The heartbeat: a thread that renews leases, and tells when one is lost."""

from __future__ import annotations

import errno
import os
import select
import signal
import threading
from contextlib import suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from ddmq.errors import DdmqError, LeaseLost, StorageError, warn
from ddmq.storage.names import Lease

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddmq.broker import Broker
    from ddmq.clock import Clock
    from ddmq.message import Message
    from ddmq.storage.background import BackgroundCall

#: The part of a lease after which it is renewed: two renewals may fail before it is lost.
_PART = 3
#: Seconds until the next try when the file system refused.
_RETRY = 1.0
#: Seconds between two looks for what is cancelled, which come after renewals.
_LOOK_EVERY = 10.0
#: Seconds for which others wait for a renewal that is under way: whoever settles its message,
#: and the renewals that are due after it.
_PATIENCE = 1.0
#: Renewals that may hang at once, each in a thread of its own, before the others wait for one.
_HANGING = 16
#: Seconds for which its thread sleeps at most: a poll takes no number that is much larger.
_LONGEST = 3600.0
_NEVER = float("inf")


class Heartbeat:
    """The heartbeat of a worker, or of a program: it alone renews the leases that are held.

    While it is entered, its thread renews them, however long the main thread is busy: with a
    result that is being synced, or a file system that hangs. A renewal that hangs holds up the
    others for a second. The heartbeat knows leases by their tokens, since a message may come
    back to a worker that still runs it. `wake` is called when a lease is lost.
    """

    def __init__(
        self, broker: Broker, clock: Clock, wake: Callable[[], object] = lambda: None
    ) -> None:
        self._broker = broker
        self._clock = clock
        self._wake = wake
        self._changed = threading.Condition()
        self._held: dict[str, _Held] = {}
        self._looks_at = _NEVER
        self._looked_at = -_NEVER
        self._ended = False
        self._refused = False
        self._hanging: list[BackgroundCall[None]] = []
        self._pipe: tuple[int, int] | None = None
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise DdmqError(
                f"no lease could be kept alive: {error}; raise `ulimit -u`"
            ) from error
        return self

    def __exit__(self, *raised: object) -> None:
        self.end()
        self._thread.join(2 * _PATIENCE)  # it waits that long for a renewal that hangs
        # A thread that hangs ends with the process.

    def end(self) -> None:
        """Let its thread end, and do not wait for that."""
        with self._changed:
            self._ended = True  # from now on it wakes nobody
            self._rouse()

    # What the main thread asks for

    def start(self, message: Message) -> None:
        """Keep the lease of a message alive from now on."""
        now, lease, key = self._clock.monotonic(), _lease_of(message), key_of(message)
        left = lease.expiry / 1000 - self._clock.time()  # it took a while to come here
        left = min(max(left, 0.0), message.timeout)
        due = now + left - message.timeout + message.timeout / _PART
        with self._changed:
            if key in self._held:
                return
            self._held[key] = _Held(message, max(due, now), now + left)
            if due < self._looks_at:
                self._rouse()

    def stop(self, message: Message) -> Message:
        """Renew a lease no more; return the message under its present name.

        A renewal that is under way is waited for, but for a second at most. If it changes the
        name later, a broker finds the lease by its token.
        """
        with self._changed:
            held = self._held.pop(key_of(message), None)
            if held is None:
                return message
            self._changed.wait_for(lambda: not held.busy, _PATIENCE)
            return held.message

    def leave(self, message: Message) -> None:
        """Renew a lease no more that was lost, and wait for nothing.

        A renewal that hangs may still come through. Then the lease is over after its time.
        """
        with self._changed:
            self._held.pop(key_of(message), None)

    def present(self, message: Message) -> Message:
        """Return a message under the name that it has now."""
        with self._changed:
            held = self._held.get(key_of(message))
            return message if held is None else held.message

    def holds(self, message: Message) -> bool:
        """Tell whether a lease is renewed, and neither lost nor over."""
        with self._changed:
            held = self._held.get(key_of(message))
            return held is not None and not held.is_over(self._clock.monotonic())

    def confirm(self, message: Message) -> None:
        """Renew a lease now, so that nobody else has the message for a while.

        Raises LeaseLost, or what else the broker says.
        """
        self.start(message)
        with self._changed:
            held = self._held[key_of(message)]
            if not self._changed.wait_for(lambda: not held.busy, _PATIENCE):
                raise StorageError(
                    OSError(errno.ETIMEDOUT, "its renewal hangs", message.filename)
                )
            held.busy = True
        self._renew([held])

    def lost(self) -> list[Message]:
        """Return the messages whose lease was lost since the last time we were asked.

        A lease is also lost when its time is over, and no renewal has come through.
        """
        started = self._thread.ident is not None
        if started and not self._ended and not self._thread.is_alive():
            raise DdmqError("the heartbeat has died, so no lease is kept alive")
        now = self._clock.monotonic()
        with self._changed:
            news = [h for h in self._held.values() if h.is_over(now) and not h.told]
            for held in news:
                held.told, held.due = True, _NEVER
            return [held.message for held in news]

    def cancelled(self) -> list[Message]:
        """Return the messages that somebody cancelled since the last time we were asked."""
        with self._changed:
            news = [h for h in self._held.values() if h.cancelled and not h.ending]
            for held in news:
                held.ending = True
            return [held.message for held in news]

    def over_in(self) -> float | None:
        """Return the seconds until a lease is over unless it is renewed, None without any."""
        with self._changed:
            ends = [held.ends for held in self._held.values() if not held.told]
        return self._seconds_to(min(ends, default=_NEVER))

    def _seconds_to(self, moment: float) -> float | None:
        if moment == _NEVER:
            return None
        return max(moment - self._clock.monotonic(), 0.0)

    # What its thread does

    def _run(self) -> None:
        # The main thread is to be interrupted by signals, wherever it waits.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not self._ended:
            self.beat()
            with self._changed:
                self._looks_at = self._next_due()
            self._sleep(self._seconds_to(self._looks_at))
        with self._changed:
            assert self._pipe is not None
            for descriptor in self._pipe:
                os.close(descriptor)
            self._pipe = None  # a renewal that hangs rouses nobody later

    def _sleep(self, seconds: float | None) -> None:
        """Wait until somebody rouses us, but not longer.

        By a poll: until Python 3.11, waiting for a lock takes longer when the node's clock
        is set back meanwhile.
        """
        assert self._pipe is not None
        poll = select.poll()
        poll.register(self._pipe[0], select.POLLIN)
        if poll.poll(min(_LONGEST if seconds is None else seconds, _LONGEST) * 1000):
            os.read(self._pipe[0], 4096)

    def _rouse(self) -> None:
        if self._pipe is not None:
            with suppress(BlockingIOError):  # then there is enough to wake it
                os.write(self._pipe[1], b"\0")

    def beat(self) -> None:
        """Renew what is due, first what has been due for longest.

        A file server may keep one renewal waiting for a minute, for a client that died. So
        each is done by a thread that is left alone with it after a second.
        """
        while True:
            self._hanging = [each for each in self._hanging if not each.has_ended]
            if len(self._hanging) >= _HANGING:
                self._hanging[0].ends_within(_PATIENCE)
            with self._changed:
                now = self._clock.monotonic()
                due = [h for h in self._held.values() if h.due <= now and not h.busy]
                if self._ended or not due:
                    return
                if len(self._hanging) >= _HANGING:
                    continue
                first = min(due, key=lambda held: held.due)
                together = self._together_with(first)
                for each in together:
                    each.busy = True
            renewal = self._clock.begin(partial(self._try_to_renew, together))
            if renewal.ends_within(_PATIENCE):
                renewal.result()
            else:
                self._hanging.append(renewal)

    def _together_with(self, first: _Held) -> list[_Held]:
        """Return all that are renewed with one: lines of one range, by one rename.

        But not while one of them is settled, or renewed.
        """
        if not first.is_line:
            return [first]
        token = first.token
        held = [h for h in self._held.values() if h.token == token and not h.lost]
        return [first] if any(each.busy for each in held) else held

    def _try_to_renew(self, held: list[_Held]) -> None:
        try:
            self._renew(held)
            self._look_for_cancelled(held[0].message.queue)
        except LeaseLost as error:
            lost = {key_of(message) for message in error.messages}
            with self._changed:
                for each in held:
                    each.lost = key_of(each.message) in lost
                if not self._ended and any(h in self._held.values() for h in held):
                    self._wake()
        except DdmqError as error:  # a file server that is away, above all
            if not self._refused and not self._ended:
                self._refused = True
                warn(f"leases are not renewed now, tried again until they end: {error}")

    def _look_for_cancelled(self, queue: str) -> None:
        """Look which of the messages that we hold somebody cancelled."""
        with self._changed:
            if self._clock.monotonic() - self._looked_at < _LOOK_EVERY:
                return
            self._looked_at = self._clock.monotonic()
        ids: frozenset[str] = frozenset()
        with suppress(DdmqError):
            ids = self._broker.to_cancel(queue)
        with self._changed:
            for held in self._held.values():
                held.cancelled = held.message.id in ids
            if not self._ended and any(h.cancelled for h in self._held.values()):
                self._wake()

    def _next_due(self) -> float:
        return min((h.due for h in self._held.values() if not h.busy), default=_NEVER)

    def _renew(self, held: list[_Held]) -> None:
        """Renew leases that are `busy`, and then no more: whatever comes of it, it is noted."""
        began = self._clock.monotonic()
        renewed: dict[str, Message] = {}
        lost: set[str] = set()
        try:
            messages = [each.message for each in held]
            found = self._broker.renew(messages, together=True)
            renewed = {key_of(message): message for message in found}
            self._refused = False
        except LeaseLost as error:
            lost = {key_of(message) for message in error.messages}
            raise
        finally:
            with self._changed:
                for each in held:
                    key = key_of(each.message)
                    if key in renewed:  # so it is ours, even if it was told to be lost
                        each.renewed(renewed[key], began)
                    else:
                        over = each.told or key in lost
                        each.due = _NEVER if over else began + _RETRY
                    each.busy = False
                    if (
                        each.due < self._looks_at
                    ):  # the thread passed over what was busy
                        self._rouse()
                self._changed.notify_all()


class _Held:
    """A lease that is kept alive."""

    __slots__ = (
        "busy",
        "cancelled",
        "due",
        "ending",
        "ends",
        "lost",
        "message",
        "told",
    )

    def __init__(self, message: Message, due: float, ends: float) -> None:
        self.message = message
        self.due = due
        self.ends = ends
        """When others may take the message, unless it is renewed before."""
        self.busy = False
        """Whether a renewal is under way."""
        self.lost = False
        self.told = False
        """Whether the main thread knows that it is lost."""
        self.cancelled = self.ending = False
        """Whether somebody cancelled its message, and whether the main thread knows."""

    @property
    def token(self) -> str:
        """The token of its lease."""
        return _lease_of(self.message).token

    @property
    def is_line(self) -> bool:
        """Whether it is part of a range."""
        return _lease_of(self.message).is_line

    def renewed(self, message: Message, began: float) -> None:
        """Note a renewal that came through: also what was thought to be lost is held."""
        self.message = message
        self.due, self.ends = began + message.timeout / _PART, began + message.timeout
        self.lost = self.told = False

    def is_over(self, now: float) -> bool:
        return self.lost or now >= self.ends


def _lease_of(message: Message) -> Lease:
    return _lease_named(message.filename)


@lru_cache(4096)  # each name is read some ten times while its message is here
def _lease_named(filename: str) -> Lease:
    lease = Lease.parse(filename)
    assert lease is not None  # it was consumed
    return lease


def is_started(message: Message) -> bool:
    """Return whether the end of the lease counts as a loss: a command may have the message."""
    return _lease_of(message).is_started


def key_of(message: Message) -> str:
    """Return what no other lease has: its token, and the id, since a range has one token."""
    lease = _lease_of(message)
    return f"{lease.token}.{lease.entry.id}"
