"""When what has ended is settled: at once, together, later, or after another run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ddmq.hpc.heartbeat import Heartbeat
from ddmq.hpc.limits import Limits
from ddmq.hpc.options import WorkerOptions
from ddmq.hpc.poller import Poller
from ddmq.hpc.settling import Settler
from ddmq.hpc.supply import Supply
from ddmq.hpc.triage import Triage


@pytest.fixture
def made(broker, clock, job):
    """Return a function that makes a triage, with what it changes."""

    def made(**options):
        given = WorkerOptions(**{"retries": 0, **options})
        heartbeat = Heartbeat(broker, clock)
        settler = Settler(broker, "q", heartbeat, options=given, job=job)
        limits = Limits(given, job)
        poller = Poller(clock.monotonic, given.poll_max)
        supply = Supply(
            broker,
            "q",
            limits=limits,
            poller=poller,
            settler=settler,
            heartbeat=heartbeat,
            then=None,
            clock=clock,
        )
        triage = Triage(
            settler, supply, limits=limits, poller=poller, options=given, clock=clock
        )
        return SimpleNamespace(
            triage=triage, supply=supply, limits=limits, numbers=settler.numbers
        )

    return made


def test_a_failure_after_a_success_is_its_messages_and_all_are_settled(
    broker, made, ended
):
    mine, both = made(), [ended("exit 0"), ended("exit 3")]
    mine.triage.settle(both)
    assert both == []
    assert (mine.numbers["acked"], mine.numbers["failed"]) == (1, 1)
    assert broker.view("q")["q"] == (0, 0, 0, 1)


def test_a_first_failure_is_held_by_the_brake_until_nothing_else_is_to_be_done(
    broker, made, ended
):
    mine = made()
    mine.triage.settle([ended("exit 3")])
    mine.triage.settle_braked(only_late=True)
    assert (mine.numbers["failed"], broker.view("q")["q"].work) == (0, 1)
    mine.triage.settle_braked()
    assert (mine.numbers["failed"], broker.view("q")["q"].dead) == (1, 1)


def test_fast_failures_wait_for_the_next_success(broker, made, ended):
    mine = made(fast_failures=3)
    mine.triage.settle([ended("exit 3"), ended("exit 3")])
    assert (mine.numbers["failed"], broker.view("q")["q"].work) == (0, 2)
    mine.triage.settle([ended("exit 0")])
    assert (mine.numbers["failed"], broker.view("q")["q"].dead) == (2, 2)
    assert not mine.triage.settle_fast_failures()  # there are none any more


def test_too_many_of_them_are_the_nodes_and_are_given_back(broker, made, ended):
    mine = made(fast_failures=2)
    mine.triage.settle([ended("exit 3"), ended("exit 3")])
    assert mine.limits.is_broken
    assert (mine.numbers["released"], broker.view("q")["q"].waiting) == (2, 2)
