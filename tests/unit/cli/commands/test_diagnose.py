"""`ddmq check` and `ddmq doctor` say by their status what they found."""

from __future__ import annotations

import json
import os

import pytest


def test_a_queue_that_is_well_has_status_0(sh, root):
    assert sh.ok("doctor", root, "testmq")


def test_a_queue_that_is_not_well_has_status_1(sh, root):
    (root / "testmq" / "work" / "junk").touch()
    status, out, _ = sh("doctor", root, "testmq", "--format", "json")
    assert status == 1
    assert "junk" in out
    assert json.loads(out)


def test_the_name_of_a_queue_is_one_word_for_a_shell(sh, root):
    sh.ok("create", root, "a; rm b")
    sh.ok("pause", root, "a; rm b")
    os.utime(root / "a; rm b" / "ddmq.yaml", (0, 0))
    findings = json.loads(
        sh("doctor", root, "a; rm b", "--purged-after", "1h", "--format", "json")[1]
    )["findings"]
    remedies = "\n".join(each["remedy"] for each in findings)
    assert "ddmq resume … 'a; rm b'" in remedies
    assert "ddmq export … 'a; rm b' -o FILE" in remedies


@pytest.mark.parametrize("option", ["--clients", "--timeout"])
@pytest.mark.parametrize("value", ["0", "x", "1.5"])
def test_how_many_and_how_long_are_positive(sh, tmp_path, option, value):
    told = sh.wrong("check", tmp_path, option, value)
    assert "no positive number" in told or "no time" in told


def test_a_directory_that_is_missing_can_not_be_checked(sh, tmp_path):
    assert "none" in sh.wrong("check", tmp_path / "none")
    # As a variable that is not set.
    assert "'' is no directory" in sh.wrong("check", "")
    assert "'' is no directory" in sh.wrong("check", tmp_path, "")


def test_the_doctor_without_a_root_tells_what_a_bug_report_needs(sh):
    told = json.loads(sh.ok("doctor", "--format", "json"))
    assert {"ddmq", "Python", "kernel", "directory", "umask", "groups"} <= set(told)
    plain = sh.ok("doctor")
    assert plain.startswith(sh.ok("--version") + "\n")
    assert [line.split(" ")[0] for line in plain.splitlines()] == list(told)


def test_what_the_doctor_is_to_mend_must_be_named(sh):
    assert "--fix needs a ROOT" in sh.wrong("doctor", "--fix")
    assert "--purged-after needs a ROOT" in sh.wrong("doctor", "--purged-after", "30d")
