"""A page is made of what the journals tell, and written whole or not at all."""

from __future__ import annotations

import csv
import errno
import json
import os
import pty
import stat
import subprocess
import sys

import pytest

from ddmq import Broker, InvalidArgument
from ddmq.cli.commands.report import moment_of

RUN = {"id": "a", "start": 1000.0, "duration": 2.0, "result": "acked", "exit": 0}
RUN.update(
    signal=None, host="n1", job="", slot=0, peak_kib=1, cpu=0.0, log="", text="x"
)


@pytest.fixture
def ran(root):
    """Return a function that writes a journal of some lines to a queue."""

    def write(*lines, queue="testmq"):
        (root / queue / "journal").mkdir(exist_ok=True)
        data = [json.dumps(x) if isinstance(x, dict) else x for x in lines]
        path = root / queue / "journal" / f"n1-1-{7:016x}.1.jsonl"
        path.write_text("".join(f"{each}\n" for each in data))

    return write


def test_a_page_is_written(sh, root, ran, tmp_path):
    ran(RUN, {**RUN, "id": "b", "result": "dead", "exit": 2})
    told = sh.ok("report", root, "testmq", "-o", tmp_path / "r.html")
    assert told.startswith(
        f"{tmp_path}/r.html: 2 messages of queue testmq: 1 done, 1 failed"
    )
    text = (tmp_path / "r.html").read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert "2 messages of queue testmq: 1 done, 1 failed" in text
    assert sorted(os.listdir(tmp_path)) == ["mq", "r.html"]


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [RUN],
        ["garbage", "{}", "[]", "\x00", "null"],
        [{**RUN, "start": 0.0}, {**RUN, "start": 9e9}, RUN],
        [{**RUN, "start": 1002.0}, {**RUN, "start": 1000.0, "duration": 0.0}],
        [{**RUN, "duration": 1e10, "cpu": 1e10, "peak_kib": 10**18, "slot": 10**18}],
        [{**RUN, "host": "", "id": "", "text": "", "result": "", "job": ""}],
        [{**RUN, "batch": 0}, {**RUN, "batch": 10**18}],
        [{"granted": {"start": 0, "slots": 0, "memory_kib": 0}}, RUN],
        [{"granted": {"start": 0, "slots": 10**18, "seconds": 10**18}}, RUN],
    ],
)
def test_whatever_the_journals_hold_there_is_a_page(sh, root, ran, tmp_path, lines):
    ran(*lines)
    sh.ok("report", root, "testmq", "-o", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert text.count("<section ") == text.count("</section>") == 8
    json.loads(sh.ok("report", root, "testmq", "--format", "json"))


def test_a_queue_without_journals_has_a_page(sh, root, tmp_path):
    told = sh.ok("report", root, "testmq", "-o", tmp_path / "r.html")
    assert "No run is in the journals" in told


def test_what_commands_said_last_comes_from_dead_letters(sh, root, ran):
    broker = Broker(root)
    broker.publish("testmq", "sample1")
    [message] = broker.consume("testmq")
    details = {"exit": 2, "signal": None, "host": "n1", "stderr": "one\nsample1: bad\n"}
    broker.reject(message, "exit status 2 on n1", details=details)
    broker.publish("testmq", "delayed", delay=60)
    broker.publish("testmq", "waits")
    ran({**RUN, "id": message.id, "result": "dead", "exit": 2, "text": "sample1"})
    [group] = json.loads(sh.ok("report", root, "testmq", "--format", "json"))[
        "failures"
    ]
    assert group == {
        "queue": "testmq",
        "how": "exit 2",
        "host": "n1",
        "line": "{}: bad",
        "runs": 1,
        "dead": 1,
        "text": "sample1",
    }


def test_what_the_latest_job_had_is_what_its_worker_noted(sh, root, ran):
    noted = {"start": 50.0, "slots": 2, "memory_kib": 8 << 20, "seconds": 3600.0}
    earlier = {**noted, "start": 9.0, "slots": 7}
    ran({"granted": earlier}, RUN, {"granted": noted}, {"granted": earlier})
    told = json.loads(sh.ok("report", root, "testmq", "--format", "json"))
    assert told["asked"] == {
        "testmq": {
            "slots": 2,
            "memory_kib": 8 << 20,
            "seconds": 3600.0,
            "is_noted": True,
        }
    }


def test_several_queues_are_told_together(sh, root, ran):
    sh.ok("create", root, "other")
    ran(RUN)
    ran(RUN, {**RUN, "id": "b"}, queue="other")
    told = json.loads(sh.ok("report", root, "testmq,other,testmq", "--format", "json"))
    assert told["runs"] == 3
    assert [(each["queue"], each["done"]) for each in told["queues"]] == [
        ("testmq", 1),
        ("other", 2),
    ]


def test_numbers_are_rows_too(sh, root, ran):
    ran(RUN)
    rows = list(
        csv.DictReader(sh.ok("report", root, "testmq", "--format", "csv").splitlines())
    )
    assert {"part": "messages", "number": "1", "name": "done", "value": "1"} in rows


def test_a_page_and_its_numbers_are_made_at_once(sh, root, ran, tmp_path):
    ran(RUN)
    told = sh.ok(
        "report", root, "testmq", "--format", "json", "-o", tmp_path / "r.html"
    )
    assert json.loads(told)["runs"] == 1
    assert (tmp_path / "r.html").exists()


def test_only_what_began_since_is_told(sh, root, ran):
    ran(RUN, {**RUN, "id": "b", "start": 4e9})
    for since in ("2030-01-31", "2030-01-31T12:00", "1h"):
        told = sh.ok("report", root, "testmq", "--since", since, "--format", "json")
        assert json.loads(told)["runs"] == 1


@pytest.mark.parametrize(
    ("text", "moment"),
    [("90", 910.0), ("5m", 700.0), ("0:10:00", 400.0), ("0", 1000.0)],
)
def test_so_long_ago_is_a_time(text, moment):
    assert moment_of(text, 1000.0) == moment


@pytest.mark.parametrize(
    "text", ["", "x", "-5", "nan", "null", "2030-99-99", "2030-01-31Tx"]
)
def test_what_is_no_time_is_wrong_usage(text):
    with pytest.raises(InvalidArgument, match="is no time"):
        moment_of(text, 1000.0)


def test_there_must_be_such_a_queue(sh, root):
    assert "no such queue" in sh.error("report", root, "nothing", "--format", "json")


def test_a_page_that_was_there_is_replaced(sh, root, tmp_path):
    (tmp_path / "r.html").write_text("old")
    sh.ok("report", root, "testmq", "-o", tmp_path / "r.html")
    assert "old" not in (tmp_path / "r.html").read_text()[:10]


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "directory"])
def test_what_is_no_ordinary_file_is_not_written_to(sh, root, tmp_path, kind):
    path, other = tmp_path / "r.html", tmp_path / "other"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(other)
    if kind == "link":
        other.write_text("mine")
    before = stat.S_IFMT(path.lstat().st_mode)
    assert "no ordinary file" in sh.wrong("report", root, "testmq", "-o", path)
    assert stat.S_IFMT(path.lstat().st_mode) == before
    assert not other.exists() or other.read_text() == "mine"


