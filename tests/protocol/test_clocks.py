"""Nodes whose clocks are wrong, and a file server whose clock is the one that counts."""

from __future__ import annotations

import errno
import os
import stat
from glob import glob
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from protocol.scenes import (
    HOUR,
    MANY,
    QUEUE,
    new_world,
    remove_empty_buckets,
    text,
)
from support import Calls

from ddmq import Broker, StorageError
from ddmq.clock import Clock
from ddmq.diagnose.patient import Patient
from ddmq.diagnose.symptoms import times as symptoms
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.housekeeping import find_due, find_expired
from ddmq.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    _Hook = Callable[[str, str, Any], object]

MINUTE = 60
SKEWS = [(0, 0), (HOUR, -HOUR), (-HOUR, HOUR), (0, HOUR), (-HOUR, -HOUR)]


class Node(Clock):
    """A node's own clock, which runs as the server's does, but is wrong."""

    def __init__(self, server: Any, skew: float) -> None:
        super().__init__()
        self.server = server
        self.skew = skew
        self.slept = 0.0

    def own_ns(self) -> int:
        return int(self.server.now_ns + self.skew * 1e9)

    def monotonic(self) -> float:
        return float(self.server.now_ns / 1e9 - self.slept)

    def sleep(self, seconds: float) -> None:
        self.server.advance(seconds)


class Cluster:
    """A file server, and clients on nodes with clocks of their own."""

    def __init__(self, directory: Path) -> None:
        self.world = new_world(directory)
        self.server = self.world.clock

    def client(
        self, skew: float, before: _Hook | None = None, **options: Any
    ) -> Broker:
        """Return a client; `before` is told of each call, and may do something, or raise."""

        def call(
            _: int, name: str, function: Callable[..., Any], arguments: Any
        ) -> Any:
            if before is not None:
                before(name, str(arguments[0]), arguments)
            found = function(*arguments)
            return self._stamped(found) if name == "fstat" else found

        fs = FileSystem(Calls(call))
        return Broker(self.world.root, clock=Node(self.server, skew), fs=fs, **options)

    def _stamped(self, found: os.stat_result) -> Any:
        """Stamp with the server's clock what clients touch to ask for the time."""
        if stat.S_ISDIR(found.st_mode) and not self._is_tmp(found):
            return found
        return SimpleNamespace(
            st_dev=found.st_dev,
            st_ino=found.st_ino,
            st_mode=found.st_mode,
            st_size=found.st_size,
            st_nlink=found.st_nlink,
            st_mtime_ns=self.server.now_ns,
            st_ctime_ns=self.server.now_ns,
        )

    def _is_tmp(self, found: os.stat_result) -> bool:
        return found.st_ino == os.stat(f"{self.world.path}/tmp").st_ino


def full(name: str, path: str, arguments: Any) -> None:
    """Refuse to make files: the quota is used up."""
    if name in ("mknod", "mkdir") or (name == "open" and arguments[1] & os.O_CREAT):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), path)


def timeless(name: str, path: str, arguments: Any) -> None:
    """Refuse all that tells the server's time, for as long as this says so."""
    if name == "utime":
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), path)
    if name == "open" and arguments[1] & os.O_CREAT and arguments[2] == 0o600:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), path)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


@pytest.mark.parametrize("many", [False, True], ids=["single", "bundled"])
@pytest.mark.parametrize(("mine", "others"), SKEWS)
def test_a_lease_ends_when_the_server_says_so(
    cluster: Cluster, mine: float, others: float, many: bool
) -> None:
    consumer, keeper = cluster.client(mine), cluster.client(others)
    if many:
        keeper.publish_many(QUEUE, map(text, MANY))
    else:
        keeper.publish(QUEUE, text("m00"))
    [message] = consumer.consume(QUEUE)
    cluster.server.advance(598)
    assert keeper.clean(QUEUE).requeued == 0
    cluster.server.advance(4)
    assert keeper.clean(QUEUE).requeued == 1
    assert message.message == text("m00")


