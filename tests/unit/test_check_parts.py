"""Parts of a check in one process: what its other processes do, and what programs say of quotas."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ddmq.check import session, space, storm
from ddmq.check.channel import Bench, Channel, Silence
from ddmq.check.children import Child, ended_like_interrupted
from ddmq.check.rendezvous import Lobby, Party
from ddmq.clock import Clock
from ddmq.errors import InvalidArgument
from ddmq.fs import FileSystem


@pytest.fixture
def benches(tmp_path, monkeypatch):
    """Two clients of one directory."""
    monkeypatch.setattr(storm, "MESSAGES", 5)
    monkeypatch.setattr(storm, "_BETWEEN_MESSAGES", 0)
    monkeypatch.setattr(storm, "_BETWEEN_KILLS", 0.01)
    for name in ("here", "records"):
        (tmp_path / name).mkdir()
    here, records = str(tmp_path / "here"), str(tmp_path / "records")
    return [
        Bench(side, here, FileSystem(), Clock(), fcntl.flock, 5.0, records)
        for side in "ab"
    ]


def events(path):
    with open(path) as file:
        return [line.split("\t")[0].strip() for line in file]


def test_a_publisher_and_a_consumer_note_all_that_they_do(benches, tmp_path):
    bench, log = benches[0], str(tmp_path / "log")
    broker = storm.make_queue(bench, 5)
    storm._publish(bench, log, 3)
    assert events(log) == ["publishing", "published"] * 2
    while storm._consume_some(bench, broker, storm._Log(log)):
        pass
    assert events(log)[4:] == ["consumed", "acking", "acked"] * 2
    assert storm.left_after(bench, broker, 0) == 0


@pytest.fixture
def orphaned(monkeypatch):
    """Return a function that lets our parent die after it was looked for so many times."""

    def after(times):
        parents = iter([1] * times)
        monkeypatch.setattr(os, "getppid", lambda: next(parents, 2))

    return after


def test_a_publisher_whose_parent_died_ends(benches, tmp_path, orphaned):
    storm.make_queue(benches[0], 5)
    orphaned(2)
    storm._publish(benches[0], str(tmp_path / "log"), 3)
    assert events(tmp_path / "log") == ["publishing", "published"]


def test_some_are_published_as_a_bundle(benches, tmp_path, monkeypatch):
    monkeypatch.setattr(storm, "MESSAGES", 20)
    broker = storm.make_queue(benches[0], 5)
    storm._publish(benches[0], str(tmp_path / "log"), 0)
    assert broker.view()[storm.QUEUE].waiting == 20
    waiting = tmp_path / "here" / "mq" / storm.QUEUE / "ready"
    assert sum(len(files) for _, _, files in os.walk(waiting)) == 6


def test_a_consumer_whose_parent_died_ends(benches, tmp_path, orphaned):
    broker = storm.make_queue(benches[0], 5)
    broker.publish(storm.QUEUE, "x")
    orphaned(4)
    storm._consume(benches[0], str(tmp_path / "log"))
    assert events(tmp_path / "log") == ["consumed", "acking", "acked"]


def test_workers_note_what_they_complain_about(benches, tmp_path, orphaned):
    storm._publish(benches[0], str(tmp_path / "published"), 0)  # there is no queue
    orphaned(2)
    storm._consume(benches[0], str(tmp_path / "consumed"))
    assert events(tmp_path / "published") == events(tmp_path / "consumed") == ["failed"]


def test_a_lease_that_ran_over_is_noted(benches, tmp_path):
    bench, log = benches[0], str(tmp_path / "log")
    broker = storm.make_queue(bench, 1)
    broker.publish(storm.QUEUE, "x", timeout=1)

    class Slow(type(broker)):
        def ack(self, message):
            bench.clock.sleep(1.01)
            self.clean(storm.QUEUE)
            super().ack(message)

    slow = Slow(storm.root_of(bench))
    storm._consume_some(bench, slow, storm._Log(log))
    assert events(log) == ["consumed", "acking", "overrun"]


def test_a_storm_that_takes_too_long_is_given_up(benches):
    storm.make_queue(benches[0], 5)
    slow = storm.Storm(benches[0]._replace(patience=-1.0))
    try:
        with pytest.raises(Silence, match="too long"):
            slow.run()
    finally:
        slow.stop()


def test_what_a_killed_process_wrote_by_half_is_left_out(benches):
    killed = storm.Storm(benches[0])
    with open(f"{benches[0].records}/a/001", "w") as file:
        file.write("publishing\ta1\npublished\ta1\npubl")
    assert [line.what for line in killed.record()] == ["publishing", "published"]


def test_the_other_client_answers_until_that_is_all(benches):
    ours, theirs = (Channel(bench, lambda: True) for bench in benches)
    partner = session._Partner(benches[1], theirs)
    thread = threading.Thread(target=partner.answer)
    thread.start()
    try:
        assert ours.ask("offset") == 0.0
        assert ours.ask("mounted") is not None
        with pytest.raises(Silence, match="there was no storm"):
            ours.ask("record")
    finally:
        ours.ask("end")
        thread.join()


def test_what_the_other_client_could_not_do_is_said(benches):
    ours, theirs = (Channel(bench, lambda: True) for bench in benches)
    theirs.send({"error": "disk full"})
    with pytest.raises(Silence, match="the other client failed: disk full"):
        ours.answer()


def test_a_client_that_says_nothing_is_waited_for_only_so_long(benches):
    with pytest.raises(Silence, match="was not heard for"):
        Channel(benches[0], lambda: True).receive(0.01)
    with pytest.raises(Silence, match="has ended"):
        Channel(benches[0], lambda: False).receive()


def test_a_client_whose_directory_is_gone_has_ended(benches, tmp_path):
    channel = Channel(benches[0], lambda: True)
    os.rmdir(tmp_path / "here" / "talk")
    with pytest.raises(Silence, match="has ended"):
        channel.receive()


def test_what_a_killed_child_leaves_of_itself_is_nothing():
    child = Child(lambda: Clock().sleep(60), group=True)
    assert child.is_alive()
    child.kill()
    child.kill()
    assert not child.is_alive()


def test_a_child_whose_end_was_seen_and_not_noted_is_gone():
    child = Child(lambda: None)
    os.waitpid(child.pid, 0)  # then we were interrupted
    assert not child.is_alive()
    child.kill()


def test_signals_to_a_thread_are_nobodys():
    def run():
        with ended_like_interrupted():
            done.append(True)

    done = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == [True]


# Meeting


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


@pytest.mark.parametrize("data", [b"", b"{", b"\xff"])
def test_what_the_other_said_and_nobody_can_read_is_as_good_as_nothing(benches, data):
    channel = Channel(benches[0], lambda: True)
    benches[0].put(f"{benches[0].path}/talk/b.0000", data)
    with pytest.raises(Silence, match="can't be read"):
        channel.receive()


# Quotas


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
