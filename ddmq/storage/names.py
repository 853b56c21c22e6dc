"""The grammar of file names: the state of a message is its name.

(Names that no message depends on are where they are used: those in `workers/` in `workers.py`.)

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
``work/``, a message            ``<expiry>.<priority>.<ready name>.<token>``
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
``keys/``, what a key stands for  40 hexadecimal digits: a symbolic link, see ``Keyed``
``tmp/``, a draft with a key    ``<id>.<name of the key>``
``then/``, a follow-up          a symbolic link to ``<id>``: ``armed``, or
                                ``<time>.<failures>.<token>.<state>``
=============================== =================================================

The policy is what the publisher set for this message: ``t<timeout in ms>``, ``r<requeue: 0 or 1>``,
``p<requeue_prio>`` and ``l<requeue_limit, or n for none>``, in this order, each of them optional.

The stamp of a range is that of its first open line. Its state has one letter for each of its lines:
``o``: it is open, ``d``: it is detached, which means that its message is in a file of its own,
``x``: it is over.

This module is pure: it touches no file. For each kind of name, ``parse`` is the exact inverse of
``filename``, and returns None for anything that is no such name.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, Union

from ddmq.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_Name = TypeVar("_Name")
#: Makes a NamedTuple of a tuple of all its fields, where that is done for each message: its own
#: `__new__` is a Python function, and takes twice as long.
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
#: How the name of a leased range ends, which is a symbolic link that nobody follows.
RANGE_SUFFIX = ".range"
#: How the name of a file ends that holds the message of a detached line.
DETACHED_SUFFIX = ".detached"
#: How the name of a bundle's entry ends from the first claim on.
OPEN_SUFFIX = ".open"
#: How the name of a claim ends that is over.
DONE_SUFFIX = ".done"
#: The name of the file with the messages in that directory.
LINES = "lines"
#: The name there of a link that says that the bundle's entry is removed.
DRAINED = "drained"
#: The most lines of a range: with more, its name might be longer than 255 bytes.
MAX_RANGE = 50
#: What becomes of a line: leased or waiting; in a file of its own, in which it leaves its range;
#: gone in that file; acked.
OPEN, DETACHED, LEFT, OVER = "o", "d", "l", "x"
#: The states of a follow-up; the first one is its whole name.
ARMED, LEASED, WAITING, FAILED = "armed", "leased", "waiting", "failed"
#: How the name of a shelf ends, which is a directory of buckets.
SHELF_SUFFIX = ".shelf"
#: The name in `ready/` of a link that says that workers take nothing.
PAUSED = "paused"
#: The name there of a directory that has a link for each message that is cancelled.
CANCELLED = "cancelled"
_NUMBER = "(0|[1-9][0-9]{0,17})"
_COUNT = "(0|[1-9][0-9]{0,8})"
_LINES = "(0|[1-9][0-9]{0,4})"
_POLICY = (
    r"(?=[trpl])(?:t[1-9][0-9]{0,12})?(?:r[01])?"
    r"(?:p(?:0|[1-9][0-9]{0,17}))?(?:l(?:n|0|[1-9][0-9]{0,8}))?"
)
_READY = rf"([0-9]{{19}})\.([a-z0-9-]{{1,64}})\.{_COUNT}-{_COUNT}(?:\.({_POLICY}))?"


class _Grammar:
    """A pattern that is compiled when it is first used, since most commands use few patterns."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    def __getattr__(self, name: str) -> Any:
        method = getattr(re.compile(self._pattern), name)
        setattr(self, name, method)  # next time, Python finds it without us
        return method


