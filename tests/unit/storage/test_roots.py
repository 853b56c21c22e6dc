"""Roots and queues: made, listed and deleted."""

from __future__ import annotations

import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from support import Crash, crashing_before

from ddmq import (
    Broker,
    DdmqError,
    InvalidArgument,
    InvalidSettings,
    LockTimeout,
    QueueNotFound,
    RootNotFound,
    StorageError,
)
from ddmq.settings import LAYOUT_LINE
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.locks import exclusive

DIRECTORIES = {"tmp", "ready", "bundles", "work", "delayed", "dead", "drop"}


def modes(paths):
    return {stat.S_IMODE(path.stat().st_mode) for path in paths}


# Roots


def test_a_missing_root_asks_for_create(root):
    with pytest.raises(RootNotFound) as caught:
        Broker(root)
    assert str(root) in str(caught.value)
    assert "-f" in str(caught.value)
    assert "create=True" in str(caught.value)
    assert not root.exists()


def test_a_directory_that_nobody_initiated_is_no_root(root):
    root.mkdir()
    with pytest.raises(RootNotFound, match="-f"):
        Broker(root)
    assert list(root.iterdir()) == []


def test_create_makes_what_is_missing_and_keeps_what_is_there(root):
    Broker(root / "deep", create=True).update_settings(priority=7)
    assert Broker(root / "deep", create=True).settings().priority == 7


def test_a_root_can_be_named_in_any_way(root, monkeypatch):
    Broker(root, create=True).create_queue("q")
    monkeypatch.chdir(root.parent)
    for name in (root, str(root), "mq", "./mq/", f"{root}/../mq"):
        client = Broker(name)
        assert client.root == str(root)
        assert client.queues() == ["q"]


def test_a_root_stays_the_same_when_the_process_changes_its_directory(
    root, monkeypatch
):
    monkeypatch.chdir(root.parent)
    client = Broker("mq", create=True)
    monkeypatch.chdir("/")
    client.create_queue("q")
    assert (root / "q").is_dir()


@pytest.mark.parametrize("name", ["", "a\0b", b"bytes", None, 5])
def test_what_is_no_path_is_no_root(name):
    with pytest.raises(InvalidArgument):
        Broker(name)


def test_a_file_in_place_of_the_root_is_said_to_be_in_the_way(root):
    root.write_text("x")
    for create in (False, True):
        with pytest.raises(DdmqError, match=str(root)):
            Broker(root, create=create)
    assert root.read_text() == "x"


@pytest.mark.parametrize("clean", [True, False])
def test_a_root_that_was_moved_is_missed_a_second_later(root, clock, clean):
    broker = Broker(root, create=True, clock=clock, clean=clean)
    broker.publish("q", "x")
    root.rename(root.parent / "elsewhere")
    clock.advance(1.1)
    with pytest.raises(RootNotFound, match="-f"):
        broker.publish("q", "x")
    with pytest.raises(RootNotFound, match="-f"):
        broker.queues()


# Queues


def test_a_new_queue_is_made_once(broker, root):
    assert broker.create_queue("new") is True
    assert broker.create_queue("new") is False
    assert {path.name for path in (root / "new").iterdir()} >= DIRECTORIES


def test_queues_are_listed_by_name(broker, root):
    for name in ("b", "a", "10", "9"):
        broker.create_queue(name)
    (root / "no-queue").mkdir()
    (root / "file").touch()
    (root / ".hidden").mkdir()
    (root / "link").symlink_to("q")
    assert broker.queues() == ["10", "9", "a", "b", "q"]


def test_a_queue_that_does_not_exist_asks_for_create(broker, root):
    with pytest.raises(QueueNotFound) as caught:
        broker.publish("other", "x")
    assert f"{root}/other" in str(caught.value)
    assert f"`ddmq create -f {root} other`" in str(caught.value)
    assert not (root / "other").exists()


def test_with_create_a_queue_is_made_where_it_is_named(root):
    client = Broker(root, create=True)
    client.publish("q", "x")
    client.publish_many("many", ["x"])
    assert client.queues() == ["many", "q"]


@pytest.mark.parametrize(
    "use",
    [
        lambda client: client.view("typo"),
        lambda client: client.consume("typo"),
        lambda client: client.dead("typo"),
        lambda client: client.settings("typo"),
        lambda client: client.update_settings("typo", priority=1),
        lambda client: client.is_empty("typo"),
        lambda client: client.clean("typo"),
    ],
)
def test_with_create_no_queue_is_made_by_who_publishes_nothing(root, use):
    client = Broker(root, create=True)
    with pytest.raises(QueueNotFound):
        use(client)
    assert client.queues() == []


