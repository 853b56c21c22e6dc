"""Calls and what comes of them, as JSON that anybody may have written."""

from __future__ import annotations

import json
import sys
import traceback

import pytest

from ddmq.hpc.executor import calls
from ddmq.hpc.executor.calls import Answer, Call, CallFailed, RemoteTraceback
from ddmq.hpc.executor.plain_calls import Plain

TASKS = """
import os
from dataclasses import dataclass
from os import system

@dataclass(frozen=True)
class Frozen(Exception):
    number: int

class Mute(Exception):
    args = None

    def __str__(self):
        raise RuntimeError("mute")

class Mine(Exception):
    pass

class Picky(Exception):
    def __init__(self, one, two):
        super().__init__("picky")

def double(x, plus=0):
    return 2 * x + plus

def fails(kind):
    raise {
        "value": ValueError("bad", 3),
        "mine": Mine("of a module"),
        "picky": Picky(1, 2),
        "strange": ValueError(object()),
        "exit": SystemExit(3),
        "frozen": Frozen(5),
        "mute": Mute(),
        "huge": ValueError("x" * 1_000_000),
    }[kind]

def gives(what):
    return {"set": {1}, "nan": float("nan"), "deep": deep(100), "text": "\\ud800"}[what]

def deep(levels):
    return [deep(levels - 1)] if levels else []
"""


@pytest.fixture(autouse=True)
def tasks(tmp_path, monkeypatch):
    (tmp_path / "called_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("called_tasks", None)


@pytest.fixture
def answered():
    """Return a function that makes a call as a worker's process does, and reads its answer."""

    def make(name, *args, each=False, **kwargs):
        call = Call("k", f"called_tasks:{name}", list(args), kwargs, each)
        told = Call.parse(json.loads(json.dumps(call.message())))
        answer = Answer.parse(Plain(["called_tasks"]).answer(told))
        assert answer.key == "k"
        return answer

    return make


def test_what_a_function_returns_comes_back(answered):
    assert answered("double", 4, plus=1) == Answer("k", 9)
    assert answered("double", [4], [5], each=True, plus=1) == Answer("k", [9, 11])
    assert answered("gives", "text") == Answer("k", "\ud800")


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("value", "ValueError('bad', 3)"),
        ("mine", "Mine('of a module')"),
        ("picky", "CallFailed('Picky: picky')"),
        ("exit", "CallFailed('SystemExit: 3')"),
        ("none", "KeyError('none')"),
        ("frozen", "Frozen(number=5)"),
        ("mute", 'Mute("its text can\'t be had: RuntimeError")'),
    ],
)
def test_an_exception_comes_back_with_its_type_and_traceback(answered, kind, wanted):
    error = answered("fails", kind).exception({"called_tasks"})
    assert repr(error) == wanted
    assert isinstance(error.__cause__, RemoteTraceback)
    shown = "".join(traceback.format_exception(type(error), error, None))
    assert "called_tasks.py" in shown
    assert "in fails" in shown


def test_an_exception_that_can_not_be_sent_comes_as_its_text(answered):
    error = answered("fails", "strange").exception(set())
    assert repr(error).startswith("ValueError('<object object at")
    error = answered("fails", "huge").exception(set())
    assert len(str(error)) == 10_000


def test_a_type_is_had_only_from_modules_that_are_allowed_and_imported(answered):
    answer = answered("fails", "mine")
    assert type(answer.exception(set())) is CallFailed
    sys.modules.pop("called_tasks")
    assert type(answer.exception({"called_tasks"})) is CallFailed
    assert "called_tasks" not in sys.modules


@pytest.mark.parametrize(
    "said",
    [
        {"module": "builtins", "type": "print", "args": ["x"], "text": "t"},
        {"module": "builtins", "type": "SystemExit", "args": [], "text": "t"},
        {"module": "os", "type": "system", "args": ["touch planted"], "text": "t"},
        {"module": "subprocess", "type": "Popen", "args": ["true"], "text": "t"},
        {"module": 5, "type": [], "args": {}, "text": None},
        {},
    ],
)
def test_a_result_that_somebody_made_up_makes_nothing_but_exceptions(
    said, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    error = Answer("k", None, said).exception({"called_tasks"})
    assert type(error) is CallFailed
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize(
    ("what", "why"), [("set", "TypeError"), ("nan", "ValueError"), ("deep", "ValueErr")]
)
def test_what_is_no_json_is_an_exception_of_the_call(answered, what, why):
    error = answered("gives", what).exception(set())
    assert type(error).__name__.startswith(why)


def test_a_result_that_is_too_large_is_an_exception_of_the_call(answered, monkeypatch):
    monkeypatch.setattr(calls, "MAX_RESULT", 3000)
    assert answered("double", "", plus="x" * 2000).error is None
    error = answered("double", "", plus="x" * 4000).exception(set())
    assert "over" in str(error)
    assert "write it to a file" in str(error)


@pytest.mark.parametrize(
    "message",
    [
        *(None, "text", 5, [], {}),
        {"key": "k", "function": "called_tasks:double", "args": [1]},
        {"key": 5, "function": "called_tasks:double", "args": [1], "kwargs": {}},
        {"key": "k", "function": "called_tasks:double", "args": 1, "kwargs": {}},
        {"key": "k", "function": "f", "args": [1], "kwargs": {}, "each": True},
        {"key": "k", "function": "f", "args": [1], "kwargs": {}, "each": 1},
        {"key": "k", "function": "f", "args": [1], "kwargs": {}, "more": 1},
        {"key": "k", "function": "f", "args": [1], "kwargs": {}, "pickle": 1},
    ],
)
def test_what_is_no_call_is_none(message):
    assert Call.parse(message) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"key": "k"}',
        b'{"key": 5, "value": 1, "error": null}',
        b'{"key": "k", "value": 1, "error": "x"}',
        b'{"key": "k", "value": NaN, "error": null}',
        b'{"key": "k", "value": 1, "error": null, "more": 1}',
        b'{"key": "k", "value": 1, "error": null, "pickle": null}',
    ],
)
def test_what_is_no_result_is_none(data):
    assert Answer.parse(data) is None
