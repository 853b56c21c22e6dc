"""What is counted of a queue, and when it is called empty."""

from __future__ import annotations

import errno
import glob
import itertools
import os
import time
from functools import partial

import pytest
from protocol.scenes import HOUR, QUEUE
from support import Calls, counting
from unit.scenes import (
    TOKEN,
    claim_cut_short,
    claim_in_vain,
    leased,
    store_of,
    view,
)

from ddmq import Counts
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.names import Lease


def test_what_a_client_took_before_it_died_is_counted_once(world, bundler):
    assert view(world) == Counts(12, 0, 0, 0)
    claim_cut_short(world, 3)
    assert view(world) == Counts(9, 3, 0, 0)


def test_all_lines_may_be_taken_by_a_client_that_died(world, bundler):
    claim_cut_short(world, 12)
    assert view(world) == Counts(0, 12, 0, 0)
    assert world.broker(clean=False).is_empty(QUEUE) is False


def test_what_a_client_meant_to_take_before_it_died_waits(world, bundler):
    claim_in_vain(world, 12)
    assert view(world) == Counts(12, 0, 0, 0)
    assert world.broker(clean=False).is_empty(QUEUE) is False


def test_of_leases_that_compete_for_a_claim_one_counts(world, bundler):
    claim_in_vain(world, 3)
    bundler.consume(QUEUE, 2)
    assert len(world.ranges()) == 2
    assert view(world) == Counts(10, 2, 0, 0)


def test_a_lease_that_never_was_one_keeps_no_queue_from_being_empty(world, bundler):
    claim_in_vain(world, 3)
    bundler.ack(bundler.consume(QUEUE, 12))
    assert len(world.ranges()) == 1
    assert view(world) == Counts(0, 0, 0, 0)
    assert world.broker(clean=False).is_empty(QUEUE) is True


def test_lines_count_where_they_are(world, bundler):
    """Waiting in the bundle or a range, leased, detached in vain, delayed or dead."""
    messages = bundler.consume(QUEUE, 7)
    bundler.ack(messages[0])
    bundler.reject(messages[1])
    bundler.nack(messages[2], delay=60)
    bundler.nack(messages[3])
    store_of(world).leases.ranges.detach(Lease.parse(messages[4].filename))
    assert view(world) == Counts(6, 3, 1, 1)
    assert sum(view(world)) == 11
    world.clock.advance(HOUR)
    bundler.clean(QUEUE)
    assert view(world) == Counts(10, 0, 0, 1)


def test_a_detached_file_counts_only_while_its_range_tells_of_it(world, bundler):
    messages = bundler.consume(QUEUE, 3)
    store = store_of(world)
    path = store.leases.ranges.detach(Lease.parse(messages[1].filename))
    assert view(world) == Counts(9, 3, 0, 0)
    os.unlink(path)
    assert view(world) == Counts(9, 2, 0, 0)
    world.put(f"work/{os.path.basename(path)[:-32]}{TOKEN}.0123ab.detached")
    assert view(world) == Counts(9, 2, 0, 0)


def test_an_entry_of_which_all_lines_were_claimed_counts_nothing(
    world, bundler, refusing
):
    calls = refusing("unlink", errno.EIO, "/ready/")
    client = world.broker(calls, clean=False)
    client.ack(client.consume(QUEUE, 12))
    assert len(world.files("ready")) == 1
    assert view(world) == Counts(0, 0, 0, 0)
    assert bundler.is_empty(QUEUE) is True


def test_a_queue_is_not_empty_while_a_range_waits(world, bundler):
    bundler.release(bundler.consume(QUEUE, 12)[:1])
    claim_all = bundler.consume(QUEUE, 12)
    bundler.ack(claim_all)
    assert bundler.is_empty(QUEUE) is False


def looking_while(world, directory, act, *what):
    """Return a client before whose listing of a directory another does something."""

    def call(_, name, function, arguments):
        if name == "listdir" and arguments[0] == f"{world.path}/{directory}" and left:
            left.pop()
            act(*what)
        return function(*arguments)

    left = [None]
    return world.broker(Calls(call), clean=False)


def test_a_queue_is_not_empty_while_a_message_goes_back_into_the_ready_queue(
    world, publisher
):
    message = leased(world, publisher)
    looking = looking_while(world, "work", publisher.release, message)
    assert looking.is_empty(QUEUE) is False


def test_a_queue_is_not_empty_while_a_range_goes_back_into_the_ready_queue(
    world, bundler
):
    messages = bundler.consume(QUEUE, 12)
    bundler.ack(messages[1:])
    looking = looking_while(world, "work", bundler.release, messages[0])
    assert looking.is_empty(QUEUE) is False


def test_a_queue_is_not_empty_while_a_message_is_taken_from_the_ready_queue(
    world, publisher
):
    publisher.publish(QUEUE, "x")
    looking = looking_while(world, "delayed", publisher.consume, QUEUE)
    assert looking.is_empty(QUEUE) is False


def test_a_queue_that_changes_at_each_look_is_not_called_empty(world, publisher):
    def call(_, name, function, arguments):
        if name == "listdir" and arguments[0] == f"{world.path}/work":
            looks.append(name)
            os.mkdir(f"{world.path}/delayed/other")
            os.rmdir(f"{world.path}/delayed/other")
        return function(*arguments)

    looks: list[str] = []
    census = store_of(world, FileSystem(Calls(call))).census
    assert census.is_empty() is False
    assert len(looks) == 10  # it looks five times, and once more each time