def test_a_queue_that_is_much_like_another_is_asked_for(broker):
    broker.create_queue("thumbnails")
    with pytest.raises(QueueNotFound, match=r"; did you mean thumbnails\?"):
        broker.view("thumbnail")
    with pytest.raises(
        QueueNotFound,
        match=r"no such queue; queues here: q, thumbnails; create it with",
    ):
        broker.view("else")
    with pytest.raises(QueueNotFound, match="did you mean thumbnails"):
        broker.delete_queue("thumbnail")


@pytest.mark.parametrize("create", [True, False])
def test_a_queue_is_no_root(broker, root, create):
    before = sorted(root.rglob("*"))
    with pytest.raises(RootNotFound, match=f"the root is {root}, and the queue q"):
        Broker(root / "q", create=create)
    assert sorted(root.rglob("*")) == before


def test_a_root_whose_settings_name_a_layout_is_no_queue(root):
    Broker(root, create=True)
    (root / "ddmq.yaml").write_text(LAYOUT_LINE)
    with pytest.raises(InvalidSettings, match="layout is no setting"):
        Broker(root)


def test_with_create_a_queue_that_others_deleted_is_made_again(broker, root):
    other = Broker(root, create=True)
    other.publish("q", "old")
    broker.delete_queue("q")
    with pytest.raises(QueueNotFound):
        other.publish("q", "lost")
    other.publish("q", "new")
    assert [message.message for message in other.consume("q", 9)] == ["new"]


def test_a_queue_left_half_made_is_finished(broker, root):
    (root / "half").mkdir()
    (root / "half" / "tmp").mkdir()
    with pytest.raises(QueueNotFound):
        broker.publish("half", "x")
    assert broker.create_queue("half") is True
    broker.publish("half", "x")


@pytest.mark.parametrize("name", ["../evil", "a/b", ".", "", "a\0", "x" * 201, "lock"])
def test_nothing_is_made_for_a_bad_name(broker, root, name):
    before = sorted(root.parent.rglob("*"))
    for use in (broker.create_queue, broker.delete_queue, broker.consume, broker.view):
        with pytest.raises(InvalidArgument):
            use(name)
    assert sorted(root.parent.rglob("*")) == before


def test_a_link_in_place_of_a_queue_is_refused(broker, root, tmp_path):
    (tmp_path / "outside").mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(DdmqError):
        broker.create_queue("link")
    with pytest.raises(DdmqError):
        Broker(root, create=True).publish("link", "x")
    with pytest.raises(QueueNotFound):
        broker.delete_queue("link")
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_link_to_another_queue_is_refused(broker, root):
    (root / "link").symlink_to("q")
    with pytest.raises(QueueNotFound):
        broker.consume("link")
    with pytest.raises(QueueNotFound):
        broker.delete_queue("link")
    assert broker.queues() == ["q"]


@pytest.mark.parametrize("part", sorted(DIRECTORIES))
def test_a_link_inside_a_queue_is_refused(broker, root, tmp_path, part):
    (root / "q" / part).rmdir()
    (tmp_path / "outside").mkdir()
    (root / "q" / part).symlink_to(tmp_path / "outside")
    with pytest.raises(StorageError) as caught:
        broker.publish("q", "x")
    assert f"{root}/q/{part}" in str(caught.value)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_deleted_queue_is_gone_with_all_its_files(broker, root):
    broker.publish("q", "x")
    broker.delete_queue("q")
    assert broker.queues() == []
    assert {path.name for path in root.iterdir()} <= {"ddmq.yaml", "lock"}


@pytest.mark.parametrize("part", ["then", "workers", "keys", "dead"])
def test_a_queue_with_a_file_in_place_of_a_directory_can_be_deleted(broker, root, part):
    with suppress(FileNotFoundError):
        (root / "q" / part).rmdir()
    (root / "q" / part).touch()
    broker.delete_queue("q")
    assert sorted(path.name for path in root.iterdir()) == ["ddmq.yaml", "lock"]


def test_of_two_that_delete_the_second_is_told(broker, root):
    other = Broker(root)
    broker.delete_queue("q")
    with pytest.raises(QueueNotFound):
        other.delete_queue("q")


def test_what_a_crashed_delete_left_is_removed_by_the_next_administrator(broker, root):
    left = root / ".deleted-0123"
    (left / "ready").mkdir(parents=True)
    broker.create_queue("new")
    assert not left.exists()


