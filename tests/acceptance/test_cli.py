"""The command line, as it is typed."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys

import pytest
from shell import Shell
from support import in_time, ready

from ddmq import Broker, __version__
from ddmq.settings import LAYOUT_LINE


@pytest.fixture
def sh(capfd, monkeypatch):
    return Shell(capfd, monkeypatch)


@pytest.fixture
def root(tmp_path, sh):
    sh.ok("create", "-f", tmp_path / "mq", "testmq")
    return tmp_path / "mq"


def test_the_commands_of_the_readme_work_one_after_the_other(sh, tmp_path):
    root = tmp_path / "mq"
    assert sh.ok("create", "-f", root, "testmq") == "testmq: created"
    id_ = sh.ok("publish", root, "testmq", "Hello World!")
    message = json.loads(sh.ok("consume", root, "testmq"))
    assert (message["message"], message["id"]) == ("Hello World!", id_)
    assert sh.ok("ack", root, "testmq", id_) == f"{id_}: acked"
    assert sh("consume", root, "testmq") == (3, "", "")
    sh.ok("publish", root, "testmq", "again")
    counts = {"waiting": 1, "work": 0, "delayed": 0, "dead": 0}
    unrenewed = {"not_renewed": 0, "not_renewed_for": None, "back_in": None}
    unrenewed.update(paused=None, workers=None)
    shown = json.loads(sh.ok("view", root, "--format", "json"))
    assert shown == {"testmq": {**counts, **unrenewed, "then": []}}
    sh.ok("purge", root, "testmq")
    sh.ok("delete", root, "testmq")
    assert sh.ok("view", root, "-n") == ""


def piped(data, *arguments):
    """Run a command with something on its real standard input."""
    command = [sys.executable, "-m", "ddmq", *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True)


def test_what_ends_with_a_nul_becomes_a_message_with_all_its_newlines(sh, root):
    files = b"one\ntwo\0./three \0\0four"
    ran = piped(files, "publish", root, "testmq", "--null", "--from-file=-")
    assert (ran.stdout, ran.stderr) == (b"3\n", b"")
    told = json.loads(sh.ok("consume", root, "testmq", "-n", "9"))
    assert [m["message"] for m in told] == ["one\ntwo", "./three ", "four"]


def test_each_line_may_be_a_json_value(sh, root):
    lines = b'{"a": 1}\n[null]\n"\xc3\xbc"\n'
    piped(lines, "publish", root, "testmq", "--json", "--from-file", "-")
    told = json.loads(sh.ok("consume", root, "testmq", "-n", "9"))
    assert [m["message"] for m in told] == [{"a": 1}, [None], "ü"]


@pytest.mark.parametrize("before", [1, 50, 2500])
def test_of_a_file_with_a_bad_line_nothing_is_published(sh, root, before):
    lines = b"1\n" * before + b"{\n"
    ran = piped(lines, "publish", root, "testmq", "--json", "--from-file=-")
    assert ran.returncode == 2
    assert f"line {before + 1}" in ran.stderr.decode()
    assert json.loads(sh.ok("view", root, "--format=json"))["testmq"]["waiting"] == 0


def test_a_file_of_many_lines_becomes_a_few_files_in_order(sh, root, tmp_path):
    texts = [f"line {number}" for number in range(2500)]
    (tmp_path / "lines").write_text("\n".join(texts))
    assert sh.ok("publish", root, "testmq", "--from-file", tmp_path / "lines") == "2500"
    assert sum(len(files) for _, _, files in os.walk(root / "testmq" / "ready")) == 3
    told = sh.ok("consume", root, "testmq", "-n", "2500", "--format", "plain")
    assert told.splitlines() == texts


def test_on_a_terminal_publishing_lines_shows_how_far_it_is(root):
    """Without one it says nothing: that is what all other tests see."""
    terminal, end = pty.openpty()
    ddmq = [sys.executable, "-m", "ddmq", "publish", "-f", root, "testmq"]
    with (
        in_time(60),
        subprocess.Popen(
            [*ddmq, "--no-durable", "--from-file", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=end,
        ) as process,
    ):
        os.close(end)
        written = 0
        while not ready(terminal, select.POLLIN, 0.01):
            process.stdin.write(b"x\n" * 1000)
            written += 1000
        shown = os.read(terminal, 1 << 16).decode()
        assert process.communicate()[0] == b"%d\n" % written
    os.close(terminal)
    assert re.search(r"\r[0-9,]+,000 messages", shown)


def test_a_queue_of_a_later_ddmq_is_refused_in_one_line(sh, root):
    file = root / "testmq" / "ddmq.yaml"
    text = file.read_text().replace(LAYOUT_LINE, "layout: 3 (ddmq 1.4.0)")
    file.write_text(text)
    for words in (
        ("publish", "-f", root, "testmq", "a"),
        ("consume", root, "testmq"),
        ("create", "-f", root, "testmq"),
        ("delete", root, "testmq"),
        ("config", root, "testmq", "--set", "priority=1"),
        ("config", root, "testmq", "--unset", "layout"),
        ("log", root, "testmq"),
    ):
        assert sh.error(*words) == (
            f"ddmq: {file}: layout 3 needs ddmq 1.4.0 or newer, and this is ddmq "
            f"{__version__}, which knows layout 2 only; nothing was done: use a newer one\n"
        )
    request = {"cmd": "config", "root": str(root), "queue": "testmq"}
    assert "layout 3 needs ddmq 1.4.0" in sh("json", json.dumps(request))[1]
    assert file.read_text() == text


@pytest.mark.parametrize(
    "name",
    ["../evil", "a/b", ".", "..", "", "x" * 201, "ready", "ddmq.yaml", "-x", "a\nb"],
)
def test_a_bad_queue_name_makes_nothing(sh, tmp_path, name):
    (tmp_path / "mq").mkdir()
    Broker(tmp_path / "mq", create=True)
    before = sorted(tmp_path.rglob("*"))
    for command in (["create"], ["publish"], ["consume"]):
        extra = ["text"] if command == ["publish"] else []
        force = [] if command == ["consume"] else ["-f"]
        assert sh(*command, *force, tmp_path / "mq", "--", name, *extra)[0] == 2
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", ["publish", "consume", "view", "create", "dead"])
def test_a_root_that_is_missing_says_to_use_f(sh, tmp_path, command):
    extra = {"publish": ["q", "x"], "view": []}.get(command, ["q"])
    assert "-f" in sh.error(command, tmp_path / "nothing", *extra)
    assert "-f" in sh.error(command, tmp_path, *extra)
    assert not list(tmp_path.iterdir())


def test_f_makes_root_and_queue(sh, tmp_path):
    sh.ok("publish", "-f", tmp_path / "a" / "b", "q", "x")
    assert sh.ok("consume", tmp_path / "a" / "b", "q", "--format", "plain") == "x"


def test_json_takes_every_command(sh, root):
    def answer(**request):
        return json.loads(sh.ok("json", json.dumps({"root": str(root), **request})))

    answer(cmd="create", queue="q")
    id_ = answer(cmd="publish", queue="q", message={"a": 1}, priority=0)["id"]
    [message] = answer(cmd="consume", queue="q")["messages"]
    assert (message["id"], message["message"]) == (id_, {"a": 1})
    assert answer(cmd="renew", queue="q", id=id_, timeout=60)
    assert answer(cmd="nack", queue="q", id=[id_]) == {"nacked": [id_]}
    assert answer(cmd="consume", queue="q", number=2)["messages"]
    assert answer(cmd="release", queue="q", id=id_)
    assert answer(cmd="consume", queue="q", skip_cleaning=True)["messages"]
    assert answer(cmd="reject", queue="q", id=id_, reason="why")
    assert answer(cmd="dead", queue="q")["dead"][0]["reason"] == "why"
    assert answer(cmd="redrive", queue="q") == {"redriven": 1}
    assert answer(cmd="view", queue="q")["q"]["waiting"] == 1
    assert answer(cmd="purge", queue="q", only="waiting")["q"]["waiting"] == 1
    assert answer(cmd="clean")["q"]["requeued"] == 0
    waited = answer(cmd="wait", queue="q", timeout=0)
    assert waited == {"empty": ["q"], "dead": {"q": 0}}
    assert answer(cmd="config", queue="q", set={"priority": 3})["priority"] == 3
    assert answer(cmd="config", queue="q", unset="priority")["priority"] == 999
    assert answer(cmd="delete", queue="q") == {"deleted": ["q"]}


def test_publish_tells_the_range_of_ids_to_whoever_wants_more(sh, root):
    lines = b"".join(b"%d\n" % number for number in range(12))
    quiet = piped(lines, "publish", root, "testmq", "--from-file=-")
    assert (quiet.stdout, quiet.stderr) == (b"12\n", b"")
    sh.ok("purge", root, "testmq")
    told = piped(lines, "publish", "-v", root, "testmq", "--from-file=-")
    ids = [m["id"] for m in json.loads(sh.ok("consume", root, "testmq", "-n", "12"))]
    assert told.stdout == b"12\n"
    assert told.stderr.decode() == f"ddmq: 12 published: {ids[0]} to {ids[-1]}\n"


def test_wait_shows_on_a_terminal_what_it_waits_for(sh, root):
    sh.ok("publish", root, "testmq", "x")
    words = ["wait", str(root), "testmq", "-t", "2"]
    leader, follower = pty.openpty()
    try:
        command = [sys.executable, "-m", "ddmq", *words]
        done = subprocess.run(command, stderr=follower, stdout=subprocess.PIPE)
        shown = os.read(leader, 9999).decode()
    finally:
        os.close(leader)
        os.close(follower)
    line = "waiting for testmq: 1 waiting, 0 delayed, 0 at work"
    assert f"\r{line}\r{' ' * len(line)}\rddmq: after 2 seconds" in shown
    assert (done.returncode, done.stdout) == (1, b"")
    silent = piped(b"", *words)
    assert silent.stderr.startswith(b"ddmq: after 2 seconds, queue testmq is not empty")
