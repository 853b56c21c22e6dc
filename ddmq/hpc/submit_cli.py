"""The command `ddmq-submit`."""

from __future__ import annotations

import argparse
import math
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from ddmq import Broker, __version__
from ddmq.boundary import guarded
from ddmq.errors import InvalidArgument
from ddmq.hpc import options, submit
from ddmq.hpc.cli import divided, worker_parser

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Messages for each slot of a worker before `--workers auto` asks for another worker.
_PER_SLOT = 10

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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} -h`\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Submit a job; return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded("ddmq-submit", lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    ours, command = divided(arguments)
    parser = _parser()
    given, for_worker = parser.parse_known_args(ours)
    if not command:
        parser.error("put the command last, after --")
    root = os.path.abspath(given.root)
    checked = worker_parser().parse_args([*for_worker, root, given.queue])
    _refuse_too_short(given.time, checked.min_remaining)
    broker = Broker(root)
    request = _request(given, broker, [*for_worker, root, given.queue, "--", *command])
    script = submit.new_script(f"{root}/{given.queue}", given.queue)
    text = submit.rendered(request, script)
    if given.dry_run:
        print(text, end="")
        return 0
    submit.write(script, text)
    print(submit.submitted(given.scheduler, script, {}))
    return 0


def _request(
    given: argparse.Namespace, broker: Broker, arguments: list[str]
) -> submit.Request:
    slots = [] if given.slots is None else ["-j", str(given.slots)]
    worker = given.worker or submit.worker_path()
    return submit.Request(
        given.scheduler,
        given.queue,
        [worker, *slots, *arguments],
        _workers(given, broker),
        given.slots,
        given.time,
        given.options,
        given.chain,
        given.requeue,
    )


def _workers(given: argparse.Namespace, broker: Broker) -> int:
    """Return how many workers to ask for: `auto` is enough for the backlog, and not more."""
    waiting = broker.view(given.queue)[given.queue].waiting
    needed: int | None = given.workers
    if needed is None:
        needed = math.ceil(waiting / (_PER_SLOT * (given.slots or 1)))
    most: int = given.max_workers or needed
    return max(1, min(needed, most))


def _refuse_too_short(seconds: float | None, min_remaining: float | None) -> None:
    if seconds is not None and min_remaining is not None and seconds <= min_remaining:
        raise InvalidArgument(
            f"--time is {seconds:g} s, --min-remaining {min_remaining:g} s: no message would "
            "ever be started; ask for more time"
        )


def _count(text: str) -> int | None:
    """Read a positive number; None stands for `auto`."""
    if text == "auto":
        return None
    if text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")


def _time(text: str) -> float:
    """Read [D-]HH:MM:SS; a bare number would mean minutes to one scheduler only."""
    if ":" not in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write HH:MM:SS")
    try:
        return options.seconds(text)
    except InvalidArgument as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ddmq-submit",
        usage="ddmq-submit SCHEDULER ROOT QUEUE [options] [worker options] -- COMMAND [ARG...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-v", "--version", action="version", version=f"ddmq {__version__}"
    )
    parser.add_argument(
        "scheduler",
        choices=tuple(submit.DIALECTS),
        metavar="SCHEDULER",
        help="slurm, pbs or sge",
    )
    parser.add_argument("root", metavar="ROOT", help="the directory of the queues")
    parser.add_argument("queue", metavar="QUEUE", help="the name of the queue")
    parser.add_argument(
        "--workers",
        type=_count,
        default=1,
        metavar="N|auto",
        help="workers, each on one node; auto: enough for what waits now",
    )
    parser.add_argument(
        "--max-workers",
        type=_count,
        default=100,
        metavar="N",
        help="never more than these; 100 by default",
    )
    parser.add_argument(
        "-j",
        "--slots",
        type=_count,
        metavar="N",
        help="commands at once, and processors, for each worker",
    )
    parser.add_argument(
        "--time", type=_time, metavar="[D-]HH:MM:SS", help="the time limit of the job"
    )
    parser.add_argument(
        "-o",
        "--option",
        dest="options",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="for the scheduler: account=abc, mem=4G, q=long",
    )
    parser.add_argument(
        "--chain",
        type=_count,
        default=0,
        metavar="N",
        help="when the time is over and messages are left, start the next job; N times at most",
    )
    parser.add_argument(
        "--requeue",
        action="store_true",
        help="with --chain on Slurm: requeue the job itself instead",
    )
    parser.add_argument(
        "--worker", metavar="PATH", help="the ddmq-worker that the job shall run"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the job script, and submit nothing",
    )
    return parser
