"""Mutation testing: which small changes of a module does no test notice?

    $ python tests/campaign/mutants.py names store:310        # a module, or one line of it
    $ python tests/campaign/mutants.py bundles --seconds 30 --jobs 2 --sample 100 --seed 5

Run by hand: pytest does not collect it. It collects the tests of `tests/unit` and
`tests/protocol` (or of `--tests`) once, and runs each in a child to learn its seconds and
the lines it passes through. Then, for each mutant, a child puts its code in place and runs
the tests that pass through the changed statement until one fails: first those of the
module's own file, the quickest first, but of the cases of one test each later, and
`--seconds` of them at most. A test that takes ten times as long as without a change, and
ten seconds more, has failed, and so has one whose process dies. Hypothesis tries 40
examples, always the same. Tests that are marked `deep` take minutes to measure, and need
`--deep`.

It prints each survivor with its line, the original and the changed text, and of each module
how many mutants there were, were killed and survived.

`changes.py` says what is changed. A constant, and the default of a field, is tried by all
tests that pass through any line of its module or are in its own file. What runs while tests
are collected, or in processes that a test starts, is not known to pass through a line; a
default of a function keeps the value of a constant of another module.
"""

from __future__ import annotations

import argparse
import ast
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    from changes import Mutant

ROOT = Path(__file__).parents[2]
TESTS = [str(ROOT / "tests/unit"), str(ROOT / "tests/protocol")]
MARKS = "not slow and not slurm and not gluster and not nfs and not campaign"
QUICK = f"{MARKS} and not deep"
EXAMPLES = 40
#: Seconds after which a test is left out.
SLOW = 10
#: How many times as long as without a change, and how many seconds more, a test may take.
PATIENCE = 10

_Task = TypeVar("_Task")


def in_children(
    act: Callable[[_Task], Any], tasks: Iterable[_Task], jobs: int
) -> Iterator[tuple[_Task, Any]]:
    """Do each task in a child; yield it with what came of it, None if the child died."""
    running: dict[int, tuple[_Task, Path]] = {}
    for task in tasks:
        if len(running) == jobs:
            yield ended(running)
        place = Path(tempfile.mkdtemp(prefix="mutant"))
        running[os.fork() or be_child(act, task, place)] = task, place
    while running:
        yield ended(running)


def be_child(act: Callable[[_Task], Any], task: _Task, place: Path) -> NoReturn:
    """Do a task in a process group and with a directory of our own, unheard, and end."""
    try:
        os.setsid()
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(place)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nowhere, descriptor)
        (place / "answer").write_bytes(pickle.dumps(act(task)))
    finally:
        os._exit(0)


def ended(running: dict[int, tuple[_Task, Path]]) -> tuple[_Task, Any]:
    """Wait for a child, and end the processes that it left."""
    pid, _ = os.wait()
    with suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    task, place = running.pop(pid)
    answer = None
    with suppress(OSError):
        answer = pickle.loads((place / "answer").read_bytes())
    shutil.rmtree(place, ignore_errors=True)
    return task, answer


# Tests


class Test(NamedTuple):
    """A test that passes, and what it runs."""

    item: pytest.Item
    seconds: float
    lines: dict[str, set[int]]
    """The lines of each module, by its path."""

    def passes_through(self, path: str, lines: range) -> bool:
        """Whether it runs one of these lines of a module."""
        return any(line in lines for line in self.lines.get(path, ()))


def passes(item: pytest.Item, within: float) -> bool:
    """Run a test; a process in which it takes too long dies."""
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(within, exit=True, file=nowhere)
        reports = runtestprotocol(item, log=False, nextitem=None)
        faulthandler.cancel_dump_traceback_later()
    return not any(report.failed for report in reports)


def measured(item: pytest.Item) -> tuple[float, dict[str, set[int]]] | None:
    """Return the seconds of a test, and the lines that it runs; None if it fails."""
    recorder = coverage.Coverage(None, config_file=False, include=[f"{ROOT}/ddmq/*"])
    recorder.set_option("run:disable_warnings", ["no-data-collected"])
    began = time.monotonic()
    recorder.start()
    passed = passes(item, SLOW)
    recorder.stop()
    data = recorder.get_data()
    lines = {path: set(data.lines(path) or ()) for path in data.measured_files()}
    return (time.monotonic() - began, lines) if passed else None


def in_turn(tests: Iterable[Test]) -> list[Test]:
    """Sort the quickest first, but the second case of a test as if it took twice as long."""
    seen: Counter[str] = Counter()
    turns = []
    for test in sorted(tests, key=lambda test: test.seconds):
        name = test.item.nodeid.partition("[")[0]
        seen[name] += 1
        turns.append((seen[name] * test.seconds, test))
    return [test for _, test in sorted(turns, key=lambda turn: turn[0])]


# The campaign


class Campaign:
    """A plugin of pytest that runs tests for each mutant, and not for themselves."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._tests: list[Test] = []

    def pytest_configure(self) -> None:
        """Let Hypothesis be quick, and remember no example that failed."""
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
        module = importlib.import_module(f"ddmq.{name}")
        drawn = self._drawn(module, line)
        survivors = 0
        killing = partial(self._survives, module)
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

    def _survives(self, module: ModuleType, mutant: Mutant) -> bool:
        chosen = list(self._chosen(str(module.__file__), mutant))
        install(mutant, module)
        return all(passes(t.item, PATIENCE * (1 + t.seconds)) for t in chosen)

    def _chosen(self, path: str, mutant: Mutant) -> Iterator[Test]:
        """Yield the tests to run, first those of the module's own file."""
        own = f"test_{os.path.basename(path)}"
        left = self._options.seconds
        for test in sorted(self._tests, key=lambda test: test.item.path.name != own):
            is_own = test.item.path.name == own
            if (is_own and mutant.is_global) or test.passes_through(path, mutant.lines):
                left -= test.seconds
                if left < 0:
                    return
                yield test


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
    add("--tests", nargs="+", default=TESTS, metavar="PATH")
    return parser.parse_args()


def module_and_line(text: str) -> tuple[str, int]:
    """Read what is to be changed; the line is 0 where it is a whole module."""
    module, _, line = text.partition(":")
    return module, int(line or 0)


def main() -> int:
    """Run the campaign by options of the command line."""
    options = parsed()
    os.environ["DDMQ_EXAMPLES"] = str(EXAMPLES)
    arguments = [f"--rootdir={ROOT}", f"-c{ROOT / 'setup.cfg'}", "-q"]
    arguments += ["-m", MARKS if options.deep else QUICK]
    arguments += ["-pno:cacheprovider", "-pno:faulthandler", "--hypothesis-seed=0"]
    return pytest.main([*arguments, *options.tests], [Campaign(options)])


if __name__ == "__main__":
    sys.exit(main())
