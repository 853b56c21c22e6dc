"""The directories of one queue, their modes, and the file server's clock."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from protocol.scenes import QUEUE
from support import Crash
from unit.scenes import consumed, crashing, store_of

import ddmq
from ddmq import Broker, StorageError
from ddmq.clock import ClockUnknown
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.layout import DIRECTORIES

# The directories


def test_who_keeps_no_house_follows_no_link_either(world, tmp_path):
    os.rmdir(f"{world.path}/delayed")
    os.symlink(tmp_path, f"{world.path}/delayed")
    with pytest.raises(StorageError, match="/delayed"):
        world.broker(clean=False).publish(QUEUE, "x")


@pytest.mark.parametrize("name", ["tmp", "delayed", "dead"])
def test_who_runs_notices_a_link_that_takes_the_place_of_a_directory(
    broker, root, clock, tmp_path, name
):
    broker.consume("q")
    (root / "q" / name).rename(tmp_path / "elsewhere")
    (root / "q" / name).symlink_to(tmp_path / "elsewhere")
    clock.advance(2)
    with pytest.raises(StorageError, match=f"/{name}: "):
        broker.publish("q", "x")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_who_may_only_look_is_told_the_directory_that_can_not_be_changed(world, code):
    class Watching(FileSystem):
        def may_change(self, directory):
            return False

        @staticmethod
        def is_read_only(path):
            return code == errno.EROFS

    with pytest.raises(PermissionError) as caught:
        store_of(world, Watching()).layout.require_change()
    assert caught.value.filename == f"{world.path}/work"
    assert caught.value.errno == code
    assert caught.value.strerror == os.strerror(code)


def test_a_queue_that_is_deleted_while_it_is_opened_is_missed(world, refusing):
    for part in ("", "/q", *(f"/q/{name}" for name in DIRECTORIES)):
        fs = refusing("lstat", errno.ENOENT, world.root + part)
        with pytest.raises(FileNotFoundError):
            store_of(world, fs)


def test_files_that_everybody_may_change_are_no_programs(world, umask):
    umask(0o077)
    other = Broker(world.root, create=True)
    other.create_queue("all", mode=0o2777)
    other.publish("all", "x")
    other.publish_many("all", ["x"] * 30)
    files = Path(world.root, "all", "ready").rglob("*.*")
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o666] * 2


def test_directories_are_compared_with_their_names_once_a_second(world):
    class Watching(FileSystem):
        def require_directory(self, path):
            compared.append(path)
            return super().require_directory(path)

    compared: list[str] = []
    layout = store_of(world, Watching()).layout
    assert compared[:2] == [world.root, world.path]
    assert len(compared) == 2 + len(DIRECTORIES)
    for seconds, times in ((0.9, 1), (0.2, 2), (0, 2)):
        world.clock.advance(seconds)
        layout.check_when_due()
        assert len(compared) == times * (2 + len(DIRECTORIES))
    assert layout.check_due_at == world.clock.monotonic() + 1


@pytest.mark.parametrize(
    ("mode", "directory_mode", "file_mode"),
    [
        (0o2770, 0o2770, 0o660),
        (0o2775, 0o2775, 0o664),
        (0o2750, None, None),
        (0o700, None, None),
    ],
)
def test_the_mode_of_a_queue_that_a_group_shares_is_that_of_what_is_made_in_it(
    world, mode, directory_mode, file_mode
):
    os.chmod(world.path, mode)
    layout = store_of(world).layout
    assert (layout.directory_mode, layout.file_mode) == (directory_mode, file_mode)


# The file server's clock


@pytest.mark.parametrize("name", ["open", "unlink"])
def test_who_dies_while_it_asks_for_the_time_leaves_what_housekeeping_finds(
    world, name
):
    before = sorted(os.listdir(world.path))
    with pytest.raises(Crash):
        crashing(world, name).view(QUEUE)
    assert sorted(os.listdir(world.path)) == before


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_who_may_not_write_can_do_without_the_servers_clock(
    broker, root, clock, refusing, code
):
    broker.publish("q", "x")
    for clean in (True, False):
        fs = refusing("open", code, f"{root}/q/tmp/")
        client = Broker(root, clock=clock, clean=clean, fs=fs)
        assert client.view()["q"].waiting == 1


@pytest.mark.parametrize("clean", [True, False])
def test_a_lease_is_measured_by_the_file_servers_clock(broker, root, clean):
    class Ahead(ddmq.clock.Clock):
        def own_ns(self):
            return super().own_ns() + 1000 * 10**9

    here, there = Broker(root), Broker(root, clock=Ahead(), clean=clean)
    mine = consumed(here, timeout=500)
    assert there.consume("q") == []
    here.ack(mine)
    theirs = consumed(there, timeout=500)
    assert abs(int(theirs.filename[:13]) - int(mine.filename[:13])) < 60_000


def test_a_lease_ends_so_many_milliseconds_later_rounded_up(world):
    store, now = store_of(world), 1_700_000_000_000
    world.clock.now_ns = now * 1_000_000
    assert store.time.end_of_lease(0.5) == now + 500
    world.clock.now_ns += 1
    assert store.time.now_ms() == now + 1
    assert store.time.end_of_lease(0.0001) == now + 2


def test_who_can_not_compare_clocks_knows_no_time(world):
    class Stampless(FileSystem):
        def birth_ns(self, path):
            raise OSError(errno.EDQUOT, "full", path)

        def touched_ns(self, path):
            raise OSError(errno.EIO, "failed", path)

    time = store_of(world, Stampless()).time
    assert not time.is_known()
    with pytest.raises(ClockUnknown, match=r"can't be compared .*\(full\)") as caught:
        time.now_ns()
    assert caught.value.filename == f"{world.path}/tmp"


def test_a_directory_is_touched_where_no_file_can_be_made_to_learn_the_time(world):
    class Full(FileSystem):
        def birth_ns(self, path):
            raise OSError(errno.ENOSPC, "full", path)

    assert store_of(world, Full()).time.is_known()


@pytest.mark.parametrize("how", ["made anew", "changed"])
def test_a_client_that_runs_learns_that_a_group_shares_the_queue_by_now(
    broker, root, clock, how, umask
):
    """Else its buckets would be closed to the others, who could take nothing from them."""
    umask(0o077)
    broker.publish("q", "x")
    queue = root / "q"
    if how == "made anew":
        other = Broker(root)
        other.delete_queue("q")
        other.create_queue("q", mode=0o2770)
    else:
        for path in (queue, *queue.rglob("*")):
            path.chmod(0o2770 if path.is_dir() else 0o660)
    clock.advance(2)
    broker.publish("q", "y", priority=5)
    broker.publish_many("q", list("abcdefghijklm"), priority=6)
    made = [path.lstat() for path in queue.rglob("*")]
    assert {each.st_mode & 0o7770 for each in made} == {0o2770, 0o660}
