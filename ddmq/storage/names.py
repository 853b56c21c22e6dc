"""The grammar of file names: the state of a message is its name.

This module has the names that every client reads. Names that few clients meet are in other modules,
which are imported when they are needed: ranges and claims in `range_names.py`; the others where
they are used, in `delayed.py`, `dead_letters.py`, `keys.py`, `then.py` and `workers.py`.

Every name consists of the *ready name* of a message, and of what its state adds to it:

=============================== =================================================
``ready/``                      a priority: ``<priority>``
in that, if it is paused        ``paused``, a symbolic link to ``<user>@<host>:<ns since 1970>``
``ready/cancelled/``            ``<id>``: ``<user>@<host>:<ns since 1970>``
``ready/<priority>/``           a bucket: ``<stamp>``; a shelf of buckets: ``<stamp>.shelf``
in a bucket, a message          ``<stamp>.<id>.<failures>-<losses>[.<policy>]``
in a bucket, a bundle           ``<stamp of its last line>.<id>.<lines>[.<policy>][.open]``
in a bucket, a range            ``<stamp>.<bundle>.<first>-<end>-<lines>.<claim>.<state>``, then
                                ``.<failures>-<losses>[.<policy>]``
``work/``, a message            ``<expiry>.<priority>.<ready name>.<token>``, then ``.taken`` if
                                its consumer has not started it
``work/``, a range              ``<expiry>.<priority>.<ready name>.<token>.range``
``work/``, a detached line      ``<priority>.<ready name>.<token>.detached``
``bundles/``, a bundle          a directory: ``<bundle>``
in that, its messages           ``lines``
in that, if its entry is gone   ``drained``
in that, a claim                ``<first>``, a symbolic link to ``<end>.<claim>``
in that, of a claim that's over ``<first>-<end>-<lines>.<token>.done``
``delayed/``                    ``<due>.<priority>.<ready name>``
``dead/``                       ``<priority>.<ready name>.<token>.<code>``
the note of a dead letter       ``<id>.<token>.<code>.note``
``keys/``, what a key stands for  40 hexadecimal digits: a symbolic link, ``keys.Keyed``
``tmp/``, a draft with a key    ``<id>.<name of the key>``
``then/``, a follow-up          a symbolic link to ``<id>``: ``armed``, or
                                ``<time>.<failures>.<token>.<state>``
=============================== =================================================

The policy is what the publisher set for this message: ``t<timeout in ms>``, ``r<requeue: 0 or 1>``,
``p<requeue_prio>`` and ``l<requeue_limit, or n for none>``, in this order, each of them optional.

The stamp of a range is that of its first open line. Its state has one letter for each of its lines:
``o``: it is open, ``t``: it is open, and its consumer has not started it, ``d``: it is detached,
which means that its message is in a file of its own, ``u``: it is detached, and was not started,
``l``: it has left, ``x``: it is over.

This module is pure: it touches no file. For each kind of name, ``parse`` is the exact inverse of
``filename``, and returns None for anything that is no such name.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ddmq.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Union

    from ddmq.storage.range_names import Range, RangeLease

    #: What waits in the ready queue: one message, a bundle of many, or a range of its lines.
    ReadyEntry = Union["Entry", "Bundle", Range]

_Name = TypeVar("_Name")
#: Makes a NamedTuple of a tuple with all its fields. We use it where that is done for each message:
#: the `__new__` of a NamedTuple takes twice as long, as it is a Python function.
make = tuple.__new__
MAX_PRIORITY = 10**18 - 1
MAX_STAMP = 10**19 - 1
MAX_QUEUE_BYTES = 200
#: The most failures or losses that are counted, and the longest timeout, in milliseconds, that
#: is believed. So the names that are made from any valid name are valid, too.
MAX_COUNT = 10**9 - 1
MAX_TIMEOUT_MS = 10**12
#: The shortest timeout: a lease is renewed three times in it, each time by a rename.
MIN_TIMEOUT_MS = 1000
SETTINGS_FILE = "ddmq.yaml"
RESERVED = frozenset(
    (
        "tmp",
        "ready",
        "bundles",
        "work",
        "delayed",
        "dead",
        "drop",
        "lock",
        "cleaned",
        SETTINGS_FILE,
    )
)
#: How the id begins of a file that came through `drop/`, and of one that is no message.
DROPPED = "drop-"
FOREIGN = "foreign-"
NOTE_SUFFIX = ".note"
#: The longest note, in bytes. A client that lists dead letters reads all their notes.
MAX_NOTE = 1 << 16
#: The usual reason for a quarantine.
NO_MESSAGE = "not a message of ddmq"
#: How the name of a line's lease ends. No file has this name: the line is part of a range.
LINE_SUFFIX = ".line"
#: How the name of a lease ends, before that, while its consumer has not started the message.
TAKEN_SUFFIX = ".taken"
#: How the name of a bundle's entry ends from the first claim on.
OPEN_SUFFIX = ".open"
#: The most lines of a range: with more, its name might be longer than 255 bytes.
MAX_RANGE = 50
#: The name of the file with the messages in that directory.
LINES = "lines"
#: The name there of a link that says that the bundle's entry is removed.
DRAINED = "drained"
#: How the name of a shelf ends, which is a directory of buckets.
SHELF_SUFFIX = ".shelf"
#: The name in `ready/` of a link that says that workers take nothing.
PAUSED = "paused"
#: The name there of a directory that has a link for each message that is cancelled.
CANCELLED = "cancelled"
NUMBER = "(0|[1-9][0-9]{0,17})"
COUNT = "(0|[1-9][0-9]{0,8})"
LINE = "(0|[1-9][0-9]{0,4})"
POLICY = (
    r"(?=[trpl])(?:t[1-9][0-9]{0,12})?(?:r[01])?"
    r"(?:p(?:0|[1-9][0-9]{0,17}))?(?:l(?:n|0|[1-9][0-9]{0,8}))?"
)
READY = rf"([0-9]{{19}})\.([a-z0-9-]{{1,64}})\.{COUNT}-{COUNT}(?:\.({POLICY}))?"


class Grammar:
    """A pattern that is compiled when it is first used, since most commands use few patterns."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    def __getattr__(self, name: str) -> Any:
        method = getattr(re.compile(self._pattern), name)
        setattr(self, name, method)  # next time, Python finds it without us
        return method


