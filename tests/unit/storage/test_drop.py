"""Files that any program leaves in `drop/`, and what becomes of them."""

from __future__ import annotations

import errno
import os

import pytest
from protocol.scenes import QUEUE
from unit.scenes import names, view

from ddmq import Broker, Counts
from ddmq.storage.filesystem import FileSystem


def test_a_dropped_file_becomes_a_message_once(broker, other, drop, root):
    drop("any name.txt", b"hello\n")
    (message,) = broker.consume("q")
    assert (message.message, message.priority) == ("hello", 999)
    assert message.id.startswith("drop-")
    assert names(root, "drop") == []
    assert other.consume("q") == []


def test_a_dropped_message_object_keeps_what_it_sets(broker, drop):
    drop("a", b'{"message": [1], "priority": 0, "timeout": 5}')
    (message,) = broker.consume("q")
    assert (message.message, message.priority, message.timeout) == ([1], 0, 5)


def test_a_file_that_may_still_be_written_is_left_alone(broker, clock, drop, root):
    drop("a", b"hal", age=5)
    assert broker.clean("q").adopted == 0
    clock.advance(6)
    assert broker.clean("q").adopted == 1


def test_a_file_of_which_a_client_remembers_an_older_state_is_left_alone(
    root, broker, clock, drop
):
    class Remembering(FileSystem):
        def status(self, path):
            found = super().status(path)
            return found._replace(modified_ns=0) if "/drop/" in path else found

    drop("a", b"hello", age=1)
    client = Broker(root, clock=clock, fs=Remembering(), clean=False)
    assert client.clean("q").adopted == 0
    assert names(root, "drop") == ["a"]


def test_dropped_files_are_adopted_in_the_order_of_their_names(broker, drop):
    for name in ("b", "a", "c"):
        drop(name, name.encode())
    assert [m.message for m in broker.consume("q", 3)] == ["a", "b", "c"]


def test_hidden_files_in_the_drop_are_not_finished(broker, drop):
    drop(".a.Xy7", b"half")
    assert broker.clean("q").adopted == 0


def test_what_is_no_file_in_the_drop_is_quarantined(broker, drop, root, tmp_path):
    (root / "q" / "drop" / "dir").mkdir()
    (tmp_path / "secret").write_text("secret")
    (root / "q" / "drop" / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(root / "q" / "drop" / "pipe")
    for name in ("dir", "link", "pipe"):
        path = root / "q" / "drop" / name
        os.utime(path, (1, 1), follow_symlinks=False)
    drop("z", b"good")
    assert [m.message for m in broker.consume("q", 9)] == ["good"]
    dead = broker.dead("q")
    assert [d.message for d in dead] == [None, None, None]
    assert sorted(d.reason[-9:] for d in dead) == [
        " drop/dir",
        "drop/link",
        "drop/pipe",
    ]


def test_a_directory_that_was_just_dropped_is_left_alone(world, publisher):
    os.mkdir(f"{world.path}/drop/new")
    now = world.clock.time_ns()
    os.utime(f"{world.path}/drop/new", ns=(now, now))
    publisher.clean(QUEUE)
    assert os.listdir(f"{world.path}/drop") == ["new"]
    world.clock.advance(11)
    publisher.clean(QUEUE)
    assert view(world) == Counts(0, 0, 0, 1)


def test_a_dropped_file_that_is_no_text_is_a_dead_letter_with_the_reason(broker, drop):
    drop("a", b"\xff\xfe")
    drop("b", b"good")
    assert [m.message for m in broker.consume("q", 2)] == ["good"]
    (dead,) = broker.dead("q")
    assert "not UTF-8" in dead.reason


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_a_dropped_file_that_can_not_be_read_does_not_stop_the_others(
    broker, root, clock, drop, refusing, code
):
    drop("a", b"unreadable")
    drop("b", b"good")
    client = Broker(root, clock=clock, fs=refusing("open", code, "drop/a"))
    client.consume("q")
    assert "b" not in names(root, "drop")


def test_a_dropped_file_that_has_another_name_is_quarantined_unread(
    broker, drop, root, tmp_path
):
    os.link(drop("a", b"secret"), tmp_path / "elsewhere")
    assert broker.consume("q") == []
    (dead,) = broker.dead("q")
    assert dead.message is None
    assert dead.reason.endswith(" drop/a")


def test_a_dropped_file_over_the_limit_is_a_dead_letter_with_the_reason(broker, drop):
    broker.update_settings("q", max_message_size=1024)
    drop("a", b"x" * 2000)
    assert broker.clean("q").adopted == 0
    (dead,) = broker.dead("q")
    assert "over 1024 bytes" in dead.reason
