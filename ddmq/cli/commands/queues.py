"""`ddmq view`, `create`, `delete`, `purge` and `clean`: whole queues."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ddmq import Broker
from ddmq.broker import STATES
from ddmq.cli.commands import (
    ANY_QUEUES,
    FORCE,
    LOCK_TIMEOUT,
    QUEUES,
    ROOT,
    at_work,
    follow_ups_of,
)
from ddmq.cli.spec import (
    MODE,
    NAMES,
    SECONDS,
    Command,
    Reply,
    option,
    positional,
    switch,
)
from ddmq.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ddmq import Counts, Overview
    from ddmq.cli.commands.workers import Workforce
    from ddmq.cli.spec import Context, Number


class View(NamedTuple):
    """What `ddmq view` can be told."""

    root: str = ROOT
    queue: list[str] | None = ANY_QUEUES
    names: bool = switch("-n --names", "names only")
    watch: Number = option(
        "-w --watch",
        "show it again and again, with rates and workers, until Ctrl-C",
        SECONDS,
        metavar="SECONDS",
        alone=0,
    )


def view(told: View, context: Context) -> Reply:
    """Count the messages of queues, or name the queues."""
    if told.watch is not None:
        from ddmq.cli.commands.watch import watch  # rarely needed

        return watch(told.root, told.queue, told.watch, context)
    broker = Broker(told.root, fs=context.fs)
    if told.names:
        names = told.queue or broker.queues()
        return Reply({"queues": names}, "\n".join(names))
    found = broker.overview(told.queue)
    workforces = {name: _workforce(broker, name, found[name].counts) for name in found}
    reply = _counted(found, workforces)
    if context.is_for_programs:
        for name, counted in reply.value.items():
            counted["then"] = [
                {"state": x.state, "failures": x.failures}
                for x in follow_ups_of(broker, name)
            ]
    return reply


def _workforce(broker: Broker, queue: str, counts: Counts) -> Workforce | None:
    """Return the workers of a queue, all together; None: there were none for long."""
    found = []
    with suppress(StorageError):  # it is counted all the same
        found = broker.workers(queue)
    if not found:
        return None
    from ddmq.cli.commands.workers import Workforce  # only where there are any

    return Workforce.of(found, counts)


def _counted(
    queues: Mapping[str, Overview], workforces: Mapping[str, Workforce | None]
) -> Reply:
    """Reply with numbers of messages, for people as a table, and below it what else is known.

    That is what nobody renews, whether the queue is paused, and who works on it.
    """
    width = max(map(len, ("queue", *queues)))
    heads = "".join(f"{state:>10}" for state in (*STATES, "done"))
    lines = [f"{'queue':<{width}} {heads}"]
    below, value = [], {}
    for name, found in queues.items():
        workforce = workforces[name]
        done = "-" if workforce is None else workforce.done
        numbers = "".join(f"{number:>10}" for number in (*found.counts, done))
        lines.append(f"{name:<{width}} {numbers}")
        if found.unrenewed.number:
            below.append(f"{name}: {at_work(found)}")
        if found.paused is not None:
            below.append(f"{name}: paused {found.paused}; workers take nothing")
        if workforce is not None and (said := workforce.told(found.counts)):
            below.append(f"{name}: {said}")
        value[name] = {
            **found.counts._asdict(),
            "not_renewed": found.unrenewed.number,
            "not_renewed_for": _rounded(found.unrenewed.age),
            "back_in": _rounded(found.unrenewed.back_in),
            "paused": found.paused._asdict() if found.paused else None,
            "workers": workforce.as_dict() if workforce else None,
        }
    return Reply(value, "\n".join(lines + below))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


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
    broker = Broker(
        told.root,
        create=told.force,
        mode=told.mode,
        lock_timeout=told.lock_timeout,
        fs=context.fs,
    )
    made = {
        name: broker.create_queue(name, mode=told.mode) for name in told.queue or ()
    }
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
    for name in told.queue:
        broker.delete_queue(name)
    plain = "\n".join(f"{name}: deleted" for name in told.queue)
    return Reply({"deleted": told.queue}, plain)


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
    removed = {name: broker.purge(name, states) for name in told.queue}
    value = {name: counts._asdict() for name, counts in removed.items()}
    return Reply(value, "\n".join(f"{n}: removed {sum(c)}" for n, c in removed.items()))


class Clean(NamedTuple):
    """What `ddmq clean` can be told."""

    root: str = ROOT
    queue: list[str] | None = ANY_QUEUES


def clean(told: Clean, context: Context) -> Reply:
    """Do all housekeeping."""
    broker = Broker(told.root, fs=context.fs)
    if told.queue is None:
        swept = broker.clean_all()
    else:
        swept = {name: broker.clean(name) for name in told.queue}
    found = {name: numbers._asdict() for name, numbers in swept.items()}
    lines = [
        f"{name}: " + ", ".join(f"{number} {what}" for what, number in numbers.items())
        for name, numbers in found.items()
    ]
    return Reply(found, "\n".join(lines))


COMMANDS = (
    Command(
        "view",
        "show how many messages wait, are at work, delayed or dead",
        "ddmq view /scratch/mq jobs,thumbnails",
        View,
        view,
    ),
    Command(
        "create",
        "make a queue",
        "ddmq create -f --mode 2770 /scratch/mq jobs",
        Create,
        create,
    ),
    Command(
        "delete",
        "remove a queue with all its messages",
        "ddmq delete /scratch/mq jobs",
        Delete,
        delete,
    ),
    Command(
        "purge",
        "remove the messages of a queue, or those in some states",
        "ddmq purge /scratch/mq jobs --only waiting,dead",
        Purge,
        purge,
    ),
    Command(
        "clean",
        "do all the housekeeping of a queue now",
        "ddmq clean /scratch/mq",
        Clean,
        clean,
    ),
)
