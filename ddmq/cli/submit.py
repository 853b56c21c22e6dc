"""The command `ddmq-submit`."""

from __future__ import annotations

import errno
import math
import os
import re
import sys
from typing import TYPE_CHECKING, NamedTuple

from ddmq import Broker, Counts
from ddmq.cli.commands import dead_hint
from ddmq.cli.errors import ends_as_by_ctrl_c, guarded, how_to_create
from ddmq.cli.spec import (
    Help,
    Kind,
    Parser,
    add_arguments,
    apart,
    filled,
    option,
    positional,
    switch,
)
from ddmq.cli.worker_arguments import (
    POSITIVE,
    QUEUE,
    ROOT,
    JobEnd,
    WhichQueue,
    WorkerArguments,
    add_first_group,
    divided,
    given_to_worker,
    refuse_unknown,
    worker_parser,
)
from ddmq.errors import InvalidArgument, QueueNotFound, RootNotFound, warn
from ddmq.hpc import options, submit
from ddmq.hpc.journal import durations
from ddmq.hpc.limits import Deadline, Durations, refuse_too_short
from ddmq.hpc.preflight import missing
from ddmq.printable import printable, printable_lines
from ddmq.schedulers import SCHEDULERS
from ddmq.storage.filesystem import FileSystem

if TYPE_CHECKING:
    from collections.abc import Sequence


_NAMES = tuple(SCHEDULERS)
#: Messages for each slot of a worker before `--workers auto` asks for another worker.
_PER_SLOT = 10
#: How many workers `--workers auto` asks for at most.
_MOST = 100

#: What a scheduler takes for a path, and nothing else.
_plain = re.compile(r"[\w./+@=-]+")

_DESCRIPTION = """\
Submit batch jobs that run a command for each message of a queue. Options that are not listed
here go to ddmq-worker as they are; see `ddmq-worker -h`.
"""
_EPILOG = """\
examples:
  ddmq-submit slurm /scratch/mq jobs --workers 20 -j 16 --time 2:00:00 -- ./process.sh {}
  ddmq-submit slurm /scratch/mq jobs --time 8:00:00 --chain 10 -o account=abc -- ./process.sh
  ddmq-submit pbs /scratch/mq jobs --workers auto --dry-run --timeout 600 -- ./process.sh
"""


def _count(text: str) -> int | None:
    """Read a positive number; None stands for `auto`."""
    return None if text == "auto" else options.positive(text)


def _time(text: str) -> float:
    """Read [D-]HH:MM:SS or 2h; a bare number would mean minutes to one scheduler only."""
    if set(text).isdisjoint(":smhd"):
        raise InvalidArgument(f"{text!r} is no time; write HH:MM:SS, or 90m, 2h")
    return options.seconds(text)


def _directory(text: str) -> str:
    """Read the path of a directory that every scheduler understands; return it in full."""
    path = os.path.abspath(text)
    if not text or not _plain.fullmatch(path):
        raise InvalidArgument(
            f"{path!r} has a character that means something to a scheduler; name a directory of "
            "letters, digits and any of / . _ - + @ ="
        )
    return path


class Where(NamedTuple):
    """The scheduler, and the queue."""

    scheduler: str = positional(
        " or ".join((", ".join(_NAMES[:-1]), _NAMES[-1])),
        metavar="SCHEDULER",
        choices=_NAMES,
    )
    root: str = ROOT
    queue: str = QUEUE


