"""The leased ranges of one queue: each change is one rename, and whoever dies loses no line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from protocol.scenes import QUEUE, told
from support import Calls, Crash, counting, crashing_before, losing_reply
from unit.scenes import (
    bundle_directories,
    claim_cut_short,
    claim_in_vain,
    ended_claims,
    states,
    store_of,
    texts,
    view,
)

from ddmq import Counts
from ddmq.message import decode
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.layout import BundleNotFound
from ddmq.storage.range_names import Range, RangeLease, parse_detached
from ddmq.storage.ready import ConsumeCall

ALL = list(map(str, range(12)))
TIMEOUT = 600


@pytest.fixture
def calls():
    return counting()


@pytest.fixture
def store(world, bundler, calls):
    """A client of a queue with a bundle of twelve."""
    return store_of(world, FileSystem(calls))


@pytest.fixture
def late(world, bundler):
    """Another one, which has to look for each range."""
    return store_of(world)


def claimed(store, n):
    """Claim lines as a consumer does; return their leases."""
    leases = store.claim(store.ready.first(ConsumeCall()), TIMEOUT, n)
    assert len(leases) == n
    return leases


def held(world):
    """Return the only leased range."""
    [path] = world.ranges()
    return RangeLease.parse(os.path.basename(path))


def detached(world):
    """Return the paths of the files of detached lines."""
    return [path for path in world.files("work") if path.endswith(".detached")]


def made_by(calls, use):
    """Return what a function returns, and the system calls that it makes."""
    before = len(calls.made)
    return use(), calls.made[before:]


def numbers(leases):
    return [lease.line[1] for lease in leases]


# Acks


def test_several_lines_are_acked_by_one_rename(world, store, calls):
    leases = claimed(store, 5)
    acked = made_by(calls, lambda: store.leases.ack(leases[1:4]))
    assert acked == ([], ["rename"])
    assert states(world) == ["oxxxo"]
    assert view(world) == Counts(7, 2, 0, 0)


def test_the_last_ack_moves_the_range_to_where_it_ends_its_claim(world, store, calls):
    leases = claimed(store, 5)
    store.leases.ack(leases[:4])
    assert ended_claims(world) == []
    assert made_by(calls, lambda: store.leases.ack([leases[4]])) == ([], ["rename"])
    assert ended_claims(world) == ["0-5-12"]
    assert world.ranges() == []


def test_a_range_that_is_acked_at_once_is_over_by_one_rename(world, store, calls):
    leases = claimed(store, 5)
    assert made_by(calls, lambda: store.leases.ack(leases)) == ([], ["rename"])
    assert ended_claims(world) == ["0-5-12"]


def test_lines_that_were_acked_before_are_not_there(world, store):
    leases = claimed(store, 4)
    store.leases.ack(leases[:2])
    assert store.leases.ack(leases[1:3]) == leases[1:2]
    assert states(world) == ["xxxo"]
    assert store.leases.ack([leases[3]]) == []
    assert store.leases.ack(leases) == leases


def test_a_line_of_another_claim_is_not_acked_by_this_one(store, world):
    first, second = claimed(store, 2), claimed(store, 2)
    assert store.leases.ranges.ack(first[0].token, [2, 3, 11]) == set()
    assert store.leases.ranges.ack(second[0].token, [1, 2]) == {2}
    assert sorted(states(world)) == ["oo", "xo"]


def test_a_range_that_another_process_changed_is_found_by_its_token(world, store, late):
    leases = claimed(store, 4)
    assert late.leases.ack([leases[0]]) == []
    assert store.leases.ack([leases[1]]) == []
    third = store_of(world)
    assert numbers(third.leases.renew(leases[2:], 2 * TIMEOUT)) == [2, 3]
    assert store.leases.ack(leases[2:]) == []
    assert ended_claims(world) == ["0-4-12"]


def test_what_is_known_of_a_range_costs_no_listing_and_what_is_not_costs_one(
    world, store, late, calls
):
    leases = claimed(store, 4)
    late.leases.ack([leases[0]])
    _, made = made_by(calls, lambda: store.leases.ack([leases[1]]))
    assert made.count("listdir") == 1
    _, made = made_by(calls, lambda: store.leases.ack([leases[2]]))
    assert made.count("listdir") == 0


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESTALE])
def test_an_ack_whose_reply_is_lost_is_done(world, store, n, code):
    leases = claimed(store, 4)
    store.fs.calls = losing_reply(0, ("rename",), code)
    assert store.leases.ack(leases[:n]) == []
    assert view(world) == Counts(8, 4 - n, 0, 0)


@pytest.mark.parametrize("n", [2, 4])
def test_an_ack_that_was_made_though_it_failed_succeeds_when_it_is_made_again(
    world, store, n
):
    leases = claimed(store, 4)
    store.fs.calls = losing_reply(0, ("rename",), errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        store.leases.ack(leases[:n])
    assert store.leases.ack(leases[:n]) == []
    assert view(world) == Counts(8, 4 - n, 0, 0)


def test_a_range_that_is_over_goes_though_its_bundle_is_gone(world, store):
    leases = claimed(store, 4)
    [directory] = bundle_directories(world)
    os.rename(directory, f"{world.root}/away")
    assert store.leases.ack(leases[:3]) == []
    assert states(world) == ["xxxo"]
    assert store.leases.ack([leases[3]]) == []
    assert world.ranges() == []


def test_a_line_that_was_detached_in_vain_is_acked_with_its_file(world, store):
    leases = claimed(store, 3)
    store.leases.ranges.detach(leases[1])
    assert store.leases.ranges.ack(leases[0].token, [0, 1]) == {0, 1}
    assert states(world) == ["xlo"]
    assert detached(world) == []
    assert store.leases.ranges.ack(leases[0].token, [0, 1]) == set()


def test_a_range_is_called_lost_when_two_listings_miss_it(world, store, late, calls):
    leases = claimed(store, 3)
    late.leases.ranges.take_over(held(world), never)
    before = calls.made.count("listdir")
    assert store.leases.ranges.ack(leases[0].token, [0]) == set()
    assert calls.made.count("listdir") == before + 2


def test_the_file_of_a_detached_line_belongs_to_the_group(world, bundler):
    os.chmod(world.path, 0o2770)
    store = store_of(world)
    path = store.leases.ranges.detach(claimed(store, 3)[1])
    assert os.stat(path).st_mode & 0o777 == 0o660


def test_an_ack_that_fails_changes_nothing(world, store, refusing):
    leases = claimed(store, 4)
    store.fs.calls = refusing("rename", errno.EIO).calls
    with pytest.raises(OSError, match="Input/output error"):
        store.leases.ack(leases)
    assert states(world) == ["oooo"]


# A line that leaves alone


def detach_all_by(store, leases, number, calls):
    """Let a line leave, and die before one of the calls; tell whether it came to that."""
    store.fs.calls = crashing_before(number)
    try:
        store.requeue(leases[1], leases[1].entry.failed())
    except Crash:
        return True
    finally:
        store.fs.calls = calls
    return False


def test_a_line_leaves_in_four_steps_of_which_each_is_one_change(world, store):
    seen = []

    def call(_, name, function, arguments):
        result = function(*arguments)
        if name in ("write", "rename"):
            files = [os.path.basename(path) for path in detached(world)]
            seen.append((name, states(world), len(files), len(world.files("ready"))))
        return result

    leases = claimed(store, 3)
    store.fs.calls = Calls(call)
    assert store.requeue(leases[1], leases[1].entry.failed())
    assert seen == [
        ("write", ["ooo"], 1, 1),
        ("rename", ["odo"], 1, 1),
        ("rename", ["odo"], 0, 2),
        ("rename", ["olo"], 0, 2),
    ]
    assert view(world) == Counts(10, 2, 0, 0)


def test_the_file_of_a_detached_line_is_what_it_would_be_if_it_was_published_alone(
    world, store
):
    leases = claimed(store, 3)
    path = store.leases.ranges.detach(leases[1])
    assert [path] == detached(world)
    found = parse_detached(os.path.basename(path))
    assert (found.entry, found.token) == (leases[1].entry, leases[1].token)
    content = decode(Path(path).read_bytes())
    assert (content.message, content.priority) == ("1", 999)


@pytest.mark.parametrize("dies", range(15))
def test_wherever_a_client_dies_that_detaches_a_line_each_line_is_there_once(
    world, store, calls, dies
):
    leases = claimed(store, 3)
    died = detach_all_by(store, leases, dies, calls)
    assert died == (dies < 11)
    found = [data for _, _, data in told(world.path)]
    assert len(found) == 12
    world.clock.advance(TIMEOUT + 1)
    keeper = world.broker(clean=False)
    keeper.clean(QUEUE)
    assert detached(world) == [] or states(world) == []
    messages = keeper.consume(QUEUE, 6) + keeper.consume(QUEUE, 12)
    while more := keeper.consume(QUEUE, 12):
        messages += more
    assert sorted(texts(messages), key=int) == ALL
    assert world.files("delayed") == world.files("dead") == []


def test_a_line_whose_move_failed_stays_detached_and_can_be_moved_again(
    world, store, refusing
):
    leases = claimed(store, 3)
    store.fs.calls = refusing("rename", errno.EIO, ".detached").calls
    with pytest.raises(OSError, match="Input/output error"):
        store.requeue(leases[1], leases[1].entry.failed())
    assert states(world) == ["odo"]
    assert view(world) == Counts(9, 3, 0, 0)
    store.fs.calls = os
    assert store.requeue(leases[1], leases[1].entry.failed())
    assert states(world) == ["olo"]
    assert view(world) == Counts(10, 2, 0, 0)


def test_a_line_that_has_left_is_lost_for_all_who_hold_its_old_name(world, store):
    leases = claimed(store, 3)
    assert store.requeue(leases[1], leases[1].entry.failed())
    for client in (store, store_of(world)):
        assert client.leases.ack([leases[1]]) == [leases[1]]
        assert client.requeue(leases[1], leases[1].entry.failed()) is False
        assert client.leases.renew([leases[1]], 60) == [None]
    assert view(world) == Counts(10, 2, 0, 0)


def test_a_line_that_was_purged_is_lost_though_its_range_is_remembered(
    world, store, late
):
    leases = claimed(store, 3)
    assert None not in late.leases.renew(leases, TIMEOUT)  # it has read no message
    other = world.broker(clean=False)
    other.purge(QUEUE)
    other.clean(QUEUE)
    assert bundle_directories(world) == []
    assert late.requeue(leases[1], leases[1].entry.failed()) is False
    assert view(world) == Counts(0, 0, 0, 0)


def test_a_line_whose_bundle_was_moved_away_is_not_lost(world, store, late):
    leases = claimed(store, 3)
    assert None not in late.leases.renew(leases, TIMEOUT)
    [directory] = bundle_directories(world)
    away = f"{world.root}/away"
    os.rename(directory, away)
    with pytest.raises(BundleNotFound):
        late.requeue(leases[1], leases[1].entry.failed())
    os.rename(away, directory)
    assert late.requeue(leases[1], leases[1].entry.failed())


def test_a_line_that_is_acked_while_it_is_detached_is_lost_and_comes_nowhere(
    world, store, late
):
    def call(_, name, function, arguments):
        if name == "write" and not acked:
            acked.append(late.leases.ack([leases[1]]))
        return function(*arguments)

    acked = []
    leases = claimed(store, 3)
    store.fs.calls = Calls(call)
    assert store.requeue(leases[1], leases[1].entry.failed()) is False
    assert acked == [[]]
    assert states(world) == ["oxo"]
    assert view(world) == Counts(9, 2, 0, 0)


@pytest.mark.parametrize("n", [1, 3])
def test_the_last_line_that_leaves_alone_ends_the_claim(world, store, n):
    leases = claimed(store, n)
    assert [store.leases.ack([lease]) for lease in leases[1:]] == [[]] * (n - 1)
    assert store.requeue(leases[0], leases[0].entry.failed(), delay=60)
    assert ended_claims(world) == [f"0-{n}-12"]
    assert world.ranges() == detached(world) == []
    assert view(world) == Counts(12 - n, 0, 1, 0)


def test_an_end_that_can_not_be_noted_is_left_to_those_who_take_over(
    world, store, bundler
):
    left = []

    def call(_, name, function, arguments):
        if name == "rename" and ".range" in arguments[0]:
            left.append(name)
            if len(left) > 1:
                raise OSError(errno.EIO, "failed", arguments[0])
        return function(*arguments)

    leases = claimed(store, 2)
    store.fs.calls = Calls(call)
    assert store.requeue(leases[0], leases[0].entry.failed(), delay=60)
    assert states(world) == ["do"]
    assert view(world) == Counts(10, 1, 1, 0)
    world.clock.advance(TIMEOUT + 1)
    assert bundler.clean(QUEUE)[:3] == (1, 0, 1)
    assert view(world) == Counts(12, 0, 0, 0)


# A whole range that goes back


@pytest.mark.parametrize("acked", [(), (0, 2)])
def test_the_only_open_line_goes_back_with_its_range_by_one_rename(
    world, store, calls, acked
):
    leases = claimed(store, 3) if acked else claimed(store, 1)
    line = leases[1] if acked else leases[0]
    if acked:
        store.leases.ack([leases[n] for n in acked])
    assert store.release(line)
    assert world.ranges() == detached(world) == []
    found = [place.entry for place in store.scan.places()]
    assert [entry.waiting for entry in found] == [1, 12]
    assert found[0].failures == 0
    assert store.requeue(line, line.entry.failed()) is False


def test_all_open_lines_go_back_together_where_they_were(world, store):
    leases = claimed(store, 4)
    store.leases.ack([leases[1]])
    entry = leases[0].entry._replace(priority=7, failures=2, losses=3)
    put_back = store.ready.put_back
    token = leases[0].token
    assert store.leases.ranges.put(token, [0, 2, 3], entry, put_back) is True
    [back, bundle] = [place.entry for place in store.scan.places()]
    assert (back.state, back.lines()) == ("oxoo", [0, 2, 3])
    assert (back.priority, back.failures, back.losses) == (7, 2, 3)
    assert back.stamp == bundle.stamp
    assert store.leases.ranges.put(token, [0, 2, 3], entry, put_back) is False


def test_a_range_with_other_lines_does_not_go_back(world, store):
    leases = claimed(store, 4)
    entry, put_back, token = leases[0].entry, store.ready.put_back, leases[0].token
    assert store.leases.ranges.put(token, [0], entry, put_back) is None
    store.leases.ranges.detach(leases[3])
    assert store.leases.ranges.put(token, [0, 1, 2], entry, put_back) is None
    assert store.leases.ranges.put(token, [3], entry, put_back) is None
    store.leases.ack(leases[:2])
    assert store.leases.ranges.put(token, [0], entry, put_back) is False
    assert states(world) == ["xxod"]


# Renewals


def test_a_whole_range_is_renewed_by_one_rename(world, store, calls):
    leases = claimed(store, 4)
    store.leases.ack([leases[0]])
    before = held(world)
    renewed, made = made_by(calls, lambda: store.leases.renew(leases[1:], 2 * TIMEOUT))
    assert made == ["rename"]
    assert numbers(renewed) == [1, 2, 3]
    [expiry] = {lease.expiry for lease in renewed}
    assert expiry > before.expiry
    assert held(world) == before._replace(expiry=expiry)
    assert store.leases.ack(renewed) == []


def test_a_part_of_a_range_is_not_renewed_with_the_others(world, store):
    leases = claimed(store, 4)
    renewed = store.leases.renew(leases[1:3], 2 * TIMEOUT)
    assert numbers(renewed) == [1, 2]
    assert {lease.filename for lease in renewed} < set(os.listdir(store.layout.work))
    assert (held(world).expiry, states(world)) == (leases[0].expiry, ["ollo"])


def test_a_part_of_a_range_may_be_renewed_together_with_the_others(world, store, calls):
    leases = claimed(store, 4)
    renewed, made = made_by(
        calls, lambda: store.leases.renew(leases[1:3], 2 * TIMEOUT, together=True)
    )
    assert made == ["rename"]
    assert numbers(renewed) == [1, 2]
    assert {lease.expiry for lease in renewed} == {held(world).expiry}
    assert held(world).expiry > leases[0].expiry
    assert states(world) == ["oooo"]


def test_a_line_that_is_renewed_alone_gets_a_file_and_the_others_end_as_before(
    world, store, bundler
):
    leases = claimed(store, 3)
    [longer] = store.leases.renew([leases[1]], 2 * TIMEOUT)
    assert longer.token == leases[1].token
    assert longer.filename in os.listdir(store.layout.work)
    assert (held(world).expiry, states(world)) == (leases[0].expiry, ["olo"])
    world.clock.advance(TIMEOUT + 1)
    assert bundler.clean(QUEUE).requeued == 2
    assert view(world) == Counts(11, 1, 0, 0)
    assert store.leases.ack([longer]) == []


def test_a_renewal_of_a_range_that_is_lost_is_none(world, store, late):
    leases = claimed(store, 3)
    assert late.leases.ack(leases) == []
    assert store.leases.renew(leases, 2 * TIMEOUT) == [None] * 3
    assert world.ranges() == []


# A range that waits


@pytest.fixture
def waiting(world, store):
    """A range of three open lines that waits, and its path."""
    leases = claimed(store, 4)
    store.leases.ack([leases[1]])
    entry = leases[0].entry.lost()
    store.leases.ranges.put(leases[0].token, [0, 2, 3], entry, store.ready.put_back)
    place = next(store.scan.places())
    assert isinstance(place.entry, Range)
    return place


def test_a_range_that_waits_is_taken_by_one_of_two(world, store, late, waiting):
    taken = store.leases.ranges.take(waiting.path, waiting.entry, 1_900_000_000_000)
    assert taken.range == waiting.entry
    assert held(world) == taken
    assert (
        late.leases.ranges.take(waiting.path, waiting.entry, 1_900_000_000_000) is None
    )
    assert numbers(taken.leases()) == [0, 2, 3]
    assert store.leases.ack(taken.leases()) == []
    assert ended_claims(world) == ["0-4-12"]


def test_each_taking_has_a_token_of_its_own(world, store, waiting):
    taken = store.leases.ranges.take(waiting.path, waiting.entry, 1_900_000_000_000)
    assert taken.token != waiting.entry.claim == taken.range.claim


@pytest.mark.parametrize("n", [1, 2])
def test_who_takes_some_lines_of_a_range_lets_the_others_wait_where_they_were(
    world, store, waiting, n
):
    leases = store.claim(waiting, TIMEOUT, n)
    assert [lease.line[1] for lease in leases] == [0, 2, 3][:n]
    assert not any(lease.is_line for lease in leases)
    places = [place.entry for place in store.scan.places()]
    assert [place.waiting for place in places] == [3 - n, 12]
    assert (places[0].stamp, places[0].losses) == (waiting.entry.stamp, 1)
    assert world.ranges() == detached(world) == []
    assert view(world) == Counts(8 + 3 - n, n, 0, 0)
    assert store.leases.ack(leases) == []


@pytest.mark.parametrize("times", [1, 2])
def test_what_is_left_of_a_range_goes_back_though_it_fails_once(
    world, store, waiting, times
):
    """If it fails twice, it comes back when its lease is over; what was taken is taken."""
    left = [OSError(errno.EIO, "refused")] * times

    def call(_, name, do, arguments):
        goes_back = name == "rename" and arguments[0].endswith(".range")
        if goes_back and "/ready/" in arguments[1] and left:
            raise left.pop()
        return do(*arguments)

    store.fs.calls = Calls(call)
    assert len(store.claim(waiting, TIMEOUT, 1)) == 1
    assert len(world.ranges()) == times - 1


def test_a_line_that_was_being_detached_goes_back_with_the_others(world, store):
    leases = claimed(store, 4)
    store.leases.ranges.detach(leases[2])
    store.leases.ranges.put_rest(leases[0].token, store.ready.put_back)
    assert world.ranges() == detached(world) == []
    found = texts(world.broker().consume(QUEUE, 12))
    assert found == ["0", "1", "3", "2", *ALL[4:]]


def test_who_takes_all_lines_of_a_range_writes_no_file(world, store, waiting, calls):
    leases, made = made_by(calls, lambda: store.claim(waiting, TIMEOUT, 3))
    assert numbers(leases) == [0, 2, 3]
    assert made.count("rename") == 1
    assert "write" not in made


def test_a_directory_that_is_named_like_a_range_is_quarantined(world, store, waiting):
    os.unlink(waiting.path)
    os.mkdir(waiting.path)
    assert store.claim(waiting, TIMEOUT, 3) == []
    assert not os.path.lexists(waiting.path)
    assert len(store.dead_letters.ids()) == 1


def test_a_range_whose_bundle_can_not_be_found_is_told_and_goes_on_waiting(
    world, store, waiting, caplog
):
    [directory] = bundle_directories(world)
    os.rename(directory, f"{world.root}/away")
    client = store_of(world)
    assert client.claim(waiting, TIMEOUT, 3) == []
    assert os.path.lexists(waiting.path)
    assert world.ranges() == []
    assert "can't be read and is passed over" in caplog.text
    os.rename(f"{world.root}/away", directory)
    assert numbers(client.claim(waiting, TIMEOUT, 3)) == [0, 2, 3]


# A range whose lease is over is taken over


def never(lease):
    raise AssertionError(lease)


def moving(world, expired):
    """Return what moves the file of an expired line away, and notes it."""

    def expire(lease):
        expired.append(lease)
        os.rename(f"{world.path}/work/{lease.filename}", f"{world.root}/{len(expired)}")

    return expire


def test_a_claim_that_was_made_was_received(world, bundler, late):
    claim_cut_short(world, 3)
    before = held(world)
    ours, was_received = late.leases.ranges.take_over(before, never)
    assert was_received is True
    assert (ours.range, held(world)) == (before.range, ours)
    assert ours.token != before.token
    assert ours.expiry > world.clock.time_ns() // 10**6


def test_a_claim_that_was_not_made_is_made_and_was_not_received(world, bundler, late):
    claim_in_vain(world, 3)
    before = held(world)
    ours, was_received = late.leases.ranges.take_over(before, never)
    assert was_received is False
    assert late.bundles.was_made(ours)
    assert view(world) == Counts(9, 3, 0, 0)


def test_what_never_was_a_lease_is_removed(world, bundler, late):
    claim_in_vain(world, 3)
    before = held(world)
    bundler.ack(bundler.consume(QUEUE, 2))
    assert late.leases.ranges.take_over(before, never) is None
    assert world.ranges() == []
    assert view(world) == Counts(10, 0, 0, 0)


def test_a_range_stays_while_nobody_can_tell_whose_claim_there_is(world, bundler, late):
    claim_in_vain(world, 3)
    [directory] = bundle_directories(world)
    Path(directory, "0").touch()
    assert late.leases.ranges.take_over(held(world), never) is None
    assert len(world.ranges()) == 1
    os.unlink(f"{directory}/0")
    assert late.leases.ranges.take_over(held(world), never)[1] is False


def test_a_range_that_was_changed_meanwhile_is_not_taken_over(world, store, late):
    leases = claimed(store, 3)
    before = held(world)
    store.leases.ack([leases[0]])
    assert late.leases.ranges.take_over(before, never) is None
    assert states(world) == ["xoo"]
    assert store.leases.ack(leases[1:]) == []


def test_of_two_who_take_over_a_range_one_does(world, store, late):
    claimed(store, 3)
    before = held(world)
    ours, _ = late.leases.ranges.take_over(before, never)
    assert ours.expiry - 1000 * world.clock.time() == pytest.approx(30_000, abs=2)
    assert store_of(world).leases.ranges.take_over(before, never) is None
    assert len(world.ranges()) == 1


def test_who_was_only_slow_can_do_nothing_to_a_range_that_was_taken_over(
    world, store, late
):
    leases = claimed(store, 3)
    late.leases.ranges.take_over(held(world), never)
    assert store.leases.ack(leases) == leases
    assert store.leases.renew(leases, 2 * TIMEOUT) == [None] * 3
    assert store.release(leases[0]) is False
    assert store.leases.renew([leases[0]], 60, together=True) == [None]
    assert states(world) == ["ooo"]
    assert view(world) == Counts(9, 3, 0, 0)


def test_detached_lines_expire_first_and_are_over_for_the_range(world, store, late):
    leases = claimed(store, 4)
    path = store.leases.ranges.detach(leases[2])
    expired = []
    ours, _ = late.leases.ranges.take_over(held(world), moving(world, expired))
    [lease] = expired
    assert (lease.entry, lease.filename) == (leases[2].entry, os.path.basename(path))
    assert ours.range.state == "oolo"


def test_a_range_stays_as_it_is_if_its_detached_line_can_not_be_moved(
    world, store, late
):
    def expire(_):
        raise OSError(errno.EIO, "failed")

    leases = claimed(store, 4)
    store.leases.ranges.detach(leases[2])
    with pytest.raises(OSError, match="failed"):
        late.leases.ranges.take_over(held(world), expire)
    assert states(world) == ["oodo"]
    assert held(world).token == leases[0].token


def test_a_range_of_which_nothing_is_left_ends_its_claim(world, store, late, bundler):
    leases = claimed(store, 1)
    store.leases.ranges.detach(leases[0])
    expired = []
    assert late.leases.ranges.take_over(held(world), moving(world, expired)) is None
    assert len(expired) == 1
    assert ended_claims(world) == ["0-1-12"]
    assert world.ranges() == []


def test_a_range_whose_bundle_can_not_be_found_is_not_taken_over(world, store, late):
    claimed(store, 3)
    before = held(world)
    [directory] = bundle_directories(world)
    os.rename(directory, f"{world.root}/away")
    with pytest.raises(BundleNotFound):
        late.leases.ranges.take_over(before, never)
    assert held(world) == before


def test_who_claimed_all_that_waits_and_died_has_purged_it(world, bundler):
    """Its claim is over as soon as it is made, whoever makes it."""
    for dies in range(30):
        if not world.files("ready"):
            bundler.publish_many(QUEUE, ALL)
        calls = counting()
        store = store_of(world, FileSystem(calls))
        [place] = store.scan.places()
        calls.call = crashing_before(len(calls.made) + dies).call
        try:
            store.bundles.claim_rest(place.path, place.entry)
        except Crash:
            assert view(world).work == 0
            world.clock.advance(61)
            bundler.clean(QUEUE)
            assert world.ranges() == []
            assert view(world) in (Counts(0, 0, 0, 0), Counts(12, 0, 0, 0))
        else:
            break
    assert dies >= 5


def test_what_is_remembered_of_ranges_has_a_bound(store):
    range_ = Range(5, 1, "a" * 20, 0, 1, 9, "0" * 16, "o")
    for number in range(12_000):
        store.bundles.remember(RangeLease(range_, 1, f"{number:016x}"))
    assert len(store.bundles.ranges) == 10_000


def test_a_range_stands_where_its_first_open_line_belongs(world, bundler):
    acked, *others = bundler.consume(QUEUE, 4)
    bundler.ack(acked)
    for message in others:
        bundler.release(message)  # the last one goes back with its range
    assert texts(bundler.consume(QUEUE, 20)) == ALL[1:]
