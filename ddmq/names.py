"""The grammar of file names: the state of a message is its name.

Every name is made of the *ready name* of a message and what its state adds to it:

=============================== =================================================
``ready/<priority>/``           a bucket: ``<stamp>``; a shelf of buckets: ``<stamp>.shelf``
in a bucket, a message          ``<stamp>.<id>.<failures>-<losses>[.<policy>]``
in a bucket, a bundle           ``<stamp>.<id>.<lines>-<next>-<taken>.<expiry>.<token>[.<policy>]``
``work/``                       ``<expiry>.<priority>.<ready name>.<token>``
the same, a line of a bundle    ``<expiry>.<priority>.<ready name>.<token>.line``
the same, if the bundle says so ``<expiry>.<priority>.<ready name>.<token>.draft``
``delayed/``                    ``<due>.<priority>.<ready name>``
``dead/``                       ``<priority>.<ready name>.<token>.<code>``
the note of a dead letter       ``<id>.<token>.<code>.note``
=============================== =================================================

The policy is what the publisher set for this message: ``t<timeout in ms>``, ``r<requeue: 0 or 1>``,
``p<requeue_prio>`` and ``l<requeue_limit, or n for none>``, in this order, each of them optional.

Pure: nothing here touches a file. For each kind of name ``parse`` is the exact inverse of
``filename``; it returns None for anything that is no such name.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from ddmq.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PRIORITY = 10**18 - 1
MAX_STAMP = 10**19 - 1
MAX_QUEUE_BYTES = 200
#: The most failures or losses that are counted, and the longest timeout, in milliseconds, that
#: is believed: so whatever is in a name, the names that are made of it are names, too.
MAX_COUNT = 10**9 - 1
MAX_TIMEOUT_MS = 10**12
#: The shortest one: a lease is renewed three times in it, each time by a rename.
MIN_TIMEOUT_MS = 1000
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
#: How the name of a lease ends whose file is empty: its message is a line of a bundle.
LINE_SUFFIX = ".line"
#: The same, while the name of the bundle still tells whether the claim was made.
DRAFT_SUFFIX = ".draft"
LINE_SUFFIXES = LINE_SUFFIX, DRAFT_SUFFIX
#: How the name of a shelf ends: a directory of buckets, where a priority has many.
SHELF_SUFFIX = ".shelf"
#: How the name of a bundle in `work/` begins of which no line waits.
_SPENT = "spent."

_NUMBER = "(0|[1-9][0-9]{0,17})"
_COUNT = "(0|[1-9][0-9]{0,8})"
_LINES = "(0|[1-9][0-9]{0,4})"
_POLICY = (
    r"(?=[trpl])(?:t[1-9][0-9]{0,12})?(?:r[01])?"
    r"(?:p(?:0|[1-9][0-9]{0,17}))?(?:l(?:n|0|[1-9][0-9]{0,8}))?"
)
_READY = rf"([0-9]{{19}})\.([a-z0-9-]{{1,64}})\.{_COUNT}-{_COUNT}(?:\.({_POLICY}))?"


class _Grammar:
    """A pattern that is compiled when it is needed: most commands need few of them."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    def __getattr__(self, name: str) -> Any:
        method = getattr(re.compile(self._pattern), name)
        setattr(self, name, method)  # the next time, this method is not asked
        return method


_priority = _Grammar(_NUMBER)
_buckets = _Grammar("(?:[0-9]{19}/)*")
_in_priority = _Grammar(rf"(?:[0-9]{{19}}(?:{re.escape(SHELF_SUFFIX)})?/)*")
_ready = _Grammar(_READY)
_bundle = _Grammar(
    rf"([0-9]{{19}})\.([0-9a-f]{{20}})\.{_LINES}-{_LINES}-{_LINES}"
    rf"\.([0-9]{{13}})\.([0-9a-f]{{16}})(?:\.({_POLICY}))?"
)
_policy = _Grammar(r"(?:t([0-9]+))?(?:r([01]))?(?:p([0-9]+))?(?:l([0-9]+|n))?")
_spent = _Grammar(rf"{re.escape(_SPENT)}([0-9]{{13}})\.([0-9a-f]{{20}})")
_lease = _Grammar(
    rf"([0-9]{{13}})\.{_NUMBER}\.{_READY}\.([0-9a-f]{{16}})"
    rf"({re.escape(LINE_SUFFIX)}|{re.escape(DRAFT_SUFFIX)})?"
)
_delayed = _Grammar(rf"([0-9]{{13}})\.{_NUMBER}\.(.+)")
_dead = _Grammar(rf"{_NUMBER}\.{_READY}\.([0-9a-f]{{16}})\.([a-z]{{1,20}})")