_priority = _Grammar(_NUMBER)
_buckets = _Grammar("(?:[0-9]{19}/)*")
_in_priority = _Grammar(rf"(?:[0-9]{{19}}(?:{re.escape(SHELF_SUFFIX)})?/)*")
_ready = _Grammar(_READY)
_HEX_ID, _TOKEN, _MARK = "([0-9a-f]{20})", "([0-9a-f]{16})", "([0-9a-f]{6})"
_bundle = _Grammar(
    rf"([0-9]{{19}})\.{_HEX_ID}\.{_LINES}(?:\.({_POLICY}))?({re.escape(OPEN_SUFFIX)})?"
)
_RANGE = (
    rf"([0-9]{{19}})\.{_HEX_ID}\.{_LINES}-{_LINES}-{_LINES}\.{_TOKEN}"
    rf"\.([odlx]{{1,{MAX_RANGE}}})\.{_COUNT}-{_COUNT}(?:\.({_POLICY}))?"
)
_range = _Grammar(_RANGE)
_range_lease = _Grammar(
    rf"([0-9]{{13}})\.{_NUMBER}\.{_RANGE}\.{_TOKEN}(?:\.{_MARK})?{re.escape(RANGE_SUFFIX)}"
)
_detached = _Grammar(
    rf"{_NUMBER}\.{_READY}\.{_TOKEN}\.{_MARK}{re.escape(DETACHED_SUFFIX)}"
)
_first = _Grammar(_LINES)
_claim = _Grammar(rf"{_LINES}\.{_TOKEN}")
_done = _Grammar(
    rf"{_LINES}-{_LINES}-{_LINES}\.{_TOKEN}\.[lx]{{1,{MAX_RANGE}}}{re.escape(DONE_SUFFIX)}"
)
_made_by = _Grammar(r"([A-Za-z0-9._-]{1,255}):([1-9][0-9]{0,9})")
_paused_by = _Grammar(r"([A-Za-z0-9._-]{1,64})@([A-Za-z0-9._-]{1,255}):([0-9]{19})")
_directory = _Grammar(_HEX_ID)
_id = _Grammar("[a-z0-9-]{1,64}")
_draft = _Grammar(r"[0-9a-f]{20}\.([0-9a-f]{40})")
_keyed = _Grammar(
    rf"({_HEX_ID[1:-1]}\.[0-9a-f]{{40}})\.{_NUMBER}\.(0|[0-9]{{13}})\.([01])\.({_POLICY})?"
    rf"\.{_COUNT}\.{_COUNT}\.([0-9a-f-]{{1,64}})\.([0-9a-f-]{{1,64}})"
)
_follow_up = _Grammar(
    rf"([0-9]{{13}})\.{_COUNT}\.{_TOKEN}\.({LEASED}|{WAITING}|{FAILED})"
)
_policy = _Grammar(r"(?:t([0-9]+))?(?:r([01]))?(?:p([0-9]+))?(?:l([0-9]+|n))?")
_lease = _Grammar(
    rf"([0-9]{{13}})\.{_NUMBER}\.{_READY}\.{_TOKEN}({re.escape(LINE_SUFFIX)})?"
)
_delayed = _Grammar(rf"([0-9]{{13}})\.{_NUMBER}\.(.+)")
_dead = _Grammar(rf"{_NUMBER}\.{_READY}\.([0-9a-f]{{16}})\.([a-z]{{1,20}})")


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
        name = f"{stamp:019d}.{id_}.{failures}-{losses}"
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
        return None if match is None else _entry_of(priority, match.groups())


def _entry_of(priority: str | int, fields: Sequence[Any]) -> Entry:
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

    @classmethod
    def of(cls, entry: Entry, expiry: int, token: str, suffix: str = "") -> Lease:
        """Make a lease, and its name."""
        ready = entry.name_at(entry.stamp)
        name = f"{expiry:013d}.{entry.priority}.{ready}.{token}{suffix}"
        return cls(entry, expiry, token, name, suffix == LINE_SUFFIX)

    @classmethod
    def of_waiting(cls, entry: Entry, ready: str, expiry: int) -> Lease:
        """Make a new lease of a message that waits under the name `ready`, which is its own."""
        token = new_token()
        name = f"{expiry:013d}.{entry.priority}.{ready}.{token}"
        return make(cls, (entry, expiry, token, name, False))

    @classmethod
    def parse(cls, filename: str) -> Lease | None:
        """Read a name found in `work/`."""
        match = _lease.fullmatch(filename)
        if match is None:
            return None
        expiry, priority, *fields, token, line = match.groups()
        entry = _entry_of(priority, fields)
        return make(cls, (entry, int(expiry), token, filename, line is not None))

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

    def claim(self, first: int, n: int, expiry: int, token: str) -> NewClaim:
        """Return the claim of up to `n` lines, from the line `first` on."""
        end = min(first + min(n, MAX_RANGE), self.lines)
        state = OPEN * (end - first)
        claimed = Range(
            self.priority,
            self.stamp + first,
            self.id,
            first,
            end,
            self.lines,
            token,
            state,
            policy=self.policy,
        )
        return NewClaim.of(RangeLease(claimed, expiry, token))

    def claim_of_rest(self, first: int, expiry: int, token: str) -> NewClaim:
        """Return the claim of all lines from `first` on, if they are all to be removed."""
        stamp, lines, policy = self.stamp + first, self.lines, self.policy
        span = first, lines, lines
        rest = Range(self.priority, stamp, self.id, *span, token, OVER, 0, 0, policy)
        return NewClaim.of(RangeLease(rest, expiry, token))


