"""The workers of a queue, all together."""

from __future__ import annotations

import pytest
from unit.cli.test_panel import worker

from ddmq import Counts, Failure, Running
from ddmq.cli.workforce import Workforce, in_words, of_all, why, with_progress

COUNTS = Counts(waiting=90, work=10, delayed=0, dead=0)


def test_of_busy_ones_that_finished_nothing_yet_the_others_tell_the_rate():
    done = worker(busy=4, slots=4, acked=8, work=80.0)  # each takes 10 s: 0.4 a second
    fresh, idle = worker(busy=4, slots=4), worker(busy=0, slots=4)
    # What it moved to another queue is not done.
    ended = worker(state="ended", slots=4, busy=0, acked=5, moved=3)
    force = Workforce.of([done, fresh, idle, ended], COUNTS)
    assert (force.workers, force.slots, force.busy, force.done) == (3, 12, 8, 13)
    assert (force.rate, force.done_in) == pytest.approx((0.8, 100 / 0.8))
    assert Workforce.of([], COUNTS) is None
    unknown = Workforce.of([fresh], COUNTS)
    assert (unknown.rate, unknown.done_in) == (None, None)


def test_of_the_last_ones_nobody_knows_when_they_are_done():
    done = worker(busy=4, slots=4, acked=8, work=80.0)
    for counts, known in (
        (Counts(waiting=0, work=4, delayed=0, dead=9), False),
        (Counts(waiting=1, work=4, delayed=0, dead=9), True),
        (Counts(waiting=0, work=4, delayed=1, dead=9), True),
    ):
        force = Workforce.of([done], counts)
        assert (force.done_in is not None) == known
        told = force.told(counts)
        assert ("done in about" in told) == known
        assert told.endswith("only leased messages are left") != known


def test_that_everything_is_finished_is_said_where_something_was_done():
    idle, nothing = worker(state="idle", busy=0, slots=4), Counts(0, 0, 0, 0)
    told = "1 worker, 0 of 4 slots busy"
    assert Workforce.of([idle], nothing).told(nothing) == told
    done = Workforce.of([idle._replace(acked=3)], nothing)
    assert done.told(nothing) == f"{told}, everything is finished"


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (10, "600 messages a minute"),
        (1 / 60, "1 message a minute"),
        (0.05, "3 messages a minute"),
        (1 / 3600, "1 message an hour"),
        (0.5 / 60, "30 messages an hour"),
    ],
)
def test_a_rate_is_told_by_the_minute_or_the_hour(rate, said):
    assert in_words(rate) == said


def test_states_are_counted_in_the_order_in_which_they_are_met():
    found = [worker(state=state) for state in ("idle", "working", "idle")]
    assert of_all(found) == "2 idle, 1 working"
    assert of_all([]) == "no worker has been seen"


def test_what_a_command_said_stands_behind_its_text():
    assert with_progress("x", Running(1, "a", 0.0, "x", "40%")) == "x (40%)"
    assert with_progress("x", Running(1, "a", 0.0, "x")) == "x"


def test_a_text_that_stands_beside_a_failure_is_not_said_again():
    failure = Failure("a", 0.0, "in/x.gz", "exit status 2 on node11: in/x.gz: bad")
    assert why(failure, worker()) == "exit status 2: …: bad"
    assert why(failure._replace(text="x"), worker()).endswith("x.gz: bad")


def test_a_host_that_stands_beside_a_failure_is_not_said_again():
    failure = Failure("a", 0.0, "x", "exit status 2 on node11: no node12 on node11")
    assert why(failure, worker()) == "exit status 2: no node12 on node11"
    assert why(failure, worker(host="node1")) == failure.reason
    killed = Failure("a", 0.0, "x", "killed by SIGKILL on node11")
    assert why(killed, worker()) == "killed by SIGKILL"
