"""Leased messages are settled by name."""

from __future__ import annotations

import errno
import json
import os

import pytest
from support import Calls

from ddmq import Broker, StorageError
from ddmq.broker import STATES
from ddmq.cli.commands.settle import Leased, ack
from ddmq.cli.spec import Context
from ddmq.storage.filesystem import FileSystem


def test_messages_are_settled_by_id_or_by_file_name(sh, root):
    for text in "abcd":
        sh.ok("publish", root, "testmq", text)
    a, b, c, d = json.loads(sh.ok("consume", root, "testmq", "-n", "4"))
    sh.ok("ack", root, "testmq", f"{a['id']},{b['filename']}")
    sh.ok("nack", root, "testmq", c["id"], "--delay", "60")
    sh.ok("release", root, "testmq", d["id"])
    counts = json.loads(sh.ok("view", root, "--format", "json"))["testmq"]
    assert [counts[state] for state in STATES] == [1, 0, 1, 0]


def test_an_old_file_name_does_not_settle_a_new_lease(sh, root):
    sh.ok("publish", root, "testmq", "a")
    old = json.loads(sh.ok("consume", root, "testmq"))
    sh.ok("release", root, "testmq", old["id"])
    sh.ok("consume", root, "testmq")
    assert "not at work" in sh.error("ack", root, "testmq", old["filename"])
    assert json.loads(sh.ok("view", root, "--format", "json"))["testmq"]["work"] == 1


@pytest.mark.parametrize("command", ["ack", "nack", "release", "reject", "renew"])
def test_with_an_empty_id_nothing_is_done(sh, root, command):
    sh.ok("publish", root, "testmq", "a")
    held = json.loads(sh.ok("consume", root, "testmq"))
    told = sh.wrong(command, root, "testmq", f"{held['id']},")
    assert "an id is empty" in told
    assert os.listdir(root / "testmq" / "work") == [held["filename"]]


def test_renew_prolongs_a_lease(sh, root):
    sh.ok("publish", root, "testmq", "a")
    old = json.loads(sh.ok("consume", root, "testmq"))
    sh.ok("renew", root, "testmq", old["id"], "--timeout", "9999")
    [new] = os.listdir(root / "testmq" / "work")
    assert int(new[:13]) - int(old["filename"][:13]) > 9_000_000


def test_an_error_of_the_disk_tells_what_was_settled_before(root):
    broker = Broker(root)
    ids = [broker.publish("testmq", text) for text in "abc"]
    broker.consume("testmq", 3)

    def call(_, name, function, arguments):
        if name == "unlink" and ids[1] in str(arguments[0]):
            raise OSError(errno.EIO, "broken", arguments[0])
        return function(*arguments)

    context = Context(FileSystem(Calls(call)), lambda _: None, is_typed=True)
    with pytest.raises(StorageError, match=f"broken; .*; acked: {ids[0]}$"):
        ack(Leased(str(root), "testmq", ids), context)
    assert broker.status("testmq", ids) == dict(zip(ids, ("unknown", "work", "work")))
