"""How many system calls a message needs.

    python benchmarks/calls.py [--quick] [--dir DIR]

Shows the mean per publish (durable and not), per consume + ack, and for a message's whole
life, of a client that has used the queue before. Messages are published one by one, at a
backlog of 100 and of 100,000; and in bundles of 1,000, at a backlog of 10,000 and of
1,000,000. Then it shows the calls of an idle client at each look.

The calls are counted twice: as ddmq makes them, and as the kernel sees them (by `strace`,
where it works). A listing is two calls for ddmq, and five or more for the kernel. Exits with
1 when a target is missed.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from support import (
    Table,
    Target,
    arguments,
    consume_and_ack,
    consume_and_ack_in_batches,
    filled,
    refill,
    refill_bundled,
    scratch,
)

from ddmq import Broker
from ddmq.clock import Clock
from ddmq.storage.filesystem import CountedCalls, FileSystem

if TYPE_CHECKING:
    from collections.abc import Callable

NUMBER = 1000
#: `fcntl` is not among them: a listing uses it to duplicate its descriptor.
LOCKS = ("flock",)
IDLE_EVERY = 5.0


class Operation(NamedTuple):
    """What is done to the messages, and how many calls each of them may need."""

    run: Callable[[Broker, int], None]
    target: Target | None = None


class Life(NamedTuple):
    """The operations in a message's life, and how many calls they may need together."""

    operations: tuple[str, ...]
    target: Target


class Kind(NamedTuple):
    """Messages that are published in one way: the operations, and the backlogs."""

    fill: Callable[[Broker, int], None]
    backlogs: tuple[int, ...]
    operations: tuple[str, ...]
    """Publish comes first, so that the backlog never falls below what was filled in."""
    lives: dict[str, Life]


OPERATIONS = {
    "publish": Operation(refill, Target(12)),
    "publish, durable": Operation(partial(refill, durable=True), Target(12)),
    "consume + ack": Operation(consume_and_ack, Target(20)),
    "publish 1,000": Operation(refill_bundled),
    "publish 1,000, durable": Operation(partial(refill_bundled, durable=True)),
    "consume + ack one by one": Operation(consume_and_ack),
    "consume + ack in batches": Operation(consume_and_ack_in_batches),
}
KINDS = {
    "single files": Kind(
        refill,
        (100, 100_000),
        ("publish", "publish, durable", "consume + ack"),
        {"a life": Life(("publish", "consume + ack"), Target(24))},
    ),
    "bundles": Kind(
        refill_bundled,
        (10_000, 1_000_000),
        (
            *("publish 1,000", "publish 1,000, durable"),
            *("consume + ack one by one", "consume + ack in batches"),
        ),
        {
            "a life, one by one": Life(
                ("publish 1,000", "consume + ack one by one"), Target(12)
            ),
            "a life, batches of 100": Life(
                ("publish 1,000", "consume + ack in batches"), Target(4)
            ),
        },
    ),
}


def made_by_ddmq(operation: Operation, root: Path) -> Counter[str]:
    """Count the calls that ddmq makes for `NUMBER` messages, after a first one."""
    calls = CountedCalls()
    broker = Broker(root, fs=FileSystem(calls))
    operation.run(broker, 1)
    calls.numbers.clear()
    operation.run(broker, NUMBER)
    return Counter(calls.numbers)


def seen_by_kernel(name: str, root: Path) -> Counter[str] | None:
    """Count the system calls for `NUMBER` messages, after a first one; None: no strace.

    We subtract the calls of a process that stops after the first message.
    """
    try:
        whole = traced(name, root, NUMBER)
        whole.subtract(traced(name, root, 0))
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return +whole


def traced(name: str, root: Path, number: int) -> Counter[str]:
    """Count all system calls of a process that handles 1 + `number` messages."""
    summary = root.parent / "strace"
    work = [sys.executable, __file__, "--operation", name, str(root), str(number)]
    subprocess.run(["strace", "-f", "-c", "-o", str(summary), *work], check=True)
    rows = [line.split() for line in summary.read_text().splitlines()]
    counted = [row for row in rows if len(row) > 4 and row[3].isdigit()]
    return Counter({row[-1]: int(row[3]) for row in counted if row[-1] != "total"})


