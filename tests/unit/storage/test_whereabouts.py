"""In which state messages are is told by names and journals; what moves meanwhile is not missed."""

from __future__ import annotations

import errno
import json
import os

import pytest
from protocol.scenes import QUEUE
from support import Calls, counting
from unit.scenes import claim_in_vain

from ddmq import Broker
from ddmq.errors import StorageError
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.whereabouts import gone, statuses


def noted(root, *runs, name="n1-1-aa.1.jsonl", prefix=b""):
    """Write runs to a journal, each given as id, start and result."""
    path = root / QUEUE / "journal"
    path.mkdir(exist_ok=True)
    lines = [
        {"id": id_, "start": start, "result": result, "host": "n1"}
        for id_, start, result in runs
    ]
    data = prefix + b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    (path / name).write_bytes(data)


def test_each_state_is_told_in_a_word(broker, root):
    broker.publish_many(QUEUE, [f"x{n}" for n in range(20)])
    single, late = broker.publish(QUEUE, "y"), broker.publish(QUEUE, "z", delay=60)
    lines = broker.consume(QUEUE, 5)
    bundle = lines[0].id.partition("-")[0]
    broker.nack(lines[0], delay=9)  # detached, and gone on
    broker.reject(lines[1])
    broker.ack(lines[2])
    noted(root, (lines[2].id, 1.0, "acked"), (f"{bundle}-9", 1.0, "acked"))
    states = {
        lines[0].id: "delayed",
        lines[1].id: "dead",
        lines[2].id: "acked",
        lines[3].id: "work",
        f"{bundle}-5": "waiting",
        f"{bundle}-9": "waiting",  # its worker died before it acked
        f"{bundle}-20": "unknown",
        single: "waiting",
        late: "delayed",
        "../no such id\n": "unknown",
    }
    assert list(broker.status(QUEUE, [*states, single]).items()) == list(states.items())
    assert broker.status(QUEUE, single) == {single: "waiting"}
    broker.release(lines[3])  # a range that waits
    assert broker.status(QUEUE, lines[3].id) == {lines[3].id: "waiting"}


def test_what_a_worker_took_back_is_not_acked(broker, root):
    noted(
        root,
        *[("a", 1.0, "acked"), ("a", 1.0, "lost"), ("b", 1.0, "failed")],
        *[("c", 1.0, "lost"), ("c", 2.0, "acked"), ("d", 1.0, "moved")],
    )
    states = broker.status(QUEUE, list("abcd"))
    assert list(states.values()) == ["unknown", "unknown", "acked", "unknown"]


def test_what_a_worker_was_about_to_ack_is_acked_unless_the_message_ran_again(
    broker, root
):
    confirmed = b'{"acked": ["c", 1.0]}\n{"acked": ["x", 1.0]}\n{"acked": []}\n'
    noted(
        root,
        *[("a", 1.0, "acking"), ("b", 1.0, "acking"), ("b", 2.0, "dead")],
        *[("c", 1.0, "acking"), ("c", 2.0, "dead"), ("d", 1.0, "acking")],
        *[("d", 1.0, "dead"), ("e", 1.0, "failed"), ("e", 2.0, "acking")],
        prefix=confirmed,
    )
    states = broker.status(QUEUE, list("abcde"))
    assert list(states.values()) == ["acked", "unknown", "acked", "unknown", "acked"]


def test_nothing_that_others_write_into_journals_stops_it(broker, root):
    hostile = b'{"id": "a"\n{"id": "a"}\n{"id": "a", "start": ' + b"[" * 9000 + b"\n"
    hostile += b'{"id": "a", "result": "acked", "host": "' + b"x" * 70000 + b'"}\n\xff'
    noted(root, ("b", 1.0, "acked"), prefix=hostile + b"\n")
    noted(root, ("c", 1.0, "acked"), name="not a journal")
    journals = root / QUEUE / "journal"
    (journals / "link.jsonl").symlink_to(journals / "not a journal")
    (journals / "directory.jsonl").mkdir()
    os.mkfifo(journals / "fifo.jsonl")
    states = broker.status(QUEUE, list("abc"))
    assert list(states.values()) == ["unknown", "acked", "unknown"]


