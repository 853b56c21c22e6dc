"""Who works on a queue, as people and programs are shown it."""

from __future__ import annotations

import json
import os

import pytest

from ddmq import Activity, Broker, Running
from ddmq.clock import Clock
from ddmq.storage.workers import ENDED, WORKING, WorkerName


@pytest.fixture
def shows(root):
    """Return a function that lets a worker show itself, some seconds ago."""

    def shows(number, ago=4, runs=(), **fields):
        now = int((Clock().time() - ago) * 1000)
        usual = dict.fromkeys(WorkerName._fields, 0)
        usual.update(token=f"{number:016x}", time=now, state=WORKING, every=60)
        usual.update(started=now - 3_600_000, slots=16, busy=16, process=40231)
        usual.update(host=f"node{number}", job=f"9914_{number}")
        name = WorkerName(**{**usual, **fields})

        def show(workers):
            workers.show(None, name)
            workers.tell(name.token, Activity(tuple(runs)))

        Broker(root).with_workers("testmq", show)

    return shows


def test_a_table_shows_each_worker_and_what_it_has_run_for_long(sh, root, shows):
    began = Clock().time() - 304
    shows(1, runs=[Running(3, "a1", began, "sample \x1b[2J")], acked=210, work=10**6)
    shows(2, host="evil\x1b\n", acked=2, failed=1, peak=714 << 10)
    top, head, *rows = sh.ok("workers", root, "testmq").splitlines()
    assert top == "testmq: 2 working"
    assert head.split() == [
        "host",
        "job",
        "state",
        "slots",
        "acked",
        "failed",
        "a",
        "minute",
        "memory",
        "seen",
    ]
    first, run, second = (row.split() for row in rows)
    assert first[:6] == ["node1:40231", "9914_1", "working", "16/16", "210", "0"]
    assert first[6:8] == ["202", "-"]
    assert first[-1] == "ago"
    assert " ".join(run) == "slot 3 5 minutes a1 sample \\x1b[2J"
    assert second[0] == "evil\\x1b\\n:40231"
    assert "714 MiB" in rows[2]


def test_those_that_ended_are_shown_when_asked_for(sh, root, shows):
    shows(1, ago=900, acked=7, state=ENDED, busy=0)
    shows(2, ago=700)
    told = sh.ok("workers", root)
    assert told.startswith("testmq: 1 ended, 1 lost\n")
    assert "node1" not in told
    assert "node2:40231  9914_2  lost " in told
    assert "12 minutes ago" in told
    assert "node1:40231  9914_1  ended " in sh.ok("workers", root, "-a")


def test_programs_get_all_of_it(sh, root, shows):
    shows(1, runs=[Running(3, "a1", 5.0, "x")], acked=8, work=4000, state=WORKING)
    shows(2, state=ENDED, busy=0)
    found = json.loads(sh.ok("workers", root, "--format", "json"))["testmq"]
    assert [each["state"] for each in found] == ["working", "ended"]
    assert found[0]["rate"] == 32
    assert found[0]["running"] == [
        {"slot": 3, "id": "a1", "started": 5.0, "text": "x", "progress": ""}
    ]
    request = json.dumps({"cmd": "workers", "root": str(root), "queue": ["testmq"]})
    assert json.loads(sh.ok("json", request))["testmq"][0]["acked"] == 8


def test_nobody_is_shown_where_nobody_ever_was(sh, root):
    assert sh.ok("workers", root) == "testmq: no worker has been seen"
    assert json.loads(sh.ok("workers", root, "--format", "json")) == {"testmq": []}
    assert "no such queue" in sh.error("workers", root, "nothing")


# view


def publish(root, number):
    Broker(root).publish_many("testmq", ["x"] * number)


def last_line(sh, root):
    return sh.ok("view", root).splitlines()[-1]


