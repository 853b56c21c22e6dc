"""What clients do because there is no server."""

from __future__ import annotations

import errno
import logging
import os
from contextlib import suppress

import pytest
from protocol.scenes import (
    QUEUE,
    crashing_after_links,
    crashing_after_rename_into,
)
from support import Calls, Crash, FakeClock
from unit.scenes import leased, leftover, lost, names, store_of

from ddmq import Broker, LeaseLost, QueueNotFound, StorageError
from ddmq.storage.expiry import Swept
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.housekeeping import Housekeeper, find_due, find_expired
from ddmq.storage.locks import exclusive
from ddmq.storage.store import Store

HOUR = 3600


@pytest.fixture
def quiet(broker, root, clock):
    """A client that leaves the housekeeping to others."""
    return Broker(root, clock=clock, clean=False)


# What there is to do


def test_a_lease_is_over_when_its_time_is_and_not_before(world, publisher):
    leased(world, publisher)
    store = store_of(world)
    world.clock.advance(4.99)
    assert find_expired(store) == ([], 1, [])
    world.clock.advance(0.02)
    assert len(find_expired(store)[0]) == 1


def test_what_is_over_is_told_with_the_bundles_that_may_be_finished(world, bundler):
    bundler.consume(QUEUE, 3)
    bundler.renew(bundler.consume(QUEUE, 9), 9000)
    bundler.publish_many(QUEUE, map(str, range(12)), priority=0)
    id_ = next(place.entry.id for place in store_of(world).scan.places())
    bundler.ack(bundler.consume(QUEUE, 2))
    bundler.publish_many(QUEUE, map(str, range(12)), priority=7)  # nobody opens it
    store = store_of(world)
    assert find_expired(store)[0] == []
    world.clock.advance(3600)
    over, number, bundles = find_expired(store, of_all=True)
    assert [(held.range.first, held.range.end) for held in over] == [(0, 3)]
    assert number == len(os.listdir(f"{world.path}/work"))
    assert bundles == [id_]


def test_those_that_are_due_are_told_in_that_order_and_the_number_of_all(
    world, publisher
):
    ids = [publisher.publish(QUEUE, "x", delay=delay) for delay in (2, 1, 30)]
    world.clock.advance(10)
    come, number = find_due(store_of(world))
    assert [delayed.entry.id for delayed in come] == [ids[1], ids[0]]
    assert number == 3


# Leases that are over


def test_a_message_whose_consumer_vanished_is_consumed_again(broker, clock):
    message = lost(broker, clock, priority=7, requeue_prio=3)
    (again,) = broker.consume("q")
    assert again.id == message.id
    assert (again.priority, again.failures, again.losses) == (3, 0, 1)


def test_it_comes_before_those_that_wait(broker, clock):
    broker.publish("q", "first", timeout=5)
    broker.publish("q", "second")
    broker.consume("q")
    clock.advance(6)
    assert [m.message for m in broker.consume("q", 2)] == ["first", "second"]


def test_any_interaction_does_the_housekeeping(broker, clock, root):
    uses = (
        lambda b: b.publish("q", "y"),
        lambda b: b.view("q"),
        lambda b: b.dead("q"),
        lambda b: b.clean("q"),
    )
    for use in uses:
        lost(broker, clock, requeue_prio=50, priority=1)
        use(Broker(root, clock=clock))
        assert names(root, "work") == []
        broker.purge("q")


def test_a_client_that_runs_on_does_it_every_second(broker, clock, root):
    broker.publish("q", "x", timeout=1)
    clock.advance(0.5)
    broker.consume("q")
    clock.advance(0.6)
    broker.publish("q", "y")  # the lease is not over yet
    clock.advance(0.9)
    broker.publish("q", "y")
    assert len(names(root, "work")) == 1
    clock.advance(0.2)
    broker.publish("q", "y")
    assert len(names(root, "work")) == 0


def test_a_client_that_leaves_it_to_others_does_nothing(quiet, broker, clock, root):
    lost(broker, clock)
    quiet.publish("q", "y", delay=1)
    clock.advance(60)
    assert quiet.consume("q") == []
    assert quiet.view()["q"][1:3] == (1, 1)
    quiet.clean("q")
    assert quiet.view()["q"] == (2, 0, 0, 0)


