"""How many messages per second one process handles, and several at once.

    python benchmarks/rates.py [--quick | --full] [--dir DIR]

Shows messages per second of wall time: of one process, at backlogs from 1,000 to 100,000 (a
million with --full), durable and not; and of 1 to 8 processes at once, with the renames that
consumers try per message. In memory, durable messages cost next to nothing more than others:
give a directory on real storage to see their price. On a machine that others use too, the
rates of several processes say little; the CPU time per message says more. Exits with 1 when a
target is missed.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from support import (
    QUEUE,
    Table,
    Target,
    arguments,
    cpu_seconds,
    filled,
    now,
    refill,
    scratch,
    wall_seconds,
)

from ddmq import Broker
from ddmq.storage.filesystem import FileSystem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ddmq import Message

RENAMES = Target(1.5)
OVER_ONE = Target(1, "≥")
BACKLOGS = 1_000, 10_000, 100_000, 1_000_000
PROCESSES = 1, 2, 4, 8
BATCH = 500
forked = multiprocessing.get_context("fork")


# One process


def one_round(broker: Broker) -> list[float]:
    """Return messages per second: publish, publish durably, consume, ack."""
    messages: list[Message] = []

    def consume() -> None:
        messages.extend(broker.consume(QUEUE)[0] for _ in range(2 * BATCH))

    def ack() -> None:
        for message in messages:
            broker.ack(message)

    return [
        BATCH / wall_seconds(partial(refill, broker, BATCH)),
        BATCH / wall_seconds(partial(refill, broker, BATCH, durable=True)),
        2 * BATCH / wall_seconds(consume),
        2 * BATCH / wall_seconds(ack),
    ]


def alone(root: Path, backlogs: tuple[int, ...], rounds: int) -> Table:
    """Measure one process at several backlogs."""
    columns = "backlog", "publish", "publish, durable", "consume", "ack"
    table = Table("Messages per second, one process", *columns)
    for backlog in backlogs:
        broker = filled(root / str(backlog), backlog)
        rates = zip(*(one_round(broker) for _ in range(rounds)))
        table.add(f"{backlog:,}", *(f"{statistics.median(r):,.0f}" for r in rates))
    return table


# Several processes


class Claims:
    """The system calls of a consumer; counts how often it tried to claim something."""

    def __init__(self) -> None:
        self.tried = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def rename(self, source: str, target: str, **directories: int) -> None:
        """Count the claim of a single message: no rename of a range is one."""
        self.tried += not target.endswith((".range", ".done"))
        os.rename(source, target, **directories)

    def symlink(self, target: str, name: str, **directory: int) -> None:
        """Count the claim of lines of a bundle, whose name is the number of the first."""
        self.tried += name.rpartition("/")[2].isdecimal()
        os.symlink(target, name, **directory)


class Share(NamedTuple):
    """The part of the work that one of several processes did."""

    began: float
    ended: float
    messages: int
    renames: int
    cpu: float


class Together(NamedTuple):
    """The work that several processes did together."""

    rate: float
    renames: float
    """Renames in the ready queue that are tried per message."""
    cpu: float
    """Seconds of CPU time per message."""


def together(root: Path, processes: int, work: Callable[[Broker], int]) -> Together:
    """Let several processes work on one queue at once."""
    barrier, answers = forked.Barrier(processes), forked.SimpleQueue()
    workers = [
        forked.Process(target=take_part, args=(root, work, barrier, answers))
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    shares: list[Share] = [answers.get() for _ in workers]
    for worker in workers:
        worker.join()
    began, ended, *sums = zip(*shares)
    messages, renames, cpu = map(sum, sums)
    seconds = max(ended) - min(began)
    return Together(messages / seconds, renames / messages, cpu / messages)


def take_part(
    root: Path, work: Callable[[Broker], int], barrier: Any, answers: Any
) -> None:
    """Work as one of several processes, once all are ready."""
    calls = Claims()
    broker = Broker(root, fs=FileSystem(calls))
    broker.view(QUEUE)
    barrier.wait()
    began = now()
    done: list[int] = []
    cpu = cpu_seconds(lambda: done.append(work(broker)))
    answers.put(Share(began, now(), done[0], calls.tried, cpu))


def publish_share(number: int, broker: Broker) -> int:
    """Publish a part of the messages."""
    refill(broker, number)
    return number


def consume_all(broker: Broker) -> int:
    """Consume and ack until nothing is left."""
    number = 0
    while messages := broker.consume(QUEUE):
        broker.ack(messages)
        number += 1
    return number


def side_by_side(root: Path, number: int, rounds: int) -> Table:
    """Measure 1 to 8 processes, in turns, with `number` messages."""
    filled(root, 0)
    publishing, consuming = defaultdict(list), defaultdict(list)
    for _ in range(rounds):
        for processes in PROCESSES:
            work = partial(publish_share, number // processes)
            publishing[processes].append(together(root, processes, work))
            consuming[processes].append(together(root, processes, consume_all))
    return comparison(publishing, consuming)


def comparison(
    publishing: dict[int, list[Together]], consuming: dict[int, list[Together]]
) -> Table:
    """Compare several processes with the one process of the same round."""
    table = Table(
        "Messages per second, all processes together",
        *("processes", "publish", "consume + ack", "over one", ""),
        *("renames each", "", "CPU µs each"),
    )
    for processes, done in consuming.items():
        published = statistics.median(many.rate for many in publishing[processes])
        consumed = against_one(done, consuming[1])
        table.add(str(processes), f"{published:,.0f}", *consumed)
    return table


def against_one(done: list[Together], alone: list[Together]) -> list[str]:
    """Return the cells that compare several consumers with one."""
    rate, renames, cpu = map(statistics.median, zip(*done))
    gain = statistics.median(many.rate / one.rate for many, one in zip(done, alone))
    return [
        f"{rate:,.0f}",
        f"{gain:.2f}",
        OVER_ONE.verdict(gain),
        f"{renames:.2f}",
        RENAMES.verdict(renames),
        f"{cpu * 1e6:.1f}",
    ]


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = arguments(__doc__)
    parser.add_argument(
        "--full", action="store_true", help="a backlog of a million too"
    )
    options = parser.parse_args()
    rounds, number = (3, 2_000) if options.quick else (9, 8_000)
    largest = 2 if options.quick else 4 if options.full else 3
    with scratch(options.dir) as root:
        missed = side_by_side(root / "together", number, rounds).show()
        return alone(root, BACKLOGS[:largest], rounds).show() or missed


if __name__ == "__main__":
    sys.exit(main())
