"""How many messages are in each state."""

from __future__ import annotations

import json

import pytest

from ddmq import Broker


def test_view_shows_a_table(sh, root):
    sh.ok("publish", root, "testmq", "x")
    head, row = sh.ok("view", root).split("\n")
    assert head.split() == ["queue", "waiting", "work", "delayed", "dead", "done"]
    assert row.split() == ["testmq", "1", "0", "0", "0", "-"]


def test_view_says_what_lists_and_redrives_dead_letters(sh, root):
    broker = Broker(root)
    broker.publish_many("testmq", ["x", "y"])
    broker.reject(broker.consume("testmq", 2))
    told = sh.ok("view", root).split("\n")[-1]
    assert told.startswith("testmq: 2 dead letters: ")
    assert f"`ddmq dead {root} testmq`" in told
    assert f"`ddmq redrive {root} testmq`" in told
    assert json.loads(sh.ok("view", root, "--format", "json"))["testmq"]["dead"] == 2


def made_older(root, seconds):
    """Let leases end sooner, as if they had been made so many seconds ago."""
    work = root / "testmq" / "work"
    for path in work.iterdir():
        expiry, rest = path.name.split(".", 1)
        path.rename(work / f"{int(expiry) - seconds * 1000}.{rest}")


def test_view_tells_what_nobody_renews(sh, root):
    for text in "abc":
        sh.ok("publish", root, "testmq", text)
    sh.ok("consume", root, "testmq", "-n", "2")
    assert sh.ok("view", root).count("\n") == 1
    made_older(root, 6 * 60)
    sh.ok("consume", root, "testmq")
    _, row, below = sh.ok("view", root).split("\n")
    assert row.split() == ["testmq", "0", "3", "0", "0", "-"]
    assert below == "testmq: 3 at work (2 not renewed for 6 minutes, back in 4 minutes)"
    shown = json.loads(sh.ok("view", root, "--format", "json"))["testmq"]
    assert (shown["work"], shown["not_renewed"]) == (3, 2)
    assert shown["not_renewed_for"] == pytest.approx(360, abs=60)
    assert shown["back_in"] == pytest.approx(240, abs=60)
    request = json.dumps({"cmd": "view", "root": str(root)})
    assert json.loads(sh.ok("json", request))["testmq"]["not_renewed"] == 2


def test_view_names_only_the_queues_that_are_asked_for(sh, root):
    sh.ok("create", root, "other,third")
    counts = json.loads(sh.ok("view", root, "testmq,other", "--format=json"))
    assert list(counts) == ["testmq", "other"]
    assert sh.ok("view", "-n", root) == "other\ntestmq\nthird"


def test_a_view_for_programs_tells_what_is_to_follow(sh, root):
    view = ("view", root, "testmq", "--format", "json")
    assert json.loads(sh.ok(*view))["testmq"]["then"] == []
    Broker(root).with_follow_ups("testmq", lambda each: each.arm())
    armed = [{"state": "armed", "failures": 0}]
    assert json.loads(sh.ok(*view))["testmq"]["then"] == armed
    request = json.dumps({"cmd": "view", "root": str(root)})
    assert json.loads(sh.ok("json", request))["testmq"]["then"] == armed
    assert "armed" not in sh.ok("view", root)


def test_a_name_is_that_of_a_queue(sh, root):
    assert sh.ok("view", "-n", root, "testmq") == "testmq"
    assert "none: no such queue" in sh.error("view", "-n", root, "testmq,none")


def test_a_queue_that_is_deleted_meanwhile_hides_no_other(sh, root, monkeypatch):
    counted = Broker.overview

    def overview(broker, queue):
        found = counted(broker, queue)
        if "deleted" in broker.queues():
            Broker(root).delete_queue("deleted")
            broker._open.clear()  # as when its directories are compared once more
        return found

    monkeypatch.setattr(Broker, "overview", overview)
    for form in ("plain", "json"):
        sh.ok("create", root, "deleted")
        assert "testmq" in sh.ok("view", root, "--format", form)
