"""What an operation costs: system calls, and modules that it imports."""

from __future__ import annotations

import os
import sys

import pytest
from support import counting

from ddmq import Broker
from ddmq.fs import FileSystem

SMALL, LARGE = 10, 2000


@pytest.fixture
def calls():
    return counting()


@pytest.fixture
def counted(broker, root, clock, calls):
    """A client that has published, consumed and acked one message already."""
    client = Broker(root, clock=clock, fs=FileSystem(calls))
    client.publish("q", "x")
    client.ack(client.consume("q"))
    return client


def cost(calls, use):
    before = len(calls.made)
    use()
    return len(calls.made) - before


def costs(calls, client):
    """Return the system calls of a publish, durable and not, and of a consume and ack."""
    return (
        cost(calls, lambda: client.publish("q", "x", durable=False)),
        cost(calls, lambda: client.publish("q", "x", durable=True)),
        cost(calls, lambda: client.ack(client.consume("q"))),
    )


@pytest.mark.parametrize("durable", [True, False])
def test_a_publish_is_at_most_12_system_calls(counted, calls, durable):
    assert cost(calls, lambda: counted.publish("q", "x", durable=durable)) <= 12


def test_a_consume_and_its_ack_are_at_most_20_system_calls(counted, calls):
    counted.publish("q", "x")
    assert cost(calls, lambda: counted.ack(counted.consume("q"))) <= 20


def test_an_idle_client_lists_three_directories_each_time_it_looks(
    counted, calls, clock
):
    clock.advance(60)
    counted.consume("q")
    listings = []
    for _ in range(60):
        clock.advance(5)
        before = calls.made.count("listdir")
        assert counted.consume("q") == []
        listings.append(calls.made.count("listdir") - before)
    assert sorted(listings)[48] <= 3
    assert max(listings) <= 6  # `drop/` twice a minute, leftovers every ten minutes


def test_an_idle_client_still_finds_what_expired_came_due_or_was_dropped(
    counted, broker, root, clock
):
    broker.publish("q", "leased", timeout=12)
    broker.consume("q")
    broker.publish("q", "delayed", delay=12)
    found = set()
    for _ in range(8):
        clock.advance(5)
        found |= {message.message for message in counted.consume("q", 9)}
    assert found == {"leased", "delayed"}


def test_no_cost_grows_with_the_backlog(counted, broker, calls):
    broker.publish_many("q", "x" * SMALL, durable=False)
    counted.ack(counted.consume("q"))
    small = costs(calls, counted)
    broker.publish_many("q", "x" * LARGE, durable=False)
    counted.ack(counted.consume("q"))
    assert costs(calls, counted) == small


def test_a_client_that_starts_pays_no_more_for_a_backlog(broker, root, clock, calls):
    def start():
        client = Broker(root, clock=clock, fs=FileSystem(calls))
        client.ack(client.consume("q"))

    broker.publish_many("q", "x" * SMALL, durable=False)
    start()
    os.utime(root / "q" / "cleaned", (clock.time(), clock.time()))
    small = cost(calls, start)
    broker.publish_many("q", "x" * LARGE, durable=False)
    assert cost(calls, start) == small


def test_no_listing_grows_with_the_backlog(broker, root, clock):
    longest = [0]

    class Measuring(FileSystem):
        def listing(self, path):
            names = super().listing(path)
            longest[0] = max(longest[0], len(names))
            return names

    client = Broker(root, clock=clock, fs=Measuring(), bucket_size=50)
    client.publish_many("q", "x" * LARGE, durable=False)
    client.ack(client.consume("q"))
    assert longest[0] <= 50


def test_messages_come_and_go_without_filelock_and_yaml(
    broker, root, clock, aged, monkeypatch
):
    broker.clean("q")
    aged(root / "q" / "cleaned", 1)
    for name in ("filelock", "yaml"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    client = Broker(root, clock=clock)
    client.publish("q", "x")
    client.nack(client.consume("q"))
    client.release(client.consume("q"))
    client.ack(client.renew(client.consume("q")))
    with pytest.raises(ImportError):
        client.purge("q")
