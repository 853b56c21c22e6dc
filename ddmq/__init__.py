"""ddmq, the Dead Drop Messaging Queue: a message queue made of files, without a server."""

from typing import TYPE_CHECKING, Any

from ddmq.broker import Broker
from ddmq.errors import (
    DdmqError,
    GarbageAhead,
    InvalidArgument,
    InvalidSettings,
    LeaseLost,
    LockTimeout,
    MessageNotFound,
    QueueNotFound,
    QueuePaused,
    RootNotFound,
    StorageError,
    UnknownLayout,
)
from ddmq.message import UNSET, Message
from ddmq.settings import Settings

if TYPE_CHECKING:
    from ddmq.seen import (
        Activity,
        Counts,
        DeadLetter,
        Failure,
        Overview,
        Pause,
        Running,
        Seen,
        Unrenewed,
        WorkerSeen,
    )

#: `from ddmq import broker`: the same class under the name that users have always typed.
broker = Broker

__version__ = "1.0.0"

__all__ = [
    "UNSET",
    "Activity",
    "Broker",
    "Counts",
    "DdmqError",
    "DeadLetter",
    "Failure",
    "GarbageAhead",
    "InvalidArgument",
    "InvalidSettings",
    "LeaseLost",
    "LockTimeout",
    "Message",
    "MessageNotFound",
    "Overview",
    "Pause",
    "QueueNotFound",
    "QueuePaused",
    "RootNotFound",
    "Running",
    "Seen",
    "Settings",
    "StorageError",
    "UnknownLayout",
    "Unrenewed",
    "WorkerSeen",
    "broker",
]


def __getattr__(name: str) -> Any:
    """Import the names of `ddmq.seen` when one is first used: most programs need none of them."""
    if name not in __all__:  # all others of these are imported above
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ddmq import seen

    return getattr(seen, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
