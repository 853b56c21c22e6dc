"""`ddmq pause` and `ddmq resume`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ddmq import Broker
from ddmq.cli.commands import QUEUES, ROOT, in_each
from ddmq.cli.spec import Command, Reply

if TYPE_CHECKING:
    from ddmq.cli.spec import Context


class Arguments(NamedTuple):
    """What either can be told."""

    root: str = ROOT
    queue: list[str] = QUEUES


def pause(told: Arguments, context: Context) -> Reply:
    """Let workers finish what they hold, and take no more."""
    broker, lines, value = Broker(told.root, fs=context.fs), [], {}
    paused = in_each(
        broker,
        told.queue,
        lambda name: (broker.pause(name), broker.paused(name)),
        "paused",
    )
    for name, (is_new, found) in paused.items():
        if is_new:
            lines.append(f"{name}: paused; workers finish what they hold")
        else:
            lines.append(
                f"{name}: was paused before, {found or 'and resumed just now'}"
            )
        value[name] = {"new": is_new, **(found._asdict() if found else {})}
    return Reply({"paused": value}, "\n".join(lines))


def resume(told: Arguments, context: Context) -> Reply:
    """Let workers take messages again."""
    broker = Broker(told.root, fs=context.fs)
    resumed = in_each(broker, told.queue, broker.resume, "resumed")
    lines = [
        f"{name}: {'resumed' if was else 'was not paused'}"
        for name, was in resumed.items()
    ]
    return Reply({"resumed": resumed}, "\n".join(lines))


COMMANDS = (
    Command(
        "pause",
        "let workers finish what they hold, and take no more from a queue",
        "ddmq pause /scratch/mq jobs\n"
        "  ddmq resume /scratch/mq jobs                         # until then they wait",
        Arguments,
        run=pause,
    ),
    Command(
        "resume",
        "let workers take messages of a paused queue again",
        "ddmq resume /scratch/mq jobs",
        Arguments,
        run=resume,
    ),
)
