"""What surrounds a worker: usually a batch job."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ddmq.clock import Clock
    from ddmq.hpc.deadline import Deadline, Durations
    from ddmq.hpc.journal import Journal
    from ddmq.hpc.signals import Signals


class Job(NamedTuple):
    """What surrounds a worker: usually a batch job."""

    host: str
    id: str
    """The scheduler's, empty outside of a job."""
    environ: dict[str, str]
    """For the commands."""
    signals: Signals
    deadline: Deadline
    journal: Journal
    durations: Durations
    """Of recent messages; filled from the journals where there is a deadline."""
    clock: Clock
