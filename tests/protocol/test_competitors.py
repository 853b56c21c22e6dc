"""Several clients want the same message, or the same queue, at the same moment."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import sys
import threading
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from protocol.scenes import (
    QUEUE,
    SCENES,
    Play,
    Scene,
    World,
    later,
    make_one_due,
    new_world,
    text,
)
from support import Calls, counting, interrupted

from ddmq import LeaseLost, QueueNotFound, StorageError
from ddmq.storage.names import Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ddmq import Broker, Message

every_scene = pytest.mark.parametrize("scene", SCENES, ids=str)
cold_and_warm = pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
MESSAGES = ("ready", "work", "delayed", "dead")


# What a rename may do


def watched(renames: list[tuple[str, str]]) -> Calls:
    """Return system calls that note each rename, and whether something was in its way."""

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if name == "rename" and os.path.lexists(arguments[1]):
            assert not holds_message(arguments[1]) or arguments[0] == arguments[1]
        result = function(*arguments)
        if name == "rename":
            renames.append(arguments)
        return result

    return Calls(call)


def holds_message(path: str) -> bool:
    state = os.path.relpath(path, path[: path.index(f"/{QUEUE}/") + 3]).split("/")[0]
    return state in MESSAGES and os.path.isfile(path) and not path.endswith(".note")


@cold_and_warm
@every_scene
def test_no_rename_overwrites_a_message(
    scene: Scene, warm: bool, tmp_path: Path
) -> None:
    renames: list[tuple[str, str]] = []
    play = Play(scene, tmp_path, warm=warm)
    play.act(watched(renames))
    assert play.states() == play.ends()
    taken = [t for _, t in renames if Lease.parse(os.path.basename(t)) is not None]
    assert len(taken) == len(set(taken))


def test_each_claim_has_a_token_of_its_own(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    renames: list[tuple[str, str]] = []
    brokers = [world.broker(watched(renames)) for _ in range(2)]
    brokers[0].publish(QUEUE, text("a"))
    for broker in brokers * 20:
        broker.release(broker.consume(QUEUE))
    leases = [Lease.parse(os.path.basename(target)) for _, target in renames]
    tokens = [lease.token for lease in leases if lease is not None]
    assert len(tokens) == len(set(tokens)) == 40


def test_a_message_consumed_again_at_the_same_instant_has_another_file_name(
    tmp_path: Path,
) -> None:
    broker = new_world(tmp_path).broker()
    broker.publish(QUEUE, text("a"))
    [first] = broker.consume(QUEUE)
    broker.release(first)
    [second] = broker.consume(QUEUE)
    assert first.filename != second.filename
    assert first._replace(filename="") == second._replace(filename="")


# A competitor acts before the first system call of a verb, before the second, …


class Duel:
    """A world in which a verb is interrupted once by a competitor's."""

    def __init__(self, root: Path, prepare: Callable[[World, Broker], Any]) -> None:
        self.world = new_world(root)
        self.broker = self.world.broker()
        self.handle = prepare(self.world, self.broker)
        self.competitor = self.world.broker()
        self.said: list[Any] = []

    def interrupted_at(self, n: int, act: Any, competitor_act: Any) -> tuple[Any, bool]:
        """Do both; return what the first says, and whether the competitor's turn came."""
        calls = interrupted(n, lambda: self._competitor_acts(competitor_act))
        self.broker._fs.calls = calls
        result = said(lambda broker: act(broker, self.handle), self.broker)
        self.broker._fs.calls = counting()
        return result, bool(self.said)

    def _competitor_acts(self, act: Any) -> None:
        self.world.clock.advance(0.001)
        self.said.append(said(act, self.competitor))
        self.world.clock.advance(0.001)


def said(act: Callable[[Broker], Any], broker: Broker) -> Any:
    """Return what a verb says, an error as its class."""
    try:
        return act(broker)
    except (LeaseLost, QueueNotFound) as error:
        return type(error)


def duels(
    directory: Path, prepare: Any, act: Any, competitor_act: Any
) -> Iterator[tuple[World, Any, Any]]:
    """Yield what both said, for every moment at which the competitor can act."""
    for n in itertools.count():
        duel = Duel(directory / str(n), prepare)
        result, came = duel.interrupted_at(n, act, competitor_act)
        if not came:
            assert n > 0
            return
        yield duel.world, result, duel.said[0]
        shutil.rmtree(duel.world.root)


