"""A worker whose time is over, while messages are left, starts the next job."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ddmq.hpc import submit
from ddmq.hpc.scheduler import SLURM, job_id

if TYPE_CHECKING:
    from collections.abc import Mapping

LEFT, SCRIPT, SCHEDULER = "DDMQ_CHAIN_LEFT", "DDMQ_CHAIN_SCRIPT", "DDMQ_CHAIN_SCHEDULER"


def continue_chain(queue_path: str, environ: Mapping[str, str]) -> str | None:
    """Submit the next job of a chain; return what the scheduler said.

    None: this is no chain, its end is reached, or another worker of the job has done it.
    One of them is elected by `mkdir`. If that one dies before the scheduler has answered,
    the chain ends; the messages stay where they are.
    """
    left, script = environ.get(LEFT, ""), environ.get(SCRIPT, "")
    if not left.isdigit() or not script:
        return None
    if script == "requeue":
        return _requeue(int(left), environ)
    if int(left) < 1 or not _is_elected(queue_path, environ):
        return None
    variables = {LEFT: str(int(left) - 1)}
    return submit.submitted(environ.get(SCHEDULER, "slurm"), script, variables)


def _requeue(most: int, environ: Mapping[str, str]) -> str | None:
    """Let Slurm start this job, or this task of an array alone, once more."""
    if int(environ.get("SLURM_RESTART_COUNT") or 0) >= most or SLURM.job not in environ:
        return None
    job = job_id(environ)
    return submit.requeued(job) or f"{job} is requeued"


def _is_elected(queue_path: str, environ: Mapping[str, str]) -> bool:
    job = job_id(environ).split("_")[0] or "no-job"
    directory = f"{queue_path}/{submit.DIRECTORY}"
    os.makedirs(directory, exist_ok=True)
    try:
        os.mkdir(f"{directory}/after-{job.replace('/', '-')}")
    except FileExistsError:
        return False
    return True
