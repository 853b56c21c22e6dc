"""The command `ddmq-worker`."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from typing import TYPE_CHECKING, Any

from ddmq import Broker, __version__
from ddmq.boundary import Parser, guarded
from ddmq.clock import Clock
from ddmq.errors import InvalidArgument
from ddmq.fs import CountedCalls, FileSystem
from ddmq.hpc import journal, options, scheduler
from ddmq.hpc.deadline import SLURM_LEAST, Deadline, Durations
from ddmq.hpc.guardian import Guardian
from ddmq.hpc.job import Job
from ddmq.hpc.options import Options
from ddmq.hpc.signals import Signals
from ddmq.hpc.worker import Summary, Worker
from ddmq.names import new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BROKEN = 1
SOME_FAILED = 4
DRAINED = 5

_DESCRIPTION = """\
Consume a queue: run a command for each message, ack those on which it exits with 0, nack the
others, end when the queue is empty. The lease of a message is renewed while its command runs,
and no command outlives the worker.

In the arguments of the command {} stands for the text of the message, {.} for the text without
its extension, {/} for its last part, {//} for its directory, {/.} for its last part without
extension, {id} and {slot} for those, and {field} for a field of a JSON object. Where there is none
of these, the text is appended. Any other braces stay as they are. No shell is involved.

The environment holds DDMQ_ROOT, DDMQ_QUEUE, DDMQ_ID, DDMQ_MESSAGE, DDMQ_PRIORITY, DDMQ_SLOT,
DDMQ_FAILURES, DDMQ_LOSSES, DDMQ_REQUEUE_COUNTER, DDMQ_FIELD_<NAME> for each field of a JSON object,
and DDMQ_OUTPUT where --output-dir is given.
"""
_EPILOG = """\
examples:
  ddmq-worker /scratch/mq jobs -- ./process.sh
  ddmq-worker -j 16 /scratch/mq jobs -- convert {} -resize 50% small/{/.}.png
  ddmq-worker --timeout 600 --backoff 10,60,300 --log-dir logs /scratch/mq jobs -- ./process.sh
  ddmq-worker --output-dir results /scratch/mq jobs -- sh -c 'sort "$1" > "$DDMQ_OUTPUT"' sort

SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 drain: nothing more is consumed, the commands are asked to end,
and what does not succeed within --grace is given back, which counts nothing. The same again after
5 seconds cuts the grace short.

exit status: 0 everything was acked, 4 some messages failed, 5 stopped with work left, 1 an error
that is explained, 2 wrong usage
"""


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
    summary = _work(given, command, calls)
    print(f"ddmq-worker: {_told(summary, calls)}", file=sys.stderr)
    if summary.left and summary.at_end:
        _continue_chain(f"{os.path.abspath(given.root)}/{given.queue}")
    return _status(summary)


def _continue_chain(queue_path: str) -> None:
    from ddmq.hpc import chain  # slow to import, and rarely needed

    said = chain.continue_chain(queue_path, scheduler.environment())
    if said is not None:
        print(f"ddmq-worker: the next job: {said}", file=sys.stderr)


def _work(
    given: argparse.Namespace, command: list[str], calls: CountedCalls
) -> Summary:
    clock, environ = Clock(), scheduler.environment()
    broker = Broker(given.root, fs=FileSystem(calls), clock=clock)
    broker.settings(given.queue)  # an error here is the user's to mend
    path = f"{broker.root}/{given.queue}"
    mark = f"DDMQ_WORKER={new_token()}"
    told = _told_to_commands(broker.root, given.queue, mark)
    host = os.uname().nodename
    deadline = _deadline(given, environ, clock)
    with Signals(clock) as signals, Guardian(mark):
        job = Job(
            host,
            scheduler.job_id(environ),
            {**environ, **told},
            signals,
            deadline,
            journal.Journal(path, host, clock, broker.mode_of(given.queue)),
            _known_durations(deadline, path),
            clock,
        )
        made = _options(given, environ)
        return Worker(broker, given.queue, command, made, job).run()


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


def divided(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return our own arguments, and the command after the two dashes."""
    if "--" not in arguments:
        return arguments, []
    middle = arguments.index("--")
    return list(map(_dashed, arguments[:middle])), arguments[middle + 1 :]


def _dashed(argument: str) -> str:
    """Write a long option with dashes, as underscores are accepted too."""
    option, equals, value = argument.partition("=")
    return option.replace("_", "-") + equals + value if option[:2] == "--" else argument


def worker_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="ddmq-worker",
        add_help=False,
        usage="ddmq-worker [options] ROOT QUEUE -- COMMAND [ARG...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    # In groups only: otherwise argparse asks how wide the terminal is, which takes 3 ms.
    _add_what(parser.add_argument_group("which queue"))
    _add_running(parser.add_argument_group("running a message"))
    _add_settling(parser.add_argument_group("when it failed"))
    _add_outputs(parser.add_argument_group("outputs"))
    _add_ending(parser.add_argument_group("when to stop"))
    return parser


def _add_what(group: Any) -> None:
    group.add_argument("root", metavar="ROOT", help="the directory of the queues")
    group.add_argument("queue", metavar="QUEUE", help="the name of the queue")
    group.add_argument("-h", "--help", action="help", help="show this, and end")
    group.add_argument(
        *("-v", "--version"), action="version", version=f"ddmq {__version__}"
    )


def _add_running(group: Any) -> None:
    group.add_argument(
        *("-j", "--slots"),
        type=_positive,
        metavar="N",
        help="how many commands to run at once; by default what the scheduler allocated",
    )
    group.add_argument(
        "--stdin", action="store_true", help="give the text on standard input instead"
    )
    group.add_argument(
        "--timeout", type=_seconds, metavar="S", help="seconds that a command may run"
    )
    group.add_argument(
        "--grace",
        type=_seconds,
        default=10.0,
        metavar="S",
        help="seconds from the request to end to SIGKILL; 10 by default",
    )
    group.add_argument(
        "--term-signal",
        type=_typed(options.signal_number),
        default=options.signal_number("TERM"),
        metavar="NAME",
        help="the signal by which a drain asks commands to end; TERM by default",
    )


def _add_settling(group: Any) -> None:
    group.add_argument(
        "--fatal",
        type=_typed(options.codes),
        default=frozenset(),
        metavar="CODES",
        help="exit statuses that make a message a dead letter at once: 2,64-70",
    )
    group.add_argument(
        "--retry-free",
        type=_typed(options.codes),
        default=options.RETRY_FREE,
        metavar="CODES",
        help="exit statuses after which it is tried again and nothing counts; 75 by default",
    )
    group.add_argument(
        "--on-exit",
        type=_typed(options.on_exit),
        action="append",
        default=[],
        metavar="CODE=queue:NAME",
        help="move the message to another queue of this root; 128 + n stands for signal n",
    )
    group.add_argument(
        "--retries",
        type=_number,
        default=3,
        metavar="N",
        help="a message that has no requeue_limit is tried again so often; 3 by default",
    )
    group.add_argument(
        "--backoff",
        type=_typed(
            lambda text: tuple(options.seconds(part) for part in text.split(","))
        ),
        default=(),
        metavar="S[,S...]",
        help="seconds until it is tried again: after the first failure, the second, ...",
    )


def _add_outputs(group: Any) -> None:
    group.add_argument(
        "--log-dir",
        metavar="DIR",
        help="keep what commands print there; by default it goes where the worker's goes",
    )
    group.add_argument(
        "--logs",
        choices=("failed", "all", "none"),
        default="failed",
        help="of which runs; failed by default",
    )
    group.add_argument(
        "--log-limit",
        type=_typed(options.size),
        default=10 << 20,
        metavar="SIZE",
        help="of each output, keep so much: beginning and end; 10M by default",
    )
    group.add_argument(
        "--output-dir",
        metavar="DIR",
        help="what a command writes to $DDMQ_OUTPUT becomes DIR/<id> when it succeeded",
    )


def _add_ending(group: Any) -> None:
    group.add_argument(
        "--wait",
        type=_seconds,
        default=0.0,
        metavar="S",
        help="linger for so many seconds when the queue is empty",
    )
    group.add_argument(
        "--until-done",
        dest="until",
        action="store_const",
        const="done",
        default="empty",
        help="go on until nothing is delayed or at work anywhere either",
    )
    group.add_argument(
        "--forever",
        dest="until",
        action="store_const",
        const="forever",
        help="never end",
    )
    group.add_argument(
        "--max-messages", type=_positive, metavar="N", help="start so many at most"
    )
    group.add_argument(
        "--max-failures",
        type=_typed(options.limit),
        default=(None, None),
        metavar="N|P%%",
        help="stop after so many failures, or when so many of 100 messages failed",
    )
    group.add_argument(
        "--fast-failures",
        type=_positive,
        metavar="N",
        help="so many failures in a row within seconds: this node is broken, stop, give them back",
    )
    group.add_argument(
        "--poll-max",
        type=_seconds,
        default=5.0,
        metavar="S",
        help="the longest pause between two looks into an empty queue; 5 by default",
    )
    group.add_argument(
        "--time",
        type=_seconds,
        metavar="T",
        help="the job ends so long after the start: seconds or [D-]HH:MM:SS",
    )
    group.add_argument(
        "--deadline",
        type=_typed(options.moment),
        metavar="TIME",
        help="the job ends then: 2030-01-31T12:00 or seconds since 1970; known on Slurm",
    )
    group.add_argument(
        "--min-remaining",
        type=_seconds,
        metavar="S",
        help="start nothing when less remains; by default what 95 of 100 messages needed",
    )


def _typed(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return `read` as argparse wants it."""

    def convert(text: str) -> Any:
        try:
            return read(text)
        except InvalidArgument as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


_seconds = _typed(options.seconds)


def _number(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _told(summary: Summary, calls: CountedCalls) -> str:
    told = ", ".join(f"{number} {what}" for what, number in summary.numbers.items())
    if summary.stopped:
        told += f", {summary.left} left; stopped: {summary.stopped}"
    return f"{told}; {sum(calls.numbers.values())} file-system operations"


def _status(summary: Summary) -> int:
    if summary.broken:
        return BROKEN
    if summary.left:
        return DRAINED
    return SOME_FAILED if summary.numbers["failed"] or summary.numbers["lost"] else 0
