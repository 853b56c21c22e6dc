"""Dead letters are listed and redriven."""

from __future__ import annotations

import json
import os

import pytest
from hpc.inside import run

from ddmq import Broker


def test_dead_letters_are_listed_with_reasons_and_redriven(sh, root):
    sh.ok("publish", root, "testmq", "bad sample")
    message = json.loads(sh.ok("consume", root, "testmq"))
    sh.ok("reject", root, "testmq", message["id"], "--reason", "no such sample")
    told = sh.ok("dead", root, "testmq")
    assert "bad sample" in told
    assert "no such sample" in told
    [letter] = json.loads(sh.ok("dead", root, "testmq", "--format", "json"))
    assert letter["id"] == message["id"]
    assert "ffff: no dead letter" in sh.wrong("redrive", root, "testmq", "ffff")
    assert sh.ok("redrive", root, "testmq") == "1"
    assert sh.ok("consume", root, "testmq", "--format", "plain") == "bad sample"


@pytest.fixture
def failed(root, clock, tmp_path):
    """Let commands fail, each as its message says; return the ids of the dead letters."""
    broker = Broker(root, create=True, clock=clock)
    ids = [broker.publish("q", text, requeue_limit=1) for text in ("3", "4", "9\n9")]
    command = 'echo "said $DDMQ_MESSAGE" >&2; echo out; exit "${DDMQ_MESSAGE#*\n}"'
    run(root, clock, command, log_dir=str(tmp_path / "logs"))
    return ids


def test_the_paths_of_logs_are_those_of_files(sh, root, failed):
    told = sh.ok("dead", root, "q")
    paths = [
        line.split()[1] for line in told.splitlines() if line.startswith("    log ")
    ]
    assert len(paths) == 6
    assert all(os.path.isfile(path) for path in paths)
    assert {os.path.splitext(path)[1] for path in paths} == {".err", ".out"}


def test_what_nothing_was_printed_to_has_no_path(sh, root, clock, tmp_path):
    Broker(root, create=True, clock=clock).publish("q", "a", requeue_limit=0)
    run(root, clock, "exit 1", log_dir=str(tmp_path / "logs"))
    assert "    log " not in sh.ok("dead", root, "q")


def test_one_is_shown_whole(sh, root, failed):
    told = sh.ok("dead", root, "q", failed[2])
    assert "    | 9\n    | 9\n" in told
    assert "2 failures, 0 losses, priority " in told
    assert told.count("  failed: exit 9 after ") == 1
    assert told.count("  dead: exit 9 after ") == 1
    assert told.count(" on node\n") == 2
    paths = [
        line.split()[1] for line in told.splitlines() if line.startswith("    log ")
    ]
    assert len(paths) == 4
    assert all(os.path.isfile(path) for path in paths)
    assert told.endswith("what it said last\n    | said 9\n    | 9")
    assert failed[1] not in told


def test_a_program_gets_one_with_its_tries(sh, root, failed):
    letter = json.loads(sh.ok("dead", root, "q", failed[0], "--format", "json"))
    assert letter["message"] == "3"
    assert [(each["exit"], each["host"]) for each in letter["tries"]] == [
        (3, "node")
    ] * 2


def test_one_that_is_not_there_is_an_error(sh, root, failed):
    assert "ffff: no dead letter of queue q" in sh.error("dead", root, "q", "ffff")


@pytest.mark.parametrize(
    ("options", "number"),
    [
        (["--code", "3"], 1),
        (["--code", "2-4"], 2),
        (["--code", "1"], 0),
        (["--reason", "exit status 4"], 1),
        (["--reason", "exit"], 3),
        (["--reason", "exit", "--code", "9"], 1),
        (["--reason", "exit status 4", "--code", "9"], 0),
    ],
)
def test_only_those_are_redriven_that_ended_so(sh, root, failed, options, number):
    assert sh.ok("redrive", root, "q", *options) == str(number)
    assert len(Broker(root).dead("q")) == 3 - number


def test_ids_and_the_way_they_ended_must_both_be_so(sh, root, failed):
    assert sh.ok("redrive", root, "q", failed[0], "--code", "3,4") == "1"


def test_a_signal_has_a_code_and_nonsense_has_none(sh, root):
    broker = Broker(root)
    for details in ({"signal": "SIGKILL"}, {"signal": "SIGNO"}, {"exit": "137"}, {}):
        broker.publish("testmq", "a")
        broker.reject(broker.consume("testmq"), "x", details=details)
    assert sh.ok("redrive", root, "testmq", "--code", "137") == "1"
    assert sh("redrive", root, "testmq", "--code", "many")[0] == 2