class Range(NamedTuple):
    """The lines that one claim took from a bundle. They wait in a bucket, or are leased."""

    priority: int
    stamp: int
    """The stamp of the first line; each further line has one more."""
    bundle: str
    """The id of the bundle."""
    first: int
    """The number of the first line, from 0."""
    end: int
    """One more than the number of the last line."""
    total: int
    """How many lines the bundle has."""
    claim: str
    """The token of the claim."""
    state: str
    """A letter for each line; or `x` alone: all lines are over."""
    failures: int = 0
    losses: int = 0
    policy: str = ""

    @property
    def id(self) -> str:
        """The id of its first message."""
        return f"{self.bundle}-{self.first}"

    @property
    def waiting(self) -> int:
        """How many lines are open."""
        return self.state.count(OPEN)

    @property
    def stamps(self) -> int:
        """How many stamps it needs, one for each line."""
        return self.end - self.first

    @property
    def is_over(self) -> bool:
        """Whether none of its lines is open, or in a file that is to leave."""
        return not self.state.strip(LEFT + OVER)

    @property
    def place(self) -> int:
        """The stamp by which it stands in its bucket: that of its first open line."""
        return self.stamp + max(self.state.find(OPEN), 0)

    def lines(self, letter: str = OPEN) -> list[int]:
        """Return the numbers of the lines that have this letter."""
        numbers = enumerate(self.state, self.first)
        return [number for number, found in numbers if found == letter]

    def is_open(self, line: int) -> bool:
        """Tell whether a line is open."""
        index = line - self.first
        return 0 <= index < len(self.state) and self.state[index] == OPEN

    def marked(self, lines: Iterable[int], letter: str) -> Range:
        """Return the range with another letter for some of its lines."""
        letters = list(self.state)
        for line in lines:
            letters[line - self.first] = letter
        return self._replace(state="".join(letters))

    def entry(self, line: int) -> Entry:
        """Return what the name of a line's message says."""
        stamp, id_ = self.stamp + line - self.first, f"{self.bundle}-{line}"
        return Entry(self.priority, stamp, id_, self.failures, self.losses, self.policy)

    def failed(self) -> Range:
        """Return the range with one failure more for each of its lines."""
        return self._replace(failures=min(self.failures + 1, MAX_COUNT))

    def lost(self) -> Range:
        """Return the range with one loss more for each of its lines."""
        return self._replace(losses=min(self.losses + 1, MAX_COUNT))

    def name_at(self, stamp: int) -> str:
        """Return its name in a bucket with another stamp of its first line.

        The name begins with the stamp of its first open line.
        """
        place = stamp - self.stamp + self.place
        name = (
            f"{place:019d}.{self.bundle}.{self.first}-{self.end}-{self.total}"
            f".{self.claim}.{self.state}.{self.failures}-{self.losses}"
        )
        return f"{name}.{self.policy}" if self.policy else name

    @property
    def filename(self) -> str:
        """The name in a bucket."""
        return self.name_at(self.stamp)

    @property
    def target(self) -> str:
        """What the symbolic link of its claim says."""
        return f"{self.end}.{self.claim}"

    @classmethod
    def parse(cls, priority: int, filename: str) -> Range | None:
        """Read a name found in a bucket of `priority`."""
        match = _range.fullmatch(filename)
        return None if match is None else _range_of(priority, *match.groups())


def _range_of(priority: str | int, *fields: Any) -> Range | None:
    """Make a range of the fields of a name; None: they do not go together."""
    stamp, bundle, first, end, total, *rest = fields
    claim, state, failures, losses, policy = rest
    found = Range(
        int(priority),
        int(stamp) - max(state.find(OPEN), 0),
        bundle,
        int(first),
        int(end),
        int(total),
        claim,
        state,
        int(failures),
        int(losses),
        policy or "",
    )
    fits = len(state) == found.stamps or state == OVER
    if (
        not fits
        or not found.first < found.end <= found.total
        or not 0 <= found.stamp <= MAX_STAMP - found.stamps
    ):
        return None
    return found


