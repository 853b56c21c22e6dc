"""What a check makes of figures: findings, and a verdict."""

from __future__ import annotations

import errno
import json

import pytest

from ddmq.diagnose.check import report
from ddmq.diagnose.check.mounts import Mount
from ddmq.diagnose.check.probes import Early, Listed, Locked, Race, Seen, Synced
from ddmq.diagnose.check.report import Report
from ddmq.diagnose.check.space import Space
from ddmq.diagnose.check.storm import Account
from ddmq.diagnose.finding import Finding

NFS = Mount("nfs4", "server:/x", "/scratch", ("rw", "vers=4.2", "hard"))

LOCAL = Mount("ext4", "/dev/vda", "/", ("rw",))

SEEN = Seen([0.2, 0.1, 0.3], "", 0.0, 0.02)


def level(finding):
    return finding.level


def test_a_probe_that_failed_says_what_happened_to_what_and_what_to_do():
    full = OSError(errno.ENOSPC, "No space left on device", "/scratch/me/a")
    told = report.of_failure("surroundings", full).text
    assert told.startswith("/scratch/me/a: No space left on device; free some space")


def test_a_mount_is_judged_by_what_is_known_about_it():
    assert level(report.of_mount(NFS, nodes=2)[0]) == "ok"
    assert level(report.of_mount(LOCAL, nodes=1)[0]) == "ok"
    assert level(report.of_mount(LOCAL, nodes=2)[0]) == "bad"
    assert level(report.of_mount(NFS._replace(kind="fuse.s3fs"), nodes=1)[0]) == "bad"
    unknown = report.of_mount(NFS._replace(kind="newfs"), nodes=2)[0]
    assert (unknown.level, "nothing is known" in unknown.text) == ("note", True)
    assert level(report.of_mount(None, nodes=1)[0]) == "note"
    soft = report.of_mount(NFS._replace(options=("soft",)), nodes=2)
    assert [finding.name for finding in soft] == ["mount", "options"]


@pytest.mark.parametrize(
    ("space", "expected", "words"),
    [
        (Space(10**12, 10**6), "ok", "1.0 TB and 1,000,000 inodes"),
        (Space(10**12, None), "ok", "uncounted"),
        (Space(10**6, 10**6), "note", "1 MB"),
        (Space(10**12, 9999), "note", "9,999"),
        (Space(0, 10**6), "bad", "0 B"),
        (Space(10**12, 0), "bad", "0 inodes"),
    ],
)
def test_little_space_is_noted_and_none_is_bad(space, expected, words):
    found = report.of_space(space, "")
    assert (found.level, words in found.text) == (expected, True)
    assert "used 5" in report.of_space(space, "used 5").text


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (SEEN, "ok"),
        (SEEN._replace(seconds=[0.1, 4.0]), "note"),
        (SEEN._replace(seconds=[0.1, 31.0]), "bad"),
        (SEEN._replace(lost="003"), "bad"),
        (Seen([], "000", 0.0, float("inf")), "bad"),
    ],
)
def test_late_listings_are_noted_and_stale_ones_bad(seen, expected):
    assert report.of_seen(seen).level == expected


@pytest.mark.parametrize(
    ("offsets", "seen", "expected", "words"),
    [
        ([0.0, 0.0], SEEN, "ok", "no difference, no difference"),
        ([1000.0, -2.5], SEEN, "ok", "1000.0 s ahead, 2.5 s behind"),
        ([0.0, 0.0], SEEN._replace(skew=0.6), "note", "580.0 ms apart"),
        ([0.0, 0.0], SEEN._replace(skew=-3600.0), "bad", "3600.0 s apart"),
        ([0.0, 0.0], SEEN._replace(unsure=float("inf")), "ok", "own clock"),
        ([0.0, 0.0], SEEN._replace(skew=float("nan")), "ok", "own clock"),
        ([0.0, 0.0], None, "ok", "own clock"),
    ],
)
def test_clocks_apart_are_noted_and_far_apart_bad(offsets, seen, expected, words):
    found = report.of_clocks(offsets, seen)
    assert (found.level, words in found.text) == (expected, True)
    json.dumps(found.figures, allow_nan=False)


RACE = Race(400, 150, 250, 0, 0, 0)


