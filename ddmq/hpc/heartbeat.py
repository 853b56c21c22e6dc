"""Keeps leases alive, and tells when one is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddmq.errors import LeaseLost
from ddmq.log import warn

if TYPE_CHECKING:
    from ddmq.broker import Broker
    from ddmq.clock import Clock
    from ddmq.message import Message

#: The part of a lease after which it is renewed: two renewals may fail before it is lost.
_PART = 3


class Heartbeat:
    """The lease of one message: renewed in time, whenever `beat` is called often enough."""

    def __init__(self, broker: Broker, message: Message, clock: Clock) -> None:
        self.message = message
        self.lost = False
        self._broker = broker
        self._clock = clock
        self._next = clock.monotonic() + message.timeout / _PART

    def due_in(self) -> float:
        """Return the seconds until the next renewal."""
        return max(self._next - self._clock.monotonic(), 0.0)

    def beat(self) -> None:
        """Renew the lease if it is time; sets `lost` when somebody else has the message."""
        if self.lost or self.due_in() > 0:
            return
        self._next = self._clock.monotonic() + self.message.timeout / _PART
        try:
            self.message = self._broker.renew(self.message)
        except LeaseLost as error:
            self.lost = True
            warn(str(error))
