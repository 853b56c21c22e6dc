"""The cost of a message, beside the bare system calls, and at a large backlog.

    python benchmarks/core.py [--quick | --full] [--dir DIR] [--pythons PYTHON ...]

Measures CPU time, one message at a time, not durable. First: publish, and consume + ack,
against the same system calls without ddmq. Then: consume + ack at a backlog of 100,000 (a
million with --full) against a backlog of 1,000, in a process that runs on, and in one that
has just started. Exits with 1 when a target is missed.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from support import (
    QUEUE,
    TEXT,
    Comparison,
    Table,
    Target,
    add_pythons,
    arguments,
    consume_and_ack,
    cpu_seconds,
    filled,
    in_child,
    on_each,
    refill,
    scratch,
)

from ddmq import Broker
from ddmq.message import encode

if TYPE_CHECKING:
    from pathlib import Path

OVER_BARE = Target(2.5)
OVER_SMALL = Target(1.3)
BATCH = 200
SMALL, LARGE, LARGEST = 1_000, 100_000, 1_000_000
MICRO = 1e-6


class Bare:
    """The system calls alone, on paths and names as long as those of a queue."""

    def __init__(self, queue: Path, number: int) -> None:
        bucket = "ready/999/1700000000000000000"
        for directory in ("tmp", bucket, "work"):
            (queue / directory).mkdir(parents=True)
        ids = [f"{index:020x}" for index in range(number)]
        names = [f"1700000000000000000.{id_}.0-0" for id_ in ids]
        self._data = encode(TEXT, 999)
        self._drafts = [f"{queue}/tmp/{id_}" for id_ in ids]
        self._ready = [f"{queue}/{bucket}/{name}" for name in names]
        self._work = [
            f"{queue}/work/1700000000000.999.{name}.{'0' * 16}" for name in names
        ]

    def publish(self) -> None:
        """Create, write, close, rename."""
        for draft, ready in zip(self._drafts, self._ready):
            file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
            os.write(file, self._data)
            os.close(file)
            os.rename(draft, ready)

    def consume_and_ack(self) -> None:
        """Rename, open, read, close, unlink."""
        for ready, work in zip(self._ready, self._work):
            os.rename(ready, work)
            file = os.open(work, os.O_RDONLY | os.O_CLOEXEC)
            os.read(file, 1 << 16)
            os.close(file)
            os.unlink(work)


def against_bare(root: Path, rounds: int) -> Table:
    """Compare ddmq with the system calls that it needs at least."""
    bare, broker = Bare(root / "bare" / QUEUE, BATCH), filled(root / "ddmq", BATCH)
    consume_and_ack(broker, BATCH)
    pairs: dict[str, list[tuple[float, float]]] = {"publish": [], "consume + ack": []}
    for _ in range(rounds):
        pairs["publish"].append(
            (cpu_seconds(bare.publish), cpu_seconds(partial(refill, broker, BATCH)))
        )
        taken = cpu_seconds(bare.consume_and_ack)
        pairs["consume + ack"].append(
            (taken, cpu_seconds(partial(consume_and_ack, broker, BATCH)))
        )
    table = Table("Over the bare system calls", "", "bare µs", "ddmq µs", "ratio", "")
    for what, measured in pairs.items():
        found = Comparison.of(measured)
        table.add(what, *found.cells(BATCH * MICRO), OVER_BARE.verdict(found.ratio))
    return table


def running_on(broker: Broker) -> float:
    """Measure consume + ack of a client that has used the queue before."""
    refill(broker, BATCH)
    return cpu_seconds(partial(consume_and_ack, broker, BATCH)) / BATCH


def starting_fresh(broker: Broker) -> float:
    """Measure the first message of a process that has only imported ddmq."""
    refill(broker, 1)
    return in_child(
        lambda: cpu_seconds(lambda: consume_and_ack(Broker(broker.root), 1))
    )


def against_small_backlog(root: Path, large: int, rounds: int) -> Table:
    """Compare consume + ack at two backlogs."""
    brokers = filled(root / "small", SMALL), filled(root / "large", large)
    table = Table(
        f"consume + ack at a backlog of {SMALL:,} and {large:,}",
        "a process that",
        f"{SMALL:,} µs",
        f"{large:,} µs",
        "ratio",
        "",
    )
    for what, measure in (("runs on", running_on), ("starts fresh", starting_fresh)):
        pairs = [(measure(brokers[0]), measure(brokers[1])) for _ in range(rounds)]
        found = Comparison.of(pairs)
        table.add(what, *found.cells(MICRO), OVER_SMALL.verdict(found.ratio))
    return table


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = arguments(__doc__)
    add_pythons(parser)
    parser.add_argument("--full", action="store_true", help="a backlog of a million")
    options = parser.parse_args()
    if options.pythons:
        return on_each(options.pythons, options)
    rounds, large = (15, LARGE // 5) if options.quick else (60, LARGE)
    large = LARGEST if options.full else large
    with scratch(options.dir) as root:
        missed = against_bare(root, rounds).show()
        return against_small_backlog(root, large, rounds).show() or missed


if __name__ == "__main__":
    sys.exit(main())
