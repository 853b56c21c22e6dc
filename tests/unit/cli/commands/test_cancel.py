"""`ddmq cancel`: what it says of each message, and of those that are not there."""

from __future__ import annotations

import json

from ddmq import Broker


def test_it_says_what_becomes_of_each(sh, root):
    broker = Broker(root)
    single = sh.ok("publish", root, "testmq", "x")
    held = broker.consume("testmq")[0].id
    single = sh.ok("publish", root, "testmq", "y")
    broker.publish_many("testmq", ["z"] * 12)
    line = broker.peek("testmq", 5)[-1].id
    told = sh.ok("cancel", root, "testmq", f"{single},{held},{line}").splitlines()
    assert told == [
        f"{single}: cancelled",
        f"{held}: cancelled; it is at work, and its worker ends it with the next heartbeat",
        f"{line}: cancelled; it waits with others, and is dead when its turn comes",
    ]
    request = {"cmd": "cancel", "root": str(root), "queue": "testmq", "id": [single]}
    assert json.loads(sh.ok("json", json.dumps(request))) == {
        "cancelled": {single: "dead"}
    }
    assert sh.ok("doctor", root, "testmq").endswith("all is well")
    assert sh.ok("dead", root, "testmq").splitlines()[1].startswith("    cancelled by ")


def test_what_is_not_there_is_an_error_and_all_else_is_cancelled(sh, root):
    id_ = sh.ok("publish", root, "testmq", "x")
    said = sh.error("cancel", root, "testmq", f"nowhere,{id_}")
    assert "1 of 2 cancelled; not in queue testmq: nowhere: unknown" in said
    assert sh("status", root, "testmq", id_)[:2] == (4, "dead\n")
    assert "no message of queue testmq" in sh.error("cancel", root, "testmq", "../x")
