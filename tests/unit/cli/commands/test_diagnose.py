"""`ddmq check` and `ddmq doctor` say by their status what they found."""

from __future__ import annotations

import json

import pytest


def test_a_queue_that_is_well_has_status_0(sh, root):
    assert sh.ok("doctor", root, "testmq")


def test_a_queue_that_is_not_well_has_status_1(sh, root):
    (root / "testmq" / "work" / "junk").touch()
    status, out, _ = sh("doctor", root, "testmq", "--format", "json")
    assert status == 1
    assert "junk" in out
    assert json.loads(out)


@pytest.mark.parametrize("option", ["--clients", "--timeout"])
@pytest.mark.parametrize("value", ["0", "x", "1.5"])
def test_how_many_and_how_long_are_positive(sh, tmp_path, option, value):
    told = sh.wrong("check", tmp_path, option, value)
    assert "no positive number" in told or "no time" in told


def test_a_directory_that_is_missing_can_not_be_checked(sh, tmp_path):
    assert "none" in sh.wrong("check", tmp_path / "none")
