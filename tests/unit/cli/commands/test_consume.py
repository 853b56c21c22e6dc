"""What `ddmq consume` answers."""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest

from ddmq import Broker, StorageError
from ddmq.cli.commands import consume


def test_consume_prints_an_object_or_a_list(sh, root):
    for text in "abc":
        sh.ok("publish", root, "testmq", text)
    assert json.loads(sh.ok("consume", root, "testmq"))["message"] == "a"
    several = json.loads(sh.ok("consume", root, "testmq", "-n", "2"))
    assert [message["message"] for message in several] == ["b", "c"]


def test_a_number_of_none_is_wrong_usage(sh, root):
    assert "must be a positive number" in sh.wrong("consume", root, "testmq", "-n", "0")


def test_f_is_advised_only_where_there_is_one(sh, root):
    assert "or by -f" not in sh.error("consume", root, "nothing")
    assert "or by -f" in sh.error("publish", root, "nothing", "x")
    assert "or by -f" not in sh.error("view", root / "none")
    assert "or by -f" in sh.error("create", root / "none", "q")


@pytest.fixture
def counting(root, monkeypatch):
    """Publish 7 messages, of which 2 are leased at once; `at` says what happens at which call."""
    Broker(root).publish_many("testmq", [str(n) for n in range(7)])
    monkeypatch.setattr(consume, "_AT_ONCE", 2)
    real, calls, at = Broker.consume, [], {}

    def counted(self, queue, n=1, **options):
        calls.append(n)
        at.get(len(calls), lambda: None)()
        return real(self, queue, n, **options)

    monkeypatch.setattr(Broker, "consume", counted)
    return calls, at


def counts(root):
    return tuple(Broker(root).view("testmq")["testmq"])[:2]


def test_many_are_leased_some_at_a_time_and_in_order(sh, root, counting):
    told = sh.ok("consume", root, "testmq", "-n", "5", "--format", "plain")
    assert told.split() == ["0", "1", "2", "3", "4"]
    assert counting[0] == [2, 2, 1]
    assert sh.ok("consume", root, "testmq", "-n", "9", "--format", "plain") == "5\n6"


@pytest.fixture
def another_thread():
    """Another thread of the process, which may receive its signals."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    yield
    end.set()
    thread.join()


@pytest.mark.usefixtures("another_thread")
def test_an_interrupt_gives_back_what_was_leased(sh, root, counting):
    counting[1][2] = lambda: os.kill(os.getpid(), signal.SIGINT)
    assert sh("consume", root, "testmq", "-n", "7") == (130, "", "")
    assert len(counting[0]) == 2
    assert counts(root) == (7, 0)
    messages = Broker(root).consume("testmq", 7)
    assert (messages[0].message, messages[0].requeue_counter) == ("0", 0)


def test_what_was_leased_before_an_error_is_printed(sh, root, counting):
    def refuse():
        raise StorageError(OSError(5, "Input/output error", "x"))

    counting[1][2] = refuse
    assert sh.ok("consume", root, "testmq", "-n", "7", "--format", "plain") == "0\n1"


def test_an_interrupt_while_it_prints_gives_back_what_was_leased(
    sh, root, counting, monkeypatch
):
    def interrupted(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("ddmq.cli.main._print", interrupted)
        assert sh("consume", root, "testmq", "-n", "7")[0] == 130
    assert counts(root) == (7, 0)
