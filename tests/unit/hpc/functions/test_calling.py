"""Which functions another process finds, and which it will never call."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys

import pytest

from ddmq import InvalidArgument
from ddmq.hpc.executor.crew import _LOCAL
from ddmq.hpc.functions.calling import command_for, function_named, name_of, program

TASKS = """
import os
from os import system
from functools import wraps

def plain(message):
    print("got", message)

def decorate(function):
    @wraps(function)
    def inner(*given):
        return function(*given)
    return inner

@decorate
def wrapped(message):
    pass

class Kind:
    def __init__(self):
        pass
    def method(self):
        pass
    @staticmethod
    def static(message):
        pass

short = lambda message: None

def makes():
    def inside(message):
        pass
    return inside

def twice():
    pass
first = twice
def twice():
    pass
number = 5
"""


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """A module of a user's."""
    (tmp_path / "their_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield __import__("their_tasks")
    sys.modules.pop("their_tasks", None)


@pytest.mark.parametrize("name", ["plain", "wrapped", "Kind", "Kind.static"])
def test_what_a_module_defines_is_found_by_its_name(tasks, name):
    function = functools.reduce(getattr, name.split("."), tasks)
    assert name_of(function) == f"their_tasks:{name}"
    assert function_named(f"their_tasks:{name}") is function


@pytest.mark.parametrize(
    ("find", "advice"),
    [
        (lambda t: t.short, "at the top of a module"),
        (lambda t: t.makes(), "at the top of a module"),
        (lambda t: functools.partial(t.plain), "define a function with `def`"),
        (lambda t: 5, "define a function with `def`"),
        (lambda t: t.first, "another function than this one"),
        (lambda t: t.Kind().method, "another function than this one"),
    ],
)
def test_what_no_other_process_finds_is_refused_with_advice(tasks, find, advice):
    with pytest.raises(InvalidArgument, match=advice):
        name_of(find(tasks))


def test_a_function_of_the_program_itself_is_to_be_moved_to_a_module():
    def work():
        pass

    work.__module__, work.__qualname__ = "__main__", "work"
    with pytest.raises(InvalidArgument, match=r"`from tasks import work`"):
        name_of(work)


@pytest.mark.parametrize(
    "name",
    [
        *("their_tasks:os.system", "their_tasks:system", "their_tasks:wraps"),
        *("their_tasks:plain.__call__", "their_tasks:plain.__globals__"),
        *("their_tasks:plain.__class__", "their_tasks:Kind.__subclasses__"),
        "their_tasks:Kind.__init__",
        *("their_tasks:number", "their_tasks:none", "their_tasks:first"),
        *("their_tasks:makes.<locals>.inside", "their_tasks:", "their_tasks"),
        *(":system", "their_tasks:plain\n", "their_tasks:plain;os", ""),
        *("no_such_module:plain", "their_tasks.none:plain", ".their_tasks:plain"),
    ],
)
def test_nothing_else_is_found_in_a_module(tasks, name):
    with pytest.raises(InvalidArgument):
        function_named(name)


@pytest.mark.slow
def test_the_command_finds_modules_where_this_process_does(tasks, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    words = command_for(name_of(tasks.plain))
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    told = json.dumps({"id": "1", "message": "a"})
    done = subprocess.run(
        words,
        cwd=elsewhere,
        env=environ,
        input=told,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["got a", '{"id": "1", "ack": true}']


@pytest.mark.slow
def test_nothing_in_the_current_directory_is_run(tasks, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("json", "threading", "signal", "os", "io", "re", "ddmq"):
        (elsewhere / f"{name}.py").write_text("print('planted', flush=True)\n")
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    given = {"cwd": elsewhere, "env": environ, "input": "", "text": True}
    worker = program(_LOCAL, "2", "--version")  # it writes its lines to descriptor 2
    for words in (command_for(name_of(tasks.plain)), worker):
        done = subprocess.run(words, capture_output=True, check=False, **given)
        assert "planted" not in done.stdout + done.stderr
        assert "Error" not in done.stderr


def test_a_program_knows_the_absolute_paths_of_this_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/a b:c\nd", "e", *sys.path])
    words = program("pass", "word", "-x")
    python, option, code, number, *rest = words
    assert [python, option] == [sys.executable, "-c"]
    assert code.startswith("import sys;")
    assert rest[: int(number)][:3] == [str(tmp_path), "/a b:c\nd", f"{tmp_path}/e"]
    assert rest[int(number) :] == ["word", "-x"]
