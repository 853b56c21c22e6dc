"""What is typed: the options of the command lines, as tables."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq import __version__
from ddmq.boundary import Help, Parser, typed
from ddmq.hpc import options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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


class Option(NamedTuple):
    """One option of a command line: a switch, where there is nothing after `help`."""

    flags: str
    help: str
    metavar: str | None = None
    read: Callable[[str], Any] | None = None
    """How its text is read; InvalidArgument says what is wrong with it."""
    default: Any = None
    more: Mapping[str, Any] = {}
    """What else argparse has to know of it."""


_OPTIONS = {
    "running a message": (
        Option(
            "-j --slots",
            "how many commands to run at once; by default what the scheduler allocated",
            "N",
            options.positive,
        ),
        Option("--stdin", "give the text on standard input instead"),
        Option("--timeout", "seconds that a command may run", "S", options.seconds),
        Option(
            "--grace",
            "seconds from the request to end to SIGKILL; 10 by default",
            "S",
            options.seconds,
            10.0,
        ),
        Option(
            "--term-signal",
            "the signal by which a drain asks commands to end; TERM by default",
            "NAME",
            options.signal_number,
            options.signal_number("TERM"),
        ),
    ),
    "when it failed": (
        Option(
            "--fatal",
            "exit statuses that make a message a dead letter at once: 2,64-70",
            "CODES",
            options.codes,
            frozenset(),
        ),
        Option(
            "--retry-free",
            "exit statuses after which it is tried again and nothing counts; 75 by default",
            "CODES",
            options.codes,
            options.RETRY_FREE,
        ),
        Option(
            "--on-exit",
            "move the message to another queue of this root; 128 + n stands for signal n",
            "CODE=queue:NAME",
            options.on_exit,
            [],
            {"action": "append"},
        ),
        Option(
            "--retries",
            "a message that has no requeue_limit is tried again so often; 3 by default",
            "N",
            options.number,
            3,
        ),
        Option(
            "--backoff",
            "seconds until it is tried again: after the first failure, the second, ...",
            "S[,S...]",
            options.pauses,
            (),
        ),
    ),
    "outputs": (
        Option(
            "--log-dir",
            "keep what commands print there; by default it goes where the worker's goes",
            "DIR",
        ),
        Option(
            "--logs",
            "of which runs: failed (by default), all or none",
            "WHICH",
            default="failed",
            more={"choices": ("failed", "all", "none")},
        ),
        Option(
            "--log-limit",
            "of each output, keep so much: beginning and end; 10M by default",
            "SIZE",
            options.size,
            10 << 20,
        ),
        Option(
            "--output-dir",
            "what a command writes to $DDMQ_OUTPUT becomes DIR/<id> when it succeeded",
            "DIR",
        ),
    ),
    "when to stop": (
        Option(
            "--wait",
            "linger for so many seconds when the queue is empty",
            "S",
            options.seconds,
            0.0,
        ),
        Option(
            "--until-done",
            "go on until nothing is delayed or at work anywhere either",
            default="empty",
            more={"dest": "until", "action": "store_const", "const": "done"},
        ),
        Option(
            "--forever",
            "never end",
            default="empty",
            more={"dest": "until", "action": "store_const", "const": "forever"},
        ),
        Option("--max-messages", "start so many at most", "N", options.positive),
        Option(
            "--max-failures",
            "stop after so many failures, or when so many of 100 messages failed",
            "N|P%",
            options.limit,
            (None, None),
        ),
        Option(
            "--fast-failures",
            "so many failures in a row within seconds: this node is broken, stop, give them back",
            "N",
            options.positive,
        ),
        Option(
            "--poll-max",
            "the longest pause between two looks into an empty queue; 5 by default",
            "S",
            options.seconds,
            5.0,
        ),
    ),
    "when the job ends": (
        Option(
            "--time",
            "the job ends so long after the start: seconds or [D-]HH:MM:SS",
            "T",
            options.seconds,
        ),
        Option(
            "--deadline",
            "the job ends then: 2030-01-31T12:00 or seconds since 1970; known on Slurm",
            "TIME",
            options.moment,
        ),
        Option(
            "--min-remaining",
            "start nothing when less remains; by default what 95 of 100 messages needed",
            "S",
            options.seconds,
        ),
    ),
}


def worker_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = bare_parser(
        "ddmq-worker",
        "[options] ROOT QUEUE -- COMMAND [ARG...]",
        _DESCRIPTION,
        _EPILOG,
    )
    add_queue(parser.add_argument_group("which queue"))
    for title, table in _OPTIONS.items():
        add_options(parser.add_argument_group(title), table)
    return parser


def bare_parser(
    program: str, usage: str, description: str, epilog: str
) -> argparse.ArgumentParser:
    """Return a parser that knows no argument yet; they belong into groups."""
    return Parser(
        prog=program,
        usage=f"{program} {usage}",
        description=description,
        epilog=epilog,
        formatter_class=Help,
        allow_abbrev=False,
        add_help=False,
    )


def add_queue(group: Any) -> None:
    """Add what every command line begins with."""
    group.add_argument("root", metavar="ROOT", help="the directory of the queues")
    group.add_argument("queue", metavar="QUEUE", help="the name of the queue")
    group.add_argument("-h", "--help", action="help", help="show this, and end")
    group.add_argument(
        *("-v", "--version"),
        action="version",
        version=f"ddmq {__version__}",
        help="show the version, and end",
    )


def add_options(group: Any, table: Sequence[Option]) -> None:
    """Add the options of a table."""
    for option in table:
        group.add_argument(*option.flags.split(), help=option.help, **_more(option))


def _more(option: Option) -> dict[str, Any]:
    """Return what argparse is told of an option besides its flags and help."""
    if option.metavar is None and not option.more:
        return {"action": "store_true"}
    more = {"default": option.default, **option.more}
    if option.metavar is not None:
        more["metavar"] = option.metavar
    if option.read is not None:
        more["type"] = typed(option.read)
    return more


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
