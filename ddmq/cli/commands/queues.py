"""`ddmq create`, `delete`, `purge` and `clean`: whole queues."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ddmq import Broker
from ddmq.broker import STATES
from ddmq.cli.commands import (
    ANY_QUEUES,
    FORCE,
    LOCK_TIMEOUT,
    QUEUES,
    ROOT,
    in_each,
)
from ddmq.cli.spec import (
    MODE,
    NAMES,
    Command,
    Reply,
    option,
    positional,
    switch,
)
from ddmq.errors import DdmqError, InvalidArgument
from ddmq.storage.names import check_queue_name

if TYPE_CHECKING:
    from ddmq.cli.spec import Context, Number

#: Workers that an error names.
_MOST_SHOWN = 3


class Create(NamedTuple):
    """What `ddmq create` can be told."""

    root: str = ROOT
    queue: list[str] | None = positional(
        "queues, with commas; none: the root alone", NAMES, is_required=False
    )
    force: bool = FORCE
    mode: int | None = option(
        "--mode",
        "mode of its directories, and so of its files: 2770 shares it with the group",
        MODE,
    )
    lock_timeout: Number = LOCK_TIMEOUT


def create(told: Create, context: Context) -> Reply:
    """Make queues."""
    names = dict.fromkeys(told.queue or ())
    for name in names:
        check_queue_name(name)  # before the root or any other is made
    broker = Broker(
        told.root,
        create=told.force,
        mode=told.mode,
        lock_timeout=told.lock_timeout,
        fs=context.fs,
    )
    made = {name: broker.create_queue(name, mode=told.mode) for name in names}
    lines = [f"{name}: {'created' if new else 'exists'}" for name, new in made.items()]
    return Reply({"created": made}, "\n".join(lines) or f"{broker.root}: initiated")


class Delete(NamedTuple):
    """What `ddmq delete` can be told."""

    root: str = ROOT
    queue: list[str] = QUEUES
    lock_timeout: Number = LOCK_TIMEOUT


def delete(told: Delete, context: Context) -> Reply:
    """Delete queues."""
    broker = Broker(told.root, lock_timeout=told.lock_timeout, fs=context.fs)
    deleted = in_each(
        broker, told.queue, broker.delete_queue, "deleted", even_broken=True
    )
    plain = "\n".join(f"{name}: deleted" for name in deleted)
    return Reply({"deleted": list(deleted)}, plain)


class Purge(NamedTuple):
    """What `ddmq purge` can be told."""

    root: str = ROOT
    queue: list[str] = QUEUES
    only: list[str] | None = option(
        "--only",
        "of waiting, work, delayed and dead only these",
        NAMES,
        metavar="STATE[,STATE...]",
    )
    lock_timeout: Number = LOCK_TIMEOUT


def purge(told: Purge, context: Context) -> Reply:
    """Remove messages."""
    broker = Broker(told.root, lock_timeout=told.lock_timeout, fs=context.fs)
    states = STATES if told.only is None else told.only
    removed = in_each(
        broker, told.queue, lambda name: broker.purge(name, states), "purged"
    )
    value = {name: counts._asdict() for name, counts in removed.items()}
    return Reply(value, "\n".join(f"{n}: removed {sum(c)}" for n, c in removed.items()))


class Clean(NamedTuple):
    """What `ddmq clean` can be told."""

    root: str = ROOT
    queue: list[str] | None = ANY_QUEUES
    end_leases: bool = switch(
        "--end-leases",
        "let all that is at work come back now, for when its consumers are dead; what lives is "
        "run twice",
    )
    force: bool = switch("-f --force", "also where workers live, or seem to")


def clean(told: Clean, context: Context) -> Reply:
    """Do all housekeeping."""
    broker = Broker(told.root, fs=context.fs)
    if told.queue is None:
        if told.end_leases:
            raise InvalidArgument("--end-leases: of which queue?")
        swept = broker.clean_all()
    else:
        if told.end_leases and not told.force:
            for name in told.queue:
                _require_nobody_works(broker, name)
        clean_one = partial(broker.clean, end_leases=told.end_leases)
        swept = in_each(broker, told.queue, clean_one, "cleaned")
    found = {name: numbers._asdict() for name, numbers in swept.items()}
    lines = [
        f"{name}: " + ", ".join(f"{number} {what}" for what, number in numbers.items())
        for name, numbers in found.items()
    ]
    return Reply(found, "\n".join(lines))


def _require_nobody_works(broker: Broker, queue: str) -> None:
    """Raise DdmqError where a worker lives, as far as others can see."""
    live = [f"{x.host}:{x.process}" for x in broker.workers(queue) if x.is_live]
    if live:
        shown = ", ".join(live[:_MOST_SHOWN]) + " …" * (len(live) > _MOST_SHOWN)
        raise DdmqError(
            f"queue {queue}: {len(live)} of its workers live, or were killed a moment ago "
            f"({shown}); what they run would be run twice. If they are gone, use --force"
        )


COMMANDS = (
    Command(
        "create",
        "make a queue",
        "ddmq create -f --mode 2770 /scratch/mq jobs",
        Create,
        run=create,
    ),
    Command(
        "delete",
        "remove a queue with all its messages",
        "ddmq delete /scratch/mq jobs",
        Delete,
        run=delete,
    ),
    Command(
        "purge",
        "remove the messages of a queue, or those in some states",
        "ddmq purge /scratch/mq jobs --only waiting,dead",
        Purge,
        run=purge,
    ),
    Command(
        "clean",
        "do all the housekeeping of a queue now",
        "ddmq clean /scratch/mq",
        Clean,
        run=clean,
    ),
)
