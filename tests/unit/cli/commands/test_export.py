"""A queue is written as lines of JSON, and read again elsewhere."""

from __future__ import annotations

import json
import os
import threading

import pytest

from ddmq import Broker

HOSTILE = "\x1b[2J\u202e\x7f\x9b\nFORGED"


@pytest.fixture
def filled(root):
    """A queue in which something is in every state."""
    broker = Broker(root)
    broker.publish_many("testmq", [f"x{n}" for n in range(30)], timeout=9)
    held = broker.consume("testmq", 4)
    broker.reject(held[0], "bad sample", details={"job": "7"})
    broker.nack(held[1])
    broker.publish("testmq", {"any": [HOSTILE]}, priority=4, requeue_limit=None)
    broker.publish("testmq", "later", delay=3600, requeue=False)
    return broker


def rows_in(text):
    return [json.loads(line) for line in text.splitlines()]


def what(broker, queue="testmq"):
    """Return all that is told of the messages of a queue but for their ids."""
    found = []
    for seen in broker.contents(queue, work=True):
        until = seen.until and round(seen.until)
        found.append(seen._replace(id="", queue="", until=until))
    return sorted(found, key=repr)


def test_what_is_exported_comes_back_the_same(sh, root, filled, tmp_path):
    file, other = tmp_path / "out.jsonl", tmp_path / "other"
    for seen in filled.contents("testmq", work=True):
        if seen.state == "work":
            filled.ack(filled.leased("testmq", seen.id))
    before = what(filled)
    assert sh.ok("export", root, "testmq", "-o", file) == "30"
    assert what(filled) == before
    assert sh.ok("import", "-f", other, "new", file) == "30"
    assert what(Broker(other), "new") == before
    assert os.listdir(tmp_path / "other" / "new" / "bundles") != []
    assert sh.ok("redrive", other, "new") == "1"
    assert sh.ok("peek", other, "new", "-n", "1").endswith("  x1")


def test_lines_say_all_and_no_terminal_obeys_them(sh, root, filled):
    rows = rows_in(sh.ok("export", root, "testmq"))
    assert len(rows) == 30
    by_state = {row["state"]: row for row in rows}
    assert set(by_state) == {"waiting", "delayed", "dead"}
    assert by_state["dead"]["note"] == {"reason": "bad sample", "job": "7"}
    assert by_state["delayed"]["until"] > 1e9
    nacked, hostile = (r for r in rows if r["priority"] < 9 and r["state"] == "waiting")
    assert (nacked["failures"], nacked["published_priority"]) == (1, 999)
    assert hostile["message"] == {"any": [HOSTILE]}
    assert hostile["requeue_limit"] is None
    text = sh.ok("export", root, "testmq")
    assert text.replace("\n", "").isprintable()


def test_what_is_at_work_comes_with_work_and_waits_then(sh, root, filled, tmp_path):
    rows = rows_in(sh.ok("export", root, "testmq", "--work", "--no-dead"))
    assert [row["message"] for row in rows if row["state"] == "work"] == ["x2", "x3"]
    assert "dead" not in {row["state"] for row in rows}
    sh.ok("export", root, "testmq", "--work", "-o", tmp_path / "out")
    sh.ok("create", root, "new")
    assert sh.ok("import", root, "new", tmp_path / "out", "--no-dead") == "31"
    assert Broker(root).view("new")["new"] == (30, 0, 1, 0)


def test_the_order_of_what_waits_stays(sh, root, tmp_path):
    broker = Broker(root)
    for number in range(5):
        broker.publish("testmq", f"single {number}")
        broker.publish_many("testmq", [f"{number} {n}" for n in range(12)])
    broker.nack(broker.consume("testmq"))
    before = [seen.message for seen in broker.peek("testmq", 99)]
    sh.ok("export", root, "testmq", "-o", tmp_path / "out")
    sh.ok("import", "-f", tmp_path / "mq2", "q", tmp_path / "out")
    after = [seen.message for seen in Broker(tmp_path / "mq2").peek("q", 99)]
    assert after == before


def test_standard_input_and_pipes_can_be_imported(sh, root, filled, tmp_path):
    data = sh.ok("export", root, "testmq").encode()
    sh.ok("create", root, "new")
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[data])
    writer.start()
    assert sh.ok("import", root, "new", tmp_path / "pipe") == "30"
    writer.join()
    assert Broker(root).view("new")["new"].waiting == 28


