"""Who was started with whom, and how clients meet in a directory."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from ddmq.clock import Clock
from ddmq.diagnose.check.rendezvous import Lobby, Party, host_of, party
from ddmq.errors import InvalidArgument
from ddmq.storage.filesystem import FileSystem


@pytest.mark.parametrize(
    ("environ", "clients", "expected"),
    [
        ({}, None, None),
        ({}, 1, None),
        ({}, 2, (2, 0)),
        ({"SLURM_NTASKS": "9", "SLURM_PROCID": "0"}, None, None),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None, None),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}, None, (4, 3)),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}, 1, None),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, None, (2, 1)),
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, None, (2, 1)),
        ({"PMI_SIZE": "x", "PMI_RANK": "1"}, None, None),
    ],
)
def test_whether_somebody_else_will_come_is_told_by_the_launcher(
    environ, clients, expected
):
    found = party(environ, clients)
    assert (found and (found.size, found.rank)) == expected


def test_the_steps_of_a_job_do_not_meet_each_other():
    slurm = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0", "SLURM_JOB_ID": "1/../2"}
    first = party({**slurm, "SLURM_STEP_ID": "0"}, None)
    second = party({**slurm, "SLURM_STEP_ID": "1"}, None)
    assert (first, second.key) == (Party(2, 0, "1_2-0"), "1_2-1")


def test_a_host_may_have_dots_in_its_name():
    assert host_of(f"hello.0000001.{'a' * 16}.node1.cluster") == "node1.cluster"


def test_a_hello_of_long_ago_is_not_answered(tmp_path):
    party = Party(2, 0, "x")
    dead = Lobby(str(tmp_path), party, FileSystem(), "node1")
    assert dead.meet(Clock(), 0) is None
    for path in tmp_path.glob(".ddmq-check-x/*"):
        os.utime(path, (1, 1))
    late = Lobby(str(tmp_path), party, FileSystem(), "node2")
    assert late.meet(Clock(), 0) is None
    late.leave()
    dead.leave()
    assert list(tmp_path.iterdir()) == []


def test_the_first_two_of_different_hosts_are_chosen(tmp_path):
    lobbies = [
        Lobby(str(tmp_path), Party(4, rank, "x"), FileSystem(), host)
        for rank, host in enumerate(["n1", "n1", "n2", "n2"])
    ]
    with ThreadPoolExecutor(4) as pool:
        meetings = list(pool.map(lambda lobby: lobby.meet(Clock(), 20), lobbies))
    assert [meeting.side for meeting in meetings] == ["a", "", "b", ""]
    assert {meeting.hosts for meeting in meetings} == {("n1", "n2")}
    assert len({meeting.path for meeting in meetings}) == 1


@pytest.mark.parametrize("planted", ["directory", "link", "file"])
def test_a_directory_that_is_not_ours_alone_is_no_place_to_meet(tmp_path, planted):
    path = tmp_path / ".ddmq-check-x"
    (tmp_path / "theirs").mkdir(0o700)
    if planted == "directory":
        path.mkdir()
        path.chmod(0o770)
    elif planted == "link":
        path.symlink_to("theirs")
    else:
        path.touch(0o600)
    lobby = Lobby(str(tmp_path), Party(2, 0, "x"), FileSystem(), "node1")
    with pytest.raises(InvalidArgument, match="not ours alone"):
        lobby.meet(Clock(), 0)
    assert list((tmp_path / "theirs").iterdir()) == []
