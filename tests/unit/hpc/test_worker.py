"""The loop of a worker: consume, run, settle, drain."""

from __future__ import annotations

import pytest

from ddmq.hpc.options import WorkerOptions
from ddmq.hpc.worker import Worker


@pytest.fixture
def work(broker, job):
    """Return a function that lets a worker work; a wait turns its clock and asks for nothing."""

    def work(*texts, **options):
        broker.publish_many("q", texts)
        given = WorkerOptions(**options)
        return Worker(
            broker, "q", ["sh", "-c", 'eval "$0"'], options=given, job=job
        ).run()

    return work


def test_it_ends_when_the_queue_is_empty(broker, work):
    summary = work("exit 0", "exit 0", slots=2)
    assert summary.numbers["acked"] == 2
    assert (summary.stopped, summary.left, summary.broken) == ("", 0, False)
    assert broker.view("q")["q"] == (0, 0, 0, 0)


def test_it_starts_no_more_than_it_may(work):
    summary = work("exit 0", "exit 0", "exit 0", max_messages=2)
    assert (summary.numbers["acked"], summary.left) == (2, 1)
    assert summary.stopped == "2 messages were started"


def test_fast_failures_are_the_nodes_and_are_given_back(broker, work):
    summary = work(*["exit 1"] * 3, fast_failures=2)
    assert (summary.numbers["released"], summary.numbers["failed"]) == (2, 0)
    assert summary.broken
    assert "this node looks broken: 2 failures in a row" in summary.stopped
    assert [m.failures for m in broker.consume("q", 3)] == [0, 0, 0]


def test_a_success_between_makes_failures_those_of_their_messages(work):
    summary = work("exit 1", "exit 0", fast_failures=2, retries=0)
    assert (summary.numbers["failed"], summary.numbers["acked"]) == (1, 1)
    assert not summary.broken


def test_a_drain_that_was_asked_for_before_starts_nothing(job, work):
    job.signals.drain_requested = True
    summary = work("exit 0")
    assert (summary.numbers["acked"], summary.left) == (0, 1)
    assert summary.stopped == "it was asked to drain"
