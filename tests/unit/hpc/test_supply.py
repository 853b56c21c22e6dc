"""What a worker takes ahead of its slots, shares out among them, and gives back."""

from __future__ import annotations

import errno
import os

import pytest
from support import counting
from unit.hpc.conftest import parts_of

from ddmq import Broker
from ddmq.holding.heartbeat import is_started
from ddmq.hpc.limits import AHEAD_AT_MOST
from ddmq.hpc.options import WorkerOptions
from ddmq.storage.filesystem import FileSystem


@pytest.fixture
def supply(broker, job):
    """Return a function that makes the supply of a worker whose commands take 0.1 s."""

    def supply(**options):
        job.durations.add(0.1)
        return parts_of(broker, job, WorkerOptions(**options)).supply

    return supply


def texts(messages):
    return [each.message for each in messages]


def test_one_look_takes_for_the_next_seconds_and_later_ones_look_nowhere(
    broker, supply
):
    broker.publish_many("q", list("abc"))
    mine = supply(slots=3)
    assert texts(mine.next(3)) == ["a"]
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


# What is started is noted before its command is


def taken(root):
    """Return how many of the leased messages are not started, as their names say."""
    names = os.listdir(root / "q" / "work")
    letters = sum(name.split(".")[6].count("t") for name in names if "range" in name)
    return letters + sum(name.endswith(".taken") for name in names)


@pytest.mark.parametrize(
    ("number", "known", "slots", "left"),
    [
        (5, 0.5, 1, [4, 3, 2]),
        (30, 0.5, 1, [4, 3, 2]),
        (30, 0.5, 2, [8, 7, 6]),  # ten are taken
        (30, 0.05, 4, [22, 22, 22]),  # eight begin within a tenth of a second
        (30, 0.0001, 1, [0, 0, 0]),
    ],
)
def test_what_is_taken_ahead_is_started_when_its_turn_comes(
    broker, job, root, number, known, slots, left
):
    broker.publish_many("q", list(map(str, range(number))))
    job.durations.add(known)
    mine = parts_of(broker, job, WorkerOptions(slots=slots)).supply
    found = []
    for free in [slots, *[1] * (len(left) + slots - 2)]:
        [message] = mine.next(free)
        assert is_started(message)
        found.append(taken(root))
    assert found[slots - 1 :] == left


def test_slots_that_are_free_together_are_noted_together(broker, root, clock, job):
    calls = counting()
    broker = Broker(root, clock=clock, fs=FileSystem(calls))
    broker.publish_many("q", list(map(str, range(40))))
    job.durations.add(0.5)
    mine = parts_of(broker, job, WorkerOptions(slots=8)).supply
    for _ in range(8):
        mine.next(8)
    before = len(calls.made)
    for free in range(8, 0, -1):
        mine.next(free)
    assert calls.made[before:].count("rename") == 1


def test_what_can_not_be_started_now_is_kept_and_started_later(
    broker, root, clock, job, refusing
):
    fs = refusing("rename", errno.EIO, ".range", times=1)
    broker.publish_many("q", list(map(str, range(20))))
    job.durations.add(0.5)
    mine = parts_of(Broker(root, clock=clock, fs=fs), job, WorkerOptions()).supply
    assert texts(mine.next(1)) == ["0"]
    assert mine.next(1) == []
    clock.advance(31)
    assert texts(mine.next(1)) == ["1"]


def test_what_was_lost_before_it_was_started_is_never_started(
    broker, root, clock, job, caplog
):
    broker.publish_many("q", list("abcde"))
    job.durations.add(0.5)
    mine = parts_of(broker, job, WorkerOptions()).supply
    assert texts(mine.next(1)) == ["a"]
    other = Broker(root, clock=clock)
    other.release(other.leased("q", mine._ahead[0].id))
    assert texts(mine.next(1)) == ["c"]
    assert "the lease is lost" in caplog.text
