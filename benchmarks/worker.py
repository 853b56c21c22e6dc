"""The overhead of the worker, beside xargs, GNU parallel, jug and HyperQueue in the same run.

    python benchmarks/worker.py [--quick] [--dir DIR]
    python benchmarks/worker.py --many [--quick] [--dir DIR] [--hyperqueue PYTHON]

Shows CPU time and wall time per message for `true`, eight at once; how close commands of
50 ms come to the ideal; the time of one message, the start of the worker included; and the
worker's memory. With `--many`, what `--persistent` and `--batch` make of many short messages.
Exits with 1 when a target is missed. A peer that is not installed is left out, and the output
says so. To have jug, `pip install jug` beside ddmq. HyperQueue gets a Python of its own, in
which `pip install hyperqueue` was done.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from support import QUEUE, Table, Target, arguments, scratch

from ddmq import Broker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OURS = "ddmq-worker"
SLOTS = 8
OVER_XARGS_MS = Target(2.0)
AHEAD = Target(1.0)
OVER_IDEAL = Target(1.05)
COLD_S = Target(0.3)
PSS_MB = Target(20.0)
PERSISTENT_MS = Target(0.5)
#: What a command gets at once where it gets several.
AT_ONCE = "100"
#: A command that stays, and does nothing.
SERVING = "from ddmq.hpc import serve; serve(lambda message: None)"
#: As HyperQueue's documentation says: a job with a task for each message, none of which prints.
HYPERQUEUE = """\
import sys
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig

number, slots, directory = sys.argv[1:]
with LocalCluster(directory) as cluster:
    cluster.start_worker(WorkerConfig(cores=int(slots)))
    job = Job()
    for each in range(int(number)):
        job.program(["true", str(each)], stdout=None, stderr=None)
    client = cluster.client()
    client.wait_for_jobs([client.submit(job)])
"""
WORKER = [sys.executable, "-m", "ddmq.hpc"]
PSS = (
    "import os, re; text = open(f'/proc/{os.getppid()}/smaps_rollup').read();"
    "print(re.search('Pss: +([0-9]+)', text)[1])"
)
#: As jug's documentation says: a task for each message, a process for each that runs at once.
JUGFILE = """\
import subprocess
from jug import TaskGenerator

@TaskGenerator
def run(number):
    subprocess.run(["true", str(number)], check=True)

for number in range({number}):
    run(number)
"""
JUG_AT_ONCE = """\
for process in $(seq "$1"); do
    "$2" execute --will-cite --nr-wait-cycles 1 --wait-cycle-time 0 \\
        --jugdir "$3/results" "$3/jugfile.py" >"$3/out.$process" &
done
wait
"""


class Cost(NamedTuple):
    """CPU time and wall time of one run, in seconds."""

    cpu: float
    wall: float


def measured(command: list[str], lines: str = "") -> Cost:
    """Run a command with `lines` on standard input; return its cost."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        command,
        input=lines,
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
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


def peers(number: int, directory: Path) -> dict[str, Callable[[], Cost]]:
    """Return, for each peer, what runs `true` so many times."""
    lines = "\n".join(map(str, range(number))) + "\n"
    jug = Path(sys.executable).with_name("jug")
    found = {"xargs": lambda: measured(["xargs", f"-P{SLOTS}", "-n1", "true"], lines)}
    if shutil.which("parallel"):
        parallel = ["parallel", "--will-cite", f"-j{SLOTS}", "true"]
        found["GNU parallel"] = lambda: measured(parallel, lines)
    else:
        print("GNU parallel is left out: there is no `parallel` on PATH\n")
    if jug.exists():
        found["jug"] = lambda: by_jug(str(jug), number, directory / "jug")
    else:
        print(f"jug is left out: there is no {jug}\n")
    return found


