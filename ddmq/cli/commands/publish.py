"""`ddmq publish` and `ddmq forget`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq import UNSET, Broker
from ddmq.cli.commands import DELAY, FORCE, QUEUE, ROOT, SKIP_CLEANING
from ddmq.cli.spec import (
    ANY,
    NUMBER,
    SECONDS,
    Command,
    Reply,
    group,
    option,
    positional,
    switch,
    switches,
)
from ddmq.errors import InvalidArgument
from ddmq.storage.names import check_queue_name

if TYPE_CHECKING:
    from ddmq.cli.spec import Context, Number


class Keywords(NamedTuple):
    """What `Broker.publish` is told by keyword: the `PublishOptions`, and a key."""

    priority: Number = option("-p --priority", "0 is first; 999 by default", NUMBER)
    timeout: Number = option(
        "-t --timeout", "seconds until it is requeued unacked", SECONDS
    )
    requeue: bool | None = switches(
        ("-r --requeue", "try it again when it fails", True),
        ("--no-requeue", "a dead letter when it fails", False),
    )
    requeue_limit: Number = option(
        "-l --requeue-limit",
        "how often to try it again; null: no limit",
        NUMBER,
        default=UNSET,
    )
    requeue_prio: Number = option("--requeue-prio", "priority when tried again", NUMBER)
    delay: Number = DELAY
    durable: bool | None = switches(
        ("--durable", "wait until it is on stable storage", True),
        ("--no-durable", "leave that to the system: faster", False),
    )
    key: str | None = option(
        "--key",
        "add nothing if anything was published with this key, and print the same",
    )


class Arguments(NamedTuple):
    """What `ddmq publish` can be told."""

    root: str = ROOT
    queue: str = QUEUE
    message: Any = positional(
        "the text; - reads it from standard input",
        ANY,
        default=UNSET,
        is_required=False,
    )
    force: bool = FORCE
    from_file: str | None = option(
        "--from-file",
        "one message for each line that is not empty; - is standard input",
        metavar="FILE",
    )
    json: bool = switch("--json", "the message, or each line, is a JSON value")
    null: bool = switch(
        "--null",
        "messages in the file end with a NUL, as those of `find -print0`",
    )
    skip_invalid: bool = switch(
        "--skip-invalid",
        "leave out lines that are no UTF-8, or no JSON with --json, and tell their numbers",
    )
    options: Keywords = group(Keywords)
    skip_cleaning: bool = SKIP_CLEANING


def publish(told: Arguments, context: Context) -> Reply:
    """Publish one message, or the lines of a file."""
    if told.message is UNSET and told.from_file is None:
        raise InvalidArgument(
            "one is missing of the root, the queue and the text; in place of the text, - reads it "
            "from standard input, and --from-file FILE takes the lines of a file"
        )
    if told.message is not UNSET and told.from_file is not None:
        raise InvalidArgument("publish one message or --from-file, and not both")
    if told.force:
        check_queue_name(told.queue)  # before the root is made
    broker = Broker(
        told.root, create=told.force, clean=not told.skip_cleaning, fs=context.fs
    )
    # None is a limit: none at all. Of all others it says that nothing was said.
    options = {
        name: value
        for name, value in told.options._asdict().items()
        if value is not None or name == "requeue_limit"
    }
    if told.from_file is not None:
        from ddmq.cli.input import messages  # rarely needed

        read = messages(
            told.from_file,
            as_json=told.json,
            null=told.null,
            tell=context.tell,
            skip_invalid=told.skip_invalid,
        )
        number = broker.publish_many(told.queue, read, **options)
        return Reply({"published": number}, str(number))

    message, is_from_input = told.message, told.message == "-" and context.is_typed
    if is_from_input or told.json:
        from ddmq.cli.input import from_json, standard_input

        text = standard_input().removesuffix("\n") if is_from_input else message
        message = from_json(text, "message") if told.json else text
    id_ = broker.publish(told.queue, message, **options)
    return Reply({"id": id_}, id_)


class Forget(NamedTuple):
    """What `ddmq forget` can be told."""

    root: str = ROOT
    queue: str = QUEUE
    key: str = positional("what `ddmq publish --key` was given")


def forget(told: Forget, context: Context) -> Reply:
    """Let a key be used once more."""
    was_used = Broker(told.root, fs=context.fs).forget(told.queue, told.key)
    text = "forgotten" if was_used else "nothing was published with this key"
    return Reply({"forgotten": was_used}, text)


COMMANDS = (
    Command(
        "forget",
        "let the key of a `publish --key` be used once more",
        "ddmq forget /scratch/mq jobs samples-2026",
        Forget,
        run=forget,
    ),
    Command(
        "publish",
        "put a message, or one for each line of a file, into a queue",
        'ddmq publish -f /scratch/mq jobs "sample 17" --priority 5\n'
        "  ddmq publish /scratch/mq jobs --from-file files.txt",
        Arguments,
        run=publish,
    ),
)
