"""The cost of messages that are published in bundles.

    python benchmarks/bundles.py [--quick] [--dir DIR]

Measures four things:

- a million lines that `ddmq publish --from-file` publishes, and that are then viewed, and
  consumed in batches of 100;
- messages consumed one by one, from bundles and from single files; as root also on ext4 and
  xfs, each in an image file;
- several consumers at once, and how many claims they try;
- how many messages it takes until a bundle costs less than single files.

In memory, durable messages cost next to nothing more than others: give a directory on real
storage to see their price. Exits with 1 when a target is missed.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from rates import PROCESSES, Together, forked, together
from support import (
    BATCH,
    QUEUE,
    Comparison,
    Cost,
    Table,
    Target,
    Unmountable,
    arguments,
    consume_and_ack,
    consume_and_ack_in_batches,
    filled,
    mounted,
    now,
    refill,
    refill_bundled,
    scratch,
)

from ddmq import Broker
from ddmq.storage import bundle_file
from ddmq.storage.filesystem import CountedCalls, FileSystem
from ddmq.storage.layout import DIRECTORIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

MILLION = 1_000_000
LINE_BYTES = 100
MICRO = 1e-6
PUBLISH_S = {"not durable": 6.0, "durable": 8.0}
"""Seconds that a million lines may take."""
PUBLISH_RATE = Target(100_000, "≥")
FILES = 2_500
"""Files that a million lines may be."""
RESIDENT_MB = Target(100)
BATCH_RATE = Target(30_000, "≥")
NO_SLOWER = Target(1)
VIEW_S = Target(0.3)
OVER_ONE = Target(1, "≥")
TRIES = Target(1.5)
KINDS = {"single files": refill, "bundles": refill_bundled}
FEW = 2, 4, 6, 8, 10, 20, 50, 200, 1000
RACING = 4


# A million lines, by the commands as typed


class Command(NamedTuple):
    """The cost of one run of a command."""

    wall: float
    cpu: float
    resident: float
    """The most memory that it had, in bytes."""

    @classmethod
    def of(cls, *words: object) -> Command:
        """Run `ddmq` with these words."""
        command = [installed(), *map(str, words)]
        began = now()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        wall = now() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        return cls(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def installed() -> str:
    """Return the command that pip installed for this Python."""
    beside = os.path.join(os.path.dirname(sys.executable), "ddmq")
    return beside if os.path.exists(beside) else shutil.which("ddmq") or "ddmq"


def write_lines(path: Path, number: int) -> Path:
    """Write a file of so many lines, each of 100 bytes and a newline."""
    with open(path, "w") as file:
        file.writelines(f"{i:0{LINE_BYTES}d}\n" for i in range(number))
    return path


def number_of_files(root: Path) -> int:
    """Count the files in a queue that hold its messages."""
    states = [root / QUEUE / state for state in DIRECTORIES]
    return sum(len(names) for state in states for _, _, names in os.walk(state))


def publishing(root: Path, number: int, rounds: int) -> Table:
    """Publish the lines of a file, durable and not, in turns; keep the last queue of each."""
    lines = write_lines(root / "lines", number)
    runs = defaultdict(list)
    for _ in range(rounds):
        for how in PUBLISH_S:
            shutil.rmtree(root / how, ignore_errors=True)
            filled(root / how, 0)
            flag = "--durable" if how == "durable" else "--no-durable"
            words = "publish", root / how, QUEUE, "--from-file", lines, flag
            runs[how].append(Command.of(*words))
    table = Table(
        f"ddmq publish --from-file, {number:,} lines of {LINE_BYTES} bytes",
        *("", "s", "", "CPU s", "messages/s", ""),
        *("files", "", "resident MB", ""),
    )
    for how, found in runs.items():
        table.add(how, *published(how, found, number, number_of_files(root / how)))
    return table


def published(how: str, runs: list[Command], number: int, files: int) -> list[str]:
    """Return the cells that tell how long publishing took, and how many files it made."""
    wall, cpu, resident = map(statistics.median, zip(*runs))
    share, megabytes = number / MILLION, resident / 1e6
    return [
        *(f"{wall:.2f}", Target(PUBLISH_S[how] * share).verdict(wall), f"{cpu:.2f}"),
        *(f"{number / wall:,.0f}", PUBLISH_RATE.verdict(number / wall)),
        *(f"{files:,}", Target(FILES * share).verdict(files)),
        *(f"{megabytes:.0f}", RESIDENT_MB.verdict(megabytes)),
    ]


def viewing(root: Path, number: int, rounds: int) -> Table:
    """Count the messages of a queue."""
    runs = [Command.of("view", root / "durable") for _ in range(rounds)]
    wall, cpu, _ = map(statistics.median, zip(*runs))
    table = Table(f"ddmq view, {number:,} messages", "", "s", "", "CPU s")
    table.add("bundles", f"{wall:.3f}", VIEW_S.verdict(wall), f"{cpu:.3f}")
    return table


def consuming(root: Path, number: int) -> Table:
    """Consume and ack all messages in batches, in one process."""
    broker = Broker(root / "durable")
    at_once = number // 100
    take = partial(consume_and_ack_in_batches, broker, at_once)
    costs = [Cost.of(take) for _ in range(100)]
    cpu, wall = map(statistics.median, zip(*costs))
    whole = sum(cost.wall for cost in costs)
    broker.clean(QUEUE)
    table = Table(
        f"consume + ack of {number:,} in batches of {BATCH}, one process",
        *("", "messages/s", "", "median of parts", "CPU µs each", "files left"),
    )
    table.add(
        *("bundles", f"{number / whole:,.0f}", BATCH_RATE.verdict(number / whole)),
        *(f"{at_once / wall:,.0f}", f"{cpu / at_once * 1e6:.1f}"),
        str(number_of_files(root / "durable")),
    )
    return table


# One by one, beside single files


def places(directory: Path) -> Iterator[tuple[str, Path]]:
    """Yield the file systems to measure on; say which ones we can't mount."""
    yield "as given", directory
    for kind in ("ext4", "xfs"):
        try:
            with mounted(kind, directory) as path:
                yield f"{kind}, image", path
        except Unmountable as error:
            print(f"{kind} is skipped: {error}\n")


