"""What becomes of messages whose leases are over."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

import pytest
from protocol.scenes import crashing_after_rename_into
from support import Calls, Crash, crashing_before
from unit.scenes import lost, names

from ddmq import Broker, StorageError
from ddmq.storage.expiry import Swept
from ddmq.storage.filesystem import FileSystem

# Single messages


def test_at_the_limit_it_is_a_dead_letter_that_says_so(broker, clock):
    lost(broker, clock, requeue_limit=2)
    for _ in range(2):
        assert len(broker.consume("q")) == 1
        clock.advance(6)
    assert broker.consume("q") == []
    (dead,) = broker.dead("q")
    assert (dead.message, dead.failures, dead.losses) == ("x", 0, 3)
    assert "lease expired" in dead.reason
    assert "3 losses" in dead.reason


def test_what_is_not_to_be_requeued_is_dead_at_once(broker, clock):
    lost(broker, clock, requeue=False)
    assert broker.consume("q") == []
    assert [dead.losses for dead in broker.dead("q")] == [1]


def test_failures_count_towards_the_limit_of_losses(broker, clock):
    broker.publish("q", "x", requeue_limit=1, timeout=5)
    broker.nack(broker.consume("q"))
    assert len(broker.consume("q")) == 1
    clock.advance(6)
    assert broker.clean("q").dead == 1


def test_the_settings_of_now_decide_where_the_message_says_nothing(broker, clock):
    broker.publish("q", "x")
    broker.consume("q")
    broker.update_settings("q", requeue=False)
    clock.advance(601)
    assert broker.clean("q") == Swept(dead=1)


def test_an_expired_file_that_holds_no_message_is_dead_when_it_is_read(
    broker, clock, root
):
    message = lost(broker, clock)
    (root / "q" / "work" / message.filename).write_text("")
    assert broker.clean("q").requeued == 1
    assert broker.consume("q") == []
    assert [dead.reason for dead in broker.dead("q")] == ["its file is empty"]


@pytest.mark.parametrize("limit", [0, None], ids=["dead", "requeued"])
def test_no_content_is_read_of_a_message_that_was_lost(broker, root, clock, limit):
    """However large it is, and whoever may read it: its name says what its publisher set."""
    message = lost(broker, clock, requeue_limit=limit, requeue_prio=7)

    def call(_, name, function, arguments):
        opened = name == "open" and message.id in arguments[0]
        assert not opened or arguments[1] & os.O_ACCMODE == os.O_WRONLY
        return function(*arguments)

    swept = Broker(root, clock=clock, fs=FileSystem(Calls(call))).clean("q")
    assert (swept.requeued, swept.dead) == ((0, 1) if limit == 0 else (1, 0))
    if limit is None:
        assert "7" in names(root, "ready")


# Ranges


@pytest.fixture
def lines(broker, clock):
    """Five lines of a bundle, of which the second is acked; their leases are over."""
    broker.publish_many("q", range(12), timeout=5, priority=7, requeue_prio=3)
    messages = broker.consume("q", 5)
    broker.ack(messages[1])
    clock.advance(6)
    return messages


def test_what_is_left_of_a_range_comes_back_as_a_whole_and_counts_a_loss(
    broker, root, lines
):
    assert broker.clean("q") == Swept(requeued=4)
    assert [name for name in names(root, "work") if name.endswith(".range")] == []
    [path] = (root / "q" / "ready" / "3").glob("*/*")
    assert ".oxooo.0-1." in path.name
    again = broker.consume("q", 4)
    assert [(m.message, m.priority, m.losses) for m in again] == [
        (number, 3, 1) for number in (0, 2, 3, 4)
    ]
    broker.ack(again)
    assert broker.view("q")["q"] == (7, 0, 0, 0)


def test_no_message_is_read_or_written_of_a_range_that_comes_back(lines, root, clock):
    def call(_, name, function, arguments):
        assert name != "write" or not arguments[1]
        assert name != "read"
        return function(*arguments)

    calls = Calls(lambda _, __, function, arguments: function(*arguments))
    client = Broker(root, clock=clock, fs=FileSystem(calls), clean=False)
    client.settings("q")
    calls.call = call
    assert client.clean("q").requeued == 4


def test_at_its_limit_each_line_of_a_range_is_a_dead_letter_of_its_own(broker, clock):
    broker.publish_many("q", range(12), timeout=5, requeue_limit=1)
    for losses in (1, 2):
        messages = broker.consume("q", 12)
        assert {message.losses for message in messages} == {losses - 1}
        clock.advance(6)
        swept = broker.clean("q")
    assert swept == Swept(dead=12)
    assert sorted(dead.message for dead in broker.dead("q")) == list(range(12))
    assert {(dead.failures, dead.losses) for dead in broker.dead("q")} == {(0, 2)}
    clock.advance(6)
    broker.clean("q")
    assert broker.view("q")["q"] == (0, 0, 0, 12)


def test_lines_that_nobody_received_count_no_loss_and_are_never_dead(
    broker, root, clock
):
    broker.publish_many("q", range(12), timeout=5, requeue=False)
    crashing = FileSystem(crashing_after_rename_into("/work/"))
    with suppress(Crash):
        Broker(root, clock=clock, fs=crashing, clean=False).consume("q", 5)
    clock.advance(6)
    assert broker.clean("q") == Swept()
    messages = broker.consume("q", 5) + broker.consume("q", 12)
    assert [(m.message, m.losses) for m in messages] == [(n, 0) for n in range(12)]


def test_a_detached_line_comes_back_with_the_range_that_it_is_of(
    broker, root, clock, refusing
):
    broker.publish_many("q", range(12), timeout=5)
    messages = broker.consume("q", 3)
    fs = refusing("rename", errno.EIO, ".detached")
    client = Broker(root, clock=clock, fs=fs, clean=False)
    with pytest.raises(StorageError):
        client.nack(messages[1])
    assert broker.view("q")["q"] == (9, 3, 0, 0)
    clock.advance(6)
    assert broker.clean("q") == Swept(requeued=3)
    assert broker.view("q")["q"] == (12, 0, 0, 0)
    again = broker.consume("q", 1) + broker.consume("q", 2)
    assert {m.message: m.losses for m in again} == {0: 1, 1: 1, 2: 1}


def test_who_dies_while_it_takes_over_a_range_leaves_it_to_the_next_one(
    broker, lines, root, clock
):
    for dies in range(30):
        calls = Calls(lambda _, __, function, arguments: function(*arguments))
        client = Broker(root, clock=clock, fs=FileSystem(calls), clean=False)
        client.settings("q")
        calls.call = crashing_before(len(calls.made) + dies).call
        died = False
        try:
            client.clean("q")
        except Crash:
            died = True
        assert sum(broker.view("q")["q"]) == 11
        clock.advance(31)
        if not died:
            break
    quiet = Broker(root, clock=clock, clean=False)
    messages = [m.message for n in (1, 3, 9) for m in quiet.consume("q", n)]
    while more := quiet.consume("q", 99):
        messages += [message.message for message in more]
    assert sorted(messages) == [0, *range(2, 12)]
