"""The command `ddmq-worker`."""

from __future__ import annotations

import gc
import os
import stat
import sys
from typing import TYPE_CHECKING

from ddmq import Broker, scheduler
from ddmq.boundary import counted, guarded
from ddmq.clock import Clock
from ddmq.errors import DdmqError
from ddmq.fs import CountedCalls, FileSystem
from ddmq.hpc import journal
from ddmq.hpc.arguments import divided, worker_parser
from ddmq.hpc.deadline import SLURM_LEAST, Deadline, Durations
from ddmq.hpc.guardian import Guardian
from ddmq.hpc.job import Job
from ddmq.hpc.options import Options
from ddmq.hpc.result import remove_leftovers_of_dead
from ddmq.hpc.signals import Signals
from ddmq.hpc.trials import try_all
from ddmq.hpc.trouble import told
from ddmq.hpc.worker import Summary, Worker
from ddmq.log import warn
from ddmq.names import new_token
from ddmq.printable import printable, quoted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

BROKEN = 1
SOME_FAILED = 4
DRAINED = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker; return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded("ddmq-worker", lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    ours, command = divided(arguments)
    parser = worker_parser()
    given = parser.parse_args(ours)
    if not command:
        parser.error("put the command last, after --")
    gc.freeze()  # what was imported stays to the end: nobody need look through it
    calls = CountedCalls()
    try:
        summary = _work(given, command, calls)
    except (
        OSError
    ) as error:  # of this node: all others were explained where they came from
        raise DdmqError(f"it can't go on: {told(error)}") from error
    print(f"ddmq-worker: {printable(_told(summary, calls))}", file=sys.stderr)
    if summary.left and summary.at_end:
        _continue_chain(f"{os.path.abspath(given.root)}/{given.queue}")
    return _status(summary)


def _continue_chain(queue_path: str) -> None:
    from ddmq.hpc import chain  # slow to import, and rarely needed

    said = chain.continue_chain(queue_path, scheduler.environment())
    if said is not None:
        print(f"ddmq-worker: the next job: {printable(said)}", file=sys.stderr)


def _work(
    given: argparse.Namespace, command: list[str], calls: CountedCalls
) -> Summary:
    clock, environ, fs = Clock(), scheduler.environment(), FileSystem(calls)
    broker = Broker(given.root, fs=fs, clock=clock)
    broker.settings(given.queue)  # an error here is the user's to mend
    what = "take, change and remove messages"
    _warn_of_writers((broker.root, f"{broker.root}/{given.queue}"), what, fs)
    made = _options(given, environ)
    try_all(made, broker)
    what = "change what is kept there, and lead a command that writes there elsewhere"
    kept = filter(None, (made.output_dir, made.log_dir))
    _warn_of_writers(map(os.path.realpath, kept), what, fs)
    if made.output_dir is not None:
        remove_leftovers_of_dead(made.output_dir, f"{broker.root}/{given.queue}", fs)
    mark = f"DDMQ_WORKER={new_token()}"
    environ.update(_told_to_commands(broker.root, given.queue, mark))
    with Signals(clock) as signals, Guardian(mark):
        job = _job(given, environ, broker, signals, clock)
        return Worker(broker, given.queue, command, made, job).run()


def _job(
    given: argparse.Namespace,
    environ: dict[str, str],
    broker: Broker,
    signals: Signals,
    clock: Clock,
) -> Job:
    host, path = os.uname().nodename, f"{broker.root}/{given.queue}"
    deadline = _deadline(given, environ, clock)
    return Job(
        host,
        scheduler.job_id(environ),
        environ,
        signals,
        deadline,
        journal.Journal(path, host, clock, broker.mode_of(given.queue)),
        _known_durations(deadline, path),
        clock,
    )


def _warn_of_writers(directories: Iterable[str], what: str, fs: FileSystem) -> None:
    """Say so where everybody may change what commands are run for, or what they made."""
    for path in directories:
        found = fs.status(path)
        if found is not None and found.mode & stat.S_IWOTH:
            warn(
                f"everybody may write to {path}, so everybody can {what}; "
                f"chmod o-w {quoted(path)}, unless all are to be trusted"
            )


def _told_to_commands(root: str, queue: str, mark: str) -> dict[str, str]:
    name, _, value = mark.partition("=")
    return {"DDMQ_ROOT": root, "DDMQ_QUEUE": queue, name: value}


def _deadline(
    given: argparse.Namespace, environ: dict[str, str], clock: Clock
) -> Deadline:
    ends = [scheduler.end_time(environ), given.deadline]
    if given.time is not None:
        ends.append(clock.own_ns() / 1e9 + given.time)
    known = [end for end in ends if end is not None]
    slurm = scheduler.end_time(environ) is not None
    return Deadline(
        min(known) if known else None,
        SLURM_LEAST if slurm else 0.0,
        given.min_remaining,
        scheduler.warning(environ),
    )


def _known_durations(deadline: Deadline, path: str) -> Durations:
    """Read the journals where it matters how long a message takes."""
    return Durations(journal.durations(path) if deadline.at is not None else ())


def _options(given: argparse.Namespace, environ: dict[str, str]) -> Options:
    failures, share = given.max_failures
    return Options(
        slots=scheduler.slots(environ) if given.slots is None else given.slots,
        stdin=given.stdin,
        timeout=given.timeout,
        grace=given.grace,
        term_signal=given.term_signal,
        fatal=given.fatal,
        retry_free=given.retry_free,
        on_exit=dict(given.on_exit),
        retries=given.retries,
        backoff=given.backoff,
        log_dir=_absolute(given.log_dir),
        logs=given.logs,
        log_limit=given.log_limit,
        output_dir=_absolute(given.output_dir),
        wait=given.wait,
        until=given.until,
        max_messages=given.max_messages,
        max_failures=failures,
        max_failed_share=share,
        fast_failures=given.fast_failures,
        poll_max=given.poll_max,
        spool=environ.get("TMPDIR", "/tmp"),
    )


def _absolute(path: str | None) -> str | None:
    return None if path is None else os.path.abspath(path)


def _told(summary: Summary, calls: CountedCalls) -> str:
    told = ", ".join(f"{number} {what}" for what, number in summary.numbers.items())
    if summary.stopped:
        told += f", {summary.left} left; stopped: {summary.stopped}"
    return f"{told}; {counted(calls.numbers)}"


def _status(summary: Summary) -> int:
    if summary.broken:
        return BROKEN
    if summary.left:
        return DRAINED
    return SOME_FAILED if summary.numbers["failed"] or summary.numbers["lost"] else 0
