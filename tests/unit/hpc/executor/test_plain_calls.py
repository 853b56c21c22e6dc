"""Calls as JSON: which functions are called, with what, and which never."""

from __future__ import annotations

import sys

import pytest

from ddmq import InvalidArgument
from ddmq.hpc.executor.calls import Answer, Call, CallFailed
from ddmq.hpc.executor.plain_calls import Plain
from ddmq.hpc.functions.serving import Reject

TASKS = """
from os import system

def double(x):
    return 2 * x
"""


@pytest.fixture(autouse=True)
def tasks(tmp_path, monkeypatch):
    (tmp_path / "plain_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield __import__("plain_tasks")
    sys.modules.pop("plain_tasks", None)


@pytest.mark.parametrize(
    "function",
    ["os:system", "plain_tasks:os.system", "plain_tasks:system", "posix:system"],
)
def test_no_function_of_another_module_is_called(tmp_path, monkeypatch, function):
    monkeypatch.chdir(tmp_path)
    message = Call("k", function, ["touch planted"], {}).message()
    call = Call.parse(message)
    if function.startswith("plain_tasks"):
        assert b"defines no such function" in Plain(["plain_tasks"]).answer(call)
    else:
        with pytest.raises(Reject, match="was not started for"):
            Plain(["plain_tasks"]).answer(call)
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize("argument", [{1}, float("inf"), object(), b"x"])
def test_arguments_that_are_no_json_are_refused_at_once(argument):
    for given in ([argument], {}), ([], {"x": argument}):
        with pytest.raises(InvalidArgument, match=r"are no JSON.*cloudpickle"):
            Plain(()).call("k", "a:b", *given)


def test_a_function_that_nobody_finds_is_refused_with_what_to_do(monkeypatch, tasks):
    with pytest.raises(
        InvalidArgument, match=r"top of a module.*serializer='cloudpickle'"
    ):
        Plain(()).function(lambda: 1)
    monkeypatch.setattr(tasks.double, "__module__", "__main__")
    with pytest.raises(InvalidArgument, match=r"tasks\.py.*serializer='cloudpickle'"):
        Plain(()).function(tasks.double)


def test_the_module_of_the_first_function_is_the_one(tasks):
    form = Plain(())
    assert not form.can_start
    assert form.function(tasks.double) == "plain_tasks:double"
    assert form.words() == ["json", "plain_tasks"]
    with pytest.raises(InvalidArgument, match="allow="):
        form.function(sys.getsizeof)


def test_a_pickled_call_is_not_made(tasks):
    call = Call("k", "plain_tasks:double", [1], {}, pickle="Y29z")
    with pytest.raises(Reject, match="it is pickled"):
        Plain(["plain_tasks"]).answer(call)


def test_a_pickled_result_is_not_read():
    value, error = Plain(()).outcome(Answer("k", pickle="Y29z"))
    assert value is None
    assert isinstance(error, CallFailed)
    assert "serializer='cloudpickle'" in str(error)
