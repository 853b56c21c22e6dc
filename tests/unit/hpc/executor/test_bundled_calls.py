"""Several calls in one message, and what becomes of those that have to wait."""

from __future__ import annotations

import threading

import pytest

from ddmq import DdmqError
from ddmq.hpc.executor import bundled_calls
from ddmq.hpc.executor.bundled_calls import make_together, publish_together
from ddmq.hpc.executor.calls import Call

CALLS = [Call(str(number), "f", [number], {}) for number in range(10)]


@pytest.fixture
def published(broker):
    """Return a function that publishes calls, and says which are in one message."""

    def published(calls, most):
        publish_together(broker, "q", calls, most)
        return [
            [call.key for call in Call.all_in(seen.message)]
            for seen in broker.peek("q", 100)
        ]

    return published


def test_calls_are_together_as_long_as_they_are_small(published):
    assert published(CALLS[:5], 2) == [["0", "1"], ["2", "3"], ["4"]]


def test_a_large_one_is_in_a_message_of_its_own(published):
    large = Call("large", "f", ["x" * 100_000], {})
    assert published([*CALLS[:2], large, *CALLS[2:4]], 5) == [
        ["0", "1"],
        ["large"],
        ["2", "3"],
    ]


def test_one_at_a_time_is_as_it_was(published, broker):
    assert published(CALLS[:2], 1) == [["0"], ["1"]]
    assert broker.consume("q")[0].requeue_limit is None


def test_a_message_of_several_may_come_back_whatever_the_queue_says(published, broker):
    broker.update_settings("q", requeue=False, requeue_limit=0)
    published(CALLS, 5)
    broker.nack(broker.consume("q"))
    assert broker.dead("q") == []


@pytest.fixture
def at_once(monkeypatch):
    """The moment after which calls are given away comes at once."""
    monkeypatch.setattr(bundled_calls, "_MOMENT", 0)


def test_calls_that_are_short_are_made_here_in_their_order():
    made = []
    make_together(CALLS, made.append, None)
    assert made == CALLS


def test_what_waits_for_a_long_one_is_published(at_once):
    made, given, published = [], [], threading.Event()

    def make(call):
        made.append(call)
        assert published.wait(30)

    def publish(calls):
        given.extend(calls)
        published.set()

    make_together(CALLS, make, publish)
    assert made + given == CALLS
    assert len(made) == 1


def test_what_can_not_be_published_is_made_here(at_once):
    made, tried = [], threading.Event()

    def make(call):
        made.append(call)
        assert tried.wait(30)

    def publish(calls):
        tried.set()
        raise DdmqError("away")

    make_together(CALLS, make, publish)
    assert made == CALLS


def test_what_ends_a_call_ends_them_all():
    def make(call):
        raise KeyError(call.key)

    with pytest.raises(KeyError):
        make_together(CALLS, make, None)
