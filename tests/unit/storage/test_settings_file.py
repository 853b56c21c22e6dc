"""`ddmq.yaml` in a root and its queues: read by clients that run, changed by one."""

from __future__ import annotations

import errno
import logging
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from ddmq import (
    Broker,
    InvalidArgument,
    InvalidSettings,
    LockTimeout,
    QueueNotFound,
    StorageError,
    UnknownLayout,
    __version__,
)
from ddmq.settings import LAYOUT_LINE
from ddmq.storage.locks import exclusive

MINUTE = 60


@pytest.fixture
def queue_file(broker, root):
    return root / "q" / "ddmq.yaml"


@pytest.fixture
def root_file(broker, root):
    return root / "ddmq.yaml"


def write(file, text):
    """Write a file anew, but for the layout of a queue."""
    layout = [x for x in file.read_text().split("\n") if x.startswith("layout:")]
    file.write_text("\n".join([*layout, text]))


def published_priority(broker):
    broker.publish("q", "x")
    (message,) = broker.consume("q")
    broker.ack(message)
    return message.priority


def test_the_queues_file_has_the_last_word_over_the_roots(
    broker, root_file, queue_file
):
    write(root_file, "priority: 5\nrequeue_limit: 7\n")
    write(queue_file, "priority: 6\n")
    assert broker.settings("q")[1:5] == (6, True, 0, 7)
    assert broker.settings().priority == 5


@pytest.mark.parametrize("which", ["root_file", "queue_file"])
def test_a_file_edited_by_hand_takes_effect_within_a_minute(
    broker, clock, request, which
):
    file = request.getfixturevalue(which)
    assert published_priority(broker) == 999
    write(file, "priority: 7\n")
    clock.advance(MINUTE)
    assert published_priority(broker) == 7


def test_a_file_is_not_read_for_every_message(broker, queue_file):
    assert published_priority(broker) == 999
    write(queue_file, "priority: 7\n")
    assert published_priority(broker) == 999


def test_an_edit_that_leaves_size_and_time_alone_is_noticed(broker, clock, queue_file):
    write(queue_file, "priority: 7\n")
    os.utime(queue_file, (1, 1))
    clock.advance(MINUTE)
    assert published_priority(broker) == 7
    write(queue_file, "priority: 8\n")
    os.utime(queue_file, (1, 1))
    clock.advance(MINUTE)
    assert published_priority(broker) == 8


def test_an_edit_that_is_invalid_leaves_the_last_good_settings_in_force(
    broker, clock, queue_file, caplog
):
    write(queue_file, "priority: 7\n")
    clock.advance(MINUTE)
    assert published_priority(broker) == 7
    write(queue_file, "priority: high\n")
    clock.advance(MINUTE)
    with caplog.at_level(logging.WARNING, "ddmq"):
        assert published_priority(broker) == 7
    assert f"{queue_file}: priority is 'high'" in caplog.text
    write(queue_file, "priority: 8\n")
    clock.advance(MINUTE)
    assert published_priority(broker) == 8


def test_a_client_that_starts_with_an_invalid_file_says_so(broker, root, queue_file):
    write(queue_file, "colour: red\n")
    with pytest.raises(InvalidSettings) as caught:
        Broker(root).publish("q", "x")
    assert f"{queue_file}: unknown key 'colour'" in str(caught.value)
    assert list((root / "q" / "tmp").iterdir()) == []


def test_a_root_whose_file_is_invalid_is_not_opened(root, root_file):
    root_file.write_bytes(b"\xff")
    with pytest.raises(InvalidSettings, match="not UTF-8"):
        Broker(root)


def test_an_update_takes_effect_at_once_and_is_told(broker, root):
    assert broker.update_settings("q", priority=7).priority == 7
    assert published_priority(broker) == 7
    assert Broker(root).settings("q").priority == 7


def test_an_update_of_the_root_holds_for_its_queues(broker):
    assert broker.update_settings(priority=7).priority == 7
    assert broker.settings("q").priority == 7
    broker.create_queue("later")
    assert broker.settings("later").priority == 7


def test_an_update_keeps_what_others_wrote(broker, queue_file):
    write(queue_file, "# ours\nrequeue: false # really\n")
    broker.update_settings("q", priority=7)
    assert queue_file.read_text() == (
        f"{LAYOUT_LINE}\n# ours\nrequeue: false # really\npriority: 7\n"
    )


def test_what_is_unset_has_its_default_again(broker):
    broker.update_settings(priority=5)
    broker.update_settings("q", priority=7, requeue=False)
    settings = broker.update_settings("q", unset=["priority"], durable=False)
    assert (settings.priority, settings.requeue, settings.durable) == (5, False, False)


def test_none_is_a_limit_like_any_other(broker):
    broker.update_settings(requeue_limit=3)
    assert broker.update_settings("q", requeue_limit=None).requeue_limit is None


