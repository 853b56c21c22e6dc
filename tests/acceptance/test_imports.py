"""No command imports what it does not use: on shared storage each import asks the server."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ddmq
from ddmq import Broker

#: Without `site`, nothing is imported but for the command.
PYTHON = [sys.executable, "-S", "-c"]
ENVIRON = {**os.environ, "PYTHONPATH": str(Path(ddmq.__file__).parent.parent)}
CODE = """
import sys
before = set(sys.modules)
from ddmq.cli import run
sys.argv[1:] = {arguments!r}
try:
    run({name!r})
finally:
    print("\\n", *(set(sys.modules) - before), file=sys.stderr)
"""

#: What a client needs that publishes, or takes, one message.
CORE = {
    *("ddmq", "ddmq.cli", "ddmq.storage"),
    *("ddmq.broker", "ddmq.clock", "ddmq.errors", "ddmq.message", "ddmq.queue_policy"),
    *("ddmq.settings", "ddmq.cli.errors"),
    *("ddmq.storage.background", "ddmq.storage.buckets", "ddmq.storage.directories"),
    *("ddmq.storage.filesystem", "ddmq.storage.housekeeping", "ddmq.storage.layout"),
    *("ddmq.storage.names", "ddmq.storage.ready", "ddmq.storage.settings_file"),
    "ddmq.storage.store",
}
#: The most modules of ddmq that `ddmq publish` may import.
MOST = 24
VERSION = {*CORE, "ddmq.cli.version", "ddmq.diagnose", "ddmq.diagnose.versions"}
COMMAND = {*CORE, "ddmq.cli.main", "ddmq.cli.spec", "ddmq.cli.commands"}
#: What parses the arguments of a worker.
WORKER_ARGUMENTS = {
    *(*CORE, "ddmq.cli.spec", "ddmq.cli.standard_error", "ddmq.cli.worker"),
    *("ddmq.cli.worker_arguments", "ddmq.hpc", "ddmq.hpc.faults", "ddmq.hpc.limits"),
    *("ddmq.hpc.options", "ddmq.hpc.placeholders", "ddmq.hpc.running"),
    *("ddmq.hpc.running.stream", "ddmq.printable", "ddmq.schedulers"),
}
WORKER = {
    *WORKER_ARGUMENTS,
    *("ddmq.hpc", "ddmq.hpc.results", "ddmq.hpc.running"),
    *("ddmq.cli.worker", "ddmq.hpc.limits", "ddmq.hpc.running.execution"),
    "ddmq.cli.standard_error",
    *("ddmq.cli.spec", "ddmq.cli.worker_arguments"),
    *("ddmq.hpc.folder", "ddmq.hpc.poller", "ddmq.hpc.presence"),
    *("ddmq.seen", "ddmq.storage.leases", "ddmq.storage.workers"),
    *(
        "ddmq.hpc.running.guardian",
        "ddmq.holding",
        "ddmq.holding.heartbeat",
        "ddmq.hpc.journal",
    ),
    *("ddmq.hpc.options", "ddmq.hpc.placeholders", "ddmq.hpc.results.result"),
    *("ddmq.hpc.running.process", "ddmq.schedulers", "ddmq.hpc.settling"),
    *("ddmq.hpc.signals", "ddmq.hpc.running.stream", "ddmq.hpc.worker"),
    *("ddmq.hpc.preflight", "ddmq.hpc.faults", "ddmq.printable"),
    *("ddmq.hpc.brake", "ddmq.hpc.running.command", "ddmq.hpc.running.launcher"),
    *("ddmq.hpc.running.slots", "ddmq.hpc.supply", "ddmq.hpc.triage"),
    *("ddmq.hpc.running.progress", "ddmq.hpc.granted", "ddmq.hpc.beginning"),
}
#: What is slow to import, or opens many files, and what could come in by mistake.
HEAVY = {
    *("yaml", "filelock", "logging", "dataclasses", "inspect", "ast", "pathlib"),
    *(
        "subprocess",
        "multiprocessing",
        "concurrent.futures",
        "asyncio",
        "socket",
        "ssl",
    ),
    *("tempfile", "shutil", "bz2", "lzma", "zipfile", "hashlib", "uuid", "secrets"),
    *("datetime", "decimal", "statistics", "urllib", "importlib.resources"),
    *("importlib.metadata", "traceback", "unittest", "textwrap", "glob", "pickle"),
}


#: What else a command needs.
USED = {
    "publish": (),
    "consume": ("ddmq.printable",),
    "ack": ("ddmq.storage.leases",),
    "view": (
        *("ddmq.printable", "ddmq.seen", "ddmq.storage.bundles", "ddmq.storage.census"),
        *("ddmq.storage.dead_letters", "ddmq.storage.delayed"),
        *("ddmq.storage.range_names", "ddmq.storage.scan", "ddmq.storage.workers"),
    ),
    "dead": (
        *("ddmq.cli.selection", "ddmq.printable", "ddmq.seen"),
        "ddmq.storage.dead_letters",
    ),
}


#: What nothing but one method of a broker needs, when somebody calls that.
CALLED_FOR = {
    *("ddmq.former.renamed", "ddmq.holding.held", "ddmq.hpc", "ddmq.hpc.journal"),
    *("ddmq.storage.purge", "ddmq.storage.then", "ddmq.storage.transfer"),
}


@pytest.fixture
def root(tmp_path):
    broker = Broker(tmp_path / "mq", create=True)
    broker.create_queue("q")
    broker.publish("q", "x")
    return tmp_path / "mq"


def imported(name, *arguments):
    """Return the modules that a program imports."""
    code = CODE.format(name=name, arguments=[str(a) for a in arguments])
    done = subprocess.run(
        [*PYTHON, code], env=ENVIRON, capture_output=True, text=True, check=True
    )
    return set(done.stderr.splitlines()[-1].split())


def ours(modules):
    return {name for name in modules if name.partition(".")[0] == "ddmq"}


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("publish", "publish"),
        ("consume", "consume"),
        ("ack", "settle"),
        ("view", "view"),
        ("dead", "dead_letters"),
    ],
)
def test_a_command_imports_no_more_than_it_uses(root, command, module):
    [message] = Broker(root).consume("q")
    arguments = {"publish": ["q", "y"], "ack": ["q", message.id], "view": []}
    if command == "consume":
        Broker(root).release(message)
    names = imported("ddmq", command, root, *arguments.get(command, ["q"]))
    assert names & HEAVY == set()
    assert "random" not in names
    assert ours(names) == {*COMMAND, *USED[command], f"ddmq.cli.commands.{module}"}


@pytest.mark.parametrize("program", ["ddmq", "ddmq-worker", "ddmq-submit"])
def test_the_version_of_each_program_imports_no_command_and_no_library(program):
    names = imported(program, "--version")
    assert names & (HEAVY | {"argparse", "random", "signal", "threading"}) == set()
    assert ours(names) == VERSION


def test_publish_imports_few_modules(root):
    names = imported("ddmq", "publish", "-f", root, "q", "y")
    assert len(ours(names)) <= MOST


def imported_later(module):
    """Return the modules of ddmq that functions of a module import when they are called."""
    path = Path(importlib.util.find_spec(module).origin)
    names = set()
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom) and ours([node.module]):
                    inner = [f"{node.module}.{alias.name}" for alias in node.names]
                    names |= {node.module, *filter(is_module, inner)}
    return names


def is_module(name):
    return (Path(ddmq.__file__).parent.parent / f"{name.replace('.', '/')}.py").exists()


def test_who_lives_long_has_imported_all_but_what_somebody_calls_for():
    """So an upgrade under a client that runs on lets no old module meet a new one."""
    code = "import sys, ddmq.queue_policy as q; q.import_all(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRON, stdout=subprocess.PIPE, text=True
    )
    known = ours(done.stdout.split())
    later = {module: imported_later(module) - known for module in known}
    with_any = {module for module, names in later.items() if names}
    assert with_any == {"ddmq.broker"}, later
    assert set().union(*later.values()) == CALLED_FOR


def test_a_worker_imports_no_more_than_it_uses(root):
    names = imported("ddmq-worker", root, "q", "--", "true")
    assert names & HEAVY == set()
    assert ours(names) == WORKER


@pytest.mark.parametrize("words", [["-h"], ["-v", "-v"]])
def test_a_worker_that_runs_nothing_imports_its_arguments_alone(words):
    names = imported("ddmq-worker", *words)
    assert names & HEAVY <= {"textwrap"}  # argparse fills lines with it
    assert ours(names) <= {*WORKER_ARGUMENTS, *VERSION}


def test_who_submits_nothing_imports_nothing_that_submits(root):
    words = "slurm", root, "q", "--dry-run", "--", "true"
    names = imported("ddmq-submit", *words)
    # `hashlib` makes the sum of a script, and `shutil` finds programs.
    assert names & HEAVY == {"hashlib", "shutil", "bz2", "lzma"}


def test_the_help_of_all_commands_imports_nothing_heavy():
    assert imported("ddmq", "--help") & HEAVY == {"textwrap"}


def test_the_library_imports_no_command(root):
    code = f"from ddmq import Broker; Broker({str(root)!r}).publish('q', 'x')"
    code = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run(
        [*PYTHON, code], env=ENVIRON, capture_output=True, text=True, check=True
    )
    names = set(done.stdout.split())
    assert ours(names) == CORE - {"ddmq.cli", "ddmq.cli.errors"}
    assert names & (HEAVY | {"argparse", "random"}) == set()
