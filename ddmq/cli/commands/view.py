"""`ddmq view`: how many messages are in each state, and who works on them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ddmq import Broker
from ddmq.broker import STATES
from ddmq.cli.commands import ANY_QUEUES, ROOT, at_work, dead_hint, follow_ups_of
from ddmq.cli.spec import SECONDS, Command, Reply, option, switch
from ddmq.errors import QueueNotFound, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ddmq import Counts, Overview
    from ddmq.cli.spec import Context, Number
    from ddmq.cli.workforce import Workforce


class View(NamedTuple):
    """What `ddmq view` can be told."""

    root: str = ROOT
    queue: list[str] | None = ANY_QUEUES
    names: bool = switch("-n --names", "names only")
    watch: Number = option(
        "-w --watch",
        "show it again and again, with rates and workers, until Ctrl-C; 0 is as no number",
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
        for name in told.queue or ():
            broker.settings(name)  # there must be such a queue
        return Reply({"queues": names}, "\n".join(names))
    found = broker.overview(told.queue)
    workforces = {name: _workforce(broker, name, found[name].counts) for name in found}
    reply = _counted(found, workforces, told.root)
    if context.is_for_programs:
        for name, counted in reply.value.items():
            counted["then"] = []
            with suppress(QueueNotFound):  # deleted since it was counted
                counted["then"] += [
                    {"state": x.state, "failures": x.failures}
                    for x in follow_ups_of(broker, name)
                ]
    return reply


def _workforce(broker: Broker, queue: str, counts: Counts) -> Workforce | None:
    """Return the workers of a queue, all together; None: there were none for long."""
    found = []
    with suppress(StorageError, QueueNotFound):  # it is counted all the same
        found = broker.workers(queue)
    if not found:
        return None
    from ddmq.cli.workforce import Workforce  # only where there are any

    return Workforce.of(found, counts)


def _counted(
    queues: Mapping[str, Overview],
    workforces: Mapping[str, Workforce | None],
    root: str,
) -> Reply:
    """Reply with numbers of messages, for people as a table, and below it what else is known.

    That is what no client renews, whether the queue is paused, its dead letters, and its workers.
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
        if said := dead_hint(found.counts.dead, root, name):
            below.append(f"{name}: {said}")
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


COMMANDS = (
    Command(
        "view",
        "show how many messages wait, are at work, delayed or dead",
        "ddmq view /scratch/mq jobs,thumbnails",
        View,
        run=view,
    ),
)