def one_by_one(directory: Path, rounds: int) -> Table:
    """Compare consume + ack from single files and from bundles."""
    table = Table(
        "consume + ack one by one",
        *("file system", "", "single µs", "bundle µs", "bundle / single", ""),
    )
    for name, path in places(directory):
        brokers = {kind: filled(path / kind, 0) for kind in KINDS}
        pairs = [taken_in_turns(brokers, number) for number in range(rounds)]
        for what in Cost._fields:
            found = Comparison.of(
                [(getattr(a, what), getattr(b, what)) for a, b in pairs]
            )
            cells = found.cells(bundle_file.BUNDLE_SIZE * MICRO)
            table.add(name, what, *cells, NO_SLOWER.verdict(found.ratio))
    return table


def taken_in_turns(brokers: dict[str, Broker], number: int) -> tuple[Cost, Cost]:
    """Measure a thousand of each kind; change the order each time."""
    size, costs = bundle_file.BUNDLE_SIZE, {}
    for kind in sorted(brokers, reverse=bool(number % 2)):
        KINDS[kind](brokers[kind], size)
        costs[kind] = Cost.of(partial(consume_and_ack, brokers[kind], size))
    return costs["single files"], costs["bundles"]


# Several consumers


def consume_all(batch: int, broker: Broker) -> int:
    """Consume and ack until nothing is left."""
    number = 0
    while messages := broker.consume(QUEUE, batch):
        broker.ack(messages)
        number += len(messages)
    return number


def side_by_side(root: Path, batch: int, number: int, rounds: int) -> Table:
    """Let 1 to 8 processes consume from bundles; measure each number in turn."""
    broker = filled(root, 0)
    runs: dict[int, list[Together]] = defaultdict(list)
    for _ in range(rounds):
        for processes in PROCESSES:
            refill_bundled(broker, number)
            work = partial(consume_all, batch)
            runs[processes].append(together(root, processes, work))
    table = Table(
        f"consume + ack from bundles, {batch} at a time, all processes together",
        *("processes", "messages/s", "over one", "", "CPU µs each", "CPU over one"),
        *("claims tried per claim made", ""),
    )
    for processes, done in runs.items():
        table.add(str(processes), *against_one(done, runs[1], batch))
    return table


def against_one(done: list[Together], alone: list[Together], batch: int) -> list[str]:
    """Return the cells that compare several consumers with one."""
    rate, renames, cpu = map(statistics.median, zip(*done))
    gain = statistics.median(many.rate / one.rate for many, one in zip(done, alone))
    dearer = statistics.median(many.cpu / one.cpu for many, one in zip(done, alone))
    tries = renames * batch
    return [
        *(f"{rate:,.0f}", f"{gain:.2f}", OVER_ONE.verdict(gain)),
        *(f"{cpu * 1e6:.1f}", f"{dearer:.2f}"),
        *(f"{tries:.2f}", TRIES.verdict(tries)),
    ]


# How many messages cost less as single files


class Times(NamedTuple):
    """What publishing, consuming and acking a message takes."""

    calls: float
    cpu: float
    wall: float


class Counted:
    """A client whose calls are counted."""

    def __init__(self, root: Path) -> None:
        self._calls = CountedCalls()
        self.broker = Broker(root, fs=FileSystem(self._calls))
        self.broker.view(QUEUE)

    def spent(self, run: Callable[[Broker], object]) -> Times:
        """Measure what `run` does with this client."""
        self._calls.numbers.clear()
        cost = Cost.of(partial(run, self.broker))
        return Times(sum(self._calls.numbers.values()), *cost)


