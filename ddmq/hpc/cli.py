"""The command `ddmq-worker`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NoReturn

from ddmq import Broker, __version__
from ddmq.cli import guarded
from ddmq.hpc.signals import Signals
from ddmq.hpc.worker import Summary, Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

SOME_FAILED = 4
DRAINED = 5

_DESCRIPTION = """\
Consume a queue: run a command for each message, ack those on which it exits with 0, nack the
others, end when the queue is empty. The message's text replaces {} in the arguments, or is
appended as the last one. No shell is involved. The lease is renewed while the command runs.

The command's environment holds DDMQ_ID, DDMQ_QUEUE, DDMQ_MESSAGE and DDMQ_REQUEUE_COUNTER.
"""
_EPILOG = """\
examples:
  ddmq-worker /scratch/mq jobs -- ./process.sh
  ddmq-worker -j 16 /scratch/mq jobs -- convert {} -resize 50% small/{}

SIGTERM or SIGINT: nothing more is consumed, commands are asked to end, and what did not
succeed is given back.

exit status: 0 everything was acked, 4 some messages failed, 5 drained, 1 an error that is
explained, 2 wrong usage
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} -h`\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker; return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded("ddmq-worker", lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    ours, command = _divided(arguments)
    parser = _parser()
    options = parser.parse_args(ours)
    if not command:
        parser.error("put the command last, after --")
    if options.slots < 1:
        parser.error(f"-j is {options.slots}; it must be a positive number")
    with Signals() as signals:
        broker = Broker(options.root)
        worker = Worker(broker, options.queue, command, signals, slots=options.slots)
        summary = worker.run()
    print(f"ddmq-worker: {_told(summary)}", file=sys.stderr)
    return _status(summary)


def _divided(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return arguments, []
    middle = arguments.index("--")
    return arguments[:middle], arguments[middle + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ddmq-worker",
        usage="ddmq-worker [-h] [-v] [-j N] ROOT QUEUE -- COMMAND [ARG...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-v", "--version", action="version", version=f"ddmq {__version__}"
    )
    parser.add_argument(
        "-j",
        "--slots",
        type=int,
        default=1,
        metavar="N",
        help="how many commands to run at once; 1 by default",
    )
    parser.add_argument("root", metavar="ROOT", help="the directory of the queues")
    parser.add_argument("queue", metavar="QUEUE", help="the name of the queue")
    return parser


def _told(summary: Summary) -> str:
    numbers = summary._asdict()
    drained = numbers.pop("drained")
    told = ", ".join(f"{number} {what}" for what, number in numbers.items())
    return told + (", drained" if drained else "")


def _status(summary: Summary) -> int:
    if summary.drained:
        return DRAINED
    return SOME_FAILED if summary.failed or summary.lost else 0