def test_dead_letters_are_counted_but_a_queue_of_nothing_else_is_empty(
    world, publisher
):
    publisher.reject(leased(world, publisher))
    census = store_of(world).census
    assert census.counts() == Counts(0, 0, 0, 1)
    assert census.is_empty() is True


def test_each_message_of_a_bundle_counts(world, bundler):
    bundler.publish_many(QUEUE, map(str, range(10)), delay=60)
    bundler.consume(QUEUE, 5)
    assert len(world.files("delayed")) == len(world.ranges()) == 1
    assert store_of(world).census.counts() == Counts(7, 5, 10, 0)


def test_a_bundle_is_counted_without_a_look_at_its_claims_until_it_is_opened(
    world, bundler
):
    calls = counting()
    census = store_of(world, FileSystem(calls)).census

    def listings():
        before = calls.made.count("listdir")
        return census.counts().waiting, calls.made.count("listdir") - before

    waiting, unopened = listings()
    bundler.ack(bundler.consume(QUEUE, 5))
    assert (waiting, listings()) == (12, (7, unopened + 1))


def test_lines_that_are_claimed_while_we_count_are_not_counted_twice(world, bundler):
    """The bundle is opened after the ready queue was listed, and before the leases are."""
    looking = looking_while(world, "work", bundler.consume, QUEUE, 5)
    assert looking.view(QUEUE)[QUEUE] == Counts(7, 5, 0, 0)


@pytest.mark.parametrize("ends", ["ack", "release"])
def test_a_lease_is_not_counted_whose_competitor_has_ended_the_claim(
    world, bundler, ends
):
    claim_in_vain(world, 3)
    message = bundler.consume(QUEUE)
    assert view(world) == Counts(11, 1, 0, 0)
    getattr(bundler, ends)(message)
    assert view(world) == Counts(11 + (ends == "release"), 0, 0, 0)


@pytest.mark.parametrize(("is_prompt", "seconds"), [(True, 0), (False, 1.1)])
def test_where_directories_are_stamped_late_their_stamps_are_read_once_more(
    world, is_prompt, seconds
):
    class Late(FileSystem):
        def is_prompt(self, device):
            return is_prompt

    census, began = store_of(world, Late()).census, world.clock.monotonic()
    assert census.is_empty() is True
    assert world.clock.monotonic() - began == pytest.approx(seconds, abs=0.001)


def test_whoever_counts_learns_which_leases_there_are_and_until_when(world, bundler):
    bundler.publish(QUEUE, "alone", priority=0, timeout=5)
    messages = bundler.consume(QUEUE, 8)
    bundler.ack(messages[1])
    store_of(world).leases.ranges.detach(Lease.parse(messages[2].filename))
    counts, leases = store_of(world).census.look()
    assert counts == Counts(5, 7, 0, 0)
    made = [Lease.parse(message.filename).expiry for message in messages[:2]]
    assert sorted((lease.number, lease.expiry) for lease in leases) == [
        (1, made[0]),
        (6, made[1]),
    ]


class Disturbed(FileSystem):
    """Lets somebody else act after so many listings."""

    def __init__(self, left, act):
        super().__init__()
        self.left, self._act = left, act

    def listing(self, path):
        if not self.left:
            self._act()
        self.left -= 1
        return super().listing(path)


MOVES = {
    "consume": lambda other, held: other.consume(QUEUE, 3),
    "consume and ack": lambda other, held: other.ack(other.consume(QUEUE, 3)[:2]),
    "take all": lambda other, held: other.consume(QUEUE, 50),
    "ack all": lambda other, held: [
        other.ack(other.consume(QUEUE, 50)),
        other.ack(held),
    ],
    "give back": lambda other, held: [other.release(each) for each in held],
    "fail": lambda other, held: [other.nack(each) for each in held],
    "delay": lambda other, held: [other.nack(each, delay=60) for each in held],
    "reject": lambda other, held: [other.reject(each) for each in held],
    "consume and reject": lambda other, held: [
        other.reject(each) for each in other.consume(QUEUE, 4)
    ],
    "renew": lambda other, held: [other.renew(each) for each in held],
}


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
@pytest.mark.parametrize("is_bundle", [True, False])
def test_a_message_that_moves_while_it_is_counted_counts_once(
    world, bundler, tmp_path, move, is_bundle
):
    """Wherever another client is faster; what was acked meanwhile may count, or not."""
    if not is_bundle:
        bundler.purge(QUEUE)
        for number in range(12):
            bundler.publish(QUEUE, f"{number}")
    bundler.reject(bundler.consume(QUEUE, 2)[0])
    for place in itertools.count():
        here = world.copied(tmp_path / f"{place}")
        other = here.broker(clean=False)
        fs = Disturbed(place, partial(move, other, other.consume(QUEUE, 3)))
        counts, _ = store_of(here, fs).census.look()
        if fs.left >= 0:
            break
        assert sum(view(here)) <= sum(counts) <= 12
    assert place > 5


def test_to_count_planted_bundles_takes_no_longer_for_their_lines(world, bundler):
    """A name may tell of 99,999 lines. A thousand such names would take half a minute."""
    bundler.consume(QUEUE)
    [path] = glob.glob(f"{world.path}/ready/**/*.open", recursive=True)
    for number in range(1000):
        name = f"{10**18 + number}.{number:020x}.99999.open"
        open(os.path.join(os.path.dirname(path), name), "wb").close()
    began = time.process_time()
    counts = view(world)
    assert time.process_time() - began < 5
    assert counts == Counts(11 + 99_999_000, 1, 0, 0)
