"""The buckets of a ready queue: how they come and go, and when there are shelves."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

import pytest
from support import Calls, interrupted, remembering_missing, remove_empty
from unit.storage.ready_client import FRESH, OLD, Client, buckets, number, sizes

from ddmq.storage.buckets import PassedOver
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.names import Bundle, Entry, Waiting

# Buckets


def test_a_bucket_holds_so_many_and_no_more(client, queue):
    for id_ in number(10):
        client.join(id_)
    assert sizes(queue) == [3, 3, 3, 1]


def test_a_bucket_that_was_emptied_is_used_again(client, competitor, queue):
    client.join("a")
    assert client.take() == "a"
    competitor.join("b")
    assert sizes(queue) == [1]


def test_a_new_bucket_that_others_made_is_used(client, competitor, queue, clock):
    client.join("a")
    for id_ in number(3):
        competitor.join(id_)
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
    remove_empty(client.buckets)
    assert client.take() is None
    assert sizes(queue) == [0]


def test_the_newest_bucket_goes_when_it_is_old(client, queue, clock):
    client.join("a")
    client.take_all()
    clock.advance(OLD)
    remove_empty(client.buckets)
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
    remove_empty(client.buckets)
    assert sizes(queue) == [3, 3, 1]


def test_a_publisher_whose_bucket_vanished_makes_another(client, competitor, queue):
    client.join("a")
    competitor.take_all()
    for bucket in buckets(queue):
        bucket.rmdir()
    (queue / "ready" / "5").rmdir()
    client.join("b")
    assert competitor.take_all() == ["b"]


def test_a_priority_that_was_looked_for_before_others_made_it_is_used(
    competitor, queue, clock
):
    competitor.join("a")
    late = Client(queue, clock, calls=remembering_missing(f"{queue}/ready/5"))
    late.join("b")
    assert competitor.take_all() == ["a", "b"]


def test_a_ready_queue_that_was_deleted_is_missed(client, queue):
    client.join("a")
    client.take()
    (queue / "ready").rename(queue / "elsewhere")
    source = queue / "tmp" / "b"
    source.touch()
    with pytest.raises(FileNotFoundError):
        client.ready.append(str(source), Entry(5, 0, "b"))
    with pytest.raises(FileNotFoundError):
        client.ready.put_back(str(source), Entry(5, 0, "b"))
    with pytest.raises(FileNotFoundError):
        client.take()
    assert source.exists()


def test_directories_get_the_mode_that_a_group_needs(client, queue):
    client.layout.directory_mode = 0o2770
    before = os.umask(0o077)
    try:
        client.join("a")
        client.join("b", priority=6)
    finally:
        os.umask(before)
    made = [queue / "ready" / "5", *buckets(queue), *buckets(queue, 6)]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o2770}
    assert list((queue / "tmp").iterdir()) == []


def vanishing(times):
    """Return calls where a competitor removes the empty bucket that a file is moved to."""
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
    remove_empty(client.buckets)
    client.fs.calls = vanishing(2)
    (queue / "tmp" / "a").touch()
    assert client.ready.put_back(f"{queue}/tmp/a", entry) is True
    assert client.take() == "a"


def test_buckets_that_vanish_all_the_time_are_given_up(queue, clock):
    client = Client(queue, clock, calls=vanishing(10**9))
    with pytest.raises(FileNotFoundError, match="keep vanishing"):
        client.join("a")
    with pytest.raises(FileNotFoundError, match="keep vanishing"):
        client.ready.put_back(f"{queue}/tmp/a", Entry(5, 1, "a"))
    assert (queue / "tmp" / "a").exists()


# Shelves: with buckets of three, a priority has two of them before there are shelves


def layout(queue, priority=5):
    """Return for each entry of a priority, in order, how many files its buckets hold."""
    return [
        [len(list(bucket.iterdir())) for bucket in sorted(place.iterdir())]
        if place.suffix == ".shelf"
        else len(list(place.iterdir()))
        for place in sorted((queue / "ready" / str(priority)).iterdir())
    ]


def shelves(queue, priority=5):
    return sorted((queue / "ready" / str(priority)).glob("*.shelf"))


def removed(directory):
    """Remove a directory of empty ones, as a consumer does."""
    for bucket in directory.iterdir():
        bucket.rmdir()
    directory.rmdir()


def test_a_short_ready_queue_has_no_shelf(client, queue):
    for id_ in number(6):
        client.join(id_)
    assert layout(queue) == [3, 3]


def test_buckets_that_are_too_many_stand_on_shelves(filled, queue):
    assert layout(queue) == [3, 3, [3, 3], [3, 1]]


def test_a_shelf_holds_half_as_many_buckets_as_a_bucket_files(queue, clock):
    client = Client(queue, clock, bucket_size=8)
    for id_ in number(8 * 4 + 8 * 4 + 1):
        client.join(id_)
    assert layout(queue) == [8, 8, 8, 8, [8, 8, 8, 8], [1]]


def test_a_shelf_has_the_stamp_of_its_first_bucket(filled, queue):
    for shelf in shelves(queue):
        assert shelf.stem == min(bucket.name for bucket in shelf.iterdir())


def test_first_in_is_first_out_across_shelves(client, clock):
    ids = number(50)
    for id_ in ids:
        client.join(id_)
        clock.advance(-10_000)
    assert client.take_all() == ids


def test_order_holds_while_shelves_come_and_go(client, queue, clock):
    taken = []
    for id_ in number(60):
        client.join(id_)
        clock.advance(1)
        if int(id_) > 20 and int(id_) % 3:
            taken.append(client.take())
    assert shelves(queue)
    assert taken + client.take_all() == number(60)


def test_where_there_is_room_again_a_bucket_needs_no_shelf(filled, queue):
    assert [filled.take() for _ in range(14)] == number(14)
    for id_ in number(20)[16:]:
        filled.join(id_)
    assert layout(queue) == [[1, 3], 2]
    assert filled.take_all() == number(20)[14:]


def test_a_shelf_that_others_opened_is_used(client, competitor, queue, clock):
    client.join("a")
    for id_ in number(6):
        competitor.join(id_)
    clock.advance(FRESH)
    client.join("b")
    assert layout(queue) == [3, 3, [2]]


def test_a_stamp_belongs_in_the_bucket_that_is_named_by_it(filled, queue):
    for bucket in buckets(queue):
        assert filled.buckets.place_of(5, int(bucket.name)) == str(bucket)


def test_directories_on_shelves_get_the_mode_that_a_group_needs(client, queue):
    client.layout.directory_mode = 0o2770
    before = os.umask(0o077)
    try:
        for id_ in number(16):
            client.join(id_)
    finally:
        os.umask(before)
    made = [*shelves(queue), *buckets(queue)]
    assert len(made) == 8
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o2770}
    assert list((queue / "tmp").iterdir()) == []


def listings(client, use):
    """Return which directories are listed meanwhile, by their last names."""
    seen = []

    def call(_, name, function, arguments):
        if name == "listdir":
            seen.append(os.path.basename(arguments[0]))
        return function(*arguments)

    client.fs.calls = Calls(call)
    use()
    client.fs.calls = os
    return seen


def test_a_shelf_is_looked_into_when_it_is_its_turn(filled, queue, clock):
    assert listings(filled, filled.take) == ["ready", "5", buckets(queue)[0].name]
    for _ in range(6):
        filled.take()
    clock.advance(1)
    shelf = shelves(queue)[0].name
    assert listings(filled, filled.take) == ["ready", "5", shelf, shelf[:19]]


def test_a_bucket_is_not_taken_for_the_shelf_of_the_same_stamp(client, queue):
    for id_ in ("a", "b"):
        client.join(id_)
    assert client.take() == "a"
    (bucket,) = buckets(queue)
    bundle = Bundle(5, int(bucket.name), "c" * 20, 2)
    on_shelf = f"{bucket}.shelf/{bucket.name}/{bundle.filename}"
    client.ready.front = Waiting(bundle, on_shelf)
    assert next(client.waiting()).entry.id == "b"


# They are removed


def test_the_newest_bucket_and_its_shelf_stay_while_somebody_may_add_to_it(
    filled, queue, clock
):
    filled.take_all()
    clock.advance(1)
    remove_empty(filled.buckets)
    assert filled.take() is None
    assert layout(queue) == [[0]]


def test_an_empty_shelf_stays_while_somebody_may_add_to_it(filled, queue, clock):
    filled.take_all()
    for bucket in buckets(queue):
        bucket.rmdir()
    remove_empty(filled.buckets)
    assert filled.take() is None
    assert layout(queue) == [[]]
    filled.join("a")
    assert layout(queue) == [[1]]
    clock.advance(OLD)
    assert filled.take() == "a"


def test_shelves_go_when_they_are_empty_and_old(filled, queue, clock):
    filled.take_all()
    clock.advance(OLD)
    remove_empty(filled.buckets)
    assert list((queue / "ready").iterdir()) == []


def test_a_consumer_removes_shelves_that_are_empty_and_old(filled, queue, clock):
    filled.take_all()
    clock.advance(OLD)
    assert filled.take() is None
    assert filled.take() is None
    assert list((queue / "ready").iterdir()) == []


def test_shelves_in_use_are_never_removed(filled, queue, clock):
    clock.advance(OLD)
    remove_empty(filled.buckets)
    assert layout(queue) == [3, 3, [3, 3], [3, 1]]


@pytest.mark.parametrize(
    ("empty", "left"),
    [
        (2, [3, 3, [3], [3, 1]]),
        (3, [3, 3, [3], [3, 1]]),
        (4, [3, 3, [3, 3], [1]]),
        (5, [3, 3, [3, 3], [3, 0]]),
    ],
)
def test_an_empty_bucket_on_a_shelf_is_removed_unless_it_is_the_newest_of_all(
    filled, queue, empty, left
):
    for path in buckets(queue)[empty].iterdir():
        path.unlink()
    remove_empty(filled.buckets)
    assert layout(queue) == left


def test_a_message_that_comes_onto_a_shelf_just_seen_empty_is_not_overtaken(
    filled, competitor, queue, clock
):
    for _ in range(12):
        filled.take()
    first, second = shelves(queue)
    for bucket in (*first.iterdir(), *second.iterdir()):
        for path in bucket.iterdir():
            path.unlink()
    clock.advance(FRESH)

    def come():
        bucket = first / first.stem
        bucket.mkdir(exist_ok=True)
        (bucket / f"{first.stem}.early.0-0").touch()
        competitor.join("late")

    calls = {}

    def call(_, name, function, arguments):
        if name == "rmdir" and arguments[0] == str(first) and not calls:
            calls["made"] = come()
        return function(*arguments)

    filled.fs.calls = Calls(call)
    assert filled.take() == "early"
    assert calls


# They vanish, and competitors open them


def test_a_publisher_whose_shelf_vanished_makes_another(filled, competitor, queue):
    competitor.take_all()
    for shelf in shelves(queue):
        removed(shelf)
    filled.join("a")
    assert competitor.take_all() == ["a"]


def test_a_publisher_whose_shelf_vanishes_while_it_makes_a_bucket_makes_another(
    filled, competitor, queue
):
    competitor.take_all()
    (shelf,) = shelves(queue)
    for bucket in shelf.iterdir():
        bucket.rmdir()
    filled.fs.calls = interrupted(0, lambda: removed(shelf), "mkdir")
    for id_ in ("a", "b"):
        filled.join(id_)
    assert not shelf.exists()
    assert competitor.take_all() == ["a", "b"]


def test_publishers_that_open_shelves_at_once_keep_what_each_published(
    client, competitor, queue
):
    for id_ in number(6):
        client.join(id_)
    client.fs.calls = interrupted(0, lambda: competitor.join("competitor"), "mkdir")
    client.join("a")
    client.join("b")
    assert len(shelves(queue)) in (1, 2)
    taken = client.take_all()
    assert taken[:6] == number(6)
    assert sorted(taken[6:]) == ["a", "b", "competitor"]
    assert taken.index("a") < taken.index("b")


def test_what_another_thread_put_behind_a_shelf_is_not_overtaken(
    client, competitor, queue
):
    for id_ in number(9):
        client.join(id_)
    shelf = shelves(queue)[0]

    def fill_the_shelf_and_go_on():
        for id_ in ("r1", "r2", "r3"):
            competitor.join(id_)
        client.join("y1")

    calls = interrupted(0, fill_the_shelf_and_go_on, "mkdir")
    client.fs.calls = calls
    client.join("x")
    assert len(list(shelf.iterdir())) == 3
    client.join("y2")
    taken = client.take_all()
    assert taken.index("y1") < taken.index("y2")
    assert sorted(taken[9:]) == ["r1", "r2", "r3", "x", "y1", "y2"]


def test_nor_is_a_directory_that_became_a_bucket_there(client, competitor, queue):
    for id_ in number(9):
        client.join(id_)
    fresh = Client(queue, client.ready._clock)

    def fill_the_shelf_and_go_on():
        for id_ in ("r1", "r2", "r3"):
            competitor.join(id_)
        draft, bundles = bundles_in(fresh, "b" * 20)
        assert fresh.ready.append_bucket(draft, bundles, make=touch, sync=False) is True

    fresh.fs.calls = interrupted(0, fill_the_shelf_and_go_on, "mkdir")
    fresh.join("x")
    fresh.join("y")
    taken = client.take_all()
    assert taken.index("b" * 20) < taken.index("y")
    assert sorted(taken[9:]) == ["b" * 20, "r1", "r2", "r3", "x", "y"]


def touch(path):
    """Make an empty file, which is the entry of a bundle."""
    Path(path).touch()


def bundles_in(client, *ids, lines=2):
    """Make a directory that is to be a bucket; return it, and the bundles whose entries come."""
    draft = client.queue / "tmp" / "draft"
    draft.mkdir()
    return str(draft), [Bundle(5, 0, id_, lines) for id_ in ids]


@pytest.mark.parametrize("before", [0, 1, 4, 6, 7, 12, 13])
def test_a_directory_that_becomes_a_bucket_stands_behind_all(client, queue, before):
    for id_ in number(before):
        client.join(id_)
    draft, bundles = bundles_in(client, "a" * 20, "b" * 20)
    assert client.ready.append_bucket(draft, bundles, make=touch, sync=True) is True
    client.join("z")
    assert client.take_all() == [*number(before), "a" * 20, "b" * 20, "z"]


def test_the_entries_of_bundles_that_come_together_leave_room_for_their_lines(
    client, queue
):
    draft, bundles = bundles_in(client, *(id_ * 20 for id_ in "abc"), lines=7)
    client.join("x")
    client.ready.append_bucket(draft, bundles, make=touch, sync=False)
    after = client.join("y")
    found = [w.entry for w in client.scan.places() if w.entry.id[0] in "abc"]
    assert [bundle.id for bundle in found] == [id_ * 20 for id_ in "abc"]
    assert [b.stamp - a.stamp for a, b in zip(found, found[1:])] == [7, 7]
    assert found[-1].stamp + 7 <= after.stamp
    assert int(buckets(queue)[1].name) == found[0].stamp


def test_directories_that_become_buckets_stand_on_shelves(client, queue):
    for id_ in "abcdef":
        draft, bundles = bundles_in(client, id_ * 20)
        assert (
            client.ready.append_bucket(draft, bundles, make=touch, sync=False) is True
        )
    assert layout(queue) == [1, 1, [1, 1], [1, 1]]
    assert client.take_all() == [id_ * 20 for id_ in "abcdef"]


def test_a_directory_whose_shelf_vanishes_becomes_a_bucket_elsewhere(
    filled, competitor, queue, clock
):
    competitor.take_all()
    draft, bundles = bundles_in(filled, "a" * 20)
    (shelf,) = shelves(queue)
    filled.fs.calls = interrupted(0, lambda: removed(shelf), "rename")
    assert filled.ready.append_bucket(draft, bundles, make=touch, sync=False) is True
    assert not shelf.exists()
    assert competitor.take_all() == ["a" * 20]


def test_a_directory_that_is_gone_becomes_no_bucket(filled):
    draft, bundles = bundles_in(filled, "a" * 20)
    filled.fs.calls = interrupted(0, lambda: shutil.rmtree(draft), "rename")
    assert filled.ready.append_bucket(draft, bundles, make=touch, sync=False) is False


class Kept(FileSystem):
    """A file system where somebody keeps one directory to himself."""

    def __init__(self, directory, *, known=True):
        self.directory = str(directory)
        self.known = known
        super().__init__(Calls(self._made))

    def _made(self, _, name, function, arguments):
        changed = {"mkdir": arguments[0], "rename": arguments[-1]}.get(name, "")
        if os.path.dirname(changed) == self.directory:
            raise PermissionError(errno.EACCES, "not yours", changed)
        return function(*arguments)

    def may_change(self, directory):
        kept = self.known and directory == self.directory
        return not kept and super().may_change(directory)


def keep(client, directory, **options):
    """Let a directory be for nobody but its owner, from now on."""
    fs = client.fs = client.ready._fs = Kept(directory, **options)
    client.buckets._fs = client.layout._fs = fs


@pytest.mark.parametrize("mode", [None, 0o2770])
def test_a_shelf_that_somebody_keeps_to_himself_is_passed_over(
    client, competitor, queue, mode
):
    ids = number(9)
    entries = [client.join(id_) for id_ in ids]
    (shelf,) = shelves(queue)
    client.layout.directory_mode = mode
    keep(client, shelf)
    client.join("a")
    draft, bundles = bundles_in(client, "b" * 20)
    assert client.ready.append_bucket(draft, bundles, make=touch, sync=True) is True
    assert [competitor.take() for _ in range(9)] == ids
    (queue / "tmp" / "back").touch()
    assert client.ready.put_back(f"{queue}/tmp/back", entries[8]) is True
    assert layout(queue)[-1] == [1, 1]
    assert competitor.take_all() == [ids[8], "a", "b" * 20]


def test_a_directory_of_bundles_finds_out_about_such_a_shelf_itself(
    filled, competitor, queue
):
    keep(filled, shelves(queue)[1])
    for bucket in list(shelves(queue)[1].iterdir())[1:]:
        shutil.rmtree(bucket)
    draft, bundles = bundles_in(filled, "b" * 20)
    assert filled.ready.append_bucket(draft, bundles, make=touch, sync=True) is True
    assert layout(queue)[-1] == [1]
    assert "b" * 20 in competitor.take_all()


def test_a_shelf_that_is_refused_for_no_known_reason_is_told(filled, queue):
    (shelf,) = shelves(queue)[1:]
    for bucket in list(shelf.iterdir())[1:]:
        shutil.rmtree(bucket)
    keep(filled, shelf, known=False)
    draft, bundles = bundles_in(filled, "b" * 20)
    with pytest.raises(PermissionError):
        filled.ready.append_bucket(draft, bundles, make=touch, sync=True)
    for id_ in number(3):
        with suppress(PermissionError):
            filled.join(id_)
    with pytest.raises(PermissionError):
        filled.join("a")


def test_a_priority_that_somebody_keeps_to_himself_is_told(client, queue):
    for id_ in number(6):
        client.join(id_)
    keep(client, queue / "ready" / "5")
    with pytest.raises(PermissionError):
        client.join("a")
    draft, bundles = bundles_in(client, "b" * 20)
    with pytest.raises(PermissionError):
        client.ready.append_bucket(draft, bundles, make=touch, sync=True)


# What comes back


@pytest.mark.parametrize("back", [["015"], ["008", "009"], ["006"], ["014", "000"]])
def test_a_message_that_comes_back_gets_its_old_place_on_its_shelf(client, queue, back):
    entries = {id_: client.join(id_) for id_ in number(20)}
    for path in queue.glob("ready/5/**/*.0-0"):
        if path.name.split(".")[1] in back:
            path.rename(queue / "tmp" / path.name.split(".")[1])
    for id_ in back:
        assert client.ready.put_back(f"{queue}/tmp/{id_}", entries[id_]) is True
    assert client.take_all() == number(20)


@pytest.mark.parametrize("last", [6, 7, 9, 11, 12, 14])
def test_a_message_whose_bucket_is_gone_comes_back_as_the_first_of_its_shelf(
    client, queue, clock, last
):
    entries = [client.join(id_) for id_ in number(20)]
    assert [client.take() for _ in range(last + 1)] == number(last + 1)
    clock.advance(FRESH)
    (queue / "tmp" / "a").touch()
    client.take()
    assert client.ready.put_back(f"{queue}/tmp/a", entries[last]) is True
    assert client.take_all() == [f"{last:03d}", *number(20)[last + 2 :]]


def test_what_goes_back_to_a_shelf_removed_at_the_last_moment_gets_a_bucket(
    client, queue, clock
):
    entries = [client.join(id_) for id_ in number(9)]
    client.take_all()
    (shelf,) = shelves(queue)
    (queue / "tmp" / "a").touch()
    client.fs.calls = interrupted(0, lambda: removed(shelf), "rename")
    assert client.ready.put_back(f"{queue}/tmp/a", entries[8]) is True
    assert client.take() == "008"


# What is no bucket


def test_on_a_shelf_there_are_only_buckets(filled, queue):
    shelf = shelves(queue)[0]
    (shelf / "note.txt").touch()
    (shelf / "0000000000000000001.shelf").mkdir()
    (shelf / "0000000000000000002").touch()
    assert filled.take_all() == number(16)
    assert sorted(filled.aside) == [
        "0000000000000000001.shelf",
        "0000000000000000002",
        "note.txt",
    ]


@pytest.mark.parametrize("stamp", ["0000000000000000001", "2999999999999999999"])
@pytest.mark.parametrize("kind", ["file", "link"])
@pytest.mark.parametrize("suffix", ["", ".shelf"])
def test_what_only_has_the_name_of_a_bucket_or_shelf_is_quarantined(
    filled, queue, clock, tmp_path, stamp, kind, suffix
):
    elsewhere = tmp_path / "elsewhere" / stamp
    elsewhere.mkdir(parents=True)
    (elsewhere / f"{stamp}.foreign.0-0").touch()
    planted = queue / "ready" / "5" / f"{stamp}{suffix}"
    if kind == "file":
        planted.touch()
    else:
        planted.symlink_to(elsewhere.parent if suffix else elsewhere)
    clock.advance(1)
    client = Client(queue, clock)
    for id_ in ("a", "b", "c"):
        client.join(id_)
    draft, bundles = bundles_in(client, "d" * 20)
    assert client.ready.append_bucket(draft, bundles, make=touch, sync=True) is True
    assert client.take_all() == [*number(16), "a", "b", "c", "d" * 20]
    assert set(client.aside) == {planted.name}
    assert [path.name for path in elsewhere.parent.iterdir()] == [stamp]
    assert len(list(elsewhere.iterdir())) == 1


# What is passed over


@pytest.fixture
def passed(clock):
    return PassedOver(clock)


def test_a_name_is_passed_over_for_half_a_minute(passed, clock):
    passed.add("a")
    clock.advance(29.9)
    assert passed.without("/bucket", ["a", "b"]) == ["b"]
    clock.advance(0.2)
    assert passed.without("/bucket", ["a", "b"]) == ["a", "b"]


def test_a_path_is_passed_over_in_its_own_directory_alone(passed, clock):
    passed.add("/bucket/a")
    assert passed.has("/bucket/a")
    assert passed.without("/bucket", ["a"]) == []
    assert passed.without("/other", ["a"]) == ["a"]
    clock.advance(31)
    assert not passed.has("/bucket/a")


def test_what_is_removed_is_passed_over_no_more(passed):
    passed.add("a")
    passed.remove("a")
    passed.remove("unknown")
    assert passed.without("/bucket", ["a"]) == ["a"]


def test_what_is_refused_is_passed_over_from_the_second_time_on(passed):
    passed.refuse("a.0-0", "a")
    assert passed.without("/bucket", ["a.0-0"]) == ["a.0-0"]
    passed.refuse("a.0-1", "a")  # it is known, though its name tells of a loss now
    assert passed.without("/bucket", ["a.0-1"]) == []


def test_what_is_tried_in_vain_24_times_is_passed_over(passed):
    for _ in range(23):
        passed.tried_in_vain("/bucket/a")
    assert not passed.has("/bucket/a")
    passed.tried_in_vain("/bucket/a")
    assert passed.has("/bucket/a")


def test_no_more_than_a_thousand_names_that_were_tried_in_vain_are_remembered(passed):
    for _ in range(23):
        passed.tried_in_vain("/bucket/a")
    for other in range(1001):
        passed.tried_in_vain(f"/bucket/{other}")
    passed.tried_in_vain("/bucket/a")
    assert not passed.has("/bucket/a")


def test_trouble_is_told_once(passed, caplog):
    for _ in range(2):
        passed.tell("/bucket/a", "can't be moved", OSError(errno.EPERM, "denied"))
    assert caplog.messages == ["/bucket/a can't be moved and is passed over: denied"]


def test_a_bucket_is_left_for_a_second_or_until_somebody_asks_what_was_left(
    passed, clock
):
    passed.leave_for_later("/bucket")
    assert passed.has("/bucket")
    clock.advance(1)
    assert not passed.has("/bucket")
    passed.leave_for_later("/bucket")
    assert passed.what_was_left() == ["/bucket"]
    assert not passed.has("/bucket")
    assert passed.what_was_left() == []
