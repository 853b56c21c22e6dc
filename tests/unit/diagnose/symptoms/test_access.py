"""Who can use a queue, and who can't."""

from __future__ import annotations

import errno
import os

import pytest

from ddmq.diagnose.symptoms import access
from ddmq.storage.locks import exclusive


def test_what_is_in_place_of_a_directory_is_told_from_what_is_missing(patient):
    os.rmdir(patient.work)
    os.rmdir(patient.drop)
    open(patient.drop, "w").close()
    open(f"{patient.ready}/5", "w").close()
    missing, replaced = access.directories(patient)
    assert (missing.name, missing.fix, missing.paths) == (
        "missing",
        "create",
        (patient.work,),
    )
    assert (replaced.name, replaced.fix) == ("links", "away")
    assert replaced.paths == (patient.drop, f"{patient.ready}/5")


@pytest.mark.parametrize(
    "name", ["then", "workers", "keys", "journal", "jobs", "ready/cancelled"]
)
def test_a_link_in_place_of_a_directory_that_only_some_need_is_told(patient, name):
    path = f"{patient.path}/{name}"
    os.symlink("/etc", path)
    [replaced] = access.directories(patient)
    assert (replaced.fix, replaced.paths) == ("away", (path,))


def test_a_priority_that_a_consumer_just_removed_is_not_missing(patient, monkeypatch):
    monkeypatch.setattr(patient, "names", lambda _: ["5"])
    assert list(access.directories(patient)) == []


@pytest.mark.parametrize(
    ("mode", "level"), [(0o755, None), (0o2775, "note"), (0o777, "bad")]
)
def test_who_may_write_besides_the_owner_is_told(tmp_path, mode, level):
    tmp_path.chmod(mode)
    found = [each.level for each in access.writers(str(tmp_path))]
    assert found == ([] if level is None else [level])


DIRECTORY, FILE = 0o040000, 0o100000


@pytest.mark.parametrize(
    ("found", "queue", "expected"),
    [
        (DIRECTORY | 0o755, 0o755, True),
        (DIRECTORY | 0o700, 0o755, True),
        (DIRECTORY | 0o500, 0o755, False),
        (DIRECTORY | 0o2770, 0o2770, True),
        (DIRECTORY | 0o770, 0o2770, False),
        (DIRECTORY | 0o2570, 0o2570, False),
        (FILE | 0o600, 0o755, True),
        (FILE | 0o600, 0o2770, False),
        (FILE | 0o660, 0o2770, True),
        (FILE | 0o640, 0o2750, True),
    ],
)
def test_a_mode_is_judged_by_that_of_the_queue(found, queue, expected):
    assert access.is_usable(found, queue) is expected


def test_modes_are_looked_at_in_all_directories(patient):
    bucket = f"{patient.ready}/5/1700000000000000000.shelf/1700000000000000000"
    os.makedirs(bucket)
    for path in (f"{bucket}/message", f"{patient.drop}/dropped"):
        os.close(os.open(path, os.O_CREAT, 0o600))
    os.symlink("message", f"{bucket}/link")
    for top, _, _ in os.walk(patient.path):
        os.chmod(top, 0o2770)
    [found] = access.owners_and_modes(patient)
    assert found.name == "modes"
    assert found.paths == (f"{patient.drop}/dropped", f"{bucket}/message")


def test_a_priority_with_a_wrong_mode_is_told_once(patient):
    os.mkdir(f"{patient.ready}/5")
    for top, _, _ in os.walk(patient.path):
        os.chmod(top, 0o2770)
    os.chmod(f"{patient.ready}/5", 0o755)
    [found] = access.owners_and_modes(patient)
    assert found.paths == (f"{patient.ready}/5",)


def test_directories_of_records_that_nobody_else_can_use_are_told(patient):
    for top, _, _ in os.walk(patient.path):
        os.chmod(top, 0o2770)
    made = tuple(f"{patient.path}/{name}" for name in ("journal", "jobs"))
    for path in made:  # as where their maker was killed
        os.mkdir(path, 0o700)
    [found] = access.owners_and_modes(patient)
    assert found.paths == made


def test_a_lock_that_is_held_is_told_with_its_holder(patient, monkeypatch):
    monkeypatch.setattr(access, "_LOCK_SECONDS", 0.01)
    assert list(access.lock(patient.lock)) == []
    with exclusive(patient.lock, 0):
        [found] = access.lock(patient.lock)
    assert (found.level, found.fix) == ("bad", "")
    assert f"held by process {os.getpid()} " in found.text


@pytest.mark.parametrize(
    ("code", "level", "fix"),
    [(errno.EACCES, "note", ""), (errno.EISDIR, "bad", "away")],
)
def test_a_lock_that_we_may_not_have_is_no_harm_and_one_that_is_none_is(
    patient, monkeypatch, code, level, fix
):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(access, "exclusive", refuse)
    [found] = access.lock(patient.lock)
    assert (found.level, found.fix) == (level, fix)


def test_who_may_only_look_is_told_so(patient, monkeypatch):
    assert list(access.rights(patient.path)) == []
    monkeypatch.setattr(os, "access", lambda *_: False)
    [found] = access.rights(patient.path)
    assert (found.name, found.level) == ("rights", "note")
    assert f"we may not write to {patient.path}" in found.text