_priority = Grammar(NUMBER)
_buckets = Grammar("(?:[0-9]{19}/)*")
_in_priority = Grammar(rf"(?:[0-9]{{19}}(?:{re.escape(SHELF_SUFFIX)})?/)*")
_ready = Grammar(READY)
HEX_ID, TOKEN, MARK = "([0-9a-f]{20})", "([0-9a-f]{16})", "([0-9a-f]{6})"
_bundle = Grammar(
    rf"([0-9]{{19}})\.{HEX_ID}\.{LINE}(?:\.({POLICY}))?({re.escape(OPEN_SUFFIX)})?"
)
_paused_by = Grammar(r"([A-Za-z0-9._-]{1,64})@([A-Za-z0-9._-]{1,255}):([0-9]{19})")
_directory = Grammar(HEX_ID)
_id = Grammar("[a-z0-9-]{1,64}")
_made_id = Grammar(rf"(?:{DROPPED}|{FOREIGN})?[0-9a-f]{{20}}(?:-[0-9]{{1,5}})?")
_policy = Grammar(r"(?:t([0-9]+))?(?:r([01]))?(?:p([0-9]+))?(?:l([0-9]+|n))?")
_aside = Grammar(rf"\.(?:ready|work|delayed|bundles|{NUMBER})-{TOKEN}")
_lease = Grammar(
    rf"([0-9]{{13}})\.{NUMBER}\.{READY}\.{TOKEN}"
    rf"({re.escape(TAKEN_SUFFIX)})?({re.escape(LINE_SUFFIX)})?"
)


