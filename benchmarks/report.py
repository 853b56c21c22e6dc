"""What `ddmq log` and `ddmq report` take to read a million lines of journals.

    python benchmarks/report.py [--quick] [--dir DIR] [--lines N] [--workers N] [--keep PAGE]

Makes a queue with the journals of 200 workers: stragglers, three kinds of failures, and dead
letters with what their commands said. Then it runs both commands, and prints the time and the
most memory of each, and how large the page is. Exits with 1 when a target is missed. That of
time is for the CPU, as a machine may do something else meanwhile; a busy one takes more of
that, too.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from support import QUEUE, Table, Target, arguments, scratch

from ddmq import Broker
from ddmq.hpc.journal import Run

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What ended a week ago is forgotten by the queue, so it ended an hour ago or some more.
BEGAN = time.time() - 12 * 3600
SLOTS, NODES = 8, 50
#: Of so many runs one fails, and one is a straggler.
FAILS, STRAGGLES = 200, 2000
SECONDS, MEBIBYTES, PAGE_MEGABYTES = Target(10), Target(300), Target(6)
#: Exit status and signal of what fails, and what it says last.
FAILURES = (
    (2, None, "bad header"),
    (None, "SIGKILL", "Out of memory: killed"),
    (1, None, "/scratch: No space left on device"),
)


class Ended(NamedTuple):
    """What a command took."""

    seconds: float
    cpu: float
    mebibytes: float


def runs_of(worker: int, number: int) -> Iterator[Run]:
    """Yield the runs of one worker, as they end."""
    chance = random.Random(worker)
    host, job = f"n{worker % NODES:03d}", f"4711_{worker}"
    free = [BEGAN + chance.uniform(0, 60) for _ in range(SLOTS)]
    for count in range(number):
        slot = min(range(SLOTS), key=free.__getitem__)
        duration = chance.lognormvariate(3, 0.5)
        id_ = f"{worker:016x}0000-{count}"
        exit_, signal, result = 0, None, "acked"
        if chance.randrange(STRAGGLES) == 0:
            duration *= 40
        if chance.randrange(FAILS) == 0 or (host == "n007" and count % 10 == 0):
            kind = 2 if host == "n007" else chance.randrange(2)
            exit_, signal, _ = FAILURES[kind]
            result = "dead"
        yield Run(
            id=id_,
            start=free[slot],
            duration=duration,
            result=result,
            exit=exit_,
            signal=signal,
            host=host,
            job=job,
            slot=slot + 1,
            peak_kib=int(chance.lognormvariate(12.5, 0.4)),
            cpu=duration * 0.9,
            log=f"/scratch/logs/{host}-{job}-{worker}/000/{id_}.{count}",
            text=f"samples/batch{worker:03d}/sample{count:06d}.txt",
            logged="err" if result == "dead" else "",
        )
        free[slot] += duration + 0.05


def made(root: Path, lines: int, workers: int) -> Path:
    """Make a queue with journals and dead letters; return the root."""
    Broker(root, create=True).create_queue(QUEUE)
    queue = root / QUEUE
    (queue / "journal").mkdir()
    (queue / "workers").mkdir()
    for worker in range(workers):
        number = lines // workers + (worker < lines % workers)
        end, acked, failed = BEGAN, 0, 0
        process = 1000 + worker
        host = f"n{worker % NODES:03d}"
        stem = f"{host}-{process}-{worker:016x}"
        with open(queue / "journal" / f"{stem}.1.jsonl", "w", encoding="utf-8") as file:
            for run in runs_of(worker, number):
                file.write(json.dumps(run._asdict()) + "\n")
                end = max(end, run.start + run.duration)
                acked += run.result == "acked"
                if run.result == "dead":
                    failed += 1
                    bury(queue, run, failed)
        name = (
            f"{worker:016x}.{int(end * 1000):013d}.ended.60.{int(BEGAN * 1000):013d}.{SLOTS}-0"
            f".{acked}-{failed}-0-0.1.1.{process}.4711_{worker}.{host}"
        )
        (queue / "workers" / name).touch()
    return root


def bury(queue: Path, run: Run, number: int) -> None:
    """Make a dead letter of what failed, as a worker does, for the first ones of a worker."""
    if number > 20:
        return
    said = next(t for e, s, t in FAILURES if (e, s) == (run.exit, run.signal))
    token = f"{number:016x}"
    name = f"999.{int(run.start * 1e9)}.{run.id}.1-0.{token}.failed"
    how = run.signal or f"exit status {run.exit}"
    note = {"reason": f"{how} on {run.host}", "exit": run.exit, "signal": run.signal}
    note.update(host=run.host, stderr=f"reading\n{run.text}\n{said}\n")
    (queue / "dead" / name).write_text(json.dumps({"message": run.text}))
    (queue / "dead" / f"{run.id}.{token}.failed.note").write_text(json.dumps(note))


def measured(*words: str) -> Ended:
    """Run `ddmq`; return what it took."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "ddmq", *words], stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"ddmq {words[0]} ended with {process.returncode}")
    took = time.perf_counter() - began
    return Ended(took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def main() -> int:
    """Make the journals, run both commands, and print what they took."""
    parser = arguments(__doc__)
    parser.add_argument("--lines", type=int, default=0)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--keep", type=Path, help="keep the page under this name")
    told = parser.parse_args()
    lines = told.lines or (100_000 if told.quick else 1_000_000)
    with scratch(told.dir) as directory:
        page = directory / "page.html"
        root = str(made(directory / "mq", lines, told.workers))
        asked = {
            "log --slowest 10": ("log", "--format", "json", "--slowest", "10"),
            "report": ("report", "-o", str(page)),
        }
        title = f"{lines:,} lines of {told.workers} workers"
        table = Table(title, "command", "seconds", "of CPU", "", "MiB at most", "")
        for name, (command, *words) in asked.items():
            took = measured(command, root, QUEUE, *words)
            table.add(
                name,
                f"{took.seconds:.1f}",
                f"{took.cpu:.1f}",
                SECONDS.verdict(took.cpu),
                f"{took.mebibytes:.0f}",
                MEBIBYTES.verdict(took.mebibytes),
            )
        missed = table.show()
        sizes = Table("The page", "charts", "MB", "")
        has_charts = util.find_spec("plotly") is not None
        megabytes = page.stat().st_size / 1e6
        sizes.add(
            "with plotly" if has_charts else "none",
            f"{megabytes:.2f}",
            PAGE_MEGABYTES.verdict(megabytes),
        )
        if told.keep:
            shutil.copyfile(page, told.keep)
        return sizes.show() | missed


if __name__ == "__main__":
    sys.exit(main())