class TheJob(NamedTuple):
    """What the job is like."""

    workers: int | None = option(
        "--workers",
        "workers, each on one node; auto: enough for what waits now",
        Kind(_count),
        default=1,
        metavar="N|auto",
    )
    max_workers: int | None = option(
        "--max-workers",
        "never more than these; for auto 100 by default",
        POSITIVE,
        metavar="N",
    )
    slots: int | None = option(
        "-j --slots",
        "commands at once, and processors, for each worker",
        POSITIVE,
        metavar="N",
    )
    time: float | None = option(
        "--time", "the time limit of the job", Kind(_time), metavar="[D-]HH:MM:SS"
    )
    options: list[str] = option(
        "-o --option",
        "for the scheduler: q=long is -q long; mem=4G is --mem=4G on slurm, -l mem=4G on pbs "
        "and sge; '-pe mpi 16' and the like as they are",
        Kind(submit.checked_option),
        default=[],
        metavar="KEY=VALUE",
        action="append",
    )
    chain: int = option(
        "--chain",
        "when the time is over and messages are left, start the next job; N times at most",
        POSITIVE,
        default=0,
        metavar="N",
    )
    requeue: bool = switch(
        "--requeue", "with --chain on Slurm: requeue the job itself instead"
    )
    worker: str | None = option(
        "--worker", "the ddmq-worker that the job shall run", metavar="PATH"
    )
    job_logs: str | None = option(
        "--job-logs",
        "the directory for what the jobs print, created if missing; by default the current one",
        Kind(_directory),
        metavar="DIR",
    )
    dry_run: bool = switch("--dry-run", "print the job script, and submit nothing")


