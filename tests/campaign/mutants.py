"""Mutation testing: the small changes of a module that no test notices.

    $ python tests/campaign/mutants.py storage/names storage/store:310  # one line
    $ python tests/campaign/mutants.py storage/bundles --seconds 30 --jobs 2 --sample 100 --seed 5
    $ python tests/campaign/mutants.py hpc/results/result     # or ddmq/hpc/*.py

Run it by hand: pytest does not collect it. First it collects the tests of `tests/unit` and
`tests/protocol` (or of `--tests`), and runs each in a child process. So it learns how long the
test takes, and which lines it runs.

Then a child process for each mutant puts the mutant's code in place, and runs the tests that
run the changed statement, until one fails. Tests in the module's own file,
`tests/unit/<folder>/test_<module>.py`, come first, and
quick tests before slow ones; the second case of a test comes later than its time would say. It
runs tests for `--seconds` at most. A test fails if it takes ten times as long as without the
change and ten seconds more, or if its process dies. Hypothesis tries 40 examples, always the
same. Tests that are marked `deep` take minutes to measure; `--deep` adds them.

It prints each survivor with its line, the original and the changed text, and for each module
the number of mutants, of those that were killed, and of those that survived.

For modules of `hpc/`, it adds the tests in `tests/hpc` and the tests of workers in
`tests/acceptance`, slow ones included. Python processes that a test starts load a copy of ddmq
that holds the mutant. Their lines are recorded too, unless they are killed or load another
ddmq.

`changes.py` says what is changed. For a constant or the default of a field, it runs the tests
that run any line of the module, and those in the module's own file. Two limits: it does not
see lines that run while tests are collected; and when the default of a function is a constant
of another module, changing that constant does not change the default.
"""

from __future__ import annotations

import argparse
import ast
import ctypes
import faulthandler
import gc
import importlib
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

import coverage
import pytest
from _pytest.runner import runtestprotocol
from changes import install, mutants

import ddmq

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator
    from types import ModuleType

    from changes import Mutant

ROOT = Path(__file__).parents[2]
TESTS = [str(ROOT / "tests/unit"), str(ROOT / "tests/protocol")]
#: The modules of workers and jobs, and what else tries them.
HPC = ("hpc/", "cli/worker", "cli/submit")
HPC_TESTS = [
    str(ROOT / "tests/hpc"),
    *map(str, sorted((ROOT / "tests/acceptance").glob("test_worker*.py"))),
]
MARKS = "not slurm and not gluster and not nfs and not campaign"
EXAMPLES = 40
#: Seconds after which a test is left out.
SLOW = 10
#: How many times as long as without a change, and how many seconds more, a test may take.
PATIENCE = 10
#: Makes each Python that a test starts record the lines that it runs.
MEASURING = "import coverage; coverage.process_startup()"
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: orphans become children of ours

_Task = TypeVar("_Task")


def in_children(
    act: Callable[[_Task, Path], Any], tasks: Iterable[_Task], jobs: int
) -> Iterator[tuple[_Task, Any]]:
    """Do each task in a child process with a directory of its own.

    Yield the task with its result, or with None if the child died.
    """
    adopt_orphans()
    running: dict[int, tuple[_Task, Path]] = {}
    for task in tasks:
        if len(running) == jobs:
            yield ended(running)
        place = Path(tempfile.mkdtemp(prefix="mutant"))
        running[os.fork() or be_child(act, task, place)] = task, place
    while running:
        yield ended(running)


def be_child(act: Callable[[_Task, Path], Any], task: _Task, place: Path) -> NoReturn:
    """Do a task silently in a process group of our own; end with all that we started."""
    try:
        os.setsid()
        adopt_orphans()
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(place)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nowhere, descriptor)
        (place / "answer").write_bytes(pickle.dumps(act(task, place)))
    finally:
        kill_children(but=())
        os._exit(0)


def ended(running: dict[int, tuple[_Task, Path]]) -> tuple[_Task, Any]:
    """Wait for a child, then end the processes that it left."""
    pid = 0
    while pid not in running:  # else it is one that a child left
        pid, _ = os.wait()
    with suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    task, place = running.pop(pid)
    kill_children(but=running)
    answer = None
    with suppress(OSError):
        answer = pickle.loads((place / "answer").read_bytes())
    shutil.rmtree(place, ignore_errors=True)
    return task, answer


