"""One queue on disk, where its files and directories are not as they should be."""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from protocol.scenes import HOUR, QUEUE
from support import Calls, Crash, counting, crashing_before
from unit.scenes import bundle_directories, crashing, leased, store_of, view

from ddmq import Counts, StorageError
from ddmq.storage.filesystem import FileSystem

# Messages come


@pytest.mark.parametrize(("number", "files"), [(9, 9), (10, 1)])
def test_ten_messages_that_come_together_are_one_file(world, publisher, number, files):
    publisher.publish_many(QUEUE, map(str, range(number)))
    assert len(world.files("ready")) == files


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (2, "2 published: {0}, {-1}"),
        (10, "10 published: {0} to {-1}"),
        (25, "25 published in 3 bundles: {0} to {9}, the last {20} to {-1}"),
    ],
)
def test_the_ids_of_what_came_together_are_told_to_whoever_asks(
    world, number, words, caplog
):
    world.bundle_size = 10
    caplog.set_level(logging.INFO, "ddmq")
    client = world.broker(clean=False)
    client.publish_many(QUEUE, map(str, range(number)))
    ids = [message.id for message in client.consume(QUEUE, number)]
    [told] = caplog.messages
    assert told == re.sub(r"{(.*?)}", lambda match: ids[int(match[1])], words)


def test_a_publisher_of_many_that_dies_leaves_what_housekeeping_finds(world):
    world.bundle_size = 10
    before = sorted(os.listdir(world.path))
    with pytest.raises(Crash):
        crashing(world, "rename").publish_many(QUEUE, map(str, range(30)))
    assert sorted(os.listdir(world.path)) == before
    drafts = [f"{world.path}/tmp/{name}" for name in os.listdir(f"{world.path}/tmp")]
    assert sorted(len(os.listdir(draft)) for draft in drafts) == [0, 3]
    for draft in drafts:
        then = world.clock.now_ns - 25 * HOUR * 10**9
        os.utime(draft, ns=(then, then))
    assert world.broker(clean=False).clean(QUEUE).removed == 2
    assert os.listdir(f"{world.path}/tmp") == []


@pytest.mark.parametrize("number", [10, 30])
@pytest.mark.parametrize("delay", [0, 60])
def test_wherever_a_publisher_of_many_dies_nothing_stays_that_is_not_published(
    world, number, delay
):
    """Nor does a bundle that is published lose its directory."""
    world.bundle_size = 10
    for dies in range(100):
        calls = counting()
        client = world.broker(calls, clean=False)
        client.settings(QUEUE)
        calls.call = crashing_before(len(calls.made) + dies).call
        died = False
        try:
            client.publish_many(QUEUE, map(str, range(number)), delay=delay)
        except Crash:
            died = True
        counts = view(world)
        assert sum(counts) in ((0, number) if not delay else range(0, number + 1, 10))
        assert len(bundle_directories(world)) >= sum(counts) / 10
        for directory in (*bundle_directories(world), *drafts(world)):
            then = world.clock.now_ns - 25 * HOUR * 10**9
            os.utime(directory, ns=(then, then))
        world.clock.advance(61)
        keeper = world.broker(clean=False)
        keeper.clean(QUEUE)
        assert drafts(world) == []
        assert len(bundle_directories(world)) == sum(counts) / 10
        messages = keeper.consume(QUEUE, 99)
        assert len(messages) == sum(counts)
        keeper.ack(messages)
        world.clock.advance(6)
        keeper.clean(QUEUE)
        assert bundle_directories(world) == []
        if not died:
            break
    assert 10 < dies < 99


def drafts(world):
    """Return the paths of what is in `tmp/`."""
    return [f"{world.path}/tmp/{name}" for name in os.listdir(f"{world.path}/tmp")]


@pytest.mark.parametrize("number", [10, 30])
@pytest.mark.parametrize("name", ["mkdir", "write", "mknod", "rename"])
def test_bundles_that_can_not_be_published_leave_nothing(world, refusing, number, name):
    world.bundle_size = 10
    for n in range(9):
        seen = []

        def call(_, made, function, arguments, seen=seen, n=n):
            seen.extend([None] * (made == name))
            if made == name and len(seen) == n + 1:
                where = arguments[0] if isinstance(arguments[0], str) else "?"
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), where)
            return function(*arguments)

        client = world.broker(Calls(call), clean=False)
        try:
            client.publish_many(QUEUE, map(str, range(number)))
        except StorageError:
            assert drafts(world) == bundle_directories(world) == []
            assert view(world) == Counts(0, 0, 0, 0)
        else:
            break
    assert 0 < n < 9


def test_delayed_bundles_leave_no_directory(world, publisher):
    world.bundle_size = 10
    world.broker(clean=False).publish_many(QUEUE, map(str, range(30)), delay=60)
    assert len(world.files("delayed")) == 3
    assert os.listdir(f"{world.path}/tmp") == []


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
    with pytest.raises(StorageError, match="could not be moved into the ready queue"):
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
    [directory] = bundle_directories(world)
    path = f"{directory}/lines"
    with pytest.raises(StorageError, match="failed"):
        world.broker(Calls(call), clean=False).consume(QUEUE)
    assert world.ranges() == []


def test_a_bundle_that_fails_time_and_again_is_passed_over(world, publisher, refusing):
    publisher.publish_many(QUEUE, map(str, range(12)))
    client = world.broker(refusing("open", errno.EIO, "/lines"), clean=False)
    for _ in range(2):
        with pytest.raises(StorageError):
            client.consume(QUEUE)
    assert client.consume(QUEUE) == []


# Messages are read and settled


def test_what_housekeeping_may_not_read_has_what_its_name_says(world, publisher):
    class Forbidden(FileSystem):
        def read(self, path, *most):
            if "/work/" in path:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return super().read(path, *most)

    publisher.publish(QUEUE, "x", timeout=5)
    publisher.consume(QUEUE)
    world.clock.advance(6)
    assert world.broker(Forbidden(), clean=False).clean(QUEUE).requeued == 1
    assert view(world) == Counts(1, 0, 0, 0)


# Housekeeping


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


def test_a_message_that_can_not_be_moved_for_an_hour_is_no_dead_letter(
    world, publisher, refusing
):
    leased(world, publisher)
    world.clock.advance(2 * HOUR)
    client = world.broker(refusing("rename", errno.EIO, "/work/"), clean=False)
    client.clean(QUEUE)
    assert view(world) == Counts(0, 1, 0, 0)
    assert publisher.clean(QUEUE).requeued == 1


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


def test_threads_that_meet_a_bundle_at_once_know_the_same_of_it(world):
    store, together = store_of(world), threading.Barrier(8)

    def meet(_):
        together.wait()
        return store.bundles

    with ThreadPoolExecutor(8) as pool:
        assert len({id(bundles) for bundles in pool.map(meet, range(8))}) == 1
