"""The cost of the command `ddmq publish`, beside a Python that only imports.

    python benchmarks/startup.py [--quick] [--dir DIR] [--pythons PYTHON ...]

Measures the CPU time of whole processes: of commands, and of a Python that imports what each
command with arguments, JSON and YAML needs. Then it compares ddmq as pip installs it, the
single file ddmq.pyz, and such a file with compiled files in it: their CPU time, and the files
that they look for and open, counted by strace. Exits with 1 when a target is missed.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

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

OVER_IMPORTS = Target(1.5)
MILLI = 1e-3
#: What pip installs as `ddmq`.
SCRIPT = "import sys; from ddmq.cli.main import main; sys.exit(main())"
BUILD = Path(__file__).parents[1] / "packaging" / "pyz" / "build.py"
#: A system call that names a file, as strace prints it: what it does, and its result.
NAMES_A_FILE = re.compile(r'(open(?:at)?|\w+)\(.*?"(.*?)".* = (-?\d+)')


class Processes:
    """Runs Python, with compiled files in a directory of their own, and measures it."""

    def __init__(self, directory: Path) -> None:
        self._python = [sys.executable, "-X", f"pycache_prefix={directory}", "-c"]
        self._environment = dict(os.environ)
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def cpu_seconds(self, script: str, *words: str) -> float:
        """Return the CPU time of a process, from its start to its end."""
        return cpu_seconds([*self._python, script, *words], self._environment)

    def against_imports(self, words: list[str], rounds: int) -> Comparison:
        """Compare a command with the imports alone; the first runs compile, and don't count."""
        pairs = [
            (
                self.cpu_seconds("import argparse, json, yaml"),
                self.cpu_seconds(SCRIPT, *words),
            )
            for _ in range(1 + rounds)
        ]
        return Comparison.of(pairs[1:])


def cpu_seconds(command: list[str], environment: dict[str, str]) -> float:
    """Return the CPU time of a process, from its start to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


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


# Installed, and in one file


def side_by_side(directory: Path, rounds: int) -> Table:
    """Measure `ddmq publish` with each form of ddmq, in turns."""
    root, environment = directory / "root", {"PATH": os.environ["PATH"]}
    commands = {
        name: [*words, "publish", str(root), QUEUE, TEXT]
        for name, words in forms(directory).items()
    }
    bare = str(directory / "bare" / "bin" / "python")
    commands = {"python3 -c pass": [bare, "-c", "pass"], **commands}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            seconds[name].append(cpu_seconds(command, environment))
    header = "looked for", "opened", "different ones", "of ddmq", "CPU ms"
    table = Table("ddmq publish, files and time", "", *header)
    for name, command in commands.items():
        milliseconds = statistics.median(seconds[name]) / MILLI
        counted = files(command, environment, directory)
        table.add(name, *counted, f"{milliseconds:.1f}")
    return table


def forms(directory: Path) -> dict[str, list[str]]:
    """Return the words that start each form of ddmq, all made of the same sources.

    Each runs in a virtual environment, where nothing else is installed.
    """
    pyz, compiled = directory / "ddmq.pyz", directory / "compiled.pyz"
    subprocess.run([sys.executable, BUILD, pyz], check=True, stdout=subprocess.DEVNULL)
    for name in ("bare", "installed"):
        venv.create(directory / name)
    [packages] = (directory / "installed").glob("lib/python*/site-packages")
    with ZipFile(pyz) as archive:
        archive.extractall(packages)
    subprocess.run([sys.executable, "-m", "compileall", "-q", packages], check=True)
    with ZipFile(compiled, "w") as archive:
        for path in sorted(packages.rglob("*.pyc")):
            package = path.relative_to(packages).parents[1]
            archive.write(path, package / f"{path.name.partition('.')[0]}.pyc")
    bare, python = (f"{directory}/{name}/bin/python" for name in ("bare", "installed"))
    script = directory / "installed" / "bin" / "ddmq"
    script.write_text(SCRIPT)
    return {
        "installed": [python, str(script)],
        "ddmq.pyz": [bare, str(pyz)],
        "ddmq.pyz, if compiled": [bare, str(compiled)],
    }


def files(
    command: list[str], environment: dict[str, str], directory: Path
) -> list[str]:
    """Count the files that a process looks for and opens: all, different ones, ddmq's."""
    if shutil.which("strace") is None:
        return ["no strace"] * 4
    traced = ["strace", "-f", "-qq", "-e", "trace=%file", *command]
    done = subprocess.run(
        traced, check=True, capture_output=True, text=True, env=environment
    )
    named = NAMES_A_FILE.findall(done.stderr)
    opened = [path for call, path, got in named if call[:4] == "open" and got != "-1"]
    ours = [p for p in set(opened) if p.startswith(f"{directory}/") and is_code(p)]
    return [str(len(each)) for each in (named, opened, set(opened), ours)]


def is_code(path: str) -> bool:
    """Tell whether a file is code of ddmq, rather than Python's or a message."""
    return path.endswith((".py", ".pyc", ".pyz", "bin/ddmq"))


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = arguments(__doc__)
    add_pythons(parser)
    options = parser.parse_args()
    if options.pythons:
        return on_each(options.pythons, options)
    with scratch(options.dir) as directory:
        rounds = 15 if options.quick else 40
        missed = measured(directory, rounds).show()
        return max(missed, side_by_side(directory, rounds).show())


if __name__ == "__main__":
    sys.exit(main())