class RangeLease(NamedTuple):
    """The lease of a range: a symbolic link in `work/`, valid until `expiry`."""

    range: Range
    expiry: int
    """When the lease ends, in milliseconds since 1970."""
    token: str
    """Sixteen hexadecimal digits, new whenever somebody takes the range."""
    mark: str = ""
    """Six more while a line is detached: which of the files with that line is the message.

    They are new for each try to detach one. So two that have the same lease, as two threads may,
    never take the other's change of the name for their own.
    """

    @property
    def filename(self) -> str:
        """The name in `work/`."""
        held = self.range
        name = f"{self.expiry:013d}.{held.priority}.{held.name_at(held.stamp)}.{self.token}"
        return f"{name}.{self.mark}{RANGE_SUFFIX}" if self.mark else name + RANGE_SUFFIX

    @classmethod
    def parse(cls, filename: str) -> RangeLease | None:
        """Read a name found in `work/`."""
        match = _range_lease.fullmatch(filename)
        if match is None:
            return None
        expiry, priority, *fields, token, mark = match.groups()
        found = _range_of(priority, *fields)
        if found is None or found.state.count(DETACHED) != bool(mark):
            return None
        return cls(found, int(expiry), token, mark or "")

    @property
    def done(self) -> str:
        """The name that says that its claim is over.

        No other holder gives it this name, and this one only if the same became of each line.
        """
        found = self.range
        lines = f"{found.first}-{found.end}-{found.total}"
        return f"{lines}.{self.token}.{found.state}{DONE_SUFFIX}"

    def marked(self, lines: Iterable[int], letter: str, mark: str = "") -> RangeLease:
        """Return the lease with another letter for some of its lines.

        With a `mark`, they are detached in the file that has it.
        """
        found = self.range.marked(lines, letter)
        mark = mark or self.mark if DETACHED in found.state else ""
        return self._replace(range=found, mark=mark)

    def lease_of(self, line: int) -> Lease:
        """Return the lease of one line."""
        entry = self.range.entry(line)
        return Lease.of(entry, self.expiry, self.token, LINE_SUFFIX)

    def leases(self) -> list[Lease]:
        """Return the leases of its open lines."""
        return [self.lease_of(number) for number in self.range.lines()]

    def lease_of_detached(self, line: int) -> Lease:
        """Return the lease of a line whose message is in a file of its own."""
        entry = self.range.entry(line)
        return Lease(entry, self.expiry, self.token, self.detached(line))

    def detached(self, line: int) -> str:
        """Return the name of the file that holds the message of a line, once it is detached."""
        entry = self.range.entry(line)
        name = f"{entry.priority}.{entry.filename}.{self.token}"
        return f"{name}.{self.mark}{DETACHED_SUFFIX}"


class NewClaim(NamedTuple):
    """A claim that is to be made: first its lease, a link in `work/`, and then the claim's link."""

    held: RangeLease
    lease: str
    """The lease's name in `work/`."""
    target: str
    """What the claim's link says. That link's name is the number of its first line."""

    @classmethod
    def of(cls, held: RangeLease) -> NewClaim:
        """Return the claim of a lease."""
        return cls(held, held.filename, held.range.target)


def parse_detached(filename: str) -> Lease | None:
    """Read the name of a detached file in `work/`, as a lease that never ends."""
    match = _detached.fullmatch(filename)
    if match is None:
        return None
    priority, *fields, token, _ = match.groups()
    return Lease(_entry_of(priority, fields), 0, token, filename)


def made_by(host: str, process: int) -> str:
    """Return the target of a range's link, which nobody follows: who claimed its lines."""
    return f"{host}:{process}"


def parse_made_by(target: str) -> tuple[str, int] | None:
    """Read the target of a range's link: the host, and the process on it."""
    match = _made_by.fullmatch(target)
    return None if match is None else (match[1], int(match[2]))


def paused_by(user: str, host: str, now: int) -> str:
    """Return the target of a link that pauses or cancels: who made it, and the ns since 1970."""
    name, node = (re.sub("[^A-Za-z0-9._-]", "_", text) for text in (user, host))
    return f"{name[:64] or '_'}@{node[:255] or '_'}:{now:019d}"


def parse_paused_by(target: str) -> tuple[str, str, int] | None:
    """Read the target of a link that pauses or cancels: the user, the host, and when."""
    match = _paused_by.fullmatch(target)
    return None if match is None else (match[1], match[2], int(match[3]))


def parse_claim(target: str) -> tuple[int, str] | None:
    """Read the target of a claim: where it ends, and its token."""
    match = _claim.fullmatch(target)
    return None if match is None else (int(match[1]), match[2])


def parse_first(filename: str) -> int | None:
    """Read the name of a claim: the number of its first line."""
    match = _first.fullmatch(filename)
    return None if match is None else int(match[0])


def parse_done(filename: str) -> tuple[int, int, int] | None:
    """Read the name of a claim that is over: its first line, its end, and the bundle's lines."""
    match = _done.fullmatch(filename)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def parse_directory(filename: str) -> str | None:
    """Read the name of a bundle's directory: the bundle's id."""
    match = _directory.fullmatch(filename)
    return None if match is None else str(match[1])


#: What waits in the ready queue: one message, a bundle of many, or a range of a bundle's lines.
ReadyEntry = Union[Entry, Bundle, Range]