def test_an_update_that_is_wrong_in_one_key_changes_nothing(broker, queue_file):
    before = queue_file.read_bytes()
    for changes in ({"priority": 1, "colour": 2}, {"priority": -1, "durable": False}):
        with pytest.raises(InvalidSettings, match=r"colour|priority is -1"):
            broker.update_settings("q", **changes)
    assert queue_file.read_bytes() == before


def test_a_broken_file_is_named_by_whoever_would_update_it(broker, queue_file):
    published_priority(broker)
    troubles = b"colour: red\n", b"priority: \xff\n", b"#" * 70_000
    for data in (
        b"priority: 5\n",
        *(LAYOUT_LINE.encode() + b"\n" + t for t in troubles),
    ):
        queue_file.write_bytes(data)
        with pytest.raises(InvalidSettings) as caught:
            broker.update_settings("q", priority=1)
        assert str(queue_file) in str(caught.value)
        assert queue_file.read_bytes() == data


def test_an_update_keeps_the_mode_of_the_file(broker, queue_file):
    queue_file.chmod(0o664)
    broker.update_settings("q", priority=7)
    assert stat.S_IMODE(queue_file.stat().st_mode) == 0o664


def test_an_update_makes_no_file_that_can_be_run(broker, queue_file):
    """A member may have put his own in its place, and the new one is of whoever updates it."""
    queue_file.chmod(0o6775)
    broker.update_settings("q", priority=5)
    assert stat.S_IMODE(queue_file.stat().st_mode) == 0o664


@pytest.mark.parametrize("call", ["write", "fsync", "close", "rename"])
def test_an_update_that_fails_changes_nothing_and_leaves_nothing(
    broker, root, refusing, call
):
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    fs = refusing(call, errno.ENOSPC, "" if call != "rename" else "ddmq.yaml")
    if call == "close":
        fs = refusing(call, errno.ENOSPC, times=1, done=True)
    with pytest.raises(StorageError, match="free some space"):
        Broker(root, fs=fs).update_settings(priority=7)
    after = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert {**before, root / "lock": b""} == {**after, root / "lock": b""}


def test_many_updates_at_once_lose_none(broker, root):
    keys = ["message_timeout", "priority", "requeue_prio", "requeue_limit"]

    def update(key):
        client = Broker(root)
        for value in range(1, 11):
            client.update_settings("q", **{key: value})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(update, keys))
    assert [getattr(broker.settings("q"), key) for key in keys] == [10, 10, 10, 10]


def test_a_reader_never_meets_half_of_an_update(broker, root, queue_file):
    write(queue_file, "# " + "x" * 5000 + "\npriority: 0\nrequeue_prio: 0\n")

    def update(_):
        for value in range(1, 30):
            broker.update_settings("q", priority=value, requeue_prio=value)

    def read(_):
        client = Broker(root)
        found = [client.settings("q") for _ in range(100)]
        return all(s.priority == s.requeue_prio for s in found)

    with ThreadPoolExecutor(3) as pool:
        updated, *reads = pool.map(lambda f: f(None), [update, read, read])
    assert updated is None
    assert all(reads)


@pytest.mark.parametrize("queue", [None, "q"])
def test_an_update_that_can_not_have_the_lock_says_so(broker, root, queue):
    broker.update_settings(lock_timeout=0.01)
    directory = root if queue is None else root / queue
    with exclusive(f"{directory}/lock", 0), pytest.raises(LockTimeout, match="lock"):
        broker.update_settings(queue, priority=7)
    assert broker.settings(queue).priority == 999


def test_a_link_in_place_of_the_file_is_not_followed(
    broker, root, queue_file, tmp_path
):
    (tmp_path / "elsewhere.yaml").write_text("priority: 7\n")
    queue_file.unlink()
    queue_file.symlink_to(tmp_path / "elsewhere.yaml")
    with pytest.raises(Exception, match="symbolic link"):
        Broker(root).settings("q")


# The layout

LATER = "layout: 3 (ddmq 1.4.0)"


def relaid(file, line):
    """Let a file name its layout by another line."""
    file.write_text(file.read_text().replace(LAYOUT_LINE, line, 1))


def everything(root):
    """Return all files with their content, but for the locks."""
    files = (path for path in root.rglob("*") if path.name != "lock")
    return {path: path.is_file() and path.read_bytes() for path in files}


def test_a_queue_names_its_layout_and_a_root_hands_none_on(
    broker, queue_file, root_file
):
    assert queue_file.read_text().split("\n").count(LAYOUT_LINE) == 1
    assert "layout" not in root_file.read_text()
    root_file.write_text(LAYOUT_LINE)
    queue_file.write_text("priority: 7\n")
    with pytest.raises(InvalidSettings, match=f"{root_file}: layout is no setting"):
        Broker(root_file.parent)
    root_file.write_text("")
    with pytest.raises(InvalidSettings, match=f"{queue_file}: it has no line"):
        Broker(root_file.parent).view("q")


