"""A worker whose time is over, while messages are left, starts the next job."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ddmq.clock import Clock
from ddmq.errors import StorageError
from ddmq.fs import FileSystem
from ddmq.hpc import submit
from ddmq.names import new_token
from ddmq.scheduler import SLURM, job_id, whole_job_id

if TYPE_CHECKING:
    from collections.abc import Mapping

LEFT, SCRIPT, SCHEDULER = "DDMQ_CHAIN_LEFT", "DDMQ_CHAIN_SCRIPT", "DDMQ_CHAIN_SCHEDULER"
#: Names the chain; a script that was copied says nothing, then it is its first job's id.
ID = "DDMQ_CHAIN_ID"
#: The sum of the script that ddmq-submit wrote.
SUM = "DDMQ_CHAIN_SUM"
#: The path of the scheduler's command, which may not be on the PATH of a job.
COMMAND = "DDMQ_CHAIN_COMMAND"
#: Seconds between two tries: a busy scheduler refuses what it takes a moment later.
_PAUSES = (2.0, 5.0)


def continue_chain(
    queue_path: str,
    environ: Mapping[str, str],
    fs: FileSystem | None = None,
    clock: Clock | None = None,
) -> str | None:
    """Submit the next job of a chain; return what the scheduler said.

    None: this is no chain, its end is reached, or another worker of the job has done it.
    One of them is elected, under the chain's name and the number of jobs left. So each
    number is reached once, whatever is requeued or submitted twice. Where the scheduler
    refuses, the election is void and SubmitFailed is raised: another worker may try. If
    the elected one dies before the scheduler has answered, the chain ends and the messages
    stay where they are.
    """
    left, script = environ.get(LEFT, ""), environ.get(SCRIPT, "")
    if not left.isdigit() or int(left) < 1 or not script:
        return None
    if script == "requeue":
        return _requeue(int(left), environ)
    try:
        return _submit_once(queue_path, environ, fs or FileSystem(), clock or Clock())
    except OSError as error:
        raise StorageError(error) from error


def _requeue(most: int, environ: Mapping[str, str]) -> str | None:
    """Let Slurm start this job, or this task of an array alone, once more."""
    if int(environ.get("SLURM_RESTART_COUNT") or 0) >= most or SLURM.job not in environ:
        return None
    job = job_id(environ)
    submit.requeued(job, environ.get(COMMAND, ""))
    return f"{job} is requeued"


def _submit_once(
    queue_path: str, environ: Mapping[str, str], fs: FileSystem, clock: Clock
) -> str | None:
    name = re.sub(r"[^\w.-]", "-", environ.get(ID) or whole_job_id(environ) or "no-job")
    mark = f"./after-{name}-{environ[LEFT]}"
    with submit.open_jobs(queue_path, fs) as jobs:
        if not jobs.fs.elect(mark, new_token()):
            return None
        left = str(int(environ[LEFT]) - 1)
        try:
            script = _script(environ, fs)
            return _submit_patiently(environ, script, {LEFT: left, ID: name}, clock)
        except (submit.SubmitFailed, OSError):
            jobs.fs.discard(mark)
            raise


def _script(environ: Mapping[str, str], fs: FileSystem) -> submit.Script:
    """Return the script to submit; one without a sum is the user's own affair."""
    path, sum_ = environ[SCRIPT], environ.get(SUM)
    if not sum_:
        return submit.users_script(path)
    return submit.Script(submit.unchanged(path, sum_, fs))


def _submit_patiently(
    environ: Mapping[str, str],
    script: submit.Script,
    variables: Mapping[str, str],
    clock: Clock,
) -> str:
    scheduler, command = environ.get(SCHEDULER, SLURM.name), environ.get(COMMAND, "")
    for pause in _PAUSES:
        try:
            return submit.submitted(scheduler, script, variables, command)
        except submit.SubmitFailed:
            clock.sleep(pause)
    return submit.submitted(scheduler, script, variables, command)