@pytest.mark.parametrize(("mine", "others"), SKEWS)
def test_order_holds_among_publishers_with_wrong_clocks(
    cluster: Cluster, mine: float, others: float
) -> None:
    one, other = cluster.client(mine), cluster.client(others)
    for number in range(6):
        publisher = (one, other)[number % 2]
        publisher.publish_many(QUEUE, [f"{number}-{line}" for line in range(12)])
        cluster.server.advance(1)
        publisher.publish(QUEUE, f"{number}-alone")
        cluster.server.advance(1)
    texts = [message.message for message in other.consume(QUEUE, 100)]
    expected = [
        name
        for number in range(6)
        for name in [*(f"{number}-{line}" for line in range(12)), f"{number}-alone"]
    ]
    assert texts == expected


@pytest.mark.parametrize("step", [-HOUR, -2 * MINUTE, 2 * MINUTE, HOUR])
def test_a_clock_that_steps_during_a_lease_ends_it_neither_early_nor_never(
    cluster: Cluster, step: float
) -> None:
    node = cluster.client(0)
    node.publish(QUEUE, text("a"))
    node.consume(QUEUE)
    cluster.server.advance(5)
    node.view(QUEUE)  # it notices a step by what its clock was before
    node._clock.skew += step
    cluster.server.advance(5)
    assert node.view(QUEUE)[QUEUE] == (0, 1, 0, 0)
    cluster.server.advance(585)
    assert node.view(QUEUE)[QUEUE] == (0, 1, 0, 0)
    cluster.server.advance(10)
    assert node.view(QUEUE)[QUEUE] == (1, 0, 0, 0)


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_a_renewal_after_a_step_lasts_as_long_as_it_says(
    cluster: Cluster, step: float
) -> None:
    consumer, keeper = cluster.client(0), cluster.client(HOUR)
    keeper.publish(QUEUE, text("a"))
    [message] = consumer.consume(QUEUE)
    consumer.view(QUEUE)
    consumer._clock.skew += step
    cluster.server.advance(MINUTE)
    consumer.view(QUEUE)
    consumer.renew(message)
    cluster.server.advance(590)
    assert keeper.clean(QUEUE).requeued == 0
    cluster.server.advance(20)
    assert keeper.clean(QUEUE).requeued == 1


@pytest.mark.parametrize(("mine", "others"), SKEWS)
def test_a_delayed_message_comes_when_the_server_says_so(
    cluster: Cluster, mine: float, others: float
) -> None:
    publisher, consumer = cluster.client(mine), cluster.client(others)
    publisher.publish(QUEUE, text("late"), delay=MINUTE)
    publisher.publish_many(QUEUE, map(text, MANY), delay=MINUTE)
    cluster.server.advance(58)
    assert consumer.consume(QUEUE, 20) == []
    cluster.server.advance(4)
    assert len(consumer.consume(QUEUE, 20)) == 13


def test_a_server_that_is_ahead_takes_everybody_with_it(cluster: Cluster) -> None:
    node = cluster.client(-3 * HOUR)
    node.publish_many(QUEUE, map(text, MANY))
    messages = node.consume(QUEUE, 12)
    cluster.server.advance(601)
    node.clean(QUEUE)
    again = node.consume(QUEUE, 12)
    assert [m.message for m in again] == [m.message for m in messages]
    node.ack(again)
    cluster.server.advance(11)
    node.clean(QUEUE)
    assert node.is_empty(QUEUE)


# A clock that is set, or a machine that sleeps, just before a lease is made


def _set(node: Node, seconds: float) -> None:
    node.skew += seconds


def _hibernate(node: Node, seconds: float) -> None:
    """Let a machine sleep whose own clock goes on meanwhile."""
    node.server.advance(seconds)
    node.slept += seconds


@pytest.mark.parametrize(
    ("turn", "seconds"), [(_set, -HOUR), (_set, HOUR), (_hibernate, HOUR)]
)
@pytest.mark.parametrize("kind", ["single", "bundled", "renewed", "of its own"])
def test_a_lease_that_is_made_right_after_a_step_lasts_as_long_as_it_says(
    cluster: Cluster, kind: str, turn: Callable[[Node, float], None], seconds: float
) -> None:
    consumer, keeper = cluster.client(0), cluster.client(HOUR, clean=False)
    if kind == "bundled":
        keeper.publish_many(QUEUE, map(text, MANY))
    else:
        own = 600 if kind == "of its own" else None
        keeper.publish(QUEUE, text("m00"), timeout=own)
    consumer.view(QUEUE)
    if kind == "renewed":
        [message] = consumer.consume(QUEUE)
        turn(consumer._clock, min(seconds, 5 * MINUTE))  # type: ignore[arg-type]
        consumer.renew(message)
    else:
        turn(consumer._clock, seconds)  # type: ignore[arg-type]
        [message] = consumer.consume(QUEUE)
    assert message.message == text("m00")
    cluster.server.advance(598)
    assert keeper.clean(QUEUE).requeued == 0
    cluster.server.advance(4)
    assert keeper.clean(QUEUE).requeued == 1


