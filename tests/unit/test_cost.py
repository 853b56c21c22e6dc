"""What an operation costs: system calls, and modules that it imports."""

from __future__ import annotations

import os
import sys

import pytest
from support import counting

from ddmq import Activity, Broker, Running
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.layout import DIRECTORIES
from ddmq.storage.names import Lease
from ddmq.storage.workers import WorkerName

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
    assert client.publish_many("q", list("x" * number), durable=False) == number


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


@pytest.mark.parametrize(("durable", "most"), [(True, 15), (False, 8)])
def test_a_thousand_messages_are_published_by_15_system_calls_or_8(
    counted, calls, durable, most
):
    """The directory, its file, and the entry: each is made, and then moved to its place."""
    messages = ["x"] * BUNDLE
    counted.publish("q", "x", durable=durable)  # the bucket at the end is known
    made = cost(calls, lambda: counted.publish_many("q", messages, durable=durable))
    assert made == most


def test_each_further_bundle_that_is_published_with_others_costs_7_system_calls(
    counted, calls
):
    few, more = (
        cost(calls, lambda n=n: publish_bundled(counted, n * BUNDLE)) for n in (5, 15)
    )
    assert few <= 45
    assert more - few == 10 * 7


def calls_of(calls, use):
    before = len(calls.made)
    use()
    return calls.made[before:]


def test_a_consume_from_a_bundle_and_its_ack_are_7_system_calls(counted, calls):
    """The lease is made and moved, the claim is made, and the bundle is looked at."""
    publish_bundled(counted, BUNDLE)
    counted.ack(counted.consume("q"))  # it is read once
    for _ in range(50):
        made = calls_of(calls, lambda: counted.ack(counted.consume("q")))
        claim = ["symlink", "rename", "symlink", "open", "fstat", "close"]
        assert made == [*claim, "rename"]


@pytest.mark.parametrize(("number", "claims"), [(2, 1), (50, 1), (51, 2), (100, 2)])
def test_lines_that_are_consumed_together_cost_as_much_as_one_for_each_50(
    counted, calls, number, claims
):
    publish_bundled(counted, BUNDLE)
    counted.ack(counted.consume("q"))
    made = calls_of(calls, lambda: counted.consume("q", number))
    assert made == ["symlink", "rename", "symlink", "open", "fstat", "close"] * claims


def test_a_claim_beside_a_competitor_costs_no_listing(counted, calls, broker):
    publish_bundled(counted, BUNDLE)
    counted.ack(counted.consume("q"))
    broker.consume("q")
    made = calls_of(calls, lambda: counted.consume("q"))
    assert "listdir" not in made
    assert len(made) <= 10


def lines_of(messages):
    return [Lease.parse(message.filename) for message in messages]


def test_an_ack_or_renewal_of_all_lines_of_a_range_is_one_rename(counted, calls):
    publish_bundled(counted, BUNDLE)
    leases = counted._queue("q").store.leases
    for number in (1, 2, 50):
        held = lines_of(counted.consume("q", number))
        assert calls_of(calls, lambda h=held: leases.renew(h, 9000)) == ["rename"]
        assert calls_of(calls, lambda h=held: leases.ack(h)) == ["rename"]


def test_a_line_that_leaves_alone_while_others_are_held_costs_a_file(counted, calls):
    publish_bundled(counted, BUNDLE)
    messages = counted.consume("q", 4)
    counted.nack(messages[0])  # from now on, the bucket at the end is known
    made = calls_of(calls, lambda: counted.nack(messages[1]))
    assert made == ["open", "write", "close", *["rename"] * 3]
    counted.ack(messages[2])
    assert calls_of(calls, lambda: counted.nack(messages[3])) == ["rename"]


def test_an_ack_of_several_single_files_is_one_unlink_each(counted, calls):
    publish_singly(counted, 100)
    messages = counted.consume("q", 100)
    assert calls_of(calls, lambda: counted.ack(messages)) == ["unlink"] * 100


def test_an_ack_of_several_lines_is_one_rename_for_each_range(counted, calls):
    publish_bundled(counted, 100)
    messages = counted.consume("q", 100)  # a range has at most 50 lines
    assert calls_of(calls, lambda: counted.ack(messages)) == ["rename"] * 2


def test_the_first_of_a_bundle_costs_a_reading_and_a_rename_more(counted, calls):
    publish_bundled(counted, BUNDLE)
    first = cost(calls, lambda: counted.ack(counted.consume("q")))
    assert first <= cost(calls, lambda: counted.ack(counted.consume("q"))) + 10


def test_a_sweep_looks_at_no_bundle_that_others_take_from(
    counted, calls, broker, clock
):
    def swept():
        clock.advance(5)
        return cost(calls, lambda: counted.publish("q", "x", durable=False))

    broker.clean("q")
    publish_bundled(broker, BUNDLE)
    for _ in range(3):
        swept()
    small = swept()
    for _ in range(20):
        publish_bundled(broker, BUNDLE)
        broker.ack(broker.consume("q", 3))
    assert swept() <= small + 2  # it lists the bucket at the end once more


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


