"""One queue on disk, where its files and directories are not as they should be."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from protocol.scenes import HOUR, QUEUE
from support import Calls, Crash, counting, interrupted

from ddmq import Broker, Counts, StorageError
from ddmq.fs import FileSystem
from ddmq.names import Entry, Lease
from ddmq.store import DIRECTORIES, Store

TOKEN = "0123456789abcdef"


@pytest.fixture
def publisher(world):
    return world.broker(clean=False)


def view(world):
    return world.broker(clean=False).view(QUEUE)[QUEUE]


def store_of(world, fs=None):
    store = Store(world.path, fs or FileSystem(), world.clock)
    store.open()
    return store


def crashing(world, name):
    """Return a client that dies before its first system call of a name in `tmp/`."""

    def call(_, made, function, arguments):
        if made == name and f"{QUEUE}/tmp" in str(arguments[0]):
            raise Crash
        return function(*arguments)

    return world.broker(Calls(call), clean=False)


# A queue is opened


def test_who_keeps_no_house_follows_no_link_either(world, tmp_path):
    os.rmdir(f"{world.path}/delayed")
    os.symlink(tmp_path, f"{world.path}/delayed")
    with pytest.raises(StorageError, match="/delayed"):
        world.broker(clean=False).publish(QUEUE, "x")


def test_who_may_only_look_is_told_the_directory_that_can_not_be_changed(world):
    class Watching(FileSystem):
        def may_change(self, directory):
            return False

    with pytest.raises(PermissionError) as caught:
        store_of(world, Watching()).require_change()
    assert caught.value.filename == f"{world.path}/work"
    assert caught.value.strerror == os.strerror(errno.EACCES)


def test_a_queue_that_is_deleted_while_it_is_opened_is_missed(world, refusing):
    for part in ("", "/q", *(f"/q/{name}" for name in DIRECTORIES)):
        fs = refusing("lstat", errno.ENOENT, world.root + part)
        with pytest.raises(FileNotFoundError):
            store_of(world, fs)


@pytest.mark.parametrize("name", ["open", "unlink"])
def test_who_dies_while_it_asks_for_the_time_leaves_what_housekeeping_finds(
    world, name
):
    before = sorted(os.listdir(world.path))
    with pytest.raises(Crash):
        crashing(world, name).view(QUEUE)
    assert sorted(os.listdir(world.path)) == before


def test_files_that_everybody_may_change_are_no_programs(world, umask):
    umask(0o077)
    other = Broker(world.root, create=True)
    other.create_queue("all", mode=0o2777)
    other.publish("all", "x")
    other.publish_many("all", ["x"] * 30)
    files = Path(world.root, "all", "ready").rglob("*.*")
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o666] * 2


# Messages come


@pytest.mark.parametrize(("number", "files"), [(9, 9), (10, 1)])
def test_ten_messages_that_come_together_are_one_file(world, publisher, number, files):
    publisher.publish_many(QUEUE, map(str, range(number)))
    assert len(world.files("ready")) == files


def test_a_publisher_of_many_that_dies_leaves_what_housekeeping_finds(world):
    world.bundle_size = 10
    before = sorted(os.listdir(world.path))
    with pytest.raises(Crash):
        crashing(world, "rename").publish_many(QUEUE, map(str, range(30)))
    assert sorted(os.listdir(world.path)) == before
    [draft] = os.listdir(f"{world.path}/tmp")
    assert len(os.listdir(f"{world.path}/tmp/{draft}")) == 3


def test_delayed_bundles_leave_no_directory(world, publisher):
    world.bundle_size = 10
    world.broker(clean=False).publish_many(QUEUE, map(str, range(30)), delay=60)
    assert len(world.files("delayed")) == 3
    assert os.listdir(f"{world.path}/tmp") == []


@pytest.mark.parametrize("number", [1, 10, 30])
@pytest.mark.parametrize("durable", [True, False])
def test_delayed_messages_wait_for_the_disk_if_they_are_to_stay(world, number, durable):
    class Recording(FileSystem):
        def sync_directory(self, path):
            synced.append(path)

    synced: list[str] = []
    world.bundle_size = 10
    client = world.broker(Recording(), clean=False)
    client.publish_many(QUEUE, "x" * number, delay=60, durable=durable)
    assert synced == [f"{world.path}/delayed"] * durable


def test_delayed_bundles_that_somebody_removed_are_told(world):
    def call(_, name, function, arguments):
        if name == "rename" and "/delayed/" in arguments[1]:
            os.unlink(arguments[0])
        return function(*arguments)

    world.bundle_size = 10
    client = world.broker(Calls(call), clean=False)
    with pytest.raises(StorageError, match="cleaned away meanwhile"):
        client.publish_many(QUEUE, map(str, range(30)), delay=60)
    assert view(world) == Counts(0, 0, 0, 0)
    assert os.listdir(f"{world.path}/tmp") == []


def test_an_error_of_the_messages_is_told_though_their_drafts_can_not_be_removed(
    world, refusing
):
    def messages():
        yield from map(str, range(30))
        raise ValueError("no more")

    world.bundle_size = 10
    client = world.broker(refusing("rename", errno.EIO, "/tmp/"), clean=False)
    with pytest.raises(ValueError, match="no more"):
        client.publish_many(QUEUE, messages())


@pytest.mark.parametrize("number", [1, 30])
def test_what_stays_a_draft_though_it_was_said_to_be_gone_was_not_published(
    world, number
):
    """A client of a network file system may miss a file for a while."""

    class Missing(FileSystem):
        def rename(self, source, target):
            is_moved = "/tmp/" in source and "/ready/" in target
            return False if is_moved else super().rename(source, target)

    world.bundle_size = 10
    client = world.broker(Missing(), clean=False)
    with pytest.raises(StorageError, match="could not be moved into the line"):
        client.publish_many(QUEUE, map(str, range(number)))
    assert os.listdir(f"{world.path}/tmp") == []
    assert view(world) == Counts(0, 0, 0, 0)


# Messages are claimed


def behind_one(publisher):
    """Publish a message, and one behind it."""
    publisher.publish(QUEUE, "first")
    publisher.publish(QUEUE, "behind")


@pytest.fixture
def unable_to_move(world, refusing):
    """Return a function that makes a client that can't move what is there.

    Nor can it change directories whose paths contain one of `unchangeable`.
    """

    class Refusing(FileSystem):
        unchangeable = ()

        def may_change(self, directory):
            return not any(part in directory for part in self.unchangeable)

    def make(path, code, unchangeable=()):
        fs = Refusing(refusing("rename", code, path).calls)
        fs.unchangeable = unchangeable
        return world.broker(fs, clean=False)

    return make


@pytest.mark.parametrize("code", [errno.EPERM, errno.EBUSY])
def test_a_message_that_only_others_can_move_is_passed_over(
    world, publisher, unable_to_move, caplog, code
):
    behind_one(publisher)
    first, _ = world.files("ready")
    client = unable_to_move(first, code)
    assert [m.message for m in client.consume(QUEUE, 9)] == ["behind"]
    assert f"{first} can't be moved and is passed over" in caplog.text


def test_a_directory_that_can_not_be_moved_is_passed_over(
    world, publisher, unable_to_move
):
    behind_one(publisher)
    first, _ = world.files("ready")
    client = unable_to_move(first, errno.EIO)
    os.unlink(first)
    os.mkdir(first)
    assert [m.message for m in client.consume(QUEUE, 9)] == ["behind"]


def test_a_bucket_that_only_others_can_change_is_passed_over(
    world, publisher, unable_to_move, caplog
):
    behind_one(publisher)
    publisher.publish(QUEUE, "elsewhere", priority=9999)
    bucket = os.path.dirname(world.files("ready")[0])
    client = unable_to_move(bucket, errno.EACCES, ["/ready/"])
    assert [m.message for m in client.consume(QUEUE, 9)] == ["elsewhere"]
    assert f"{bucket} can't be moved" in caplog.text


@pytest.mark.parametrize(
    ("code", "unchangeable"),
    [
        (errno.EACCES, ()),
        (errno.EACCES, ("/work",)),
        (errno.EACCES, ("/work", "/ready/")),
        (errno.EIO, ()),
        (errno.EIO, ("/ready/",)),
    ],
)
def test_where_it_is_no_matter_of_one_message_or_bucket_it_is_told(
    world, publisher, unable_to_move, code, unchangeable
):
    behind_one(publisher)
    first, _ = world.files("ready")
    client = unable_to_move(first, code, unchangeable)
    with pytest.raises(StorageError):
        client.consume(QUEUE, 9)
    assert view(world) == Counts(2, 0, 0, 0)


def test_a_bundle_that_can_not_be_read_and_then_is_gone_is_an_error(world, publisher):
    def call(_, name, function, arguments):
        if name == "open" and arguments[0] == path:
            os.unlink(path)
            raise OSError(errno.EIO, "failed", path)
        return function(*arguments)

    publisher.publish_many(QUEUE, map(str, range(12)))
    [path] = world.files("ready")
    with pytest.raises(StorageError, match="failed"):
        world.broker(Calls(call), clean=False).consume(QUEUE)
    assert view(world) == Counts(0, 0, 0, 0)


def test_a_bundle_that_fails_time_and_again_is_passed_over(world, publisher, refusing):
    publisher.publish_many(QUEUE, map(str, range(12)))
    [path] = world.files("ready")
    client = world.broker(refusing("open", errno.EIO, path), clean=False)
    for _ in range(2):
        with pytest.raises(StorageError):
            client.consume(QUEUE)
    assert client.consume(QUEUE) == []


# Messages are looked at


def leased(world, publisher, timeout=5):
    publisher.publish(QUEUE, "x", timeout=timeout)
    [message] = publisher.consume(QUEUE)
    return message


def test_a_lease_is_over_when_its_time_is_and_not_before(world, publisher):
    leased(world, publisher)
    store = store_of(world)
    world.clock.advance(4.99)
    assert store.expired() == ([], 1, [])
    world.clock.advance(0.02)
    assert len(store.expired()[0]) == 1


def looking_while(world, directory, act, *what):
    """Return a client before whose listing of a directory another does something."""

    def call(_, name, function, arguments):
        if name == "listdir" and arguments[0] == f"{world.path}/{directory}" and left:
            left.pop()
            act(*what)
        return function(*arguments)

    left = [None]
    return world.broker(Calls(call), clean=False)


def test_a_queue_is_not_empty_while_a_message_goes_back_into_line(world, publisher):
    message = leased(world, publisher)
    looking = looking_while(world, "work", publisher.release, message)
    assert looking.is_empty(QUEUE) is False


def test_a_queue_is_not_empty_while_a_message_is_taken_from_the_line(world, publisher):
    publisher.publish(QUEUE, "x")
    looking = looking_while(world, "delayed", publisher.consume, QUEUE)
    assert looking.is_empty(QUEUE) is False


# Messages are read and settled


def test_what_housekeeping_may_not_read_has_what_its_name_says(world, publisher):
    class Forbidden(FileSystem):
        def may_read(self, path):
            return False

    publisher.publish(QUEUE, "x", timeout=5)
    publisher.consume(QUEUE)
    world.clock.advance(6)
    assert world.broker(Forbidden(), clean=False).clean(QUEUE).requeued == 1
    assert view(world) == Counts(1, 0, 0, 0)


def test_a_line_that_is_settled_while_its_bundle_is_sought_is_not_read(
    world, publisher
):
    publisher.publish_many(QUEUE, map(str, range(12)))
    message, *_ = publisher.consume(QUEUE, 12)
    lease = Lease.parse(message.filename)
    [spent] = [path for path in world.files("work") if "/spent." in path]
    os.unlink(spent)
    store = store_of(world)
    with pytest.raises(OSError, match="its bundle can't be found"):
        store.read(lease)
    publisher.ack(message)
    assert store.read(lease) is None


def test_an_ack_that_found_nothing_was_done_if_nobody_can_have_taken_the_message(world):
    now = world.clock.time_ns() // 1_000_000
    store = store_of(world)
    lease = Lease.of(Entry(5, 1, "abc"), now + 500, TOKEN)
    assert store.is_finished(lease)
    world.clock.advance(0.6)
    assert not store.is_finished(lease)


# What is left behind


@pytest.mark.real_times
@pytest.mark.parametrize("modified", [1, 2**31 - 1], ids=["long ago", "in the future"])
@pytest.mark.parametrize("made", ["a message", "a bundle", "bundles", "a reason"])
def test_what_is_just_being_made_is_no_leftover_whatever_its_time_says(
    world, publisher, made, modified
):
    """An NFS server may keep something else in the modification time for a while."""

    def others_clean():
        for path in Path(world.path, "tmp").rglob("*"):
            os.utime(path, (modified, modified))
        assert world.broker(clean=False).clean(QUEUE).removed == 0

    message = leased(world, publisher)
    world.bundle_size = 10
    client = world.broker(interrupted(0, others_clean, among="write"), clean=False)
    if made == "a reason":
        client.reject(message, "it smelled")
        assert [dead.reason for dead in client.dead(QUEUE)] == ["it smelled"]
        return
    number = {"a message": 1, "a bundle": 10, "bundles": 20}[made]
    client.publish_many(QUEUE, map(str, range(number)))
    assert len(client.consume(QUEUE, 99)) == number


def test_nothing_in_a_queue_is_made_exclusively_but_what_elects(world, publisher):
    def call(_, name, function, arguments):
        if name == "open" and arguments[1] & os.O_CREAT:
            made.append(arguments[0])
            assert not arguments[1] & os.O_EXCL
        return function(*arguments)

    made: list[str] = []
    world.bundle_size = 10
    client = world.broker(Calls(call), clean=False)
    client.publish_many(QUEUE, map(str, range(21)))
    client.reject(client.consume(QUEUE)[0], "it smelled")
    client.update_settings(QUEUE, message_timeout=77)
    client.clean(QUEUE)
    assert len(made) > 5


@pytest.mark.real_times
def test_a_leftover_whose_time_lies_ahead_is_removed_all_the_same(world, publisher):
    left = Path(world.put("tmp/left"))
    os.utime(left, (2**31 - 1, 2**31 - 1))
    world.clock.advance(HOUR - 10)
    assert publisher.clean(QUEUE).removed == 0
    world.clock.advance(20)
    assert publisher.clean(QUEUE).removed == 1


def test_a_directory_that_was_just_dropped_is_left_alone(world, publisher):
    os.mkdir(f"{world.path}/drop/new")
    now = world.clock.time_ns()
    os.utime(f"{world.path}/drop/new", ns=(now, now))
    publisher.clean(QUEUE)
    assert os.listdir(f"{world.path}/drop") == ["new"]
    world.clock.advance(11)
    publisher.clean(QUEUE)
    assert view(world) == Counts(0, 0, 0, 1)


def test_a_message_that_can_not_be_moved_for_an_hour_is_no_dead_letter(
    world, publisher, refusing
):
    leased(world, publisher)
    world.clock.advance(2 * HOUR)
    client = world.broker(refusing("rename", errno.EIO, "/work/"), clean=False)
    client.clean(QUEUE)
    assert view(world) == Counts(0, 1, 0, 0)
    assert publisher.clean(QUEUE).requeued == 1


def test_a_directory_that_is_named_like_a_spent_bundle_is_set_aside(world, publisher):
    os.mkdir(f"{world.path}/work/spent.{'1' * 13}.{'a' * 20}")
    publisher.clean(QUEUE)
    assert view(world) == Counts(0, 0, 0, 1)
    assert os.listdir(f"{world.path}/work") == []


@pytest.mark.parametrize("name", ["rmdir", "rename"])
def test_who_dies_while_it_removes_drafts_leaves_what_housekeeping_finds(world, name):
    os.mkdir(f"{world.path}/tmp/left")
    os.utime(f"{world.path}/tmp/left", (0, 0))
    before = sorted(os.listdir(world.path))
    with pytest.raises(Crash):
        crashing(world, name).clean(QUEUE)
    assert sorted(os.listdir(world.path)) == before
    assert len(os.listdir(f"{world.path}/tmp")) == 1


def test_who_dies_before_it_marks_all_as_clean_leaves_what_housekeeping_finds(world):
    before = sorted(os.listdir(world.path))
    with pytest.raises(Crash):
        crashing(world, "rename").clean(QUEUE)
    assert sorted(os.listdir(world.path)) == before
    assert len(world.files("tmp")) == 1


def test_a_mark_that_all_is_clean_waits_for_no_disk_and_has_the_mode_of_the_group(
    world, umask
):
    umask(0o077)
    calls = counting()
    client = world.broker(calls, create=True, clean=False)
    client.create_queue("shared", mode=0o2770)
    before = len(calls.made)
    client.clean("shared")
    assert "fsync" not in calls.made[before:]
    assert stat.S_IMODE(os.stat(f"{world.root}/shared/cleaned").st_mode) == 0o660
