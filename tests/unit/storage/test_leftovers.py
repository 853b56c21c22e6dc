"""What clients left that died, and what is no message at all."""

from __future__ import annotations

import errno
import os
import shutil
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from protocol.scenes import HOUR, QUEUE, crashing_after_files
from support import Calls, Crash, interrupted
from unit.scenes import (
    TOKEN,
    bundle_directories,
    claim_in_vain,
    crashing,
    leased,
    names,
    store_of,
    view,
)

from ddmq import Counts, StorageError
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.names import Lease
from ddmq.storage.range_names import RangeLease

# In `tmp/` and `dead/`


def test_what_a_writer_that_died_left_is_removed_after_an_hour(broker, root, aged):
    old, young = root / "q" / "tmp" / "old", root / "q" / "tmp" / "young"
    directory = root / "q" / "tmp" / "directory"
    directory.mkdir()
    for path, age in (
        (old, HOUR + 10),
        (young, HOUR - 10),
        (directory, 24 * HOUR + 10),
    ):
        path.is_dir() or path.touch()
        aged(path, age)
    assert broker.clean("q").removed == 2
    assert names(root, "tmp") == ["young"]


def test_what_a_publisher_of_many_writes_may_take_a_day(world):
    draft = os.path.dirname(world.put("tmp/abc/one"))
    client = world.broker(clean=False)
    for hours, left in ((23, ["tmp/abc/one"]), (25, [])):
        then = world.clock.time_ns() - hours * HOUR * 10**9
        os.utime(draft, ns=(then, then))
        assert client.clean(QUEUE).removed == (0 if left else 1)
        assert world.files("tmp") == [f"{world.path}/{path}" for path in left]
    assert os.listdir(f"{world.path}/tmp") == []


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


@pytest.mark.real_times
def test_a_leftover_whose_time_lies_ahead_is_removed_all_the_same(world, publisher):
    left = Path(world.put("tmp/left"))
    os.utime(left, (2**31 - 1, 2**31 - 1))
    world.clock.advance(HOUR - 10)
    assert publisher.clean(QUEUE).removed == 0
    world.clock.advance(20)
    assert publisher.clean(QUEUE).removed == 1


@pytest.mark.parametrize("name", ["rmdir", "rename"])
def test_who_dies_while_it_removes_drafts_leaves_what_housekeeping_finds(world, name):
    os.mkdir(f"{world.path}/tmp/left")
    os.utime(f"{world.path}/tmp/left", (0, 0))
    before = sorted(os.listdir(world.path))
    with pytest.raises(Crash):
        crashing(world, name).clean(QUEUE)
    assert sorted(os.listdir(world.path)) == before
    assert len(os.listdir(f"{world.path}/tmp")) == 1


def test_a_note_without_its_dead_letter_is_removed_after_an_hour(broker, root, aged):
    broker.publish("q", "x")
    (message,) = broker.consume("q")
    broker.reject(message, "bad")
    for path in (root / "q" / "dead").glob("*.note"):
        aged(path, 2 * HOUR)
    orphan = root / "q" / "dead" / "abc.note"
    orphan.touch()
    aged(orphan, HOUR - 10)
    assert broker.clean("q").removed == 0
    aged(orphan, HOUR + 10)
    assert broker.clean("q").removed == 1
    assert [dead.reason for dead in broker.dead("q")] == ["bad"]


# Ranges, detached files and directories that belong to nothing


DAY = 24 * HOUR


def leftovers(world, fs=None):
    """Return the names of what belongs to nothing, as a client of its own sees it."""
    found = store_of(world, fs).leftovers.all()
    places = f"{world.path}/work/", f"{world.path}/bundles/"
    return sorted(os.path.basename(path) for path in found if path.startswith(places))


@pytest.fixture
def stray(world, bundler):
    """The lease of a client that died before its claim, until its bundle was removed."""
    claim_in_vain(world, 3)
    bundler.ack(bundler.consume(QUEUE, 12))
    [path] = world.ranges()
    away = f"{world.root}/away"
    os.rename(path, away)
    bundler.clean(QUEUE)
    assert world.files("work") == bundle_directories(world) == []
    os.rename(away, path)
    return os.path.basename(path)