def moving(root, move):
    """Return a client during whose listings something moves, before each."""

    def call(_, name, function, arguments):
        if name == "listdir" and str(root) in str(arguments[0]):
            move(str(arguments[0]))
        return function(*arguments)

    return Broker(root, fs=FileSystem(Calls(call)), clean=False)


@pytest.mark.parametrize("result", ["acked", "failed"])
def test_what_moves_between_two_listings_is_where_it_went(broker, root, result):
    """Whether or not a worker died before it acked: the queue is believed first."""
    id_ = broker.publish(QUEUE, "x")
    noted(root, (id_, 1.0, result))
    taken = []

    def take(path):
        """Take it after the listing of what is at work, before that of what waits."""
        if path.endswith("/ready") and not taken:
            taken.extend(broker.consume(QUEUE))

    assert moving(root, take).status(QUEUE, id_) == {id_: "work"}
    assert taken


def test_what_moves_all_the_time_is_found_when_it_rests(broker, root):
    id_ = broker.publish(QUEUE, "x")
    held, looks = [], []

    def move(path):
        """Take it whenever what waits is listed, and give it back before what is at work is."""
        if path.endswith("/ready") and not held and len(looks) < 3:
            held.extend(broker.consume(QUEUE))
            looks.append(path)
        elif path.endswith("/work") and held:
            broker.release(held.pop())

    assert moving(root, move).status(QUEUE, id_) == {id_: "waiting"}
    assert len(looks) == 3


def test_lines_of_a_claim_that_was_not_made_wait(world, bundler):
    [seen] = bundler.peek(QUEUE)
    claim_in_vain(world, 3)
    assert bundler.status(QUEUE, seen.id) == {seen.id: "waiting"}


def test_journals_that_are_merged_meanwhile_are_read_where_they_are_now(broker, root):
    noted(root, ("a", 1.0, "acked"))
    journals = root / QUEUE / "journal"

    def call(_, name, function, arguments):
        is_read = name == "open" and str(arguments[0]).endswith("aa.1.jsonl")
        if is_read and (journals / "n1-1-aa.1.jsonl").exists():
            os.replace(arguments[0], journals / "compacted-1.jsonl")
        return function(*arguments)

    client = Broker(root, fs=FileSystem(Calls(call)), clean=False)
    assert client.status(QUEUE, "a") == {"a": "acked"}


def test_where_a_directory_is_closed_to_us_nobody_says_unknown(broker, root):
    id_ = broker.publish(QUEUE, "x")

    def call(_, name, function, arguments):
        if name == "listdir" and str(arguments[0]).endswith("/ready/999"):
            raise PermissionError(errno.EACCES, "closed", arguments[0])
        return function(*arguments)

    client = Broker(root, fs=FileSystem(Calls(call)), clean=False)
    with pytest.raises(StorageError):
        client.status(QUEUE, id_)


def test_one_look_is_enough_where_none_is_gone(broker, root, clock):
    """A cleaning asks for each mark that is old, and a queue may be large."""
    broker.publish_many(QUEUE, ["x"] * 12)
    [seen] = broker.peek(QUEUE)
    looks = []
    for look in (statuses, gone):
        calls = counting()
        store = Broker(root, fs=FileSystem(calls), clock=clock)._known(QUEUE).store
        before = len(calls.made)
        assert look(store, [seen.id]) in ({seen.id: "waiting"}, frozenset())
        looks.append(calls.made[before:].count("listdir"))
    assert looks[0] == looks[1]


def test_what_many_looks_do_not_show_is_gone_though_the_queue_is_busy(
    broker, root, clock
):
    broker.publish_many(QUEUE, ["x"] * 12)
    [seen] = broker.peek(QUEUE)

    def busy(_, name, function, arguments):
        if name == "listdir" and arguments[0].endswith("/ready"):
            os.mkdir(root / QUEUE / "work" / ".x")
            os.rmdir(root / QUEUE / "work" / ".x")
        return function(*arguments)

    store = Broker(root, fs=FileSystem(Calls(busy)), clock=clock)._known(QUEUE).store
    assert gone(store, [seen.id, "nowhere"]) == {"nowhere"}