class Entry(NamedTuple):
    """What the name of a message tells in every state."""

    priority: int
    stamp: int
    """Nanoseconds since 1970 when it joined the line: the order within a priority."""
    id: str
    failures: int = 0
    losses: int = 0
    policy: str = ""
    """What the publisher set of timeout, requeue, requeue_prio and requeue_limit."""

    def at(self, stamp: int) -> Entry:
        """Return the entry with another place in line: `_replace`, but quick."""
        priority, _, id_, failures, losses, policy = self
        return Entry(priority, stamp, id_, failures, losses, policy)

    def failed(self) -> Entry:
        """Return the entry with one failure more."""
        return self._replace(failures=min(self.failures + 1, MAX_COUNT))

    def lost(self) -> Entry:
        """Return the entry with one loss more."""
        return self._replace(losses=min(self.losses + 1, MAX_COUNT))

    @property
    def waiting(self) -> int:
        """How many messages its file holds that wait."""
        return 1

    @property
    def filename(self) -> str:
        """The name in a bucket, and the middle of the name in every other state."""
        name = f"{self.stamp:019d}.{self.id}.{self.failures}-{self.losses}"
        return f"{name}.{self.policy}" if self.policy else name

    @classmethod
    def parse(cls, priority: int, filename: str) -> Entry | None:
        """Read a name found in a bucket of `priority`."""
        match = _ready.fullmatch(filename)
        return None if match is None else cls.of(priority, *match.groups())

    @classmethod
    def of(
        cls,
        priority: str | int,
        stamp: str,
        id_: str,
        failures: str,
        losses: str,
        policy: str | None,
    ) -> Entry:
        """Make an entry of the fields of a name."""
        counts = int(failures), int(losses)
        return cls(int(priority), int(stamp), id_, *counts, policy or "")


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
    def of(cls, entry: Entry, expiry: int, token: str, suffix: str = "") -> Lease:
        """Make a lease, and its name."""
        name = f"{expiry:013d}.{entry.priority}.{entry.filename}.{token}{suffix}"
        return cls(entry, expiry, token, name)

    @classmethod
    def parse(cls, filename: str) -> Lease | None:
        """Read a name found in `work/`."""
        match = _lease.fullmatch(filename)
        if match is None:
            return None
        expiry, *fields, token, _ = match.groups()
        return cls(Entry.of(*fields), int(expiry), token, filename)

    def is_same_claim(self, other: Lease) -> bool:
        """Whether both are of one message and one claim, at different times."""
        return self.token == other.token and self.entry.id == other.entry.id

    @property
    def is_line(self) -> bool:
        """Whether its file is empty, and its message a line of a bundle."""
        return self.filename.endswith(LINE_SUFFIXES)

    @property
    def is_draft(self) -> bool:
        """Whether it is one only if the name of its bundle says that the claim was made."""
        return self.filename.endswith(DRAFT_SUFFIX)

    def completed(self) -> Lease:
        """Return the lease that a draft becomes, whatever its bundle is named later."""
        return Lease.of(self.entry, self.expiry, self.token, LINE_SUFFIX)

    @property
    def line(self) -> tuple[str, int] | None:
        """The id of the bundle that its message came in, and which line it is, from 0.

        None where its id is none of a line.
        """
        bundle, _, number = self.entry.id.partition("-")
        return (bundle, int(number)) if number.isdigit() else None


