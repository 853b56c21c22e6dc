"""Keeps leases alive, and tells when one is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddmq.errors import LeaseLost, StorageError
from ddmq.log import warn

if TYPE_CHECKING:
    from ddmq.broker import Broker
    from ddmq.clock import Clock
    from ddmq.message import Message

#: The part of a lease after which it is renewed: two renewals may fail before it is lost.
_PART = 3
#: Seconds until the next try when the file system refused.
_RETRY = 1.0


class Heartbeat:
    """One heartbeat for all the messages that a worker holds."""

    def __init__(self, broker: Broker, clock: Clock) -> None:
        self._broker = broker
        self._clock = clock
        self._due: dict[str, float] = {}
        self._held: dict[str, Message] = {}

    def start(self, message: Message) -> None:
        """Keep the lease of a message alive from now on."""
        self._held[message.id] = message
        self._due[message.id] = self._clock.monotonic() + message.timeout / _PART

    def stop(self, message: Message) -> Message:
        """Let a lease be; return the message under its present name."""
        self._due.pop(message.id, None)
        return self._held.pop(message.id, message)

    def due_in(self) -> float | None:
        """Return the seconds until the next renewal, None when nothing is held."""
        if not self._due:
            return None
        return max(min(self._due.values()) - self._clock.monotonic(), 0.0)

    def beat(self) -> list[Message]:
        """Renew what is due; return the messages whose lease was lost."""
        now = self._clock.monotonic()
        due = [id_ for id_, at in self._due.items() if at <= now]
        return [message for id_ in due if (message := self._renew(id_)) is not None]

    def _renew(self, id_: str) -> Message | None:
        message = self._held[id_]
        try:
            self._held[id_] = self._broker.renew(message)
        except LeaseLost as error:
            warn(str(error))
            return self.stop(message)
        except StorageError as error:
            warn(f"message {id_}: its lease could not be renewed yet: {error}")
            self._due[id_] = self._clock.monotonic() + _RETRY
            return None
        self._due[id_] = self._clock.monotonic() + message.timeout / _PART
        return None
