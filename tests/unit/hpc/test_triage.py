"""When what has ended is settled: at once, together, later, or after another run."""

from __future__ import annotations

import pytest
from unit.hpc.conftest import parts_of

from ddmq.hpc.options import WorkerOptions
from ddmq.hpc.running.command import Invocation
from ddmq.hpc.running.execution import Ended, Execution


@pytest.fixture
def made(broker, job):
    """Return a function that makes the parts of a worker, which retries nothing."""

    def made(**options):
        return parts_of(broker, job, WorkerOptions(**{"retries": 0, **options}))

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


def test_what_shared_a_command_with_a_cancelled_message_is_run_by_itself(
    broker, made, taken, surroundings
):
    """The command was asked to end; many exit with 0 then, whatever they have done."""
    mine, given = made(), surroundings("true")
    runs = [Execution(taken(text), 1, given.options) for text in ("a", "b")]
    command = Invocation(runs, given)
    command._process.wait()
    runs[0].cancelled = True
    ended = [Ended(each, command.outcome()) for each in runs]
    mine.triage.settle(list(ended))
    assert [each.message for each in mine.supply.alone] == ["b"]
    assert broker.view("q")["q"] == (0, 1, 0, 1)
    mine.settler.settle(ended[1])  # a worker that drains does this
    assert mine.numbers["acked"] == 0
    assert broker.view("q")["q"] == (1, 0, 0, 1)
