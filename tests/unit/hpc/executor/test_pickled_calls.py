"""Calls that are pickled: what can be sent, and that nothing is unpickled where others write."""

from __future__ import annotations

import os
import sys
import threading
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import pytest

from ddmq import InvalidArgument
from ddmq.hpc.executor.calls import Answer, Call, CallFailed, RemoteTraceback
from ddmq.hpc.executor.pickled_calls import Pickled
from ddmq.hpc.functions.serving import Reject

needs_cloudpickle = pytest.mark.usefixtures("cloudpickle")


@pytest.fixture
def cloudpickle():
    return pytest.importorskip("cloudpickle", reason="cloudpickle is not installed")


@pytest.fixture
def places(tmp_path):
    """Root, queue and results, closed to others."""
    root = tmp_path.resolve() / "mq"
    for path in (root, root / "q", root.parent / "results"):
        path.mkdir(mode=0o700)
    return str(root), "q", f"{root.parent}/results"


@pytest.fixture
def form(cloudpickle, places):
    form = Pickled(*places)
    yield form
    form.close()


@pytest.fixture
def made(form):
    """Return a function that sends a call there and its answer back."""

    def made(fn, *args, each=False, **kwargs):
        call = form.call("k", form.function(fn), list(args), kwargs, each=each)
        assert Call.parse(call.message()) == call
        answer = Answer.parse(form.answer(call))
        assert answer.key == "k"
        return form.outcome(answer)

    return made


class Picky(Exception):
    """One that is pickled, and can't be unpickled."""

    def __init__(self, one, two):
        super().__init__("picky")


def raises(error):
    raise error


def test_anything_can_be_called_with_anything(made):
    more = 5
    assert made(lambda x, *, y: {x, y, more}, (1, 2), y=b"z") == (
        {(1, 2), b"z", 5},
        None,
    )
    assert made("a,b".split, ",") == (["a", "b"], None)
    assert made(lambda x: -x, [1], [2], each=True) == ([-1, -2], None)


def test_an_exception_comes_back_as_it_was(made):
    class Mine(Exception):
        pass

    value, error = made(raises, Mine({1}))
    assert value is None
    assert type(error).__name__ == "Mine"
    assert error.args == ({1},)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "in raises" in str(error.__cause__)
    _, error = made(sys.exit, 3)
    assert isinstance(error, SystemExit)


def test_one_that_can_not_comes_in_words(made):
    _, error = made(lambda: raises(Picky(1, 2)))
    assert isinstance(error, CallFailed)
    assert str(error) == "Picky: picky"
    _, error = made(lambda: raises(ValueError(threading.Lock())))
    assert isinstance(error, ValueError)
    _, error = made(threading.Lock)
    assert isinstance(error, TypeError)


def test_one_that_lets_nobody_set_its_cause_has_one(made):
    @dataclass(frozen=True)
    class Frozen(Exception):
        pass

    _, error = made(raises, Frozen())
    assert type(error).__name__ == "Frozen"
    assert isinstance(error.__cause__, RemoteTraceback)


def test_what_is_no_exception_when_it_comes_out_is_a_call_that_failed(made):
    class Changed(Exception):
        def __reduce__(self):
            return dict, ()

    _, error = made(lambda: raises(Changed()))
    assert isinstance(error, CallFailed)


def test_what_can_not_be_pickled_is_refused_at_once(form):
    with pytest.raises(InvalidArgument, match="can't be pickled"):
        form.call("k", form.function(len), [threading.Lock()], {})
    with pytest.raises(InvalidArgument, match="can't be pickled"):
        form.function(threading.Lock().acquire)


def test_what_can_not_be_unpickled_here_is_a_call_that_failed(form):
    _, error = form.outcome(Answer("k", pickle="no pickle"))
    assert isinstance(error, CallFailed)
    assert "can't be unpickled" in str(error)


def test_a_worker_for_pickles_makes_no_other_calls(form):
    with pytest.raises(Reject, match="not pickled"):
        form.answer(Call("k", "os:getpid", [], {}))


def test_a_plain_result_is_read_too(form):
    assert form.outcome(Answer("k", 5)) == (5, None)


class Planted:
    """Leaves a trace where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("which", ["mq", "mq/q", "results"])
def test_nothing_is_sent_or_unpickled_where_others_may_write(
    form, places, tmp_path, which, cloudpickle
):
    planted = b64encode(cloudpickle.dumps(Planted(tmp_path / "trace"))).decode()
    (tmp_path / which).chmod(0o770)
    with pytest.raises(InvalidArgument, match=f"{which}: it may be written"):
        form.call("k", form.function(len), [""], {})
    with pytest.raises(Reject, match=f"{which}: it may be written"):
        form.answer(Call("k", "f", [], {}, pickle=planted))
    value, error = form.outcome(Answer("k", pickle=planted))
    assert value is None
    assert isinstance(error, InvalidArgument)
    assert not (tmp_path / "trace").exists()
    with pytest.raises(InvalidArgument, match=f"{which}: it may be written"):
        Pickled(*places)
    (tmp_path / which).chmod(0o700)
    form.outcome(Answer("k", pickle=planted))  # else this test shows nothing
    assert (tmp_path / "trace").exists()


def test_the_directory_of_results_must_be_the_one_that_is_read(form, tmp_path):
    form.check_all((tmp_path / "results").stat())
    with pytest.raises(InvalidArgument, match="another directory"):
        form.check_all(tmp_path.stat())


@needs_cloudpickle
def test_what_was_planted_before_the_queue_was_closed_is_refused(form, tmp_path):
    (tmp_path / "mq" / "q" / "ready").mkdir()
    (tmp_path / "mq" / "q" / "ready").chmod(0o777)
    with pytest.raises(InvalidArgument, match="ready: it may be written"):
        form.check_all((tmp_path / "results").stat())


def test_that_cloudpickle_is_missing_is_told(places, monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(InvalidArgument, match=r"pip install 'ddmq\[cloudpickle\]'"):
        Pickled(*places)


def test_directories_are_not_held_longer_than_needed(cloudpickle, places):
    held = len(os.listdir("/proc/self/fd"))
    Pickled(*places).close()
    assert len(os.listdir("/proc/self/fd")) == held