def with_one_waiting(_: World, broker: Broker) -> None:
    broker.publish(QUEUE, text("a"))


def with_three_waiting(_: World, broker: Broker) -> None:
    for name in "abc":
        broker.publish(QUEUE, text(name))


def with_one_leased(world: World, broker: Broker) -> Any:
    with_one_waiting(world, broker)
    return broker.consume(QUEUE)[0]


with_one_expired = later(with_one_leased, 601)


def with_one_expired_for_good(world: World, broker: Broker) -> None:
    broker.publish(QUEUE, text("a"), requeue=False)
    broker.consume(QUEUE)
    world.clock.advance(601)


def with_one_due(world: World, broker: Broker) -> None:
    broker.publish(QUEUE, text("a"), delay=60)
    world.clock.advance(61)


def with_one_dropped(world: World, _: Broker) -> None:
    world.put("drop/a", text("a").encode(), age=60)


def with_a_stray_file(world: World, broker: Broker) -> None:
    with_one_waiting(world, broker)
    world.put("work/stray", text("stray").encode())
    world.put("tmp/abandoned", b"half a mess", age=7200)


def with_one_dead(world: World, broker: Broker) -> None:
    broker.reject(with_one_leased(world, broker), "it smelled")


def clean(broker: Broker, _: Any = None) -> Any:
    return broker.clean(QUEUE)


def consume(broker: Broker, _: Any = None) -> Any:
    return [m.message for m in broker.consume(QUEUE)]


def holds(path: str, words: str) -> bool:
    return words.encode() in Path(path).read_bytes()


@pytest.mark.parametrize(
    ("prepare", "state", "losses"),
    [
        (with_one_expired, "ready", 1),
        (with_one_expired_for_good, "dead", 1),
        (with_one_due, "ready", 0),
        (with_one_dropped, "ready", 0),
        (with_a_stray_file, "ready", 0),
    ],
)
def test_two_housekeepers_at_once_do_everything_once(
    prepare: Any, state: str, losses: int, tmp_path: Path
) -> None:
    for world, first, second in duels(tmp_path, prepare, clean, clean):
        assert world.found()["a"] == [state]
        assert world.found().get("stray", ["dead"]) == ["dead"]
        [path] = [p for p in world.files(state) if holds(p, text("a"))]
        assert f"-{losses}" in os.path.basename(path)
        assert sum(first.plus(second)[:4]) <= (2 if state == "dead" else 1)


def test_of_two_consumers_each_gets_another_message(tmp_path: Path) -> None:
    for world, first, second in duels(tmp_path, with_three_waiting, consume, consume):
        assert len(first) == len(second) == 1
        assert first != second
        assert sorted(itertools.chain(*world.found().values())) == [
            "ready",
            "work",
            "work",
        ]


def test_of_two_consumers_of_one_message_one_gets_it(tmp_path: Path) -> None:
    for world, first, second in duels(tmp_path, with_one_waiting, consume, consume):
        assert sorted([first, second]) == [[], [text("a")]]
        assert world.found() == {"a": ["work"]}


SETTLING: dict[str, tuple[Any, str]] = {
    "ack": (lambda b, m: b.ack(m), "gone"),
    "nack": (lambda b, m: b.nack(m), "ready"),
    "delay": (lambda b, m: b.nack(m, delay=60), "delayed"),
    "release": (lambda b, m: b.release(m), "ready"),
    "reject": (lambda b, m: b.reject(m), "dead"),
    "renew": (lambda b, m: b.renew(m).filename, "work"),
}
every_settling = pytest.mark.parametrize("verb", SETTLING)


@every_settling
def test_a_late_consumer_and_a_housekeeper_do_not_both_win(
    verb: str, tmp_path: Path
) -> None:
    act, end = SETTLING[verb]
    for world, result, swept in duels(tmp_path, with_one_expired, act, clean):
        state = " ".join(world.found().get("a", ["gone"]))
        if result is LeaseLost:
            assert state == "ready"
            assert swept.requeued == 1
        else:
            assert state == end
            assert swept.requeued == 0


