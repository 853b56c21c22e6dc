"""A program that uses ddmq as a library hears of it only by `logging`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ddmq
from ddmq import Broker

pytestmark = pytest.mark.usefixtures("umask")
TOP = Path(ddmq.__file__).parents[1]
TASKS = """
import sys

def double(x):
    print(f"double {x}", file=sys.stderr)
    return 2 * x
"""
EXECUTOR = """
import logging, sys, tasks
from ddmq.hpc import Executor
{more}
with Executor(sys.argv[1], slots=1, shared=True{options}) as executor:
    print(*executor.map(tasks.double, range(3)))
    {inside}
"""
WARNING = "from ddmq.errors import warn; warn('seen')"


def told(tmp_path, program):
    """Run a program of a user; return what it prints to both outputs."""
    Broker(tmp_path / "mq", create=True)
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py", str(tmp_path / "mq")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TOP)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout, done.stderr.splitlines()


def executor(more="", options="", inside="pass"):
    return EXECUTOR.format(more=more, options=options, inside=inside)


def test_an_executor_prints_what_its_functions_print_and_nothing_else(tmp_path):
    out, err = told(tmp_path, executor())
    assert (out, err) == ("0 2 4\n", ["double 0", "double 1", "double 2"])


def test_a_program_that_asks_for_more_gets_it_by_logging(tmp_path):
    form = "%(name)s %(levelname)s %(message)s"
    more = f"logging.basicConfig(level=logging.INFO, format={form!r})"
    out, err = told(tmp_path, executor(more))
    assert out == "0 2 4\n"
    assert all(each.startswith(("double ", "ddmq INFO ")) for each in err)
    last = "ddmq INFO ddmq-worker: stopped: it was asked to drain; 3 acked"
    assert sum(each.startswith(last) for each in err) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("", []),
        ("logging.basicConfig()", ["WARNING:ddmq:seen"]),
        ("logging.getLogger('ddmq').addHandler(logging.StreamHandler())", ["seen"]),
    ],
)
def test_a_warning_is_seen_where_logging_is_configured(tmp_path, more, said):
    assert told(tmp_path, f"import logging\n{more}\n{WARNING}") == ("", said)


def test_a_worker_that_can_not_start_says_why_in_the_error(tmp_path):
    inside = "executor._workers.end(); executor._broker.delete_queue(executor.queue)"
    trouble = "executor._workers._start_here(); executor._workers._process.wait()"
    last = "print(executor._workers.trouble(has_come=False))"
    program = executor(inside=f"{inside}; {trouble}; {last}")
    out, err = told(tmp_path, program)
    assert [each for each in err if not each.startswith("double ")] == []
    said = out.splitlines()[1]
    assert said.startswith("the worker ended with status 1: ddmq-worker: ")
    assert "no such queue" in said


def test_a_command_still_shows_warnings(tmp_path):
    code = "import sys; from ddmq.cli.main import main; sys.exit(main())"
    (tmp_path / "mq").mkdir()
    Broker(tmp_path / "mq", create=True).create_queue("q")
    (tmp_path / "mq" / "q" / "journal").mkdir()
    (tmp_path / "mq" / "q" / "journal" / "x.jsonl").write_text("no run\n")
    done = subprocess.run(
        [sys.executable, "-c", code, "log", str(tmp_path / "mq"), "q"],
        env={**os.environ, "PYTHONPATH": str(TOP)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "that are left out: 1" in done.stderr
