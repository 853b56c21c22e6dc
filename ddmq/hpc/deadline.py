"""When the job ends, and whether another message would still finish."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Slurm looks at its limits about every 30 s only, so its end time is not to be trusted.
SLURM_LEAST = 90.0
_PERCENTILE = 0.95
_MOST_KNOWN = 2000


class Durations:
    """How long recent messages took: of so many as tell something."""

    def __init__(self, known: Iterable[float] = ()) -> None:
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []
        for seconds in known:
            self.add(seconds)

    def add(self, seconds: float) -> None:
        """Note one more; the oldest of too many is forgotten."""
        if len(self._recent) == _MOST_KNOWN:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]
        self._recent.append(seconds)
        insort(self._sorted, seconds)

    def percentile(self) -> float:
        """Return the seconds that 95 of 100 runs did not exceed, 0 when none is known."""
        if not self._sorted:
            return 0.0
        return self._sorted[int(len(self._sorted) * _PERCENTILE)]


class Deadline(NamedTuple):
    """The end of the job, by this node's clock."""

    at: float | None
    """Seconds since 1970; None: it never ends."""
    least: float = 0.0
    """Seconds that must remain whatever the durations say."""
    fixed: float | None = None
    """`--min-remaining`, instead of what the durations say."""

    def allows(self, now: float, durations: Durations) -> bool:
        """Tell whether a message that starts now would finish."""
        if self.at is None:
            return True
        return now + self.min_remaining(durations) <= self.at

    def min_remaining(self, durations: Durations) -> float:
        """Return the seconds that a message needs: 95 of 100 took no longer."""
        if self.fixed is not None:
            return self.fixed
        return max(self.least, durations.percentile())

    def passes_in(self, now: float, grace: float) -> float | None:
        """Return the seconds until the commands must be asked to end."""
        return None if self.at is None else self.at - grace - now
