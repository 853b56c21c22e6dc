"""When the job ends, and whether another message would still finish."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ddmq.hpc.signals import Notice

#: Slurm looks at its limits about every 30 s only, so its end time is not to be trusted.
SLURM_LEAST = 90.0
#: Seconds before the end of a job within which its scheduler's warning is one of the end.
_ABOUT_TO_END = 300.0
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
    warning: str = ""
    """The signal by which the scheduler announces the end, and nothing else; empty: none."""

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

    def ended(
        self, now: float, grace: float, durations: Durations, notice: Notice | None
    ) -> bool:
        """Tell whether a worker that stops now does so because the time of the job is over.

        A signal that is no warning may be that of somebody who cancels the job, however
        near its end. Then it was over only if our own clock had said so before.
        """
        if self.at is None:
            return False
        if notice is not None and notice.signal != self.warning:
            return self.at - grace <= notice.at
        needed = max(self.min_remaining(durations), _ABOUT_TO_END)
        return self.at - grace - now <= needed