def work_alone(name: str, root: str, number: str) -> int:
    """Handle 1 + `number` messages, in the process that is traced."""
    broker = Broker(root)
    OPERATIONS[name].run(broker, 1)
    OPERATIONS[name].run(broker, int(number))
    return 0


def mean(counts: Counter[str]) -> float:
    """Return the calls per message."""
    return sum(counts.values()) / NUMBER


def locks(counts: Counter[str]) -> str:
    """Tell how many locks were taken; there must be none."""
    return Target(0).verdict(sum(counts[lock] for lock in LOCKS))


def told(counts: Counter[str]) -> str:
    """Tell which calls a message needs; calls that few messages need are left out."""
    per_message = {call: number / NUMBER for call, number in counts.most_common()}
    return ", ".join(f"{n:.1f} {call}" for call, n in per_message.items() if n > 0.05)


class Counted(NamedTuple):
    """The calls of one operation, as ddmq makes them and as the kernel sees them."""

    ours: Counter[str]
    kernels: Counter[str] | None

    @classmethod
    def of(cls, name: str, root: Path) -> Counted:
        """Count the calls of an operation."""
        return cls(made_by_ddmq(OPERATIONS[name], root), seen_by_kernel(name, root))

    def plus(self, other: Counted) -> Counted:
        """Return the calls of two operations together."""
        if self.kernels is None or other.kernels is None:
            return Counted(self.ours + other.ours, None)
        return Counted(self.ours + other.ours, self.kernels + other.kernels)

    def cells(self, target: Target | None) -> list[str]:
        """Return the cells of a table."""
        found = self.kernels
        counts = self.ours if found is None else found
        return [
            f"{mean(self.ours):.2f}",
            "no strace" if found is None else f"{mean(found):.2f}",
            "" if target is None else target.verdict(mean(counts)),
            "no strace" if found is None else locks(found),
            told(counts),
        ]


def measured(root: Path, name: str, backlog: int) -> Table:
    """Count the calls of every operation at one backlog."""
    kind = KINDS[name]
    filled(root, backlog, kind.fill)
    table = Table(
        f"System calls per message at a backlog of {backlog:,} in {name}",
        *("", "ddmq's", "kernel's", "", "locks", "which"),
    )
    counted = {}
    for operation in kind.operations:
        counted[operation] = Counted.of(operation, root)
        table.add(operation, *counted[operation].cells(OPERATIONS[operation].target))
    for life, (operations, target) in kind.lives.items():
        whole = reduce(Counted.plus, (counted[operation] for operation in operations))
        table.add(life, *whole.cells(target))
    return table


class Skipping(Clock):
    """A clock that can be advanced, and goes on from there."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0.0

    def own_ns(self) -> int:
        """Return the time of day, plus what was skipped."""
        return super().own_ns() + int(self.skipped * 1e9)

    def monotonic(self) -> float:
        """Return the seconds that passed, plus those that were skipped."""
        return super().monotonic() + self.skipped


def idle(root: Path) -> Table:
    """Count the calls of an idle client in an hour, per look."""
    Broker(root, create=True).create_queue("idle")
    calls, clock = CountedCalls(), Skipping()
    broker, looks = Broker(root, clock=clock, fs=FileSystem(calls)), 720
    broker.consume("idle")
    calls.numbers.clear()
    for _ in range(looks):
        clock.skipped += IDLE_EVERY
        broker.consume("idle")
    table = Table(
        "An idle client that looks every 5 s, per look", *("", "", "", "which")
    )
    per_look = {call: number / looks for call, number in calls.numbers.items()}
    which = ", ".join(f"{number:.1f} {call}" for call, number in per_look.items())
    listings = per_look["listdir"]
    table.add("listings", f"{listings:.2f}", Target(3.1).verdict(listings), which)
    return table


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = arguments(__doc__)
    parser.add_argument("--operation", nargs=3, help="used within: NAME ROOT NUMBER")
    options = parser.parse_args()
    if options.operation:
        return work_alone(*options.operation)
    missed = 0
    with scratch(options.dir) as directory:
        for name, kind in KINDS.items():
            for backlog in kind.backlogs[:1] if options.quick else kind.backlogs:
                table = measured(directory / str(backlog), name, backlog)
                missed |= table.show()
        missed |= idle(directory / "idle").show()
    return missed


if __name__ == "__main__":
    sys.exit(main())