@every_settling
def test_a_housekeeper_interrupted_by_a_late_consumer_leaves_one_message(
    verb: str, tmp_path: Path
) -> None:
    act, end = SETTLING[verb]
    for n in itertools.count():
        world = new_world(tmp_path / str(n))
        broker = world.broker()
        message = with_one_expired(world, broker)
        results: list[Any] = []

        def late(
            message: Any = message, broker: Any = broker, to: Any = results
        ) -> None:
            to.append(said(lambda b: act(b, message), broker))

        swept = world.broker(interrupted(n, late)).clean(QUEUE)
        if not results:
            break
        state = " ".join(world.found().get("a", ["gone"]))
        assert state == ("ready" if results == [LeaseLost] else end)
        assert swept.requeued == results.count(LeaseLost)


@every_settling
def test_two_threads_that_settle_one_message_do_not_both_win(
    verb: str, tmp_path: Path
) -> None:
    act, _ = SETTLING[verb]

    def prepare(world: World, broker: Broker) -> Any:
        handles.append(with_one_leased(world, broker))
        return handles[-1]

    def finish(broker: Broker) -> Any:
        return broker.ack(handles[-1])

    handles: list[Any] = []
    for world, result, finished in duels(tmp_path, prepare, act, finish):
        if finished is None and verb != "ack":
            assert world.found() == {}
            assert result is LeaseLost or verb == "renew"
        assert len(world.found()) <= 1


def purge(broker: Broker, _: Any = None) -> Any:
    return broker.purge(QUEUE)


def test_a_message_is_consumed_or_purged(tmp_path: Path) -> None:
    for world, consumed, purged in duels(tmp_path, with_one_waiting, consume, purge):
        assert sum(purged) + len(consumed) in (1, 2)
        assert world.found() == ({"a": ["work"]} if not sum(purged) else {})


def test_a_purge_interrupted_by_a_consumer_leaves_what_it_consumed_or_nothing(
    tmp_path: Path,
) -> None:
    for world, purged, consumed in duels(tmp_path, with_one_waiting, purge, consume):
        assert sum(purged) + len(consumed) in (1, 2)
        assert world.found() in ({}, {"a": ["work"]})
        assert (world.found() == {}) == (sum(purged) == 1)


def test_a_dead_letter_is_redriven_once(tmp_path: Path) -> None:
    def redrive(broker: Broker, _: Any = None) -> int:
        return broker.redrive(QUEUE)

    for world, first, second in duels(tmp_path, with_one_dead, redrive, redrive):
        assert first + second == 1
        assert world.found() == {"a": ["ready"]}


def publish(broker: Broker, _: Any = None) -> Any:
    return broker.publish(QUEUE, text("new"))


def publish_another(broker: Broker) -> None:
    broker.publish(QUEUE, text("other"))


@pytest.mark.parametrize("competitor", [publish_another, clean, consume])
def test_a_publish_is_not_disturbed(competitor: Any, tmp_path: Path) -> None:
    for world, id_, _ in duels(tmp_path, with_one_waiting, publish, competitor):
        assert len(world.found()["new"]) == 1
        assert id_ in "".join(world.files("ready") + world.files("work"))


def test_a_publish_that_takes_very_long_is_not_cleaned_away_unnoticed(
    tmp_path: Path,
) -> None:
    for n in itertools.count():
        world = new_world(tmp_path / str(n))
        broker, competitor = world.broker(), world.broker()
        broker.view(QUEUE)
        came: list[Any] = []

        def long_after(
            world: World = world, competitor: Broker = competitor, to: Any = came
        ) -> None:
            world.clock.advance(7200)
            to.append(competitor.clean(QUEUE))

        broker._fs.calls = interrupted(n, long_after)
        try:
            publish(broker)
        except StorageError:
            assert world.found() == {}
        else:
            assert world.found() == {"new": ["ready"]}
        if not came:
            break


# A queue is deleted meanwhile


