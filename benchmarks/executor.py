"""What a call costs that an Executor has made, all processes together.

    python benchmarks/executor.py [--quick] [--dir DIR] [--serializer cloudpickle]

Calls a function that uses the processor for 1 ms, 10,000 times, by `map` with a worker here and
two slots. Shows the CPU time of each call: of this process, of the worker and of its slots, start
and end included. Exits with 1 when a target is missed.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from typing import NamedTuple

from support import Table, Target, arguments, scratch

from ddmq import Broker
from ddmq.hpc import Executor

SLOTS = 2
TARGET_MS = Target(1.5)
TASKS = """
import time

def busy(_):
    ends = time.process_time() + 0.001
    while time.process_time() < ends:
        pass
"""


class Cost(NamedTuple):
    """CPU time in seconds: of this process, and of those that it started; and wall time."""

    here: float
    there: float
    wall: float


def _used() -> Cost:
    found = [
        resource.getrusage(who)
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    here, there = (each.ru_utime + each.ru_stime for each in found)
    return Cost(here, there, time.perf_counter())


def measured(root: str, number: int, chunksize: int, serializer: str) -> Cost:
    """Make so many calls; return what each of them cost."""
    import busy_calls

    before = _used()
    with Executor(root, slots=SLOTS, serializer=serializer) as executor:
        results = executor.map(busy_calls.busy, range(number), chunksize=chunksize)
        assert len(list(results)) == number
    spent = [after - start for after, start in zip(_used(), before)]
    return Cost(*(each / number for each in spent))


def main() -> int:
    """Measure, print, and return 1 when a target is missed."""
    parser = arguments(__doc__)
    parser.add_argument("--serializer", choices=("json", "cloudpickle"), default="json")
    options = parser.parse_args()
    number = 2000 if options.quick else 10_000
    title = f"{number:,} calls of 1 ms, {SLOTS} at once, {options.serializer}"
    table = Table(title, "chunksize", "CPU ms each", "here", "there", "calls a second")
    with scratch(options.dir) as directory:
        (directory / "busy_calls.py").write_text(TASKS)
        sys.path.insert(0, str(directory))
        os.chdir(directory)
        Broker(directory / "mq", create=True)
        for chunksize in (1, 10, 50):
            cost = measured("mq", number, chunksize, options.serializer)
            cpu = (cost.here + cost.there) * 1e3
            cells = [f"{each * 1e3:.3f}" for each in (cost.here, cost.there)]
            verdict = TARGET_MS.verdict(cpu)
            table.add(
                str(chunksize), f"{cpu:.2f} {verdict}", *cells, f"{1 / cost.wall:,.0f}"
            )
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
