"""What batch schedulers call things, as data; the only module that reads the environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Scheduler(NamedTuple):
    """One batch scheduler: the names of what it tells to a job, in its environment."""

    name: str
    sign: str
    """What is set in its jobs, and nowhere else."""
    job: str
    """The job's id."""
    array: tuple[str, ...]
    """The index within an array, under one of these names."""
    cores: tuple[str, ...]
    """Allocated processors: the first of these that is there."""
    end: str = ""
    """When the job ends, in seconds since 1970; empty: it does not say."""
    array_job: str = ""
    """The id of a whole array, where a task of it has another."""
    warning: str = ""
    """The signal that announces the end of a job and means nothing else; empty: there is none."""


SLURM = Scheduler(
    "slurm",
    sign="SLURM_JOB_ID",
    job="SLURM_JOB_ID",
    array=("SLURM_ARRAY_TASK_ID",),
    cores=("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"),
    end="SLURM_JOB_END_TIME",
    array_job="SLURM_ARRAY_JOB_ID",
    warning="SIGUSR1",  # --signal=B:USR1@120; SIGTERM may be scancel
)
PBS = Scheduler(
    "pbs",
    sign="PBS_JOBID",
    job="PBS_JOBID",
    array=("PBS_ARRAY_INDEX", "PBS_ARRAYID"),
    cores=("NCPUS", "PBS_NUM_PPN"),
)
SGE = Scheduler(
    "sge",
    sign="SGE_TASK_ID",  # other programs set a JOB_ID, too
    job="JOB_ID",
    array=("SGE_TASK_ID",),
    cores=("NSLOTS",),
)
SCHEDULERS = (SLURM, PBS, SGE)


def environment() -> dict[str, str]:
    """Return a copy of this process's environment."""
    return dict(os.environ)


def with_variables(environ: Mapping[str, str], **variables: str) -> dict[str, str]:
    """Return an environment with `DDMQ_<NAME>` for each variable."""
    return {
        **environ,
        **{f"DDMQ_{key.upper()}": text for key, text in variables.items()},
    }


def detect(environ: Mapping[str, str]) -> Scheduler | None:
    """Return the scheduler whose job this is, None outside of one."""
    found = (s for s in SCHEDULERS if environ.get(s.sign))
    return next(found, None)


def job_id(environ: Mapping[str, str]) -> str:
    """Return the id of this job, with `_<index>` in an array; empty outside of a job.

    PBS writes brackets into its ids, which do not belong into file names: they are left out.
    """
    scheduler = detect(environ)
    index = _first(environ, scheduler.array) if scheduler is not None else ""
    whole = whole_job_id(environ)
    return f"{whole}_{index}" if index.isdigit() else whole  # SGE: "undefined"


def whole_job_id(environ: Mapping[str, str]) -> str:
    """Return the id that all tasks of an array have in common; empty outside of a job."""
    scheduler = detect(environ)
    if scheduler is None:
        return ""
    found = environ.get(scheduler.array_job) or environ.get(scheduler.job, "")
    number, bracket, rest = found.partition("[")
    return number + rest.partition("]")[2] if bracket else number


def slots(environ: Mapping[str, str]) -> int:
    """Return how many processors this job may use on its node: what was allocated.

    Outside of a job, those that this process may run on.
    """
    scheduler = detect(environ)
    given = _first(environ, scheduler.cores) if scheduler is not None else ""
    if given.isdigit() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0))


def end_time(environ: Mapping[str, str]) -> float | None:
    """Return when this job ends, in seconds since 1970; None where nobody says."""
    scheduler = detect(environ)
    given = environ.get(scheduler.end, "") if scheduler is not None else ""
    return float(given) if given.isdigit() else None


def warning(environ: Mapping[str, str]) -> str:
    """Return the name of the signal that announces this job's end; empty: none does."""
    scheduler = detect(environ)
    return scheduler.warning if scheduler is not None else ""


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((environ[name] for name in names if environ.get(name)), "")