USES: dict[str, tuple[Any, Any]] = {
    "publish": (with_one_waiting, publish),
    "consume": (with_one_waiting, consume),
    "view": (with_one_waiting, lambda b, _: b.view(QUEUE)),
    "clean": (with_one_expired, clean),
    "purge": (with_one_waiting, purge),
    "redrive": (with_one_dead, lambda b, _: b.redrive(QUEUE)),
    **{verb: (with_one_leased, act) for verb, (act, _) in SETTLING.items()},
}


def delete(broker: Broker) -> None:
    broker.delete_queue(QUEUE)


@pytest.mark.parametrize("verb", USES)
def test_who_uses_a_queue_that_is_deleted_meanwhile_is_told(
    verb: str, tmp_path: Path
) -> None:
    prepare, act = USES[verb]
    for n in itertools.count():
        duel = Duel(tmp_path / str(n), prepare)
        result, came = duel.interrupted_at(n, act, delete)
        if not came:
            break
        assert not os.path.exists(duel.world.path)
        again = said(lambda broker, d=duel: act(broker, d.handle), duel.broker)
        assert again is QueueNotFound
        assert result is not LeaseLost


@pytest.mark.parametrize("verb", USES)
def test_a_process_just_started_on_a_queue_that_is_deleted_meanwhile_is_told(
    verb: str, tmp_path: Path
) -> None:
    prepare, act = USES[verb]
    for n in itertools.count():
        world = new_world(tmp_path / str(n))
        handle = prepare(world, world.broker())
        came: list[Any] = []
        calls = interrupted(n, lambda w=world, to=came: to.append(delete(w.broker())))
        broker = world.broker(calls)
        said(lambda b, h=handle: act(b, h), broker)
        if not came:
            break
        assert said(lambda b, h=handle: act(b, h), broker) is QueueNotFound


