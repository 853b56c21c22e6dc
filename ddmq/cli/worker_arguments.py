"""What `ddmq-worker` can be told, which `ddmq-submit` passes on to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq import Broker
from ddmq.cli.spec import (
    AddPair,
    Help,
    Kind,
    Parser,
    ShowVersion,
    add_arguments,
    flags_in,
    group,
    option,
    positional,
    switch,
    switches,
    with_dashes,
)
from ddmq.hpc import options
from ddmq.hpc.limits import refuse_too_short
from ddmq.hpc.placeholders import names_in
from ddmq.storage.names import check_queue_name

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Mapping, Sequence

    from ddmq.clock import Clock
    from ddmq.storage.filesystem import FileSystem

_DESCRIPTION = """\
Consume a queue: run a command for each message, ack those on which it exits with 0, nack the
others, end when the queue is empty. The lease of a message is renewed while its command runs,
and no command outlives the worker.

In the arguments of the command {} stands for the text of the message, {.} for the text without
its extension, {/} for its last part, {//} for its directory, {/.} for its last part without
extension, {id} and {slot} for those ({slot0} counts from 0), and {field} for a field of a JSON
object. Where there is none of these, the text is appended. Any other braces stay as they are. No
shell is involved.

Where seconds (S) are asked for, 90, 5m, 1h30m, 2d and 2:00:00 are times.

The environment holds DDMQ_ROOT, DDMQ_QUEUE, DDMQ_ID, DDMQ_MESSAGE, DDMQ_PRIORITY, DDMQ_SLOT,
DDMQ_FAILURES, DDMQ_LOSSES, DDMQ_REQUEUE_COUNTER, DDMQ_FIELD_<NAME> for each field of a JSON object,
and DDMQ_OUTPUT where --output-dir is given. Of these, a command that gets a --batch has DDMQ_ROOT,
DDMQ_QUEUE and DDMQ_SLOT only, and DDMQ_BATCH says how many messages it got. A --persistent one has
those three, and DDMQ_REPLY_FD. Any of them may say how far it is by a line in the file that
DDMQ_PROGRESS names, such as 40%; `ddmq workers` and `ddmq view --watch` show it.
"""
_EPILOG = """\
examples:
  ddmq-worker /scratch/mq jobs -- ./process.sh
  ddmq-worker -j 16 -f --from-file files.txt /scratch/mq jobs -- ./process.sh
  ddmq-worker -j 16 /scratch/mq jobs -- convert {} -resize 50% small/{/.}.png
  ddmq-worker --timeout 600 --backoff 10,60,300 --log-dir logs /scratch/mq jobs -- ./process.sh
  ddmq-worker -j 4 --env CUDA_VISIBLE_DEVICES={slot0} /scratch/mq jobs -- ./train.sh {}
  ddmq-worker -j 4 --bind /scratch/mq jobs -- ./threads.sh {}       # a quarter of the cores each
  ddmq-worker -j 16 --tag /scratch/mq jobs -- ./process.sh {}       # each line names its input
  ddmq-worker --output-dir results /scratch/mq jobs -- sh -c 'sort "$1" > "$DDMQ_OUTPUT"' sort
  ddmq-worker --batch 100 /scratch/mq jobs -- gzip                  # many short tasks
  ddmq-worker -j 16 --persistent /scratch/mq jobs -- python tasks.py
  ddmq-worker --output-dir results --output-name '{/.}.gz' /scratch/mq jobs -- ./process.sh

SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 drain: nothing more is consumed, the commands are asked to end,
and what does not succeed within --grace is given back, which counts nothing. The same again after
5 seconds cuts the grace short.

exit status: 0 everything was acked, 4 some messages failed, or lines of --from-file are dead letters
(with --exit-zero: 0), 5 stopped with work left, 1 an error that is explained, 2 wrong usage
"""


#: What is for single messages only, and why.
_NOT_IN_A_BATCH = {
    "output_dir": "each message has a result of its own; use --persistent",
    "tag": "it names one message",
    "persistent": "such a command gets its messages one by one",
}
#: Placeholders that stand for a message, in any case.
_OF_A_MESSAGE = frozenset(("", ".", "/", "//", "/.", "id"))
POSITIVE = Kind(options.positive)
_SECONDS = Kind(options.seconds)
_CODES = Kind(options.codes)
_DEFAULT = options.WorkerOptions()

ROOT: Any = positional("the directory of the queues", metavar="ROOT")
QUEUE: Any = positional("the name of the queue", metavar="QUEUE")


class WhichQueue(NamedTuple):
    """Whose messages a worker consumes."""

    root: str = ROOT
    queue: str = QUEUE

    def create_missing(
        self, *, fs: FileSystem | None = None, clock: Clock | None = None
    ) -> None:
        """Create the root and the queue, unless they exist.

        A broker of its own does that, and ends. Of a worker, it would also create a queue that
        another client deletes meanwhile.
        """
        check_queue_name(self.queue)  # before the root is made
        broker = Broker(self.root, create=True, fs=fs, clock=clock)
        if self.queue not in broker.queues():
            broker.create_queue(self.queue)


class Filling(NamedTuple):
    """What is put into the queue first."""

    from_file: str | None = option(
        "--from-file",
        "publish each line of FILE first, as `ddmq publish --from-file` does; the same lines "
        "once only, however often that is started",
        metavar="FILE",
    )
    force: bool = switch(
        "-f --force",
        "with --from-file: create the root and the queue if they are missing",
    )


class RunningMessages(NamedTuple):
    """How a command runs."""

    slots: int | None = option(
        "-j --slots",
        "how many commands to run at once; by default what the scheduler allocated",
        POSITIVE,
        metavar="N",
    )
    stdin: bool = switch("--stdin", "give the text on standard input instead")
    batch: int = option(
        "--batch",
        "give up to N messages to one command: {} becomes several arguments, with --stdin "
        "several lines; when it fails, each is run alone",
        POSITIVE,
        default=_DEFAULT.batch,
        metavar="N",
    )
    persistent: bool = switch(
        "--persistent",
        "each slot's command stays, gets one message after the other as lines of JSON, and "
        "answers each on descriptor 3; see `from ddmq.hpc import serve`",
    )
    env: Mapping[str, str] = option(
        "--env",
        "set a variable for the commands: CUDA_VISIBLE_DEVICES={slot0}; may be repeated",
        Kind(options.variable),
        default=_DEFAULT.env,
        metavar="NAME=VALUE",
        action=AddPair,
    )
    bind: bool = switch(
        "--bind",
        "give each slot its own share of the job's cores; more slots than cores share them in turn",
    )
    timeout: float | None = option(
        "--timeout", "seconds that a command may run", _SECONDS, metavar="S"
    )
    grace: float = option(
        "--grace",
        "seconds from the request to end to SIGKILL; 10 by default",
        _SECONDS,
        default=_DEFAULT.grace,
        metavar="S",
    )
    term_signal: int = option(
        "--term-signal",
        "the signal by which a drain asks commands to end; TERM by default",
        Kind(options.signal_number),
        default=_DEFAULT.term_signal,
        metavar="NAME",
    )


class Failing(NamedTuple):
    """What follows when a command failed."""

    fatal: frozenset[int] = option(
        "--fatal",
        "exit statuses that make a message a dead letter at once: 2,64-70",
        _CODES,
        default=_DEFAULT.fatal,
        metavar="CODES",
    )
    retry_free: frozenset[int] = option(
        "--retry-free",
        "exit statuses after which it is tried again and nothing counts; 75 by default",
        _CODES,
        default=_DEFAULT.retry_free,
        metavar="CODES",
    )
    on_exit: Mapping[int | str, str] = option(
        "--on-exit",
        "move the message to another queue of this root; 128 + n stands for signal n, `timeout` for "
        "what exceeded --timeout, whatever its exit status is",
        Kind(options.on_exit),
        default=_DEFAULT.on_exit,
        metavar="CODE=queue:NAME",
        action=AddPair,
    )
    retries: int = option(
        "--retries",
        "a message that has no requeue_limit is tried again so often; 3 by default",
        Kind(options.number),
        default=_DEFAULT.retries,
        metavar="N",
    )
    backoff: tuple[float, ...] = option(
        "--backoff",
        "seconds until it is tried again: after the first failure, the second, ...",
        Kind(options.pauses),
        default=_DEFAULT.backoff,
        metavar="S[,S...]",
    )


class Succeeding(NamedTuple):
    """What follows when a command succeeded."""

    on_success: options.Next | None = option(
        "--on-success",
        "queue:NAME moves the message on to another queue of this root; lines:NAME publishes "
        "each line of what the command wrote to $DDMQ_OUTPUT there",
        Kind(options.on_success),
        metavar="queue:NAME|lines:NAME",
    )


class Outputs(NamedTuple):
    """Where what commands print and write goes."""

    group: bool = switch(
        "--group",
        "print all of a command in one piece, when it ends; whole lines by default",
    )
    tag: bool = switch("--tag", "print the text of the message before each line")
    log_dir: str | None = option(
        "--log-dir",
        "keep what commands print there; by default it goes where the worker's goes",
        metavar="DIR",
    )
    logs: str = option(
        "--logs",
        "of which runs: failed (by default), all or none",
        default=_DEFAULT.logs,
        metavar="WHICH",
        choices=("failed", "all", "none"),
    )
    log_limit: int = option(
        "--log-limit",
        "of each output, keep so much (also for --group): beginning and end; 10M by default",
        Kind(options.size),
        default=_DEFAULT.log_limit,
        metavar="SIZE",
    )
    output_dir: str | None = option(
        "--output-dir",
        "what a command writes to $DDMQ_OUTPUT becomes DIR/<id> when it succeeded",
        metavar="DIR",
    )
    output_name: str | None = option(
        "--output-name",
        "the result's name in place of <id>: '{/.}.gz'; two messages never share one",
        Kind(options.output_name),
        metavar="NAME",
    )


class Stopping(NamedTuple):
    """When a worker ends by itself."""

    wait: float = option(
        "--wait",
        "linger for so many seconds when the queue is empty",
        _SECONDS,
        default=_DEFAULT.wait,
        metavar="S",
    )
    until: str = switches(
        (
            "--until-done",
            "go on until nothing is delayed or at work anywhere either",
            "done",
        ),
        ("--forever", "never end", "forever"),
        default=_DEFAULT.until,
    )
    max_messages: int | None = option(
        "--max-messages", "start so many at most", POSITIVE, metavar="N"
    )
    max_failures: tuple[float | None, float | None] = option(
        "--max-failures",
        "stop after so many failures, or when so many of 100 messages failed",
        Kind(options.limit),
        default=(_DEFAULT.max_failures, _DEFAULT.max_failed_share),
        metavar="N|P%",
    )
    fast_failures: int | None = option(
        "--fast-failures",
        "so many failures in a row within seconds: this node is broken, stop, give them back",
        POSITIVE,
        metavar="N",
    )
    brake: bool = switches(
        (
            "--no-brake",
            "go on though the first commands all fail: ten, or as many as there are slots",
            False,
        ),
        default=_DEFAULT.brake,
    )
    then: tuple[str, ...] = option(
        "--then",
        "when the queue is done, run this, by one of the workers that are told so: "
        "'sbatch collect.sh'; no shell",
        Kind(options.command_line),
        default=_DEFAULT.then,
        metavar="COMMAND",
    )
    then_even_if_dead: bool = switch(
        "--then-even-if-dead", "run it though there are dead letters"
    )
    poll_max: float = option(
        "--poll-max",
        "the longest pause between two looks into an empty queue; 5 by default",
        _SECONDS,
        default=_DEFAULT.poll_max,
        metavar="S",
    )


class JobEnd(NamedTuple):
    """When the job ends in which the worker runs."""

    time: float | None = option(
        "--time",
        "the job ends so long after the start: seconds or [D-]HH:MM:SS",
        _SECONDS,
        metavar="T",
    )
    deadline: float | None = option(
        "--deadline",
        "the job ends then: 2030-01-31T12:00 or seconds since 1970; known on Slurm",
        Kind(options.moment),
        metavar="TIME",
    )
    min_remaining: float | None = option(
        "--min-remaining",
        "start nothing when less remains; by default what 95 of 100 messages needed",
        _SECONDS,
        metavar="S",
    )


class Saying(NamedTuple):
    """What the worker says of itself, its exit status too."""

    progress: bool = switch(
        "--progress",
        "say how far the queue is, how fast, and when it is done: in the last line of a terminal, "
        "or each minute",
    )
    debug: bool = switch(
        "-d --debug", "count the file-system calls of each kind in the last line"
    )
    exit_zero: bool = switch(
        "--exit-zero",
        "exit with 0, not with 4, when some messages failed: the job has not",
    )


class WorkerArguments(NamedTuple):
    """All options of `ddmq-worker`, as its help groups them."""

    filling: Filling = group(Filling, "filling the queue")
    running: RunningMessages = group(RunningMessages, "running a message")
    succeeding: Succeeding = group(Succeeding, "when it succeeded")
    failing: Failing = group(Failing, "when it failed")
    outputs: Outputs = group(Outputs, "outputs")
    stopping: Stopping = group(Stopping, "when to stop")
    job_end: JobEnd = group(JobEnd, "when the job ends")
    saying: Saying = group(Saying, "what it says")


def worker_parser() -> Parser:
    """Return the parser of `ddmq-worker`."""
    parser = Parser(
        prog="ddmq-worker",
        usage="ddmq-worker [options] ROOT QUEUE -- COMMAND [ARG...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=Help,
        allow_abbrev=False,
        add_help=False,
    )
    add_first_group(parser, "which queue", WhichQueue)
    add_arguments(parser, WorkerArguments)
    return parser


def given_to_worker(
    parser: Parser, words: Sequence[str], command: Sequence[str]
) -> Namespace:
    """Parse the words of `ddmq-worker`; what contradicts itself is wrong usage."""
    values: Namespace
    values, left = parser.parse_known_args(words)
    is_command = left and not any(word.startswith("-") for word in left)
    if is_command and not command:
        parser.error(f"put the command last, after --: -- {left[0]}")
    if left:
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    if values.batch > 1:
        for name, why in _NOT_IN_A_BATCH.items():
            if getattr(values, name):
                parser.error(
                    f"--{name.replace('_', '-')} and --batch don't go together: {why}"
                )
    if values.persistent:
        if values.stdin:
            parser.error("--persistent always gives messages on standard input")
        used = _of_a_message(command)
        if used:
            parser.error(
                f"{{{min(used)}}} stands for one message, and a --persistent command gets many, "
                "on standard input; leave it out"
            )
    if values.force and values.from_file is None:
        parser.error("-f needs --from-file: a new queue holds nothing to do")
    if values.time is not None:
        refuse_too_short(values.time, values.grace, values.min_remaining or 0.0)
    if values.then_even_if_dead and not values.then:
        parser.error("--then-even-if-dead needs --then COMMAND")
    used = _of_a_message(values.env.values())
    if used and (values.persistent or values.batch > 1):
        parser.error(
            f"--env: {{{min(used)}}} stands for one message, and the command gets many"
        )
    if options.TIMEOUT in values.on_exit and values.timeout is None:
        parser.error("--on-exit timeout=queue:NAME needs --timeout")
    if values.output_name is not None and values.output_dir is None:
        parser.error("--output-name needs --output-dir")
    if values.on_success is not None:
        if values.on_success.queue == values.queue:
            parser.error("--on-success: the next queue must be another one")
        if values.on_success.kind == "lines" and values.output_dir is None:
            parser.error("--on-success lines:NAME needs --output-dir")
    if values.log_dir is not None and values.logs != "none":
        for name in ("group", "tag"):
            if getattr(values, name):
                parser.error(f"--{name} is for what is printed, not for --log-dir")
    return values


def refuse_unknown(parser: Parser, words: Sequence[str]) -> None:
    """Complain of the first option that neither this parser has, nor the worker it hands it to."""
    parser.others = tuple(flags_in(WorkerArguments))
    for word in words:
        flag = word.partition("=")[0] if word.startswith("--") else word[:2]
        if flag.startswith("-") and flag not in (*parser.others, "-h", "--help", "-"):
            parser.error(f"unrecognized arguments: {word}")


def _of_a_message(words: Iterable[str]) -> set[str]:
    """Return the placeholders in some words that stand for a message, whatever is in it."""
    return {name for word in words for name in names_in(word)} & _OF_A_MESSAGE


def add_first_group(parser: Parser, title: str, fields: Any) -> None:
    """Add the positional arguments, and what every program answers."""
    first = parser.add_argument_group(title)
    add_arguments(first, fields)
    first.add_argument("-h", "--help", action="help", help="show this, and end")
    first.add_argument(
        "-v",
        "--version",
        action=ShowVersion,
        help="show the version, also of what ddmq needs, and end",
    )


def divided(words: list[str], *known: Any) -> tuple[list[str], list[str]]:
    """Return our own words and, after the two dashes, the command.

    Long options of ours, which are those in `known`, get dashes for underscores.
    """
    middle = words.index("--") if "--" in words else len(words)
    flags = [flag for fields in known for flag in flags_in(fields)]
    return with_dashes(words[:middle], flags), words[middle + 1 :]