@pytest.mark.parametrize(
    ("race", "expected", "words"),
    [
        (RACE, "ok", "won 150 and 250, each by one"),
        (RACE._replace(ours=400, theirs=0), "note", "hardly met"),
        (RACE._replace(twice=3), "bad", "3 were won by both"),
        (RACE._replace(nobody=1), "bad", "1 were won by nobody"),
        (RACE._replace(missing=2), "bad", "2 were won, and are not there"),
    ],
)
def test_each_name_must_have_one_winner(race, expected, words):
    found = report.of_race("rename", race)
    assert (found.level, words in found.text) == (expected, True)


@pytest.mark.parametrize(
    ("kind", "race", "level", "words"),
    [
        ("mkdir", RACE._replace(nobody=1), "note", "nothing of ddmq's is elected so"),
        ("create", RACE._replace(nobody=1), "note", "nothing of ddmq's is elected so"),
        ("mkdir", RACE._replace(nobody=1, twice=1), "bad", "can't work here"),
        ("create", RACE._replace(twice=1), "bad", "can't work here"),
        ("create", RACE._replace(nobody=400), "bad", "can't work here"),
        ("symlink", RACE._replace(nobody=1, twice=1), "note", "chains of jobs"),
    ],
)
def test_what_no_message_depends_on_is_noted(kind, race, level, words):
    found = report.of_race(kind, race)
    assert (found.level, words in found.remedy) == (level, True)


@pytest.mark.parametrize(
    ("locked", "expected"),
    [
        (Locked("out", "in"), "ok"),
        (Locked("out", "out"), "note"),
        (Locked("in", "in"), "note"),
        (Locked("none", "none"), "note"),
    ],
)
def test_locks_never_decide(locked, expected):
    assert report.of_locks(locked, 2).level == expected


@pytest.mark.parametrize(
    ("early", "expected"),
    [
        (Early(0.0, 0.0, open_cured=True, rename_cured=True), "ok"),
        (Early(3.0, 3.0, open_cured=True, rename_cured=True), "ok"),
        (Early(3.0, 0.0, open_cured=False, rename_cured=True), "bad"),
        (Early(0.0, 3.0, open_cured=True, rename_cured=False), "bad"),
    ],
)
def test_a_name_looked_up_too_early_must_come_back(early, expected):
    assert report.of_early(early).level == expected


def test_what_a_listing_shows_must_be_found():
    assert report.of_listed(Listed(200, 0.1, 200), 200).level == "ok"
    assert report.of_listed(Listed(200, 0.1, 199), 200).level == "bad"
    assert report.of_listed(Listed(199, 60.0, 199), 200).level == "bad"


def test_what_can_not_be_synced_is_noted():
    assert report.of_sync([Synced(0.1, ""), Synced(0.2, "")]).level == "ok"
    found = report.of_sync([Synced(0.1, ""), Synced(0.2, "Invalid argument")])
    assert (found.level, "Invalid argument" in found.text) == ("note", True)


STORM = Account(300, 0, 0, 0, 0, 3, 16, 0, [])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "ok"),
        ({"lost": 1}, "bad"),
        ({"acked_twice": 1}, "bad"),
        ({"consumed_twice": 1}, "bad"),
        ({"foreign": 1}, "bad"),
        ({"left": 1}, "bad"),
        ({"errors": ["x"]}, "bad"),
        ({"published": 0}, "bad"),
    ],
)
def test_no_message_may_go_astray(change, expected):
    assert report.of_storm(STORM._replace(**change)).level == expected


GOOD = Finding("one", "ok", "it is fine")

NOTED = Finding("two", "note", "it is odd", "see to it")

BAD = Finding("three", "bad", "it is broken " * 20, "mend it")


@pytest.mark.parametrize(
    ("findings", "safe", "verdict"),
    [
        ([GOOD], True, "SAFE: /a and /b keep what ddmq needs, for all"),
        ([GOOD, NOTED], True, "SAFE: /a and /b keep what ddmq needs, for all; see the note"),
        ([NOTED, NOTED], True, "SAFE: /a and /b keep what ddmq needs, for all; see the 2 notes"),
        ([GOOD, BAD, NOTED], False, "NOT SAFE: don't put queues into /a and /b (three)"),
    ],
)  # fmt: skip
def test_the_verdict_is_the_last_line(findings, safe, verdict):
    found = Report(["/a", "/b"], ["one", "two"], findings, "for all", "Try two.")
    assert (found.is_safe, found.verdict()) == (safe, verdict)
    shown = str(found).splitlines()
    assert shown[-2:] == ["Try two.", verdict]
    assert max(map(len, shown[:-2])) <= 100
    assert json.loads(json.dumps(found.as_dict()))["safe"] is safe