@pytest.mark.parametrize("many", [1, 12], ids=["single", "bundled"])
def test_a_message_comes_back_by_its_own_timeout_wherever_its_consumer_dies(
    broker, root, clock, many
):
    """Also before it read the message: it has only seen the name."""
    broker.publish_many("q", map(str, range(many)), timeout=3)
    for dies in range(100):
        left = [10**9]

        def call(_, name, function, arguments, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise Crash
            return function(*arguments)

        client = Broker(root, clock=clock, fs=FileSystem(Calls(call)))
        client.view("q")
        left[0] = dies
        with suppress(Crash):
            if client.consume("q"):
                break
        clock.advance(3.5)
        assert broker.clean("q").dead == 0
        assert broker.view("q")["q"] == (many, 0, 0, 0)
    assert 5 < dies < 99


def test_of_two_housekeepers_one_requeues(broker, other, clock):
    lost(broker, clock)
    assert [broker.clean("q").requeued, other.clean("q").requeued] == [1, 0]


# Leases that are ended before their time


def test_who_knows_that_nobody_works_ends_all_leases(broker, root, clock):
    broker.publish_many("q", range(12), timeout=500)
    alone = broker.publish("q", "alone", priority=1, timeout=500)
    first = broker.consume("q", 6)
    crashing = FileSystem(crashing_after_rename_into("/work/"))
    with suppress(Crash):  # that claim is never made by who died here
        Broker(root, clock=clock, fs=crashing, clean=False).consume("q", 3)
    assert broker.clean("q") == Swept()
    keeper = Broker(root, clock=clock)
    assert keeper.clean("q", end_leases=True) == Swept(requeued=6)
    assert keeper.view("q")["q"] == (13, 0, 0, 0)
    for message in first:
        with pytest.raises(LeaseLost):
            broker.ack(message)
    again = keeper.consume("q", 20) + keeper.consume("q", 20) + keeper.consume("q", 20)
    losses = {message.message: message.losses for message in again}
    assert len(again) == len(losses) == 13
    assert losses == {
        **dict.fromkeys(range(5), 1),
        **dict.fromkeys(range(5, 12), 0),
        "alone": 1,
    }
    assert alone in {message.id for message in again}
    keeper.ack(again)
    assert keeper.clean("q", end_leases=True) == Swept()


# Dropped files


def test_a_client_that_runs_on_looks_into_the_drop_now_and_then(broker, clock, drop):
    assert broker.consume("q") == []
    drop("a", b"x")
    clock.advance(31)
    assert len(broker.consume("q")) == 1


# Leftovers


def test_empty_directories_are_removed(broker, root, clock):
    for priority in range(3):
        broker.publish("q", "x", priority=priority)
    broker.ack(broker.consume("q", 3))
    clock.advance(60)
    broker.clean("q")
    assert names(root, "ready") == []


def test_cleaning_tells_what_it_found(broker, clock, root, aged, drop):
    broker.publish("q", "x", timeout=2, requeue_limit=0)
    broker.publish("q", "y", timeout=2)
    broker.publish("q", "z", delay=1)
    broker.consume("q", 2)
    clock.advance(3)
    leftover(root, aged)
    drop("a", b"x")
    quiet = Broker(root, clock=clock, clean=False)
    assert quiet.clean("q") == Swept(requeued=1, dead=1, due=1, adopted=1, removed=1)
    assert broker.clean_all() == {"q": Swept()}


def test_all_queues_are_cleaned(broker, clock):
    broker.create_queue("other")
    lost(broker, clock)
    assert broker.clean_all() == {"other": Swept(), "q": Swept(requeued=1)}


# Who cleans


def test_clients_clean_without_being_told(broker, root, aged):
    left = leftover(root, aged)
    broker.consume("q")
    assert not left.exists()


def test_nobody_cleans_what_was_cleaned_just_now(broker, other, root, aged, clock):
    broker.clean("q")
    aged(root / "q" / "cleaned", 500)
    left = leftover(root, aged)
    other.consume("q")
    assert left.exists()
    clock.advance(700)
    aged(left, 2 * HOUR)
    other.consume("q")
    assert not left.exists()


@pytest.mark.parametrize(("age", "cleaned"), [(1000, False), (HOUR + 10, True)])
def test_a_lock_that_is_held_is_waited_for_an_hour(broker, root, aged, age, cleaned):
    broker.clean("q")
    aged(root / "q" / "cleaned", age)
    left = leftover(root, aged)
    with exclusive(f"{root}/q/lock", 0):
        broker.consume("q")
    assert left.exists() is not cleaned


@pytest.mark.parametrize(("age", "cleaned"), [(1000, False), (HOUR + 10, True)])
def test_a_lock_that_can_not_be_used_is_waited_for_an_hour(
    broker, root, aged, age, cleaned
):
    broker.clean("q")
    aged(root / "q" / "cleaned", age)
    left = leftover(root, aged)
    (root / "q" / "lock").unlink(missing_ok=True)
    (root / "q" / "lock").mkdir()
    broker.consume("q")
    assert left.exists() is not cleaned


def test_cleaning_leaves_a_mark_for_others(broker, root):
    broker.consume("q")
    before = (root / "q" / "cleaned").stat().st_ino
    broker.clean("q")
    assert (root / "q" / "cleaned").stat().st_ino != before


def test_a_mark_that_can_not_be_set_leaves_nothing_behind(broker, root, refusing):
    client = Broker(root, fs=refusing("rename", errno.ENOSPC, "/tmp/"))
    with suppress(StorageError):
        client.clean("q")
    assert names(root, "tmp") == []


@pytest.mark.parametrize(("leases", "seconds"), [(0, 1), (100, 2), (900, 10)])
def test_the_more_leases_the_rarer_each_client_lists_them(
    broker, clock, root, leases, seconds
):
    lasting(root, leases)
    work = root / "q" / "work"
    broker.publish("q", "x")
    overdue = work / f"0000000000001.0.{1:019d}.b.0-0.{0:016x}"
    overdue.write_text('{"message": "x"}')
    clock.advance(seconds - 0.1)
    broker.publish("q", "x")
    assert overdue.exists()
    clock.advance(0.2)
    broker.publish("q", "x")
    assert not overdue.exists()


def test_a_consumer_with_nothing_to_do_looks_more_often(broker, clock):
    broker.publish("q", "x", timeout=1)
    assert len(broker.consume("q")) == 1
    clock.advance(0.8)
    assert broker.consume("q") == []
    clock.advance(0.25)
    assert len(broker.consume("q")) == 1


def test_a_sweep_tells_whether_it_was(broker, root, clock):
    store = Store(f"{root}/q", FileSystem(), clock)
    keeper = Housekeeper("q", store, lambda: broker.settings("q"))
    swept = []
    for seconds in (0, 0.9, 0.1, 0.1, 0.1):
        clock.advance(seconds)
        swept.append(keeper.sweep_when_due())
    assert swept == [True, False, True, False, False]
    assert keeper.sweep_when_due(idle=True)


# In time


@pytest.fixture
def slow(broker, root, clock):
    """A client far from the file server: each system call takes 5 ms."""

    def call(_, __, function, arguments):
        clock.advance(0.005)
        return function(*arguments)

    return Broker(root, clock=clock, fs=FileSystem(Calls(call)))


def everything(broker, clock, drop):
    """Let there be 200 messages of each kind that housekeeping moves."""
    for number in range(200):
        broker.publish("q", number, timeout=5)
        drop(f"{number:03d}", b"dropped")
    broker.consume("q", 200)
    for number in range(200):
        broker.publish("q", number, delay=5)
    clock.advance(6)


def test_who_comes_to_consume_does_not_wait_for_all_the_housekeeping(
    broker, slow, clock, drop
):
    everything(broker, clock, drop)
    began, found = clock.monotonic(), []
    while len(found) < 600:
        called = clock.monotonic()
        found += slow.consume("q", 10)
        assert clock.monotonic() - called < 4
    assert clock.monotonic() - began < 60  # about 50 ms for each message


def lasting(root, number):
    """Let there be so many leases that last."""
    for n in range(number):
        name = f"9999999999999.0.{n:019d}.a.0-0.{n:016x}"
        (root / "q" / "work" / name).touch()


def test_a_client_that_is_never_idle_goes_on_with_it_each_second(
    broker, slow, clock, drop, root
):
    everything(broker, clock, drop)
    lasting(root, 900)
    for _ in range(30):
        slow.publish("q", "x")
        clock.advance(1)
    assert len(names(root, "work")) == 900
    assert names(root, "delayed") == names(root, "drop") == []


def test_many_leases_that_last_do_not_slow_down_what_is_unfinished(
    broker, slow, clock, root
):
    broker.publish_many("q", range(200), timeout=5, requeue_limit=0)
    broker.consume("q", 200)
    lasting(root, 900)
    clock.advance(6)
    for _ in range(20):
        slow.publish("q", "x")
        clock.advance(1)
    left = [name for name in names(root, "work") if name.endswith(".range")]
    assert left == []
    assert broker.view()["q"].dead == 200


def test_none_waits_for_ever_behind_those_that_fail_slowly(broker, root, clock):
    """However many fail, and though each client looks only once."""
    for number in range(6):
        broker.publish("q", number, timeout=5)
    failing = {message.id for message in broker.consume("q", 6)[:4]}
    clock.advance(6)

    def call(_, name, function, arguments):
        if name == "rename" and any(id_ in arguments[0] for id_ in failing):
            clock.advance(1)
            raise OSError(errno.EIO, "away", arguments[0])
        return function(*arguments)

    for _ in range(100):
        Broker(root, clock=clock, fs=FileSystem(Calls(call))).publish("q", "x")
    assert len(names(root, "work")) == 4


def test_a_cleaning_ends_in_time_and_the_next_one_goes_on(
    broker, slow, clock, root, aged
):
    for number in range(200):
        path = root / "q" / "tmp" / str(number)
        path.touch()
        aged(path, 2 * HOUR)
    left = [200]
    while left[-1]:
        called = clock.monotonic()
        slow.publish("q", "x")
        assert clock.monotonic() - called < 4
        left.append(len(names(root, "tmp")))
        aged(root / "q" / "cleaned", 700)
        clock.advance(700)
    assert len(left) > 2


def test_a_cleaning_looks_for_half_a_second_into_buckets(broker, root, clock):
    def call(_, name, function, arguments):
        clock.advance(0.005)
        if name == "listdir" and os.path.dirname(arguments[0]).endswith("/5"):
            looks.append(arguments[0])
        return function(*arguments)

    for _ in range(500):
        broker.publish("q", "x", priority=5)
    for number in range(200):  # as many buckets, without a shelf
        (root / "q" / "ready" / "5" / f"{10**18 + number:019d}").mkdir()
    clock.advance(700)
    looks: list[str] = []
    Broker(root, clock=clock, fs=FileSystem(Calls(call))).publish("q", "x")
    assert 40 < len(looks) < 60


@pytest.fixture
def interrupted(broker, root, clock):
    """Three lines of a bundle are claimed; then their consumer dies before it gets them."""
    broker.publish_many("q", range(20), priority=50, timeout=5)
    fs = FileSystem(crashing_after_links(2))
    with pytest.raises(Crash):
        Broker(root, clock=clock, fs=fs).consume("q", 3)
    clock.advance(700)


@pytest.mark.usefixtures("interrupted")
def test_a_claim_that_was_interrupted_comes_back_at_once(other):
    assert [m.message for m in other.consume("q", 3)] == [0, 1, 2]


@pytest.mark.usefixtures("interrupted")
def test_a_claim_that_was_interrupted_comes_back_whatever_else_is_to_do(
    slow, root, clock, drop
):
    for number in range(1000):
        drop(f"{number:04d}", b'{"message": "x", "priority": 0}')
    slow.publish("q", "x")
    clock.advance(1)
    slow.publish("q", "x")
    assert slow.view()["q"].work == 0
    assert len(names(root, "drop")) > 500


def test_what_is_due_is_seen_while_much_is_dropped(broker, slow, clock, drop):
    for number in range(1000):
        drop(f"{number:04d}", b'{"message": "x", "priority": 999}')
    slow.publish("q", "x")
    for _ in range(3):
        broker.publish("q", "due", delay=1, priority=0)
        clock.advance(1)
        slow.publish("q", "x")
        assert [m.message for m in slow.consume("q")] == ["due"]


def test_who_is_told_to_clean_does_all_of_it(broker, slow, clock, drop, root):
    everything(broker, clock, drop)
    slow.publish("q", "x")
    assert len(names(root, "drop")) > 100
    (root / "q" / "cleaned").unlink()
    slow.clean("q")
    assert (root / "q" / "cleaned").exists()
    assert slow.view()["q"] == (601, 0, 0, 0)


def test_leases_that_are_over_do_not_put_the_next_sweep_off(broker, clock, root):
    broker.publish_many("q", range(300), timeout=1)
    for _ in range(2):
        assert len(broker.consume("q", 300)) == 300
        clock.advance(2)
        broker.publish("q", "y")
        assert broker.view()["q"].work == 0


def test_a_client_that_looks_twice_a_minute_sees_what_is_due(broker, other, clock):
    for messages in (0, 0, 1):
        broker.publish_many("q", ["x"] * messages, delay=20)
        clock.advance(35)
        assert len(other.consume("q")) == messages


# Trouble


def test_a_message_that_makes_trouble_does_not_stop_the_others(
    broker, root, clock, refusing, caplog
):
    bad = lost(broker, clock)
    for name in ("y", "z"):
        broker.publish("q", name, timeout=5)
    broker.consume("q")
    clock.advance(6)
    client = Broker(root, clock=clock, fs=refusing("rename", errno.EIO, bad.id))
    with caplog.at_level(logging.WARNING, "ddmq"):
        assert [m.message for m in client.consume("q", 2)] == ["y", "z"]
        clock.advance(5)
        client.consume("q")
    told = [r.message for r in caplog.records if bad.id in r.message]
    assert [text.startswith("housekeeping of queue q: ") for text in told] == [True]
    assert len(Broker(root, clock=clock).consume("q")) == 1


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_who_may_only_look_still_sees(broker, root, clock, refusing, caplog, code):
    lost(broker, clock)
    client = Broker(root, clock=clock, fs=refusing("rename", code))
    with caplog.at_level(logging.WARNING, "ddmq"):
        assert client.view()["q"] == (0, 1, 0, 0)
    assert caplog.text == ""


def test_a_disk_that_fails_is_told(broker, root, clock, refusing):
    client = Broker(root, clock=clock, fs=refusing("listdir", errno.EIO, "/work"))
    with pytest.raises(StorageError, match=r"/work: .*the storage failed"):
        client.consume("q")


def test_a_queue_deleted_meanwhile_is_said_to_be_gone(broker, other, clock):
    other.consume("q")
    broker.delete_queue("q")
    clock.advance(10)
    with pytest.raises(QueueNotFound):
        other.consume("q")


def test_who_may_not_list_the_leases_can_publish(root, broker, clock, refusing):
    fs = refusing("listdir", errno.EACCES, "/q/work")
    assert Broker(root, clock=clock, fs=fs).publish("q", "x")


def test_a_delayed_message_that_makes_trouble_does_not_stop_the_others(
    root, broker, clock, refusing
):
    ids = [broker.publish("q", text, delay=5) for text in "abc"]
    clock.advance(6)
    fs = refusing("rename", errno.EIO, ids[1])
    client = Broker(root, clock=clock, fs=fs, clean=False)
    assert client.clean("q").due == 2
    assert [m.message for m in client.consume("q", 9)] == ["a", "c"]


class Listening(FakeClock):
    """A clock that tells how often it was compared with the file server's."""

    step_ns = 0
    compared = 0

    def own_ns(self):
        return super().own_ns() + self.step_ns

    def synchronise(self, before_ns, stamped_ns, after_ns):
        self.compared += 1


def test_a_client_asks_for_the_servers_clock_again_every_ten_minutes(root, broker):
    clock = Listening()
    client = Broker(root, clock=clock)
    client.publish("q", "x")
    compared = []
    for seconds in (1, 598, 1, 1):
        clock.advance(seconds)
        client.publish("q", "x")
        compared.append(clock.compared)
    assert compared == [compared[0]] * 2 + [compared[0] + 1] * 2


def test_a_client_asks_for_the_servers_clock_again_when_its_own_was_set(root, broker):
    clock = Listening()
    client = Broker(root, clock=clock)
    client.publish("q", "x")
    before = clock.compared
    clock.step_ns = -5 * 10**9
    clock.advance(2)
    client.publish("q", "x")
    assert clock.compared == before + 1
