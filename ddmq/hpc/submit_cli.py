"""The command `ddmq-submit`."""

from __future__ import annotations

import argparse
import math
import os
import sys
from typing import TYPE_CHECKING

from ddmq import Broker
from ddmq.boundary import guarded
from ddmq.errors import InvalidArgument
from ddmq.fs import FileSystem
from ddmq.hpc import options, submit
from ddmq.hpc.arguments import (
    Option,
    add_options,
    add_queue,
    bare_parser,
    divided,
    worker_parser,
)
from ddmq.hpc.deadline import SLURM_LEAST, Deadline, Durations
from ddmq.hpc.journal import durations
from ddmq.printable import printable_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Messages for each slot of a worker before `--workers auto` asks for another worker.
_PER_SLOT = 10
#: How many workers `--workers auto` asks for at most.
_MOST = 100

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


def main(argv: Sequence[str] | None = None) -> int:
    """Submit a job; return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded("ddmq-submit", lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    ours, command = divided(arguments)
    parser = _parser()
    given, for_worker = parser.parse_known_args(ours)
    _check_usage(parser, ours, given, command)
    root = os.path.abspath(given.root)
    places = [root, given.queue]
    checked = worker_parser().parse_args([*for_worker, *places])
    broker, path = Broker(root), f"{root}/{given.queue}"
    workers = _workers(given, broker)  # the queue exists
    _refuse_too_short(given, checked, path)
    whole = [*for_worker, *places, "--", *command]
    request = _request(given, workers, checked.grace, whole)
    script = submit.new_script(path)
    text = submit.rendered(request, script)
    if given.dry_run:
        print(text, end="")
    else:
        _refuse_missing(command[0])
        print(printable_lines(_submitted(given.scheduler, script, text)))
    return 0


def _check_usage(
    parser: argparse.ArgumentParser,
    ours: list[str],
    given: argparse.Namespace,
    command: list[str],
) -> None:
    """End with status 2 where options can't mean what they say."""
    if any(argument.startswith("-") for argument in ours[:3]):
        parser.error("put SCHEDULER, ROOT and QUEUE first")
    if not command:
        parser.error("put the command last, after --")
    if given.requeue and not (given.chain and given.scheduler == "slurm"):
        parser.error("--requeue is a way to --chain N, on slurm only")


def _submitted(scheduler: str, script: str, text: str) -> str:
    """Submit a job; the record of its script is removed again where the scheduler refuses."""
    submit.require(scheduler)
    fs = FileSystem()
    submit.write(script, text, fs)
    try:
        return submit.submitted(scheduler, submit.Script(text.encode()), {})
    except submit.SubmitFailed:
        submit.forget(script, fs)
        raise


def _request(
    given: argparse.Namespace, workers: int, grace: float, arguments: list[str]
) -> submit.Request:
    slots = [] if given.slots is None else ["-j", str(given.slots)]
    return submit.Request(
        given.scheduler,
        given.queue,
        [given.worker] if given.worker else submit.worker_words(),
        [*slots, *arguments],
        workers,
        given.slots,
        given.time,
        grace,
        given.options,
        given.chain,
        given.requeue,
    )


def _workers(given: argparse.Namespace, broker: Broker) -> int:
    """Return how many workers to ask for: `auto` is enough for the backlog, and not more."""
    counts = broker.view(given.queue)[given.queue]
    wanted: int | None = given.workers
    most: int | None = given.max_workers
    if wanted is None:
        backlog = counts.waiting + counts.delayed
        wanted = math.ceil(backlog / (_PER_SLOT * (given.slots or 1)))
        most = most or _MOST
    return max(1, min(wanted, most or wanted))


def _refuse_too_short(
    given: argparse.Namespace, checked: argparse.Namespace, path: str
) -> None:
    """Raise InvalidArgument where the worker would never start a message, or a next job."""
    knows_end = given.time is not None or checked.deadline is not None
    if given.chain and given.scheduler != "slurm" and not knows_end:
        raise InvalidArgument(
            f"--chain needs --time: {given.scheduler} does not tell a job when it ends"
        )
    least = SLURM_LEAST if given.scheduler == "slurm" else 0.0
    deadline = Deadline(None, least, checked.min_remaining)
    needed = deadline.min_remaining(Durations(durations(path)))
    if given.time is not None and given.time <= needed:
        raise InvalidArgument(
            f"--time is {given.time:g} s, but no message is started when less than "
            f"{needed:g} s remain, so none ever would be; ask for more time, or set "
            "--min-remaining"
        )


def _refuse_missing(program: str) -> None:
    """Raise InvalidArgument where a path from here, where the job will run, leads nowhere."""
    is_from_here = "/" in program and not program.startswith("/")
    if is_from_here and "{" not in program and not os.access(program, os.X_OK):
        raise InvalidArgument(
            f"{program} is no executable file, seen from here, where the job will run; "
            "name one, or `chmod +x` it"
        )


def _count(text: str) -> int | None:
    """Read a positive number; None stands for `auto`."""
    return None if text == "auto" else options.positive(text)


def _time(text: str) -> float:
    """Read [D-]HH:MM:SS; a bare number would mean minutes to one scheduler only."""
    if ":" not in text:
        raise InvalidArgument(f"{text!r} is no time; write HH:MM:SS")
    return options.seconds(text)


_OPTIONS = (
    Option(
        "--workers",
        "workers, each on one node; auto: enough for what waits now",
        "N|auto",
        _count,
        1,
    ),
    Option(
        "--max-workers",
        "never more than these; for auto 100 by default",
        "N",
        options.positive,
    ),
    Option(
        "-j --slots",
        "commands at once, and processors, for each worker",
        "N",
        options.positive,
    ),
    Option("--time", "the time limit of the job", "[D-]HH:MM:SS", _time),
    Option(
        "-o --option",
        "for the scheduler: q=long is -q long; mem=4G is --mem=4G on slurm, -l mem=4G on pbs "
        "and sge; '-pe mpi 16' and the like as they are",
        "KEY=VALUE",
        submit.checked_option,
        [],
        {"action": "append", "dest": "options"},
    ),
    Option(
        "--chain",
        "when the time is over and messages are left, start the next job; N times at most",
        "N",
        options.positive,
        0,
    ),
    Option(
        "--requeue",
        "with --chain on Slurm: requeue the job itself instead",
    ),
    Option("--worker", "the ddmq-worker that the job shall run", "PATH"),
    Option("--dry-run", "print the job script, and submit nothing"),
)


def _parser() -> argparse.ArgumentParser:
    parser = bare_parser(
        "ddmq-submit",
        "SCHEDULER ROOT QUEUE [options] [worker options] -- COMMAND [ARG...]",
        _DESCRIPTION,
        _EPILOG,
    )
    where = parser.add_argument_group("where")
    known = tuple(submit.DIALECTS)
    where.add_argument(
        "scheduler", choices=known, metavar="SCHEDULER", help="slurm, pbs or sge"
    )
    add_queue(where)
    add_options(parser.add_argument_group("the job"), _OPTIONS)
    return parser