def test_a_range_goes_whose_bundle_is_nowhere_for_a_day(world, bundler, stray):
    world.clock.advance(DAY)
    assert bundler.clean(QUEUE).removed == 0
    assert world.ranges() != []
    world.clock.advance(HOUR)
    assert bundler.clean(QUEUE).removed == 1
    assert world.files("work") == []


def test_a_range_stays_while_its_bundle_or_the_entry_of_that_is_anywhere(
    world, bundler, stray
):
    id_ = RangeLease.parse(stray).range.bundle
    world.clock.advance(DAY + HOUR)
    assert leftovers(world) == [stray]
    lines = world.put(f"bundles/{id_}/lines")
    assert leftovers(world) == []
    os.remove(lines)
    assert leftovers(world) == [stray]
    world.put(f"ready/7/{'1' * 19}/{'1' * 19}.{id_}.12")
    assert leftovers(world) == []


def test_a_detached_file_of_which_no_range_tells_goes_after_an_hour(world, bundler):
    messages = bundler.consume(QUEUE, 3)
    store = store_of(world)
    path = store.leases.ranges.detach(Lease.parse(messages[1].filename))
    assert leftovers(world) == []
    planted = world.put(f"work/{os.path.basename(path)[:-32]}{TOKEN}.0123ab.detached")
    assert leftovers(world) == [os.path.basename(planted)]
    assert bundler.clean(QUEUE).removed == 0
    os.utime(planted, ns=(world.clock.now_ns - 2 * HOUR * 10**9,) * 2)
    assert bundler.clean(QUEUE).removed == 1
    assert os.path.exists(path)
    assert not os.path.exists(planted)


def test_a_file_that_was_written_to_detach_a_line_in_vain_is_found(world, bundler):
    messages = bundler.consume(QUEUE, 2)
    calls = crashing_after_files(1)
    with pytest.raises(Crash):
        world.broker(calls, clean=False).nack(messages[0])
    assert leftovers(world) == []  # its range may still come to it
    bundler.ack(messages)
    [name] = leftovers(world)
    assert name.endswith(".detached")
    assert view(world) == Counts(10, 0, 0, 0)


@pytest.mark.parametrize("has_lines", [True, False])
def test_the_directory_of_a_bundle_goes_that_nobody_ever_showed(
    world, bundler, has_lines
):
    """Its publisher died before it made the entry, so nobody was told that it is published."""
    directory = f"{world.path}/bundles/{'b' * 20}"
    os.mkdir(directory)
    if has_lines:
        world.put(f"bundles/{'b' * 20}/lines", b'{"priority":5}\n1\n')
    for hours, removed in ((23, 0), (25, 1)):
        then = world.clock.now_ns - hours * HOUR * 10**9
        os.utime(directory, ns=(then, then))
        assert bundler.clean(QUEUE).removed == removed
    assert len(bundle_directories(world)) == 1
    assert os.listdir(f"{world.path}/tmp") == []
    assert view(world) == Counts(12, 0, 0, 0)


@pytest.mark.parametrize("keeps", ["entry", "delayed entry", "claim", "range", "lease"])
def test_the_directory_of_a_bundle_stays_while_it_has_an_entry_a_range_or_a_claim(
    world, bundler, keeps
):
    if keeps == "delayed entry":
        bundler.purge(QUEUE)
        bundler.publish_many(QUEUE, map(str, range(12)), delay=99 * HOUR)
    if keeps in ("range", "lease", "claim"):
        messages = bundler.consume(QUEUE, 12)
        bundler.ack(messages[:11])
    if keeps == "range":
        bundler.release(messages[11])
    if keeps == "claim":
        bundler.ack(messages[11])
    id_ = os.path.basename(bundle_directories(world)[0])
    assert leftovers(world) == []
    assert id_ in os.listdir(f"{world.path}/bundles")