def test_a_thousand_waiting_messages_are_two_files_and_none_when_done(
    counted, root, clock
):
    publish_bundled(counted, 3 * BUNDLE)
    assert len(files(root)) == 3 * 2
    while messages := counted.consume("q", 100):
        assert (
            len(files(root)) <= 3 * 2
        )  # a lease or claim is a link, which has no content
        counted.ack(messages)
        assert len(files(root)) <= 3 * 2
    counted.clean("q")
    assert files(root) == []
    assert list((root / "q" / "work").iterdir()) == []


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
    monkeypatch.delitem(sys.modules, "ddmq.storage.lock_file", raising=False)
    for name in ("filelock", "yaml"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    client = Broker(root, clock=clock)
    client.publish("q", "x")
    client.nack(client.consume("q"))
    client.release(client.consume("q"))
    client.ack(client.renew(client.consume("q")))
    with pytest.raises(ImportError):
        client.purge("q")


def test_a_view_tells_what_nobody_renews_at_no_cost(counted, calls, broker, clock):
    def viewed():
        found = []
        made = calls_of(calls, lambda: found.append(counted.overview("q")["q"]))
        return made, found[0].unrenewed.number

    broker.publish_many("q", ["x"] * 30)
    publish_singly(broker, 5)
    broker.consume("q", 35)
    clock.advance(60)
    made, _ = viewed()  # and the housekeeping
    assert "read" not in made  # no settings, though they are a minute old
    fresh, none = viewed()
    broker.update_settings("q", message_timeout=5000)
    counted.settings("q")
    late, some = viewed()
    assert (none, some) == (0, 35)
    assert late == fresh
    census = counted._queue("q").store.census
    assert calls_of(calls, census.counts) == fresh


def test_nobody_who_counts_or_consumes_looks_for_what_is_to_follow(
    counted, calls, broker, root
):
    def made():
        broker.publish("q", "x")
        return calls_of(calls, lambda: (counted.overview("q"), counted.consume("q")))

    made()
    before = made()
    broker.with_follow_ups("q", lambda each: each.arm())
    assert made() == before


def test_to_arm_what_is_to_follow_costs_one_link_or_three_calls(counted, calls, root):
    def arm():
        return calls_of(calls, lambda: counted.with_follow_ups("q", lambda x: x.arm()))

    arm()
    assert arm() == ["symlink", "open", "readlink"]
    (root / "q" / "then" / "armed").unlink()
    assert arm() == ["symlink"]


def test_a_view_does_not_ask_who_paused_a_queue(counted, calls):
    counted.view("q")
    before = cost(calls, lambda: counted.view("q"))
    counted.pause("q")
    assert cost(calls, lambda: counted.view("q")) == before
    assert cost(calls, lambda: counted.overview("q")) > before


def test_a_worker_is_seen_by_one_call_and_changes_by_a_listing_and_a_rename(
    counted, calls
):
    """As many as these are told in docs/cost.md; how often, in tests/unit/hpc/test_presence.py."""
    fields = dict.fromkeys(WorkerName._fields, 1)
    fields.update(token="0" * 16, state="idle", job="", host="a")
    before = WorkerName(**fields)
    runs = Activity((Running(1, "a", 1.0, "x"),))

    def of(act):
        return calls_of(calls, lambda: counted.with_workers("q", act))

    made = of(lambda workers: workers.show(None, before))
    assert "mkdir" in made
    assert len(made) <= 6
    assert of(lambda w: w.show(None, before._replace(busy=2))) == ["mknod"]
    assert of(lambda w: w.look("0" * 16)) == ["open", "listdir"]
    assert of(lambda w: w.show(before, before._replace(busy=3))) == ["rename"]
    written = ["open", "write", "close", "rename"]
    assert of(lambda w: w.tell("0" * 16, runs)) == written
    assert of(lambda w: w.tell("0" * 16, Activity())) == ["unlink"]
    assert of(lambda w: w.all()) == ["open", "listdir"]


def test_a_key_costs_some_calls_and_a_second_publish_with_it_four(counted, calls):
    def publish(key, *, durable):
        return cost(calls, lambda: counted.publish("q", "x", key=key, durable=durable))

    publish("first", durable=False)
    assert publish("a", durable=False) == 4 + 7
    publish("b", durable=True)
    assert publish("c", durable=True) == 7 + 13
    assert publish("a", durable=True) == 4


def test_what_is_cancelled_costs_consumers_nothing_when_it_is_dead(
    counted, calls, clock
):
    def consume():
        return cost(calls, lambda: counted.ack(counted.consume("q")))

    publish_bundled(counted, 100)
    consume()
    usual = consume()
    first, second = (seen.id for seen in counted.peek("q", 2))
    counted.cancel("q", [second])
    counted.ack(counted.consume("q"))
    counted.ack(counted.consume("q"))
    assert counted.to_cancel("q") == frozenset()
    assert counted.status("q", [first, second]) == {first: "unknown", second: "dead"}
    clock.advance(1)  # a listing is believed for a moment
    consume()
    assert consume() == usual
    look = cost(calls, lambda: counted.to_cancel("q"))
    assert look == 2  # a directory is opened and listed
