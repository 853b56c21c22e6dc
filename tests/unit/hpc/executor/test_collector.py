"""Looking for results: what a future hears, and when nobody waits for one that won't come."""

from __future__ import annotations

import json
import threading
import types
from concurrent import futures

import pytest

from ddmq.hpc.executor.calls import Answer, Call, CallFailed
from ddmq.hpc.executor.collector import Collector
from ddmq.hpc.executor.plain_calls import Plain
from ddmq.hpc.folder import Folder

PATIENCE = 30
KEYS = [f"{n:023d}-{n:09d}" for n in range(3)]


@pytest.fixture
def ended():
    return threading.Event()


@pytest.fixture
def collector(broker, tmp_path, clock, ended):
    (tmp_path / "results").mkdir()
    results = Folder.open(str(tmp_path / "results"))
    workers = types.SimpleNamespace(trouble=lambda **_: "", have_left=lambda: False)
    collector = Collector(
        broker,
        "q",
        results,
        form=Plain(["json"]),
        workers=workers,
        clock=clock,
        at_end=ended.set,
    )
    yield collector
    collector._fail(RuntimeError("the test is over"))
    collector.end(wait=True)
    results.close()


@pytest.fixture
def keep(tmp_path):
    """Return a function that keeps a result as a worker does."""

    def keep(key, value):
        (tmp_path / ".new").write_bytes(Answer(key, value).data())
        (tmp_path / ".new").rename(tmp_path / "results" / key)

    return keep


def test_a_future_hears_of_its_result_and_of_no_other(collector, keep):
    first, second = collector.expect(KEYS[:2])
    keep(KEYS[1], 5)
    keep(KEYS[2], 6)  # nobody's
    assert second.result(PATIENCE) == 5
    assert not first.done()


def test_a_result_that_says_it_is_anothers_is_none(collector, keep, tmp_path, caplog):
    first, second = collector.expect(KEYS[:2])
    (tmp_path / "results" / KEYS[0]).write_text(
        json.dumps({"key": KEYS[1], "value": 1, "error": None})
    )
    keep(KEYS[1], 5)
    assert second.result(PATIENCE) == 5
    for _ in range(PATIENCE * 100):
        if "is left out" in caplog.text:
            break
        threading.Event().wait(0.01)
    assert "is left out" in caplog.text
    assert not first.done()


def test_it_ends_when_the_last_one_has_come(collector, keep, ended):
    [future] = collector.expect(KEYS[:1])
    collector.end(wait=False)
    assert not ended.is_set()
    keep(KEYS[0], 5)
    assert ended.wait(PATIENCE)
    assert future.result() == 5


def test_what_has_come_is_held_by_its_future_alone(collector, keep):
    import gc
    import weakref

    class Mine:
        pass

    collector._form = types.SimpleNamespace(
        result_mode=None, outcome=lambda answer: (Mine(), None)
    )
    [future] = collector.expect(KEYS[:1])
    keep(KEYS[0], None)
    seen = weakref.ref(future.result(PATIENCE))
    del future
    collector.expect(KEYS[1:2])  # it looks once more
    for _ in range(100):
        gc.collect()
        if seen() is None:
            break
    assert seen() is None


def _exits(*_):
    raise SystemExit(1)


def test_a_result_that_ends_its_reader_fails_one_call_and_no_other(collector, keep):
    outcome = collector._form.outcome
    collector._form = types.SimpleNamespace(
        result_mode=None,
        outcome=lambda answer: outcome(answer) if answer.value else _exits(),
    )
    first, second = collector.expect(KEYS[:2])
    keep(KEYS[0], 0)
    assert isinstance(first.exception(PATIENCE), CallFailed)
    keep(KEYS[1], 5)
    assert second.result(PATIENCE) == 5


def test_a_callback_that_exits_keeps_no_other_call_waiting(collector, keep, caplog):
    first, second, third = collector.expect(KEYS)
    for each in (first, second, third):
        each.add_done_callback(_exits)
    keep(KEYS[0], 1)
    assert first.result(PATIENCE) == 1
    collector._fail(RuntimeError("all of them"))
    for each in (second, third):
        assert isinstance(each.exception(PATIENCE), RuntimeError)
    assert "SystemExit" in caplog.text


def test_calls_that_were_not_published_are_not_waited_for(collector, ended):
    calls = [Call(key, "json:dumps", [], {}) for key in KEYS]
    collector.expect(KEYS)
    collector.forget(calls)
    collector.end(wait=True)
    assert ended.is_set()


def test_a_call_of_several_in_a_message_can_not_be_taken_out_alone(collector, broker):
    calls = [Call(key, "json:dumps", [1], {}).message() for key in KEYS]
    broker.publish("q", {"calls": calls[:2]})
    broker.publish("q", calls[2])
    first, second, third = collector.expect(KEYS)
    assert not first.cancel()
    assert third.cancel()
    collector.take_out([first, second])
    assert futures.wait([first, second, third], PATIENCE).not_done == set()
    assert broker.consume("q") == []