class _EntryFields(NamedTuple):
    priority: int
    stamp: int
    """When it joined the ready queue, in ns since 1970; the order within a priority."""
    id: str
    failures: int = 0
    losses: int = 0
    policy: str = ""
    """What the publisher set of timeout, requeue, requeue_prio and requeue_limit."""


class Entry(_EntryFields):
    """What the name of a message says in every state."""

    __slots__ = ()
    waiting = 1
    """How many waiting messages its file holds."""
    stamps = 1
    """How many stamps it needs."""

    def name_at(self, stamp: int) -> str:
        """Return its name in a bucket with another stamp."""
        _, _, id_, failures, losses, policy = self
        # `zfill` takes half the time of a format. This is done for each message.
        name = f"{str(stamp).zfill(19)}.{id_}.{failures}-{losses}"
        return f"{name}.{policy}" if policy else name

    def failed(self) -> Entry:
        """Return the entry with one failure more."""
        return self._replace(failures=min(self.failures + 1, MAX_COUNT))

    def lost(self) -> Entry:
        """Return the entry with one loss more."""
        return self._replace(losses=min(self.losses + 1, MAX_COUNT))

    @property
    def place(self) -> int:
        """The stamp by which it stands in its bucket."""
        return self.stamp

    @property
    def filename(self) -> str:
        """The name in a bucket, which is part of the name in every other state."""
        return self.name_at(self.stamp)

    @classmethod
    def parse(cls, priority: int, filename: str) -> Entry | None:
        """Read a name found in a bucket of `priority`."""
        match = _ready.fullmatch(filename)
        return None if match is None else entry_of(priority, match.groups())


def entry_of(priority: str | int, fields: Sequence[Any]) -> Entry:
    """Make an entry of the fields of a name: stamp, id, failures, losses and policy."""
    stamp, id_, failures, losses, policy = fields
    counts = int(failures), int(losses)
    return make(Entry, (int(priority), int(stamp), id_, *counts, policy or ""))


class Lease(NamedTuple):
    """The lease of a message: a file in `work/`, valid until `expiry`."""

    entry: Entry
    expiry: int
    """When the lease ends, in milliseconds since 1970."""
    token: str
    """Sixteen hexadecimal digits, new at each claim: the proof of the lease."""
    filename: str
    """The name in `work/`, made of the other fields."""
    is_line: bool = False
    """Whether its message is a line of a bundle, and so part of a range."""
    is_started: bool = True
    """Whether its consumer may have started it. If not, the end of the lease is no loss."""

    @classmethod
    def of(
        cls,
        entry: Entry,
        expiry: int,
        token: str,
        suffix: str = "",
        *,
        is_started: bool = True,
    ) -> Lease:
        """Make a lease, and its name."""
        ready = entry.name_at(entry.stamp)
        taken = "" if is_started else TAKEN_SUFFIX
        name = f"{expiry:013d}.{entry.priority}.{ready}.{token}{taken}{suffix}"
        return cls(entry, expiry, token, name, suffix == LINE_SUFFIX, is_started)

    @classmethod
    def of_waiting(
        cls, entry: Entry, ready: str, expiry: int, *, is_started: bool = True
    ) -> Lease:
        """Make a new lease of a waiting message, whose name in the ready queue is `ready`."""
        token = new_token()
        name = f"{str(expiry).zfill(13)}.{entry.priority}.{ready}.{token}"
        if not is_started:
            name += TAKEN_SUFFIX
        return make(cls, (entry, expiry, token, name, False, is_started))

    @classmethod
    def parse(cls, filename: str) -> Lease | None:
        """Read a name found in `work/`."""
        match = _lease.fullmatch(filename)
        if match is None:
            return None
        expiry, priority, *fields, token, taken, line = match.groups()
        entry, is_line = entry_of(priority, fields), line is not None
        return make(cls, (entry, int(expiry), token, filename, is_line, taken is None))

    def is_same_claim(self, other: Lease) -> bool:
        """Whether both are leases of the same message by the same claim, maybe renewed."""
        return self.token == other.token and self.entry.id == other.entry.id

    @property
    def number(self) -> int:
        """The number of its line in the bundle, from 0; -1: its id is not that of a line."""
        return -1 if self.line is None else self.line[1]

    @property
    def line(self) -> tuple[str, int] | None:
        """The id of the bundle that its message came in, and the number of its line, from 0.

        None if its id is not that of a line.
        """
        bundle, _, number = self.entry.id.partition("-")
        return (bundle, int(number)) if number.isdigit() else None


