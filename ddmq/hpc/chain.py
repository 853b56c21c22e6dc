"""Chains of jobs: a worker whose time is over while messages are left submits the next one."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from ddmq.clock import Clock
from ddmq.errors import InvalidArgument, StorageError
from ddmq.hpc import submit
from ddmq.schedulers import FIRST, SCHEDULERS, job_id, whole_job_id
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.names import new_token

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
    if not re.fullmatch("[0-9]{1,18}", left) or int(left) < 1 or not script:
        return None
    named = environ.get(SCHEDULER, FIRST)
    if named not in SCHEDULERS:
        known = ", ".join(SCHEDULERS)
        raise InvalidArgument(f"{SCHEDULER} is {named!r}; it must be one of {known}")
    if script == "requeue":
        return _requeue(int(left), environ)
    name = re.sub(r"[^\w.-]", "-", environ.get(ID) or whole_job_id(environ) or "no-job")
    mark = f"after-{name}-{left}"
    fs, clock = fs or FileSystem(), clock or Clock()
    try:
        with submit.open_jobs(queue_path, fs) as jobs:
            if not jobs.elect(mark, new_token()):
                return None
            try:
                sum_ = environ.get(
                    SUM
                )  # without one, the script is the user's own affair
                if sum_:
                    next_ = submit.Script(submit.unchanged(script, sum_, fs))
                    # It is of use for as long as the chain, which may take years.
                    jobs.renew(os.path.basename(script))
                else:
                    next_ = submit.users_script(script)
                variables = {LEFT: str(int(left) - 1), ID: name}
                return _submit_patiently(environ, next_, variables, clock)
            except (submit.SubmitFailed, OSError):
                jobs.discard(mark)
                raise
    except OSError as error:
        raise StorageError(error) from error


def _requeue(most: int, environ: Mapping[str, str]) -> str | None:
    """Let the scheduler start this job, or this task of an array alone, once more."""
    scheduler = SCHEDULERS[environ.get(SCHEDULER, FIRST)]
    if not scheduler.requeue or scheduler.job not in environ:
        return None
    if int(environ.get(scheduler.restarts) or 0) >= most:
        return None
    job = job_id(environ)
    submit.requeued(scheduler, job, environ.get(COMMAND, ""))
    return f"{job} is requeued"


def _submit_patiently(
    environ: Mapping[str, str],
    script: submit.Script,
    variables: Mapping[str, str],
    clock: Clock,
) -> str:
    """Submit a script, trying again for a while where the scheduler refuses."""
    scheduler, command = environ.get(SCHEDULER, FIRST), environ.get(COMMAND, "")
    for pause in _PAUSES:
        try:
            return submit.submitted(scheduler, script, variables, command)
        except submit.SubmitFailed:
            clock.sleep(pause)
    return submit.submitted(scheduler, script, variables, command)