@pytest.mark.parametrize("verb", ["publish", "nack"])
def test_a_delay_that_is_asked_for_right_after_a_step_is_as_long_as_it_says(
    cluster: Cluster, verb: str
) -> None:
    client, keeper = cluster.client(0, clean=False), cluster.client(0)
    client.publish(QUEUE, text("a"))
    [message] = client.consume(QUEUE)
    _set(client._clock, HOUR)  # type: ignore[arg-type]
    if verb == "nack":
        client.nack(message, delay=5)
    else:
        client.ack(message)
        client.publish(QUEUE, text("a"), delay=5)
    cluster.server.advance(7)
    assert keeper.clean(QUEUE).due == 1


def test_a_step_while_clocks_are_compared_is_noticed_as_well(cluster: Cluster) -> None:
    def step(name: str, path: str, _: Any) -> None:
        if name == "unlink" and "/tmp/" in path and len(steps) < 2:
            steps.append(consumer._clock)
            _set(consumer._clock, -HOUR)  # type: ignore[arg-type]

    steps: list[Any] = []
    consumer, keeper = cluster.client(0, step), cluster.client(0)
    keeper.publish(QUEUE, text("a"))
    consumer.consume(QUEUE)
    assert len(steps) == 2
    cluster.server.advance(598)
    assert keeper.clean(QUEUE).requeued == 0
    cluster.server.advance(4)
    assert keeper.clean(QUEUE).requeued == 1


# No space, or no way at all, to compare clocks


@pytest.mark.parametrize("skew", [-HOUR, HOUR])
@pytest.mark.parametrize("many", [False, True], ids=["single", "bundled"])
def test_a_client_whose_quota_is_used_up_knows_the_time_all_the_same(
    cluster: Cluster, skew: float, many: bool
) -> None:
    other = cluster.client(0, clean=False)
    if many:
        other.publish_many(QUEUE, map(text, MANY))
    else:
        other.publish(QUEUE, text("m00"))
    other.publish(QUEUE, text("late"), delay=10 * MINUTE)
    [message] = other.consume(QUEUE)
    left = cluster.world.put("tmp/draft")
    client = cluster.client(skew, full)
    swept = client.clean(QUEUE)
    assert (swept.requeued, swept.due, swept.removed) == (0, 0, 0)
    assert os.path.exists(left)
    other.ack(message)
    if not many:  # a line needs a file
        other.publish(QUEUE, text("m01"))
        [message] = client.consume(QUEUE)
        cluster.server.advance(598)
        assert other.clean(QUEUE).requeued == 0
        client.ack(message)


def test_a_client_that_can_not_know_the_time_judges_nothing_by_it_and_leases_nothing(
    cluster: Cluster,
) -> None:
    other = cluster.client(0, clean=False)
    other.publish(QUEUE, text("a"))
    other.publish_many(QUEUE, map(text, MANY), priority=5)
    other.publish(QUEUE, text("late"), delay=MINUTE)
    held, single = other.consume(QUEUE, 2)
    for path in ("tmp/draft", "drop/new"):
        cluster.world.put(path)
    client = cluster.client(2 * HOUR, timeless)
    before = cluster.world.found()
    assert client.view(QUEUE)[QUEUE] == (11, 2, 1, 0)
    client.publish(QUEUE, text("b"))
    assert client.is_empty(QUEUE) is False
    for act in (
        lambda: client.consume(QUEUE),
        lambda: client.renew(held),
        lambda: client.clean(QUEUE),
    ):
        with pytest.raises(StorageError, match="can't be compared with the file") as e:
            act()
        assert e.value.path == f"{cluster.world.path}/tmp"
        assert "quota" in str(e.value)
    assert cluster.world.found() == {**before, "b": ["ready"]}
    assert os.path.exists(f"{cluster.world.path}/tmp/draft")
    assert os.path.exists(f"{cluster.world.path}/drop/new")
    client.ack(held)
    client.release(single)
    assert client.view(QUEUE)[QUEUE] == (13, 0, 1, 0)