def test_a_second_import_doubles_and_says_so_in_its_help(sh, root, filled, tmp_path):
    sh.ok("export", root, "testmq", "-o", tmp_path / "out")
    sh.ok("create", root, "new")
    for _ in range(2):
        sh.ok("import", root, "new", tmp_path / "out")
    assert Broker(root).view("new")["new"] == (56, 0, 2, 2)
    assert "comes twice" in sh.ok("import", "-h")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "not JSON"),
        ("[]", 'no object with a "message"'),
        ('{"priority": 1}', 'no object with a "message"'),
        ('{"message": 1}', "priority is null"),
        ('{"message": 1, "priority": -1}', "priority is -1"),
        ('{"message": 1, "priority": 1, "failures": -1}', "failures is -1"),
        ('{"message": 1, "priority": 1, "losses": true}', "losses is true"),
        ('{"message": 1, "priority": 1, "state": "odd"}', "state is 'odd'"),
        ('{"message": 1, "priority": 1, "state": []}', "state is of type list"),
        ('{"message": 1, "priority": 1, "timeout": 0}', "timeout is 0"),
        ('{"message": 1, "priority": 1, "until": 1e99}', "until is 1e+99"),
        ('{"message": 1, "priority": 1, "code": "../x"}', "code is '../x'"),
        ('{"message": 1, "priority": 1, "note": {"a": NaN}}', "note is of type dict"),
        ('{"message": 1, "priority": 1, "note": []}', "note is of type list"),
        ('{"message": "\\ud800", "priority": 1}', "lone surrogate"),
        ('{"message": "%s", "priority": 1}' % ("x" * (1 << 20)), "max_message_size"),
    ],
)
def test_a_line_that_is_wrong_imports_nothing(sh, root, tmp_path, line, why):
    good = '{"message": "a", "priority": 1}\n'
    (tmp_path / "in").write_text(good * 20 + line + "\n" + good)
    said = sh.wrong("import", root, "testmq", tmp_path / "in")
    assert why in said
    assert "message 21 of" in said or "line 21" in said
    assert Broker(root).is_empty("testmq")


@pytest.mark.parametrize("force", [[], ["-f"]])
def test_a_message_too_large_by_a_digit_of_its_priority_imports_nothing(
    sh, root, tmp_path, force
):
    """Its file says the priority, too, and the queue sets how large that may be."""
    sh.ok("config", root, "testmq", "--set", "max_message_size=1024")
    row = {"message": "x" * (1024 - len('{"message":"","priority":9999}\n'))}
    good, bad = {**row, "priority": 9999}, {**row, "priority": 10000}
    file = tmp_path / "in"
    file.write_text(json.dumps(good) + "\n" + json.dumps(bad))
    said = sh.wrong("import", *force, root, "testmq", file)
    assert "message 2 of" in said
    assert Broker(root).is_empty("testmq")
    file.write_text(json.dumps(good))
    assert sh.ok("import", *force, root, "testmq", file) == "1"


def test_what_holds_no_message_is_left_out_and_told(sh, root, caplog):
    ids = [sh.ok("publish", root, "testmq", text) for text in "ab"]
    [bucket] = (root / "testmq" / "ready" / "999").iterdir()
    [path] = [path for path in bucket.iterdir() if ids[0] in path.name]
    path.write_bytes(b"no JSON")
    [row] = rows_in(sh.ok("export", root, "testmq"))
    assert row["id"] == ids[1]
    assert f"left out: {ids[0]}, waiting: its file is not JSON" in caplog.text


def test_what_can_not_be_read_now_makes_the_status_1(sh, root, caplog):
    broker = Broker(root)
    broker.publish_many("testmq", list("x" * 12))
    [lines] = (root / "testmq" / "bundles").glob("*/lines")
    lines.rename(root / "hidden")
    assert sh("export", root, "testmq")[:2] == (1, "")
    assert "left out: 12 in all" in caplog.text


def test_a_file_is_there_whole_or_as_it_was(sh, root, filled, tmp_path, monkeypatch):
    file = tmp_path / "out"
    file.write_text("before")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert "No space left" in sh.error("export", root, "testmq", "-o", file)
    assert file.read_text() == "before"
    assert sorted(os.listdir(tmp_path)) == ["mq", "out"]
    (tmp_path / "link").symlink_to(file)
    sh.ok("export", root, "testmq", "-o", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert file.read_text().count("\n") == 30
    assert "no ordinary file" in sh.wrong("export", root, "testmq", "-o", tmp_path)
    missing = tmp_path / "no" / "where"
    assert "No such file" in sh.error("export", root, "testmq", "-o", missing)


def test_programs_get_the_messages_or_the_numbers(sh, root, filled, tmp_path):
    request = {"cmd": "export", "root": str(root), "queue": "testmq"}
    told = json.loads(sh.ok("json", json.dumps(request)))
    assert len(told["messages"]) == 30
    request["output"] = str(tmp_path / "out")
    told = json.loads(sh.ok("json", json.dumps(request)))
    assert told == {"exported": 30, "left_out": 0}
    request = {"cmd": "import", "root": str(root), "queue": "testmq"}
    request["file"] = str(tmp_path / "out")
    assert json.loads(sh.ok("json", json.dumps(request))) == {"imported": 30}


@pytest.mark.parametrize(
    ("error", "code"),
    [(OSError(28, "No space left on device"), 1), (KeyboardInterrupt(), 130)],
)
def test_an_end_in_the_middle_says_how_many_came(
    sh, root, tmp_path, monkeypatch, caplog, error, code
):
    rows = [{"message": n, "priority": 1, "failures": 1} for n in range(5)]
    (tmp_path / "in").write_text("".join(json.dumps(row) + "\n" for row in rows))
    real, calls = os.write, []

    def write(descriptor, data):
        calls.append(descriptor)
        if len(calls) > 3:
            raise error
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    status, _, told = sh("import", root, "testmq", tmp_path / "in")
    monkeypatch.undo()
    assert status == code
    waiting = Broker(root).view("testmq")["testmq"].waiting
    assert f"at least {waiting} messages were imported" in told + caplog.text