class Bundle(NamedTuple):
    """The entry of a bundle in the ready queue: an empty file. Its directory has the messages."""

    priority: int
    stamp: int
    """The stamp of its first line, in ns since 1970; each further line has one more."""
    id: str
    lines: int
    policy: str = ""
    """What the publisher set of timeout and so on for all its messages."""
    is_open: bool = False
    """Whether somebody may have claimed some of its lines."""

    @property
    def waiting(self) -> int:
        """How many messages the bundle holds."""
        return self.lines

    @property
    def stamps(self) -> int:
        """How many stamps it needs, one for each line."""
        return self.lines

    @property
    def place(self) -> int:
        """The stamp by which it stands in its bucket: that of its last line.

        So a line that comes back to its old place stands before the bundle.
        """
        return self.stamp + self.lines - 1

    def name_at(self, stamp: int) -> str:
        """Return its name in a bucket with another stamp of its first line."""
        name = f"{stamp + self.lines - 1:019d}.{self.id}.{self.lines}"
        if self.policy:
            name = f"{name}.{self.policy}"
        return f"{name}{OPEN_SUFFIX}" if self.is_open else name

    @property
    def filename(self) -> str:
        """The name in a bucket."""
        return self.name_at(self.stamp)

    @classmethod
    def parse(cls, priority: int, filename: str) -> Bundle | None:
        """Read a name found in a bucket of `priority`."""
        match = _bundle.fullmatch(filename)
        if match is None:
            return None
        last, id_, lines, policy, is_open = match.groups()
        first = int(last) - int(lines) + 1
        if not 0 <= first <= MAX_STAMP - int(lines):  # a line's name would be invalid
            return None
        return cls(priority, first, id_, int(lines), policy or "", bool(is_open))


def parse_lease(filename: str) -> Lease | RangeLease | None:
    """Read a name found in `work/`: the lease of a message, or of a range."""
    lease = Lease.parse(filename)
    if lease is not None:
        return lease
    from ddmq.storage.range_names import RangeLease  # few clients ever meet one

    return RangeLease.parse(filename)


def paused_by(user: str, host: str, now: int) -> str:
    """Return the target of a link that pauses or cancels: who made it, and the ns since 1970."""
    name, node = (re.sub("[^A-Za-z0-9._-]", "_", text) for text in (user, host))
    return f"{name[:64] or '_'}@{node[:255] or '_'}:{now:019d}"


def parse_paused_by(target: str) -> tuple[str, str, int] | None:
    """Read the target of a link that pauses or cancels: the user, the host, and when."""
    match = _paused_by.fullmatch(target)
    return None if match is None else (match[1], match[2], int(match[3]))


def hidden_name(name: str) -> str:
    """Return a hidden name beside a name: of what was moved away from it, or is to get it."""
    return f".{name}-{new_token()}"


def may_hold_entries(name: str) -> bool:
    """Tell whether this hidden name was given to a directory on which messages depend."""
    return _aside.fullmatch(name) is not None


def parse_directory(filename: str) -> str | None:
    """Read the name of a bundle's directory: the bundle's id."""
    match = _directory.fullmatch(filename)
    return None if match is None else str(match[1])