def publish_as(bundled: int, number: int, broker: Broker) -> None:
    """Publish any number of messages together: as one bundle, or as single files."""
    kept = bundle_file.BUNDLE_FROM
    bundle_file.BUNDLE_FROM = 2 if bundled else sys.maxsize
    try:
        refill_bundled(broker, number)
    finally:
        bundle_file.BUNDLE_FROM = kept


def publish_and_take(bundled: int, number: int, broker: Broker) -> None:
    """Publish a few messages together; consume and ack them one by one."""
    publish_as(bundled, number, broker)
    consume_and_ack(broker, number)


def by_one(root: Path, number: int, turns: int) -> list[Times]:
    """Measure one client that publishes and consumes: single files, a bundle, and so on."""
    client = Counted(root)
    return [
        client.spent(partial(publish_and_take, turn % 2, number))
        for turn in range(turns)
    ]


def by_several(root: Path, number: int, turns: int) -> list[Times]:
    """Measure several consumers that wait for the same few messages."""
    barrier, answers = forked.Barrier(RACING + 1), forked.SimpleQueue()
    racers = [
        forked.Process(target=race, args=(root, turns, barrier, answers))
        for _ in range(RACING)
    ]
    for racer in racers:
        racer.start()
    published = publish_in_turns(root, number, turns, barrier)
    raced = zip(*(answers.get() for _ in racers))
    for racer in racers:
        racer.join()
    return [added(first, others) for first, others in zip(published, raced)]


def publish_in_turns(root: Path, number: int, turns: int, barrier: Any) -> list[Times]:
    """Publish again whenever all consumers have finished."""
    client, published = Counted(root), []
    for turn in range(turns):
        published.append(client.spent(partial(publish_as, turn % 2, number)))
        barrier.wait()
        barrier.wait()
    return published


def race(root: Path, turns: int, barrier: Any, answers: Any) -> None:
    """Consume as one of several processes, whenever something is published."""
    client, spent = Counted(root), []
    for _ in range(turns):
        barrier.wait()
        spent.append(client.spent(partial(consume_all, 1)))
        barrier.wait()
    answers.put(spent)


def added(published: Times, raced: Iterable[Times]) -> Times:
    """Add the times of a publisher and of the consumers that followed it side by side."""
    calls, cpu, wall = zip(*raced)
    return Times(
        published.calls + sum(calls),
        published.cpu + sum(cpu),
        published.wall + max(wall),
    )


def how_few(
    root: Path,
    consumers: str,
    measure: Callable[[Path, int, int], list[Times]],
    rounds: int,
) -> Table:
    """Compare a few messages in single files with as many in one bundle."""
    table = Table(
        f"A few messages published together, then consumed and acked by {consumers}; "
        f"a bundle from {bundle_file.BUNDLE_FROM} on",
        *("messages", "single calls", "bundle calls", "single µs", "bundle µs"),
        *("CPU, bundle / single", "wall, bundle / single"),
    )
    filled(root, 0)
    for number in FEW:
        turns = 2 * max(rounds, 10 * rounds // number)
        spent = measure(root, number, turns + 2)[2:]  # the first ones learn the queue
        table.add(str(number), *compared(spent[::2], spent[1::2], number))
    return table


def compared(singles: list[Times], bundles: list[Times], number: int) -> list[str]:
    """Return the cells that compare both, per message."""
    calls = [
        statistics.mean(spent.calls for spent in all_) / number
        for all_ in (singles, bundles)
    ]
    pairs = list(zip(singles, bundles))
    cpu = Comparison.of([(single.cpu, bundle.cpu) for single, bundle in pairs])
    wall = Comparison.of([(single.wall, bundle.wall) for single, bundle in pairs])
    return [
        *(f"{n:.1f}" for n in calls),
        *cpu.cells(number * MICRO),
        wall.cells(1)[-1],
    ]


def tables(directory: Path, *, quick: bool) -> Iterator[Table]:
    """Measure one thing after the other."""
    number, rounds = (100_000, 1) if quick else (MILLION, 3)
    yield publishing(directory, number, rounds)
    yield viewing(directory, number, 3 * rounds)
    yield consuming(directory, number)
    yield one_by_one(directory, 5 if quick else 25)
    for batch in (1, 16):
        root, size = directory / f"by {batch}", 8_000 if quick else 32_000
        yield side_by_side(root, batch, size, rounds + 2)
    rounds = 10 if quick else 50
    yield how_few(directory / "one", "one consumer", by_one, rounds)
    name = f"{RACING} consumers that race"
    yield how_few(directory / "several", name, by_several, rounds)


def main() -> int:
    """Measure, print, and return the exit status."""
    options = arguments(__doc__).parse_args()
    with scratch(options.dir) as directory:
        return max(table.show() for table in tables(directory, quick=options.quick))


if __name__ == "__main__":
    sys.exit(main())
