"""ddmq, the Dead Drop Messaging Queue: a message queue made of files, without a server."""

from ddmq.broker import Broker
from ddmq.errors import (
    DdmqError,
    GarbageAhead,
    InvalidArgument,
    InvalidSettings,
    LeaseLost,
    LockTimeout,
    QueueNotFound,
    QueuePaused,
    RootNotFound,
    StorageError,
    UnknownLayout,
)
from ddmq.message import (
    UNSET,
    Activity,
    Counts,
    DeadLetter,
    Failure,
    Message,
    Overview,
    Pause,
    Running,
    Seen,
    Unrenewed,
    WorkerSeen,
)
from ddmq.settings import Settings

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
