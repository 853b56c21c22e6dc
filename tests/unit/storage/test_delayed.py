"""The messages that are not visible yet, and how they become due."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from protocol.scenes import QUEUE
from unit.scenes import store_of
from unit.storage.some_names import delayed

from ddmq.storage.delayed import Delayed
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.housekeeping import find_due
from ddmq.storage.names import Entry


def test_a_delayed_message_is_invisible_until_it_is_due(broker, clock):
    broker.publish("q", "x", delay=30)
    clock.advance(29)
    assert broker.consume("q") == []
    assert broker.view()["q"] == (0, 0, 1, 0)
    clock.advance(2)
    (message,) = broker.consume("q")
    assert (message.message, message.requeue_counter) == ("x", 0)


def test_messages_join_the_ready_queue_in_the_order_in_which_they_are_due(
    broker, clock
):
    for name, delay in (("c", 3), ("a", 1), ("b", 2)):
        broker.publish("q", name, delay=delay)
    clock.advance(10)
    assert [m.message for m in broker.consume("q", 3)] == ["a", "b", "c"]


def test_a_delayed_message_keeps_its_priority(broker, clock):
    broker.publish("q", "delayed", delay=1, priority=0)
    broker.publish("q", "waiting", priority=1)
    clock.advance(2)
    assert [m.priority for m in broker.consume("q", 2)] == [0, 1]


@pytest.mark.parametrize("number", [1, 10, 30])
@pytest.mark.parametrize("durable", [True, False])
def test_delayed_messages_wait_for_the_disk_if_they_are_to_stay(world, number, durable):
    class Recording(FileSystem):
        def sync_directory(self, path):
            synced.append(path)

    synced: list[str] = []
    world.bundle_size = 10
    client = world.broker(Recording(), clean=False)
    client.publish_many(QUEUE, list("x" * number), delay=60, durable=durable)
    places = [os.path.relpath(path, world.path).split("/")[0] for path in synced]
    bundles = number // 10
    # The directory of each bundle, then where these are, and at last what is to be seen.
    before = ["tmp"] * bundles + ["bundles"] * bool(bundles)
    shown = ["delayed"] * max(bundles, 1)
    assert places == (before + shown if durable else [])


def test_a_bundle_becomes_due_as_one_file_that_counts_all_its_messages(
    world, publisher
):
    publisher.publish_many(QUEUE, map(str, range(12)), delay=5)
    world.clock.advance(6)
    store = store_of(world)
    (bundle,), _ = find_due(store)
    delayed = store.delayed
    assert delayed.make_due(bundle) == 12
    assert delayed.make_due(bundle) == 0  # a competitor's turn was first
    assert delayed.all() == []
    assert len(world.files("ready")) == 1


def test_what_is_gone_is_not_postponed(world):
    delayed = store_of(world).delayed
    assert delayed.postpone(f"{world.path}/tmp/gone", Entry(5, 1, "a"), 5) is False
    assert delayed.all() == []


# Its names


@given(delayed)
def test_a_delayed_message_survives_its_name(name):
    assert Delayed.parse(name.filename) == name
