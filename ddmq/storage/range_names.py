"""The grammar of the names of ranges and claims, which tell who claimed which lines of a bundle.

It is a part of the grammar in `ddmq.storage.names`, and pure, too. A client that meets no bundle
doesn't import it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq.storage.names import (
    COUNT,
    HEX_ID,
    LINE,
    LINE_SUFFIX,
    MARK,
    MAX_COUNT,
    MAX_RANGE,
    MAX_STAMP,
    NUMBER,
    POLICY,
    READY,
    TAKEN_SUFFIX,
    TOKEN,
    Entry,
    Grammar,
    Lease,
    entry_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ddmq.storage.names import Bundle

#: How the name of a leased range ends, which is a symbolic link that nobody follows.
RANGE_SUFFIX = ".range"
#: How the name of a file ends that holds the message of a detached line.
DETACHED_SUFFIX = ".detached"
#: How the name of a claim ends that is over.
DONE_SUFFIX = ".done"
#: What becomes of a line: leased or waiting; leased, and not started; in a file of its own, in
#: which it leaves its range; in such a file, and not started; gone in that file; acked.
OPEN, TAKEN, DETACHED, UNSTARTED, LEFT, OVER = "o", "t", "d", "u", "l", "x"
_RANGE = (
    rf"([0-9]{{19}})\.{HEX_ID}\.{LINE}-{LINE}-{LINE}\.{TOKEN}"
    rf"\.([odltux]{{1,{MAX_RANGE}}})\.{COUNT}-{COUNT}(?:\.({POLICY}))?"
)
_range = Grammar(_RANGE)
_range_lease = Grammar(
    rf"([0-9]{{13}})\.{NUMBER}\.{_RANGE}\.{TOKEN}(?:\.{MARK})?{re.escape(RANGE_SUFFIX)}"
)
_detached = Grammar(rf"{NUMBER}\.{READY}\.{TOKEN}\.{MARK}{re.escape(DETACHED_SUFFIX)}")
_first = Grammar(LINE)
_claim = Grammar(rf"{LINE}\.{TOKEN}")
_done = Grammar(
    rf"{LINE}-{LINE}-{LINE}\.{TOKEN}\.[lx]{{1,{MAX_RANGE}}}{re.escape(DONE_SUFFIX)}"
)
_made_by = Grammar(r"([A-Za-z0-9._-]{1,255}):([1-9][0-9]{0,9})")


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
        return self.state.count(OPEN) + self.state.count(TAKEN)

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
        return self.stamp + _first_open(self.state)

    def lines(self, letters: str = OPEN + TAKEN) -> list[int]:
        """Return the numbers of the lines that have one of these letters, by default the open."""
        numbers = enumerate(self.state, self.first)
        return [number for number, found in numbers if found in letters]

    def leaving(self) -> list[int]:
        """Return the numbers of the lines that are detached."""
        return self.lines(DETACHED + UNSTARTED)

    def is_open(self, line: int) -> bool:
        """Tell whether a line is open."""
        index = line - self.first
        return 0 <= index < len(self.state) and self.state[index] in OPEN + TAKEN

    def marked(self, lines: Iterable[int], letter: str) -> Range:
        """Return the range with another letter for some of its lines."""
        letters = list(self.state)
        for line in lines:
            letters[line - self.first] = letter
        return self._replace(state="".join(letters))

    def started(self, number: int | None = None) -> Range:
        """Return the range with so many started lines, the first open ones; None: all."""
        opened = self._replace(state=self.state.replace(TAKEN, OPEN))
        return (
            opened if number is None else opened.marked(opened.lines()[number:], TAKEN)
        )

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


def _first_open(state: str) -> int:
    """Return the place of the first open line, by the letters of all; 0 if there is none."""
    return max(state.replace(TAKEN, OPEN).find(OPEN), 0)


def _range_of(priority: str | int, *fields: Any) -> Range | None:
    """Make a range of the fields of a name; None: they do not go together."""
    stamp, bundle, first, end, total, *rest = fields
    claim, state, failures, losses, policy = rest
    found = Range(
        int(priority),
        int(stamp) - _first_open(state),
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
        if found is None or len(found.leaving()) != bool(mark):
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
        mark = mark or self.mark if found.leaving() else ""
        return self._replace(range=found, mark=mark)

    def lease_of(self, line: int) -> Lease:
        """Return the lease of one line, as `Lease.of` would: here, for each line, it is quicker."""
        entry, expiry, token = self.range.entry(line), self.expiry, self.token
        priority, stamp, id_, failures, losses, policy = entry
        ready = f"{stamp:019d}.{id_}.{failures}-{losses}"
        ready = f"{ready}.{policy}" if policy else ready
        place = line - self.range.first
        is_started = self.range.state[place : place + 1] not in (TAKEN, UNSTARTED)
        taken = "" if is_started else TAKEN_SUFFIX
        name = f"{expiry:013d}.{priority}.{ready}.{token}{taken}{LINE_SUFFIX}"
        return Lease(entry, expiry, token, name, is_line=True, is_started=is_started)

    def leases(self) -> list[Lease]:
        """Return the leases of its open lines."""
        return [self.lease_of(number) for number in self.range.lines()]

    def lease_of_detached(self, line: int) -> Lease:
        """Return the lease of a line whose message is in a file of its own."""
        entry, is_started = self.range.entry(line), line in self.range.lines(DETACHED)
        name = self.detached(line)
        return Lease(entry, self.expiry, self.token, name, is_started=is_started)

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

    @classmethod
    def of_lines(
        cls,
        bundle: Bundle,
        first: int,
        n: int,
        *,
        expiry: int,
        token: str,
        started: int | None = None,
    ) -> NewClaim:
        """Return the claim of up to `n` lines of a bundle, from the line `first` on.

        So many of them are `started` at once; None: all.
        """
        end = min(first + min(n, MAX_RANGE), bundle.lines)
        state = OPEN * (end - first)
        claimed = Range(
            bundle.priority,
            bundle.stamp + first,
            bundle.id,
            first,
            end,
            bundle.lines,
            token,
            state,
            policy=bundle.policy,
        )
        return cls.of(RangeLease(claimed.started(started), expiry, token))

    @classmethod
    def of_rest(
        cls, bundle: Bundle, first: int, *, expiry: int, token: str
    ) -> NewClaim:
        """Return the claim of all lines from `first` on, if they are all to be removed."""
        rest = Range(
            bundle.priority,
            bundle.stamp + first,
            bundle.id,
            first,
            bundle.lines,
            bundle.lines,
            token,
            OVER,
            policy=bundle.policy,
        )
        return cls.of(RangeLease(rest, expiry, token))


def parse_detached(filename: str) -> Lease | None:
    """Read the name of a detached file in `work/`, as a lease that never ends."""
    match = _detached.fullmatch(filename)
    if match is None:
        return None
    priority, *fields, token, _ = match.groups()
    return Lease(entry_of(priority, fields), 0, token, filename)


def made_by(host: str, process: int) -> str:
    """Return the target of a range's link, which nobody follows: who claimed its lines."""
    return f"{host}:{process}"


def parse_made_by(target: str) -> tuple[str, int] | None:
    """Read the target of a range's link: the host, and the process on it."""
    match = _made_by.fullmatch(target)
    return None if match is None else (match[1], int(match[2]))


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