class Bundle(NamedTuple):
    """Many messages in one file of which the first are taken already.

    Its name is the cursor: who renames it to a later one, under a token of its own, has
    taken the lines in between.
    """

    priority: int
    stamp: int
    """Nanoseconds since 1970: that of its first line; each line has one more."""
    id: str
    lines: int
    """How many lines it has."""
    next: int = 0
    """The first line that waits, from 0."""
    taken: int = 0
    """How many lines the last claim took: those before `next`."""
    expiry: int = 0
    """When the leases of the last claim end."""
    token: str = "0" * 16
    """The token of the last claim."""
    policy: str = ""
    """What the publisher set of timeout and so on, for all its messages."""

    def at(self, stamp: int) -> Bundle:
        """Return the bundle, of which nothing is taken yet, with another place in line."""
        return Bundle(self.priority, stamp, self.id, self.lines, policy=self.policy)

    @property
    def waiting(self) -> int:
        """How many messages its file holds that wait."""
        return self.lines - self.next

    @property
    def filename(self) -> str:
        """The name in a bucket; by its stamp it is sorted where its next line is."""
        _, stamp, id_, lines, following, taken, expiry, token, policy = self
        name = (
            f"{stamp + following:019d}.{id_}.{lines}-{following}-{taken}"
            f".{expiry:013d}.{token}"
        )
        return f"{name}.{policy}" if policy else name

    @classmethod
    def parse(cls, priority: int, filename: str) -> Bundle | None:
        """Read a name found in a bucket of `priority`."""
        match = _bundle.fullmatch(filename)
        if match is None:
            return None
        stamp, id_, *counts, expiry, token, policy = match.groups()
        lines, next_, taken = map(int, counts)
        first = int(stamp) - next_
        if not taken <= next_ <= lines:
            return None
        if not 0 <= first <= MAX_STAMP - lines:  # then a line's name would be none
            return None
        last = int(expiry), token, policy or ""
        return cls(priority, first, id_, lines, next_, taken, *last)

    def taking(self, n: int, expiry: int, token: str) -> Bundle:
        """Return the bundle after a claim of its next `n` lines, or of all it has."""
        priority, stamp, id_, lines, first, _, _, _, policy = self
        until = min(first + n, lines)
        claim = until, until - first, expiry, token
        return Bundle(priority, stamp, id_, lines, *claim, policy)

    def drafts(self) -> list[Lease]:
        """Return the leases of the last claim, in order."""
        first = self.next - self.taken
        return [self._draft(number) for number in range(first, self.next)]

    def last_draft(self) -> Lease:
        """Return the lease that the last claim is complete without."""
        return self._draft(self.next - 1)

    def _draft(self, number: int) -> Lease:
        id_ = f"{self.id}-{number}"
        entry = Entry(self.priority, self.stamp + number, id_, policy=self.policy)
        return Lease.of(entry, self.expiry, self.token, DRAFT_SUFFIX)

    def emptied(self, token: str) -> Bundle:
        """Return the bundle when no line of it is to be taken any more."""
        return self._replace(next=self.lines, taken=0, expiry=0, token=token)


#: What stands in line: a file with one message, or with many.
Place = Union[Entry, Bundle]


def parse_place(priority: int, filename: str) -> Place | None:
    """Read a name found in a bucket of `priority`."""
    return Entry.parse(priority, filename) or Bundle.parse(priority, filename)


class Spent(NamedTuple):
    """A bundle in `work/` of which no line waits; some may be leased."""

    since: int
    """Milliseconds since 1970 when it came there, all its leases being there already."""
    id: str

    @property
    def filename(self) -> str:
        """The name in `work/`."""
        return f"{_SPENT}{self.since:013d}.{self.id}"

    @classmethod
    def parse(cls, filename: str) -> Spent | None:
        """Read a name found in `work/`."""
        match = _spent.fullmatch(filename)
        return None if match is None else cls(int(match[1]), match[2])


class Delayed(NamedTuple):
    """A message or a bundle in `delayed/`: not visible before `due`."""

    entry: Place
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
        due, priority, place = match.groups()
        entry = parse_place(int(priority), place)
        return None if entry is None else cls(entry, int(due))


