"""The public API, as somebody sees it who uses ddmq as a module."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain

import pytest
from support import Calls
from unit.scenes import consumed, files, texts

import ddmq
from ddmq import (
    Broker,
    Counts,
    DdmqError,
    InvalidArgument,
    LeaseLost,
    Message,
    QueueNotFound,
    QueuePaused,
    Seen,
    StorageError,
    errors,
)
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.names import Lease

# The ten lines of the README


def test_the_ten_lines_that_everybody_starts_with(tmp_path):
    b = ddmq.broker(str(tmp_path / "new" / "root"), create=True)
    b.publish(queue="queue_name", message="Hello World!")
    msg = b.consume(queue="queue_name")
    assert msg[0].message == "Hello World!"
    b.ack(msg[0])
    assert b.consume(queue="queue_name") == []


def test_everything_public_can_be_imported_from_ddmq():
    assert all(hasattr(ddmq, name) for name in ddmq.__all__)
    found = [e for e in vars(errors).values() if isinstance(e, type)]
    raised = {e.__name__ for e in found if issubclass(e, DdmqError)}
    assert raised <= set(ddmq.__all__)
    assert "InvalidArgument" in raised


# Publish


@pytest.mark.parametrize(
    "value", ["", "Größe 🐟\n\0", 0, False, None, [1, {"a": None}], {"message": "x"}]
)
def test_any_json_value_arrives_as_it_was(broker, other, value):
    assert consumed(broker, value).message == value
    other.publish("q", value, durable=False)
    assert texts(broker.consume("q")) == [value]


def test_the_id_that_is_returned_is_the_messages(broker):
    id_ = broker.publish("q", "x")
    (message,) = broker.consume("q")
    assert message.id == id_
    assert message.queue == "q"
    assert id_ in message.filename


def test_all_that_is_published_comes_in_order(broker, other):
    assert broker.publish_many("q", (str(n) for n in range(1200))) == 1200
    assert texts(other.consume("q", 2000)) == [str(n) for n in range(1200)]


def test_publishing_many_passes_the_options_on(broker):
    broker.publish_many("q", ["a", "b"], priority=3, delay=0)
    assert [m.priority for m in broker.consume("q", 2)] == [3, 3]
    assert broker.publish_many("q", []) == 0


@pytest.mark.parametrize("number", [2, 20, 2000])
def test_of_many_none_is_published_when_one_is_wrong(broker, number):
    with pytest.raises(InvalidArgument):
        broker.publish_many("q", [*map(str, range(number)), "\ud800", "c"])
    assert broker.view("q")["q"] == (0, 0, 0, 0)


def test_a_lower_priority_is_consumed_first(broker):
    for priority in (10, 9, 0, 999, 10**18 - 1):
        broker.publish("q", priority, priority=priority)
    assert texts(broker.consume("q", 9)) == [0, 9, 10, 999, 10**18 - 1]


def test_a_durable_message_is_synced_with_all_that_leads_to_it(broker, root, clock):
    synced = []

    def call(_, name, function, arguments):
        if name == "fsync":
            synced.append(os.readlink(f"/proc/self/fd/{arguments[0]}"))
        return function(*arguments)

    client = Broker(root, clock=clock, fs=FileSystem(Calls(call)))
    client.publish("q", "x", durable=False)
    assert synced == []
    id_ = client.publish("q", "x", durable=True)
    (bucket,) = (root / "q" / "ready" / "999").iterdir()
    ready = root / "q" / "ready"
    assert synced[0].endswith(f"/tmp/{id_}")
    assert set(synced[1:]) == {str(p) for p in (bucket, bucket.parent, ready)}
    client.publish("q", "x", durable=True, delay=5)
    assert synced[-1] == f"{root}/q/delayed"
    synced.clear()
    broker.update_settings("q", durable=True)
    client = Broker(root, clock=clock, fs=FileSystem(Calls(call)))
    client.restore("q", [Seen("d", "", "", "dead", 3, 0, 0, code="failed")])
    assert os.path.dirname(synced[0]) == f"{root}/q/tmp"
    assert synced[1:] == [f"{root}/q/dead"]


@pytest.mark.parametrize("number", [1, 2, 3, 12])
def test_on_a_shelf_a_durable_message_or_bundle_is_synced_with_all_that_leads_to_it(
    broker, root, clock, number
):
    synced = []

    def call(_, name, function, arguments):
        if name == "fsync":
            synced.append(os.readlink(f"/proc/self/fd/{arguments[0]}"))
        return function(*arguments)

    small = {"clock": clock, "bucket_size": 2, "bundle_size": 4}
    Broker(root, **small).publish_many("q", list("abcd"), durable=False)
    client = Broker(root, fs=FileSystem(Calls(call)), **small)
    client.publish_many("q", list("x" * number), durable=True)
    priority = root / "q" / "ready" / "999"
    made = list(priority.glob("*.shelf/*" if number < 3 else "*.shelf"))
    assert made
    assert {*map(str, made), str(priority), str(priority.parent)} <= set(synced)
    assert {str(bucket.parent) for bucket in made} <= set(synced)


WRONG_OPTIONS = [
    {"priority": -1},
    {"priority": 1.5},
    {"priority": "high"},
    {"priority": True},
    {"priority": 10**18},
    {"timeout": 0},
    {"timeout": -1},
    {"timeout": 0.999},
    {"timeout": "5"},
    {"timeout": float("nan")},
    {"timeout": float("inf")},
    {"requeue": "yes"},
    {"requeue": 1},
    {"requeue_prio": -1},
    {"requeue_prio": 0.5},
    {"requeue_limit": -1},
    {"requeue_limit": "none"},
    {"delay": -1},
    {"delay": "soon"},
    {"delay": None},
    {"delay": float("inf")},
    {"durable": "no"},
]


@pytest.mark.parametrize("options", WRONG_OPTIONS, ids=str)
def test_a_wrong_option_publishes_nothing(broker, root, options):
    broker.consume("q")
    before = files(root)
    with pytest.raises(InvalidArgument) as caught:
        broker.publish("q", "x", **options)
    assert isinstance(caught.value, ValueError)
    assert next(iter(options)) in str(caught.value)
    assert files(root) == before


@pytest.mark.parametrize("value", ["\ud800", {1}, b"x", float("nan"), object], ids=repr)
def test_a_wrong_message_publishes_nothing(broker, root, value):
    broker.consume("q")
    before = files(root)
    with pytest.raises(InvalidArgument, match="message"):
        broker.publish("q", value)
    assert files(root) == before


WRONG_CALLS = {
    "a queue that is no text": lambda b, m: b.publish(5, "x"),
    "a list as a queue": lambda b, m: b.publish(["q"], "x"),
    "a mapping as a queue": lambda b, m: b.consume({}),
    "no queue": lambda b, m: b.consume(None),
    "no messages": lambda b, m: b.consume("q", 0),
    "less than none": lambda b, m: b.consume("q", -1),
    "half a message": lambda b, m: b.consume("q", 1.5),
    "a truth as a number": lambda b, m: b.consume("q", n=True),
    "a number as text": lambda b, m: b.consume("q", "2"),
    "ack of text": lambda b, m: b.ack("x"),
    "ack of nothing": lambda b, m: b.ack(None),
    "ack of an id in a list": lambda b, m: b.ack([m.id]),
    "ack of a made up name": lambda b, m: b.ack(m._replace(filename="../../x")),
    "ack in a bad queue": lambda b, m: b.ack(m._replace(queue="../q")),
    "ack of a good and a bad one": lambda b, m: b.ack([m, m._replace(filename="x")]),
    "release of a number": lambda b, m: b.release(5),
    "nack with a bad delay": lambda b, m: b.nack(m, delay=-1),
    "nack with a delay in words": lambda b, m: b.nack(m, delay="soon"),
    "reject with bytes": lambda b, m: b.reject(m, b"reason"),
    "renew for no time": lambda b, m: b.renew(m, 0),
    "renew for ever": lambda b, m: b.renew(m, float("inf")),
    "purge of an unknown state": lambda b, m: b.purge("q", ["ready"]),
    "purge of text": lambda b, m: b.purge("q", "dead"),
    "unset of an unknown key": lambda b, m: b.update_settings("q", unset=["colour"]),
    "an unknown key": lambda b, m: b.update_settings("q", colour=1),
    "a bad value": lambda b, m: b.update_settings("q", priority=-1),
    "a timeout too short": lambda b, m: b.update_settings("q", message_timeout=0.9),
    "renewal too short": lambda b, m: b.renew(m, 0.9),
    "create of a bad name": lambda b, m: b.create_queue("a,b"),
    "a mode as text": lambda b, m: b.create_queue("new", mode="2770"),
    "a wait for less than no time": lambda b, m: Broker(b.root, lock_timeout=-1),
}


@pytest.mark.parametrize("call", WRONG_CALLS.values(), ids=WRONG_CALLS)
def test_a_wrong_argument_is_a_value_error_and_does_nothing(broker, root, call):
    message = consumed(broker)
    before = files(root)
    with pytest.raises(DdmqError) as caught:
        call(broker, message)
    assert isinstance(caught.value, ValueError)
    assert files(root) == before


@pytest.mark.parametrize(
    "call",
    [lambda b: b.purge("q", "dead"), lambda b: b.update_settings("q", unset="dead")],
)
def test_a_word_in_place_of_a_list_is_told_whole(broker, call):
    with pytest.raises(InvalidArgument, match="is 'dead', which is one; give a list"):
        call(broker)


@pytest.mark.parametrize("wrong", [5, 1.5, True, [5], [["a"]], b"x", object()])
@pytest.mark.parametrize(
    "call",
    [
        lambda b, x: b.view(x),
        lambda b, x: b.overview(x),
        lambda b, x: b.find("q", x),
        lambda b, x: b.status("q", x),
        lambda b, x: b.cancel("q", x),
        lambda b, x: b.move_waiting("q", x, "target"),
        lambda b, x: b.leased("q", x),
        lambda b, x: b.redrive("q", x),
        lambda b, x: b.purge("q", x),
        lambda b, x: b.update_settings("q", unset=x),
        lambda b, x: b.drain("q", host=x),
        lambda b, x: b.drain("q", job=x),
        lambda b, x: b.restore("q", x),
    ],
)
def test_what_is_no_text_is_a_wrong_argument(broker, call, wrong):
    for queue in ("q", "target"):
        broker.create_queue(queue)
    with pytest.raises(InvalidArgument):
        call(broker, wrong)


@pytest.mark.parametrize("wrong", [5, None, 1.5, object()])
def test_what_is_no_list_of_messages_is_a_wrong_argument(broker, wrong):
    for publish in (broker.publish_many, broker.restore):
        with pytest.raises(InvalidArgument, match="; give a list"):
            publish("q", wrong)
    assert broker.is_empty("q")


@pytest.mark.parametrize(
    "call",
    [
        lambda b, x: b.find("q", x),
        lambda b, x: b.status("q", x),
        lambda b, x: b.cancel("q", ["a", x]),
        lambda b, x: b.move_waiting("q", x, "target"),
        lambda b, x: b.leased("q", x),
        lambda b, x: b.redrive("q", [x]),
    ],
)
def test_an_empty_id_is_told_as_such(broker, call):
    for queue in ("q", "target"):
        broker.create_queue(queue)
    with pytest.raises(InvalidArgument, match="an id is empty"):
        call(broker, "")


# Consume


def test_an_empty_queue_gives_an_empty_list(broker):
    assert broker.consume("q") == []
    assert broker.consume("q", 5) == []


def test_as_many_come_as_were_asked_for_or_as_there_are(broker):
    broker.publish_many("q", list("abc"))
    assert texts(broker.consume("q", 2)) == ["a", "b"]
    assert texts(broker.consume("q", 2)) == ["c"]


def test_nobody_else_gets_what_is_leased(broker, other):
    broker.publish_many("q", list("ab"))
    assert texts(broker.consume("q")) == ["a"]
    assert texts(other.consume("q", 9)) == ["b"]


def test_several_threads_consume_each_message_once(broker):
    broker.publish_many("q", map(str, range(200)), durable=False)
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: broker.consume("q", 25), range(8)))
    assert sorted(chain(*map(texts, taken)), key=int) == [str(n) for n in range(200)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b'{"message": "x', "cut short"),
        (b"not json", "not JSON"),
        (b'{"message": "x", "timeout": -1}', "timeout is -1"),
    ],
)
def test_a_file_that_holds_no_message_is_dead_and_stops_nobody(
    broker, root, data, reason
):
    broker.publish_many("q", list("ab"))
    first = min((root / "q" / "ready").rglob("*.*"))
    first.write_bytes(data)
    assert texts(broker.consume("q", 2)) == ["b"]
    (dead,) = broker.dead("q")
    assert reason in dead.reason
    assert dead.message is None
    assert (root / "q" / "dead" / dead.filename).read_bytes() == data


def _directory(path):
    path.mkdir()


def _link(path):
    path.symlink_to("/etc/passwd")


def _pipe(path):
    os.mkfifo(path)


@pytest.mark.parametrize("make", [_directory, _link, _pipe])
def test_what_is_no_file_is_dead_and_stops_nobody(broker, root, make):
    broker.publish_many("q", list("ab"))
    first = min((root / "q" / "ready").rglob("*.*"))
    first.unlink()
    make(first)
    assert texts(broker.consume("q", 2)) == ["b"]
    (dead,) = broker.dead("q")
    assert dead.message is None
    assert dead.reason


def test_a_pipe_that_somebody_holds_open_stops_nobody(broker, root):
    broker.publish_many("q", list("ab"))
    first = min((root / "q" / "ready").rglob("*.*"))
    first.unlink()
    os.mkfifo(first)
    writer = os.open(first, os.O_RDWR)
    try:
        assert texts(broker.consume("q", 2)) == ["b"]
    finally:
        os.close(writer)


def test_an_unreadable_message_is_dead_and_stops_nobody(broker, root, refusing, clock):
    id_ = broker.publish("q", "a")
    broker.publish("q", "b")
    client = Broker(root, clock=clock, fs=refusing("open", errno.EACCES, id_))
    assert texts(client.consume("q", 2)) == ["b"]
    (dead,) = broker.dead("q")
    assert "can't be read" in dead.reason


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOMEM])
def test_a_message_that_can_not_be_read_counts_a_loss_and_stops_nobody(
    broker, root, refusing, clock, code
):
    id_ = broker.publish("q", "a", requeue_limit=2)
    broker.publish_many("q", list("bcdef"))
    fs = refusing("open", code, id_)
    if code == errno.ENOMEM:
        fs = FileSystem(Calls(out_of_memory_at(id_)))
    for losses, text in enumerate("bc", 1):
        client = Broker(root, clock=clock, fs=fs)
        assert texts(client.consume("q")) == [text]
        assert broker.view("q")["q"] == (6 - losses, losses, 0, 0)
        [name] = [p.name for p in files(root / "q" / "ready") if id_ in p.name]
        assert f".0-{losses}." in name
    assert texts(Broker(root, clock=clock, fs=fs).consume("q")) == ["d"]
    (dead,) = broker.dead("q")
    assert dead.reason.startswith("it can't be read: ")
    assert (dead.message, dead.losses) == ("a", 3)


def out_of_memory_at(id_):
    """Return what makes system calls, of which none reads a message for lack of memory."""
    opened = set()

    def call(_, name, function, arguments):
        if name == "read" and arguments[0] in opened:
            raise MemoryError
        result = function(*arguments)
        if name == "open" and id_ in arguments[0]:
            opened.add(result)
        elif name == "close":
            opened.discard(arguments[0])
        return result

    return call


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE])
def test_what_hinders_all_reading_is_no_messages_fault(
    broker, root, refusing, clock, code
):
    """The first one counts a loss, unless we have too many files open; no other one does."""
    for text in "abc":
        broker.publish("q", text)
    client = Broker(root, clock=clock, fs=refusing("open", code, "/work/"))
    with pytest.raises(StorageError):
        client.consume("q")
    names = sorted(p.name.partition(".0-")[2] for p in files(root / "q" / "ready"))
    assert names == ["0", "0", "1" if code == errno.EIO else "0"]
    assert texts(Broker(root, clock=clock).consume("q", 3)) == ["a", "b", "c"]


@pytest.mark.parametrize("number", [1, 12])
def test_a_limit_that_was_raised_a_moment_ago_holds(broker, root, clock, number):
    broker.update_settings("q", max_message_size=1024)
    client = Broker(root, clock=clock)
    assert client.consume("q") == []  # so it knows the limit
    broker.update_settings("q", max_message_size=4096)
    broker.publish_many("q", ["x" * 2000] * number)
    assert len(client.consume("q", number)) == number


@pytest.mark.parametrize("number", [1, 12])
def test_a_message_that_is_over_the_limit_keeps_its_content(broker, root, number):
    """Whoever lowered the limit by mistake raises it again, and redrives."""
    broker.update_settings("q", max_message_size=64 << 20)
    broker.publish_many("q", ["x" * (3 << 20)] * number)
    broker.update_settings("q", max_message_size=1024)
    assert broker.consume("q", number) == []
    reasons = {letter.reason for letter in broker.dead("q")}
    assert reasons == {"its file is over 1024 bytes long (max_message_size)"}
    broker.update_settings("q", max_message_size=64 << 20)
    assert broker.redrive("q") == number
    assert {len(m.message) for m in broker.consume("q", number)} == {3 << 20}


def test_a_message_that_can_not_be_moved_is_passed_over(broker, root, refusing, clock):
    id_ = broker.publish("q", "a")
    broker.publish("q", "b")
    client = Broker(root, clock=clock, fs=refusing("rename", errno.EPERM, id_))
    assert texts(client.consume("q", 2)) == ["b"]
    assert client.consume("q") == []
    assert broker.view()["q"] == (1, 1, 0, 0)


def test_who_may_not_consume_is_told_so(broker, root, refusing, clock):
    broker.publish("q", "x")
    fs = refusing("rename", errno.EACCES, "/ready/")
    with pytest.raises(StorageError, match="ask its owner for permission"):
        Broker(root, clock=clock, fs=fs).consume("q")
    assert broker.view()["q"] == (1, 0, 0, 0)


def test_a_message_that_vanishes_while_it_is_taken_stops_nobody(broker, root, clock):
    def steal(_, name, function, arguments):
        if name == "open" and "/work/" in arguments[0] and not stolen:
            stolen.append(arguments[0])
            os.unlink(arguments[0])
        return function(*arguments)

    stolen: list[str] = []
    broker.publish_many("q", list("ab"))
    client = Broker(root, clock=clock, fs=FileSystem(Calls(steal)))
    assert texts(client.consume("q")) == ["b"]
    assert len(stolen) == 1


def test_what_is_no_message_and_can_not_be_moved_is_reported_once(
    broker, root, refusing, clock, caplog
):
    broker.publish_many("q", list("ab"))
    junk = next((root / "q" / "ready" / "999").iterdir()) / "0000junk"
    junk.touch()
    client = Broker(root, clock=clock, fs=refusing("rename", errno.EPERM, "junk"))
    assert texts(client.consume("q")) == ["a"]
    clock.advance(5)
    assert texts(client.consume("q")) == ["b"]
    assert client.consume("q") == []
    assert caplog.text.count(str(junk)) == 1
    assert broker.consume("q") == []
    assert [dead.reason[-8:] for dead in broker.dead("q")] == ["0000junk"]


# Ack, nack, release, reject


@pytest.mark.parametrize(
    "made",
    [
        lambda message: message,
        copy.copy,
        lambda message: pickle.loads(pickle.dumps(message)),
        lambda message: Message(**message._asdict()),
    ],
    ids=["consumed", "copied", "pickled", "made of its fields"],
)
def test_a_message_is_settled_by_its_file_name(broker, root, made):
    broker.publish("q", "x", durable=False)
    broker.publish_many("q", range(10), durable=False)
    held = [made(broker.consume("q")[0]) for _ in range(3)]
    longer = made(broker.renew(held[1]))  # which has another name by now
    broker.ack([held[0], longer, held[2]])
    assert broker.view("q")["q"] == (8, 0, 0, 0)


def test_an_acked_message_is_gone(broker, root):
    broker.ack(consumed(broker))
    assert broker.view() == {"q": Counts(0, 0, 0, 0)}


def test_a_list_is_settled_like_its_messages(broker):
    broker.publish_many("q", map(str, range(10)), requeue_limit=0)
    broker.ack(broker.consume("q", 2))
    broker.nack(broker.consume("q", 2))
    broker.reject(tuple(broker.consume("q", 2)))
    broker.release(iter(broker.consume("q", 2)))
    assert broker.view()["q"] == (4, 0, 0, 4)
    renewed = broker.renew(broker.consume("q", 2))
    assert texts(renewed) == ["6", "7"]
    broker.ack(renewed)
    broker.ack([])


# What can not be settled


def test_of_several_all_are_tried_and_those_lost_are_named(broker, root, clock):
    broker.publish_many("q", map(str, range(8)))
    messages = broker.consume("q", 8)
    broker.nack(messages[:7])
    with pytest.raises(LeaseLost) as caught:
        broker.ack(messages)
    assert caught.value.messages == tuple(messages[:7])
    assert "and 2 more" in str(caught.value)
    assert broker.view()["q"] == (7, 0, 0, 0)


# Dead letters


def test_the_reason_of_a_dead_letter_goes_when_it_comes_back(broker):
    broker.reject(consumed(broker), "bad")
    broker.redrive("q")
    broker.reject(broker.consume("q"))
    assert broker.dead("q")[0].reason != "bad"


def test_a_note_is_named_as_the_message_that_it_is_about(broker, root):
    message = consumed(broker)
    broker.reject(message, "bad")
    notes = [path.name for path in (root / "q" / "dead").glob("*.note")]
    token = Lease.parse(message.filename).token
    assert notes == [f"{message.id}.{token}.rejected.note"]


def test_who_is_late_gives_no_reason_for_a_death_that_housekeeping_decided(
    broker, clock
):
    late = consumed(broker, timeout=5, requeue=False)
    clock.advance(6)
    assert broker.clean("q").dead == 1
    with pytest.raises(LeaseLost):
        broker.nack(late, reason="too late")
    assert "its lease expired" in broker.dead("q")[0].reason


@pytest.mark.parametrize("details", [{"when": {1, 2}}, {"nan": b"x"}, 5, ["a"]])
@pytest.mark.parametrize("verb", ["nack", "reject"])
def test_details_that_are_no_json_are_refused_and_nothing_is_done(
    broker, verb, details
):
    message = consumed(broker)
    with pytest.raises(InvalidArgument, match="details"):
        getattr(broker, verb)(message, details=details)
    broker.ack(message)


def test_who_lost_the_lease_gives_no_reason_for_the_death(broker, other, clock):
    lost = consumed(broker, timeout=5)
    clock.advance(6)
    broker.clean("q")
    [held] = other.consume("q")
    other.reject(held, "the holder's")
    with pytest.raises(LeaseLost):
        broker.reject(lost, "not the holder's")
    assert broker.dead("q")[0].reason == "the holder's"


def test_a_redrive_leaves_the_note_of_the_next_death(broker, root, clock):
    broker.reject(consumed(broker), "the first time")

    def call(_, name, function, arguments):
        if name == "unlink" and arguments[0].endswith(".note") and not died:
            died.append(True)
            broker.reject(broker.consume("q"), "the second time")
        return function(*arguments)

    died = []
    assert Broker(root, clock=clock, fs=FileSystem(Calls(call))).redrive("q") == 1
    assert died
    assert [dead.reason for dead in broker.dead("q")] == ["the second time"]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.symlink_to("/etc/passwd"), "a symbolic link"),
        (lambda path: path.mkdir(), "a directory or special file"),
    ],
)
def test_a_dead_letter_tells_what_stood_in_its_place(broker, root, make, reason):
    broker.publish("q", "x")
    path = min((root / "q" / "ready").rglob("*.*"))
    path.unlink()
    make(path)
    assert broker.consume("q") == []
    (dead,) = broker.dead("q")
    assert reason in dead.reason


def test_a_message_that_can_not_be_read_and_then_is_gone_stops_nobody(
    broker, root, clock
):
    def call(_, name, function, arguments):
        if name == "open" and "/q/work/" in str(arguments[0]):
            os.unlink(arguments[0])
            raise OSError(errno.EACCES, "denied", arguments[0])
        return function(*arguments)

    broker.publish("q", "x")
    client = Broker(root, clock=clock, clean=False, fs=FileSystem(Calls(call)))
    assert client.consume("q") == []
    assert broker.view()["q"] == (0, 0, 0, 0)


@pytest.mark.parametrize("note", ["", "junk", "[1]", '"x"', "[" * 100_000])
def test_a_broken_note_hides_no_dead_letter(broker, root, note):
    broker.reject(consumed(broker), "bad")
    (path,) = (root / "q" / "dead").glob("*.note")
    path.write_text(note)
    (dead,) = broker.dead("q")
    assert (dead.message, dead.note) == ("x", {})
    assert "rejected" in dead.reason


def test_a_reason_that_can_not_be_written_stops_no_rejection(
    broker, root, clock, refusing
):
    message = consumed(broker)
    client = Broker(root, clock=clock, fs=refusing("write", errno.ENOSPC))
    client.reject(message, "bad")
    (dead,) = broker.dead("q")
    assert "rejected" in dead.reason
    assert list((root / "q" / "tmp").iterdir()) == []


# View, wait


@pytest.mark.usefixtures("in_every_state")
def test_the_view_counts_every_state(broker):
    broker.create_queue("other")
    counts = Counts(waiting=4, work=3, delayed=2, dead=1)
    assert broker.view() == {"other": (0, 0, 0, 0), "q": counts}
    assert broker.view("q") == {"q": counts}
    assert list(broker.view(["q", "other"])) == ["q", "other"]
    assert broker.view([]) == {}
    with pytest.raises(QueueNotFound):
        broker.view("unknown")


def test_a_lease_that_is_renewed_is_not_told(broker, other, clock):
    broker.publish_many("q", map(str, range(12)))
    messages, theirs = broker.consume("q", 3), other.consume("q", 2)
    assert broker.overview("q") == {"q": (Counts(7, 5, 0, 0), (0, None, None), None)}
    clock.advance(200)
    other.renew(theirs)
    clock.advance(101)
    counts, unrenewed, _ = broker.overview("q")["q"]
    assert broker.view("q") == {"q": counts}
    assert unrenewed == pytest.approx((3, 301, 299))
    clock.advance(200)
    assert broker.overview()["q"].unrenewed == pytest.approx((5, 501, 299))
    broker.ack(messages[1])
    assert broker.overview()["q"].unrenewed.number == 4
    broker.ack([messages[0], messages[2]])
    assert broker.overview()["q"].unrenewed == pytest.approx((2, 301, 299))


def test_the_timeout_of_a_message_decides_when_it_is_told(broker, clock):
    broker.update_settings("q", message_timeout=100)
    for timeout in (None, 60, 10):
        consumed(broker, timeout=timeout)
    clock.advance(9)
    assert broker.overview("q")["q"].unrenewed == pytest.approx((1, 9, 1))
    quiet = Broker(broker.root, clock=clock, clean=False)
    clock.advance(22)
    assert quiet.overview("q")["q"].unrenewed == pytest.approx((2, 31, 29))
    clock.advance(99)
    assert quiet.overview("q")["q"].unrenewed == pytest.approx((3, 130, 0))


def test_who_consumes_may_wait_for_a_message_that_comes_later(broker, other, clock):
    other.publish("q", "a", delay=30)
    began = clock.monotonic()
    assert texts(broker.consume("q", wait=60)) == ["a"]
    assert 30 <= clock.monotonic() - began < 40
    assert broker.consume("q", wait=60) == []
    assert clock.monotonic() - began >= 90


@pytest.mark.parametrize("wait", [-1, "1", float("nan")])
def test_who_consumes_waits_for_a_number_of_seconds(broker, wait):
    with pytest.raises(InvalidArgument, match="wait is"):
        broker.consume("q", wait=wait)


def test_who_waits_without_end_looks_ever_more_rarely(broker, other, clock):
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        clock.advance(seconds)
        if len(looks) == 100:
            other.publish("q", "a")

    clock.sleep = sleep
    assert texts(broker.consume("q", wait=None)) == ["a"]
    assert looks[0] < 0.1
    assert 3 < min(looks[20:]) <= max(looks[20:]) == 5


def test_who_waits_heeds_a_pause_until_it_is_over(broker, other, clock):
    broker.publish("q", "a")
    broker.pause("q")
    with pytest.raises(QueuePaused):
        broker.consume("q", wait=10, heed_pause=True)
    clock.sleep = lambda seconds: (clock.advance(seconds), other.resume("q"))
    assert texts(broker.consume("q", wait=10, heed_pause=True)) == ["a"]


def test_the_log_has_what_workers_noted(broker, root, clock):
    from ddmq.hpc.journal import Journal, Run

    assert list(broker.log("q")) == []
    journal = Journal(f"{root}/q", "node", clock, None)
    run = Run("id", 1.0, 2.0, "acked", 0, None, "node", "", 1, 0, 0.5, "")
    journal.add(run)
    journal.flush()
    journal.close()
    assert list(broker.log("q")) == [run]
    with pytest.raises(QueueNotFound):
        broker.log("none")


def test_waiting_ends_when_all_is_settled(broker, other, clock):
    broker.publish_many("q", list("ab"))
    looks = []

    def settle(queue):
        looks.append((queue, clock.monotonic()))
        other.ack(other.consume("q"))

    assert broker.wait("q", progress=settle) is True
    assert [queue for queue, _ in looks] == ["q", "q"]


def test_waiting_for_an_empty_queue_takes_two_looks(broker, clock):
    """They are a second apart where a file system may show stamps late."""
    before = clock.monotonic()
    assert broker.wait("q") is True
    assert clock.monotonic() - before < 1.5


@pytest.mark.parametrize("timeout", [0, 1, 100])
def test_waiting_ends_after_its_time(broker, clock, timeout):
    consumed(broker, timeout=1000)
    before = clock.monotonic()
    assert broker.wait("q", timeout) is False
    assert clock.monotonic() - before == pytest.approx(timeout, abs=0.001)


def test_who_waits_for_long_looks_rarely_but_never_too_rarely(broker, clock):
    consumed(broker, timeout=5000)
    looks = []
    broker.wait("q", 1000, progress=lambda _: looks.append(clock.monotonic()))
    pauses = [later - earlier for earlier, later in zip(looks, looks[1:])]
    assert pauses[0] <= 0.1
    assert 1 < max(pauses) <= 5.001
    assert len(looks) < 300


def test_waiting_counts_what_is_delayed_but_no_dead_letters(broker, clock):
    broker.reject(consumed(broker))
    assert broker.wait("q", 0) is True
    broker.publish("q", "x", delay=5)
    assert broker.wait("q", 1) is False


def test_waiting_does_the_housekeeping_of_vanished_consumers(broker, clock):
    consumed(broker, timeout=5, requeue=False)
    assert broker.wait("q", 60) is True
    assert len(broker.dead("q")) == 1


# Storage that fails


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "permission"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "the storage failed"),
    ],
)
def test_a_message_that_could_not_be_written_was_not_published(
    broker, root, clock, refusing, code, remedy
):
    client = Broker(
        root, clock=clock, clean=False, fs=refusing("open", code, "/q/tmp/")
    )
    client_ = Broker(root, clock=clock, fs=refusing("write", code))
    for failing in (client, client_):
        with pytest.raises(StorageError, match=remedy) as caught:
            failing.publish("q", "x")
        assert caught.value.errno == code
        assert caught.value.path.startswith(f"{root}/q/tmp/")
    assert broker.view()["q"] == (0, 0, 0, 0)
    assert list((root / "q" / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("call", "where", "delay"),
    [("rename", "/q/tmp/", 0), ("rename", "/tmp/", 5), ("mkdir", "/ready/", 0)],
)
def test_a_message_that_could_not_be_moved_was_not_published(
    broker, root, clock, refusing, call, where, delay
):
    fs = refusing(call, errno.ENOSPC, where)
    client = Broker(root, clock=clock, clean=False, fs=fs)
    with pytest.raises(StorageError):
        client.publish("q", "x", delay=delay)
    assert broker.view()["q"] == (0, 0, 0, 0)
    assert list((root / "q" / "tmp").iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_can_still_be_emptied(broker, root, clock, refusing, code):
    broker.publish("q", "x")
    client = Broker(root, clock=clock, fs=refusing("open", code, "/q/tmp/"))
    messages = client.consume("q")
    assert texts(messages) == ["x"]
    client.ack(messages)


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESTALE])
@pytest.mark.parametrize("delay", [0, 5])
def test_an_id_is_never_returned_for_a_message_that_did_not_move(
    broker, root, clock, refusing, code, delay
):
    broker.publish("q", "first")
    client = Broker(
        root, clock=clock, clean=False, fs=refusing("rename", code, "/q/tmp/", times=1)
    )
    try:
        client.publish("q", "second", delay=delay)
    except StorageError:
        published = 0
    else:
        published = 1
    counts = broker.view()["q"]
    assert counts.waiting + counts.delayed == 1 + published


def test_a_publisher_that_stood_still_for_too_long_is_told(broker, root, clock):
    def pause(_, name, function, arguments):
        if name == "rename" and "/q/tmp/" in arguments[0]:
            clock.advance(7200)  # meanwhile somebody cleans
            os.unlink(arguments[0])
        return function(*arguments)

    client = Broker(root, clock=clock, clean=False, fs=FileSystem(Calls(pause)))
    with pytest.raises(StorageError, match="cleaned away"):
        client.publish("q", "x")
    assert broker.view()["q"] == (0, 0, 0, 0)


def test_a_delayed_message_that_took_long_to_move_was_published(broker, root, clock):
    def pause(_, name, function, arguments):
        result = function(*arguments)
        if name == "rename" and "/q/tmp/" in arguments[0]:
            clock.advance(7200)
        return result

    client = Broker(root, clock=clock, clean=False, fs=FileSystem(Calls(pause)))
    assert client.publish("q", "x", delay=86400)
    assert broker.view()["q"] == (0, 0, 1, 0)


@pytest.mark.parametrize("call", ["fstat", "close", "fsync"])
@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO])
def test_an_error_that_names_no_file_is_explained_too(
    broker, root, refusing, call, code
):
    fs = FileSystem()
    client = Broker(root, fs=fs)
    client.consume("q")
    fs.calls = refusing(call, code, done=call == "close").calls
    for use in (client.clean, client.consume, client.purge, client.dead):
        with suppress(DdmqError):
            use("q")
    with suppress(DdmqError):
        client.publish("q", "x", delay=1)


@pytest.mark.parametrize("where", ["/mq/ddmq.yaml", "/q/ddmq.yaml"])
def test_settings_that_stay_stale_are_named_as_what_is_wrong(
    root, refusing, broker, where
):
    with pytest.raises(StorageError, match=where):
        Broker(root, fs=refusing("open", errno.ESTALE, where)).consume("q")


def test_every_thread_is_told_that_a_queue_is_gone(broker, root, clock):
    def call(_, name, function, arguments):
        if name == "open" and deleted == ["q"]:
            deleted.append("told")
            with pytest.raises(QueueNotFound):  # another thread is faster
                client.publish("q", "y")
        return function(*arguments)

    deleted: list[str] = []
    client = Broker(root, clock=clock, fs=FileSystem(Calls(call)))
    client.publish("q", "x")
    broker.delete_queue("q")
    deleted.append("q")
    with pytest.raises(QueueNotFound):
        client.publish("q", "x")


# Threads, and sizes


def test_a_broker_can_be_used_by_many_threads(broker):
    def work(name):
        for n in range(20):
            broker.publish("q", f"{name}.{n}", durable=False)
        while len(done) < 80:
            messages = broker.consume("q", 5)
            broker.ack(messages)
            done.extend(texts(messages))

    done: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, "abcd"))
    assert len(done) == len(set(done)) == 80
    assert broker.view()["q"] == (0, 0, 0, 0)


def test_a_bundle_holds_a_thousand_messages_and_a_bucket_five_hundred_files(
    broker, root
):
    assert broker.publish_many("q", list("x" * 1001), durable=False) == 1001
    assert len(files(root / "q" / "ready")) == 2
    for _ in range(499):
        broker.publish("q", "x", durable=False)
    assert len({path.parent for path in files(root / "q" / "ready")}) == 2


def test_small_buckets_change_nothing_that_a_user_sees(broker, root, clock):
    client = Broker(root, clock=clock, bucket_size=2, fs=FileSystem())
    client.publish_many("q", map(str, range(9)))
    assert texts(broker.consume("q", 9)) == [str(n) for n in range(9)]


# Settings that changed, and housekeeping that is due


def test_a_message_says_the_timeout_that_its_lease_was_made_with(broker, other, clock):
    """Though its size makes us read the settings again after the claim."""
    broker.update_settings("q", message_timeout=10, max_message_size=2048)
    consumed(broker)
    other.update_settings("q", message_timeout=3600, max_message_size=100_000)
    other.publish("q", "y" * 5000)
    [message] = broker.consume("q")
    expiry = int(message.filename.split(".")[0]) / 1000
    assert expiry - clock.time() == pytest.approx(message.timeout)


def test_a_call_that_keeps_no_house_puts_off_no_housekeeping(broker, clock):
    held = consumed(broker)
    broker.publish("q", "later", delay=5)
    for _ in range(3):
        clock.advance(3)
        broker.leased("q", held.id)
        delayed = broker.view()["q"].delayed
    assert delayed == 0


def test_a_priority_that_can_not_be_compared_is_a_wrong_argument(broker):
    class NotAvailable:
        def __eq__(self, other):
            raise TypeError("no truth here")

        __hash__ = None

    with pytest.raises(InvalidArgument, match="priority"):
        broker.publish("q", "x", priority=NotAvailable())


def test_a_client_that_lives_on_needs_no_more_of_the_files_it_was_loaded_from(root):
    """Whoever installs another ddmq replaces them under the running one."""
    code = """
