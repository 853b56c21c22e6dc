"""What a check refuses before it begins, and what the client that answers does."""

from __future__ import annotations

import os

import pytest

from ddmq.diagnose.check.channel import Silence
from ddmq.diagnose.check.rendezvous import PREFIX, make_private
from ddmq.diagnose.check.session import Place, _remove_old, check
from ddmq.errors import DdmqError, InvalidArgument
from ddmq.storage.filesystem import FileSystem


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """A directory to check, in which a check leaves nothing."""
    path, records = tmp_path / "scratch", tmp_path / "temporary"
    path.mkdir()
    records.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(records))
    yield path
    assert list(path.iterdir()) == list(records.iterdir()) == []


def checked(place, clients=None, environ=None):
    return check(place, environ or {}, clients, lambda _: None)


def test_the_other_client_answers_until_that_is_all(channel):
    assert channel.ask("offset") == 0.0
    assert channel.ask("mounted") is not None
    with pytest.raises(Silence, match="there was no storm"):
        channel.ask("record")


def test_what_the_other_client_can_not_do_is_told(channel):
    with pytest.raises(Silence, match="the other client failed"):
        channel.ask("try_lock")  # there is no file to lock


def test_what_is_no_directory_is_refused(tmp_path):
    with pytest.raises(InvalidArgument, match="no directory"):
        checked(Place(str(tmp_path / "none")))


def test_two_directories_that_are_not_one_are_refused(directory, tmp_path):
    (tmp_path / "other").mkdir()
    place = Place(str(directory), str(tmp_path / "other"), patience=0.2)
    with pytest.raises(DdmqError, match="two mounts of one file system"):
        checked(place)


def test_clients_on_several_nodes_check_one_directory(directory, tmp_path):
    (tmp_path / "other").mkdir()
    place = Place(str(directory), str(tmp_path / "other"))
    with pytest.raises(InvalidArgument, match="name one directory"):
        checked(place, clients=2)


@pytest.mark.parametrize(("age", "stays"), [(86000, True), (87000, False)])
def test_what_a_check_left_that_was_killed_is_removed_a_day_later(tmp_path, age, stays):
    left = tmp_path / f"{PREFIX}x"
    left.mkdir()
    stamp = left.stat().st_mtime - age
    os.utime(left, (stamp, stamp))
    with pytest.raises(InvalidArgument):  # as soon as that is done
        checked(Place(str(tmp_path), str(tmp_path)), clients=2)
    assert left.exists() is stays


def _aged(path):
    os.utime(path, (1, 1))


def test_what_was_given_the_name_of_a_check_stays(tmp_path):
    mine = tmp_path / f"{PREFIX}x"  # what a neighbour who may write there called it
    (mine / "talk").mkdir(parents=True)
    (mine / "results").write_text("mine")
    (tmp_path / f"{PREFIX}file").write_text("mine")
    (tmp_path / f"{PREFIX}link").symlink_to(mine)
    for path in (mine, tmp_path / f"{PREFIX}file"):
        _aged(path)
    with pytest.raises(InvalidArgument):
        checked(Place(str(tmp_path), str(tmp_path)), clients=2)
    assert (mine / "results").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 3


def test_all_of_a_check_is_removed_and_one_that_goes_just_then_is_no_trouble(tmp_path):
    left = tmp_path / f"{PREFIX}x"
    make_private(str(left), FileSystem())
    (left / "mq" / "q").mkdir(parents=True)
    (left / "mq" / "q" / "file").write_text("x")
    _aged(left)
    names = [f"{PREFIX}gone", left.name, "other"]
    _remove_old(str(tmp_path), names, PREFIX)
    assert list(tmp_path.iterdir()) == []
