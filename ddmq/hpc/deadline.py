"""When the job ends, and whether another message would still finish."""

from __future__ import annotations

from typing import NamedTuple

#: Slurm looks at its limits about every 30 s only, so its end time is not to be trusted.
SLURM_LEAST = 90.0
_PERCENTILE = 0.95
_MOST_KNOWN = 2000


class Deadline(NamedTuple):
    """The end of the job, by this node's clock."""

    at: float | None
    """Seconds since 1970; None: it never ends."""
    least: float = 0.0
    """Seconds that must remain whatever the durations say."""
    fixed: float | None = None
    """`--min-remaining`, instead of what the durations say."""

    def allows(self, now: float, durations: list[float]) -> bool:
        """Tell whether a message that starts now would finish."""
        if self.at is None:
            return True
        return now + self.min_remaining(durations) <= self.at

    def min_remaining(self, durations: list[float]) -> float:
        """Return the seconds that a message needs: 95 of 100 took no longer."""
        if self.fixed is not None:
            return self.fixed
        return max(self.least, percentile(durations))

    def passes_in(self, now: float, grace: float) -> float | None:
        """Return the seconds until the commands must be asked to end."""
        return None if self.at is None else self.at - grace - now


def percentile(durations: list[float]) -> float:
    """Return the time that 95 of 100 runs did not exceed, 0 when none is known."""
    if not durations:
        return 0.0
    recent = sorted(durations[-_MOST_KNOWN:])
    return recent[min(int(len(recent) * _PERCENTILE), len(recent) - 1)]