class Dead(NamedTuple):
    """A message in `dead/`, with the code of the reason why."""

    entry: Entry
    token: str
    """The token of the claim that was its last: a note is of the same claim, or of another death."""
    code: str

    @property
    def filename(self) -> str:
        """The name in `dead/`."""
        entry = self.entry
        return f"{entry.priority}.{entry.filename}.{self.token}.{self.code}"

    @property
    def note(self) -> str:
        """The name of its note, beside it."""
        return f"{self.entry.id}.{self.token}.{self.code}{NOTE_SUFFIX}"

    @classmethod
    def parse(cls, filename: str) -> Dead | None:
        """Read a name found in `dead/`."""
        match = _dead.fullmatch(filename)
        if match is None:
            return None
        *fields, token, code = match.groups()
        return cls(Entry.of(*fields), token, code)


def policy_of(overrides: Mapping[str, Any]) -> str:
    """Return what a publisher set for a message as the field of a name; empty: nothing.

    `overrides` has the keys `timeout` (seconds, at least one; rounded to milliseconds),
    `requeue`, `requeue_prio` and `requeue_limit` (None: no limit), or some of them.
    """
    if not overrides:
        return ""
    parts = []
    if "timeout" in overrides:
        parts.append(f"t{max(round(overrides['timeout'] * 1000), MIN_TIMEOUT_MS)}")
    if "requeue" in overrides:
        parts.append(f"r{overrides['requeue']:d}")
    if "requeue_prio" in overrides:
        parts.append(f"p{overrides['requeue_prio']}")
    if "requeue_limit" in overrides:
        limit = overrides["requeue_limit"]
        parts.append("ln" if limit is None else f"l{limit}")
    return "".join(parts)


def overrides_of(policy: str) -> dict[str, Any]:
    """Read what `policy_of` wrote, in a name that was parsed."""
    match = _policy.fullmatch(policy)
    if not policy or match is None:
        return {}
    timeout, requeue, priority, limit = match.groups()
    overrides: dict[str, Any] = {}
    if timeout is not None:
        milliseconds = max(min(int(timeout), MAX_TIMEOUT_MS), MIN_TIMEOUT_MS)
        seconds, rest = divmod(milliseconds, 1000)
        overrides["timeout"] = seconds if not rest else milliseconds / 1000
    if requeue is not None:
        overrides["requeue"] = requeue == "1"
    if priority is not None:
        overrides["requeue_prio"] = int(priority)
    if limit is not None:
        overrides["requeue_limit"] = None if limit == "n" else int(limit)
    return overrides


def bucket_name(stamp: int) -> str:
    """Return the name of the bucket whose first message has this stamp."""
    return f"{stamp:019d}"


def are_buckets(names: list[str]) -> bool:
    """Tell whether all are names of buckets: of thousands, quicker than one by one."""
    return _buckets.fullmatch("/".join((*names, ""))) is not None


def are_in_priority(names: list[str]) -> bool:
    """Tell whether all are names of buckets or shelves."""
    return _in_priority.fullmatch("/".join((*names, ""))) is not None


def shelf_name(stamp: int) -> str:
    """Return the name of the shelf whose first bucket has this stamp."""
    return f"{bucket_name(stamp)}{SHELF_SUFFIX}"


def is_shelf(name: str) -> bool:
    """Tell which of the two a bucket or shelf is, by its name or path."""
    return name.endswith(SHELF_SUFFIX)


def stamp_of(name: str) -> int:
    """Return the stamp in the name of a bucket or shelf."""
    return int(name[:19])


def parse_priority(name: str) -> int | None:
    """Return the priority that a directory in `ready/` stands for, or None."""
    return int(name) if _priority.fullmatch(name) else None


def new_id() -> str:
    """Return an id that nobody has: 20 hexadecimal digits."""
    return os.urandom(10).hex()


def new_token() -> str:
    """Return a token that nobody has: 16 hexadecimal digits."""
    return os.urandom(8).hex()


def random_below(limit: int) -> int:
    """Return a number from 0 to `limit` - 1, without the import of `random`."""
    return int.from_bytes(os.urandom(4), "big") % limit if limit > 1 else 0


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