def parse_ready_entry(priority: int, filename: str) -> ReadyEntry | None:
    """Read a name found in a bucket of `priority`."""
    match = _ready.fullmatch(filename)
    if match is None:
        bundle = Bundle.parse(priority, filename)
        if bundle is not None:
            return bundle
        from ddmq.storage.range_names import Range  # few clients ever meet one

        return Range.parse(priority, filename)
    # As `entry_of`, which takes longer: this is done for each message.
    stamp, id_, failures, losses, policy = match.groups()
    fields = priority, int(stamp), id_, int(failures), int(losses), policy or ""
    return make(Entry, fields)


class Waiting(NamedTuple):
    """What stands in the ready queue, and the path at which a listing showed it."""

    entry: ReadyEntry
    path: str


def is_id(text: object) -> bool:
    """Tell whether a message can have this id."""
    return isinstance(text, str) and _id.fullmatch(text) is not None


def is_made_id(text: str) -> bool:
    """Return whether this is the whole id of a message, as ddmq itself makes ids."""
    return _made_id.fullmatch(text) is not None


def parse_id(target: str) -> str | None:
    """Read the target of a follow-up's link, which names it."""
    return target if _directory.fullmatch(target) else None


def policy_of(overrides: Mapping[str, Any]) -> str:
    """Return what a publisher set for a message, as a field of its name; empty: nothing.

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
    """Read the policy in a name that was parsed: the inverse of `policy_of`."""
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


def known(parse: Callable[[str], _Name | None], names: Iterable[str]) -> list[_Name]:
    """Parse names, and leave out those that don't parse."""
    return [name for text in names if (name := parse(text)) is not None]


def past(names: list[str], now: int) -> list[str]:
    """Return the names that begin with a time before `now`, in order."""
    return sorted(name for name in names if name < f"{now:013d}")


def bucket_name(stamp: int) -> str:
    """Return the name of the bucket whose first message has this stamp."""
    return f"{stamp:019d}"


def are_buckets(names: list[str]) -> bool:
    """Tell whether all are names of buckets; one match for all is quicker than one for each."""
    return _buckets.fullmatch("/".join((*names, ""))) is not None


def are_in_priority(names: list[str]) -> bool:
    """Tell whether all are names of buckets or shelves."""
    return _in_priority.fullmatch("/".join((*names, ""))) is not None


def split(names: list[str], *, is_shelf_: bool) -> tuple[list[str], list[str]]:
    """Return the names of buckets and shelves, in order, and the names that do not belong there.

    On a shelf, only buckets belong.
    """
    are_ours = are_buckets if is_shelf_ else are_in_priority
    names = sorted(names)
    if are_ours(names):  # the usual case, and quicker than one by one
        return names, []
    ours = [name for name in names if are_ours([name])]
    return ours, sorted(set(names).difference(ours))


def not_after(names: list[str], bucket: str) -> list[str]:
    """Return those of the sorted names whose stamp is not later than that of a bucket."""
    return [name for name in names if name[: len(bucket)] <= bucket]


def shelf_name(stamp: int) -> str:
    """Return the name of the shelf whose first bucket has this stamp."""
    return f"{bucket_name(stamp)}{SHELF_SUFFIX}"


def is_shelf(name: str) -> bool:
    """Tell by its name or path whether a bucket or shelf is a shelf."""
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


def new_mark() -> str:
    """Return the mark of one try to detach a line: 6 hexadecimal digits."""
    return os.urandom(3).hex()


def random_below(limit: int) -> int:
    """Return a random number from 0 to `limit` - 1, without importing `random`."""
    return int.from_bytes(os.urandom(4), "big") % limit if limit > 1 else 0


def jitter() -> float:
    """Return a factor from 0.75 to 1.25, without the import of `random`."""
    return 0.75 + os.urandom(1)[0] / 510


def check_queue_name(name: object) -> str:
    """Return `name`, or raise InvalidArgument when it can't name a queue."""
    if not isinstance(name, str):
        raise InvalidArgument(f"queue name {name!r} is not text")
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
    fault = next((fault for fault, found in faults.items() if found), None)
    if fault is not None:
        raise InvalidArgument(f"queue name {name[:80]!r} {fault}; choose another name")
    return name
