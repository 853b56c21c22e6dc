"""Many numbers in few bins: lengths of time, sizes, and what was busy when; pure.

What is kept does not grow with the number of what was added.
"""

from __future__ import annotations

from collections import Counter
from math import ceil, floor, log2
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Bins between a number and its double: each is 4.4 % wide.
PER_DOUBLE = 16
#: Moves the numbers of bins above zero, whatever is added.
_SHIFT = 64 * PER_DOUBLE
#: What is smaller counts as this.
SMALLEST = 1e-3
#: Bins of a timeline that are not empty, and seconds of one in the beginning, a power of two.
MOST_BINS, FINEST = 512, 0.125


class Bar(NamedTuple):
    """How many numbers were at least `low`, and less than `high`."""

    low: float
    high: float
    number: int


class Histogram:
    """How many numbers there were of each magnitude."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.number = 0
        self.total = self.largest = 0.0

    def add_all(self, values: Sequence[float]) -> None:
        """Count numbers; one that is not positive counts as the smallest."""
        if not values:
            return
        low, counts = SMALLEST, self.counts
        keys = [int(log2(max(low, value)) * PER_DOUBLE + _SHIFT) for value in values]
        for key, number in Counter(keys).items():
            counts[key] = counts.get(key, 0) + number
        self.number += len(values)
        self.total += sum(values)
        self.largest = max(self.largest, max(values))

    def below(self, share: float) -> float | None:
        """Return a number that this share of all did not exceed, at most 4.4 % too large."""
        wanted, seen = share * self.number, 0
        for key in sorted(self.counts):
            seen += self.counts[key]
            if seen >= wanted:
                return min(_edge(key + 1), self.largest)
        return None

    def bars(self, most: int = 40) -> list[Bar]:
        """Return the numbers in at most so many bars without a gap, all equally wide."""
        if not self.counts:
            return []
        first, last = min(self.counts), max(self.counts)
        wide = 1
        while last // wide - first // wide >= most:
            wide *= 2
        found: dict[int, int] = {}
        for key, number in self.counts.items():
            found[key // wide] = found.get(key // wide, 0) + number
        return [
            Bar(_edge(key * wide), _edge((key + 1) * wide), found.get(key, 0))
            for key in range(first // wide, last // wide + 1)
        ]


def _edge(key: int) -> float:
    return float(2 ** ((key - _SHIFT) / PER_DOUBLE))


class Bin:
    """What began and ended within some seconds."""

    __slots__ = ("began", "done", "failed", "moment", "net")

    def __init__(self) -> None:
        #: What began, less what ended; and the sum of its seconds after the beginning of the bin.
        self.net = self.moment = 0.0
        #: How many runs began, and how many ended well or not.
        self.began = self.done = self.failed = 0


class Piece(NamedTuple):
    """What was the case within some seconds."""

    start: float
    """Seconds since 1970."""
    busy: float
    """What was busy, in the mean."""
    done: int
    failed: int


class Timeline:
    """What was busy when. Bins are twice as wide whenever there would be too many.

    The sums within a bin tell exactly for how many seconds what began or ended there was busy.
    """

    def __init__(self, most: int = MOST_BINS, width: float = FINEST) -> None:
        self.most = most
        self.width = width
        self.bins: dict[int, Bin] = {}

    def __bool__(self) -> bool:
        return bool(self.bins)

    def at(self, moment: float) -> Bin:
        """Return the bin of a moment."""
        key = floor(moment / self.width)
        found = self.bins.get(key)
        if found is None:
            found = self.bins[key] = Bin()
            while len(self.bins) > self.most:
                self.widen()
                found = self.bins[floor(moment / self.width)]
        return found

    def add(self, start: float, end: float, weight: float = 1.0) -> Bin:
        """Note that something was busy from `start` to `end`; return the bin of its end.

        Neither is before 1970.
        """
        per, bins = 1 / self.width, self.bins  # exact, as widths are powers of two
        begun, ended = int(start * per), int(end * per)
        first, last = bins.get(begun), bins.get(ended)
        if first is None or last is None:
            self.at(end)  # each may make all bins wider
            first, last = self.at(start), self.at(end)
            per = 1 / self.width
            begun, ended = int(start * per), int(end * per)
        first.began += 1
        first.net += weight
        first.moment += weight * (start - begun / per)
        last.net -= weight
        last.moment -= weight * (end - ended / per)
        return last

    def widen(self) -> None:
        """Merge the bins pairwise."""
        merged: dict[int, Bin] = {}
        for key, each in self.bins.items():
            into = merged.get(key >> 1)
            if into is None:
                into = merged[key >> 1] = Bin()
            into.net += each.net
            into.moment += each.moment + (self.width * each.net if key & 1 else 0.0)
            into.began += each.began
            into.done += each.done
            into.failed += each.failed
        self.bins, self.width = merged, self.width * 2

    def widen_to(self, width: float) -> None:
        """Merge the bins until they are as wide as others."""
        while self.width < width:
            self.widen()

    def take_in(self, other: Timeline) -> None:
        """Add all that is in another one."""
        self.widen_to(other.width)
        for key, each in other.bins.items():
            into = self.at(key * other.width)
            into.net += each.net
            into.moment += each.moment + each.net * (key * other.width % self.width)
            into.began += each.began
            into.done += each.done
            into.failed += each.failed

    def pieces(self, start: float, end: float, most: int) -> list[Piece]:
        """Return what was the case from `start` to `end`, in at most so many pieces.

        This makes the bins as wide as the pieces.
        """
        while floor(end / self.width) - floor(start / self.width) >= most:
            self.widen()
        width = self.width
        first, last = floor(start / width), floor(end / width)
        busy = sum(each.net for key, each in self.bins.items() if key < first)
        found = []
        for key in range(first, last + 1):
            each = self.bins.get(key) or _EMPTY
            seconds = busy * width + each.net * width - each.moment
            mean = max(seconds / width, 0.0)
            # What rounding leaves of nothing is nothing.
            mean = 0.0 if mean < 1e-6 else mean
            found.append(Piece(key * width, mean, each.done, each.failed))
            busy += each.net
        return found

    def share_begun(self, share: float) -> float | None:
        """Return the beginning of the bin in which this share of all had begun."""
        wanted, seen = share * sum(each.began for each in self.bins.values()), 0
        for key in sorted(self.bins):
            seen += self.bins[key].began
            if seen and seen >= wanted:
                return key * self.width
        return None


_EMPTY = Bin()


def rounded_up(value: float) -> float:
    """Return a number with two digits that is not smaller."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (floor(log2(value) / log2(10)) - 1)
    if not unit:  # it is among the least numbers that there are
        return value
    return ceil(value / unit - 1e-9) * unit
