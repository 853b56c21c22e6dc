"""Leases that are kept alive, in a thread."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import ExitStack
from queue import SimpleQueue

import pytest
from support import Calls, FakeClock

from ddmq import Broker
from ddmq.clock import Clock
from ddmq.errors import StorageError
from ddmq.holding.heartbeat import Heartbeat
from ddmq.storage.filesystem import FileSystem


@pytest.fixture
def held(root, broker, clock):
    """A message whose lease lasts for 30 s."""
    broker.publish("q", "a", timeout=30)
    [message] = broker.consume("q")
    return message


@pytest.fixture
def beating(broker, clock, held):
    """A heartbeat without its thread, which keeps `held` alive."""
    heartbeat = Heartbeat(broker, clock)
    heartbeat.start(held)
    return heartbeat


def due_in(heartbeat):
    return heartbeat._seconds_to(heartbeat._next_due())


def test_a_lease_is_renewed_after_a_third_of_its_time(root, beating, clock, held):
    assert (due_in(beating), beating.over_in()) == (10, 30)
    beating.beat()
    assert os.listdir(root / "q" / "work") == [held.filename]
    clock.advance(10)
    beating.beat()
    assert (due_in(beating), beating.over_in()) == (10, 30)
    renewed = beating.stop(held)
    assert os.listdir(root / "q" / "work") == [renewed.filename] != [held.filename]
    assert (due_in(beating), beating.over_in(), beating.lost()) == (None, None, [])


def test_a_lease_that_was_old_when_it_came_is_renewed_sooner(broker, clock, held):
    heartbeat = Heartbeat(broker, clock)
    clock.advance(15)
    heartbeat.start(held)
    assert (due_in(heartbeat), heartbeat.over_in()) == (0, 15)


def test_a_lost_lease_is_told_once_and_renewed_no_more(broker, beating, clock, held):
    broker.release(held)
    clock.advance(10)
    beating.beat()
    assert beating.lost() == [held]
    assert beating.lost() == []
    assert (due_in(beating), beating.over_in()) == (None, None)


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESTALE])
@pytest.mark.parametrize("away", ["", "/q"])
def test_while_the_queue_is_away_a_lease_is_held_as_long_as_it_can_be(
    root, broker, beating, clock, held, caplog, away, code
):
    def call(_, name, function, arguments):
        path = str(arguments[0])
        if is_away[0] and f"{path}/".startswith(f"{root}{away}/"):
            raise OSError(code, os.strerror(code), path)
        return function(*arguments)

    broker._fs.calls, is_away = Calls(call), [True]
    clock.advance(10)
    for _ in range(19):
        beating.beat()
        assert (due_in(beating), beating.lost()) == (1, [])
        clock.advance(1)
    is_away[0] = False
    beating.beat()
    assert (beating.over_in(), beating.lost()) == (30, [])
    assert ["leases are not renewed now" in r.message for r in caplog.records] == [True]
    is_away[0] = True
    clock.advance(29)
    beating.beat()
    assert beating.lost() == []
    clock.advance(1)
    assert [message.id for message in beating.lost()] == [held.id]


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.EROFS])
def test_a_refused_renewal_is_tried_again(root, clock, held, refusing, code):
    fs = refusing("rename", code, "/work/", times=2)
    heartbeat = Heartbeat(Broker(root, clock=clock, fs=fs), clock)
    heartbeat.start(held)
    clock.advance(10)
    heartbeat.beat()
    clock.advance(1)
    heartbeat.beat()
    assert (due_in(heartbeat), heartbeat.lost()) == (1, [])
    clock.advance(1)
    heartbeat.beat()
    assert heartbeat.over_in() == 30


class Threads(FakeClock):
    """A clock that stands still, under which threads do what may take long."""

    begin = Clock.begin


@pytest.mark.parametrize(("hanging", "done_beside"), [(1, 3), (2, 0)])
def test_renewals_that_hang_hold_up_others_only_where_they_are_too_many(
    root, broker, monkeypatch, hanging, done_beside
):
    monkeypatch.setattr("ddmq.holding.heartbeat._PATIENCE", 0.01)
    monkeypatch.setattr("ddmq.holding.heartbeat._HANGING", 2)
    broker.publish_many("q", list("abcd"), timeout=30)
    clock, go_on, begun, done = Threads(), threading.Event(), [], SimpleQueue()
    mine = Broker(root, clock=clock)
    renew, messages = mine.renew, mine.consume("q", 4)

    def maybe_hang(held, **options):
        begun.append(held[0].id)
        if len(begun) <= hanging:
            assert go_on.wait(30)
        renewed = renew(held, **options)
        done.put(held[0].id)
        return renewed

    monkeypatch.setattr(mine, "renew", maybe_hang)
    heartbeat = Heartbeat(mine, clock)
    for message in messages:
        heartbeat.start(message)
    clock.advance(10)
    with heartbeat:
        beside = [done.get(timeout=10) for _ in range(done_beside)]
        while len(begun) < hanging:
            pass
        assert begun[hanging:] == beside
        go_on.set()
        late = [done.get(timeout=10) for _ in messages[done_beside:]]
        assert sorted(beside + late) == sorted(m.id for m in messages)
        mine.ack([heartbeat.stop(message) for message in messages])


def test_all_lines_that_one_claim_took_are_renewed_by_one_rename(root, broker, clock):
    broker.publish_many("q", list("abcdefghijkl"), timeout=30)
    calls = Calls(lambda _, name, function, arguments: function(*arguments))
    mine = Broker(root, clock=clock, fs=FileSystem(calls))
    heartbeat = Heartbeat(mine, clock)
    first, *others = mine.consume("q", 6)
    for message in (first, *others):
        heartbeat.start(message)
    mine.ack(heartbeat.stop(first))
    clock.advance(10)
    before = len(calls.made)
    heartbeat.beat()
    assert calls.made[before:].count("rename") == 1
    assert (due_in(heartbeat), heartbeat.over_in()) == (10, 30)
    mine.ack([heartbeat.stop(message) for message in others])


def test_a_line_whose_lease_is_lost_takes_no_other_with_it(broker, clock):
    broker.publish_many("q", list("abcdefghijkl"), timeout=30)
    heartbeat = Heartbeat(broker, clock)
    first, *others = broker.consume("q", 3)
    for message in (first, *others):
        heartbeat.start(message)
    broker.nack(first)
    clock.advance(10)
    heartbeat.beat()
    assert heartbeat.lost() == [first]
    clock.advance(1)
    heartbeat.beat()
    assert heartbeat.over_in() == 30


def test_two_leases_of_one_message_are_two(broker, beating, clock, held):
    broker.release(held)
    [again] = broker.consume("q")
    beating.start(again)
    clock.advance(10)
    beating.beat()
    assert beating.lost() == [held]
    beating.stop(held)
    broker.ack(beating.stop(again))


class Hanging:
    """A file system whose renames within `work/` hang until they are told to go on."""

    def __init__(self):
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, _, name, function, arguments):
        if name == "rename" and "/work/" in arguments[0]:
            self.reached.set()
            assert self.go_on.wait(30)
        return function(*arguments)


@pytest.fixture
def hanging(root, clock, held):
    """A heartbeat with its thread, which hangs in a renewal of `held`."""
    calls, woken = Hanging(), threading.Event()
    broker = Broker(root, clock=clock, fs=FileSystem(Calls(calls)))
    with ExitStack() as stack:
        heartbeat = stack.enter_context(Heartbeat(broker, clock, woken.set))
        stack.callback(calls.go_on.set)
        clock.advance(10)
        heartbeat.start(held)
        assert calls.reached.wait(30)
        yield heartbeat, calls.go_on, stack
    assert heartbeat.lost() == []
    assert not woken.is_set()


def test_whoever_settles_sees_the_name_that_a_renewal_makes(root, hanging, held):
    heartbeat, go_on, _ = hanging
    threading.Timer(0.01, go_on.set).start()
    renewed = heartbeat.stop(held)
    assert os.listdir(root / "q" / "work") == [renewed.filename] != [held.filename]


def test_nobody_waits_for_ever_for_a_renewal(root, broker, hanging, held, monkeypatch):
    monkeypatch.setattr("ddmq.holding.heartbeat._PATIENCE", 0.01)
    heartbeat, _, stack = hanging
    with pytest.raises(StorageError, match="hangs"):
        heartbeat.confirm(held)
    broker.ack(heartbeat.stop(held))
    stack.close()  # the renewal comes too late, and complains to nobody
    assert os.listdir(root / "q" / "work") == []


def test_a_renewal_that_hangs_for_too_long_loses_the_lease(hanging, clock, held):
    heartbeat, _, stack = hanging
    assert heartbeat.over_in() == 20
    clock.advance(20)
    assert heartbeat.lost() == [held]
    stack.close()  # it comes through at last, and the lease is held again
    assert (heartbeat.over_in(), heartbeat.stop(held).id) == (10, held.id)
    assert heartbeat.over_in() is None


def test_what_was_left_is_renewed_no_more_when_a_renewal_that_hung_comes_through(
    hanging, clock, held
):
    heartbeat, _, stack = hanging
    clock.advance(20)
    assert heartbeat.lost() == [held]
    heartbeat.leave(held)
    stack.close()
    assert (heartbeat.over_in(), heartbeat.holds(held)) == (None, False)


def test_a_lease_that_is_confirmed_after_it_was_lost_is_kept_alive(
    beating, clock, held
):
    clock.advance(30)
    assert beating.lost() == [held]
    beating.confirm(held)
    for _ in range(4):
        assert (beating.over_in(), beating.lost()) == (30, [])
        clock.advance(10)
        beating.beat()


def test_its_thread_renews_what_somebody_else_renewed_before(
    broker, clock, held, monkeypatch
):
    heartbeat, renew, sleeps = Heartbeat(broker, clock), broker.renew, SimpleQueue()
    sleep = heartbeat._sleep
    monkeypatch.setattr(heartbeat, "_sleep", lambda s: (sleeps.put(s), sleep(s)))

    def slow(message, **options):
        while not sleeps.empty():
            sleeps.get()
        heartbeat._rouse()
        while sleeps.get(timeout=10) is not None:  # until it passed over what is busy
            pass
        return renew(message, **options)

    monkeypatch.setattr(broker, "renew", slow)
    with heartbeat:
        heartbeat.confirm(held)
        while sleeps.get(timeout=10) != 10:  # until it knows when the next one is due
            pass


def test_its_thread_renews_by_itself_and_wakes_whoever_waits(root, broker, clock, held):
    woken = threading.Event()
    with Heartbeat(broker, clock, woken.set) as heartbeat:
        broker.release(held)
        clock.advance(10)
        heartbeat.start(held)
        assert woken.wait(30)
        assert heartbeat.lost() == [held]
