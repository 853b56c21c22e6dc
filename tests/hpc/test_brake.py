"""A worker whose first commands all fail, on a clock that can be turned."""

from __future__ import annotations

import errno
import os
import signal

import pytest
from hpc.inside import Hurried, run, worker

from ddmq import Broker

#: Notes each run, then does what its message says.
NOTED = 'echo x >> runs; eval "$0"'
WAITS = "until [ -e go ]; do sleep 0.01; done"


pytestmark = pytest.mark.usefixtures("patience")


@pytest.fixture
def work(root, broker, clock, here):
    """Return a function that lets a worker work, and time pass while it waits.

    `step` is called with the worker at each wait. Whatever a command does takes no time.
    """

    def work(step=lambda _: None, pace=0.001, **options):
        with Hurried(clock, lambda: step(mine), pace=pace) as signals:
            mine = worker(
                Broker(root, clock=clock), root, signals, clock, NOTED, **options
            )
            return mine.run()

    return work


def runs():
    """Return how many commands were started."""
    try:
        with open("runs", encoding="ascii") as file:
            return len(file.readlines())
    except FileNotFoundError:
        return 0


def counted(broker):
    """Return how often each of the messages that wait has failed or was lost."""
    return [(m.failures, m.losses) for m in broker.consume("q", 100)]


@pytest.mark.parametrize("options", [{}, {"until": "forever"}, {"max_messages": 10}])
@pytest.mark.parametrize("slots", [1, 4, 10])
def test_ten_that_all_fail_are_all_that_run_and_nothing_counts(
    broker, work, slots, options
):
    broker.publish_many("q", ["exit 1"] * 40, requeue_limit=0)
    summary = work(slots=slots, **options)
    assert (summary.braked, summary.broken, summary.at_end) == (True, False, False)
    assert "the first 10 commands all failed" in summary.stopped
    assert (summary.numbers["released"], summary.numbers["failed"]) == (10, 0)
    assert (runs(), summary.left) == (10, 40)
    assert counted(broker) == [(0, 0)] * 40


def test_with_more_slots_as_many_run(broker, work):
    broker.publish_many("q", ["exit 1"] * 40, requeue_limit=0)
    assert work(slots=16).braked
    assert runs() == 16
    assert counted(broker) == [(0, 0)] * 40


def test_ten_messages_are_enough(broker, work):
    broker.publish_many("q", ["exit 1"] * 10, requeue_limit=0)
    assert work(slots=4).braked
    assert counted(broker) == [(0, 0)] * 10


@pytest.mark.parametrize("slots", [1, 4])
def test_fewer_fail_for_good_as_ever(root, broker, clock, here, slots):
    broker.publish_many("q", ["exit 1"] * 9)
    summary = run(root, clock, NOTED, slots=slots, retries=1)
    assert (summary.stopped, summary.braked) == ("", False)
    assert (runs(), broker.view("q")["q"]) == (18, (0, 0, 0, 9))


def test_without_it_all_fail(root, broker, clock, here):
    broker.publish_many("q", ["exit 1"] * 40)
    summary = run(root, clock, NOTED, slots=4, retries=0, brake=False)
    assert (summary.stopped, runs(), broker.view("q")["q"].dead) == ("", 40, 40)


def test_after_a_success_all_fail(root, broker, clock, here):
    broker.publish_many("q", ["exit 1"] * 5 + ["exit 0"] + ["exit 1"] * 30)
    summary = run(root, clock, NOTED, retries=0)
    assert (summary.stopped, broker.view("q")["q"].dead) == ("", 35)


def test_what_failed_elsewhere_before_stops_nobody(root, broker, clock, here):
    broker.publish_many("q", ["exit 1"] * 40)
    broker.nack(broker.consume("q", 40))
    summary = run(root, clock, NOTED, retries=1)
    assert (summary.stopped, broker.view("q")["q"].dead) == ("", 40)


def test_a_message_that_is_alone_is_tried_again_at_once(broker, clock, work):
    broker.publish("q", "exit 1")
    began, times = clock.monotonic(), {}

    def step(mine):
        times.setdefault(mine._limits.started, clock.monotonic() - began)

    assert work(step, pace=0.0001, retries=1).numbers["failed"] == 1
    assert broker.view("q")["q"].dead == 1
    assert times[2] < 0.05  # not after the pause that an empty queue makes


