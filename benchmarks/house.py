"""What the code is like to live in: figures of its structure, and of its hot path.

    python benchmarks/house.py [DDMQ ...]

Reads the package (by default the `ddmq` beside this directory, else the checkouts that are named:
give an older one first to see before and after) and prints one table. The calls are counted in a
process of its own for each checkout: Python functions that are entered, and how often one module
calls another, for one message after others. Exits with 1 when the last checkout misses a target.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from support import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP = Path(__file__).parents[1]
#: Classes that may be wider: the public API, and the system calls.
WIDE = ("Broker", "FileSystem")
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
#: Run in a checkout: counts the calls of three operations.
CALLS = """
import json, sys, tempfile
from pathlib import Path
from ddmq import Broker
PACKAGE = str(Path(sys.modules["ddmq"].__file__).parent)
def counted(act):
    calls = borders = 0
    def trace(frame, event, argument):
        nonlocal calls, borders
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE):
            if code.co_name in ("<genexpr>", "<listcomp>", "<dictcomp>", "<setcomp>"):
                return
            calls += 1
            above = frame.f_back
            other = above.f_code.co_filename if above else ""
            borders += other.startswith(PACKAGE) and other != code.co_filename
    sys.setprofile(trace)
    try:
        act()
    finally:
        sys.setprofile(None)
    return calls, borders
def least(make, settle=None):
    found = []
    for _ in range(20):
        result = []
        found.append(counted(lambda: result.append(make())))
        if settle is not None:
            settle(result[0])
    return min(found)
with tempfile.TemporaryDirectory() as place:
    broker = Broker(place + "/mq", create=True)
    for queue in ("single", "bundled"):
        broker.create_queue(queue)
    for number in range(40):
        broker.publish("single", number, durable=False)
    broker.publish_many("bundled", range(40))
    found = {
        "publish": least(lambda: broker.publish("single", "x", durable=False)),
        "single": least(lambda: broker.consume("single"), broker.ack),
        "bundled": least(lambda: broker.consume("bundled"), broker.ack),
    }
