"""The ready queue: order, and what is kept of a listing."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import counting, remove_empty
from unit.storage.ready_client import FRESH, OLD, Client, buckets, number

from ddmq.storage.names import MAX_STAMP, Bundle, Entry
from ddmq.storage.ready import ConsumeCall

# Order


def test_first_in_is_first_out_across_buckets(client):
    for id_ in number(20):
        client.join(id_)
    assert client.take_all() == number(20)


def test_priorities_are_compared_as_numbers(client):
    for priority in (10, 9, 100, 0):
        client.join(f"p{priority}", priority)
    assert client.take_all() == ["p0", "p9", "p10", "p100"]


def test_an_empty_ready_queue_has_no_first(client):
    assert client.take() is None


def test_what_joins_later_stands_behind_though_the_clock_steps_back(client, clock):
    ids = number(10)
    for id_ in ids:
        client.join(id_)
        clock.advance(-10_000)
    assert client.take_all() == ids


def test_no_stamp_is_smaller_than_the_bucket_of_a_process_whose_clock_is_right(
    client, competitor, queue, clock
):
    for id_ in number(4):
        client.join(id_)
    clock.advance(-10_000)
    assert competitor.join("a").stamp >= int(buckets(queue)[-1].name)
    assert client.take_all()[:3] == ["000", "001", "002"]


def test_one_process_never_gives_a_stamp_twice(client):
    stamps = [client.join(id_, priority=int(id_) % 2).stamp for id_ in number(10)]
    assert stamps == sorted(set(stamps))


def test_names_stay_valid_beside_a_bucket_from_the_end_of_time(client, queue):
    (queue / "ready" / "5" / str(MAX_STAMP)).mkdir(parents=True)
    for id_ in number(4):
        client.join(id_)
    assert sorted(client.take_all()) == number(4)


def test_a_priority_of_its_own_publishing_is_seen_at_once(client):
    client.join("a")
    client.join("b")
    assert client.take() == "a"
    client.join("urgent", priority=1)
    assert client.take_all() == ["urgent", "b"]


def test_a_priority_of_anothers_publishing_is_seen_within_a_fifth_of_a_second(
    client, competitor, clock
):
    for id_ in number(3):
        client.join(id_)
    assert client.take() == "000"
    competitor.join("urgent", priority=1)
    clock.advance(FRESH)
    assert client.take_all() == ["urgent", "001", "002"]


def test_a_message_that_others_publish_into_an_empty_ready_queue_is_seen_at_once(
    client, competitor
):
    assert client.take() is None
    competitor.join("a")
    assert client.take() == "a"


def test_a_message_that_comes_back_gets_its_old_place(client, queue):
    entries = {id_: client.join(id_) for id_ in number(8)}
    assert [client.take(), client.take()] == ["000", "001"]
    for id_ in ("001", "000"):
        (queue / "tmp" / id_).touch()
        assert client.ready.put_back(f"{queue}/tmp/{id_}", entries[id_]) is True
    assert client.take_all() == number(8)


def test_a_message_whose_bucket_is_gone_comes_back_as_the_first(client, queue, clock):
    entry = client.join("a")
    client.take()
    clock.advance(OLD)
    client.join("b")
    remove_empty(client.buckets)
    for bucket in buckets(queue)[:-1]:
        bucket.rmdir()
    (queue / "tmp" / "a").touch()
    client.ready.put_back(f"{queue}/tmp/a", entry)
    assert client.take_all() == ["a", "b"]


def test_what_is_gone_neither_joins_nor_comes_back(client, queue):
    gone = f"{queue}/tmp/gone"
    assert client.ready.append(gone, Entry(5, 0, "a")) is False
    assert client.ready.put_back(gone, Entry(5, 1, "a")) is False
    assert client.take() is None


# Bundles


@pytest.fixture
def bundle(client, queue):
    """A bundle of three that joined the ready queue, behind one message and before another."""
    client.join("a")
    entry = queue / "tmp" / "entry"
    entry.touch()
    assert client.ready.append(str(entry), Bundle(5, 0, "b" * 20, 3))
    client.join("c")
    [found] = [w for w in client.scan.places() if w.entry.id == "b" * 20]
    return found


def test_a_bundle_has_a_stamp_for_each_of_its_lines(client, bundle):
    first, _, last = (waiting.entry.stamp for waiting in client.scan.places())
    assert first < bundle.entry.stamp
    assert bundle.entry.stamp + 3 <= last


def test_who_goes_on_with_a_bundle_is_told_it_again_and_lists_nothing(client, bundle):
    client.take()
    assert client.ready.first(ConsumeCall()) == bundle
    calls = client.fs.calls = counting()
    for _ in range(3):
        client.ready.front = bundle
        assert client.ready.first(ConsumeCall()) == bundle
    assert calls.made == []


@pytest.mark.parametrize("name", ["!", None])
def test_what_came_back_before_the_bundle_that_we_go_on_with_comes_first(
    client, queue, bundle, name
):
    """As soon as we list again, also where what is no message is met on the way."""
    client.take()
    assert client.ready.first(ConsumeCall()) == bundle
    client.ready.front = bundle
    source = queue / "tmp" / "back"
    source.touch()
    client.ready.put_back(str(source), Entry(5, bundle.entry.stamp - 1, "z"))
    if name is not None:
        Path(bundle.path).with_name(name).touch()
    assert client.take() == "z"


def test_the_entry_of_a_drained_bundle_is_removed_on_the_way(client, bundle):
    client.drained.add("b" * 20)
    assert client.take_all() == ["a", "c"]
    assert not os.path.exists(bundle.path)
    assert client.aside == []


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_the_entry_of_a_drained_bundle_that_can_not_be_removed_is_passed_over(
    client, bundle, refusing, caplog, code
):
    client.drained.add("b" * 20)
    calls = refusing("unlink", code, "b" * 20).calls
    client.fs.calls = calls
    assert client.take_all() == ["a", "c"]
    assert calls.made.count("unlink") == 3
    assert f"{bundle.path} can't be removed and is passed over" in caplog.text
    assert os.path.exists(bundle.path)


def test_what_can_not_be_removed_for_no_reason_of_its_own_is_told(
    client, bundle, refusing
):
    client.drained.add("b" * 20)
    client.take()
    client.fs.calls = refusing("unlink", errno.EIO, "b" * 20).calls
    with pytest.raises(OSError, match="Input/output error"):
        client.take()


def test_who_loses_a_bundle_waits_longer_each_time_until_it_gets_one(
    client, bundle, clock
):
    def lose():
        began = clock.monotonic()
        client.ready.lost(bundle)
        return clock.monotonic() - began

    pauses = [lose() for _ in range(60)]
    assert all(pause <= 0.002 * 2**n for n, pause in enumerate(pauses))
    assert 0.02 < max(pauses) <= 0.256
    client.ready.front = bundle
    client.ready.first(ConsumeCall())
    assert lose() <= 0.002


# What is kept of a listing


def test_a_kept_listing_saves_listings(queue, clock):
    calls = counting()
    client = Client(queue, clock, bucket_size=100, calls=calls)
    for id_ in number(50):
        client.join(id_)
    calls.made.clear()
    for _ in range(50):
        client.take()
    assert calls.made.count("listdir") <= 5


def test_a_competitor_that_was_faster_only_costs_another_look(client, competitor):
    for id_ in number(9):
        client.join(id_)
    assert client.take() == "000"
    assert [competitor.take() for _ in range(4)] == number(5)[1:]
    left = client.take_all()
    assert sorted(left) == number(9)[5:]


def test_who_loses_races_looks_further_from_the_front(queue, clock):
    client = Client(queue, clock, bucket_size=200)
    for id_ in number(100):
        client.join(id_)
    waiting = client.waiting()
    offered = [next(waiting).entry.id for _ in range(40)]
    assert offered[0] == "000"
    assert len(set(offered)) > 10


def test_strict_order_returns_when_the_competitors_are_gone(queue, clock):
    client = Client(queue, clock, bucket_size=200)
    for id_ in number(100):
        client.join(id_)
    waiting = client.waiting()
    for _ in range(20):
        next(waiting)
    for _ in range(20):
        clock.advance(FRESH)
        client.take()
    clock.advance(FRESH)
    left = client.take_all()
    assert len(left) == 80
    assert left == sorted(left)


def test_even_who_spreads_finds_the_last_message(client):
    client.join("a")
    waiting = client.waiting()
    assert {next(waiting).entry.id for _ in range(20)} == {"a"}


def test_threads_share_a_ready_queue(queue, clock):
    client = Client(queue, clock, bucket_size=20)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(client.join, number(200)))
    with ThreadPoolExecutor(8) as pool:
        taken = [
            id_
            for ids in pool.map(lambda _: client.take_all(), range(8))
            for id_ in ids
        ]
    assert sorted(taken) == number(200)


# What is no message


def test_what_has_no_proper_name_is_quarantined_once_and_passed_over(client, queue):
    client.join("a")
    bucket = buckets(queue)[0]
    (bucket / "0000-first").touch()
    (bucket.parent / "note.txt").touch()
    (bucket.parent / "0000000000000000001").touch()
    (queue / "ready" / "urgent").mkdir()
    (queue / "ready" / "1").touch()
    assert client.take_all() == ["a"]
    client.join("b")
    assert client.take_all() == ["b"]
    assert sorted(client.aside) == [
        "0000-first",
        "0000000000000000001",
        "1",
        "note.txt",
        "urgent",
    ]


def test_hidden_names_are_left_alone(client, queue):
    client.join("a")
    (buckets(queue)[0] / ".nfs0001").touch()
    assert client.take_all() == ["a"]
    assert client.aside == []


def test_what_can_not_be_moved_is_passed_over(client):
    for id_ in number(3):
        client.join(id_)
    waiting = client.waiting()
    client.buckets.passed.add(next(waiting).path)
    assert sorted(client.take_all()) == ["001", "002"]
