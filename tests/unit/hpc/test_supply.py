"""What a worker takes ahead of its slots, shares out among them, and gives back."""

from __future__ import annotations

import pytest

from ddmq.hpc.heartbeat import Heartbeat
from ddmq.hpc.limits import AHEAD_AT_MOST, Limits
from ddmq.hpc.options import WorkerOptions
from ddmq.hpc.poller import Poller
from ddmq.hpc.settling import Settler
from ddmq.hpc.supply import Supply


@pytest.fixture
def supply(broker, clock, job):
    """Return a function that makes the supply of a worker whose commands take 0.1 s."""

    def supply(**options):
        given = WorkerOptions(**options)
        job.durations.add(0.1)
        heartbeat = Heartbeat(broker, clock)
        return Supply(
            broker,
            "q",
            limits=Limits(given, job),
            poller=Poller(clock.monotonic, given.poll_max),
            settler=Settler(broker, "q", heartbeat, options=given, job=job),
            heartbeat=heartbeat,
            then=None,
            clock=clock,
        )

    return supply


def texts(messages):
    return [each.message for each in messages]


def test_one_look_takes_for_the_next_seconds_and_later_ones_look_nowhere(
    broker, supply
):
    broker.publish_many("q", list("abc"))
    mine = supply(slots=2)
    assert texts(mine.next(2)) == ["a"]
    assert broker.view("q")["q"] == (0, 3, 0, 0)
    broker.delete_queue("q")  # whoever looked now would notice
    assert [texts(mine.next(1)) for _ in range(2)] == [["b"], ["c"]]


def test_each_free_slot_gets_its_share_of_a_batch(broker, supply):
    broker.publish_many("q", list("abcdef"))
    mine = supply(slots=2, batch=10)
    assert [texts(mine.next(2)) for _ in range(2)] == [list("abc"), list("def")]


def test_one_that_came_back_runs_alone(broker, supply):
    broker.publish_many("q", list("ab"))
    a, b = broker.consume("q", 2)
    broker.nack(a)
    broker.release(b)
    broker.publish("q", "c")
    mine = supply(slots=1, batch=10)
    shares = [texts(mine.next(1)) for _ in range(3)]
    assert ["a"] in shares
    assert sorted(text for share in shares for text in share) == ["a", "b", "c"]


def test_those_of_a_failed_batch_come_before_all_others_and_one_by_one(broker, supply):
    broker.publish_many("q", list("abcd"))
    mine = supply(slots=1, batch=2)
    first = mine.next(1)
    mine.alone.extend(first)
    assert [texts(mine.next(1)) for _ in range(3)] == [["a"], ["b"], ["c", "d"]]


def test_what_did_not_fit_is_next(broker, supply):
    broker.publish_many("q", list("abc"))
    mine = supply(slots=1, batch=3)
    a, *others = mine.next(1)
    mine.put_back(others)
    assert texts([a, *mine.next(1)]) == ["a", "b", "c"]


def test_what_found_no_slot_in_time_is_given_back_and_counts_nothing(
    broker, supply, clock
):
    broker.publish_many("q", list("abc"))
    mine = supply(slots=1)
    assert mine.left() is None
    mine.next(1)
    assert mine.left() == AHEAD_AT_MOST
    clock.advance(AHEAD_AT_MOST + 1)
    assert mine.left() == 0
    mine.give_back()
    assert mine.left() is None
    back = broker.consume("q", 3)
    assert [(m.message, m.requeue_counter) for m in back] == [("b", 0), ("c", 0)]


def test_one_whose_lease_is_lost_is_not_started(broker, supply):
    broker.publish_many("q", list("abc"))
    mine = supply(slots=1)
    a = mine.next(1)
    mine.alone.extend(a)
    mine.lose(*a)
    assert texts(mine.next(1)) == ["b"]
    [c] = mine.next(1)
    mine.put_back([c])
    mine.lose(c)
    assert mine.left() is None


def test_a_paused_queue_gives_nothing(broker, supply):
    broker.publish("q", "a")
    broker.pause("q")
    mine = supply(slots=1)
    assert mine.next(1) == []
    assert broker.view("q")["q"].waiting == 1