USES = {
    "view": lambda broker: broker.view("q"),
    "publish": lambda broker: broker.publish("q", "x"),
    "publish many": lambda broker: broker.publish_many("q", range(100)),
    "consume": lambda broker: broker.consume("q"),
    "leased": lambda broker: broker.leased("q", "0" * 20),
    "clean": lambda broker: broker.clean("q"),
    "purge": lambda broker: broker.purge("q"),
    "dead": lambda broker: broker.dead("q"),
    "redrive": lambda broker: broker.redrive("q"),
    "wait": lambda broker: broker.wait("q", 0),
    "settings": lambda broker: broker.settings("q"),
    "update": lambda broker: broker.update_settings("q", priority=7),
    "create": lambda broker: broker.create_queue("q"),
    "delete": lambda broker: broker.delete_queue("q"),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_queue_of_a_later_layout_is_refused_and_left_as_it_is(
    broker, root, queue_file, use
):
    relaid(queue_file, f"{LATER}\nnew_setting: 1")
    (root / "q" / "ready" / "named-as-nobody-knows-yet").touch()
    (root / "q" / "drop").rmdir()
    before = everything(root)
    with pytest.raises(UnknownLayout) as caught:
        use(Broker(root, create=True))
    assert str(caught.value) == (
        f"{queue_file}: layout 3 needs ddmq 1.4.0 or newer, and this is ddmq {__version__}, "
        "which knows layout 2 only; nothing was done: use a newer one"
    )
    assert caught.value.number == 3
    assert everything(root) == before


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_client_that_runs_notices_another_layout_within_minutes(
    broker, root, queue_file, clock, use
):
    broker.publish("q", "x")
    (held,) = broker.consume("q")
    (root / "q" / "work" / "named-as-nobody-knows-yet").touch()
    relaid(queue_file, LATER)
    clock.advance(5 * MINUTE)
    before = everything(root)
    for _ in range(2):  # no better state is remembered
        with pytest.raises(UnknownLayout):
            use(broker)
    assert everything(root) == before
    broker.release(held)  # what it holds, it can still give back
    queue_file.write_text(queue_file.read_text().replace(LATER, LAYOUT_LINE))
    assert [message.message for message in broker.consume("q")] == ["x"]


@pytest.mark.parametrize("use", ["publish", "publish many", "consume"])
def test_another_layout_is_noticed_sooner_by_who_publishes_or_consumes(
    broker, queue_file, clock, use
):
    broker.publish("q", "x")
    relaid(queue_file, LATER)
    clock.advance(MINUTE)
    with pytest.raises(UnknownLayout):
        USES[use](broker)


@pytest.mark.parametrize("look", ["view", "consume"])
@pytest.mark.parametrize("use", ["publish", "publish many"])
def test_that_is_as_soon_if_the_same_client_looked_just_before(
    broker, queue_file, clock, use, look
):
    broker.view("q")
    relaid(queue_file, LATER)
    clock.advance(MINUTE)
    getattr(broker, look)("q")  # who looks believes for longer that nothing has changed
    with pytest.raises(UnknownLayout):
        USES[use](broker)


def test_an_invalid_root_hides_no_other_layout(broker, root_file, queue_file, clock):
    broker.publish("q", "x")
    write(root_file, "colour: red\n")
    relaid(queue_file, LATER)
    clock.advance(MINUTE)
    with pytest.raises(UnknownLayout):
        broker.consume("q")


def test_other_queues_are_shown_beside_one_of_a_later_layout(
    broker, queue_file, caplog
):
    broker.create_queue("known")
    relaid(queue_file, LATER)
    assert list(broker.view()) == ["known"]
    assert "layout 3 needs ddmq 1.4.0" in caplog.text
    assert list(broker.clean_all()) == ["known"]
    assert broker.queues() == ["known", "q"]


def test_a_layout_that_an_edit_lost_stops_only_those_who_start(
    broker, root, clock, queue_file, caplog
):
    assert published_priority(broker) == 999
    queue_file.write_text("priority: 7\n")
    clock.advance(MINUTE)
    assert published_priority(broker) == 999
    assert f"{queue_file}: it has no line `{LAYOUT_LINE}`" in caplog.text
    for use in (Broker(root).consume, broker.create_queue):
        with pytest.raises(InvalidSettings, match="put it back"):
            use("q")


def test_a_queue_whose_layout_is_lost_can_be_deleted(broker, queue_file):
    queue_file.write_text("priority: 7\n")
    broker.delete_queue("q")
    with pytest.raises(QueueNotFound):
        broker.view("q")


@pytest.mark.parametrize("queue", [None, "q"])
def test_no_update_sets_or_drops_a_layout(broker, root, queue):
    before = everything(root)
    with pytest.raises(InvalidSettings, match="layout is no setting"):
        broker.update_settings(queue, layout=2)
    with pytest.raises(InvalidArgument, match="unknown setting 'layout'"):
        broker.update_settings(queue, unset=["layout"])
    assert everything(root) == before
