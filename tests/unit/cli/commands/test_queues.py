"""What is done to whole queues."""

from __future__ import annotations

import json
import os
import time

import pytest

from ddmq import Broker, LeaseLost, QueueNotFound
from ddmq.cli.commands import in_each
from ddmq.storage.workers import ENDED, WorkerName


def test_purge_can_leave_some_states_alone(sh, root):
    sh.ok("publish", root, "testmq", "a")
    sh.ok("publish", root, "testmq", "b", "--delay", "60")
    sh.ok("purge", root, "testmq", "--only", "delayed")
    counts = json.loads(sh.ok("view", root, "--format", "json"))["testmq"]
    assert (counts["waiting"], counts["delayed"]) == (1, 0)
    told = sh.wrong("purge", root, "testmq", "--only", "dead,everything")
    assert told.endswith("states are waiting, work, delayed, dead, not 'everything'\n")


def test_create_twice_succeeds_and_delete_twice_says_why_not(sh, root):
    assert sh.ok("create", root, "testmq") == "testmq: exists"
    sh.ok("delete", root, "testmq")
    assert "no such queue" in sh.error("delete", root, "testmq")


def test_a_queue_for_a_group_gets_its_mode_despite_the_umask(sh, tmp_path):
    before = os.umask(0o077)
    try:
        sh.ok("create", "-f", "--mode", "2770", tmp_path / "mq", "q")
        sh.ok("publish", tmp_path / "mq", "q", "x")
    finally:
        os.umask(before)
    modes = {p.stat().st_mode & 0o7777 for p in (tmp_path / "mq" / "q").rglob("*/*")}
    assert modes <= {0o2770, 0o660}
    assert "octal" in sh("create", "--mode", "rwx", tmp_path / "mq", "q")[2]


def test_purge_tells_how_many_it_removed(sh, root):
    sh.ok("create", root, "other")
    for text in "abc":
        sh.ok("publish", root, "testmq", text)
    told = sh.ok("purge", root, "testmq,other")
    assert told == "testmq: removed 3\nother: removed 0"


def test_a_queue_in_place_of_the_root_is_told(sh, root):
    for words in (
        ("view", root / "testmq"),
        ("publish", "-f", root / "testmq", "q", "x"),
    ):
        assert "it is a queue, and no root" in sh.error(*words)
    assert not (root / "testmq" / "q").exists()


def test_leases_are_ended_only_where_nobody_works_or_with_force(sh, root):
    broker = Broker(root)
    broker.publish("testmq", "x")
    held = broker.consume("testmq")
    fields = dict.fromkeys(WorkerName._fields, 0)
    fields.update(token="0" * 16, state="working", job="", host="node1", every=60)
    fields.update(process=7, time=int(time.time() * 1000), busy=1, slots=1)
    shown = WorkerName(**fields)
    broker.with_workers("testmq", lambda each: each.show(None, shown))
    refused = sh.error("clean", root, "testmq", "--end-leases")
    assert "1 of its workers live, or were killed a moment ago (node1:7)" in refused
    assert "0 requeued" in sh.ok("clean", root, "testmq")
    assert "1 requeued" in sh.ok("clean", root, "testmq", "--end-leases", "-f")
    with pytest.raises(LeaseLost):
        broker.ack(held)
    broker.consume("testmq")
    broker.with_workers("testmq", lambda x: x.show(shown, shown._replace(state=ENDED)))
    assert "1 requeued" in sh.ok("clean", root, "testmq", "--end-leases")
    assert "of which queue" in sh.wrong("clean", root, "--end-leases")


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_nothing_is_an_empty_list_for_programs(sh, root, form):
    for command in ("dead", "log"):
        assert sh.ok(command, root, "testmq", "--format", form) == "[]"
    assert sh("consume", root, "testmq", "-n", "5", "--format", form) == (3, "[]\n", "")
    assert sh("consume", root, "testmq", "--format", form) == (3, "", "")


@pytest.fixture
def two(sh, root):
    """A root with two queues that hold a message each."""
    sh.ok("create", root, "other")
    for queue in ("testmq", "other"):
        sh.ok("publish", root, queue, "x")
    return root


@pytest.mark.parametrize(
    "words",
    [
        ("delete",),
        ("purge",),
        ("clean",),
        ("pause",),
        ("resume",),
        ("drain", "--all"),
        ("wait",),
    ],
)
def test_nothing_is_done_with_several_queues_of_which_one_is_missing(sh, two, words):
    said = sh.error(words[0], two, "testmq,missing,other", *words[1:])
    assert "missing: no such queue" in said
    assert "before" not in said
    counts = json.loads(sh.ok("view", two, "--format", "json"))
    for queue in ("testmq", "other"):
        assert (counts[queue]["waiting"], counts[queue]["paused"]) == (1, None)


def test_no_queue_is_made_where_one_has_a_bad_name(sh, root):
    assert ".bad" in sh.wrong("create", root, "first,.bad")
    assert sh.ok("view", root, "-n") == "testmq"


def test_a_queue_that_is_named_twice_is_deleted_once(sh, two):
    assert sh.ok("delete", two, "other,other") == "other: deleted"


def test_a_queue_whose_settings_are_broken_can_be_deleted_with_others(sh, two):
    (two / "other" / "ddmq.yaml").write_text("{")
    assert "other/ddmq.yaml" in sh.error("purge", two, "testmq,other")
    assert json.loads(sh.ok("view", two, "testmq", "--format", "json"))["testmq"][
        "waiting"
    ]
    sh.ok("delete", two, "testmq,other")


def test_an_error_names_the_queues_that_were_deleted_before(two):
    broker = Broker(two)

    def delete(name):
        for queue in ("other", "testmq"):  # as if somebody else deleted one meanwhile
            if queue == name or name == "testmq":
                broker.delete_queue(queue)

    with pytest.raises(QueueNotFound, match=r"other: .*; deleted before: testmq$"):
        in_each(broker, ["testmq", "other"], delete, "deleted")
