"""The look below `ready/`, which changes nothing."""

from __future__ import annotations

import errno

import pytest
from unit.storage.ready_client import buckets, number

from ddmq.storage.buckets import PassedOver
from ddmq.storage.names import Bundle, Entry
from ddmq.storage.range_names import Range
from ddmq.storage.scan import Scan


def test_all_buckets_are_told_in_order(client, queue):
    for priority in (10, 9):
        for id_ in number(4):
            client.join(id_, priority)
    told = list(client.scan.buckets())
    assert [priority for priority, _ in told] == [9, 9, 10, 10]
    assert [client.buckets.names_in(path)[0][20:23] for _, path in told] == [
        "000",
        "003",
        "000",
        "003",
    ]
    assert client.buckets.names_in(f"{queue}/ready/5/gone") == []


def test_all_buckets_are_told_in_order_from_shelves_too(filled, queue):
    assert [path for _, path in filled.scan.buckets()] == list(map(str, buckets(queue)))
    assert len(buckets(queue)) == 6


def test_looking_changes_nothing_and_leaves_out_what_is_neither_message_nor_bundle(
    client, queue
):
    client.join("a")
    (bucket,) = buckets(queue)
    (bucket / "junk").touch()
    (queue / "ready" / "urgent").mkdir()
    assert [place.entry.id for place in client.scan.places()] == ["a"]
    assert (bucket / "junk").exists()
    assert client.aside == []


def test_what_is_passed_over_is_seen_all_the_same(client, queue, clock):
    client.join("a")
    passed = PassedOver(clock)
    passed.add(str(buckets(queue)[0]))
    scan = Scan(client.layout.ready, client.fs, passed)
    assert [place.entry.id for place in scan.places()] == ["a"]


def test_a_bucket_that_we_may_not_list_is_told_once_and_hides_no_other(
    client, queue, clock, refusing, caplog
):
    for id_ in number(4):
        client.join(id_)
    closed = str(buckets(queue)[0])
    fs = refusing("listdir", errno.EACCES, closed)
    scan = Scan(client.layout.ready, fs, PassedOver(clock))
    for _ in range(2):
        assert [place.entry.id for place in scan.places()] == ["003"]
    assert caplog.text.count(f"{closed} can't be listed") == 1


def test_every_directory_is_told_and_of_a_shelf_no_names(filled, queue):
    told = list(filled.scan.everything())
    shelves = [path for _, path, _ in told if path.endswith(".shelf")]
    assert [path for _, path, names in told if not names] == [
        f"{queue}/ready/5",
        *shelves,
    ]
    assert len(shelves) == 2
    assert [len(names) for _, _, names in told if names] == [3, 3, 3, 3, 3, 1]


def test_whatever_waits_is_told_with_what_its_name_says(client, queue):
    entry = client.join("a")
    (bucket,) = buckets(queue)
    bundle = Bundle(5, entry.stamp + 1, "b" * 20, 9, "r0")
    back = Range(5, entry.stamp + 2, "b" * 20, 1, 3, 9, "0" * 16, "ox", 1, 1)
    for waiting in (bundle, back):
        (bucket / waiting.filename).touch()
    told = list(client.scan.places_in(5, str(bucket)))
    assert [place.entry for place in told] == [entry, back, bundle]
    assert isinstance(entry, Entry)
    assert [place.path for place in told] == sorted(map(str, bucket.iterdir()))
    assert sum(place.entry.waiting for place in told) == 1 + 1 + 9


def test_nothing_is_told_of_everything_while_we_may_not_look_into_a_bucket(
    filled, queue, clock, refusing
):
    fs = refusing("listdir", errno.EACCES, str(buckets(queue)[-1]))
    scan = Scan(filled.layout.ready, fs, PassedOver(clock))
    with pytest.raises(PermissionError):
        list(scan.everything())
