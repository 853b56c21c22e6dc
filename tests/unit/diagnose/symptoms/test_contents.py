"""What lies in a queue and should not; what is in use is left out."""

from __future__ import annotations

import os

import pytest

from ddmq.diagnose.symptoms import contents
from ddmq.storage.names import Bundle, Entry, new_id, new_token
from ddmq.storage.range_names import NewClaim

HOUR = 3600
STAMP = 1_700_000_000_000_000_000


def put(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "w").close()
    return path


@pytest.fixture
def lost(patient):
    """A lease that is over, of lines of a bundle; return the bundle's id."""
    bundle = Bundle(9, STAMP, new_id(), 10)
    expiry = int((patient.now - 61) * 1000)
    claim = NewClaim.of_lines(bundle, 3, 2, expiry=expiry, token=new_token())
    held = claim.held
    os.symlink("n7:12", f"{patient.work}/{held.filename}")
    return bundle.id


def test_a_lease_whose_bundle_is_nowhere_is_told(patient, lost):
    [found] = contents.lost_bundles(patient)
    assert found.text.endswith(f"the bundle with the message can't be found: {lost}")
    assert (found.fix, len(found.paths)) == ("", 1)


def test_a_lease_whose_bundle_has_its_messages_is_not_lost(patient, lost):
    put(f"{patient.bundles}/{lost}/lines")
    assert list(contents.lost_bundles(patient)) == []


def test_a_lease_whose_bundle_has_no_messages_is_lost(patient, lost):
    os.mkdir(f"{patient.bundles}/{lost}")
    [found] = contents.lost_bundles(patient)
    assert lost in found.text


@pytest.mark.parametrize("target", ["nonsense", f"0.{'0' * 16}", f"11.{'0' * 16}"])
def test_what_is_no_claim_and_keeps_a_bundle_waiting_is_told(patient, target):
    bundle = Bundle(9, STAMP, new_id(), 10)
    put(f"{patient.ready}/9/{STAMP}/{bundle.filename}")
    directory = f"{patient.bundles}/{bundle.id}"
    put(f"{directory}/lines")
    os.symlink(f"4.{'0' * 16}", f"{directory}/0")
    assert list(contents.false_claims(patient)) == []
    os.symlink(target, f"{directory}/4")
    [found] = contents.false_claims(patient)
    assert (found.paths, found.remedy) == ((f"{directory}/4",), "remove it")


def test_a_bundle_that_a_first_look_missed_is_not_lost(patient, lost, monkeypatch):
    looks = []

    def look():
        looks.append(1)
        if len(looks) == 1:
            put(f"{patient.bundles}/{lost}/lines")
        return real()

    real = patient.ready_directories
    monkeypatch.setattr(patient, "ready_directories", look)
    assert list(contents.lost_bundles(patient)) == []
    assert len(looks) == 2


def test_garbage_is_what_does_not_parse_where_it_lies(patient):
    top = f"{patient.ready}/5"
    shelf = f"{top}/{STAMP}.shelf"
    put(f"{shelf}/{STAMP}/{Entry(5, STAMP, new_id()).filename}")
    wrong = [
        put(path)
        for path in (
            f"{patient.work}/x",
            f"{patient.delayed}/x",
            f"{patient.ready}/x",
            f"{top}/x",
            f"{shelf}/x",
            f"{shelf}/{STAMP}/x",
        )
    ]
    [found] = contents.garbage(patient)
    assert (sorted(found.paths), found.fix) == (sorted(wrong), "quarantine")


def test_what_is_no_dead_letter_is_told_and_notes_are_not(patient):
    put(f"{patient.dead}/{new_id()}.note")
    odd = put(f"{patient.dead}/x")
    [found] = contents.odd_dead_letters(patient)
    assert (found.paths, found.fix) == ((odd,), "")


def test_a_file_is_a_leftover_after_an_hour_and_a_directory_after_a_day(patient, aged):
    file, directory = f"{patient.tmp}/{new_id()}", f"{patient.tmp}/{new_id()}"
    aged(put(file), HOUR - 1)
    os.mkdir(directory)
    aged(directory, 24 * HOUR - 1)
    assert list(contents.leftovers(patient)) == []
    aged(file, HOUR + 1)
    aged(directory, 24 * HOUR + 1)
    [found] = contents.leftovers(patient)
    assert set(found.paths) == {file, directory}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (["1"], []),
        (["1", "2"], ["1"]),
        (["1", "2.shelf"], []),
        (["1", "2.shelf/2"], ["1"]),
        (["1.shelf", "2"], ["1.shelf"]),
        (["1.shelf/1", "2.shelf/2"], ["1.shelf/1"]),
    ],
)
def test_the_newest_bucket_may_be_empty_and_the_others_not(patient, made, expected):
    def path(short):
        names = [f"{int(n[0]):019d}{n[1:]}" for n in short.split("/")]
        return f"{patient.ready}/5/{'/'.join(names)}"

    for short in made:
        os.makedirs(path(short))
    found = [each.paths for each in contents.empty_buckets(patient)]
    assert found == ([tuple(map(path, expected))] if expected else [])


def test_a_dropped_file_is_told_when_somebody_should_have_taken_it(patient, aged):
    path = aged(put(f"{patient.drop}/letter"), 69)
    assert list(contents.undropped(patient)) == []
    aged(path, 71)
    [found] = contents.undropped(patient)
    assert (found.paths, found.fix) == ((path,), "clean")


def test_what_was_moved_away_is_told_if_messages_may_be_in_it(patient):
    kept = [f"{patient.path}/.delayed-{'0' * 16}", f"{patient.ready}/.5-{'0' * 16}"]
    others = [f"{patient.path}/.keys-{'0' * 16}", f"{patient.path}/.delayed"]
    for path in (*kept, *others):
        os.mkdir(path)
    put(f"{patient.path}/.work-{'0' * 16}")
    [found] = contents.put_aside(patient)
    assert (found.level, found.paths) == ("note", tuple(kept))