def by_jug(jug: str, number: int, directory: Path) -> Cost:
    """Let jug start afresh, with all tasks to be done."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    (directory / "jugfile.py").write_text(JUGFILE.format(number=number))
    command = ["sh", "-c", JUG_AT_ONCE, "sh", str(SLOTS), jug, str(directory)]
    cost = measured(command)
    if len(list((directory / "results").glob("??/*"))) != number:
        raise SystemExit(f"jug did not run all of it: see {directory}/out.1")
    return cost


def overhead(root: Path, number: int, rounds: int) -> int:
    """Print the cost per message of all, in turns; return 1 when a target is missed."""
    broker, others = Broker(root), peers(number, root.parent)
    costs: dict[str, list[Cost]] = {name: [] for name in (OURS, *others)}
    for _ in range(rounds):
        broker.publish_many(QUEUE, map(str, range(number)), durable=False)
        costs[OURS].append(measured(worker(root, "true")))
        for name, run in others.items():
            costs[name].append(run())
    title = f"`true` for each of {number:,} messages, {SLOTS} at once"
    table = Table(
        title, "", "CPU ms", "wall ms", "our CPU over it, ms", "our wall against it"
    )
    for name, found in costs.items():
        cpu = median(c.cpu for c in found) / number * 1e3
        wall = median(c.wall for c in found) / number * 1e3
        compared = ["", ""] if name == OURS else against(name, costs, number)
        table.add(name, f"{cpu:.2f}", f"{wall:.2f}", *compared)
    return table.show()


def against(name: str, costs: dict[str, list[Cost]], number: int) -> list[str]:
    """Return the cells that compare the worker with a peer; only xargs is hard to beat."""
    pairs = list(zip(costs[OURS], costs[name]))
    over = median(ours.cpu - other.cpu for ours, other in pairs) / number * 1e3
    ratio = median(ours.wall / other.wall for ours, other in pairs)
    if name == "xargs":
        return [f"{over:.2f} {OVER_XARGS_MS.verdict(over)}", f"{ratio:.2f}"]
    return [f"{over:.2f}", f"{ratio:.2f} {AHEAD.verdict(ratio)}"]


def ideal(root: Path, number: int, rounds: int) -> int:
    """Print how close to the ideal commands of 50 ms come, in turns with xargs.

    A worker on an empty queue shows how much of the time is its own start and end.
    """
    broker, best = Broker(root), 0.05 * number / SLOTS
    xargs = ["xargs", f"-P{SLOTS}", "-n1", "sleep"]
    ours, theirs, empty = [], [], []
    for _ in range(rounds):
        broker.publish_many(QUEUE, ["0.05"] * number, durable=False)
        ours.append(measured(worker(root, "sleep")).wall / best)
        theirs.append(measured(xargs, "0.05\n" * number).wall / best)
        empty.append(measured(worker(root, "sleep")).wall / best)
    title = f"`sleep 0.05`, {number} times, {SLOTS} at once: ideal is {best:.2f} s"
    table = Table(title, "", "against the ideal", "")
    table.add(OURS, f"{median(ours):.3f}", OVER_IDEAL.verdict(median(ours)))
    table.add("xargs", f"{median(theirs):.3f}", "")
    table.add("our start and end alone", f"{median(empty):.3f}", "")
    return table.show()


def many(root: Path, number: int, hyperqueue: str | None) -> int:
    """Print what a message costs where commands are short; return 1 when the target is missed."""
    costs = {
        "--persistent, Python": by_worker(
            root, number, "--persistent", command=[sys.executable, "-c", SERVING]
        ),
        f"--batch {AT_ONCE}, true": by_worker(root, number, "--batch", AT_ONCE),
        "true": by_worker(root, number),
    }
    costs = {f"{OURS} {name}": cost for name, cost in costs.items()}
    costs.update(short_by_peers(root.parent, number, hyperqueue))
    table = Table(
        f"{number:,} messages for commands that do nothing, {SLOTS} at once",
        "",
        "CPU ms each",
        "messages a second",
        "CPU against --persistent",
        "time against --persistent",
    )
    first = next(iter(costs.values()))
    for name, cost in costs.items():
        verdict = f" {PERSISTENT_MS.verdict(cost.cpu * 1e3)}" if cost is first else ""
        table.add(
            name,
            f"{cost.cpu * 1e3:.3f}{verdict}",
            f"{1 / cost.wall:,.0f}",
            f"{cost.cpu / first.cpu:.2f}",
            f"{cost.wall / first.wall:.2f}",
        )
    return table.show()


def by_worker(
    root: Path, number: int, *options: str, command: Sequence[str] = ("true",)
) -> Cost:
    """Return what a message costs our worker; they were published before."""
    Broker(root).publish_many(QUEUE, map(str, range(number)), durable=False)
    slots = ["-j", str(SLOTS)]
    return each(
        number, measured([*WORKER, *slots, *options, str(root), QUEUE, "--", *command])
    )


def short_by_peers(
    directory: Path, number: int, hyperqueue: str | None
) -> dict[str, Cost]:
    """Return what a message costs each peer that is here."""
    lines = "\n".join(map(str, range(number))) + "\n"
    commands = {
        "xargs -n 1, true": ["xargs", f"-P{SLOTS}", "-n1", "true"],
        f"xargs -n {AT_ONCE}, true": ["xargs", f"-P{SLOTS}", "-n", AT_ONCE, "true"],
    }
    if shutil.which("parallel"):
        parallel = ["parallel", "--will-cite", f"-j{SLOTS}"]
        commands["GNU parallel, true"] = [*parallel, "true"]
        commands[f"GNU parallel -n {AT_ONCE}, true"] = [
            *parallel,
            "-n",
            AT_ONCE,
            "true",
        ]
    else:
        print("GNU parallel is left out: there is no `parallel` on PATH\n")
    costs = {n: each(number, measured(words, lines)) for n, words in commands.items()}
    few = number // 50
    words = ["xargs", f"-P{SLOTS}", "-n1", sys.executable, "-c", "pass"]
    some = "".join(lines.splitlines(keepends=True)[:few])
    costs[f"xargs -n 1, Python ({few} of them)"] = each(few, measured(words, some))
    if hyperqueue is None:
        print("HyperQueue is left out: say --hyperqueue PYTHON\n")
    else:
        place = directory / "hyperqueue"
        place.mkdir()
        words = [hyperqueue, "-c", HYPERQUEUE, str(number), str(SLOTS), str(place)]
        costs["HyperQueue, true"] = each(number, measured(words))
    return costs


def each(number: int, cost: Cost) -> Cost:
    """Return the part of one message in the cost of many."""
    return Cost(cost.cpu / number, cost.wall / number)


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
    parser = arguments(__doc__)
    parser.add_argument(
        "--many", action="store_true", help="only many messages for short commands"
    )
    parser.add_argument(
        "--hyperqueue", metavar="PYTHON", help="a Python that has hyperqueue"
    )
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    number, rounds = (500, 3) if options.quick else (2000, 7)
    with scratch(options.dir) as directory:
        root = directory / "mq"
        Broker(root, create=True).create_queue(QUEUE)
        if options.many:
            few = 1000 if options.quick else 10_000
            return many(root, few, options.hyperqueue)
        missed = [
            overhead(root, number, rounds),
            ideal(root, 200, rounds),
            cold(root, rounds),
        ]
    return max(missed)


if __name__ == "__main__":
    sys.exit(main())
