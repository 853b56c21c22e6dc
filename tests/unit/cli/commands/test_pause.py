"""A queue is paused and resumed, and whoever looks is told."""

from __future__ import annotations

import json

from ddmq import Broker


def test_pause_and_resume_say_what_they_did(sh, root):
    assert "paused; workers finish" in sh.ok("pause", root, "testmq")
    assert "was paused before, by " in sh.ok("pause", root, "testmq")
    assert sh.ok("resume", root, "testmq") == "testmq: resumed"
    assert sh.ok("resume", root, "testmq") == "testmq: was not paused"
    assert "no such queue" in sh.error("pause", root, "nothing")


def test_programs_are_told_who_and_when(sh, root):
    request = {"cmd": "pause", "root": str(root), "queue": ["testmq"]}
    told = json.loads(sh.ok("json", json.dumps(request)))["paused"]["testmq"]
    assert told["new"]
    shown = json.loads(sh.ok("view", root, "--format", "json"))["testmq"]["paused"]
    assert shown == {key: told[key] for key in ("user", "host", "since")}
    request["cmd"] = "resume"
    assert json.loads(sh.ok("json", json.dumps(request))) == {
        "resumed": {"testmq": True}
    }


def test_view_and_doctor_say_that_a_queue_is_paused(sh, root):
    sh.ok("pause", root, "testmq")
    *_, last = sh.ok("view", root).splitlines()
    assert last.startswith("testmq: paused by ")
    told = sh.ok("doctor", root)
    assert "testmq: paused" in told
    assert "ddmq resume … testmq" in told
    assert told.endswith("workers take nothing from what is paused")
    sh.ok("doctor", root, "--fix")
    assert sh.ok("resume", root, "testmq") == "testmq: resumed"
    assert "paused" not in sh.ok("view", root) + sh.ok("doctor", root)


def test_wait_says_so_and_goes_on_waiting(sh, root, caplog):
    Broker(root).publish("testmq", "a")
    sh.ok("pause", root, "testmq")
    status, _, told = sh("wait", root, "testmq", "--timeout", "0.1")
    assert status == 1
    assert caplog.text.count("queue testmq is paused by ") == 1
    assert "1 waiting, 0 delayed, 0 at work; paused by " in told


def test_a_plain_consume_takes_all_the_same_and_says_so(sh, root, caplog):
    Broker(root).publish("testmq", "a")
    sh.ok("pause", root, "testmq")
    assert sh.ok("consume", root, "testmq", "--format", "plain") == "a"
    assert "queue testmq is paused by " in caplog.text
    assert "this takes what waits all the same" in caplog.text