@pytest.mark.parametrize("until", ["empty", "done", "forever"])
def test_a_failure_is_settled_at_once_where_nothing_else_can_be_started(
    root, broker, clock, here, until
):
    """Though another command runs, for as long as it likes."""
    broker.publish_many("q", [WAITS, "exit 1"], requeue_limit=0)

    def step():
        if broker.view("q")["q"].dead and not os.path.exists("go"):
            assert clock.monotonic() - began < 250
            here.joinpath("go").touch()
        elif broker.view("q")["q"] == (0, 0, 0, 1) and until == "forever":
            os.kill(os.getpid(), signal.SIGTERM)

    began = clock.monotonic()
    summary = run(root, clock, NOTED, step=step, slots=2, until=until)
    assert (summary.numbers["acked"], summary.numbers["failed"]) == (1, 1)


def test_what_fails_slowly_is_held_with_its_lease_and_for_five_minutes_at_most(
    broker, clock, here, work
):
    broker.update_settings("q", message_timeout=150)
    broker.publish_many("q", ["exit 1", WAITS, "exit 0"], requeue_limit=0)
    seen = []

    def step(mine):
        counts = broker.view("q")["q"]
        if counts.work == 2:  # one is held, the other runs
            seen.append(clock.monotonic())
            clock.advance(100)
            mine._heartbeat.beat()
        elif counts.dead and not os.path.exists("go"):
            seen.append(clock.monotonic())
            here.joinpath("go").touch()

    summary = work(step)
    assert 300 <= seen[-1] - seen[0] < 450
    assert (summary.numbers["acked"], summary.numbers["failed"]) == (2, 1)
    assert summary.numbers["lost"] == 0
    assert [letter.failures for letter in broker.dead("q")] == [1]


def test_a_slot_waits_for_five_seconds_to_see_whether_the_others_fail_too(
    broker, clock, here, work
):
    """Then it is used, and what fails at last stops the worker all the same."""
    broker.publish_many("q", ["exit 1", *[f"{WAITS}; exit 1"] * 30], requeue_limit=0)
    began, waits = clock.monotonic(), []

    def step(mine):
        if mine._triage._brake._failed and not os.path.exists("go"):
            mine._signals.pace = 10
            waits.append(mine._limits.started)
            if waits[-1] == 11:
                assert 5 <= clock.monotonic() - began < 6
                here.joinpath("go").touch()

    assert work(step, pace=0, slots=10).braked
    assert waits == [10, 11]  # it does not go round for nothing
    assert counted(broker) == [(0, 0)] * 31


def test_a_drain_makes_what_is_held_failures(broker, work):
    broker.publish_many("q", ["exit 1"] * 40)

    def step(mine):
        if mine._limits.started == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    summary = work(step)
    assert (summary.stopped, summary.braked) == ("it was asked to drain", False)
    assert (summary.numbers["failed"], summary.numbers["released"]) == (3, 1)
    assert sorted(counted(broker)) == [(0, 0)] * 37 + [(1, 0)] * 3


def test_other_limits_hold_as_ever(root, broker, clock, here):
    broker.publish_many("q", ["exit 1"] * 40, requeue_limit=0)
    summary = run(root, clock, NOTED, max_failures=3)
    assert (summary.stopped, summary.braked) == ("3 of 3 messages failed", False)
    assert (runs(), broker.view("q")["q"]) == (3, (37, 0, 0, 3))
    summary = run(root, clock, NOTED, max_messages=5)
    assert (summary.stopped, summary.braked) == ("5 messages were started", False)
    assert broker.view("q")["q"] == (32, 0, 0, 8)


def test_fast_failures_take_its_place(root, broker, clock, here):
    broker.publish_many("q", ["exit 1"] * 40, requeue_limit=0)
    summary = run(root, clock, NOTED, fast_failures=15)
    assert (summary.broken, summary.braked, runs()) == (True, False, 15)


def test_what_a_queue_in_trouble_does_not_take_is_not_lost(
    root, broker, clock, here, refusing
):
    for _ in range(40):
        broker.publish("q", "exit 1", requeue_limit=0)
    fs = refusing("rename", errno.EIO, "/work/", times=3)
    summary = run(root, clock, NOTED, fs=fs)
    assert (summary.braked, summary.numbers["released"]) == (True, 10)
    assert counted(broker) == [(0, 0)] * 40
