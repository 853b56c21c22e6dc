"""The command `ddmq-worker`."""

from __future__ import annotations

import gc
import os
import stat
import sys
from typing import TYPE_CHECKING, Any

from ddmq import Broker, schedulers
from ddmq.cli.errors import counted, guarded
from ddmq.cli.spec import filled
from ddmq.cli.worker_arguments import (
    JobEnd,
    WhichQueue,
    WorkerArguments,
    divided,
    given_to_worker,
    worker_parser,
)
from ddmq.clock import Clock
from ddmq.errors import DdmqError
from ddmq.hpc import journal
from ddmq.hpc.faults import told
from ddmq.hpc.guardian import Guardian
from ddmq.hpc.limits import Deadline, Durations
from ddmq.hpc.options import WorkerOptions
from ddmq.hpc.preflight import check_all
from ddmq.hpc.result import remove_leftovers_of_dead
from ddmq.hpc.signals import Signals
from ddmq.hpc.worker import Job, Summary, Worker
from ddmq.log import warn
from ddmq.printable import printable, quoted
from ddmq.storage.filesystem import CountedCalls, FileSystem
from ddmq.storage.names import new_token

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BROKEN = 1
SOME_FAILED = 4
DRAINED = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker; return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    return guarded("ddmq-worker", lambda: _run(words))


def _run(words: list[str]) -> int:
    ours, command = divided(words, WorkerArguments)
    parser = worker_parser()
    values = vars(given_to_worker(parser, ours, command))
    if not command:
        parser.error("put the command last, after --")
    which, given = filled(WhichQueue, values), filled(WorkerArguments, values)
    gc.freeze()  # what was imported stays to the end: nobody need look through it
    calls = CountedCalls()
    try:
        summary = _work(which, given, command, calls)
    except OSError as error:
        # Of this node: all others were explained where they came from.
        raise DdmqError(f"it can't go on: {told(error)}") from error
    said = ", ".join(f"{number} {what}" for what, number in summary.numbers.items())
    if summary.stopped:
        said += f", {summary.left} left; stopped: {summary.stopped}"
    if summary.then_is_left:
        said += "; --then is left to the next worker"
    if given.saying.debug:
        said += f"; {counted(calls.numbers)}"
    print(f"ddmq-worker: {printable(said)}", file=sys.stderr)
    if (summary.left or summary.then_is_left) and summary.at_end:
        from ddmq.hpc import chain  # slow to import, and rarely needed

        queue_path = f"{os.path.abspath(which.root)}/{which.queue}"
        job = chain.continue_chain(queue_path, schedulers.environment())
        if job is not None:
            print(f"ddmq-worker: the next job: {printable(job)}", file=sys.stderr)
    return status_of(summary, exit_zero=given.saying.exit_zero)


def _work(
    which: WhichQueue, given: WorkerArguments, command: list[str], calls: CountedCalls
) -> Summary:
    clock, environ, fs = Clock(), schedulers.environment(), FileSystem(calls)
    broker = Broker(which.root, fs=fs, clock=clock)
    broker.settings(which.queue)  # an error here is the user's to mend
    path = f"{broker.root}/{which.queue}"
    what = "take, change and remove messages"
    _warn_of_writers((broker.root, path), what, fs)
    options = worker_options(given, environ)
    check_all(options, broker)
    what = "change what is kept there, and lead a command that writes there elsewhere"
    kept = filter(None, (options.output_dir, options.log_dir))
    _warn_of_writers(map(os.path.realpath, kept), what, fs)
    if options.output_dir is not None:
        remove_leftovers_of_dead(options.output_dir, path, fs)
    mark = new_token()
    environ.update(DDMQ_ROOT=broker.root, DDMQ_QUEUE=which.queue, DDMQ_WORKER=mark)
    host = os.uname().nodename
    with Signals(clock) as signals, Guardian(f"DDMQ_WORKER={mark}"):
        deadline = deadline_of(given.job_end, environ, clock)
        # How long messages take matters only where the end is known.
        known = journal.durations(path) if deadline.at is not None else ()
        job = Job(
            host,
            schedulers.job_id(environ),
            environ,
            signals,
            deadline,
            journal.Journal(path, host, clock, broker.mode_of(which.queue)),
            Durations(known),
            clock,
        )
        return Worker(broker, which.queue, command, options=options, job=job).run()


def _warn_of_writers(directories: Iterable[str], what: str, fs: FileSystem) -> None:
    """Say so where everybody may change what commands are run for, or what they made."""
    for path in directories:
        found = fs.status(path)
        if found is not None and found.mode & stat.S_IWOTH:
            warn(
                f"everybody may write to {path}, so everybody can {what}; "
                f"chmod o-w {quoted(path)}, unless all are to be trusted"
            )


def deadline_of(given: JobEnd, environ: dict[str, str], clock: Clock) -> Deadline:
    """Return when the job ends: the earliest time that the scheduler or the user says."""
    scheduled = schedulers.end_time(environ)
    ends = [scheduled, given.deadline]
    if given.time is not None:
        ends.append(clock.own_ns() / 1e9 + given.time)
    known = [end for end in ends if end is not None]
    return Deadline(
        min(known) if known else None,
        schedulers.least_remaining(environ),
        given.min_remaining,
        schedulers.warning(environ),
    )


def worker_options(given: WorkerArguments, environ: dict[str, str]) -> WorkerOptions:
    """Return what the worker is told. The scheduler says how many slots if the user does not."""
    running, outputs, stopping = given.running, given.outputs, given.stopping
    failures, share = stopping.max_failures
    if running.slots is None:
        running = running._replace(slots=schedulers.slots(environ))
    if outputs.log_dir is not None:
        outputs = outputs._replace(log_dir=os.path.abspath(outputs.log_dir))
    if outputs.output_dir is not None:
        outputs = outputs._replace(output_dir=os.path.abspath(outputs.output_dir))
    values: dict[str, Any] = {}
    for part in (running, given.succeeding, given.failing, outputs, stopping):
        values.update(part._asdict())
    values.update(max_failures=failures, max_failed_share=share)
    return WorkerOptions(**values, spool=environ.get("TMPDIR", "/tmp"))


def status_of(summary: Summary, *, exit_zero: bool = False) -> int:
    """Return the exit status that tells what became of the messages.

    With `exit_zero`, messages that failed are no failure of the job.
    """
    if summary.broken:
        return BROKEN
    if summary.left or summary.braked or summary.then_is_left:
        return DRAINED
    if summary.then_has_failed:
        return SOME_FAILED
    some_failed = summary.numbers["failed"] or summary.numbers["lost"]
    return SOME_FAILED if some_failed and not exit_zero else 0
