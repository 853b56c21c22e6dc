"""Messages are looked at, and nobody takes them."""

from __future__ import annotations

import json

import pytest
import yaml
from hpc.inside import run

from ddmq import Broker

HOSTILE = "\x1b[2J\u202e\nFORGED"


def test_peek_shows_the_next_ones_in_order(sh, root):
    ids = [sh.ok("publish", root, "testmq", text) for text in ("a", "b")]
    urgent = sh.ok("publish", root, "testmq", "now", "-p", "1")
    told = sh.ok("peek", root, "testmq")
    assert told == f"{urgent}  1  now\n{ids[0]}  999  a\n{ids[1]}  999  b"
    assert sh.ok("peek", root, "testmq", "-n", "1") == f"{urgent}  1  now"
    shown = json.loads(sh.ok("peek", root, "testmq", "--format", "json"))
    assert [each["id"] for each in shown] == [urgent, *ids]
    assert shown == yaml.safe_load(sh.ok("peek", root, "testmq", "--format", "yaml"))
    request = {"cmd": "peek", "root": str(root), "queue": "testmq", "number": 2}
    assert json.loads(sh.ok("json", json.dumps(request)))["messages"] == shown[:2]
    assert sh.ok("view", root).split()[-5:-1] == ["3", "0", "0", "0"]


def test_ten_are_peeked_at_unless_asked_otherwise(sh, root):
    Broker(root).publish_many("testmq", map(str, range(30)))
    assert sh.ok("peek", root, "testmq").count("\n") == 9
    assert sh.ok("peek", root, "testmq", "-n", "99").count("\n") == 29
    assert "no positive number" in sh.wrong("peek", root, "testmq", "-n", "0")


def test_an_empty_queue_shows_nothing(sh, root):
    assert sh.ok("peek", root, "testmq") == ""
    assert sh.ok("peek", root, "testmq", "--format", "json") == "[]"


def test_a_text_is_one_line_that_no_terminal_obeys(sh, root):
    id_ = sh.ok("publish", root, "testmq", HOSTILE)
    told = sh.ok("peek", root, "testmq")
    assert told == rf"{id_}  999  \x1b[2J\u202e\nFORGED"
    assert r"    | \x1b[2J\u202e" in sh.ok("show", root, "testmq", id_)
    assert "\nFORGED" not in sh.ok("show", root, "testmq", id_)


def test_one_that_waits_is_shown_with_what_it_sets_itself(sh, root):
    id_ = sh.ok("publish", root, "testmq", "a", "-p", "4", "--timeout", "30")
    lines = sh.ok("show", root, "testmq", id_).splitlines()
    assert lines == [
        id_,
        "    waits at priority 4",
        "    0 failures, 0 losses",
        "    timeout 30",
        "message",
        "    | a",
    ]
    shown = json.loads(sh.ok("show", root, "testmq", id_, "--format", "json"))
    assert (shown["state"], shown["timeout"], shown["tries"]) == ("waiting", 30, [])


def test_one_at_work_says_until_when_and_who_took_it(sh, root):
    Broker(root).publish_many("testmq", list("x" * 10))
    [message] = Broker(root).consume("testmq")
    told = sh.ok("show", root, "testmq", message.id)
    assert "    at work; its lease ends 2" in told
    assert ", in 10 minutes, unless it is renewed; taken by process " in told


def test_a_delayed_one_says_until_when(sh, root):
    id_ = sh.ok("publish", root, "testmq", "a", "--delay", "1h")
    told = sh.ok("show", root, "testmq", id_)
    assert ", in 60 minutes; then it waits at priority 999" in told


def test_one_due_beyond_all_dates_is_shown(sh, root):
    id_ = sh.ok("publish", root, "testmq", "a", "--delay", "1h")
    [path] = (root / "testmq" / "delayed").iterdir()
    path.rename(path.with_name("9" * 13 + path.name[13:]))
    assert "delayed until " in sh.ok("show", root, "testmq", id_)


def test_a_dead_one_is_shown_as_dead_shows_it(sh, root, clock):
    broker = Broker(root, create=True, clock=clock)
    id_ = broker.publish("q", "3", requeue_limit=1)
    run(root, clock, 'exit "$DDMQ_MESSAGE"')
    assert sh.ok("show", root, "q", id_) == sh.ok("dead", root, "q", id_)
    shown = json.loads(sh.ok("show", root, "q", id_, "--format", "json"))
    assert (shown["state"], len(shown["tries"])) == ("dead", 2)


def test_what_workers_noted_of_it_is_shown(sh, root, clock):
    broker = Broker(root, create=True, clock=clock)
    first, second = (broker.publish("q", text) for text in ("0", "1"))
    run(root, clock, 'exit "$DDMQ_MESSAGE"', max_messages=2, brake=False)
    assert "failed: exit 1 after " in sh.ok("show", root, "q", second)
    told = sh.error("show", root, "q", first)
    assert f"{first}: no message of queue q; a worker noted of it: acked" in told


@pytest.mark.parametrize("id_", ["ffff", HOSTILE, "../../etc"])
def test_one_that_is_not_there_is_an_error_that_says_where_to_look(sh, root, id_):
    assert "no message of queue testmq" in sh.error("show", root, "testmq", id_)


def test_more_may_be_asked_for_than_any_machine_counts(sh, root, broker):
    broker.publish("testmq", "a")
    assert "a" in sh.ok("peek", root, "testmq", "-n", str(10**30))
