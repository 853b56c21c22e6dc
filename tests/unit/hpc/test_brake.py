"""The brake: what fails first is held, until it is known whose fault it is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ddmq.holding.heartbeat import Heartbeat
from ddmq.hpc.brake import Brake
from ddmq.hpc.limits import Limits
from ddmq.hpc.options import WorkerOptions
from ddmq.hpc.settling import Settler


@pytest.fixture
def braked(broker, clock, job):
    """Return a function that makes a brake, with the numbers and the limits that it changes."""

    def braked(**options):
        given = WorkerOptions(**{"retries": 0, **options})
        settler = Settler(broker, "q", Heartbeat(broker, clock), options=given, job=job)
        limits = Limits(given, job)
        brake = Brake(settler, limits, given, clock)
        return SimpleNamespace(brake=brake, numbers=settler.numbers, limits=limits)

    return braked


def all_held(brake, ended, number, text="exit 1"):
    """Let so many commands fail; tell whether each of them was held or given back."""
    return all(brake.holds(ended(text)) for _ in range(number))


def test_the_first_ten_that_all_fail_are_given_back_and_stop_the_worker(
    broker, braked, ended
):
    mine = braked()
    assert all_held(mine.brake, ended, 9)
    assert (mine.limits.stopped, broker.view("q")["q"].work) == ("", 9)
    assert mine.brake.holds(ended("echo no; echo 'no such tool' >&2; exit 3"))
    assert mine.limits.is_braked
    assert mine.limits.stopped == (
        "the first 10 commands all failed, the last one: exit status 3 (no such tool); their "
        "messages are given back, and nothing counts; --no-brake goes on all the same"
    )
    assert (mine.numbers["released"], mine.numbers["failed"]) == (10, 0)
    assert [(m.failures, m.losses) for m in broker.consume("q", 20)] == [(0, 0)] * 10


def test_where_there_are_more_slots_as_many_must_fail(braked, ended):
    mine = braked(slots=12)
    assert all_held(mine.brake, ended, 11)
    assert not mine.limits.is_braked
    assert mine.brake.holds(ended("exit 1"))
    assert "the first 12 commands all failed" in mine.limits.stopped


@pytest.mark.parametrize("text", ["exit 0", "exit 75", "exit 2", "exit 7"])
def test_after_one_that_did_not_fail_failures_are_failures(broker, braked, ended, text):
    """A status with a meaning of its own is no such failure."""
    mine = braked(fatal=frozenset((2,)), on_exit={7: "other"})
    assert all_held(mine.brake, ended, 9)
    tenth = ended("exit 1")
    mine.brake.note([tenth, ended(text)])  # they ended at the same time
    assert (mine.numbers["failed"], broker.view("q")["q"].dead) == (9, 9)
    assert not mine.brake.holds(tenth)
    assert not mine.limits.is_braked


def test_what_proves_nothing_against_the_worker_is_not_held(braked, ended):
    mine = braked(on_exit={137: "other"})
    again, lost, killed = map(ended, ("exit 1", "exit 1", "kill -KILL $$"))
    again.execution.message = again.execution.message._replace(failures=1)
    lost.execution.lost = True
    killed.execution.command.was_killed = True
    mine.brake.note([again, lost, killed])
    assert not any(map(mine.brake.holds, (again, lost, killed)))
    assert all_held(mine.brake, ended, 9)
    assert not mine.limits.is_braked


def test_a_message_that_was_only_lost_before_is_held(braked, ended):
    mine, run = braked(), ended("exit 1")
    run.execution.message = run.execution.message._replace(losses=1)
    assert mine.brake.holds(run)


def test_one_that_succeeded_too_late_has_failed(braked, ended):
    mine, late = braked(timeout=7.0), ended("exit 0")
    late.execution.command.timed_out = True
    assert all_held(mine.brake, ended, 9)
    mine.brake.note([late])
    assert mine.brake.holds(late)
    assert "the last one: timed out after 7 s;" in mine.limits.stopped


@pytest.mark.parametrize("options", [{"brake": False}, {"fast_failures": 20}])
def test_it_can_be_off(braked, ended, options):
    mine = braked(**options)
    assert not mine.brake.holds(ended("exit 1"))
    assert mine.brake.pause([SimpleNamespace(duration=0.0)] * 20) == 0


def test_nothing_is_held_for_longer_than_five_minutes(broker, clock, braked, ended):
    mine = braked()
    assert mine.brake.holds(ended("exit 1"))
    clock.advance(200)
    assert mine.brake.holds(ended("exit 1"))
    clock.advance(99)
    assert not mine.brake.settle(only_late=True)
    clock.advance(1)
    assert mine.brake.settle(only_late=True)
    assert (mine.numbers["failed"], broker.view("q")["q"].work) == (1, 1)
    assert mine.brake.settle()
    assert mine.numbers["failed"] == 2
    assert not mine.brake.settle()


def test_what_was_settled_still_counts_as_one_of_the_first(broker, braked, ended):
    mine = braked()
    assert all_held(mine.brake, ended, 8)
    mine.brake.settle()
    assert all_held(mine.brake, ended, 2)
    assert "2 of their messages are given back, and count nothing" in (
        mine.limits.stopped
    )
    assert (mine.numbers["failed"], mine.numbers["released"]) == (8, 2)


def test_what_fails_after_that_is_given_back_as_well(braked, ended):
    mine = braked()
    assert all_held(mine.brake, ended, 10)
    why = mine.limits.stopped
    assert mine.brake.holds(ended("exit 2"))
    assert (mine.numbers["released"], mine.limits.stopped) == (11, why)
    mine.brake.note([ended("exit 0")])
    assert not mine.brake.holds(ended("exit 1"))


def test_a_long_last_line_is_cut(braked, ended):
    mine = braked()
    assert all_held(mine.brake, ended, 10, f"echo {'x' * 300} >&2; exit 1")
    assert f"({'x' * 200});" in mine.limits.stopped


def test_a_limit_of_failures_counts_what_is_held(braked, ended):
    mine = braked(max_failures=2)
    assert mine.brake.holds(ended("exit 1"))
    assert mine.limits.stopped == ""
    assert mine.brake.holds(ended("exit 1"))
    assert mine.limits.stopped == "2 of 2 messages failed"


@pytest.mark.parametrize(
    ("failed", "durations", "seconds"),
    [
        (0, [0.0] * 20, 0),
        (1, [1.0] * 7 + [3.0] * 2, 2),
        (1, [1.0] * 8, 0),
        (1, [1.0] * 8 + [5.0], 0),
        (9, [], 0),
        (9, [1.0], 4),
        (9, [1e6], 0),
    ],
)
def test_no_more_is_started_than_is_needed_to_know_it(
    braked, ended, failed, durations, seconds
):
    """But what runs for long keeps no slot empty."""
    mine = braked()
    assert all_held(mine.brake, ended, failed)
    running = [SimpleNamespace(duration=duration) for duration in durations]
    assert mine.brake.pause(running) == seconds