def test_nothing_is_called_stray_while_its_queue_changes(world, bundler, stray):
    world.clock.advance(DAY + HOUR)
    numbers = count()

    def call(_, name, function, arguments):
        if name == "listdir" and str(arguments[0]).endswith("/work"):
            world.put(f"work/other{next(numbers)}")
        return function(*arguments)

    assert leftovers(world) == [stray]
    assert leftovers(world, FileSystem(Calls(call))) == []


def test_a_bundle_that_is_removed_while_others_look_for_strays_is_no_trouble(
    world, bundler, caplog
):
    def call(_, name, function, arguments):
        if name == "open" and "/bundles/" in str(arguments[0]) and not removed:
            removed.append(bundler.clean(QUEUE))
        return function(*arguments)

    removed: list[object] = []
    bundler.ack(bundler.consume(QUEUE, 12))
    client = world.broker(Calls(call), clean=False)
    assert client.clean(QUEUE).removed == 0
    assert removed
    assert bundle_directories(world) == []
    assert caplog.text == ""


@pytest.mark.parametrize("kept", ["the bundle", "its range"])
def test_a_bundle_that_we_may_not_list_is_no_stray_nor_is_its_range(
    world, bundler, refusing, kept
):
    if kept == "its range":
        bundler.consume(QUEUE, 12)
    for path in world.files("ready"):
        os.unlink(path)
    world.clock.advance(DAY + HOUR)
    fs = refusing("listdir", errno.EACCES, "/bundles/")
    assert leftovers(world, fs) == []
    expected = [] if kept == "its range" else os.listdir(f"{world.path}/bundles")
    assert leftovers(world) == expected


def test_a_bundle_that_we_may_not_open_keeps_no_other_stray(world, bundler, refusing):
    for path in world.files("ready"):
        os.unlink(path)
    closed = f"{world.path}/bundles/{'0' * 20}"
    os.mkdir(closed)
    world.clock.advance(DAY + HOUR)
    fs = refusing("open", errno.EACCES, "0" * 20)
    found = leftovers(world, fs)
    assert len(found) == 1
    assert closed not in found


def test_who_publishes_while_others_look_for_strays_loses_no_bundle(world, bundler):
    """The directory is there before its entry: between these two, it belongs to nothing."""

    cleaned = []

    def call(_, name, function, arguments):
        if name == "rename" and "/ready/" in arguments[1] and not cleaned:
            world.broker(clean=False).clean(QUEUE)
            cleaned.append(None)
        return function(*arguments)

    client = world.broker(Calls(call), clean=False)
    client.publish_many(QUEUE, map(str, range(12)), priority=0)
    assert cleaned
    assert view(world) == Counts(24, 0, 0, 0)
    assert len(client.consume(QUEUE, 99)) == 24


# What is no message


def test_what_is_no_lease_is_quarantined_with_the_reason(broker, root):
    (root / "q" / "work" / "0000").touch()
    (root / "q" / "delayed" / "junk").mkdir()
    broker.clean("q")
    assert names(root, "work") == names(root, "delayed") == []
    told = sorted(dead.reason for dead in broker.dead("q"))
    assert [reason.split()[-1] for reason in told] == ["delayed/junk", "work/0000"]


@pytest.mark.parametrize(
    "path",
    [
        f"work/{'a' * 20}",
        "work/junk.range",
        f"bundles/{'a' * 19}",
        f"bundles/{'a' * 20}.bundle",
    ],
)
def test_a_directory_that_is_not_named_like_a_bundle_or_not_among_them_is_quarantined(
    world, publisher, path
):
    os.mkdir(f"{world.path}/{path}")
    publisher.clean(QUEUE)
    assert view(world) == Counts(0, 0, 0, 1)
    assert not os.path.exists(f"{world.path}/{path}")


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_has_the_name_of_a_bundle_and_is_no_directory_is_quarantined(
    world, publisher, kind
):
    path = Path(f"{world.path}/bundles/{'a' * 20}")
    path.touch() if kind == "file" else path.symlink_to(world.path)
    publisher.clean(QUEUE)
    assert view(world) == Counts(0, 0, 0, 1)
    assert os.listdir(f"{world.path}/bundles") == []


