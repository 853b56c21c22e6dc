"""The cost of starting commands, beside a Python that does nothing, or only imports.

    python benchmarks/startup.py [--quick] [--dir DIR] [--pythons PYTHON ...]

Measures the CPU time of whole processes. It compares commands as pip installs them with a bare
Python, and then with a Python that imports what each command with arguments, JSON and YAML
needs. Last, it compares ddmq as pip installs it, the single file ddmq.pyz, and such a file with
compiled files in it: their CPU time, and the files that they look for and open, counted by
strace. Exits with 1 when a target is missed.
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
#: The CPU time of a start, for each one of a bare Python.
OVER_BARE = {
    "ddmq --version": Target(2.9),
    "ddmq-worker --version": Target(4.3),
    "ddmq publish": Target(5.0),
}
MILLI = 1e-3
BARE = "python3 -c pass"
#: What pip installs as `ddmq`.
SCRIPT = "import sys; from ddmq.cli import run_{}; sys.exit(run_{}())"
DDMQ, WORKER = (SCRIPT.format(name, name) for name in ("ddmq", "worker"))
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
                self.cpu_seconds(DDMQ, *words),
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


def over_bare(directory: Path, rounds: int) -> Table:
    """Compare commands as pip installs them with a bare Python, in turns."""
    ddmq, worker = (str(script) for script in scripts(directory))
    commands = {
        BARE: bare(directory),
        "ddmq --version": [ddmq, "--version"],
        "ddmq-worker --version": [worker, "--version"],
        "ddmq publish": [ddmq, "publish", str(directory / "root"), QUEUE, TEXT],
        "ddmq --help": [ddmq, "--help"],
        "ddmq-worker --help": [worker, "--help"],
    }
    seconds = in_turns(commands, rounds)
    table = Table("Starts, installed", "", "bare ms", "command ms", "ratio", "")
    for name in list(commands)[1:]:
        found = Comparison.of(list(zip(seconds[BARE], seconds[name])))
        judged = OVER_BARE[name].verdict(found.ratio) if name in OVER_BARE else ""
        table.add(name, *found.cells(MILLI), judged)
    return table


def side_by_side(directory: Path, rounds: int) -> Table:
    """Measure `ddmq publish` with each form of ddmq, in turns."""
    environment = {"PATH": os.environ["PATH"]}
    publish = ["publish", str(directory / "root"), QUEUE, TEXT]
    commands = {name: [*words, *publish] for name, words in forms(directory).items()}
    commands = {BARE: bare(directory), **commands}
    seconds = in_turns(commands, rounds)
    header = "looked for", "opened", "different ones", "of ddmq", "CPU ms"
    table = Table("ddmq publish, files and time", "", *header)
    for name, command in commands.items():
        milliseconds = statistics.median(seconds[name]) / MILLI
        counted = files(command, environment, directory)
        table.add(name, *counted, f"{milliseconds:.1f}")
    return table


def in_turns(commands: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """Return the CPU times of each command, which run in turns; the first runs don't count."""
    environment = {"PATH": os.environ["PATH"]}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(1 + rounds):
        for name, command in commands.items():
            seconds[name].append(cpu_seconds(command, environment))
    return {name: found[1:] for name, found in seconds.items()}


def bare(directory: Path) -> list[str]:
    """Return the command of a Python that does nothing."""
    return [f"{directory}/bare/bin/python", "-c", "pass"]


def scripts(directory: Path) -> list[Path]:
    """Return the paths of `ddmq` and `ddmq-worker` as they are installed."""
    return [directory / "installed" / "bin" / name for name in ("ddmq", "ddmq-worker")]


def install(directory: Path) -> None:
    """Build ddmq.pyz, and install its packages in an otherwise empty virtual environment."""
    pyz = directory / "ddmq.pyz"
    subprocess.run([sys.executable, BUILD, pyz], check=True, stdout=subprocess.DEVNULL)
    for name in ("bare", "installed"):
        venv.create(directory / name)
    [packages] = (directory / "installed").glob("lib/python*/site-packages")
    with ZipFile(pyz) as archive:
        archive.extractall(packages)
    subprocess.run([sys.executable, "-m", "compileall", "-q", packages], check=True)
    for script, code in zip(scripts(directory), (DDMQ, WORKER)):
        script.write_text(f"#!{directory}/installed/bin/python\n{code}\n")
        script.chmod(0o755)


def forms(directory: Path) -> dict[str, list[str]]:
    """Return the words that start each form of ddmq, all made of the same sources.

    Each runs in a virtual environment, where nothing else is installed.
    """
    [packages] = (directory / "installed").glob("lib/python*/site-packages")
    compiled, [python, *_] = directory / "compiled.pyz", bare(directory)
    with ZipFile(compiled, "w") as archive:
        for path in sorted(packages.rglob("*.pyc")):
            package = path.relative_to(packages).parents[1]
            archive.write(path, package / f"{path.name.partition('.')[0]}.pyc")
    return {
        "installed": [str(scripts(directory)[0])],
        "ddmq.pyz": [python, f"{directory}/ddmq.pyz"],
        "ddmq.pyz, if compiled": [python, str(compiled)],
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
        install(directory)
        missed = [measured(directory, rounds).show()]
        missed += [over_bare(directory, rounds).show()]
        missed += [side_by_side(directory, rounds).show()]
        return max(missed)


if __name__ == "__main__":
    sys.exit(main())