def test_who_can_not_know_the_time_claims_nothing_of_a_bundle_to_remove_it(
    cluster: Cluster,
) -> None:
    """Others would judge by his clock when to take over the claim, if he died."""
    other = cluster.client(0, clean=False)
    other.publish_many(QUEUE, map(text, MANY))
    [held] = other.consume(QUEUE)
    client = cluster.client(-2 * HOUR, timeless, clean=False)
    with pytest.raises(StorageError, match="can't be compared with the file"):
        client.purge(QUEUE, ["waiting"])
    assert other.clean(QUEUE) == (0, 0, 0, 0, 0)
    rest = {name: ["ready"] for name in MANY[1:]}
    assert cluster.world.found() == {"m00": ["work"], **rest}
    other.release(held)
    assert other.consume(QUEUE)[0].message == text("m00")


def test_a_client_that_knew_the_time_until_its_clock_was_set_leases_nothing(
    cluster: Cluster,
) -> None:
    def refuse(name: str, path: str, arguments: Any) -> None:
        if is_refused:
            timeless(name, path, arguments)

    is_refused: list[bool] = []
    client = cluster.client(0, refuse)
    client.publish(QUEUE, text("a"))
    is_refused.append(True)
    cluster.server.advance(11 * MINUTE)  # it would compare once more
    [message] = client.consume(QUEUE)
    client.release(message)
    _set(client._clock, HOUR)  # type: ignore[arg-type]
    with pytest.raises(StorageError, match="can't be compared with the file"):
        client.consume(QUEUE)
    is_refused.clear()
    assert client.consume(QUEUE)[0].message == text("a")


# How long something took


def _stop(node: Node, seconds: float) -> None:
    node.server.advance(seconds)


def _pause(node: Node, seconds: float) -> None:
    """Let a virtual machine be paused: both of its clocks stand still."""
    node.server.advance(seconds)
    node.slept += seconds
    node.skew -= seconds


def _stop_and_set_back(node: Node, seconds: float) -> None:
    node.server.advance(seconds)
    node.skew -= 2 * seconds


@pytest.mark.parametrize("pause", [_stop, _hibernate, _pause, _stop_and_set_back])
@pytest.mark.parametrize("number", [1, 12, 30])
def test_a_publisher_that_was_suspended_tells_of_no_message_that_was_cleaned_away(
    cluster: Cluster, number: int, pause: Callable[[Node, float], None]
) -> None:
    def suspend(name: str, path: str, arguments: Any) -> None:
        if name == "rename" and "/tmp/" in path and "/ready/" in arguments[1]:
            renames.append(path)
            if len(renames) == 2:
                hours = 25 if number == 30 else 65 / 60
                pause(publisher._clock, hours * HOUR)  # type: ignore[arg-type]
                # For 30, two bundles, and the bucket with their entries; else one draft.
                removed = 3 if number == 30 else 1
                assert cluster.client(0).clean(QUEUE).removed == removed

    renames: list[str] = []
    ahead = cluster.server.now_ns + 26 * HOUR * 10**9
    os.makedirs(f"{cluster.world.path}/ready/999/{ahead}")
    publisher = cluster.client(0, suspend, bundle_size=20, clean=False)
    publisher.publish(QUEUE, text("first"))  # its stamps lie ahead from now on
    with pytest.raises(StorageError, match="cleaned away before it was published"):
        publisher.publish_many(QUEUE, map(str, range(number)))
    assert cluster.client(0).view(QUEUE)[QUEUE] == (1, 0, 0, 0)


# Listings that take long


@pytest.mark.parametrize("nth", range(6))
def test_a_bundle_that_was_drained_while_a_cleaning_listed_is_not_removed(
    cluster: Cluster, nth: int
) -> None:
    """The first page of a listing can be older than the last by all the time it took."""

    def call(_: int, name: str, do: Callable[..., Any], arguments: Any) -> Any:
        found = do(*arguments)
        if name == "listdir" and arguments[0].endswith(("/work", "/bundles")):
            listed.append(arguments[0])
            if len(listed) == nth + 1:
                held.extend(other.consume(QUEUE, 12))
                cluster.server.advance(25)
        return found

    listed: list[str] = []
    held: list[Any] = []
    other = cluster.world.broker(clean=False)
    other.publish_many(QUEUE, map(text, MANY))
    cluster.world.broker(Calls(call)).clean(QUEUE)
    reader = cluster.world.broker(clean=False)
    assert reader.leased(QUEUE, held[-1].id).message == text("m11")


