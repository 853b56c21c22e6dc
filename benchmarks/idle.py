"""How many calls idle workers make: real workers, all at once.

    python benchmarks/idle.py [--quick | --full] [--dir DIR]

Starts 100 workers (1,000 with --full, which need 12 GB) on an empty queue. Once they look at
the longest intervals, it ends half of them, and the others later. At its end, each prints the
calls that it made. The difference between both halves is the cost of idling. On NFS, a listing
is a request to the server. The status of a directory mostly is not, since the client keeps it
for half a minute. Exits with 1 when a target is missed.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from statistics import mean
from typing import TYPE_CHECKING

from support import QUEUE, Table, Target, arguments, scratch

from ddmq import Broker

if TYPE_CHECKING:
    from pathlib import Path

WORKER = [sys.executable, "-m", "ddmq.hpc"]
#: Seconds after which the pauses have their full length.
BACKED_OFF = 45
#: Calls per look that reach the server, and looks per second: one in 5 s.
A_LOOK, LOOKS = 3, 1 / 5
LISTINGS = Target(A_LOOK * LOOKS * 1.05)
LISTING = "listdir"
#: Calls a second that only tell that some workers started later than others.
NOTHING = 0.005


def started(root: Path, number: int) -> list[subprocess.Popen[str]]:
    """Start workers that never end."""
    command = [*WORKER, str(root), QUEUE, "--forever", "--", "true"]
    return [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for _ in range(number)
    ]


def ended(workers: list[subprocess.Popen[str]]) -> list[dict[str, int]]:
    """Drain workers; return the calls of each, counted by kind."""
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    told = [worker.communicate()[1] for worker in workers]
    return [calls_in(text.splitlines()[-1]) for text in told]


def calls_in(line: str) -> dict[str, int]:
    """Read the calls that a worker prints at its end."""
    counted = re.findall(r"(\w+) (\d+)(?:,|$)", line.partition("calls: ")[2])
    return {kind: int(number) for kind, number in counted}


def idling(root: Path, workers: int, seconds: int) -> Table:
    """Compare the calls of workers that ended early and late."""
    Broker(root, create=True).create_queue(QUEUE)
    early, late = started(root, workers // 2), started(root, workers // 2)
    time.sleep(BACKED_OFF)
    before = ended(early)
    time.sleep(seconds)
    after = ended(late)
    table = Table(
        f"{workers:,} idle workers at once, within {seconds} s",
        *("", "calls a second each", "", "all together"),
    )
    kinds = sorted({kind for calls in after for kind in calls}, key=order)
    for kind in kinds:
        rate = rate_of(kind, before, after) / seconds
        verdict = LISTINGS.verdict(rate) if kind == LISTING else ""
        if verdict or rate > NOTHING:
            table.add(kind, f"{rate:.2f}", verdict, f"{rate * workers:,.0f}")
    return table


def order(kind: str) -> tuple[bool, str]:
    """Sort listings first."""
    return kind != LISTING, kind


def rate_of(
    kind: str, before: list[dict[str, int]], after: list[dict[str, int]]
) -> float:
    """Return how many more calls of a kind a worker makes on average that ends later."""
    early, late = ([calls.get(kind, 0) for calls in all_] for all_ in (before, after))
    return mean(late) - mean(early)


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = arguments(__doc__)
    parser.add_argument("--full", action="store_true", help="1,000 workers")
    options = parser.parse_args()
    workers = 1000 if options.full else 20 if options.quick else 100
    with scratch(options.dir) as directory:
        return idling(directory / "mq", workers, 30 if options.quick else 120).show()


if __name__ == "__main__":
    sys.exit(main())
