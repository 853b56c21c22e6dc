"""When a worker takes no more messages."""

from __future__ import annotations

import pytest

from ddmq.hpc.limits import Deadline, Durations, Limits
from ddmq.hpc.options import WorkerOptions
from ddmq.hpc.signals import Notice
from ddmq.hpc.worker import deadline_from


def test_without_a_deadline_everything_may_start():
    assert Deadline(None).allows(1e12, Durations([1e9]))
    assert Deadline(None).passes_in(0, 10) is None


@pytest.mark.parametrize(
    ("deadline", "durations", "allowed"),
    [
        (Deadline(100), [], True),
        (Deadline(100), [49.0] * 95 + [1000.0] * 5, False),
        (Deadline(100), [49.0] * 96 + [1000.0] * 4, True),
        (Deadline(100, least=90), [1.0], False),
        (Deadline(100, least=90, fixed=5), [1000.0], True),
        (Deadline(100, fixed=51), [], False),
    ],
)
def test_nothing_starts_that_would_not_finish(deadline, durations, allowed):
    assert deadline.allows(50, Durations(durations)) == allowed


def test_the_commands_are_asked_to_end_before_the_deadline():
    assert Deadline(100).passes_in(50, 10) == 40


@pytest.mark.parametrize(
    ("deadline", "notice", "ended"),
    [
        (Deadline(None), None, False),
        (Deadline(None), Notice("SIGTERM", 1000), False),
        (Deadline(1310), None, True),
        (Deadline(1311), None, False),
        (Deadline(2010, fixed=1000), None, True),
        (Deadline(1100), Notice("SIGTERM", 1000), False),
        (Deadline(1011), Notice("SIGUSR1", 1000), False),
        (Deadline(1009), Notice("SIGTERM", 998), False),  # our clock: while it drained
        (Deadline(1010), Notice("SIGTERM", 1000), True),
        (Deadline(1310, warning="SIGUSR1"), Notice("SIGUSR1", 1000), True),
        (Deadline(1311, warning="SIGUSR1"), Notice("SIGUSR1", 1000), False),
        (Deadline(1011, warning="SIGUSR1"), Notice("SIGTERM", 1000), False),
    ],
)
def test_the_end_of_a_job_is_no_cancellation(deadline, notice, ended):
    assert deadline.ended(1000, 10, Durations(), notice) == ended


def test_of_nothing_known_the_percentile_is_zero():
    assert Durations().percentile() == 0
    assert Durations([3.0]).percentile() == 3.0


def test_old_durations_are_forgotten():
    durations = Durations([9.0] * 3000)
    for _ in range(1901):
        durations.add(1.0)
    assert durations.percentile() == 1.0


# The limits of a worker


@pytest.fixture
def limits(job):
    """Return a function that makes them, of some options and a deadline."""

    def limits(deadline=None, **options):
        given = WorkerOptions(**options)
        return Limits(given, job._replace(deadline=deadline or Deadline(None)))

    return limits


def test_so_many_messages_are_started(limits):
    mine = limits(max_messages=2)
    mine.started = 1
    assert mine.may_start()
    mine.started = 2
    assert not mine.may_start()
    assert mine.stopped == "2 messages were started"


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_job_ends_no_sooner_or_later_when_its_node_sets_the_time(
    limits, clock, hours
):
    mine = limits(deadline_from({}, clock, time=100, min_remaining=50), grace=10)
    clock.set_by_ns = int(hours * 3600e9)
    assert (mine.may_start(), mine.time_left()) == (True, 90)
    clock.advance(51)
    assert not mine.may_start()


def test_near_its_end_a_job_starts_nothing_and_then_drains(limits, clock):
    mine = limits(Deadline(clock.monotonic() + 100, fixed=50), grace=10)
    assert mine.may_start()
    clock.advance(51)
    assert not mine.may_start()
    assert mine.stopped == "too little time remains for another message"
    assert (mine.time_left(), mine.must_drain()) == (39, False)
    clock.advance(39)
    assert mine.must_drain()
    assert (mine.stopped, mine.is_at_end()) == ("its time is over", True)


@pytest.mark.parametrize(
    ("options", "failed", "acked", "stopped"),
    [
        ({"max_failures": 3}, 2, 0, ""),
        ({"max_failures": 3}, 3, 9, "3 of 12 messages failed"),
        ({"max_failed_share": 0.5}, 5, 0, ""),  # too few to mean something
        ({"max_failed_share": 0.5}, 5, 5, "5 of 10 messages failed"),
        ({"max_failed_share": 0.5}, 5, 6, ""),
        ({}, 99, 0, ""),
    ],
)
def test_too_many_failures_stop_it(limits, options, failed, acked, stopped):
    mine = limits(**options)
    mine.note_results({"failed": failed, "acked": acked})
    assert (mine.stopped, mine.is_broken) == (stopped, False)


def test_one_message_is_one(limits):
    mine = limits(max_messages=1)
    mine.started = 1
    assert not mine.may_start()
    assert mine.stopped == "1 message was started"


def test_a_worker_that_can_not_go_on_is_broken(limits):
    mine = limits()
    assert not mine.must_stop("")
    assert mine.must_stop("no directory")
    assert (mine.stopped, mine.is_broken) == ("no directory", True)
    assert mine.must_stop("")


def test_a_brake_is_the_reason_whatever_else_comes_and_ends_a_chain(limits, job, clock):
    mine = limits(Deadline(clock.monotonic() + 100, fixed=50), max_messages=0)
    assert mine.is_at_end()
    assert not mine.may_start()
    mine.brake("all failed")
    assert (mine.is_braked, mine.is_broken, mine.is_at_end()) == (True, False, False)
    assert mine.must_stop("")
    job.signals.drain_requested = True
    assert mine.must_drain()
    assert mine.stopped == "all failed"


def test_a_request_to_drain_ends_a_chain_but_is_no_fault(limits, clock):
    mine = limits(Deadline(clock.monotonic() + 100, fixed=50))
    assert mine.is_at_end()
    mine.drain()
    assert (mine.is_drained, mine.is_broken, mine.is_at_end()) == (True, False, False)
    assert mine.must_stop("")
    assert not mine.must_drain()  # what runs is finished


def test_the_first_reason_why_a_node_is_broken_stays(limits):
    mine = limits(fast_failures=2)
    mine.note_fast_failures(1)
    assert not mine.is_broken
    mine.note_fast_failures(2)
    mine.stop_broken("the command is gone")
    assert mine.is_broken
    assert "this node looks broken: 2 failures" in mine.stopped


def test_only_what_failed_within_seconds_failed_fast(limits, ended, clock):
    run = ended("exit 1")
    assert not limits().is_fast_failure(run)
    mine = limits(fast_failures=1)
    assert mine.is_fast_failure(run)
    assert not mine.is_fast_failure(ended("exit 0"))
    run.execution.command.was_killed = True
    assert not mine.is_fast_failure(run)