def test_where_nothing_can_be_written_nothing_is_left(sh, root, tmp_path):
    told = sh.error("report", root, "testmq", "-o", tmp_path / "none" / "r.html")
    assert "none/r.html: No such file or directory" in told
    assert sh.wrong("report", root, "testmq", "-o", "x\0y")
    assert os.listdir(tmp_path) == ["mq"]


def test_a_disk_that_fails_leaves_what_was_there(sh, root, tmp_path, monkeypatch):
    (tmp_path / "r.html").write_text("old")

    def fail(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    told = sh.error("report", root, "testmq", "-o", tmp_path / "r.html")
    assert "r.html: No space left on device" in told
    assert (tmp_path / "r.html").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["mq", "r.html"]


@pytest.mark.slow
def test_a_terminal_gets_no_page(root):
    reader, terminal = pty.openpty()
    command = [sys.executable, "-m", "ddmq", "report", str(root), "testmq"]
    done = subprocess.run(command, stdout=terminal, stderr=subprocess.PIPE, text=True)
    os.close(terminal)
    os.close(reader)
    assert done.returncode == 2
    assert "-o report.html" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("told", [[], ["-o", "-"]], ids=["by default", "asked for"])
def test_a_pipe_gets_the_page(root, ran, tmp_path, told):
    ran(RUN)
    command = [sys.executable, "-m", "ddmq", "report", str(root), "testmq", *told]
    done = subprocess.run(command, capture_output=True, check=True, cwd=tmp_path)
    assert not (tmp_path / "-").exists()
    assert done.stdout.startswith(b"<!DOCTYPE html>")
    assert done.stdout.endswith(b"</html>\n")
