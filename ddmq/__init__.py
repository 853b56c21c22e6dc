"""ddmq, the Dead Drop Messaging Queue: a message queue made of files, without a server."""

from ddmq.broker import UNSET, Broker
from ddmq.errors import (
    DdmqError,
    GarbageAhead,
    InvalidArgument,
    InvalidSettings,
    LeaseLost,
    LockTimeout,
    QueueNotFound,
    RootNotFound,
    StorageError,
    UnknownLayout,
)
from ddmq.message import DeadLetter, Message
from ddmq.settings import Settings
from ddmq.store import Counts

#: `from ddmq import broker`: the same class under the name that users have always typed.
broker = Broker

__version__ = "1.0.0"

__all__ = [
    "UNSET",
    "Broker",
    "Counts",
    "DdmqError",
    "DeadLetter",
    "GarbageAhead",
    "InvalidArgument",
    "InvalidSettings",
    "LeaseLost",
    "LockTimeout",
    "Message",
    "QueueNotFound",
    "RootNotFound",
    "Settings",
    "StorageError",
    "UnknownLayout",
    "broker",
]