print(json.dumps(found))
"""


class Figure(NamedTuple):
    """One row: what is counted, the figure of each checkout as text, and what it should be."""

    name: str
    target: str
    values: list[str]
    is_met: bool


class House:
    """One checkout: its modules, parsed."""

    def __init__(self, top: Path) -> None:
        self.top = top
        package = top / "ddmq"
        self.modules = {
            path.relative_to(package): ast.parse(path.read_text(encoding="utf-8"))
            for path in sorted(package.rglob("*.py"))
        }

    def _nodes(self) -> Iterator[ast.AST]:
        for tree in self.modules.values():
            yield from ast.walk(tree)

    @staticmethod
    def _names_in(tree: ast.AST) -> Iterator[str]:
        """Yield each name that is used: as a variable, an attribute, or in an import."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                yield node.id
            elif isinstance(node, ast.Attribute):
                yield node.attr
            elif isinstance(node, ast.alias):
                yield node.name

    def functions(self) -> list[ast.FunctionDef]:
        """Return all functions and methods."""
        return [n for n in self._nodes() if isinstance(n, FUNCTION)]

    def named_once(self) -> list[str]:
        """Return the private functions that one place of their module names, or none."""
        found = []
        for tree in self.modules.values():
            used = Counter(self._names_in(tree))
            own = (n.name for n in ast.walk(tree) if isinstance(n, FUNCTION))
            private = (n for n in own if n.startswith("_") and not n.startswith("__"))
            found += [name for name in private if used[name] <= 1]
        return found

    def classes(self) -> dict[str, list[str]]:
        """Return the names of the methods of each class."""
        return {
            node.name: [f.name for f in node.body if isinstance(f, FUNCTION)]
            for node in self._nodes()
            if isinstance(node, ast.ClassDef)
        }

    def reaching_through(self) -> list[str]:
        """Return the calls that reach through one object to another: `self.a.b.c()`, `x.a.b()`.

        What is reached through is an attribute that holds an object of ours: some class sets it to
        a call of a class of the package. Properties, and attributes that are set to an argument,
        are not seen.
        """
        ours, classes = set(), self.classes()
        for node in self._nodes():
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                made = getattr(node.value.func, "id", "")
                if made in classes:
                    ours |= {
                        t.attr for t in node.targets if isinstance(t, ast.Attribute)
                    }
        found = []
        for node in self._nodes():
            if not isinstance(node, ast.Call) or not isinstance(
                node.func, ast.Attribute
            ):
                continue
            through = node.func.value
            if not isinstance(through, ast.Attribute) or through.attr not in ours:
                continue
            if isinstance(through.value, ast.Name) and through.value.id == "self":
                continue  # a collaborator of its own
            found.append(ast.unparse(node.func))
        return found

    def long_signatures(self) -> list[str]:
        """Return the functions that take more than four arguments by position."""
        found = []
        for function in self.functions():
            arguments = [*function.args.posonlyargs, *function.args.args]
            number = len([a for a in arguments if a.arg not in ("self", "cls")])
            if number > 4:
                found.append(function.name)
        return found

    def dodges(self) -> list[str]:
        """Return where a tuple is made only to be taken apart: `f(*(a, b), c)`."""
        return [
            ast.unparse(node)
            for node in self._nodes()
            if isinstance(node, ast.Starred) and isinstance(node.value, ast.Tuple)
        ]

    def mappings(self) -> list[str]:
        """Return the functions that take or return mappings of anything, be they JSON or not."""
        pattern = re.compile(r"(Mapping|dict)\[str, Any\]|\bValues\b")
        found = []
        for function in self.functions():
            kinds = [a.annotation for a in function.args.args] + [function.returns]
            if any(k is not None and pattern.search(ast.unparse(k)) for k in kinds):
                found.append(function.name)
        return found

    def loose(self) -> list[str]:
        """Return the modules that lie in the package itself, `__init__` and such apart."""
        return [
            str(p)
            for p in self.modules
            if len(p.parts) == 1 and not p.stem.startswith("__")
        ]

    def untested(self) -> list[str]:
        """Return the modules without a file of unit tests under their own name."""
        unit = self.top / "tests" / "unit"
        return [
            str(path)
            for path in self.modules
            if not path.stem.startswith("__")
            and not (unit / path.parent / f"test_{path.name}").exists()
        ]

    def long_prose(self) -> int:
        """Return how many lines of comments and docstrings are longer than 100 characters."""
        number = 0
        for path in self.modules:
            for line in (
                (self.top / "ddmq" / path).read_text(encoding="utf-8").splitlines()
            ):
                number += len(line) > 100
        return number

    def calls(self) -> dict[str, tuple[int, int]]:
        """Return how many Python functions an operation enters, and module borders it crosses."""
        environ = {**os.environ, "PYTHONPATH": str(self.top)}
        done = subprocess.run(
            [sys.executable, "-c", CALLS],
            cwd=self.top,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        found: dict[str, tuple[int, int]] = json.loads(done.stdout)
        return found


def figures(houses: list[House]) -> Iterator[Figure]:
    """Yield the rows of the table."""

    def row(name: str, target: str, values: list[Any], is_met: bool) -> Figure:  # noqa: FBT001
        return Figure(name, target, [str(value) for value in values], is_met)

    shares = [100 * len(h.named_once()) / len(h.functions()) for h in houses]
    texts = [
        f"{share:.0f} % of {len(h.functions())}" for share, h in zip(shares, houses)
    ]
    yield row("private helpers that are named once", "≤ 14 %", texts, shares[-1] <= 14)
    counted = [h.calls() for h in houses]
    for name, label, calls, borders in (
        ("publish", "publish, warm", 24, 8),
        ("single", "consume of a single file", 32, 10),
        ("bundled", "consume from a bundle", 55, 14),
    ):
        values = [c[name] for c in counted]
        is_met = values[-1][0] <= calls and values[-1][1] <= borders
        texts = [f"{a} / {b}" for a, b in values]
        yield row(f"calls / borders: {label}", f"≤ {calls} / {borders}", texts, is_met)
    widest = [
        sorted(((len(m), c) for c, m in h.classes().items()), reverse=True)
        for h in houses
    ]
    texts = [", ".join(f"{c} {n}" for n, c in each[:4]) for each in widest]
    others = [n for n, c in widest[-1] if c not in WIDE]
    yield row(
        "methods of a class",
        f"≤ 30, but for {' and '.join(WIDE)}",
        texts,
        max(others) <= 30,
    )
    private = [
        sorted(
            (
                (sum(m.startswith("_") and not m.startswith("__") for m in ms), c)
                for c, ms in h.classes().items()
            ),
            reverse=True,
        )
        for h in houses
    ]
    texts = [", ".join(f"{c} {n}" for n, c in each[:4]) for each in private]
    yield row("private methods of a class", "≤ 15", texts, private[-1][0][0] <= 15)
    for name, target, most, values in (
        (
            "calls that reach through an object",
            "0",
            0,
            [len(h.reaching_through()) for h in houses],
        ),
        ("loose modules in `ddmq/`", "≤ 10", 10, [len(h.loose()) for h in houses]),
        (
            "modules without unit tests of their name",
            "0",
            0,
            [len(h.untested()) for h in houses],
        ),
        (
            "functions with over four positional arguments",
            "0",
            0,
            [len(h.long_signatures()) for h in houses],
        ),
        ("tuples made to be taken apart", "0", 0, [len(h.dodges()) for h in houses]),
        (
            "functions that pass mappings of anything",
            "few",
            99,
            [len(h.mappings()) for h in houses],
        ),
        ("lines over 100 characters", "0", 0, [h.long_prose() for h in houses]),
    ):
        yield row(name, target, values, values[-1] <= most)


def main() -> int:
    """Print the table; with -v, also what the last figures count."""
    words = [word for word in sys.argv[1:] if word != "-v"]
    houses = [House(Path(word).resolve()) for word in words] or [House(TOP)]
    table = Table("The house", "", *(house.top.name for house in houses), "target")
    for figure in figures(houses):
        verdict = f"{figure.target}: {'met' if figure.is_met else 'MISSED'}"
        table.add(figure.name, *figure.values, verdict)
    status = table.show()
    if "-v" in sys.argv:
        last = houses[-1]
        for title, found in (
            ("named once", last.named_once()),
            ("reaching through", last.reaching_through()),
            ("over four positional arguments", last.long_signatures()),
            ("tuples taken apart", last.dodges()),
            ("mappings", last.mappings()),
            ("without unit tests", last.untested()),
        ):
            print(f"{title}: {', '.join(sorted(found))}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
