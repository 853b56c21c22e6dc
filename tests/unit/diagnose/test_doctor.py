"""What a doctor tells of findings before and after he mended, and what he moves away."""

from __future__ import annotations

import pytest

from ddmq import Broker, QueueNotFound
from ddmq.diagnose import doctor
from ddmq.diagnose.doctor import Diagnosis, compared, move_away, symptoms
from ddmq.diagnose.finding import MENDED, NOTE, Finding, wrong
from ddmq.storage.filesystem import FileSystem

EXPIRED = wrong("expired", "over", "requeues it", fix="clean", paths=["/a"])
WRITERS = wrong("writers", "everybody", "chmod it")


def test_what_is_not_mended_says_what_would_be_done():
    found = compared("q", [EXPIRED, WRITERS], [EXPIRED, WRITERS])
    assert [(each.name, each.level, each.remedy) for each in found] == [
        ("q: expired", "bad", "`--fix` requeues it"),
        ("q: writers", "bad", "chmod it"),
    ]
    assert found[0].figures == {"number": 1, "paths": ["/a"]}


def test_what_is_gone_was_mended_if_it_could_be():
    found = compared("q", [EXPIRED, WRITERS], [])
    assert [(each.name, each.level, each.remedy) for each in found] == [
        ("q: expired", MENDED, "")
    ]


def test_the_verdict_counts_what_is_bad_and_what_can_be_mended():
    note = Finding("clock", NOTE, "wrong", "NTP")
    assert Diagnosis([note], 0).verdict() == "all is well"
    rights = Finding("q: rights", NOTE, "we may not write")
    assert Diagnosis([rights], 0).verdict().endswith("as far as we may look")
    unrenewed = Diagnosis([Finding("q: not renewed", NOTE, "4 at work")], 0)
    assert unrenewed.verdict() == "all is well, but for what nobody renews"
    assert unrenewed.is_well
    assert Diagnosis([note, WRITERS], 0).verdict() == "1 found"
    both = Diagnosis([EXPIRED, WRITERS], 1)
    assert both.verdict() == "2 found; `--fix` mends 1 of them"
    assert not both.is_well
    assert both.as_dict()["mendable"] == 1


def test_what_is_moved_away_keeps_what_is_in_it(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "message").touch()
    found = wrong("closed", "closed", "", fix="away", paths=[str(tmp_path / "work")])
    assert move_away([found], FileSystem())
    [hidden] = tmp_path.iterdir()
    assert hidden.name.startswith(".work-")
    assert (hidden / "message").exists()


def test_nothing_else_is_moved_away(tmp_path):
    (tmp_path / "work").mkdir()
    found = wrong("missing", "x", "", fix="create", paths=[str(tmp_path / "work")])
    gone = wrong("links", "x", "", fix="away", paths=[str(tmp_path / "none")])
    assert not move_away([found, gone], FileSystem())
    assert (tmp_path / "work").is_dir()


def test_a_new_queue_has_no_symptoms(umask, patient):
    assert list(symptoms(patient)) == []


@pytest.fixture
def deleting(tmp_path, monkeypatch):
    """Return a root of two queues, of which one is deleted when the doctor begins to look at it."""
    broker = Broker(tmp_path / "mq", create=True)
    for name in ("deleted", "kept"):
        broker.create_queue(name)

    def look(patient, purged_after):
        if patient.name == "deleted":
            Broker(broker.root).delete_queue("deleted")
        yield from symptoms(patient, purged_after)

    monkeypatch.setattr(doctor, "symptoms", look)
    return broker


@pytest.mark.parametrize("fix", [False, True])
def test_a_queue_that_is_deleted_meanwhile_is_no_trouble_of_the_others(deleting, fix):
    found = doctor.diagnose(deleting.root, None, fix=fix)
    assert not [each.name for each in found.findings if "deleted" in each.name]
    assert found.is_well
    assert deleting.queues() == ["kept"]


@pytest.mark.parametrize("fix", [False, True])
def test_that_a_queue_one_asked_for_is_deleted_meanwhile_is_told(deleting, fix):
    with pytest.raises(QueueNotFound, match="deleted: no such queue"):
        doctor.diagnose(deleting.root, ["deleted"], fix=fix)
    assert deleting.queues() == ["kept"]
