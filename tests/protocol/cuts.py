"""What is published and consumed when the power is cut, and what must be left of it."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from protocol.disks import Cut, Recording, Tree, frozen, put
from protocol.scenes import HOUR, MANY, QUEUE, World, text

from ddmq import Broker, Message

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Told = Callable[[str], None]

_SEED = 5


class Story(NamedTuple):
    """What some clients do, one after the other, until the power is cut."""

    name: str
    messages: list[str]
    act: Callable[[World, Broker, Told], None]
    """It says of each message when it is confirmed, and with a dash before an ack."""
    before: Callable[[World, Broker], None] = lambda world, broker: None
    """What happened long before, and is on stable storage."""
    kept: tuple[str, ...] = ()
    """The messages of that time."""
    loose: tuple[str, ...] = ()
    """Messages that were consumed: unless renames stay in order, all may be left of them."""
    bundle_size: int = 1000
    bucket_size: int = 500
    mode: int | None = None

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


class Replayed(NamedTuple):
    """How many power cuts were replayed, and what they left."""

    points: int = 0
    combinations: int = 0
    trees: int = 0

    def plus(self, other: Replayed) -> Replayed:
        return Replayed(*map(sum, zip(self, other)))


def replay(story: Story, directory: Path, *, ordered: bool, most: int) -> Replayed:
    """Cut the power at every point of a story, and judge all that may be left."""
    recording = _recorded(story, os.fspath(directory / "before"))
    seen: set[object] = set()
    combinations = 0
    points = len(recording.events) + 1
    for at in range(points):
        cut = Cut(recording, at, ordered=ordered)
        for tree in cut.trees(most, _SEED):
            combinations += 1
            value = frozen(tree), tuple(cut.told)
            if value not in seen:
                seen.add(value)
                _judge(story, tree, cut.told, os.fspath(directory / "after"))
    return Replayed(points, combinations, len(seen))


def _recorded(story: Story, root: str) -> Recording:
    sizes = {"bundle_size": story.bundle_size, "bucket_size": story.bucket_size}
    world = World(root, **sizes)
    first = world.broker(create=True)
    first.create_queue(QUEUE, mode=story.mode)
    story.before(world, first)
    recording = Recording(root)
    story.act(world, world.broker(recording.calls()), recording.told)
    return recording


def _judge(story: Story, tree: Tree, told: list[str], root: str) -> None:
    """Each message is there once and whole if it must be, else once or not at all."""
    put(tree, root)
    world = World(root)
    world.clock.advance(25 * HOUR)
    broker = world.broker()
    broker.clean(QUEUE)
    left = Counter(m.message for m in _consumed(broker))
    left.update(letter.message for letter in broker.dead(QUEUE) if letter.message)
    for name in story.loose:
        left.pop(text(name), None)
    known = {text(name) for name in (*story.kept, *story.messages)}
    sure = {text(name) for name in (*story.kept, *told) if f"-{name}" not in told}
    assert set(left) <= known
    assert set(left.values()) <= {1}
    assert sure & known <= set(left)
    # A new directory with a mode is made in tmp/; back there, it may hold others.
    assert story.mode or os.listdir(f"{world.path}/tmp") == []
    shutil.rmtree(root)


def _consumed(broker: Broker) -> list[Message]:
    found: list[Message] = []
    while more := broker.consume(QUEUE, 100):
        found += more
    return found


def _one_by_one(*names: str, **options: bool | float) -> Callable[..., None]:
    def act(_: World, broker: Broker, told: Told) -> None:
        for name in names:
            broker.publish(QUEUE, text(name), **options)
            if options.get("durable", True):
                told(name)

    return act


def _at_once(**options: bool | float) -> Callable[..., None]:
    def act(_: World, broker: Broker, told: Told) -> None:
        broker.publish_many(QUEUE, map(text, MANY), **options)
        if options.get("durable", True):
            for name in MANY:
                told(name)

    return act


def _old(_: World, broker: Broker) -> None:
    broker.publish(QUEUE, text("old"))


def _two_old(world: World, broker: Broker) -> None:
    _old(world, broker)
    broker.publish(QUEUE, text("older"))


def _onto_a_shelf_of_others(world: World, broker: Broker, told: Told) -> None:
    """Somebody else made the shelf, and saw no need to sync anything."""
    _into_a_bucket_of_others(world, broker, told)
    _one_by_one("b")(world, broker, told)


def _after_the_shelf_was_removed(world: World, broker: Broker, told: Told) -> None:
    broker.publish(QUEUE, text("x"))
    broker.ack(broker.consume(QUEUE, 3)[2])
    world.clock.advance(20)
    broker.clean(QUEUE)
    assert not any(".shelf" in path for path, _, _ in os.walk(world.path))
    _one_by_one("a")(world, broker, told)


def _into_a_bucket_of_others(world: World, broker: Broker, told: Told) -> None:
    """Somebody else made the bucket, and saw no need to sync anything."""
    other = world.broker(broker._fs)
    other.publish(QUEUE, text("x"), durable=False)
    _one_by_one("a")(world, broker, told)


def _not_durably_and_durably(world: World, broker: Broker, told: Told) -> None:
    broker.publish(QUEUE, text("x"), durable=False)
    _one_by_one("a", "b")(world, broker, told)


def _after_the_bucket_was_removed(world: World, broker: Broker, told: Told) -> None:
    broker.publish(QUEUE, text("x"))
    broker.ack(broker.consume(QUEUE))
    world.clock.advance(20)
    broker.clean(QUEUE)
    _one_by_one("a")(world, broker, told)


PUBLISHING = [
    Story("one", ["a"], _one_by_one("a")),
    Story("two", ["a", "b"], _one_by_one("a", "b")),
    Story("behind others", ["a"], _one_by_one("a"), _old, ("old",)),
    Story(
        "full buckets", ["a", "b"], _one_by_one("a", "b"), _old, ("old",), bucket_size=1
    ),
    Story(
        "a new shelf, and on it",
        ["a", "b"],
        _one_by_one("a", "b"),
        _two_old,
        ("old", "older"),
        bucket_size=1,
    ),
    Story(
        "shelf of others",
        ["x", "a", "b"],
        _onto_a_shelf_of_others,
        _two_old,
        ("old", "older"),
        bucket_size=1,
    ),
    Story(
        "a shelf anew",
        ["a"],
        _after_the_shelf_was_removed,
        _two_old,
        bucket_size=1,
        loose=("old", "older", "x"),
    ),
    Story(
        "a new shelf for a group",
        ["a"],
        _one_by_one("a"),
        _two_old,
        ("old", "older"),
        bucket_size=1,
        mode=0o2770,
    ),
    Story(
        "bundles on a new shelf",
        MANY,
        _at_once(),
        _two_old,
        ("old", "older"),
        bucket_size=1,
        bundle_size=7,
    ),
    Story("with a delay", ["a"], _one_by_one("a", delay=60)),
    Story("not durably", ["a", "b"], _one_by_one("a", "b", durable=False)),
    Story("bucket of others", ["x", "a"], _into_a_bucket_of_others),
    Story("not durably and durably", ["x", "a", "b"], _not_durably_and_durably),
    Story("a bucket anew", ["a"], _after_the_bucket_was_removed, loose=("x",)),
    Story("for a group", ["a"], _one_by_one("a"), mode=0o2770),
    Story("a bundle", MANY, _at_once()),
    Story("a bundle with a delay", MANY, _at_once(delay=60)),
    Story("a bundle not durably", MANY, _at_once(durable=False)),
    Story("bundles", MANY, _at_once(), bundle_size=5),
    Story("bundles behind others", MANY, _at_once(), _old, ("old",), bundle_size=7),
    Story("bundles with a delay", MANY, _at_once(delay=60), bundle_size=5),
    Story("bundles not durably", MANY, _at_once(durable=False), bundle_size=5),
    Story("bundles for a group", MANY, _at_once(), bundle_size=7, mode=0o2770),
]


def _bundled(_: World, broker: Broker) -> None:
    broker.publish_many(QUEUE, map(text, MANY))


def _finishing(broker: Broker, told: Told, messages: list[Message]) -> None:
    """From the moment that an ack may be done, its message may be gone."""
    for message in messages:
        told(f"-{message.message.rpartition(' ')[2]}")
    broker.ack(messages)


def _clean_later(world: World, broker: Broker) -> None:
    """Let bundles of which nothing is leased be removed."""
    world.clock.advance(11)
    broker.clean(QUEUE)


def _ack_one_by_one(world: World, broker: Broker, told: Told) -> None:
    while messages := broker.consume(QUEUE):
        _finishing(broker, told, messages)
    _clean_later(world, broker)


def _ack_batches(world: World, broker: Broker, told: Told) -> None:
    while messages := broker.consume(QUEUE, 5):
        _finishing(broker, told, messages)
    _clean_later(world, broker)


def _settle_otherwise(_: World, broker: Broker, told: Told) -> None:
    first, second, third, fourth, fifth, sixth = broker.consume(QUEUE, 6)
    broker.nack(first)
    broker.nack(second, delay=60)
    broker.release(third)
    broker.reject(fourth, "it smelled")
    fifth = broker.renew(fifth, 900)
    _finishing(broker, told, [fifth])
    broker.nack(broker.renew(sixth, 900))


def _settle_the_last_otherwise(world: World, broker: Broker, told: Told) -> None:
    messages = broker.consume(QUEUE, 12)
    for message in messages[:3]:
        broker.nack(message)
    _finishing(broker, told, messages[3:])
    _clean_later(world, broker)
    _finishing(broker, told, broker.consume(QUEUE, 2))


def _let_all_expire(world: World, broker: Broker, told: Told) -> None:
    broker.consume(QUEUE, 12)
    world.clock.advance(700)
    broker.clean(QUEUE)
    _finishing(broker, told, broker.consume(QUEUE, 2))


def _share_a_bundle(world: World, broker: Broker, told: Told) -> None:
    broker.consume(QUEUE, 2)
    other = world.broker(broker._fs)
    _finishing(other, told, other.consume(QUEUE, 3))


_LINES = (_bundled, tuple(MANY))
CONSUMING = [
    Story("ack one by one", [], _ack_one_by_one, *_LINES),
    Story("ack batches", [], _ack_batches, *_LINES),
    Story("ack batches of bundles", [], _ack_batches, *_LINES, bundle_size=5),
    Story("settle otherwise", [], _settle_otherwise, *_LINES),
    Story("settle the last otherwise", [], _settle_the_last_otherwise, *_LINES),
    Story("let all expire", [], _let_all_expire, *_LINES),
    Story("two consumers", [], _share_a_bundle, *_LINES),
]
