"""The runs in the journals of a queue are listed."""

from __future__ import annotations

import json

import pytest

RUN = {"id": "a", "start": 1.0, "duration": 2.0, "result": "acked", "exit": 0}
RUN.update(signal=None, host="n1", job="", slot=0, peak_kib=1, cpu=0.0, log="")


@pytest.fixture
def listed(sh, root):
    """Return a function that lists the ids of three runs, by options."""
    runs = [
        {**RUN, "id": "b", "start": 2.0, "duration": 9.0, "result": "failed"},
        RUN,
        {**RUN, "id": "c", "start": 3.0, "duration": 5.0, "host": "n2"},
    ]
    (root / "testmq" / "journal").mkdir(exist_ok=True)
    text = "".join(json.dumps(run) + "\n" for run in runs)
    (root / "testmq" / "journal" / "n1.1.jsonl").write_text(text)

    def ids(*options):
        told = sh.ok("log", root, "testmq", "--format", "json", *options)
        return "".join(run["id"] for run in json.loads(told or "[]"))

    return ids


def test_runs_are_listed_as_they_began(listed):
    assert listed() == "abc"


def test_only_some_are_listed(listed):
    assert listed("--failed") == "b"
    assert listed("--host", "n2") == "c"
    assert listed("--host", "n2", "--failed") == ""


def test_those_of_some_messages_are_listed_with_the_paths_of_their_logs(
    sh, root, listed
):
    journal = root / "testmq" / "journal" / "n2.1.jsonl"
    run = {**RUN, "id": "d", "text": "samples/s17.txt", "log": "/logs/d.1"}
    journal.write_text(json.dumps({**run, "logged": "out err"}) + "\n")
    assert listed("--text", "s17") == "d"
    assert listed("--text", "s18") == ""
    assert listed("--text", "s17", "--failed") == ""
    told = sh.ok("log", root, "testmq", "--text", "s17").splitlines()
    assert told[0].endswith("  samples/s17.txt")
    assert told[1:] == ["    log /logs/d.1.out", "    log /logs/d.1.err"]
    assert len(sh.ok("log", root, "testmq").splitlines()) == 4


def test_the_slowest_come_first(listed):
    assert listed("--slowest", "2") == "bc"
    assert listed("--slowest", "9") == "bca"


def test_the_slowest_are_a_positive_number(sh, root):
    assert "no positive number" in sh.wrong("log", root, "testmq", "--slowest", "0")


def test_there_must_be_such_a_queue(sh, root):
    assert "no such queue" in sh.error("log", root, "nothing")


def test_the_text_of_a_message_is_listed(sh, root):
    runs = [{**RUN, "text": "a\x1b[2Jb", "timed_out": True, "duration": 9.0}, RUN]
    (root / "testmq" / "journal").mkdir()
    text = "".join(json.dumps(run) + "\n" for run in runs)
    (root / "testmq" / "journal" / "n1.1.jsonl").write_text(text)
    told = sh.ok("log", root, "testmq", "--slowest", "1")
    assert told.endswith("  n1  a\\x1b[2Jb")
    assert "timed out" in told
    shown = json.loads(sh.ok("log", root, "testmq", "--format", "json"))
    assert [run["text"] for run in shown] == ["a\x1b[2Jb", ""]
    assert [run["timed_out"] for run in shown] == [True, False]
