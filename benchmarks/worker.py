"""What the worker adds to a command, beside xargs and GNU parallel in the same run.

    python benchmarks/worker.py [--quick] [--dir DIR]

Shows CPU time and wall time per message for `true`, eight at once; how close commands of
50 ms come to the ideal; the time of one message, cold; and the memory of a worker. Exits with
1 when a target is missed. GNU parallel is left out where it is not installed.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import time
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from support import QUEUE, Table, Target, arguments, scratch

from ddmq import Broker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OURS = "ddmq-worker"
SLOTS = 8
OVER_XARGS_MS = Target(2.0)
OVER_IDEAL = Target(1.05)
COLD_S = Target(0.3)
PSS_MB = Target(20.0)
WORKER = [sys.executable, "-m", "ddmq.hpc"]
PSS = (
    "import os, re; text = open(f'/proc/{os.getppid()}/smaps_rollup').read();"
    "print(re.search('Pss: +([0-9]+)', text)[1])"
)


class Cost(NamedTuple):
    """What one run took, in seconds."""

    cpu: float
    wall: float


def measured(command: list[str], lines: str = "") -> Cost:
    """Run a command with `lines` on standard input; return what it took."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        command, input=lines, text=True, check=True, stderr=subprocess.DEVNULL
    )
    after, wall = (
        resource.getrusage(resource.RUSAGE_CHILDREN),
        time.perf_counter() - began,
    )
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu, wall)


def worker(root: Path, *command: str, slots: int = SLOTS) -> list[str]:
    """Return the command line of a worker."""
    return [*WORKER, "-j", str(slots), str(root), QUEUE, "--", *command]


def runners(root: Path, number: int) -> dict[str, Callable[[], Cost]]:
    """Return what runs `true` for each of so many messages."""
    lines = "\n".join(map(str, range(number))) + "\n"
    broker = Broker(root)

    def by_ddmq() -> Cost:
        broker.publish_many(QUEUE, map(str, range(number)), durable=False)
        return measured(worker(root, "true"))

    found: dict[str, Callable[[], Cost]] = {
        OURS: by_ddmq,
        "xargs": lambda: measured(["xargs", f"-P{SLOTS}", "-n1", "true"], lines),
    }
    if shutil.which("parallel"):
        parallel = ["parallel", "--will-cite", f"-j{SLOTS}", "true"]
        found["GNU parallel"] = lambda: measured(parallel, lines)
    return found


def overhead(root: Path, number: int, rounds: int) -> int:
    """Print the cost for each message, all in turn; return 1 when the target is missed."""
    costs: dict[str, list[Cost]] = {}
    for _ in range(rounds):
        for name, run in runners(root, number).items():
            costs.setdefault(name, []).append(run())
    ours = median(c.cpu - x.cpu for c, x in zip(costs[OURS], costs["xargs"]))
    added = ours / number * 1e3
    title = f"`true` for each of {number:,} messages, {SLOTS} at once"
    table = Table(title, "", "CPU ms", "wall ms", "CPU over xargs")
    for name, found in costs.items():
        cpu = median(c.cpu for c in found) / number * 1e3
        wall = median(c.wall for c in found) / number * 1e3
        over = f"{added:.2f} {OVER_XARGS_MS.verdict(added)}" if name == OURS else ""
        table.add(name, f"{cpu:.2f}", f"{wall:.2f}", over)
    return table.show()


def ideal(root: Path, number: int) -> int:
    """Print how close to the ideal commands of 50 ms come."""
    Broker(root).publish_many(QUEUE, ["0.05"] * number, durable=False)
    wall = measured(worker(root, "sleep")).wall
    best = 0.05 * number / SLOTS
    ratio = wall / best
    table = Table(
        f"{number} commands, {SLOTS} at once", "", "ideal s", "wall s", "ratio", ""
    )
    cells = f"{best:.2f}", f"{wall:.2f}", f"{ratio:.2f}", OVER_IDEAL.verdict(ratio)
    table.add("sleep 0.05", *cells)
    return table.show()


def cold(root: Path, rounds: int) -> int:
    """Print how long one message takes, the start of Python included, and the memory."""
    broker, walls = Broker(root), []
    for _ in range(rounds):
        broker.publish(QUEUE, "x", durable=False)
        walls.append(measured(worker(root, "true")).wall)
    broker.publish(QUEUE, "x", durable=False)
    command = worker(root, sys.executable, "-c", PSS)
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    pss = int(re.findall("[0-9]+", out)[0]) / 1000
    wall = median(walls)
    table = Table("One worker", "", "measured", "")
    table.add("one message, cold, s", f"{wall:.2f}", COLD_S.verdict(wall))
    table.add("memory (PSS), MB", f"{pss:.1f}", PSS_MB.verdict(pss))
    return table.show()


def main() -> int:
    """Measure, print, and return 1 when a target is missed."""
    options = arguments(__doc__).parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    number, rounds = (500, 3) if options.quick else (2000, 7)
    with scratch(options.dir) as directory:
        root = directory / "mq"
        Broker(root, create=True).create_queue(QUEUE)
        missed = [overhead(root, number, rounds), ideal(root, 200), cold(root, rounds)]
    return max(missed)


if __name__ == "__main__":
    sys.exit(main())
