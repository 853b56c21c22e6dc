"""One file is all three commands, for any Python, without an installation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
#: No package that is installed may help, and nothing may be written beside the file.
ENVIRON = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}


def pythons(*series):
    """Return one Python of each series that pyenv has, as pytest's parameters.

    Whichever Python runs the tests, these are the same: so they are tried where what is slow is.
    """
    found = (next(PYENV.glob(f"versions/{s}.*/bin/python"), None) for s in series)
    return [
        pytest.param(str(python), id=name, marks=pytest.mark.slow)
        for name, python in zip(series, found)
        if python is not None
    ]


SUPPORTED = [
    pytest.param(sys.executable, id="this"),
    *pythons("3.9", "3.10", "3.11", "3.12", "3.13"),
]
NONE = [
    pytest.param(
        "",
        id="none",
        marks=pytest.mark.skip("pyenv has no Python 2.7, 3.6, 3.7 or 3.8"),
    )
]
TOO_OLD = pythons("2.7", "3.6", "3.7", "3.8") or NONE


def run(*words, status=0):
    """Run a command with nothing installed; return what it prints on both outputs."""
    done = subprocess.run(
        [str(word) for word in words],
        env=ENVIRON,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(params=SUPPORTED)
def ddmq(request, pyz):
    """The words that start ddmq.pyz: `-S`, since this Python may have ddmq installed."""
    return request.param, "-S", str(pyz)


@pytest.fixture
def root(ddmq, tmp_path):
    run(*ddmq, "create", "-f", tmp_path / "mq", "jobs")
    return tmp_path / "mq"


def test_a_message_is_published_consumed_and_acked(ddmq, root):
    id_ = run(*ddmq, "publish", root, "jobs", "Grüße")[0].strip()
    message = json.loads(run(*ddmq, "consume", root, "jobs")[0])
    assert (message["id"], message["message"]) == (id_, "Grüße")
    assert run(*ddmq, "ack", root, "jobs", id_)[0] == f"{id_}: acked\n"
    assert run(*ddmq, "view", root)[0].split()[-6:-1] == ["jobs", "0", "0", "0", "0"]
    run(*ddmq, "consume", root, "jobs", status=3)


def test_the_libraries_are_inside(ddmq, root):
    run(*ddmq, "config", root, "jobs", "--set", "requeue_limit=7")
    shown = run(*ddmq, "config", root, "jobs", "--format", "yaml")[0]
    assert "requeue_limit: 7" in shown
    run(*ddmq, "purge", root, "jobs")


def test_what_completes_words_is_inside(ddmq):
    assert "_shtab_ddmqworker" in run(*ddmq, "--completion", "bash")[0]


def test_the_first_word_makes_it_a_worker(ddmq, root, tmp_path):
    run(*ddmq, "publish", root, "jobs", "a")
    command = ["touch", f"{tmp_path}/{{}}.made"]
    said = run(*ddmq, "worker", root, "jobs", "--", *command)[1]
    assert said.startswith("ddmq-worker: 1 acked, 0 failed")
    assert (tmp_path / "a.made").exists()


@pytest.mark.parametrize("scheduler", ["slurm", "pbs", "sge"])
def test_a_job_script_runs_the_same_file_as_its_worker(ddmq, root, scheduler):
    python, _, pyz = ddmq
    words = ["submit", scheduler, root, "jobs", "--time", "1:00:00", "--dry-run"]
    script = run(*ddmq, *words, "--", "./process.sh")[0]
    assert script.startswith("#!/bin/bash\n")
    assert f"\nexec {python} {pyz} worker " in script


def test_a_link_by_the_name_of_a_command_is_that_command(pyz, tmp_path):
    for name in ("ddmq", "ddmq-worker", "ddmq-submit"):
        link = tmp_path / name
        link.symlink_to(pyz)
        assert run(sys.executable, link, "-h")[0].startswith(f"usage: {name} ")


@pytest.mark.parametrize("python", TOO_OLD)
def test_a_python_that_is_too_old_is_told_so(python, pyz):
    said = run(python, pyz, "view", "/", status=1)[1]
    assert "but ddmq needs 3.9 or later" in said
    assert said.count("\n") == 1


@pytest.mark.slow
def test_the_libraries_inside_keep_a_lock_that_somebody_swaps(pyz, tmp_path):
    """The tests of the lock, with what this file brings in place of what is installed."""
    swaps = "a_lock_that_a_member_swaps or test_locks.py"
    tests = [
        TESTS / "unit/storage/test_locks.py",
        TESTS / "protocol/test_other_users.py",
    ]
    words = [*map(str, tests), "-q", "-p", "no:cacheprovider", "-k", swaps]
    code = f"""
import sys
import hypothesis, pytest  # they look for packages, with their descriptions
sys.path.insert(0, {str(pyz)!r})
import filelock, ddmq
assert filelock.__file__.startswith(sys.path[0] + "/"), filelock.__file__
assert ddmq.__file__.startswith(sys.path[0] + "/"), ddmq.__file__
sys.exit(pytest.main({words!r}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_it_can_be_executed(pyz):
    assert os.access(pyz, os.X_OK)
    assert pyz.read_bytes().startswith(b"#!/usr/bin/env python3\n")


def test_it_holds_what_runs_anywhere_and_its_licenses(pyz):
    with zipfile.ZipFile(pyz) as archive:
        names = archive.namelist()
        dates = {info.date_time for info in archive.infolist()}
    assert dates == {(1980, 1, 1, 0, 0, 0)}
    shells = {".bash", ".fish", ".zsh"}  # what `--completion` prints
    assert {Path(n).suffix for n in names} == {".py", ".sh", "", *shells}
    assert len([n for n in names if n.endswith("LICENSE")]) == 3


@pytest.mark.parametrize("module", ["ddmq.cli.main", "ddmq.broker"])
def test_who_interrupts_it_while_it_imports_sees_no_traceback(module):
    """An import stands in for the moment at which somebody presses Ctrl-C."""
    code = (
        "import runpy, sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        f"sys.path.insert(0, {str(TESTS.parent)!r})\n"
        f"runpy.run_path({str(TESTS.parent / 'packaging/pyz/__main__.py')!r}, run_name='__main__')"
    )
    assert run(sys.executable, "-c", code, status=130) == ("", "")
