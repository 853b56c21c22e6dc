"""How all benchmarks measure, compare and print.

They need ddmq installed. Machines are shared and noisy. So two things that we compare are
measured in turns, in one run, and we judge the median of the ratios. No time is judged alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ddmq import Broker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

QUEUE = "jobs"
TEXT = "Hello World!"
#: Messages that are consumed and acked together.
BATCH = 100
_MEMORY = Path("/dev/shm")
_IMAGE_BYTES = 1 << 30


# Arguments, and where to measure


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser for the arguments that every benchmark takes."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a short form")
    parser.add_argument(
        "--dir",
        type=Path,
        help=f"measure in a new directory below this one; by default in {_MEMORY}",
    )
    return parser


def add_pythons(parser: argparse.ArgumentParser) -> None:
    """Let a benchmark run on several Pythons, one after the other."""
    parser.add_argument(
        "--pythons", nargs="+", metavar="PYTHON", help="interpreters to measure with"
    )


def on_each(pythons: Iterable[str], options: argparse.Namespace) -> int:
    """Run this script with each interpreter; return 1 when one missed a target."""
    command = [sys.argv[0]]
    command += [f"--{form}" for form in ("quick", "full") if getattr(options, form, 0)]
    command += ["--dir", str(options.dir)] if options.dir else []
    return max(subprocess.run([python, *command]).returncode for python in pythons)


@contextmanager
def scratch(directory: Path | None) -> Iterator[Path]:
    """Yield a new directory, in memory if possible; remove it at the end."""
    if directory is None and _MEMORY.is_dir():
        directory = _MEMORY
    with tempfile.TemporaryDirectory(prefix="ddmq-benchmark-", dir=directory) as path:
        yield Path(path)


@contextmanager
def mounted(kind: str, directory: Path) -> Iterator[Path]:
    """Yield a new directory on a file system of its own, in an image file.

    Needs root. Raises Unmountable, which says why, when that is not possible.
    """
    image, point = directory / f"{kind}.image", directory / kind
    with open(image, "wb") as file:
        file.truncate(_IMAGE_BYTES)
    point.mkdir()
    _run(f"mkfs.{kind}", "-q", str(image))
    _run("mount", "-o", "loop", str(image), str(point))
    try:
        yield point / "benchmark"
    finally:
        _run("umount", "-l", str(point))  # a client may still hold directories
        image.unlink()


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise Unmountable(f"there is no {command[0]}") from error
    except subprocess.CalledProcessError as error:
        raise Unmountable(" ".join(error.stderr.split()) or str(error)) from error


class Unmountable(Exception):
    """A file system that can't be made and mounted here."""


def filled(
    root: Path, backlog: int, fill: Callable[[Broker, int], None] | None = None
) -> Broker:
    """Return a client of a new root, whose one queue holds `backlog` messages."""
    broker = Broker(root, create=True)
    broker.create_queue(QUEUE)
    (fill or refill)(broker, backlog)
    return broker


def refill(broker: Broker, number: int, *, durable: bool = False) -> None:
    """Publish `number` messages one by one, each in a file of its own."""
    for _ in range(number):
        broker.publish(QUEUE, TEXT, durable=durable)


def refill_bundled(broker: Broker, number: int, *, durable: bool = False) -> None:
    """Publish `number` messages in bundles of 1,000."""
    broker.publish_many(QUEUE, repeat(TEXT, number), durable=durable)


def consume_and_ack(broker: Broker, number: int) -> None:
    """Consume and ack `number` messages, one at a time."""
    for _ in range(number):
        broker.ack(broker.consume(QUEUE)[0])


def consume_and_ack_in_batches(broker: Broker, number: int) -> None:
    """Consume and ack `number` messages, 100 at a time."""
    for done in range(0, number, BATCH):
        messages = broker.consume(QUEUE, min(BATCH, number - done))
        if not messages:
            raise RuntimeError(f"only {done} messages were there")
        broker.ack(messages)


# How long it takes


def now() -> float:
    """Return the seconds of a clock that all processes share."""
    return time.perf_counter()


def cpu_seconds(run: Callable[[], object]) -> float:
    """Return the CPU time of a call, including that of the kernel."""
    began = time.process_time()
    run()
    return time.process_time() - began


def wall_seconds(run: Callable[[], object]) -> float:
    """Return how long a call took."""
    began = now()
    run()
    return now() - began


class Cost(NamedTuple):
    """CPU time and wall time of something, in seconds."""

    cpu: float
    """CPU time, that of the kernel included."""
    wall: float

    @classmethod
    def of(cls, run: Callable[[], object]) -> Cost:
        """Measure a call."""
        cpu, wall = time.process_time(), now()
        run()
        return cls(time.process_time() - cpu, now() - wall)


def in_child(run: Callable[[], float]) -> float:
    """Return what a forked process measures, which has nothing but its imports."""
    receiver, sender = os.pipe()
    if os.fork() == 0:
        try:
            os.write(sender, repr(run()).encode())
        finally:
            os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as answer:
        measured = float(answer.read())
    os.wait()
    return measured


class Comparison(NamedTuple):
    """Two things measured in turns: their medians in seconds, the quartiles of their ratios."""

    first: float
    second: float
    low: float
    ratio: float
    """The median of second / first."""
    high: float

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, float]]) -> Comparison:
        """Compare pairs that were measured one right after the other."""
        firsts, seconds = zip(*pairs)
        ratios = [second / first for first, second in pairs]
        low, ratio, high = statistics.quantiles(ratios, n=4)
        return cls(
            statistics.median(firsts), statistics.median(seconds), low, ratio, high
        )

    def cells(self, unit: float) -> list[str]:
        """Return the cells of a table, with times divided by `unit`."""
        return [
            f"{self.first / unit:.1f}",
            f"{self.second / unit:.1f}",
            f"{self.ratio:.2f} ({self.low:.2f} to {self.high:.2f})",
        ]


# What is printed


class Target(NamedTuple):
    """The limit that a measured number must not exceed, or must reach."""

    limit: float
    sense: str = "≤"

    def verdict(self, value: float) -> str:
        """Return the target in words, and whether it is met."""
        met = value <= self.limit if self.sense == "≤" else value >= self.limit
        return f"{self.sense} {self.limit:g}: {'met' if met else 'MISSED'}"


class Table:
    """A table in Markdown; the first column is aligned left, the others right."""

    def __init__(self, title: str, *header: str) -> None:
        self._title = title
        self._rows: list[Sequence[str]] = [header]

    def add(self, *cells: str) -> None:
        """Add a row."""
        self._rows.append(cells)

    def show(self) -> int:
        """Print the table; return 1 when a target is missed, else 0."""
        widths = [max(map(len, column)) for column in zip(*self._rows)]
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        print(f"{self._title} (Python {platform.python_version()})\n")
        for row in (self._rows[0], rule, *self._rows[1:]):
            first, *others = (f"{c:>{w}}" for c, w in zip(row, widths))
            print(f"| {' | '.join([first.strip().ljust(widths[0]), *others])} |")
        print(flush=True)
        return int(any("MISSED" in cell for row in self._rows for cell in row))
