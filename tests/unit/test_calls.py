"""What an operation costs: system calls, and modules that it imports."""

from __future__ import annotations

import os
import sys

import pytest
from support import counting

from ddmq import Broker
from ddmq.fs import FileSystem
from ddmq.store import DIRECTORIES

SMALL, LARGE = 10, 2000
BUNDLE = 1000


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


def publish_singly(client, number):
    for _ in range(number):
        client.publish("q", "x", durable=False)


def publish_bundled(client, number):
    assert client.publish_many("q", "x" * number, durable=False) == number


def files(root):
    """Return the files that are there because of messages."""
    states = [root / "q" / name for name in DIRECTORIES]
    return [path for state in states for path in state.rglob("*") if path.is_file()]


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
    for _ in range(2):
        clock.advance(60)
        counted.consume("q")
    listings = []
    for _ in range(60):
        clock.advance(5)
        before = calls.made.count("listdir")
        assert counted.consume("q") == []
        listings.append(calls.made.count("listdir") - before)
    assert max(listings) <= 3  # the sixth one lists `drop/` in place of `delayed/`


def test_an_idle_client_still_finds_what_expired_came_due_or_was_dropped(
    counted, broker, root, clock, aged
):
    broker.publish("q", "leased", timeout=12)
    broker.consume("q")
    broker.publish("q", "delayed", delay=12)
    found = set()
    counted.consume("q")
    (root / "q" / "drop" / "dropped").write_text("dropped")
    aged(root / "q" / "drop" / "dropped", 60)
    for _ in range(8):
        clock.advance(5)
        found |= {message.message for message in counted.consume("q", 9)}
    assert found == {"leased", "delayed", "dropped"}


def test_no_cost_grows_with_the_backlog(counted, broker, calls):
    publish_singly(broker, SMALL)
    counted.ack(counted.consume("q"))
    small = costs(calls, counted)
    publish_singly(broker, LARGE)
    counted.ack(counted.consume("q"))
    assert costs(calls, counted) == small


@pytest.mark.parametrize("publish", [publish_singly, publish_bundled])
def test_a_client_that_starts_pays_no_more_for_a_backlog(
    broker, root, clock, calls, publish
):
    def start():
        client = Broker(root, clock=clock, fs=FileSystem(calls))
        client.ack(client.consume("q"))

    publish(broker, SMALL)
    start()
    os.utime(root / "q" / "cleaned", (clock.time(), clock.time()))
    small = cost(calls, start)
    publish(broker, LARGE)
    assert cost(calls, start) == small


def test_no_listing_grows_with_the_backlog(broker, root, clock):
    longest = [0]

    class Measuring(FileSystem):
        def listing(self, path):
            names = super().listing(path)
            longest[0] = max(longest[0], len(names))
            return names

    client = Broker(root, clock=clock, fs=Measuring(), bucket_size=50)
    publish_singly(client, LARGE)
    client.ack(client.consume("q"))
    assert longest[0] <= 50


@pytest.mark.parametrize("durable", [True, False])
def test_a_thousand_messages_are_published_by_at_most_10_system_calls(
    counted, calls, durable
):
    messages = "x" * BUNDLE
    made = cost(calls, lambda: counted.publish_many("q", messages, durable=durable))
    assert made <= 10


def test_a_consume_from_a_bundle_and_its_ack_are_3_system_calls(counted, calls):
    publish_bundled(counted, BUNDLE)
    counted.ack(counted.consume("q"))  # it is read once
    for _ in range(50):
        assert cost(calls, lambda: counted.ack(counted.consume("q"))) == 3


def test_a_draft_that_others_completed_is_found_without_a_listing(
    counted, calls, broker
):
    publish_bundled(counted, BUNDLE)
    counted.ack(counted.consume("q"))
    messages = counted.consume("q")
    broker.consume("q")
    before = len(calls.made)
    counted.ack(messages)
    assert calls.made[before:] == ["unlink", "unlink"]


def test_a_batch_of_100_is_at_most_3_2_system_calls_a_message(counted, calls):
    publish_bundled(counted, BUNDLE)
    for _ in range(BUNDLE // 100):
        assert cost(calls, lambda: counted.ack(counted.consume("q", 100))) <= 320


@pytest.mark.parametrize("publish", [publish_singly, publish_bundled])
def test_an_ack_of_several_is_one_unlink_each(counted, calls, publish):
    publish(counted, 100)
    messages = counted.consume("q", 100)
    before = len(calls.made)
    counted.ack(messages)
    assert calls.made[before:] == ["unlink"] * 100


def test_the_first_of_a_bundle_costs_a_reading_more(counted, calls):
    publish_bundled(counted, BUNDLE)
    first = cost(calls, lambda: counted.ack(counted.consume("q")))
    assert first <= cost(calls, lambda: counted.ack(counted.consume("q"))) + 8


def test_no_cost_grows_with_the_backlog_in_bundles(counted, broker, calls):
    def bundled():
        counted.ack(counted.consume("q"))  # whichever bundle is first has been read
        return [
            cost(calls, lambda: publish_bundled(counted, BUNDLE)),
            cost(calls, lambda: counted.ack(counted.consume("q"))),
            cost(calls, lambda: counted.ack(counted.consume("q", 100))),
        ]

    publish_bundled(broker, BUNDLE)
    small = bundled()
    publish_bundled(broker, 20 * BUNDLE)
    assert bundled() == small


def test_a_thousand_waiting_messages_are_one_file_and_none_when_done(
    counted, root, clock
):
    publish_bundled(counted, 3 * BUNDLE)
    assert len(files(root)) == 3
    counted.ack(counted.consume("q", 100))
    assert len(files(root)) == 3  # no file stays for what is done
    while messages := counted.consume("q", 100):
        counted.ack(messages)
    clock.advance(11)
    counted.clean("q")
    assert files(root) == []


def test_a_message_is_one_file_while_it_waits_and_none_when_done(counted, root):
    publish_singly(counted, 10)
    assert len(files(root)) == 10
    counted.ack(counted.consume("q", 10))
    assert files(root) == []


def test_messages_come_and_go_without_filelock_and_yaml(
    broker, root, clock, aged, monkeypatch
):
    broker.clean("q")
    aged(root / "q" / "cleaned", 1)
    monkeypatch.delitem(sys.modules, "ddmq.lockfile", raising=False)
    for name in ("filelock", "yaml"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    client = Broker(root, clock=clock)
    client.publish("q", "x")
    client.nack(client.consume("q"))
    client.release(client.consume("q"))
    client.ack(client.renew(client.consume("q")))
    with pytest.raises(ImportError):
        client.purge("q")
