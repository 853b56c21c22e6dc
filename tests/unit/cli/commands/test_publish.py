"""What `ddmq publish` does with each of its arguments."""

from __future__ import annotations

import errno
import json
import os

import pytest

from ddmq import Broker


def test_publish_sets_everything_that_a_message_can_say(sh, root):
    sh.ok(
        *("publish", root, "testmq", "-p", "0", "-t", "5.5", "--no-requeue"),
        *("-l", "3", "--requeue-prio", "7", "-C", "text"),
    )
    message = json.loads(sh.ok("consume", root, "testmq", "-C"))
    wanted = {
        "message": "text",
        "priority": 0,
        "timeout": 5.5,
        "requeue": False,
        "requeue_limit": 3,
        "requeue_prio": 7,
        "requeue_counter": 0,
        "failures": 0,
        "losses": 0,
        "queue": "testmq",
    }
    assert {key: message[key] for key in wanted} == wanted


def test_a_delayed_message_is_not_visible_yet(sh, root):
    sh.ok("publish", root, "testmq", "later", "--delay", "60")
    assert sh("consume", root, "testmq")[0] == 3
    assert json.loads(sh.ok("view", root, "--format", "json"))["testmq"]["delayed"] == 1


def test_a_limit_of_null_overrides_that_of_the_queue(sh, root):
    sh.ok("config", root, "testmq", "--set", "requeue_limit=2")
    sh.ok("publish", root, "testmq", "a")
    sh.ok("publish", root, "testmq", "b", "--requeue-limit", "null")
    limits = [
        message["requeue_limit"]
        for message in json.loads(sh.ok("consume", root, "testmq", "-n", "2"))
    ]
    assert limits == [2, None]


def test_standard_input_becomes_one_message_without_its_last_newline(sh, root):
    sh.ok("publish", root, "testmq", "-", stdin="zwei\nZeilen ü\n".encode())
    assert sh.ok("consume", root, "testmq", "--format", "plain") == "zwei\nZeilen ü"


def test_each_line_of_a_file_becomes_a_message(sh, root, tmp_path):
    (tmp_path / "lines").write_bytes(b"one\r\ntwo\n\nthree")
    assert sh.ok("publish", root, "testmq", "--from-file", tmp_path / "lines") == "3"
    texts = sh.ok("consume", root, "testmq", "-n", "9", "--format", "plain")
    assert texts == "one\ntwo\nthree"


def test_a_json_value_is_published_as_such(sh, root):
    sh.ok("publish", root, "testmq", "--json", '{"a": [1, null]}')
    assert json.loads(sh.ok("consume", root, "testmq"))["message"] == {"a": [1, None]}


@pytest.mark.parametrize("size", [900, 2000, 5000])
@pytest.mark.parametrize(
    "how",
    [["TEXT"], ["-"], ["--from-file", "FILE"], ["--from-file", "FILE", "--null"]],
)
def test_what_is_too_large_is_not_published(sh, root, tmp_path, how, size, monkeypatch):
    monkeypatch.setattr("ddmq.cli.input.MAX_BYTES", 4000)  # then it is read no further
    sh.ok("config", root, "testmq", "--set", "max_message_size=1024")
    text = "x" * size
    (tmp_path / "file").write_text(text)
    given = {"TEXT": text, "FILE": tmp_path / "file"}
    arguments = [given.get(each, each) for each in how]
    published = ["publish", root, "testmq", *arguments]
    if size == 900:
        sh.ok(*published, stdin=text.encode())
        return
    told = sh.wrong(*published, stdin=text.encode())
    assert "publish the path" in told
    assert Broker(root).view("testmq")["testmq"].waiting == 0


@pytest.mark.parametrize(
    "options",
    [
        ["-p", "-1"],
        ["-p", "1.5"],
        ["-p", "high"],
        ["-t", "0"],
        ["-t", "-1"],
        ["-t", "nan"],
        ["-t", "soon"],
        ["--delay", "-1"],
        ["-l", "-1"],
        ["--requeue-prio", "x"],
    ],
)
def test_a_wrong_argument_publishes_nothing(sh, root, options):
    told = sh.wrong("publish", root, "testmq", *options, "text")
    assert "must be" in told or "no time" in told
    assert not os.listdir(root / "testmq" / "ready")
    assert not os.listdir(root / "testmq" / "tmp")


def test_a_text_that_is_not_unicode_publishes_nothing(sh, root):
    assert "surrogate" in sh.wrong("publish", root, "testmq", "\udcff")
    assert "UTF-8" in sh.wrong("publish", root, "testmq", "-", stdin=b"\xff")
    assert not os.listdir(root / "testmq" / "tmp")


def test_a_file_that_is_not_there_is_named(sh, root, tmp_path):
    told = sh.wrong("publish", root, "testmq", "--from-file", tmp_path / "none")
    assert "none" in told


def test_without_a_message_it_is_used_wrongly(sh, root):
    assert "one is missing of the root, the queue and the text" in sh.wrong(
        "publish", root, "testmq"
    )
    both = sh.wrong("publish", root, "testmq", "x", "--from-file", os.devnull)
    assert "publish one message or --from-file, and not both" in both


def test_a_key_is_used_once_until_it_is_forgotten(sh, root, tmp_path):
    first = sh.ok("publish", root, "testmq", "x", "--key", "monday")
    assert sh.ok("publish", root, "testmq", "y", "--key", "monday") == first
    request = {"cmd": "publish", "root": str(root), "queue": "testmq", "message": "z"}
    told = sh.ok("json", json.dumps({**request, "key": "monday"}))
    assert json.loads(told) == {"id": first}
    file = tmp_path / "lines"
    file.write_text("a\nb\nc\n")
    many = ("publish", root, "testmq", "--from-file", file, "--key", "lines")
    assert [sh.ok(*many), sh.ok(*many)] == ["3", "3"]
    assert sh.ok("view", root).split()[-5:-1] == ["4", "0", "0", "0"]
    assert sh.ok("forget", root, "testmq", "lines") == "forgotten"
    assert "nothing was published" in sh.ok("forget", root, "testmq", "lines")
    assert sh.ok(*many) == "3"
    assert sh.ok("view", root).split()[-5:-1] == ["7", "0", "0", "0"]
    assert sh.ok("doctor", root, "testmq").endswith("all is well")
    assert "must be a text" in sh.wrong("publish", root, "testmq", "x", "--key", "")


def test_an_error_between_few_lines_tells_which_were_published(
    sh, root, tmp_path, monkeypatch
):
    (tmp_path / "lines").write_text("a\nb\nc\n")
    real = os.write

    def write(descriptor, data):
        if b'"b"' in data:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    told = sh.error("publish", root, "testmq", "--from-file", tmp_path / "lines")
    monkeypatch.undo()
    [seen] = Broker(root).peek("testmq", 5)
    assert seen.message == "a"
    assert f"; 1 of 3 messages were published before: {seen.id}" in told