def test_others_are_told_in_one_line_that_a_queue_is_gone(broker, root):
    other = Broker(root)
    other.publish("q", "x")
    broker.delete_queue("q")
    uses = (
        lambda: other.publish("q", "x"),
        lambda: other.consume("q"),
        lambda: other.view("q"),
        lambda: other.clean("q"),
        lambda: other.purge("q"),
        lambda: other.dead("q"),
    )
    for use in uses:
        other.create_queue("q")
        other.publish("q", "x")
        broker.delete_queue("q")
        with pytest.raises(QueueNotFound) as caught:
            use()
        assert "\n" not in str(caught.value)


def test_a_queue_made_again_is_used_again(broker, root):
    other = Broker(root)
    other.publish("q", "old")
    broker.delete_queue("q")
    with pytest.raises(QueueNotFound):
        other.publish("q", "x")
    broker.create_queue("q")
    other.publish("q", "new")
    assert [message.message for message in broker.consume("q", 9)] == ["new"]


def test_many_that_create_and_delete_get_a_result_or_an_explanation(broker, root):
    def work(number):
        client = Broker(root)
        told = []
        for _ in range(10):
            try:
                client.create_queue("busy")
                client.delete_queue("busy")
            except QueueNotFound as error:
                told.append(error)
        return told

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert broker.queues() == ["q"]


def test_administration_waits_for_others_only_so_long(broker, root):
    broker.update_settings(lock_timeout=0.01)
    with exclusive(f"{root}/lock", 0):
        for use in (broker.create_queue, broker.delete_queue):
            with pytest.raises(LockTimeout, match="lock_timeout"):
                use("new")
    assert broker.queues() == ["q"]


# Modes


def test_without_a_mode_the_umask_decides(root, umask):
    umask(0o027)
    client = Broker(root, create=True)
    client.create_queue("q")
    client.publish("q", "x")
    paths = list(root.rglob("*"))
    assert modes(p for p in paths if p.is_dir()) == {0o750}
    messages = [p for p in (root / "q" / "ready").rglob("*") if p.is_file()]
    assert modes(messages) == {0o640}


def test_a_group_can_use_everything_in_its_queue(root, umask, aged):
    umask(0o077)
    client = Broker(root, create=True)
    client.create_queue("q", mode=0o2770)
    client = Broker(root)
    client.update_settings("q", requeue_limit=0)
    for _ in range(2):
        client.publish("q", "x")
    client.nack(client.consume("q"), reason="bad")
    client.clean("q")
    paths = [root / "q", *(root / "q").rglob("*")]
    assert modes(p for p in paths if p.is_dir()) == {0o2770}
    assert modes(p for p in paths if p.is_file()) == {0o660}


def test_a_group_can_use_the_bundles_in_its_queue(root, umask):
    umask(0o077)
    Broker(root, create=True).create_queue("q", mode=0o2770)
    for number, size in ((12, 1000), (12, 5)):
        client = Broker(root, bundle_size=size)
        client.publish_many("q", list("x" * number))
        client.consume("q", 3)
        paths = [root / "q", *(root / "q").rglob("*")]
        assert modes(p for p in paths if p.is_dir()) == {0o2770}
        assert modes(p for p in paths if p.is_file()) == {0o660}


def test_a_queue_that_was_not_made_for_a_group_leaves_modes_to_the_umask(root, umask):
    umask(0o002)
    Broker(root, create=True).create_queue("q")
    umask(0o077)
    Broker(root, clean=False).publish("q", "x")
    messages = [p for p in (root / "q" / "ready").rglob("*") if p.is_file()]
    assert modes(messages) == {0o600}


def test_a_group_can_use_a_root_of_its_own(root, umask):
    umask(0o077)
    Broker(root, create=True, mode=0o2770)
    assert modes([root]) == {0o2770}
    assert modes([root / "ddmq.yaml"]) == {0o660}


def test_a_crash_leaves_no_root_that_lacks_its_mode(root, umask):
    umask(0o077)
    for number in range(100):
        made = False
        with suppress(Crash):
            Broker(
                root, create=True, mode=0o2770, fs=FileSystem(crashing_before(number))
            )
            made = True
        if root.exists():
            assert modes([root]) == {0o2770}
        Broker(root, create=True, mode=0o2770)
        assert modes([root]) == {0o2770}
        if made:
            return
        shutil.rmtree(root)
    raise AssertionError("it was never made whole")


def test_an_error_names_the_root_and_no_draft():
    with pytest.raises(RootNotFound, match=r"made: /proc/mq: "):
        Broker("/proc/mq", create=True, mode=0o700)


@pytest.mark.parametrize("mode", [0, 0o077, 0o600, 0o70, 0o10777, -1])
def test_a_mode_that_shuts_its_owner_out_is_refused(broker, mode):
    with pytest.raises(InvalidArgument, match="2770"):
        broker.create_queue("new", mode=mode)
    assert broker.queues() == ["q"]