def test_a_client_that_may_create_goes_on_after_a_deletion(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    broker = world.broker(create=True)
    publish(broker)
    delete(world.broker())
    with pytest.raises(QueueNotFound):
        publish(broker)
    publish(broker)
    assert world.found() == {"new": ["ready"]}


@pytest.mark.parametrize("verb", USES)
def test_a_queue_deleted_and_made_anew_is_used_like_any_other(
    verb: str, tmp_path: Path
) -> None:
    def delete_and_create(broker: Broker) -> None:
        broker.delete_queue(QUEUE)
        broker.create_queue(QUEUE)

    prepare, act = USES[verb]
    for world, _, _ in duels(tmp_path, prepare, act, delete_and_create):
        assert set(world.found()) <= {"new"}
        broker = world.broker()
        broker.purge(QUEUE)
        broker.publish(QUEUE, text("b"))
        assert consume(broker) == [text("b")]


def test_of_two_that_delete_one_does_it_and_the_other_is_told(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    first, second = world.broker(), world.broker()
    delete(first)
    with pytest.raises(QueueNotFound):
        delete(second)


def test_of_two_that_create_one_does_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    first, second = world.broker(create=True), world.broker()
    assert first.create_queue(QUEUE) is True
    assert second.create_queue(QUEUE) is False


# Buckets come and go


def removing_bucket(world: World, times: int) -> Calls:
    """Return system calls: before so many renames into the ready queue the bucket is removed."""
    left = [times]

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if name == "rename" and "/ready/" in arguments[1] and left[0]:
            left[0] -= 1
            shutil.rmtree(os.path.dirname(os.path.dirname(arguments[1])))
        return function(*arguments)

    return Calls(call)


@pytest.mark.parametrize("times", [1, 3])
def test_a_publisher_whose_bucket_is_removed_at_the_last_moment_makes_another(
    times: int, tmp_path: Path
) -> None:
    world = new_world(tmp_path)
    publish(world.broker(removing_bucket(world, times)))
    assert world.found() == {"new": ["ready"]}


@pytest.mark.parametrize("verb", ["nack", "release"])
def test_what_goes_back_to_a_bucket_removed_at_the_last_moment_gets_another(
    verb: str, tmp_path: Path
) -> None:
    world = new_world(tmp_path)
    message = with_one_leased(world, world.broker())
    broker = world.broker(removing_bucket(world, 2))
    getattr(broker, verb)(message)
    assert world.found() == {"a": ["ready"]}


def test_a_message_that_comes_into_a_bucket_just_seen_empty_is_not_overtaken(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path, bucket_size=2)
    publisher, other = world.broker(clean=False), world.broker(clean=False)
    publisher.publish(QUEUE, text("a"))
    other.publish_many(QUEUE, [text("b"), text("c")])  # the last in a second bucket
    for path in world.files("ready"):
        os.unlink(path)

    def publish_into_both_buckets() -> None:
        publisher.publish(QUEUE, text("first"))
        world.clock.advance(0.3)
        publisher.publish(QUEUE, text("second"))

    calls = interrupted(0, publish_into_both_buckets, "rmdir")
    assert consume(world.broker(calls, clean=False)) == [text("first")]


# Order


def test_a_lone_consumer_keeps_the_order_over_all_buckets(tmp_path: Path) -> None:
    world = new_world(tmp_path, bucket_size=3)
    broker = world.broker()
    names = [f"m{number}" for number in range(25)]
    got = []
    for number, name in enumerate(names):
        broker.publish(QUEUE, text(name))
        if number % 3 == 2:
            got += [m.message for m in broker.consume(QUEUE, 2)]
    while messages := broker.consume(QUEUE):
        got.append(messages[0].message)
    assert got == [text(name) for name in names]


def test_a_lone_consumer_keeps_the_order_over_all_shelves(tmp_path: Path) -> None:
    world = new_world(tmp_path, bucket_size=2, bundle_size=5)
    broker = world.broker()
    names = [f"m{number}" for number in range(96)]
    for first in range(0, 96, 12):
        broker.publish_many(QUEUE, map(text, names[first : first + 11]))
        broker.publish(QUEUE, text(names[first + 11]))
    assert any(".shelf/" in path for path in world.files("ready"))
    back = broker.consume(QUEUE, 70)
    for message in reversed(back[::2]):
        broker.release(message)
    broker.ack(back[1::2])
    got = []
    while messages := broker.consume(QUEUE):
        got.append(messages[0].message)
    assert got == [text(name) for name in (*names[:70:2], *names[70:])]


def test_a_publisher_starts_a_new_bucket_when_one_is_full(tmp_path: Path) -> None:
    world = new_world(tmp_path, bucket_size=3)
    broker = world.broker()
    for number in range(10):
        broker.publish(QUEUE, text(f"m{number}"))
    buckets = [os.path.dirname(path) for path in world.files("ready")]
    assert sorted(map(buckets.count, set(buckets))) == [1, 3, 3, 3]


def test_priorities_are_numbers_and_zero_is_one_of_them(tmp_path: Path) -> None:
    broker = new_world(tmp_path).broker()
    for priority in (10, 9, 100, 0, 999, 1):
        broker.publish(QUEUE, text(f"m{priority}"), priority=priority)
    got = [message.priority for message in broker.consume(QUEUE, 10)]
    assert got == [0, 1, 9, 10, 100, 999]


def test_a_purge_does_not_upset_the_order_of_a_lone_consumer(tmp_path: Path) -> None:
    for attempt in range(10):
        broker = new_world(tmp_path / str(attempt)).broker()
        broker.publish_many(QUEUE, ["x", "y"])
        broker.consume(QUEUE)
        broker.purge(QUEUE)
        broker.consume(QUEUE)
        broker.publish_many(QUEUE, ["first", "second"])
        assert [m.message for m in broker.consume(QUEUE)] == ["first"]


#: Seconds for which a client believes a listing, which is what order depends on.
BELIEVED = 0.2


class Came(NamedTuple):
    """A message that waits, as README's "In order" sees it."""

    priority: int
    publisher: int
    number: int
    published: float
    since: float
    """When it began to wait, or came back to its place."""

    def goes_before(self, other: Came) -> bool:
        """Tell whether it has to come first, if the consumer knows of it."""
        if self.priority != other.priority:
            return self.priority < other.priority
        if self.publisher == other.publisher:
            return self.number < other.number
        return self.published < other.published - BELIEVED


class Ordered:
    """Three publishers, one who holds and gives back, one consumer; what waits, by its text."""

    def __init__(self, root: Path, rng: Random) -> None:
        self.world, self.rng = new_world(root, bucket_size=4, bundle_size=5), rng
        self.publishers = [self.world.broker() for _ in range(3)]
        self.holder = self.world.broker(clean=False)
        self.consumer = self.world.broker(clean=False)
        self.waiting: dict[str, Came] = {}
        self.held: list[tuple[Message, Came]] = []

    def publish(self) -> None:
        by, priority = self.rng.randrange(3), self.rng.choice([7, 9])
        now = self.world.clock.monotonic()
        names = [f"m{now}-{n}" for n in range(self.rng.choice([1, 1, 1, 3, 12]))]
        self.publishers[by].publish_many(QUEUE, names, priority=priority)
        for name in names:
            number = len(self.waiting) + int(now * 1e6)
            self.waiting[name] = Came(priority, by, number, now, now)

    def take(self, broker: Broker) -> tuple[Message, Came]:
        [message] = broker.consume(QUEUE)
        return message, self.waiting.pop(message.message)

    def release(self) -> None:
        message, came = self.held.pop(self.rng.randrange(len(self.held)))
        self.holder.release(message)
        now = self.world.clock.monotonic()
        self.waiting[message.message] = came._replace(since=now)

    def consume(self) -> None:
        now = self.world.clock.monotonic()
        _, came = self.take(self.consumer)
        known = [w for w in self.waiting.values() if w.since < now - BELIEVED]
        assert not [w for w in known if w.goes_before(came)]


@pytest.mark.parametrize("seed", range(12))
def test_messages_come_in_the_order_that_the_readme_promises(
    tmp_path: Path, seed: int
) -> None:
    rng = Random(seed)
    ordered = Ordered(tmp_path, rng)
    for _ in range(40):
        ordered.publish()
        ordered.world.clock.advance(rng.choice([0.001, 0.05, 0.15, 0.3]))
    ordered.held = [ordered.take(ordered.holder) for _ in range(20)]
    for turn in range(600):
        what = rng.randrange(8)
        if what == 0 and turn < 300:
            ordered.publish()
        elif what == 1 and ordered.held:
            ordered.release()
        elif ordered.waiting:
            ordered.consume()
        ordered.world.clock.advance(rng.choice([0.001, 0.01, 0.1]))
    assert not ordered.waiting


def taking_in_turns(world: World, consumers: list[Broker], seconds: float) -> None:
    """Let two that share a bundle take what they know of, for so long."""
    end = world.clock.monotonic() + seconds
    while world.clock.monotonic() < end:
        for broker in consumers:
            broker.consume(QUEUE)
        world.clock.advance(0.05)


def test_who_shares_a_bundle_comes_back_for_what_stands_before_it(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    world.broker().publish(QUEUE, "first")
    world.broker().publish_many(QUEUE, [f"m{n:03}" for n in range(1000)])
    [first] = world.broker().consume(QUEUE)
    consumers = [world.broker(clean=False) for _ in range(2)]
    taking_in_turns(world, consumers, 0.15)
    world.broker().release(first)
    taking_in_turns(world, consumers, 10 * BELIEVED)
    assert not [path for path in world.files("ready") if first.id in path]


def test_who_lost_races_for_a_bundle_is_back_at_the_front_two_seconds_later(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    for first in range(0, 600, 12):
        world.broker().publish_many(QUEUE, [f"m{first + n:03}" for n in range(12)])
    one, other = (world.broker(clean=False) for _ in range(2))
    for _ in range(40):
        for broker in (one, other):
            broker.consume(QUEUE)
    for _ in range(10):
        world.clock.advance(BELIEVED + 0.001)
        one.consume(QUEUE)
    world.clock.advance(BELIEVED + 0.001)
    places = sorted(path.rsplit("/", 1)[1] for path in world.files("ready"))
    [message] = one.consume(QUEUE)
    assert places[0].split(".")[1] == message.id.split("-")[0]


def test_a_message_of_higher_priority_by_the_consumer_itself_never_waits(
    tmp_path: Path,
) -> None:
    broker = new_world(tmp_path).broker()
    for name in "abc":
        broker.publish(QUEUE, text(name))
    assert consume(broker) == [text("a")]
    broker.publish(QUEUE, text("urgent"), priority=0)
    assert consume(broker) == [text("urgent")]


def test_a_requeued_message_goes_to_the_end_and_a_released_one_to_its_place(
    tmp_path: Path,
) -> None:
    broker = new_world(tmp_path).broker()
    for name in "abc":
        broker.publish(QUEUE, text(name), priority=5, requeue_prio=5)
    a, b = broker.consume(QUEUE, 2)
    broker.nack(a)
    broker.release(b)
    got = [message.message for message in broker.consume(QUEUE, 3)]
    assert got == [text("b"), text("c"), text("a")]


# Threads and processes


EACH = 40


def serve(broker: Broker, owner: str, ids: list[str], got: list[str]) -> None:
    """Publish and consume in turn, as one of several that do so."""
    for number in range(EACH):
        ids.append(broker.publish(QUEUE, f"{owner}-{number}", durable=False))
        for message in broker.consume(QUEUE):
            got.append(message.message)
            broker.ack(message)


@pytest.fixture
def hurried_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hurried_threads")
def test_threads_share_a_broker(tmp_path: Path) -> None:
    broker = new_world(tmp_path, bucket_size=7).broker()
    ids: list[str] = []
    got: list[str] = []
    threads = [
        threading.Thread(target=serve, args=(broker, str(number), ids, got))
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while messages := broker.consume(QUEUE, 10):
        got += [message.message for message in messages]
    expected = [f"{owner}-{number}" for owner in range(4) for number in range(EACH)]
    assert sorted(got) == sorted(expected)
    assert len(set(ids)) == len(expected)


def test_a_broker_is_used_on_both_sides_of_a_fork(tmp_path: Path) -> None:
    broker = new_world(tmp_path, bucket_size=7).broker()
    ids: list[str] = []
    got: list[str] = []
    serve(broker, "before", ids, got)
    child = os.fork()
    if child == 0:
        serve_and_exit(broker, tmp_path / "child.json")
    serve(broker, "parent", ids, got)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    theirs = json.loads((tmp_path / "child.json").read_text())
    got += theirs["got"]
    while messages := broker.consume(QUEUE, 10):
        got += [message.message for message in messages]
    owners = ("before", "parent", "child")
    expected = [f"{owner}-{number}" for owner in owners for number in range(EACH)]
    assert sorted(got) == sorted(expected)
    assert len({*ids, *theirs["ids"]}) == len(expected)


def serve_and_exit(broker: Broker, report: Path) -> None:
    """Serve in a child process, which must not return into the test's own code."""
    ids: list[str] = []
    got: list[str] = []
    try:
        serve(broker, "child", ids, got)
        report.write_text(json.dumps({"ids": ids, "got": got}))
    finally:
        os._exit(0 if len(ids) == EACH else 1)


def test_a_message_is_found_at_work_though_its_holder_renews_it_meanwhile(
    tmp_path: Path,
) -> None:
    held: list[Any] = []

    def prepare(world: World, broker: Broker) -> str:
        held[:] = [with_one_leased(world, broker)]
        return str(held[0].id)

    def renew(broker: Broker) -> Any:
        return broker.renew(held[0])

    def look(broker: Broker, id_: str) -> Any:
        return broker.leased(QUEUE, id_)

    for _, found, renewed in duels(tmp_path, prepare, look, renew):
        assert found.id == renewed.id


def test_who_acks_what_is_given_back_and_taken_again_is_told_that_it_is_lost(
    tmp_path: Path,
) -> None:
    world = new_world(tmp_path)
    broker = world.broker()
    broker.publish(QUEUE, text("a"))
    [message] = broker.consume(QUEUE)
    broker.release(message)
    taken: list[Any] = []

    def call(_: int, name: str, function: Callable[..., Any], arguments: Any) -> Any:
        if name == "listdir" and "/ready/999/" in arguments[0]:
            taken.extend(world.broker().consume(QUEUE))
        return function(*arguments)

    with pytest.raises(LeaseLost):
        world.broker(Calls(call)).ack(message)
    assert [m.message for m in taken] == [text("a")]


# Whether a queue is empty


class Evasive:
    """Moves a message, by a client of its own, out of the way of one who looks for it."""

    def __init__(self, tmp_path: Path, state: str, *, bundled: bool) -> None:
        self.world = new_world(tmp_path)
        self.broker = self.world.broker(clean=False)
        names = [text(name) for name in "abcdefghijkl"[: 12 if bundled else 1]]
        self.broker.publish_many(QUEUE, names, priority=0)
        self.broker.ack(self.broker.consume(QUEUE, len(names) - 1) if bundled else [])
        self.state = "ready"
        self.moves = 0
        while self.state != state:
            self.move()
        self.moves = 0

    def move(self) -> None:
        """Let it go on: from the ready queue to a client, to the delayed ones, and back."""
        self.moves += 1
        if self.state == "ready":
            [self.message] = self.broker.consume(QUEUE)
            self.state = "work"
        elif self.state == "work":
            self.broker.nack(self.message, delay=0.01)
            self.state = "delayed"
        else:
            self.world.clock.advance(0.02)
            make_one_due(self.broker)
            self.state = "ready"

    def looks_empty(
        self,
        goes: Callable[[str, str], bool],
        shown: Callable[[World, Any], Any] = lambda _, found: found,
    ) -> bool:
        """Tell what one finds before whose calls it goes, and how he is shown directories."""

        def call(_: int, name: str, do: Callable[..., Any], arguments: Any) -> Any:
            if goes(name, str(arguments[0])):
                self.move()
            result = do(*arguments)
            return shown(self.world, result) if name == "fstat" else result

        return self.world.broker(Calls(call), clean=False).is_empty(QUEUE)


def coarse() -> Callable[[World, Any], Any]:
    """Show stamps as a kernel does whose clock ticks slowly."""
    return lambda _, found: as_shown(found, found.st_dev, 15_000_000)


def as_shown(found: os.stat_result, device: int, tick: int) -> SimpleNamespace:
    return SimpleNamespace(
        st_dev=device,
        st_ino=found.st_ino,
        st_mtime_ns=found.st_mtime_ns // tick * tick,
        st_ctime_ns=found.st_ctime_ns // tick * tick,
    )


def late() -> Callable[[World, Any], Any]:
    """Show for a second what was shown before, as GlusterFS does."""
    seen: dict[int, tuple[float, Any]] = {}

    def shown(world: World, found: os.stat_result) -> Any:
        now = world.clock.monotonic()
        since, before = seen.get(found.st_ino, (now - 2, None))
        if now - since >= 1:
            before = as_shown(found, os.makedev(0, 0xFFFFF), 1)
            seen[found.st_ino] = now, before
        return before

    return shown


every_start = pytest.mark.parametrize("state", ["ready", "work", "delayed"])
single_and_bundled = pytest.mark.parametrize(
    "bundled", [False, True], ids=["single", "bundled"]
)


@single_and_bundled
@every_start
def test_a_queue_is_not_empty_while_a_message_goes_on_before_each_system_call(
    tmp_path: Path, state: str, bundled: bool
) -> None:
    evasive = Evasive(tmp_path, state, bundled=bundled)
    assert evasive.looks_empty(lambda _, __: True) is False


@pytest.mark.parametrize("shown", [coarse, late])
@single_and_bundled
@every_start
def test_a_queue_is_not_empty_while_a_message_goes_where_was_looked_already(
    tmp_path: Path,
    state: str,
    bundled: bool,
    shown: Callable[[], Callable[[World, Any], Any]],
) -> None:
    def goes(evasive: Evasive, times: int, name: str, path: str) -> bool:
        """Tell whether the message would be seen by what is done now."""
        is_there = name == "listdir" and f"/{QUEUE}/{evasive.state}" in path
        return is_there and evasive.moves < times

    for times in range(1, 10):
        evasive = Evasive(tmp_path / str(times), state, bundled=bundled)
        assert not evasive.looks_empty(partial(goes, evasive, times), shown())


def test_a_queue_is_not_called_empty_by_one_who_may_not_look(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    world.broker().publish(QUEUE, text("a"))

    def call(_: int, name: str, do: Callable[..., Any], arguments: Any) -> Any:
        if name == "listdir" and "/ready/999/" in arguments[0]:
            raise PermissionError(errno.EACCES, "Permission denied", arguments[0])
        return do(*arguments)

    looking = world.broker(Calls(call), clean=False)
    for _ in range(2):
        with pytest.raises(StorageError, match="/ready/999/"):
            looking.is_empty(QUEUE)
