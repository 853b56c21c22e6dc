"""What programs and file systems tell of a quota."""

from __future__ import annotations

import os
import stat

import pytest

from ddmq.diagnose.check import space


@pytest.fixture
def said(tmp_path, monkeypatch):
    """Return a function that lets a program say something, and nothing else be there."""

    def say(program, text):
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
        path = tmp_path / program
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return say


@pytest.mark.parametrize(
    ("kind", "program", "text", "expected"),
    [
        ("lustre", "lfs", 'echo "used   5G of $1 $2"', "used 5G of quota -h"),
        ("nfs4", "quota", "echo 'Disk quotas for user me: none'", ""),
        ("nfs4", "quota", "echo trouble; exit 1", ""),
        ("gpfs", "mmlsquota", "echo a b", "a b"),
    ],
)
def test_a_quota_is_told_in_the_words_of_who_knows_it(
    said, tmp_path, kind, program, text, expected
):
    said(program, text)
    assert space.quota(str(tmp_path), kind) == expected


def test_without_a_program_there_is_no_quota(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert space.quota(str(tmp_path), "lustre") == ""


def test_a_quota_of_a_directory_is_told_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getxattr", lambda *_: b"1000")
    told = space.quota(str(tmp_path), "ceph")
    assert told == "ceph.quota.max_bytes 1000; ceph.quota.max_files 1000"