def parse_ready_entry(priority: int, filename: str) -> ReadyEntry | None:
    """Read a name found in a bucket of `priority`."""
    match = _ready.fullmatch(filename)
    if match is None:
        return Bundle.parse(priority, filename) or Range.parse(priority, filename)
    # As `_entry_of`, which takes longer: this is done for each message.
    stamp, id_, failures, losses, policy = match.groups()
    fields = priority, int(stamp), id_, int(failures), int(losses), policy or ""
    return make(Entry, fields)


class Waiting(NamedTuple):
    """What stands in the ready queue, and the path at which a listing showed it."""

    entry: ReadyEntry
    path: str


class Filled(NamedTuple):
    """A directory below `ready/`, and the names in it. Only a bucket holds messages."""

    priority: int
    path: str
    names: list[str]


class Delayed(NamedTuple):
    """A message or a bundle in `delayed/`, which is not visible before `due`."""

    entry: ReadyEntry
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
        entry = parse_ready_entry(int(priority), place)
        return None if entry is None else cls(entry, int(due))


class Dead(NamedTuple):
    """A dead letter: a file in `dead/`, with a code for the reason."""

    entry: Entry
    token: str
    """The token of its last claim. A note with it is of the same death, and of no other."""
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
        priority, *fields, token, code = match.groups()
        return cls(_entry_of(priority, fields), token, code)


class FollowUp(NamedTuple):
    """What is to be run when a queue is done: a symbolic link in `then/` to its id."""

    state: str
    """`armed`, `leased`, `waiting` or `failed`."""
    time: int = 0
    """Until when it is leased, or waits, or when it failed for good: milliseconds since 1970."""
    failures: int = 0
    token: str = ""
    """Sixteen hexadecimal digits, new whenever somebody takes it."""

    @property
    def filename(self) -> str:
        """The name in `then/`."""
        if self.state == ARMED:
            return ARMED
        return f"{self.time:013d}.{self.failures}.{self.token}.{self.state}"

    @classmethod
    def parse(cls, filename: str) -> FollowUp | None:
        """Read a name found in `then/`."""
        if filename == ARMED:
            return cls(ARMED)
        match = _follow_up.fullmatch(filename)
        if match is None:
            return None
        time, failures, token, state = match.groups()
        return cls(state, int(time), int(failures), token)

    @property
    def is_pending(self) -> bool:
        """Whether it is still to be done."""
        return self.state != FAILED

    def is_free(self, now: int) -> bool:
        """Tell whether anybody may take it at a time, in milliseconds since 1970."""
        return self.state == ARMED or (self.is_pending and self.time <= now)

    def failed(self, retries: int, now: int, again: int) -> FollowUp:
        """Return it after one more failure: it waits, or has failed for good."""
        failures = min(self.failures + 1, MAX_COUNT)
        if failures > retries:
            return FollowUp(FAILED, now, failures, self.token)
        return FollowUp(WAITING, again, failures, self.token)


class Keyed(NamedTuple):
    """What was published with a key: the target of its link in `keys/`."""

    draft: str
    """The name in `tmp/` of what is made ready: `<id>.<name of the key>`."""
    priority: int
    due: int
    """When it is to be visible, in milliseconds since 1970; 0: at once."""
    durable: bool
    policy: str
    bundles: int
    """How many bundles there are; 0: one message in a file of its own."""
    number: int
    """How many messages there are."""
    first: str
    """The id of the first one."""
    last: str
    """The id of the last one."""

    @property
    def id(self) -> str:
        """The id of the message or of the only bundle."""
        return self.draft.partition(".")[0]

    @property
    def target(self) -> str:
        """What the link says."""
        draft, priority, due, durable, policy, *rest = self
        parts = draft, priority, due and f"{due:013d}", f"{durable:d}", policy, *rest
        return ".".join(map(str, parts))

    @classmethod
    def parse(cls, target: str) -> Keyed | None:
        """Read the target of a link."""
        match = _keyed.fullmatch(target)
        if match is None:
            return None
        draft, priority, due, durable, policy, bundles, number, first, last = (
            match.groups()
        )
        return cls(
            draft,
            int(priority),
            int(due),
            durable == "1",
            policy or "",
            int(bundles),
            int(number),
            first,
            last,
        )


def key_of_draft(filename: str) -> str | None:
    """Return the name of the key in the name of a draft in `tmp/`; None: it has none."""
    match = _draft.fullmatch(filename)
    return None if match is None else str(match[1])


def is_id(text: object) -> bool:
    """Tell whether a message can have this id."""
    return isinstance(text, str) and _id.fullmatch(text) is not None


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
