"""The buckets of a line: how they come and go, and when there are shelves."""

from __future__ import annotations

import os
import stat

import pytest
from support import Calls
from unit.lines import FRESH, OLD, Client, buckets, number, sizes

from ddmq.names import Entry


@pytest.fixture
def queue(tmp_path):
    for name in ("ready", "tmp"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def client(queue, clock):
    return Client(queue, clock)


@pytest.fixture
def other(queue, clock):
    return Client(queue, clock)


# Buckets


def test_a_bucket_holds_so_many_and_no_more(client, queue):
    for id_ in number(10):
        client.join(id_)
    assert sizes(queue) == [3, 3, 3, 1]


def test_a_new_bucket_that_others_made_is_used(client, other, queue, clock):
    client.join("a")
    for id_ in number(3):
        other.join(id_)
    clock.advance(FRESH)
    client.join("b")
    assert sizes(queue) == [3, 2]


def test_a_long_stay_in_one_bucket_is_interrupted_to_count(queue, clock):
    here, there = (Client(queue, clock, bucket_size=150) for _ in range(2))
    here.join("a")
    for id_ in number(149):
        there.join(id_)
    for n in range(150):
        here.join(f"b{n}")
    assert sizes(queue)[0] <= 150 + 100
    assert len(sizes(queue)) > 1


def test_the_newest_bucket_stays_while_somebody_may_add_to_it(client, queue, clock):
    client.join("a")
    client.take_all()
    clock.advance(1)
    client.buckets.remove_empty()
    assert client.take() is None
    assert sizes(queue) == [0]


def test_the_newest_bucket_goes_when_it_is_old(client, queue, clock):
    client.join("a")
    client.take_all()
    clock.advance(OLD)
    client.buckets.remove_empty()
    assert list((queue / "ready").iterdir()) == []


def test_a_consumer_removes_what_is_empty_and_old(client, queue, clock):
    for id_ in number(10):
        client.join(id_)
    client.take_all()
    assert len(buckets(queue)) == 1
    clock.advance(OLD)
    assert client.take() is None
    assert client.take() is None
    assert list((queue / "ready").iterdir()) == []


def test_buckets_in_use_are_never_removed(client, queue, clock):
    for id_ in number(7):
        client.join(id_)
    clock.advance(OLD)
    client.buckets.remove_empty()
    assert sizes(queue) == [3, 3, 1]


def test_a_publisher_whose_bucket_vanished_makes_another(client, other, queue):
    client.join("a")
    other.take_all()
    for bucket in buckets(queue):
        bucket.rmdir()
    (queue / "ready" / "5").rmdir()
    client.join("b")
    assert other.take_all() == ["b"]


def test_a_line_that_was_deleted_is_missed(client, queue):
    client.join("a")
    client.take()
    (queue / "ready").rename(queue / "elsewhere")
    source = queue / "tmp" / "b"
    source.touch()
    with pytest.raises(FileNotFoundError):
        client.line.join(str(source), Entry(5, 0, "b"))
    with pytest.raises(FileNotFoundError):
        client.line.rejoin(str(source), Entry(5, 0, "b"))
    with pytest.raises(FileNotFoundError):
        client.take()
    assert source.exists()


def test_directories_get_the_mode_that_a_group_needs(client, queue):
    client.buckets.mode = 0o2770
    before = os.umask(0o077)
    try:
        client.join("a")
        client.join("b", priority=6)
    finally:
        os.umask(before)
    made = [queue / "ready" / "5", *buckets(queue), *buckets(queue, 6)]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o2770}
    assert list((queue / "tmp").iterdir()) == []


def test_all_buckets_are_told_in_order(client, queue):
    for priority in (10, 9):
        for id_ in number(4):
            client.join(id_, priority)
    told = list(client.buckets.all())
    assert [priority for priority, _ in told] == [9, 9, 10, 10]
    assert [client.buckets.names_in(path)[0][20:23] for _, path in told] == [
        "000",
        "003",
        "000",
        "003",
    ]
    assert client.buckets.names_in(f"{queue}/ready/5/gone") == []


def vanishing(times):
    """Return calls where a rival removes the empty bucket that a file is moved to."""
    left = [times]

    def call(_, name, function, arguments):
        if name == "rename" and left[0]:
            left[0] -= 1
            os.rmdir(os.path.dirname(arguments[1]))
        return function(*arguments)

    return Calls(call)


def test_a_bucket_that_vanishes_now_and_then_is_made_again(queue, clock):
    client = Client(queue, clock, calls=vanishing(2))
    entry = client.join("a")
    client.take()
    clock.advance(OLD)
    client.buckets.remove_empty()
    client.fs.calls = vanishing(2)
    (queue / "tmp" / "a").touch()
    assert client.line.rejoin(f"{queue}/tmp/a", entry) is True
    assert client.take() == "a"


def test_buckets_that_vanish_all_the_time_are_given_up(queue, clock):
    client = Client(queue, clock, calls=vanishing(10**9))
    with pytest.raises(FileNotFoundError, match="keep vanishing"):
        client.join("a")
    with pytest.raises(FileNotFoundError, match="keep vanishing"):
        client.line.rejoin(f"{queue}/tmp/a", Entry(5, 1, "a"))
    assert (queue / "tmp" / "a").exists()