import sys, time
from ddmq import Broker
from support import FakeClock
clock = FakeClock(time.time())
broker = Broker(sys.argv[1], create=True, clock=clock)
for seconds in (0, 11):
    clock.advance(seconds)
    broker.publish("q", "x")
sys.path[:] = []
sys.path_importer_cache.clear()
sys.meta_path[:] = []
broker.publish_many("q", map(str, range(30)))
found = broker.consume("q", 20)
broker.nack(found[0], reason="why")
broker.reject(found[1:], reason="why")
print(len(broker.dead("q")), broker.view()["q"].waiting, broker.is_empty("q"))
"""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(root / "new")],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["19", "13", "False"]


@pytest.mark.parametrize("messages", ["abc", b"abc", {"a": 1}])
def test_one_message_is_not_taken_for_many(broker, messages):
    with pytest.raises(InvalidArgument, match="which is one; give a list"):
        broker.publish_many("q", messages)
    assert broker.is_empty("q")


def test_a_pickled_broker_is_one_of_the_same_root_and_options(root):
    broker = Broker(root, create=True, clean=False, lock_timeout=7, bundle_size=10)
    broker.publish("q", "x")
    other = pickle.loads(pickle.dumps(broker))
    assert [m.message for m in other.consume("q")] == ["x"]
    assert other.__reduce__()[0].keywords == broker.__reduce__()[0].keywords
    assert other.__reduce__()[0].keywords["lock_timeout"] == 7
    assert repr(other) == f"Broker({str(root)!r}, create=True)"
    assert repr(Broker(root)) == f"Broker({str(root)!r})"


@pytest.mark.parametrize("bundled", [False, True])
def test_a_message_that_is_given_twice_is_settled_twice(broker, bundled):
    number = 12 if bundled else 4
    broker.publish_many("q", list(map(str, range(number))))
    first, second, third, *_ = broker.consume("q", number)
    assert [m.id for m in broker.renew([first, first])] == [first.id] * 2
    broker.ack([second, second])
    with pytest.raises(LeaseLost) as lost:
        broker.nack([third, third])
    assert lost.value.messages == (third,)


def test_a_queue_is_not_called_gone_while_its_directory_is_stale(
    broker, root, refusing
):
    """For a queue that is gone, a worker kills its commands."""
    broker.create_queue("jobs")
    fs = refusing("lstat", errno.ESTALE, "jobs")
    with pytest.raises(StorageError):
        Broker(root, fs=fs, clean=False).consume("jobs")
