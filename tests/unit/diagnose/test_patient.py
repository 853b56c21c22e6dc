"""What a patient shows of its queue, whatever is broken in it."""

from __future__ import annotations

import os
import stat

import pytest

from ddmq.diagnose.patient import BUCKET, PRIORITY, SHELF, LenientFileSystem
from ddmq.storage.delayed import Delayed
from ddmq.storage.names import Entry, Lease, new_id


def test_what_can_not_be_listed_looks_empty(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    fs = LenientFileSystem()
    for name in ("none", "file", "link"):
        assert fs.listing(f"{tmp_path}/{name}") == []


def test_a_directory_is_listed_in_order(tmp_path):
    for name in "cab":
        (tmp_path / name).touch()
    assert LenientFileSystem().listing(str(tmp_path)) == ["a", "b", "c"]


def test_ready_directories_come_in_order_each_after_the_one_that_it_is_in(patient):
    shelf = f"{patient.ready}/5/1700000000000000001.shelf"
    os.makedirs(f"{shelf}/1700000000000000001")
    os.makedirs(f"{patient.ready}/5/1700000000000000000/message")
    found = list(patient.ready_directories())
    assert [(each.kind, each.path) for each in found] == [
        (PRIORITY, f"{patient.ready}/5"),
        (BUCKET, f"{patient.ready}/5/1700000000000000000"),
        (SHELF, shelf),
        (BUCKET, f"{shelf}/1700000000000000001"),
    ]
    assert found[1].names == ["message"]


def test_one_broken_directory_hides_no_other(patient):
    os.makedirs(f"{patient.ready}/5")
    for name in ("1700000000000000000", "1700000000000000001.shelf"):
        open(f"{patient.ready}/5/{name}", "w").close()
    os.makedirs(f"{patient.ready}/7/1700000000000000000")
    os.rmdir(patient.work)
    assert patient.leases() == []
    assert {each.priority for each in patient.ready_directories()} == {5, 7}


def test_delayed_messages_come_with_the_first_due_first(patient):
    entries = [Entry(1, 1_700_000_000_000_000_000, new_id()) for _ in range(2)]
    for entry, due in zip(entries, (1_700_000_002_000, 1_700_000_001_000)):
        open(f"{patient.delayed}/{Delayed(entry, due).filename}", "w").close()
    due = [delayed.due for delayed in patient.delayed_messages()]
    assert due == [1_700_000_001_000, 1_700_000_002_000]


def test_looking_moves_nothing(patient):
    for directory in (patient.work, patient.delayed, patient.ready, patient.dead):
        open(f"{directory}/stray", "w").close()
    assert patient.foreign() == [f"{patient.work}/stray", f"{patient.delayed}/stray"]
    list(patient.ready_directories())
    for directory in (patient.work, patient.delayed, patient.ready, patient.dead):
        assert patient.names(directory) == ["stray"]


@pytest.mark.parametrize(("has_other_name", "mode"), [(False, 0o660), (True, 0o600)])
def test_a_file_gets_the_mode_of_the_queue_if_it_has_no_other_name(
    patient, tmp_path, has_other_name, mode
):
    os.chmod(patient.path, 0o2770)
    path = f"{patient.tmp}/file"
    os.close(os.open(path, os.O_CREAT, 0o600))
    if has_other_name:
        os.link(path, tmp_path / "other")
    patient.set_mode(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == mode


def test_a_directory_gets_the_mode_of_the_queue(patient):
    os.chmod(patient.path, 0o2770)
    os.chmod(patient.tmp, 0o700)
    patient.set_mode(patient.tmp)
    assert stat.S_IMODE(os.stat(patient.tmp).st_mode) == 0o2770


def test_the_links_of_ranges_name_who_holds_them(patient, broker):
    broker.publish("q", "alone", priority=0)
    broker.publish_many("q", map(str, range(12)))
    messages = broker.consume("q", 4)
    [token] = {Lease.parse(message.filename).token for message in messages[1:]}
    us = (os.uname().nodename, os.getpid())
    assert patient.holders() == {token: us}
    [path] = (entry.path for entry in os.scandir(patient.work) if entry.is_symlink())
    os.unlink(path)
    os.symlink("\x1b[2J:1", path)
    assert patient.holders() == {}


def test_who_claimed_lines_that_came_back_holds_them_no_more(patient, broker):
    broker.publish_many("q", map(str, range(12)))
    broker.release(broker.consume("q", 12))
    broker.consume("q", 12)
    assert len(patient.leases()) == 12
    assert patient.holders() == {}