def adopt_orphans() -> None:
    """Become the parent of processes whose parent dies: mutants leave some running."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def kill_children(but: Container[int]) -> None:
    """Kill our children, then those that they leave to us, until none is left."""
    while found := [pid for pid in children() if pid not in but]:
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        for pid in found:
            os.waitpid(pid, 0)


def children() -> list[int]:
    """Return our child processes."""
    found: list[int] = []
    for each in Path("/proc/self/task").glob("*/children"):
        with suppress(FileNotFoundError):  # that thread has just ended
            found += map(int, each.read_text().split())
    return found


def copy_of_ddmq(place: Path, module: ModuleType | None, text: str) -> None:
    """Let each Python that a test starts load a copy of ddmq in which one module is changed.

    Without a change, it loads ddmq itself, and the lines that run are recorded.
    """
    place.mkdir()
    package = Path(str(ddmq.__file__)).parent
    if module is None:
        (place / "ddmq").symlink_to(package)
        (place / "sitecustomize.py").write_text(MEASURING)
        (place / "coveragerc").write_text(
            f"[run]\nparallel = true\nsigterm = true\ndata_file = {place}/lines\n"
            f"include = {package}/*\npatch = _exit\n"
        )
        os.environ["COVERAGE_PROCESS_START"] = str(place / "coveragerc")
    else:
        shutil.copytree(package, place / "ddmq")
        changed = Path(str(module.__file__)).relative_to(package)
        (place / "ddmq" / changed).write_text(text, encoding="utf-8")
    os.environ["PYTHONPATH"] = str(place)
    os.chdir(place)  # python -c looks there first
    ddmq.__file__ = str(place / "ddmq" / "__init__.py")


# Tests


class Test(NamedTuple):
    """A test that passes, and the lines that it runs."""

    item: pytest.Item
    seconds: float
    lines: dict[str, set[int]]
    """The lines of each module, by its path."""

    def passes_through(self, path: str, lines: range) -> bool:
        """Tell whether the test runs one of these lines of a module."""
        return any(line in lines for line in self.lines.get(path, ()))


def passes(item: pytest.Item, within: float) -> bool:
    """Run a test; if it takes too long, the process dies."""
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(within, exit=True, file=nowhere)
        reports = runtestprotocol(item, log=False, nextitem=None)
        faulthandler.cancel_dump_traceback_later()
    return not any(report.failed for report in reports)


def measured(
    item: pytest.Item, place: Path
) -> tuple[float, dict[str, set[int]]] | None:
    """Return the seconds of a test, and the lines that it runs; None if it fails."""
    copy_of_ddmq(place / "measured", None, "")
    recorder = coverage.Coverage(None, config_file=False, include=[f"{ROOT}/ddmq/*"])
    recorder.set_option("run:disable_warnings", ["no-data-collected"])
    began = time.monotonic()
    recorder.start()
    passed = passes(item, SLOW)
    recorder.stop()
    seconds = time.monotonic() - began
    found: dict[str, set[int]] = {}
    recorded = [recorder.get_data()]
    for path in (place / "measured").glob("lines.*"):  # of processes that it started
        recorded.append(coverage.CoverageData(str(path)))
        recorded[-1].read()
    for data in recorded:
        for path in data.measured_files():
            found.setdefault(path, set()).update(data.lines(path) or ())
    return (seconds, found) if passed else None


def in_turn(tests: Iterable[Test]) -> list[Test]:
    """Sort by time; the second case of a test counts as if it took twice as long."""
    seen: Counter[str] = Counter()
    turns = []
    for test in sorted(tests, key=lambda test: test.seconds):
        name = test.item.nodeid.partition("[")[0]
        seen[name] += 1
        turns.append((seen[name] * test.seconds, test))
    return [test for _, test in sorted(turns, key=lambda turn: turn[0])]


# The campaign


class Campaign:
    """A plugin of pytest that runs the tests for each mutant, instead of once."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._tests: list[Test] = []

    def pytest_configure(self) -> None:
        """Let Hypothesis be quick, and keep no failed examples."""
        from hypothesis import settings  # pytest warns of who imports it before

        settings.register_profile(
            "mutants", settings(), max_examples=EXAMPLES, database=None
        )
        settings.load_profile("mutants")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run tests for each mutant."""
        gc.freeze()
        self._measure(session.items)
        for module, line in self._options.modules:
            if not os.path.basename(module).startswith("__"):
                self._try_all(module, line)
        return True

    def _measure(self, items: list[pytest.Item]) -> None:
        for item, found in in_children(measured, items, self._options.jobs):
            if found is None:
                say(f"left out, since it fails or is slow: {item.nodeid}")
            else:
                self._tests.append(Test(item, *found))
        self._tests = in_turn(self._tests)
        say(f"{len(self._tests)} tests, {sum(t.seconds for t in self._tests):.0f} s")

    def _try_all(self, name: str, line: int) -> None:
        module = importlib.import_module(f"ddmq.{name.replace('/', '.')}")
        drawn = self._drawn(module, line)
        survivors = 0
        killing = partial(self._survives, name, module)
        for mutant, survived in in_children(killing, drawn, self._options.jobs):
            if survived:
                survivors += 1
                say(f"ddmq/{name}.py:{mutant.line}: {mutant}")
        killed = len(drawn) - survivors
        say(f"{name}: {len(drawn)} mutants, {killed} killed, {survivors} survived")

    def _drawn(self, module: ModuleType, line: int) -> list[Mutant]:
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        found = mutants(tree)
        if line:
            return [mutant for mutant in found if mutant.line == line]
        if self._options.sample is None:
            return found
        number = min(self._options.sample, len(found))
        return random.Random(self._options.seed).sample(found, number)

    def _survives(
        self, name: str, module: ModuleType, mutant: Mutant, place: Path
    ) -> bool:
        chosen = list(self._chosen(name, str(module.__file__), mutant))
        install(mutant, module)
        if name.startswith(HPC):
            copy_of_ddmq(place / "mutant", module, ast.unparse(mutant.tree))
        return all(passes(t.item, PATIENCE * (1 + t.seconds)) for t in chosen)

    def _chosen(self, name: str, path: str, mutant: Mutant) -> Iterator[Test]:
        """Yield the tests to run, first those of the module's own file."""
        own = own_tests(name)
        left = self._options.seconds
        for test in sorted(self._tests, key=lambda test: test.item.path != own):
            is_own = test.item.path == own
            if (is_own and mutant.is_global) or test.passes_through(path, mutant.lines):
                left -= test.seconds
                if left < 0:
                    return
                yield test


