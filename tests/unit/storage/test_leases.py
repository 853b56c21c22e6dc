"""Who holds a message, for how long, and what has been acked."""

from __future__ import annotations

import errno

import pytest
from protocol.scenes import QUEUE
from support import counting
from unit.scenes import (
    TOKEN,
    bundle_directories,
    claim_in_vain,
    consumed,
    leased,
    states,
    store_of,
)

from ddmq import Broker, LeaseLost
from ddmq.storage.names import Entry, Lease


def test_a_lease_lasts_as_long_as_it_was_given(broker, other, clock):
    broker.publish("q", "x", timeout=5)
    broker.consume("q")
    clock.advance(4.9)
    assert other.consume("q") == []
    clock.advance(0.3)
    assert len(other.consume("q")) == 1


def test_a_lease_ends_on_the_millisecond(broker, clock):
    broker.publish("q", "x", timeout=5)
    (message,) = broker.consume("q")
    assert int(message.filename[:13]) == clock.time_ns() // 1_000_000 + 5000


def test_messages_are_acked_and_named_in_the_order_given(broker, clock):
    broker.publish_many("q", range(10))
    broker.publish("q", "alone")
    *lines, alone = broker.consume("q", 11)
    given, calls = [lines[0], alone, *lines[1:]], counting()
    broker._fs.calls = calls
    broker.ack(given)
    assert calls.made == ["rename", "unlink", "rename"]
    clock.advance(10**6)
    with pytest.raises(LeaseLost) as lost:
        broker.ack(given)
    assert list(lost.value.messages) == given


def test_a_line_that_was_renewed_has_a_file_of_its_own_and_needs_no_bundle(
    world, bundler
):
    *others, last = bundler.consume(QUEUE, 12)
    renewed = bundler.renew(last)
    bundler.ack(others)
    bundler.clean(QUEUE)
    assert len(world.files("work")) == 1
    assert bundle_directories(world) == []
    late = world.broker(clean=False)
    late.nack(renewed)
    assert [m.message for m in late.consume(QUEUE)] == ["11"]


def test_the_last_line_of_a_range_is_renewed_with_it_and_needs_no_file(world, bundler):
    *others, last = bundler.consume(QUEUE, 12)
    bundler.ack(others)
    renewed = bundler.renew(last, 5000)
    world.clock.advance(4000)
    assert bundler.clean(QUEUE).requeued == 0
    assert states(world) == ["x" * 11 + "o"]
    bundler.ack(renewed)
    assert world.ranges() == []


def test_the_lease_of_a_line_is_found_by_its_token_though_it_is_no_file(world, bundler):
    messages = bundler.consume(QUEUE, 3)
    bundler.ack(messages[0])
    leases = store_of(world).leases
    first, second, third = (Lease.parse(message.filename) for message in messages)
    assert [lease.entry for lease in leases.all()] == [second.entry, third.entry]
    assert leases.current(first) is None
    assert leases.current(second) == second
    bundler.renew(messages[1:], 5000)
    assert leases.current(second).expiry > second.expiry
    assert leases.is_valid(second)
    assert not leases.is_valid(second._replace(token=TOKEN))


def test_the_lease_of_a_claim_that_was_not_made_is_none(world, bundler):
    claim_in_vain(world, 3)
    leases = store_of(world).leases
    [lease, *_] = leases.all()
    assert not leases.is_valid(lease)
    with pytest.raises(LeaseLost):
        world.broker(clean=False).leased(QUEUE, lease.entry.id)


def test_an_ack_of_a_line_that_found_nothing_was_done_unless_the_line_is_somewhere(
    world, bundler
):
    messages = bundler.consume(QUEUE, 3)
    leases = store_of(world).leases
    first, second, third = (Lease.parse(message.filename) for message in messages)
    assert not leases.is_finished(first)
    bundler.ack(messages[0])
    assert leases.is_finished(first)
    assert not leases.is_finished(second)
    bundler.nack(messages[1])
    assert not leases.is_finished(second)
    bundler.release(messages[2])
    assert not leases.is_finished(third)
    bundler.ack([m for m in bundler.consume(QUEUE, 2) if m.id == messages[1].id])
    assert leases.is_finished(second)


def test_an_ack_that_found_nothing_was_done_if_nobody_can_have_taken_the_message(world):
    now = world.clock.time_ns() // 1_000_000
    store = store_of(world)
    lease = Lease.of(Entry(5, 1, "abc"), now + 500, TOKEN)
    assert store.leases.is_finished(lease)
    world.clock.advance(0.6)
    assert not store.leases.is_finished(lease)


def test_an_ack_by_the_name_before_a_renewal_whose_reply_is_lost_is_done(
    broker, root, clock, refusing
):
    message = consumed(broker, timeout=1)
    broker.renew(message, 60)
    clock.advance(5)
    fs = refusing("unlink", errno.ENOENT, "/work/", done=True, times=2)
    Broker(root, clock=clock, fs=fs, clean=False).ack(message)
    assert broker.view("q")["q"] == (0, 0, 0, 0)


def test_what_is_finished_is_not_finished_again_when_its_lease_is_over(broker, clock):
    message = consumed(broker, timeout=5)
    broker.ack(message)
    clock.advance(6)
    with pytest.raises(LeaseLost):
        broker.ack(message)


def test_the_lease_that_expires_first_is_told_first(world, publisher):
    for timeout in (30, 5, 60):
        leased(world, publisher, timeout)
    now = world.clock.time_ns() // 1_000_000
    ends = [lease.expiry for lease in store_of(world).leases.all()]
    assert [round((end - now) / 1000) for end in ends] == [5, 30, 60]


def test_a_lease_that_was_renewed_is_found_by_its_token_and_lost_by_its_old_name(
    world, publisher
):
    leased(world, publisher)
    leases = store_of(world).leases
    (lease,) = leases.all()
    [longer] = leases.renew([lease], 60)
    assert longer.expiry > lease.expiry
    assert leases.current(lease) == longer
    assert leases.renew([lease], 70) == [None]
    assert leases.ack([lease]) == [lease]
    assert leases.ack([longer]) == []
    assert leases.current(lease) is None
