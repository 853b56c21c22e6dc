"""What a bug report needs to tell."""

from __future__ import annotations

import os

import pytest

from ddmq.diagnose import surroundings


def test_the_place_of_the_queues_is_told_where_it_is_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = surroundings.all_of({})
    assert told["directory"].startswith(f"{tmp_path}: on ")
    assert "DDMQ_ROOT" not in told
    (tmp_path / "link").symlink_to(".")
    told = surroundings.all_of({"DDMQ_ROOT": "link"})
    assert told["DDMQ_ROOT"] == told["directory"]
    told = surroundings.all_of({"DDMQ_ROOT": f"{tmp_path}/none"})
    assert told["DDMQ_ROOT"] == f"{tmp_path}/none: No such file or directory"


def test_a_directory_that_is_gone_is_told(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert surroundings.all_of({})["directory"] == ".: No such file or directory"


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, "none: not in a job"),
        ({"SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}, "slurm, job 7_2"),
        ({"PBS_JOBID": "9.server"}, "pbs, job 9.server"),
    ],
)
def test_the_scheduler_and_the_job_are_told(environ, wanted):
    assert surroundings.all_of(environ)["scheduler"] == wanted


def test_the_umask_is_told_and_stays():
    before = os.umask(0o027)
    try:
        assert surroundings.all_of({})["umask"] == "0027"
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_a_user_without_a_name_is_told_by_number(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 2**31 - 7)
    monkeypatch.setattr(os, "getgroups", lambda: [0, 2**31 - 7])
    told = surroundings.all_of({})
    assert told["user"] == str(2**31 - 7)
    assert str(2**31 - 7) in told["groups"].split(", ")
