"""A request in JSON is answered with one object."""

from __future__ import annotations

import json
import re

import pytest


def test_debug_counts_what_a_request_in_json_costs(sh, root):
    request = {"cmd": "view", "root": str(root)}
    status, out, err = sh("json", json.dumps(request), "-d")
    assert (status, json.loads(out)["testmq"]["waiting"]) == (0, 0)
    assert re.match(r"ddmq: \d+ file-system calls: ", err)


def test_json_is_read_from_standard_input(sh, root):
    request = json.dumps({"cmd": "view", "root": str(root)}).encode()
    assert "testmq" in json.loads(sh.ok("json", stdin=request))
    assert "testmq" in json.loads(sh.ok("json", "-", stdin=request))


@pytest.mark.parametrize(
    "request_",
    [
        "",
        "{",
        "[]",
        "3",
        "[" * 100_000,
        '{"cmd": "bogus"}',
        '{"cmd": 5}',
        '{"cmd": "view"}',
        '{"cmd": "view", "root": 7}',
        '{"cmd": "view", "root": "ROOT", "colour": "red"}',
        '{"cmd": "view", "root": "ROOT", "queue": {"a": 1}}',
        '{"cmd": "consume", "root": "ROOT", "queue": "testmq", "number": "many"}',
        '{"cmd": "consume", "root": "ROOT", "queue": "testmq", "number": 0}',
        '{"cmd": "publish", "root": "ROOT", "queue": "testmq"}',
        '{"cmd": "publish", "root": "ROOT", "queue": "testmq", "message": "\\ud800"}',
        '{"cmd": "publish", "root": "ROOT", "queue": "no", "message": "x"}',
        '{"cmd": "create", "root": "ROOT", "queue": "q", "mode": "rwx"}',
        '{"cmd": "create", "root": "ROOT", "queue": "q", "mode": "0"}',
        '{"cmd": "results", "root": "ROOT", "queue": "testmq", "dir": "\\u0000"}',
        '{"cmd": "results", "root": "ROOT", "queue": "testmq", "dir": "\\ud800"}',
        '{"cmd": "doctor", "root": "ROOT", "queue": ["\\ud800"]}',
        '{"cmd": "report", "root": "ROOT", "queues": ["testmq"], "since": "1e308"}',
    ],
)
def test_json_answers_nonsense_with_one_object(sh, root, request_):
    status, out, err = sh("json", request_.replace("ROOT", str(root)))
    assert (status, err) == (1 if '"no"' in request_ else 2, "")
    assert json.loads(out)["error"]


def test_json_says_when_there_is_nothing_to_consume(sh, root):
    request = {"cmd": "consume", "root": str(root), "queue": "testmq"}
    status, out, _ = sh("json", json.dumps(request))
    assert (status, json.loads(out)) == (3, {"messages": []})


def test_of_no_messages_nothing_is_told(sh, root):
    request = {"cmd": "status", "root": str(root), "queue": "testmq", "id": []}
    assert json.loads(sh.ok("json", json.dumps(request))) == {"messages": []}
