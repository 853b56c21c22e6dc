"""`ddmq wait`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq import Broker
from ddmq.cli.commands import QUEUES, ROOT, at_work, dead_hint, follow_ups_of
from ddmq.cli.spec import SECONDS, Command, Reply, option, switch
from ddmq.clock import Clock, date
from ddmq.errors import DdmqError, warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddmq import Overview
    from ddmq.cli.spec import Context, Number
    from ddmq.cli.watching import Progress
    from ddmq.storage.then import FollowUp


#: Exit status where messages are dead, and somebody asked how it went.
ARE_DEAD = 4


class Arguments(NamedTuple):
    """What `ddmq wait` can be told."""

    root: str = ROOT
    queue: list[str] = QUEUES
    timeout: Number = option(
        "-t --timeout", "give up after so many seconds, with exit status 1", SECONDS
    )
    progress: bool = switch(
        "--progress",
        "say how far it is, how fast, and when it is done; exit status 4 if messages are dead",
    )


def wait(told: Arguments, context: Context) -> Reply:
    """Wait until queues are empty: all of them together within the time.

    Messages may move from one of them to another that was found empty before. As long as there is
    one, each round finds it, or it moves on during that round: in as many rounds as there are
    queues, it has come to its last one, unless it goes round.
    """
    broker, clock, left = Broker(told.root, fs=context.fs), Clock(), told.timeout

    paused = set()
    progress: dict[str, Progress] = {}

    def tell(name: str) -> None:
        if told.progress:
            from ddmq.cli.watching import EVERY, EVERY_LINE, Progress  # rarely

            if name not in progress:
                progress[name] = Progress(told.root, name, context.fs, clock)
            every = EVERY if context.is_watched else EVERY_LINE
            if (text := progress[name].told(every)) is None:
                return
            if context.is_watched:
                context.tell(text)
            else:
                print(f"{date(clock.time())}  {text}", file=sys.stderr, flush=True)
        elif context.is_watched:
            context.tell(f"waiting for {name}: {_left(broker.overview(name)[name])}")
        elif name not in paused and (found := broker.paused(name)):
            paused.add(name)
            warn(f"queue {name} is paused {found}: it waits until `ddmq resume`")

    rounds = len(told.queue)  # that are still to find all of them empty at once

    def note(name: str) -> None:
        nonlocal rounds
        if len(told.queue) > 1:
            rounds = len(told.queue)
        tell(name)

    began = clock.monotonic()
    for name in told.queue:
        broker.settings(name)  # all must be there, also those that are waited for last
    while rounds:
        rounds -= 1
        for name in told.queue:
            if not broker.wait(name, left, note):
                raise DdmqError(
                    f"after {told.timeout} seconds, queue {name} is not empty: "
                    f"{_left(broker.overview(name)[name])}"
                )
            if left is not None:
                left = max(told.timeout - (clock.monotonic() - began), 0)
    lines = [_of_then(name, follow_ups_of(broker, name)) for name in told.queue]
    dead = {name: broker.count_dead(name) for name in told.queue}
    lines += [
        f"{name}: {dead_hint(number, told.root, name)}"
        for name, number in dead.items()
        if number
    ]
    value: dict[str, Any] = {"empty": told.queue, "dead": dead}
    status = ARE_DEAD if told.progress and any(dead.values()) else 0
    return Reply(value, "\n".join(filter(None, lines)), status=status)


def _of_then(name: str, found: Sequence[FollowUp]) -> str:
    """Say what is still to be run when a queue is done, or failed; empty: nothing."""
    if any(each.is_pending for each in found):
        return f"{name}: --then is still to be run, by a worker with --then"
    return f"{name}: --then failed, and is not tried again" if found else ""


def _left(found: Overview) -> str:
    """Say what is still to be done in a queue."""
    counts = found.counts
    paused = f"; paused {found.paused}" if found.paused else ""
    return (
        f"{counts.waiting} waiting, {counts.delayed} delayed, {at_work(found)}{paused}"
    )


COMMANDS = (
    Command(
        "wait",
        "wait until nothing waits, is at work or delayed",
        "ddmq wait /scratch/mq jobs --timeout 1h && sbatch collect.sh",
        Arguments,
        run=wait,
    ),
)