def own_tests(name: str) -> Path:
    """Return the file of a module's own tests: `tests/unit` mirrors the tree."""
    folder, module = os.path.split(name)
    return ROOT / "tests" / "unit" / folder / f"test_{module}.py"


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)  # noqa: T201


def parsed() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    add = parser.add_argument
    add("modules", nargs="+", metavar="MODULE[:LINE]", type=module_and_line)
    add(
        "--seconds",
        type=float,
        default=30,
        help="of tests for each mutant; default: 30",
    )
    add("--jobs", type=int, default=os.cpu_count() or 1)
    add("--sample", type=int, help="so many mutants of each module, drawn at random")
    add("--seed", type=int, default=5)
    add("--deep", action="store_true", help="run the tests that are marked so, too")
    add("--tests", nargs="+", metavar="PATH")
    options = parser.parse_args()
    options.has_hpc = any(name.startswith(HPC) for name, _ in options.modules)
    if options.tests is None:
        options.tests = [*TESTS, *(HPC_TESTS if options.has_hpc else ())]
    return options


def module_and_line(text: str) -> tuple[str, int]:
    """Read which module, and which of its lines, to change; line 0 means the whole module."""
    module, _, line = text.partition(":")
    return module.removeprefix("ddmq/").removesuffix(".py"), int(line or 0)


def marks(options: argparse.Namespace) -> str:
    """Return the marks of the tests that take part."""
    left_out = [MARKS]
    left_out += [] if options.deep else ["not deep"]
    left_out += [] if options.has_hpc else ["not slow"]
    return " and ".join(left_out)


def main() -> int:
    """Run the campaign with the options of the command line."""
    options = parsed()
    if Path(str(ddmq.__file__)).parents[1] != ROOT:  # no test would meet a mutant
        sys.exit(f"{ddmq.__file__} is not of this checkout; set PYTHONPATH={ROOT}")
    os.environ["DDMQ_EXAMPLES"] = str(EXAMPLES)
    arguments = [f"--rootdir={ROOT}", f"-c{ROOT / 'setup.cfg'}", "-q"]
    arguments += ["-m", marks(options)]
    arguments += ["-pno:cacheprovider", "-pno:faulthandler", "--hypothesis-seed=0"]
    return pytest.main([*arguments, *options.tests], [Campaign(options)])


if __name__ == "__main__":
    sys.exit(main())