def main(argv: Sequence[str] | None = None) -> int:
    """Submit a job; return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    return guarded("ddmq-submit", lambda: _run(words))


def _run(words: list[str]) -> int:
    ours, command = divided(words, TheJob, WorkerArguments)
    parser = submit_parser()
    positional, others = apart(ours, TheJob, WorkerArguments)
    namespace, for_worker = parser.parse_known_args([*positional, *others])
    refuse_unknown(parser, for_worker)
    if for_worker and not command and not for_worker[0].startswith("-"):
        parser.error(f"put the command last, after --: -- {for_worker[0]}")
    where, job = filled(Where, vars(namespace)), filled(TheJob, vars(namespace))
    if not command:
        parser.error("put the command last, after --")
    if job.requeue and not (job.chain and SCHEDULERS[where.scheduler].requeue):
        parser.error("--requeue is a way to --chain N, on slurm only")

    words = [*for_worker, where.root, where.queue]
    checked = given_to_worker(worker_parser(), words, command)
    given = filled(WorkerArguments, vars(checked))
    filling = given.filling
    has_force = bool(filling.from_file) and not filling.force
    with how_to_create(where._asdict(), has_force=has_force):
        if filling.force and not job.dry_run:
            WhichQueue(where.root, where.queue).create_missing()
        try:
            counts = Broker(where.root).view(where.queue)[where.queue]
        except (RootNotFound, QueueNotFound):
            if not filling.force:
                raise
            counts = Counts(0, 0, 0, 0)  # the submission will create it
    workers = workers_for(job, counts)
    root = os.path.abspath(where.root)  # as it was named: nodes may see it only so
    places, path = [root, where.queue], f"{root}/{where.queue}"
    grace = given.running.grace
    refuse_without_end(where.scheduler, job, given.job_end, path, grace)
    slots = [] if job.slots is None else ["-j", str(job.slots)]
    request = submit.Request(
        scheduler=where.scheduler,
        queue=where.queue,
        worker=[job.worker] if job.worker else submit.worker_words(),
        arguments=[*slots, *for_worker, *places, "--", *command],
        workers=workers,
        slots=job.slots,
        seconds=job.time,
        grace=grace,
        options=job.options,
        logs=job.job_logs or "",
        chain=job.chain,
        requeue=job.requeue,
    )
    if job.job_logs and submit.has_own_logs(request):
        parser.error(
            "--job-logs, and options for the scheduler or a variable that say where output goes, "
            "don't go together"
        )
    script = submit.new_script(path)
    text = submit.rendered(request, script)
    if job.dry_run:
        sys.stdout.buffer.write(text.encode())  # as it would be submitted
        return 0
    for program in (command[0], *given.stopping.then[:1], job.worker or ""):
        refuse_missing(program)
    if said := dead_hint(counts.dead, where.root, where.queue):
        print(f"ddmq-submit: {where.queue} has {said}", file=sys.stderr)
    if job.job_logs:
        make_directory(job.job_logs)
    keeps = bool(job.chain and not job.requeue)
    with ends_as_by_ctrl_c():
        said = printable_lines(_submitted(where.scheduler, script, text, keeps=keeps))
        try:
            sys.stdout.buffer.write(f"{said}\n".encode("utf-8", "backslashreplace"))
            sys.stdout.buffer.flush()
        except (OSError, KeyboardInterrupt):
            warn(f"submitted: {said}")
            raise
    logs = submit.logs_of(request, said)
    told = f"to {logs}" if logs else f"where your options for {where.scheduler} say"
    told += "" if job.job_logs or not logs else "; --job-logs DIR changes that"
    print(f"ddmq-submit: {submit.LOGS_GO} {printable(told)}", file=sys.stderr)
    return 0


def submit_parser() -> Parser:
    """Return the parser of `ddmq-submit`."""
    parser = Parser(
        prog="ddmq-submit",
        usage="ddmq-submit SCHEDULER ROOT QUEUE [options] [worker options] "
        "-- COMMAND [ARG...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=Help,
        allow_abbrev=False,
        add_help=False,
    )
    add_first_group(parser, "where", Where)
    add_arguments(parser.add_argument_group("the job"), TheJob)
    return parser


def _submitted(scheduler: str, script: str, text: str, *, keeps: bool) -> str:
    """Submit a job; the record of its script is removed again where the scheduler refuses.

    It stays where there may be a job. With `keeps` it stays in any case, since a chain needs it:
    a scheduler that is busy may answer too late for its command, which fails then, and have
    queued the job.
    """
    submit.require(scheduler)
    fs = FileSystem()
    try:
        submit.write(script, text, fs)
    except KeyboardInterrupt:
        submit.forget(script, fs)
        raise
    try:
        return submit.submitted(scheduler, submit.Script(text.encode()), {})
    except submit.MaybeSubmitted:
        raise
    except submit.SubmitFailed:
        if not keeps:
            submit.forget(script, fs)
        raise


def workers_for(job: TheJob, counts: Counts) -> int:
    """Return how many workers to ask for: `auto` is enough for the backlog, and not more."""
    wanted, most = job.workers, job.max_workers
    if wanted is None:
        backlog = counts.waiting + counts.delayed
        wanted = math.ceil(backlog / (_PER_SLOT * (job.slots or 1)))
        most = most or _MOST
    return max(1, min(wanted, most or wanted))


def refuse_without_end(
    scheduler: str, job: TheJob, end: JobEnd, path: str, grace: float
) -> None:
    """Raise InvalidArgument where the worker would never start a message, or a next job."""
    knows_end = job.time is not None or end.deadline is not None
    if job.chain and not SCHEDULERS[scheduler].tells_end and not knows_end:
        raise InvalidArgument(
            f"--chain needs --time: {scheduler} does not tell a job when it ends"
        )
    deadline = Deadline(None, SCHEDULERS[scheduler].least, end.min_remaining)
    margin = deadline.min_remaining(Durations(durations(path)))
    if job.time is not None:
        refuse_too_short(job.time, grace, margin)


def make_directory(path: str) -> None:
    """Make a directory for what jobs print, unless it exists; InvalidArgument: none can be there.

    A scheduler that can't write there says nothing, and ends the job.
    """
    try:
        os.makedirs(path, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    except OSError as error:
        raise InvalidArgument(
            f"--job-logs: {error.filename}: {error.strerror}; name a directory that you may "
            "write to; nothing was submitted"
        ) from error


def refuse_missing(program: str) -> None:
    """Raise InvalidArgument where a path from here, where the job will run, leads nowhere."""
    is_from_here = "/" in program and not program.startswith("/")
    if is_from_here and (why := missing(program)):
        raise InvalidArgument(why)
