"""Messages that wait or are delayed are moved to another queue, by whatever they stand in."""

from __future__ import annotations

import errno
import os
from itertools import chain

import pytest
from support import Calls, Crash, crashing_before, interrupted
from unit.scenes import names, texts

from ddmq import Broker, InvalidArgument, QueueNotFound, StorageError
from ddmq.storage.filesystem import FileSystem

DAY = 86400


@pytest.fixture
def broker(broker):
    broker.create_queue("other")
    return broker


def ids(broker, *wanted):
    """Return the ids of messages that wait, given their texts."""
    found = {seen.message: seen.id for seen in broker.peek("q", 999)}
    return [found[text] for text in wanted]


def test_a_single_file_is_moved_by_one_rename_with_its_counts(broker, root, clock):
    for text in "abc":
        broker.publish("q", text, priority=4, timeout=9, requeue_prio=4)
    broker.nack(broker.consume("q"))  # the first one, which comes last now
    calls = Calls(lambda _, __, function, arguments: function(*arguments))
    client = Broker(root, clock=clock, fs=FileSystem(calls), clean=False)
    client.view("other")
    assert client.move_waiting("q", ids(broker, "a", "c"), "other") == {}
    assert calls.made.count("rename") == 2
    assert texts(broker.peek("q", 9)) == ["b"]
    moved = broker.consume("other", 9)
    assert [(m.message, m.failures, m.priority, m.timeout) for m in moved] == [
        ("c", 0, 4, 9),
        ("a", 1, 4, 9),
    ]


@pytest.mark.parametrize("number", [0, 1, 11, 49, 50, 51, 130, 199])
def test_a_line_leaves_its_bundle_and_the_others_keep_their_places(broker, number):
    everything = [f"x{n}" for n in range(200)]
    broker.publish_many("q", everything, timeout=7)
    [wanted] = ids(broker, f"x{number}")
    assert broker.move_waiting("q", [wanted], "other") == {}
    seen = broker.consume("q", 999)
    assert texts(seen) == everything[:number] + everything[number + 1 :]
    assert {(m.failures, m.losses) for m in seen} == {(0, 0)}
    [moved] = broker.consume("other", 9)
    assert (moved.message, moved.id, moved.timeout) == (f"x{number}", wanted, 7)
    broker.ack([*seen, moved])
    broker.clean("q")
    assert names_left(broker) == []


def names_left(broker):
    root = broker.root
    places = [f"{root}/q/{name}" for name in ("bundles", "work", "dead", "delayed")]
    return [name for place in places for name in os.listdir(place)]


def test_many_lines_of_bundles_ranges_and_files_go_in_one_call(broker):
    broker.publish_many("q", [f"x{n}" for n in range(100)])
    held = broker.consume("q", 30)
    broker.release(held[10:])  # a range that waits
    broker.ack(held[:10])
    broker.publish("q", "single")
    broker.publish_many("q", [f"y{n}" for n in range(100)])
    wanted = [f"x{n}" for n in range(10, 100, 3)] + ["single", "y5", "y99"]
    before = texts(broker.peek("q", 999))
    assert broker.move_waiting("q", ids(broker, *wanted), "other") == {}
    assert texts(broker.consume("q", 999)) == [x for x in before if x not in wanted]
    assert texts(broker.consume("other", 999)) == wanted


def test_all_lines_of_a_bundle_can_go(broker):
    broker.publish_many("q", [f"x{n}" for n in range(60)])
    everything = [seen.id for seen in broker.peek("q", 99)]
    assert broker.move_waiting("q", everything, "other") == {}
    assert broker.is_empty("q")
    assert [m.id for m in broker.consume("other", 99)] == everything
    broker.clean("q")
    assert names_left(broker) == []


def test_a_delayed_one_stays_delayed_until_the_same_time(broker, root, clock):
    id_ = broker.publish("q", "a", delay=60)
    [name] = names(root, "delayed")
    assert broker.move_waiting("q", id_, "other") == {}
    assert os.listdir(root / "other" / "delayed") == [name]
    assert broker.consume("other") == []
    clock.advance(61)
    assert texts(broker.consume("other")) == ["a"]


def test_what_can_not_be_moved_stays_and_says_why(broker, root):
    broker.publish("q", "dead")
    dead = broker.consume("q")[0]
    broker.reject(dead)
    held = broker.publish("q", "held")
    broker.consume("q")
    broker.publish_many("q", ["late"] * 10, delay=60)
    [bundle] = names(root, "bundles")
    good = broker.publish("q", "good")
    strange = broker.publish("q", "strange")
    [bucket] = (root / "q" / "ready" / "999").iterdir()
    [path] = [path for path in bucket.iterdir() if strange in path.name]
    path.unlink()
    path.symlink_to("/etc/passwd")
    wanted = [dead.id, held, f"{bundle}-3", good, strange, "ffff"]
    faults = broker.move_waiting("q", wanted, "other")
    assert list(faults) == [dead.id, held, f"{bundle}-3", strange, "ffff"]
    said = list(faults.values())
    assert "ddmq redrive" in said[0]
    assert "ddmq release" in said[1]
    assert "when that is due" in said[2]
    assert "holds no message" in said[3]
    assert "no message of this queue" in said[4]
    assert texts(broker.consume("other", 9)) == ["good"]
    assert broker.view("q")["q"] == (1, 1, 10, 1)


def test_a_line_that_holds_no_message_stays(broker, root, clock):
    broker.publish_many("q", list("abcdefghijkl"))
    [wanted] = ids(broker, "d")
    [lines] = (root / "q" / "bundles").glob("*/lines")
    lines.write_bytes(lines.read_bytes().replace(b'"d"', b"{x}"))
    client = Broker(root, clock=clock)  # which has not read it yet
    assert "holds no message" in client.move_waiting("q", wanted, "other")[wanted]
    assert broker.view()["other"] == (0, 0, 0, 0)
    assert broker.view()["q"] == (12, 0, 0, 0)


