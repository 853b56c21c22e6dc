"""The start of the three programs."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from ddmq import __version__, cli

PROGRAMS = {
    "ddmq": cli.run_ddmq,
    "ddmq-worker": cli.run_worker,
    "ddmq-submit": cli.run_submit,
}


@pytest.fixture
def started(monkeypatch, capfd):
    """Run a program with some words; return its exit status, and both outputs."""
    monkeypatch.setattr("atexit.register", lambda _: None)

    def run(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        try:
            status = PROGRAMS[name]()
        except SystemExit as stop:
            status = stop.code
        return (status, *capfd.readouterr())

    return run


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_prints_the_same_version(started, name):
    status, out, err = started(name, "-v")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"ddmq {__version__}"
    names = ["ddmq", "Python", "filelock", "pyyaml", "from"]
    assert [line.split(" ")[0] for line in lines] == names
    assert started(name, "--version") == (0, out, "")
    assert started(name, "-v", "-v") == (0, out, "")  # as argparse finds it


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_shows_its_own_help(started, name):
    status, out, err = started(name, "-h")
    assert (status, out.split()[:2], err) == (0, ["usage:", name], "")


@pytest.mark.slow
def test_who_ends_with_a_command_looks_for_no_garbage(tmp_path):
    script = (
        "import atexit, gc, sys\n"
        "from ddmq.cli.main import main\n"
        "from ddmq.cli import run_ddmq\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 0))\n"
        "main(sys.argv[1:])\n"  # of a program that goes on
        "gc.get_freeze_count() and sys.exit('too early')\n"
        "sys.exit(run_ddmq())"
    )
    words = sys.executable, "-c", script, "publish", "-f", tmp_path / "mq", "q", "x"
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert re.fullmatch("([0-9a-f]{20}\n){2}True\n", done.stdout)
