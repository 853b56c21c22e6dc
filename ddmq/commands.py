"""The commands and their arguments: one table for the command line and `ddmq json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq import actions
from ddmq.broker import UNSET
from ddmq.errors import InvalidArgument
from ddmq.settings import parse_value, show

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ddmq.actions import Reply, Values


class Argument(NamedTuple):
    """One argument, of the command line and of `ddmq json` alike."""

    name: str
    help: str
    flags: tuple[str, ...] = ()
    """None for a positional one."""
    kind: str = "text"
    """text, number, switch, off (a switch that says false), names, pairs, mode or any."""
    default: Any = None
    required: bool = False
    metavar: str | None = None


class Command(NamedTuple):
    """One command: its name, its help, its arguments, and what it does."""

    name: str
    summary: str
    example: str
    arguments: tuple[Argument, ...]
    run: Callable[[Values], Reply]
    form: str = "plain"
    """The format in which it prints unless asked."""


_ROOT = Argument(
    "root", "the directory of the queues, on storage all clients share", required=True
)
_QUEUE = Argument("queue", "the name of the queue", required=True)
_QUEUES = Argument(
    "queue", "one queue, or several with commas", kind="names", required=True
)
_ANY_QUEUES = _QUEUES._replace(
    help="queues, with commas; all by default", required=False
)
_IDS = Argument(
    "id",
    "ids or file names, with commas",
    kind="names",
    required=True,
    metavar="ID[,ID...]",
)
_FORCE = Argument(
    "force", "create and initiate what is missing", ("-f", "--force"), "switch"
)
_SKIP = Argument(
    "skip_cleaning",
    "leave the housekeeping to others",
    ("-C", "--skip-cleaning"),
    "switch",
)
_LOCK_TIMEOUT = Argument(
    "lock_timeout",
    "seconds to wait for the lock; the setting lock_timeout by default",
    ("--lock-timeout",),
    "number",
    metavar="S",
)
_DELAY = Argument("delay", "seconds until it is visible", ("--delay",), "number")
_REASON = Argument("reason", "why, for its dead letter", ("--reason",))

COMMANDS: tuple[Command, ...] = (
    Command(
        "view",
        "show how many messages wait, are at work, delayed or dead",
        "ddmq view /scratch/mq jobs,thumbnails",
        (
            _ROOT,
            _ANY_QUEUES,
            Argument("names", "names only", ("-n", "--names"), "switch"),
        ),
        actions.view,
    ),
    Command(
        "create",
        "make a queue",
        "ddmq create -f --mode 2770 /scratch/mq jobs",
        (
            _ROOT,
            _ANY_QUEUES._replace(help="queues, with commas; none: the root alone"),
            _FORCE,
            Argument(
                "mode",
                "mode of its directories, and so of its files: 2770 shares it with the group",
                ("--mode",),
                "mode",
            ),
            _LOCK_TIMEOUT,
        ),
        actions.create,
    ),
    Command(
        "delete",
        "remove a queue with all its messages",
        "ddmq delete /scratch/mq jobs",
        (_ROOT, _QUEUES, _LOCK_TIMEOUT),
        actions.delete,
    ),
    Command(
        "publish",
        "put a message, or one for each line of a file, into a queue",
        'ddmq publish -f /scratch/mq jobs "sample 17" --priority 5\n'
        "  ddmq publish /scratch/mq jobs --from-file files.txt",
        (
            _ROOT,
            _QUEUE,
            Argument(
                "message",
                "the text; - reads it from standard input",
                kind="any",
                default=UNSET,
            ),
            _FORCE,
            Argument(
                "from_file",
                "one message for each line that is not empty; - is standard input",
                ("--from-file",),
                metavar="FILE",
            ),
            Argument(
                "json",
                "the message, or each line, is a JSON value",
                ("--json",),
                "switch",
            ),
            Argument(
                "null",
                "messages in the file end with a NUL, as those of `find -print0`",
                ("--null",),
                "switch",
            ),
            Argument(
                "priority", "0 is first; 999 by default", ("-p", "--priority"), "number"
            ),
            Argument(
                "timeout",
                "seconds until it is requeued unacked",
                ("-t", "--timeout"),
                "number",
            ),
            Argument(
                "requeue", "try it again when it fails", ("-r", "--requeue"), "switch"
            ),
            Argument(
                "requeue", "a dead letter when it fails", ("--no-requeue",), "off"
            ),
            Argument(
                "requeue_limit",
                "how often to try it again; null: no limit",
                ("-l", "--requeue-limit"),
                "number",
                default=UNSET,
            ),
            Argument(
                "requeue_prio",
                "priority when tried again",
                ("--requeue-prio",),
                "number",
            ),
            _DELAY,
            Argument(
                "durable",
                "wait until it is on stable storage",
                ("--durable",),
                "switch",
            ),
            Argument(
                "durable", "leave that to the system: faster", ("--no-durable",), "off"
            ),
            _SKIP,
        ),
        actions.publish,
    ),
    Command(
        "consume",
        "lease the first message and print it; exit status 3 when there is none",
        "ddmq consume /scratch/mq jobs --format plain",
        (
            _ROOT,
            _QUEUE,
            _FORCE,
            Argument("number", "up to so many at once", ("-n", "--number"), "number"),
            _SKIP,
        ),
        actions.consume,
        "json",
    ),
    Command(
        "ack",
        "finish consumed messages",
        "ddmq ack /scratch/mq jobs 2fb0d8c1b1f3add846d6",
        (_ROOT, _QUEUE, _IDS),
        actions.settle("acked", lambda broker, message, _: broker.ack(message)),
    ),
    Command(
        "nack",
        "say that consumed messages failed: they are tried again, or dead",
        "ddmq nack /scratch/mq jobs 2fb0d8c1b1f3add846d6 --delay 60",
        (_ROOT, _QUEUE, _IDS, _DELAY, _REASON),
        actions.settle("nacked", actions.nack),
    ),
    Command(
        "release",
        "give consumed messages back unharmed; it does not count",
        "ddmq release /scratch/mq jobs 2fb0d8c1b1f3add846d6",
        (_ROOT, _QUEUE, _IDS),
        actions.settle("released", lambda broker, message, _: broker.release(message)),
    ),
    Command(
        "reject",
        "make consumed messages dead letters at once",
        'ddmq reject /scratch/mq jobs 2fb0d8c1b1f3add846d6 --reason "no such sample"',
        (_ROOT, _QUEUE, _IDS, _REASON),
        actions.settle(
            "rejected",
            lambda broker, message, values: broker.reject(
                message, values["reason"] or ""
            ),
        ),
    ),
    Command(
        "renew",
        "prolong the leases of consumed messages",
        "ddmq renew /scratch/mq jobs 2fb0d8c1b1f3add846d6 --timeout 3600",
        (
            _ROOT,
            _QUEUE,
            _IDS,
            Argument("timeout", "seconds from now", ("-t", "--timeout"), "number"),
        ),
        actions.settle(
            "renewed",
            lambda broker, message, values: broker.renew(message, values["timeout"]),
        ),
    ),
    Command(
        "purge",
        "remove the messages of a queue, or those in some states",
        "ddmq purge /scratch/mq jobs --only waiting,dead",
        (
            _ROOT,
            _QUEUES,
            Argument(
                "only",
                "of waiting, work, delayed and dead only these",
                ("--only",),
                "names",
                metavar="STATE[,STATE...]",
            ),
            _LOCK_TIMEOUT,
        ),
        actions.purge,
    ),
    Command(
        "clean",
        "do all the housekeeping of a queue now",
        "ddmq clean /scratch/mq",
        (_ROOT, _ANY_QUEUES),
        actions.clean,
    ),
    Command(
        "dead",
        "list dead letters, with the reasons",
        "ddmq dead /scratch/mq jobs",
        (_ROOT, _QUEUE),
        actions.dead,
    ),
    Command(
        "log",
        "list the runs of commands that workers kept in their journals",
        "ddmq log /scratch/mq jobs --failed --format json",
        (
            _ROOT,
            _QUEUE,
            Argument(
                "failed", "only those that did not succeed", ("--failed",), "switch"
            ),
            Argument("host", "only those on this host", ("--host",)),
            Argument(
                "slowest",
                "the slowest N, slowest first",
                ("--slowest",),
                "number",
                metavar="N",
            ),
            Argument(
                "compact",
                "merge the journals of workers that ended a week ago",
                ("--compact",),
                "switch",
            ),
        ),
        actions.log,
    ),
    Command(
        "redrive",
        "put dead letters back in line, their counts at zero",
        "ddmq redrive /scratch/mq jobs",
        (
            _ROOT,
            _QUEUE,
            _IDS._replace(help="only these; all by default", required=False),
        ),
        actions.redrive,
    ),
    Command(
        "wait",
        "wait until nothing waits, is at work or delayed",
        "ddmq wait /scratch/mq jobs --timeout 3600 && sbatch collect.sh",
        (
            _ROOT,
            _QUEUES,
            Argument(
                "timeout",
                "give up after so many seconds, with exit status 1",
                ("-t", "--timeout"),
                "number",
            ),
        ),
        actions.wait,
    ),
    Command(
        "config",
        "show the settings of a queue or of the root, or change them",
        "ddmq config /scratch/mq jobs --set message_timeout=3600 --unset priority",
        (
            _ROOT,
            _QUEUE._replace(help="the queue; none: the root", required=False),
            Argument(
                "set", "change a setting", ("--set",), "pairs", metavar="KEY=VALUE"
            ),
            Argument(
                "unset",
                "give a setting its default back",
                ("--unset",),
                "names",
                metavar="KEY",
            ),
            _LOCK_TIMEOUT,
        ),
        actions.config,
    ),
    Command(
        "check",
        "see whether a file system keeps what ddmq needs; exit status 1 when it does not",
        "ddmq check /scratch/me\n"
        "  ddmq check /mnt/a /mnt/b                     # one file system, mounted twice\n"
        "  srun -N2 ddmq check /scratch/me              # from two nodes",
        (
            Argument("dir", "a directory in which we may write", required=True),
            Argument("dir2", "the same one, by another mount", metavar="DIR2"),
            Argument(
                "clients",
                "wait for others that run the same command; srun and mpirun tell by themselves",
                ("--clients",),
                "number",
                metavar="N",
            ),
            Argument(
                "timeout",
                "seconds that another client may take; 60 by default",
                ("-t", "--timeout"),
                "number",
            ),
        ),
        actions.check,
    ),
    Command(
        "doctor",
        "see what is wrong with queues; exit status 1 when something is",
        "ddmq doctor /scratch/mq jobs --fix",
        (
            _ROOT,
            _ANY_QUEUES,
            Argument(
                "fix",
                "mend it, as the housekeeping would; no message is destroyed",
                ("--fix",),
                "switch",
            ),
        ),
        actions.doctor,
    ),
)


def parse_pair(text: str) -> tuple[str, Any]:
    """Read KEY=VALUE, the value as `ddmq.yaml` would have it."""
    key, equals, value = text.partition("=")
    if not equals:
        raise InvalidArgument(f"{text!r} is not KEY=VALUE")
    return key.strip().replace("-", "_"), parse_value(value)


def values_from_json(request: Any) -> tuple[Command, dict[str, Any]]:
    """Read `{"cmd": …, "root": …, …}` into a command and its arguments."""
    if not isinstance(request, dict):
        raise InvalidArgument('the request must be a JSON object with a "cmd"')
    known = {command.name: command for command in COMMANDS}
    name = request.get("cmd")
    if not isinstance(name, str) or name not in known:
        raise InvalidArgument(
            f"cmd is {show(name)}; it must be one of {', '.join(known)}"
        )
    command = known[name]
    arguments = {a.name: a for a in reversed(command.arguments)}
    for key in request.keys() - {"cmd", *arguments}:
        allowed = ", ".join(arguments)
        raise InvalidArgument(f"{name} has no argument {show(key)}; it has {allowed}")
    values = {a.name: _from_request(a, request) for a in arguments.values()}
    return command, {**values, "tell": lambda _: None, "typed": False}


def _from_request(argument: Argument, request: Mapping[str, Any]) -> Any:
    if argument.name not in request:
        if argument.required:
            raise InvalidArgument(f'"{argument.name}" is missing')
        return argument.default
    value = request[argument.name]
    if value is None and argument.required:
        raise InvalidArgument(f'"{argument.name}" is null')
    if argument.kind in ("number", "any"):
        return value  # the broker knows what it must be
    if argument.kind == "names" and isinstance(value, str):
        value = value.split(",")
    if value is not None and not _JSON_KINDS[argument.kind](value):
        raise InvalidArgument(
            f"{argument.name} is {show(value)}; see `ddmq {request['cmd']} -h`"
        )
    return (
        parse_mode(value)
        if argument.kind == "mode" and isinstance(value, str)
        else value
    )


def parse_mode(text: str) -> int:
    """Read an octal mode such as 2770."""
    try:
        return int(text, 8)
    except ValueError as error:
        raise InvalidArgument(
            f"mode is {text!r}; it must be octal, such as 2770"
        ) from error


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


_JSON_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "switch": lambda value: isinstance(value, bool),
    "off": lambda value: isinstance(value, bool),
    "names": _is_names,
    "pairs": lambda value: isinstance(value, dict),
    "mode": lambda value: isinstance(value, str),
}