def test_nothing_moves_to_the_same_queue_or_to_none(broker):
    id_ = broker.publish("q", "a")
    with pytest.raises(InvalidArgument, match="another queue"):
        broker.move_waiting("q", id_, "q")
    with pytest.raises(QueueNotFound):
        broker.move_waiting("q", id_, "nothing")
    assert texts(broker.consume("q")) == ["a"]


def setup_for(broker, kind):
    """Let messages wait; return their texts, and the ids of some that are to be moved."""
    if kind == "files":
        for text in "abc":
            broker.publish("q", text)
    elif kind == "bundle":
        broker.publish_many("q", list("abcdefghijkl"))
    else:
        broker.publish_many("q", list("abcdefghijkl"))
        broker.release(broker.consume("q", 5))
    return texts(broker.peek("q", 99)), ids(broker, "b", "c")


def everything_in(broker, clock):
    """Return the texts of all messages in both queues, also of what was leased by the dead."""
    clock.advance(2 * 3600)
    for queue in ("q", "other"):
        broker.clean(queue)
    taken = [texts(broker.consume(queue, 99)) for queue in ("q", "other")]
    assert broker.view()["q"].dead == broker.view()["other"].dead == 0
    return sorted(chain.from_iterable(taken))


def prepared(root, clock, calls):
    """Return a client that knows both queues, and makes these system calls from now on."""
    fs = FileSystem()
    client = Broker(root, clock=clock, fs=fs, clean=False)
    client.view(["q", "other"])
    fs.calls = calls
    return client


@pytest.mark.parametrize("kind", ["files", "bundle", "range"])
def test_whoever_dies_before_any_call_neither_loses_nor_doubles_a_message(
    tmp_path, clock, kind
):
    for n in range(1000):
        root = tmp_path / str(n)
        broker = Broker(root, create=True, clock=clock)
        broker.create_queue("q")
        broker.create_queue("other")
        expected, wanted = setup_for(broker, kind)
        client = prepared(root, clock, crashing_before(n))
        try:
            assert client.move_waiting("q", wanted, "other") == {}
        except Crash:
            pass
        else:
            assert texts(broker.consume("other", 9)) == ["b", "c"]
            return
        assert everything_in(broker, clock) == sorted(expected)
    raise AssertionError("it makes more than a thousand calls")


@pytest.mark.parametrize("kind", ["files", "bundle", "range"])
def test_a_consumer_at_any_moment_gets_each_message_once(tmp_path, clock, kind):
    for n in range(1000):
        root, taken = tmp_path / str(n), []
        broker = Broker(root, create=True, clock=clock)
        broker.create_queue("q")
        broker.create_queue("other")
        expected, wanted = setup_for(broker, kind)
        rival = Broker(root, clock=clock, clean=False)

        def consume(rival=rival, taken=taken):
            taken += rival.consume("q", 2)

        client = prepared(root, clock, interrupted(n, consume))
        client.move_waiting("q", wanted, "other")
        if not taken:
            return
        broker.ack(taken)
        found = everything_in(broker, clock) + texts(taken)
        assert sorted(found) == sorted(expected)
    raise AssertionError("it makes more than a thousand calls")


def test_a_full_disk_is_an_error_and_loses_nothing(broker, root, clock, refusing):
    broker.publish_many("q", list("abcdefghijkl"))
    everything = [seen.id for seen in broker.peek("q", 99)]
    fs = refusing("write", errno.ENOSPC, "", times=1)
    client = Broker(root, clock=clock, fs=fs, clean=False)
    with pytest.raises(StorageError, match="free some space"):
        client.move_waiting("q", everything[4:6], "other")
    assert [seen.id for seen in broker.peek("q", 99)] == everything
    assert broker.move_waiting("q", everything[4:6], "other") == {}


def test_what_is_cancelled_stays_and_is_said_to_be(broker):
    """In another queue nobody would know of it, and it would run."""
    broker.publish_many("q", [f"x{n}" for n in range(12)])
    first, third = ids(broker, "x0", "x2")
    broker.cancel("q", third)
    faults = broker.move_waiting("q", [first, third], "other")
    assert list(faults) == [third]
    assert faults[third].startswith("cancelled")
    assert texts(broker.consume("other", 9)) == ["x0"]
    assert third not in {message.id for message in broker.consume("q", 12)}


@pytest.mark.parametrize("waits", ["bundle", "range"])
def test_a_line_that_is_cancelled_before_it_is_taken_is_not_moved(
    broker, root, clock, waits
):
    """It is cancelled after the look at what is cancelled, and its mark would be left behind."""
    broker.publish_many("q", [f"x{n}" for n in range(12)])
    if waits == "range":
        broker.release(broker.consume("q", 6))
    wanted = ids(broker, "x1", "x3")
    done = []

    def call(_, name, function, arguments):
        takes = name in ("rename", "symlink") and not done
        if takes and any("/q/" in each for each in arguments[:2]):
            done.append(name)
            assert broker.cancel("q", wanted[1]) == {wanted[1]: "waiting"}
        return function(*arguments)

    mover = Broker(root, clock=clock, fs=FileSystem(Calls(call)), clean=False)
    faults = mover.move_waiting("q", wanted, "other")
    assert list(faults) == wanted[1:]
    assert "cancelled" in faults[wanted[1]]
    assert texts(broker.consume("other", 9)) == ["x1"]
    assert "x3" not in texts(broker.consume("q", 20))
    assert [dead.id for dead in broker.dead("q")] == wanted[1:]