def test_view_says_how_far_it_is(sh, root, shows):
    publish(root, 1000)
    assert last_line(sh, root).split() == ["testmq", "1000", "0", "0", "0", "-"]
    shows(1, acked=100, work=1_600_000)  # each takes 16 s: a message a second
    shows(2, busy=0, state="idle")
    shows(3, busy=0, state=ENDED, acked=9)
    line = (
        "2 workers, 16 of 32 slots busy, 60 messages a minute, done in about 17 minutes"
    )
    assert last_line(sh, root) == f"testmq: {line}"
    assert sh.ok("view", root).splitlines()[1].split()[-1] == "109"
    told = json.loads(sh.ok("view", root, "--format", "json"))["testmq"]
    assert told["waiting"] == 1000
    assert told["workers"] == {
        "workers": 2,
        "slots": 32,
        "busy": 16,
        "lost": 0,
        "rate": 1,
        "done": 109,
        "done_in": 1000,
        "unseen_for": pytest.approx(4, abs=30),
    }


def test_there_is_no_end_in_sight_while_nobody_has_finished_anything(sh, root, shows):
    publish(root, 10)
    shows(1)
    assert last_line(sh, root) == "testmq: 1 worker, 16 of 16 slots busy"
    shows(2, acked=1, work=16 * 3_600_000)  # half of all busy slots: one an hour
    line = "2 workers, 32 of 32 slots busy, 2 messages an hour, done in about 5 hours"
    assert last_line(sh, root) == f"testmq: {line}"


def test_view_says_what_becomes_of_what_a_lost_worker_held(sh, root, shows):
    publish(root, 1)
    Broker(root).consume("testmq")
    shows(1, ago=720, state=ENDED)
    assert "worker" not in sh.ok("view", root)  # it held nothing more
    shows(2, ago=720)
    line = (
        "testmq: No worker runs: what lost ones held comes back when its time is over"
    )
    assert last_line(sh, root) == line


def test_view_says_for_how_long_nobody_has_worked(sh, root, shows):
    shows(1, ago=720)
    shows(2, ago=9000, state=ENDED)
    assert "seen" not in sh.ok("view", root)  # nothing waits for them
    publish(root, 10)
    line = "testmq: No worker runs: the last one was seen 12 minutes ago"
    assert last_line(sh, root) == line
    told = json.loads(sh.ok("view", root, "--format", "json"))["testmq"]["workers"]
    assert (told["workers"], told["rate"], told["done_in"]) == (0, None, None)
    shows(3, busy=0, state="idle")
    assert last_line(sh, root) == "testmq: 1 worker, 0 of 16 slots busy"


def test_view_counts_where_the_workers_cant_be_seen(sh, root):
    os.symlink("/etc", root / "testmq" / "workers")
    publish(root, 1)
    assert last_line(sh, root).split()[:2] == ["testmq", "1"]
    told = json.loads(sh.ok("view", root, "--format", "json"))["testmq"]
    assert told["workers"] is None


# drain


def test_drain_tells_how_many_it_asks(sh, root, shows):
    shows(1)
    shows(2)
    shows(3, state=ENDED)
    asked = "asked to drain; what runs is finished"
    assert sh.ok("drain", root, "testmq", "--all") == f"testmq: 2 workers {asked}"
    told = sh.ok("drain", root, "testmq", "--host", "node1")
    assert told == f"testmq: 1 worker {asked}"
    request = {"cmd": "drain", "root": str(root), "queue": ["testmq"], "job": "9914"}
    assert json.loads(sh.ok("json", json.dumps(request))) == {"asked": {"testmq": 2}}


@pytest.mark.parametrize(
    "which",
    [[], ["--all", "--host", "a"], ["--host", "a", "--job", "1"], ["--job", ""]],
)
def test_drain_wants_to_know_which(sh, root, which):
    told = sh.wrong("drain", root, "testmq", *which)
    assert "--all, --host HOST or --job JOB" in told
    assert not (root / "testmq" / "workers").exists()
