"""Waiting for queues."""

from __future__ import annotations

import json
import time

import pytest
from support import FakeClock

from ddmq import Broker, DdmqError
from ddmq.cli.commands import wait
from ddmq.cli.spec import Context
from ddmq.cli.watching import Progress
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.workers import WorkerName


def test_several_queues_are_waited_for_in_one_time(sh, root, monkeypatch):
    Broker(root).create_queue("other")
    given = []

    def wait(_, name, timeout, progress):
        given.append((name, timeout))
        return True

    monkeypatch.setattr(Broker, "wait", wait)
    sh.ok("wait", root, "testmq,other", "--timeout", "5")
    assert given[0] == ("testmq", 5)
    assert given[1][0] == "other"
    assert 0 <= given[1][1] < 5


def test_wait_ends_when_the_queue_is_empty_and_gives_up_in_time(sh, root):
    assert sh.ok("wait", root, "testmq") == ""
    sh.ok("publish", root, "testmq", "a")
    assert "1 waiting" in sh.error("wait", root, "testmq", "--timeout", "0")


def waiting_once(_, name, timeout, progress):
    """Stand in for `Broker.wait`: look once, and take the queue for empty."""
    if progress is not None:
        progress(name)
    return True


@pytest.fixture
def told(root, monkeypatch):
    """Return a function that waits for a queue, and returns what was shown meanwhile."""

    def told(*, is_watched, progress=False):
        shown = []
        arguments = wait.Arguments(str(root), ["testmq"], None, progress)
        context = Context(
            FileSystem(), shown.append, is_typed=True, is_watched=is_watched
        )
        wait.wait(arguments, context)
        return shown

    monkeypatch.setattr(Broker, "wait", waiting_once)
    return told


def test_who_watches_sees_what_is_waited_for(told, root):
    broker = Broker(root)
    for delay in (0, 0, 0, 60):
        broker.publish("testmq", "x", delay=delay)
    broker.consume("testmq")
    [line] = told(is_watched=True)
    assert line == "waiting for testmq: 2 waiting, 1 delayed, 1 at work"


def test_who_watches_sees_what_nobody_renews(told, root):
    broker = Broker(root)
    broker.publish("testmq", "x")
    broker.consume("testmq")
    broker.update_settings("testmq", message_timeout=5000)
    [line] = told(is_watched=True)
    assert line == (
        "waiting for testmq: 0 waiting, 0 delayed, "
        "1 at work (1 not renewed for 73 minutes, back in 10 minutes)"
    )


def test_nothing_is_counted_for_nobody(told, monkeypatch):
    monkeypatch.delattr(Broker, "overview")
    assert told(is_watched=False) == []


def test_who_waited_is_told_what_is_still_to_be_run_or_failed(sh, root):
    broker = Broker(root)
    broker.with_follow_ups("testmq", lambda each: each.arm())
    assert "testmq: --then is still to be run" in sh.ok("wait", root, "testmq")
    held = broker.with_follow_ups("testmq", lambda x: x.claim(x.all()[0], 60))
    broker.with_follow_ups("testmq", lambda each: each.fail(held, 0, 0))
    assert "testmq: --then failed" in sh.ok("wait", root, "testmq")


# How far it is


def test_who_asks_sees_how_far_it_is_and_when_it_is_done(told, root):
    broker = Broker(root)
    broker.publish_many("testmq", ["x"] * 30)
    fields = dict.fromkeys(WorkerName._fields, 0)
    now = int(time.time() * 1000)
    fields.update(token="0" * 16, state="working", job="", host="a", every=60)
    fields.update(time=now, started=now - 100_000, slots=4, busy=4, acked=10)
    shown = WorkerName(**{**fields, "work": 400_000})
    broker.with_workers("testmq", lambda each: each.show(None, shown))
    [line] = told(is_watched=True, progress=True)
    assert line.startswith(
        "testmq: 40 published: 10 done, 30 waiting, 6 messages a minute overall, done in"
    )


def test_without_a_terminal_these_are_lines(told, root, capfd):
    Broker(root).publish("testmq", "x")
    assert told(is_watched=False, progress=True) == []
    [line] = capfd.readouterr().err.splitlines()
    assert "testmq: 1 published: 0 done, 1 waiting, No worker runs; submit some" in line


def test_whether_messages_are_dead_is_its_exit_status(sh, root):
    assert sh.ok("wait", root, "testmq", "--progress") == ""
    broker = Broker(root)
    broker.publish("testmq", "x")
    broker.reject(broker.consume("testmq"))
    place = f"{root} testmq"
    told = (
        f"testmq: 1 dead letter: `ddmq dead {place}` lists them, "
        f"`ddmq redrive {place}` puts them back"
    )
    assert sh.ok("wait", root, "testmq") == told
    status, out, _ = sh("wait", root, "testmq", "--progress")
    assert (status, out) == (4, f"{told}\n")
    told = json.loads(sh.ok("wait", root, "testmq", "--format", "json"))
    assert told == {"empty": ["testmq"], "dead": {"testmq": 1}}


def test_the_name_of_a_queue_is_one_word_for_a_shell(sh, root):
    broker = Broker(root, create=True)
    broker.publish("a; rm b", "x")
    broker.reject(broker.consume("a; rm b"))
    told = sh("wait", root, "a; rm b", "--progress")[1]
    assert f"`ddmq dead {root} 'a; rm b'`" in told


def test_it_is_not_said_more_often_than_every_so_many_seconds(root):
    clock, broker = FakeClock(), Broker(root)
    broker.publish("testmq", "x")
    progress = Progress(str(root), "testmq", FileSystem(), clock)
    assert "0 done, 1 waiting" in progress.told(5)
    clock.advance(4)
    assert progress.told(5) is None
    clock.advance(2)
    assert "0 done, 1 waiting" in progress.told(5)


def test_what_moves_between_queues_is_waited_for_in_any_order(root, monkeypatch):
    broker = Broker(root)
    names = ["third", "second", "testmq"]
    for name in names[:2]:
        broker.create_queue(name)
    broker.publish("testmq", "x")
    steps = [
        lambda: broker.move(broker.consume("testmq"), "second"),
        lambda: broker.move(broker.consume("second"), "third"),
        lambda: broker.ack(broker.consume("third")),
    ]
    monkeypatch.setattr("ddmq.clock.Clock.sleep", lambda *_: steps.pop(0)())
    context = Context(FileSystem(), lambda _: None, is_typed=True)
    reply = wait.wait(wait.Arguments(str(root), names, None, progress=False), context)
    assert (reply.value, steps) == (
        {"empty": names, "dead": dict.fromkeys(names, 0)},
        [],
    )


def test_a_message_that_moves_while_all_look_empty_is_waited_for(root, monkeypatch):
    broker = Broker(root)
    broker.create_queue("second")
    broker.publish("testmq", "x")
    is_empty = Broker.is_empty

    def look(self, queue):
        """Move the message on as soon as the second queue was found empty."""
        found = is_empty(self, queue)
        if queue == "second" and not is_empty(broker, "testmq"):
            broker.move(broker.consume("testmq"), "second")
        return found

    monkeypatch.setattr(Broker, "is_empty", look)
    context = Context(FileSystem(), lambda _: None, is_typed=True)
    names = ["second", "testmq"]
    with pytest.raises(DdmqError, match="queue second is not empty: 1 waiting"):
        wait.wait(wait.Arguments(str(root), names, 0, progress=False), context)
