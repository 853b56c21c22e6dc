"""All messages in some states are removed."""

from __future__ import annotations

import errno

import pytest
from protocol.scenes import HOUR, QUEUE
from support import Calls
from unit.scenes import (
    bundle_directories,
    claim_cut_short,
    claim_in_vain,
    ended_claims,
    files,
    store_of,
    view,
)

from ddmq import Broker, Counts, LeaseLost, StorageError
from ddmq.storage.names import Lease


@pytest.mark.usefixtures("in_every_state")
@pytest.mark.parametrize(
    ("states", "purged"),
    [
        (["waiting"], (4, 0, 0, 0)),
        (["work"], (0, 3, 0, 0)),
        (["delayed"], (0, 0, 2, 0)),
        (["dead"], (0, 0, 0, 1)),
        (["waiting", "dead"], (4, 0, 0, 1)),
        ([], (0, 0, 0, 0)),
    ],
)
def test_only_what_is_named_is_purged(broker, states, purged):
    before = broker.view()["q"]
    assert broker.purge("q", states) == purged
    assert broker.view()["q"] == tuple(b - p for b, p in zip(before, purged))


@pytest.mark.usefixtures("in_every_state")
def test_everything_is_purged_unless_something_is_named(broker, root):
    assert broker.purge("q") == (4, 3, 2, 1)
    left = {path.name for path in files(root / "q")}
    assert left <= {"ddmq.yaml", "lock", "cleaned"}
    assert broker.publish("q", "x")


@pytest.mark.usefixtures("in_every_state")
@pytest.mark.parametrize(
    ("call", "place", "left"),
    [
        ("unlink", "ready/999", (1, 0, 0, 0)),
        (
            "unlink",
            "ready/0",
            (0, 0, 0, 0),
        ),  # the entry of a bundle, whose lines are claimed
        ("unlink", "work", (0, 1, 0, 0)),
        ("unlink", "delayed", (0, 0, 1, 0)),
        ("unlink", "dead", (0, 0, 0, 1)),
    ],
)
def test_what_can_not_be_removed_keeps_nothing_else_from_a_purge(
    broker, root, refusing, clock, call, place, left
):
    broker.publish_many("q", list("x" * 12), priority=0)
    first = min(str(p) for p in files(root / "q" / place) if p.suffix != ".note")
    client = Broker(root, clock=clock, fs=refusing(call, errno.EPERM, first))
    with pytest.raises(StorageError) as told:
        client.purge("q")
    stays = f"{first}.open" if place == "ready/0" else first
    assert f"{stays}: Operation not permitted: this stays, all" in str(told.value)
    assert broker.view()["q"] == left


@pytest.mark.parametrize(("states", "left"), [(["waiting"], 1), (["work"], 2), ([], 2)])
def test_the_space_of_bundles_is_free_after_a_purge(broker, root, clock, states, left):
    """Not only after the next housekeeping, since the disk may be full, and nobody else there."""
    broker.publish_many("q", list("x" * 12))
    broker.publish_many("q", list("y" * 12))
    held = broker.consume("q", 3)
    client = Broker(root, clock=clock, clean=False)
    client.purge("q", states)
    assert len(list((root / "q" / "bundles").iterdir())) == left
    if "work" not in states:
        broker.ack(held)
    assert client.purge("q", ["waiting", "work"]).dead == 0
    assert not list((root / "q" / "bundles").iterdir())


def test_a_purge_leaves_directories_alone(broker, root):
    (root / "q" / "delayed" / "dir").mkdir()
    assert broker.purge("q") == (0, 0, 0, 0)
    assert (root / "q" / "delayed" / "dir").is_dir()


# Bundles


def test_a_bundle_of_which_nothing_waits_after_a_purge_is_no_longer_ready(
    world, bundler
):
    bundler.ack(bundler.consume(QUEUE, 2))
    assert bundler.purge(QUEUE, ["waiting"]).waiting == 10
    assert world.files("ready") == []
    bundler.clean(QUEUE)
    assert world.files("work") == []


def test_who_purges_what_waits_leaves_the_claim_of_who_died(world, bundler):
    claim_cut_short(world, 3)
    assert bundler.purge(QUEUE, ["waiting"]).waiting == 9
    assert view(world) == Counts(0, 3, 0, 0)
    world.clock.advance(HOUR)
    messages = world.broker().consume(QUEUE, 12)
    assert [message.message for message in messages] == ["0", "1", "2"]


