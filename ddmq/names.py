"""The grammar of file names: the state of a message is its name.

Every name is made of the *ready name* of a message and what its state adds to it:

=============================== ===========================================
``ready/<priority>/<bucket>/``  ``<stamp>.<id>.<failures>-<losses>``
``work/``                       ``<expiry>.<priority>.<ready name>.<token>``
``delayed/``                    ``<due>.<priority>.<ready name>``
``dead/``                       ``<priority>.<ready name>.<code>``
=============================== ===========================================

Pure: nothing here touches a file. For each kind of name ``parse`` is the exact inverse of
``filename``; it returns None for anything that is no such name.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from ddmq.errors import InvalidArgument

MAX_PRIORITY = 10**18 - 1
MAX_STAMP = 10**19 - 1
MAX_QUEUE_BYTES = 200
SETTINGS_FILE = "ddmq.yaml"
RESERVED = frozenset(
    (
        "tmp",
        "ready",
        "work",
        "delayed",
        "dead",
        "drop",
        "lock",
        "cleaned",
        SETTINGS_FILE,
    )
)
#: The id of a file that came through `drop/` and of one that is no message start so.
DROPPED = "drop-"
FOREIGN = "foreign-"
NOTE_SUFFIX = ".note"

_NUMBER = "(0|[1-9][0-9]{0,17})"
_COUNT = "(0|[1-9][0-9]{0,8})"
_READY = rf"([0-9]{{19}})\.([a-z0-9-]{{1,64}})\.{_COUNT}-{_COUNT}"
_priority = re.compile(_NUMBER)
_bucket = re.compile("[0-9]{19}")
_ready = re.compile(_READY)
_lease = re.compile(rf"([0-9]{{13}})\.{_NUMBER}\.{_READY}\.([0-9a-f]{{16}})")
_delayed = re.compile(rf"([0-9]{{13}})\.{_NUMBER}\.{_READY}")
_dead = re.compile(rf"{_NUMBER}\.{_READY}\.([a-z]{{1,20}})")


class Entry(NamedTuple):
    """What the name of a message tells in every state."""

    priority: int
    stamp: int
    """Nanoseconds since 1970 when it joined the line: the order within a priority."""
    id: str
    failures: int = 0
    losses: int = 0

    def at(self, stamp: int) -> Entry:
        """Return the entry with another place in line: `_replace`, but quick."""
        return Entry(self.priority, stamp, self.id, self.failures, self.losses)

    @property
    def filename(self) -> str:
        """The name in a bucket, and the middle of the name in every other state."""
        return f"{self.stamp:019d}.{self.id}.{self.failures}-{self.losses}"

    @classmethod
    def parse(cls, priority: int, filename: str) -> Entry | None:
        """Read a name found in a bucket of `priority`."""
        match = _ready.fullmatch(filename)
        return None if match is None else cls.of(priority, *match.groups())

    @classmethod
    def of(
        cls, priority: str | int, stamp: str, id_: str, failures: str, losses: str
    ) -> Entry:
        """Make an entry of the fields of a name."""
        return cls(int(priority), int(stamp), id_, int(failures), int(losses))


class Lease(NamedTuple):
    """A message in `work/`: consumed, and ours until `expiry`."""

    entry: Entry
    expiry: int
    """Milliseconds since 1970 when the lease ends."""
    token: str
    """Sixteen hexadecimal digits, new at each claim: the proof of the lease."""
    filename: str
    """The name in `work/`: what the other fields say."""

    @classmethod
    def of(cls, entry: Entry, expiry: int, token: str) -> Lease:
        """Make a lease, and its name."""
        name = f"{expiry:013d}.{entry.priority}.{entry.filename}.{token}"
        return cls(entry, expiry, token, name)

    @classmethod
    def parse(cls, filename: str) -> Lease | None:
        """Read a name found in `work/`."""
        match = _lease.fullmatch(filename)
        if match is None:
            return None
        expiry, *fields, token = match.groups()
        return cls(Entry.of(*fields), int(expiry), token, filename)


class Delayed(NamedTuple):
    """A message in `delayed/`: not visible before `due`."""

    entry: Entry
    due: int
    """Milliseconds since 1970."""

    @property
    def filename(self) -> str:
        """The name in `delayed/`."""
        return f"{self.due:013d}.{self.entry.priority}.{self.entry.filename}"

    @classmethod
    def parse(cls, filename: str) -> Delayed | None:
        """Read a name found in `delayed/`."""
        match = _delayed.fullmatch(filename)
        if match is None:
            return None
        due, *fields = match.groups()
        return cls(Entry.of(*fields), int(due))


class Dead(NamedTuple):
    """A message in `dead/`, with the code of the reason why."""

    entry: Entry
    code: str

    @property
    def filename(self) -> str:
        """The name in `dead/`."""
        return f"{self.entry.priority}.{self.entry.filename}.{self.code}"

    @classmethod
    def parse(cls, filename: str) -> Dead | None:
        """Read a name found in `dead/`."""
        match = _dead.fullmatch(filename)
        if match is None:
            return None
        *fields, code = match.groups()
        return cls(Entry.of(*fields), code)


def bucket_name(stamp: int) -> str:
    """Return the name of the bucket whose first message has this stamp."""
    return f"{stamp:019d}"


def parse_bucket(name: str) -> int | None:
    """Return the stamp that a bucket is named by, or None when this is no bucket."""
    return int(name) if _bucket.fullmatch(name) else None


def parse_priority(name: str) -> int | None:
    """Return the priority that a directory in `ready/` stands for, or None."""
    return int(name) if _priority.fullmatch(name) else None


def new_id() -> str:
    """Return an id that nobody has: 20 hexadecimal digits."""
    return os.urandom(10).hex()


def new_token() -> str:
    """Return a token that nobody has: 16 hexadecimal digits."""
    return os.urandom(8).hex()


def check_queue_name(name: object) -> str:
    """Return `name`, or raise InvalidArgument when it can't name a queue."""
    if not isinstance(name, str):
        raise InvalidArgument(f"queue name {name!r} is not text")
    fault = _queue_name_fault(name)
    if fault is not None:
        raise InvalidArgument(f"queue name {name[:80]!r} {fault}; choose another name")
    return name


def _queue_name_fault(name: str) -> str | None:
    faults = {
        "is empty": not name,
        "is reserved for ddmq's own files": name in RESERVED,
        "begins with a dot or a dash": name.startswith((".", "-")),
        "has a slash, a comma or an unprintable character": (
            "/" in name or "," in name or not name.isprintable()
        ),
        f"is longer than {MAX_QUEUE_BYTES} bytes": (
            len(name.encode("utf-8", "surrogatepass")) > MAX_QUEUE_BYTES
        ),
    }
    return next((fault for fault, found in faults.items() if found), None)
