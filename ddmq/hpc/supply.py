"""What a worker takes for its slots, and what of it was not started yet."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from ddmq.errors import GarbageAhead, LeaseLost, QueuePaused, warn
from ddmq.holding.heartbeat import is_started, key_of
from ddmq.hpc.faults import AWAY, is_for_good
from ddmq.hpc.limits import AHEAD_AT_MOST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddmq.broker import Broker
    from ddmq.clock import Clock
    from ddmq.holding.heartbeat import Heartbeat
    from ddmq.hpc.limits import Limits
    from ddmq.hpc.poller import Poller
    from ddmq.hpc.settling import Settler
    from ddmq.hpc.then import Then
    from ddmq.message import Message


class Supply:
    """The messages that one worker holds and has not started yet.

    One call to the file system takes messages for all free slots, and for the next seconds.
    """

    def __init__(
        self,
        broker: Broker,
        queue: str,
        *,
        limits: Limits,
        poller: Poller,
        settler: Settler,
        heartbeat: Heartbeat,
        then: Then | None,
        clock: Clock,
    ) -> None:
        self.alone: deque[Message] = deque()
        """Messages of a batch that failed: each is to be run by itself, before all others."""
        self._ahead: deque[Message] = deque()
        """Messages that were taken and are to be started next."""
        self._taken_at = 0.0
        self._share = 1
        """How many of the messages that were taken together each slot is to get."""
        self._broker = broker
        self._queue = queue
        self._limits = limits
        self._poller = poller
        self._settler = settler
        self._heartbeat = heartbeat
        self._then = then
        self._clock = clock

    def next(self, free: int) -> list[Message]:
        """Return the messages for the next of the free slots; none: there is none, or not yet."""
        if self.alone:
            return [self.alone.popleft()]
        if not self._poller.is_due():
            return []
        if not self._ahead and not self._take(free):
            return []
        most = self._limits.for_one_command(self._share)
        if not self._start(free, most):
            return []
        batch: list[Message] = []
        while self._ahead and len(batch) < most:
            # One that came back runs alone, as it may be what makes a batch fail.
            if self._ahead[0].requeue_counter and batch:
                break
            batch.append(self._ahead.popleft())
            if batch[0].requeue_counter:
                break
        return batch

    def _take(self, free: int) -> bool:
        """Take messages for all free slots; False: none may be started now."""
        try:
            messages = self._broker.consume(
                self._queue,
                self._limits.how_many(free),
                unless=self._why_not,
                heed_pause=True,
                started=self._limits.how_many_started(free),
            )
        except GarbageAhead:
            self._poller.look_at_once()  # the queue is not empty
            return False
        except QueuePaused as error:
            self._poller.is_paused(error)
            return False
        except AWAY as error:
            if is_for_good(error):
                raise
            self._poller.server_is_away(error)
            return False
        self._poller.looked(found=bool(messages))
        for message in messages:
            self._heartbeat.start(message)
        self._ahead.extend(messages)
        self._taken_at = self._clock.monotonic()
        self._share = -(-len(messages) // free)
        try:
            if messages and self._then is not None:
                self._then.arm()  # nothing may be run before what is to follow is known
        except AWAY as error:
            self.give_back()
            if is_for_good(error):
                raise
            self._poller.server_is_away(error)
        return bool(self._ahead)

    def _start(self, free: int, most: int) -> bool:
        """Note on disk that the next messages are started; False: they can't be started now.

        Each of the free slots is to have `most` of them. A message that kills its worker is
        counted, so this comes before its command. Others, of the same range, are noted with them
        if their turn comes soon: it costs no further call.
        """
        if all(map(is_started, islice(self._ahead, most))):
            return True
        number = max(free * most, self._limits.how_many_started(0))
        held = [
            self._heartbeat.stop(each)
            for each in islice(self._ahead, number)
            if not is_started(each)
        ]
        lost: set[str] = set()
        try:
            started = self._broker.start(held)
        except LeaseLost as error:
            warn(str(error))
            lost, started = {key_of(each) for each in error.messages}, held
        except AWAY as error:
            for each in held:
                self._heartbeat.start(each)
            if is_for_good(error):
                raise
            self._poller.server_is_away(error)
            return False
        named = {key_of(each): each for each in started if key_of(each) not in lost}
        for each in named.values():
            self._heartbeat.start(each)
        self._ahead = deque(
            named.get(key_of(each), each)
            for each in self._ahead
            if key_of(each) not in lost
        )
        return bool(self._ahead) and (not lost or self._start(free, most))

    def _why_not(self, message: Message) -> str | None:
        """Say why a message is not even to be read: it may be what kills its workers."""
        why_not = self._settler.why_not(message)
        self._limits.started += why_not is not None
        return why_not

    def put_back(self, messages: Sequence[Message]) -> None:
        """Keep messages for the next slot that did not fit into a command."""
        self._ahead.extendleft(reversed(messages))

    def lose(self, message: Message) -> bool:
        """Forget a message whose lease is lost, or which is cancelled; tell whether it was here."""
        key, number = key_of(message), len(self._ahead) + len(self.alone)
        self._ahead = deque(each for each in self._ahead if key_of(each) != key)
        self.alone = deque(each for each in self.alone if key_of(each) != key)
        return len(self._ahead) + len(self.alone) < number

    def left(self) -> float | None:
        """Return the seconds until what was taken ahead is given back; None: there is none."""
        if not self._ahead:
            return None
        return max(self._taken_at + AHEAD_AT_MOST - self._clock.monotonic(), 0.0)

    def give_back(self) -> None:
        """Give back what was taken and not started."""
        held = [*self.alone, *self._ahead]
        self.alone.clear()
        self._ahead.clear()
        self._settler.give_back_unstarted(held)

    def give_back_ahead(self) -> None:
        """Give back what was taken ahead; those of a batch that failed are still run alone."""
        held = list(self._ahead)
        self._ahead.clear()
        self._settler.give_back_unstarted(held)