def test_who_purges_what_is_leased_ends_the_claim_of_who_died(world, bundler):
    claim_cut_short(world, 3)
    assert bundler.purge(QUEUE, ["work"]).work == 3
    assert view(world) == Counts(9, 0, 0, 0)
    assert ended_claims(world) == ["0-3-12"]
    assert len(world.broker().consume(QUEUE, 12)) == 9


def test_who_purges_what_waits_takes_the_lines_of_a_claim_that_was_never_made(
    world, bundler
):
    claim_in_vain(world, 3)
    assert bundler.purge(QUEUE, ["work"]).work == 0
    assert bundler.purge(QUEUE, ["waiting"]).waiting == 12
    assert view(world) == Counts(0, 0, 0, 0)
    world.clock.advance(HOUR)
    for _ in range(2):
        bundler.clean(QUEUE)
    assert world.files("work") == []


def test_a_purge_of_what_is_leased_counts_messages_and_no_bundle(world, bundler):
    bundler.consume(QUEUE, 12)
    assert bundler.purge(QUEUE, ["work"]).work == 12
    assert view(world) == Counts(0, 0, 0, 0)
    bundler.clean(QUEUE)
    assert bundle_directories(world) == []


def test_a_purge_of_what_is_leased_counts_each_line_once_however_it_is_leased(
    world, bundler
):
    messages = bundler.consume(QUEUE, 6)
    bundler.ack(messages[0])
    bundler.renew(messages[1])
    store_of(world).leases.ranges.detach(Lease.parse(messages[2].filename))
    assert view(world) == Counts(6, 5, 0, 0)
    assert bundler.purge(QUEUE, ["work"]).work == 5
    assert view(world) == Counts(6, 0, 0, 0)
    assert world.ranges() == []


def test_a_purge_of_what_waits_counts_the_open_lines_of_ranges(world, bundler):
    messages = bundler.consume(QUEUE, 3)
    bundler.ack(messages[:2])
    bundler.release(messages[2])
    assert view(world) == Counts(10, 0, 0, 0)
    assert bundler.purge(QUEUE, ["waiting"]).waiting == 10
    assert world.files("ready") == []
    world.clock.advance(6)
    bundler.clean(QUEUE)
    assert bundle_directories(world) == []


def test_a_purge_of_what_is_delayed_removes_its_bundles(world, publisher):
    publisher.publish_many(QUEUE, map(str, range(12)), delay=60)
    publisher.publish_many(QUEUE, map(str, range(10)))
    assert publisher.purge(QUEUE, ["delayed"]).delayed == 12
    assert view(world) == Counts(10, 0, 0, 0)
    assert len(bundle_directories(world)) == 1
    assert len(publisher.consume(QUEUE, 12)) == 10


def test_a_bundle_that_is_due_while_it_is_purged_loses_no_message(world, publisher):
    def call(_, name, function, arguments):
        if name == "unlink" and "/delayed/" in arguments[0] and not due:
            due.append(publisher.clean(QUEUE).due)
        return function(*arguments)

    due: list[int] = []
    publisher.publish_many(QUEUE, map(str, range(12)), delay=60)
    world.clock.advance(61)
    client = world.broker(Calls(call), clean=False)
    assert client.purge(QUEUE, ["delayed"]).delayed == 0
    assert due == [12]
    assert len(publisher.consume(QUEUE, 12)) == 12


def test_a_purge_counts_nothing_of_a_bundle_that_a_competitor_took_whole(
    world, bundler
):
    def call(_, name, function, arguments):
        if name == "symlink" and "/bundles/" in arguments[1] and not competitors:
            competitors.append(bundler.consume(QUEUE, 12))
        return function(*arguments)

    competitors: list[object] = []
    client = world.broker(Calls(call), clean=False)
    assert client.purge(QUEUE, ["waiting"]).waiting == 0
    assert competitors
    assert view(world) == Counts(0, 12, 0, 0)
    assert len(world.ranges()) == 1


def test_who_held_what_was_purged_does_not_take_that_for_his_own_ack(world, bundler):
    """A purge ends the claim, as its holder's last ack would."""
    messages = bundler.consume(QUEUE, 3)
    other = world.broker()
    other.nack(messages[0], delay=60)
    assert other.purge(QUEUE, ["work"]).work == 2
    with pytest.raises(LeaseLost) as lost:
        bundler.ack(messages)
    assert lost.value.messages == (messages[0],)
