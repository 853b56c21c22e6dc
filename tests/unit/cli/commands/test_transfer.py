"""Messages are moved to another queue."""

from __future__ import annotations

import json

from ddmq import Broker


def test_move_takes_ids_with_commas(sh, root):
    sh.ok("create", root, "bigmem")
    ids = [sh.ok("publish", root, "testmq", text) for text in "abc"]
    told = sh.ok("move", root, "testmq", f"{ids[0]},{ids[2]}", "bigmem")
    assert told == f"{ids[0]}: moved to bigmem\n{ids[2]}: moved to bigmem"
    assert "a\n" in sh.ok("peek", root, "bigmem")
    request = {"cmd": "move", "root": str(root), "queue": "testmq", "id": [ids[1]]}
    assert json.loads(sh.ok("json", json.dumps({**request, "target": "bigmem"}))) == {
        "moved": [ids[1]]
    }
    assert sh.ok("peek", root, "testmq") == ""


def test_what_stays_is_told_with_what_to_do(sh, root):
    sh.ok("create", root, "bigmem")
    held, free = (sh.ok("publish", root, "testmq", text) for text in "ab")
    Broker(root).consume("testmq")
    told = sh.error("move", root, "testmq", f"{held},{free}", "bigmem")
    assert f"1 of 2 moved to bigmem; not moved: {held}: at work; `ddmq release`" in told
    many = ",".join(f"f{n}" for n in range(9))
    assert "; and 4 more" in sh.error("move", root, "testmq", many, "bigmem")


def test_a_queue_that_is_not_there_or_the_same_moves_nothing(sh, root):
    id_ = sh.ok("publish", root, "testmq", "a")
    assert "no such queue" in sh.error("move", root, "testmq", id_, "bigmen")
    assert "another queue" in sh.wrong("move", root, "testmq", id_, "testmq")
    assert id_ in sh.ok("peek", root, "testmq")