@pytest.mark.parametrize(
    "act",
    [
        lambda client: client.consume(QUEUE),
        remove_empty_buckets,
    ],
    ids=["consume", "clean"],
)
def test_the_newest_bucket_is_kept_however_long_a_listing_takes(
    cluster: Cluster, act: Callable[[Broker], Any]
) -> None:
    def slowly(name: str, path: str, _: Any) -> None:
        if name == "listdir" and "/ready" in path:
            cluster.server.advance(25)

    publisher = cluster.client(0, clean=False)
    publisher.publish(QUEUE, text("a"))
    publisher.ack(publisher.consume(QUEUE))
    cluster.server.advance(9)
    slow = cluster.client(0, slowly, clean=False)
    act(slow)
    assert len(glob(f"{cluster.world.path}/ready/999/*")) == 1
    cluster.server.advance(2)
    act(slow)
    assert glob(f"{cluster.world.path}/ready/999/*") == []


def slow_listing(cluster: Cluster, *directories: str) -> Calls:
    """Return system calls for which each listing of a directory takes 100 s, once."""

    def call(_: int, name: str, do: Callable[..., Any], arguments: Any) -> Any:
        if name == "listdir" and arguments[0].rpartition("/")[2] in left:
            left.remove(arguments[0].rpartition("/")[2])
            cluster.server.advance(100)
        return do(*arguments)

    left = list(directories)
    return Calls(call)


@pytest.mark.parametrize(
    ("path", "age"),
    [("tmp/draft", HOUR - 50), ("dead/a.note", HOUR - 50), ("drop/file", 5)],
)
def test_no_file_gets_old_while_a_directory_is_listed(
    cluster: Cluster, path: str, age: float
) -> None:
    whole = cluster.world.put(path, age=age)
    slow = slow_listing(cluster, path.split("/")[0])
    swept = cluster.world.broker(slow).clean(QUEUE)
    assert (swept.removed, swept.adopted, os.path.exists(whole)) == (0, 0, True)
    assert sum(cluster.world.broker(clean=False).clean(QUEUE)) == 1


def test_nothing_is_over_or_due_because_a_listing_took_long(cluster: Cluster) -> None:
    broker = cluster.world.broker(clean=False)
    broker.publish(QUEUE, text("a"))
    broker.consume(QUEUE)
    broker.publish(QUEUE, text("b"), delay=550)
    cluster.server.advance(540)
    slow = FileSystem(slow_listing(cluster, "work", "delayed"))
    store = Store(cluster.world.path, slow, cluster.server)
    assert find_expired(store) == ([], 1, [])
    cluster.server.advance(-100)
    assert find_due(store) == ([], 1)


def test_a_doctor_who_waits_for_a_listing_finds_nothing_late_or_far_ahead(
    cluster: Cluster,
) -> None:
    def call(_: int, name: str, do: Callable[..., Any], arguments: Any) -> Any:
        if name == "listdir" and arguments[0].endswith(("/work", "/delayed")):
            cluster.server.advance(100)
            broker.consume(QUEUE)
        return do(*arguments)

    broker = cluster.world.broker(clean=False)
    for name in "abcdef":
        broker.publish(QUEUE, text(name))
    broker.consume(QUEUE)
    broker.publish(QUEUE, text("late"), delay=590)
    store = Store(cluster.world.path, FileSystem(Calls(call)), cluster.server)
    patient = Patient(store, broker.settings(QUEUE))
    assert list(symptoms.ends_too_late(patient)) == []
    cluster.server.advance(485)
    assert list(symptoms.expired(patient)) == []
    cluster.server.advance(-100)
    assert list(symptoms.due(patient)) == []


def test_a_doctor_who_can_not_compare_clocks_says_so(cluster: Cluster) -> None:
    def call(_: int, name: str, do: Callable[..., Any], arguments: Any) -> Any:
        timeless(name, str(arguments[0]), arguments)
        return do(*arguments)

    store = Store(cluster.world.path, FileSystem(Calls(call)), cluster.server)
    patient = Patient(store, cluster.world.broker().settings(QUEUE))
    [found] = symptoms.clock(patient)
    assert found.level == symptoms.NOTE
    assert "can't be compared with the file server's (Disk quota" in found.text