def test_a_bundle_that_goes_while_others_look_is_no_garbage(world, bundler):
    """Its name was in a listing that is older, or that an NFS client had kept."""
    bundler.ack(bundler.consume(QUEUE, 12))
    [bundle] = bundle_directories(world)
    store = store_of(world)
    remove = partial(shutil.rmtree, bundle)
    store.fs.calls = interrupted(0, remove, "lstat")
    assert list(store.leftovers.foreign()) == []
    assert bundle_directories(world) == []


def test_what_is_named_like_a_bundle_but_is_delayed_is_quarantined(world):
    world.put(f"delayed/{'a' * 20}")
    broker = world.broker(clean=False)
    broker.clean(QUEUE)
    assert view(world) == Counts(0, 0, 0, 1)
    assert "delayed/aaa" in broker.dead(QUEUE)[0].reason


# In the place of a bucket


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_only_has_the_name_of_a_bucket_is_quarantined_by_a_cleaning(
    broker, root, kind
):
    broker.publish("q", "x", priority=5)
    planted = root / "q" / "ready" / "5" / "0000000000000000001"
    planted.touch() if kind == "file" else planted.symlink_to(root)
    broker.clean("q")
    assert not os.path.lexists(planted)
    [dead] = broker.dead("q")
    assert dead.reason == f"not a message of ddmq; it was ready/5/{planted.name}"


def test_a_bundle_that_is_called_stale_for_a_moment_is_not_taken_for_garbage(
    world, bundler, refusing
):
    [directory] = bundle_directories(world)
    fs = refusing("lstat", errno.ESTALE, directory, times=3)
    with pytest.raises(StorageError, match=os.strerror(errno.ESTALE)):
        world.broker(fs, clean=False).clean(QUEUE)
    assert bundle_directories(world) == [directory]
    assert len(world.broker().consume(QUEUE, 20)) == 12


@pytest.mark.parametrize("asked", [True, False])
def test_a_directory_that_is_closed_to_us_keeps_only_what_nobody_can_judge(
    world, bundler, refusing, caplog, asked
):
    """Somebody made a bucket that only he may list; the drafts of the dead are removed."""
    bundler.publish(QUEUE, "x", priority=1, timeout=5)
    [message] = bundler.consume(QUEUE)
    draft = world.put("tmp/0123456789abcdef0123", age=2 * HOUR)
    stray = world.put(f"bundles/{'0' * 20}/lines", age=25 * HOUR)
    os.utime(os.path.dirname(stray), (1, 1))
    closed = os.path.dirname(world.put(f"ready/5/{'1' * 19}/x"))
    world.clock.advance(100)
    keeper = world.broker(refusing("open", errno.EACCES, closed))
    if asked:
        assert keeper.clean(QUEUE).requeued == 1
    else:
        keeper.view(QUEUE)
    assert not os.path.exists(draft)
    assert os.path.exists(stray)
    assert message.id in {seen.id for seen in bundler.peek(QUEUE, 20)}
    assert caplog.text.count(f"{closed} can't be listed") == 1


@pytest.mark.parametrize("asked", [True, False])
def test_no_message_waits_for_leftovers_that_can_not_be_listed(
    world, bundler, refusing, asked
):
    bundler.publish(QUEUE, "x", priority=1, timeout=5)
    [message] = bundler.consume(QUEUE)
    held = bundler.consume(QUEUE, 12)
    fs = refusing("listdir", errno.EIO, f"{world.path}/tmp")
    world.clock.advance(100)
    keeper = world.broker(fs)
    if not asked:
        bundler.ack(held)
        keeper.view(QUEUE)
        assert bundle_directories(world) == []
        return
    with pytest.raises(StorageError):
        keeper.clean(QUEUE)
    assert message.id in {seen.id for seen in bundler.peek(QUEUE, 20)}
