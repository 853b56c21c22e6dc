"""The line of waiting messages: order, buckets, and what is kept of a listing."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import Calls, counting

from ddmq.fs import FileSystem
from ddmq.line import Line
from ddmq.names import Entry

#: Seconds after which even the newest bucket may go.
OLD = 11
#: Seconds for which a listing may be believed.
FRESH = 0.2


class Client:
    """One process that joins and takes messages."""

    def __init__(self, queue, clock, *, bucket_size=3, calls=os):
        self.queue = queue
        self.aside = []
        self.fs = FileSystem(calls)
        self.line = Line(
            *(f"{queue}/ready", self.fs, clock),
            *(self._set_aside, lambda path, _: self.aside.append(path), bucket_size),
        )

    def _set_aside(self, path):
        self.aside.append(Path(path).name)
        return False

    def join(self, id_, priority=5):
        source = self.queue / "tmp" / id_
        source.touch()
        return self.line.join(str(source), Entry(priority, 0, id_))

    def take(self):
        """Take the first message as a consumer does; None when there is none."""
        for waiting in self.line.waiting():
            if self.fs.unlink(waiting.path):
                return waiting.entry.id
        return None

    def take_all(self):
        return list(iter(self.take, None))


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


def buckets(queue, priority=5):
    return sorted((queue / "ready" / str(priority)).iterdir())


def sizes(queue):
    return [len(list(bucket.iterdir())) for bucket in buckets(queue)]


def number(count):
    return [f"{n:03d}" for n in range(count)]


# Order


def test_first_in_is_first_out_across_buckets(client):
    for id_ in number(20):
        client.join(id_)
    assert client.take_all() == number(20)


def test_priorities_are_compared_as_numbers(client):
    for priority in (10, 9, 100, 0):
        client.join(f"p{priority}", priority)
    assert client.take_all() == ["p0", "p9", "p10", "p100"]


def test_an_empty_line_has_no_first(client):
    assert client.take() is None


def test_what_joins_later_stands_behind_though_the_clock_steps_back(client, clock):
    ids = number(10)
    for id_ in ids:
        client.join(id_)
        clock.advance(-10_000)
    assert client.take_all() == ids


def test_no_stamp_is_smaller_than_the_bucket_of_a_process_whose_clock_is_right(
    client, other, queue, clock
):
    for id_ in number(4):
        client.join(id_)
    clock.advance(-10_000)
    assert other.join("a").stamp >= int(buckets(queue)[-1].name)
    assert client.take_all()[:3] == ["000", "001", "002"]


def test_one_process_never_gives_a_stamp_twice(client):
    stamps = [client.join(id_, priority=int(id_) % 2).stamp for id_ in number(10)]
    assert stamps == sorted(set(stamps))


def test_a_priority_of_its_own_publishing_is_seen_at_once(client):
    client.join("a")
    client.join("b")
    assert client.take() == "a"
    client.join("urgent", priority=1)
    assert client.take_all() == ["urgent", "b"]


def test_a_priority_of_anothers_publishing_is_seen_within_a_fifth_of_a_second(
    client, other, clock
):
    for id_ in number(3):
        client.join(id_)
    assert client.take() == "000"
    other.join("urgent", priority=1)
    clock.advance(FRESH)
    assert client.take_all() == ["urgent", "001", "002"]


def test_a_message_that_others_publish_into_an_empty_line_is_seen_at_once(
    client, other
):
    assert client.take() is None
    other.join("a")
    assert client.take() == "a"


def test_a_message_that_comes_back_gets_its_old_place(client, queue):
    entries = {id_: client.join(id_) for id_ in number(8)}
    assert [client.take(), client.take()] == ["000", "001"]
    for id_ in ("001", "000"):
        (queue / "tmp" / id_).touch()
        assert client.line.rejoin(f"{queue}/tmp/{id_}", entries[id_]) is True
    assert client.take_all() == number(8)


def test_a_message_whose_bucket_is_gone_comes_back_as_the_first(client, queue, clock):
    entry = client.join("a")
    client.take()
    clock.advance(OLD)
    client.join("b")
    client.line.remove_empty()
    for bucket in buckets(queue)[:-1]:
        bucket.rmdir()
    (queue / "tmp" / "a").touch()
    client.line.rejoin(f"{queue}/tmp/a", entry)
    assert client.take_all() == ["a", "b"]


def test_what_is_gone_neither_joins_nor_comes_back(client, queue):
    gone = f"{queue}/tmp/gone"
    assert client.line.join(gone, Entry(5, 0, "a")) is None
    assert client.line.rejoin(gone, Entry(5, 1, "a")) is False
    assert client.take() is None


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
    client.line.remove_empty()
    assert client.take() is None
    assert sizes(queue) == [0]


def test_the_newest_bucket_goes_when_it_is_old(client, queue, clock):
    client.join("a")
    client.take_all()
    clock.advance(OLD)
    client.line.remove_empty()
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
    client.line.remove_empty()
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
    client.line.mode = 0o2770
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
    told = list(client.line.buckets())
    assert [priority for priority, _ in told] == [9, 9, 10, 10]
    assert [client.line.names_in(path)[0][20:23] for _, path in told] == [
        "000",
        "003",
        "000",
        "003",
    ]
    assert client.line.names_in(f"{queue}/ready/5/gone") == []


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
    client.line.remove_empty()
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


def test_a_rival_that_was_faster_only_costs_another_look(client, other):
    for id_ in number(9):
        client.join(id_)
    assert client.take() == "000"
    assert [other.take() for _ in range(4)] == number(5)[1:]
    left = client.take_all()
    assert sorted(left) == number(9)[5:]


def test_who_loses_races_looks_further_from_the_front(queue, clock):
    client = Client(queue, clock, bucket_size=200)
    for id_ in number(100):
        client.join(id_)
    waiting = client.line.waiting()
    offered = [next(waiting).entry.id for _ in range(40)]
    assert offered[0] == "000"
    assert len(set(offered)) > 10


def test_strict_order_returns_when_the_rivals_are_gone(queue, clock):
    client = Client(queue, clock, bucket_size=200)
    for id_ in number(100):
        client.join(id_)
    waiting = client.line.waiting()
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
    waiting = client.line.waiting()
    assert {next(waiting).entry.id for _ in range(20)} == {"a"}


def test_threads_share_a_line(queue, clock):
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


def test_what_has_no_proper_name_is_set_aside_once_and_passed_over(client, queue):
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
    waiting = client.line.waiting()
    client.line.pass_over(next(waiting).path)
    assert sorted(client.take_all()) == ["001", "002"]
