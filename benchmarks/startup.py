"""What the command `ddmq publish` costs, beside a Python that only imports.

    python benchmarks/startup.py [--quick] [--dir DIR] [--pythons PYTHON ...]

Shows the CPU time of whole processes: of commands, and of the imports that no command
with arguments, JSON and YAML can do without. Exits with 1 when the target is missed.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

from support import (
    QUEUE,
    TEXT,
    Comparison,
    Table,
    Target,
    add_pythons,
    arguments,
    filled,
    on_each,
    scratch,
)

if TYPE_CHECKING:
    from pathlib import Path

OVER_IMPORTS = Target(1.5)
MILLI = 1e-3
#: What pip installs as `ddmq`.
SCRIPT = "import sys; from ddmq.cli import main; sys.exit(main())"


class Processes:
    """Runs Python, compiled files kept in a directory of their own, and measures it."""

    def __init__(self, directory: Path) -> None:
        self._python = [sys.executable, "-X", f"pycache_prefix={directory}", "-c"]
        self._environment = dict(os.environ)
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def cpu_seconds(self, script: str, *words: str) -> float:
        """Return the CPU time of a process, from its start to its end."""
        command = [*self._python, script, *words]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, env=self._environment
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    def against_imports(self, words: list[str], rounds: int) -> Comparison:
        """Compare a command of ddmq with the imports; the first runs, which compile, are left out."""
        pairs = [
            (
                self.cpu_seconds("import argparse, json, yaml"),
                self.cpu_seconds(SCRIPT, *words),
            )
            for _ in range(1 + rounds)
        ]
        return Comparison.of(pairs[1:])


def measured(directory: Path, rounds: int) -> Table:
    """Measure the commands that handle messages."""
    root, processes = directory / "root", Processes(directory / "compiled")
    filled(root, 1_000)
    table = Table("Commands", "", "imports ms", "command ms", "ratio", "")
    for words in (
        ["publish", str(root), QUEUE, TEXT],
        ["consume", str(root), QUEUE],
        ["view", str(root)],
    ):
        found = processes.against_imports(words, rounds)
        judged = OVER_IMPORTS.verdict(found.ratio) if words[0] == "publish" else ""
        table.add(f"ddmq {words[0]}", *found.cells(MILLI), judged)
    return table


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = arguments(__doc__)
    add_pythons(parser)
    options = parser.parse_args()
    if options.pythons:
        return on_each(options.pythons, options)
    with scratch(options.dir) as directory:
        return measured(directory, 15 if options.quick else 40).show()


if __name__ == "__main__":
    sys.exit(main())
