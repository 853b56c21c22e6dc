"""What the README and the docs show is what happens."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import ddmq
from ddmq import Broker
from ddmq.cli import main as cli

TOP = Path(__file__).parents[2]
README = TOP / "README.md"


def blocks(title):
    """Return the code blocks of one section of the README."""
    section = README.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"```\w*\n(.*?)```", section, re.DOTALL)


def test_the_ten_lines_of_python_print_what_the_readme_says(tmp_path, capsys):
    code, printed = blocks("Ten lines of Python")
    exec(code.replace("/tmp/mq", str(tmp_path)), {})
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("name", ["commands", "settings"])
def test_every_command_and_setting_is_in_its_table(name):
    from ddmq.cli.commands import MODULES
    from ddmq.settings import SETTINGS

    known = {"commands": list(MODULES), "settings": list(SETTINGS)}[name]
    text = (TOP / "docs" / f"{name}.md").read_text()
    rows = "".join(line for line in text.splitlines() if line.startswith("| `"))
    assert [word for word in known if f"`{word}" not in rows] == []


def test_the_lines_of_shell_work_one_after_the_other(tmp_path, capfd):
    shown = ""
    (tmp_path / "files.txt").write_text("a\nb\n")
    for line in blocks("Ten lines of shell")[0].splitlines():
        words = line.split("#")[0].replace('"sample 17"', "sample-17").split()
        words = [w.replace("/scratch", str(tmp_path)) for w in words[1:]]
        words = [w.replace("files.txt", f"{tmp_path}/files.txt") for w in words]
        if not line.startswith("ddmq ") or words[0] == "wait":
            continue
        if words[0] == "ack":
            words[-1] = re.search(r'"id": "(\w+)"', shown)[1]
        assert cli.main(words) == 0
        shown = capfd.readouterr().out


def test_the_three_lines_print_what_the_readme_says(tmp_path, capfd):
    block = re.search(r"```\n(.*?)```", README.read_text(), re.DOTALL)
    _, publish, work = block[1].splitlines()
    words = shlex.split(publish.replace("/tmp/mq", str(tmp_path)))
    assert cli.main(words[1:]) == 0
    capfd.readouterr()
    words = shlex.split(work.replace("/tmp/mq", str(tmp_path)))
    done = subprocess.run(
        [sys.executable, "-m", "ddmq.hpc", *words[1:]],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "Hello World!\n"


def test_two_commands_of_the_readme_are_run_before_all_others():
    section = README.read_text().split("\n## Try it\n")[1].split("\n## ")[0]
    install, tests = re.findall(r"^\$ (.*)$", section, re.MULTILINE)
    assert install.endswith(" scripts/first-run")
    assert tests == ".venv/bin/tox"


@pytest.fixture
def first_run(tmp_path):
    """Return what runs `scripts/first-run` on three small files, in a directory with odd names."""
    bin_, library = tmp_path / "b in", tmp_path / "lib's"
    place = tmp_path / "tmp 'x'"
    for directory in (bin_, library, place):
        directory.mkdir()
    for name in ("os.py", "a.py", "b.py"):
        (library / name).write_text(name)
    programs = {
        "ddmq": f'PYTHONPATH="{Path(ddmq.__file__).parents[1]}" exec {sys.executable} -m ddmq "$@"',
        "python3": f'echo "{library}"',
    }
    programs["ddmq-worker"] = programs["ddmq"].replace(' "$@"', ' worker "$@"')
    for name, script in programs.items():
        (bin_ / name).write_text(f"#!/bin/sh\n{script}\n")
        (bin_ / name).chmod(0o755)
    environ = {**os.environ, "PATH": f"{bin_}:/usr/bin:/bin", "TMPDIR": str(place)}
    script = TOP / "scripts" / "first-run"

    def run():
        done = subprocess.run([script], capture_output=True, text=True, env=environ)
        return done.returncode, done.stdout, list(place.iterdir())

    return run


def test_the_first_run_ends_with_two_commands_to_type_next(first_run, tmp_path):
    status, out, [made] = first_run()
    assert status == 0
    assert "the same 3 checksums as a plain loop" in out
    publish, work, remove = out.splitlines()[-4:-2] + out.splitlines()[-1:]
    environ = {**os.environ, "PATH": "/usr/bin:/bin"}  # as that of who reads it

    def typed(line):
        words = ["sh", "-c", line]
        return subprocess.run(
            words, env=environ, check=True, stdout=subprocess.PIPE
        ).stdout

    assert Broker(made / "mq").view("hashes")["hashes"].waiting == 0
    typed(publish)
    assert Broker(made / "mq").view("hashes")["hashes"].waiting == 1
    assert typed(work).decode().endswith("/os.py\n")
    typed(remove.partition(": ")[2])
    assert not made.exists()


def test_a_first_run_that_fails_leaves_nothing(first_run, tmp_path):
    (tmp_path / "b in" / "ddmq-worker").write_text("#!/bin/sh\nexit 1\n")
    status, _, left = first_run()
    assert (status, left) == (1, [])


def test_the_scheduler_is_asked_for_the_jobs_in_the_journals(tmp_path, monkeypatch):
    text = (TOP / "docs" / "hpc.md").read_text()
    line = re.search(r"^sacct -j .*$", text, re.MULTILINE)[0]
    programs = {
        "ddmq": f'PYTHONPATH="{Path(ddmq.__file__).parents[1]}" exec {sys.executable} -m ddmq "$@"',
        "sacct": 'printf "%s\\n" "$@"',
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    root = tmp_path / "mq"
    Broker(root, create=True).create_queue("jobs")
    for job in ("12", "7", "12", ""):
        Broker(root).publish("jobs", '"job": "text"', durable=False)
        monkeypatch.setenv("SLURM_JOB_ID", job)
        words = [sys.executable, "-m", "ddmq.hpc", root, "jobs", "--", "true"]
        subprocess.run(words, check=True, capture_output=True)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    line = line.replace("/scratch/mq", str(root))
    done = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[:2] == ["-j", "12,7"]


def test_every_method_and_error_is_in_the_docs_of_python():
    text = (TOP / "docs" / "python.md").read_text()
    methods = {name for name in vars(Broker) if not name.startswith("_")}
    errors = {name for name in ddmq.__all__ if is_error(getattr(ddmq, name))}
    told = set(re.findall(r"b\.(\w+)\(", text)) | set(re.findall(r"`(\w+)`", text))
    assert (methods | errors) - told == set()


def is_error(thing):
    return isinstance(thing, type) and issubclass(thing, Exception)
