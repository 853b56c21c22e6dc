"""The policy, as somebody sees it who uses ddmq as a module."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain

import pytest
from support import Calls

import ddmq
from ddmq import (
    Broker,
    Counts,
    DdmqError,
    InvalidArgument,
    LeaseLost,
    QueueNotFound,
    StorageError,
    errors,
)
from ddmq.fs import FileSystem
from ddmq.names import Lease


@pytest.fixture
def other(broker, root, clock):
    """Another client of the same root."""
    return Broker(root, clock=clock)


def texts(messages):
    return [message.message for message in messages]


def consumed(broker, message="x", **options):
    """Publish a message and consume it."""
    broker.publish("q", message, **options)
    (taken,) = broker.consume("q")
    return taken


def lost_to(other, broker, clock, **options):
    """Return a message as its first consumer has it, and as the second one has it."""
    mine = consumed(broker, timeout=5, **options)
    clock.advance(6)
    (theirs,) = other.consume("q")
    assert theirs.id == mine.id
    return mine, theirs


def files(root):
    return sorted(path for path in root.rglob("*") if path.is_file())


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


def test_priority_zero_is_a_priority(broker):
    broker.update_settings("q", priority=5)
    assert consumed(broker, priority=0).priority == 0
    assert consumed(broker).priority == 5


def test_a_requeue_priority_of_zero_is_one_too(broker):
    broker.update_settings("q", requeue_prio=5)
    broker.nack(consumed(broker, requeue_prio=0))
    assert broker.consume("q")[0].priority == 0


def test_the_message_beats_the_queue_and_the_queue_the_root(broker):
    options = {
        "message_timeout": (70, 60, 50),
        "requeue": (False, True, False),
        "requeue_prio": (3, 2, 1),
        "requeue_limit": (9, 8, None),
    }
    layers = [{key: values[n] for key, values in options.items()} for n in range(3)]
    broker.update_settings(**layers[0])
    assert consumed(broker)[4:8] == (70, False, 3, 9)
    broker.update_settings("q", **layers[1])
    assert consumed(broker)[4:8] == (60, True, 2, 8)
    own = layers[2]
    own["timeout"] = own.pop("message_timeout")
    assert consumed(broker, **own)[4:8] == (50, False, 1, None)


def test_what_a_message_leaves_out_is_decided_when_it_is_consumed(broker):
    broker.publish("q", "x")
    broker.update_settings("q", requeue_limit=7, message_timeout=5)
    (message,) = broker.consume("q")
    assert (message.requeue_limit, message.timeout) == (7, 5)


@pytest.mark.parametrize("durable", [True, False])
def test_the_setting_decides_whether_publishing_waits_for_the_disk(
    broker, root, refusing, durable
):
    broker.update_settings("q", durable=durable)
    client = Broker(root, fs=refusing("fsync", errno.EIO))
    if durable:
        with pytest.raises(StorageError):
            client.publish("q", "x")
    for delay in (0, 5):
        client.publish("q", "x", durable=False, delay=delay)
        with pytest.raises(StorageError):
            client.publish("q", "x", durable=True, delay=delay)


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
    Broker(root, **small).publish_many("q", "abcd", durable=False)
    client = Broker(root, fs=FileSystem(Calls(call)), **small)
    client.publish_many("q", "x" * number, durable=True)
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
}


@pytest.mark.parametrize("call", WRONG_CALLS.values(), ids=WRONG_CALLS)
def test_a_wrong_argument_is_a_value_error_and_does_nothing(broker, root, call):
    message = consumed(broker)
    before = files(root)
    with pytest.raises(DdmqError) as caught:
        call(broker, message)
    assert isinstance(caught.value, ValueError)
    assert files(root) == before


# Consume


def test_an_empty_queue_gives_an_empty_list(broker):
    assert broker.consume("q") == []
    assert broker.consume("q", 5) == []


def test_as_many_come_as_were_asked_for_or_as_there_are(broker):
    broker.publish_many("q", "abc")
    assert texts(broker.consume("q", 2)) == ["a", "b"]
    assert texts(broker.consume("q", 2)) == ["c"]


def test_nobody_else_gets_what_is_leased(broker, other):
    broker.publish_many("q", "ab")
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
    broker.publish_many("q", "ab")
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
    broker.publish_many("q", "ab")
    first = min((root / "q" / "ready").rglob("*.*"))
    first.unlink()
    make(first)
    assert texts(broker.consume("q", 2)) == ["b"]
    (dead,) = broker.dead("q")
    assert dead.message is None
    assert dead.reason


def test_a_pipe_that_somebody_holds_open_stops_nobody(broker, root):
    broker.publish_many("q", "ab")
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
    broker.publish_many("q", "bcdef")
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


def test_a_message_that_is_over_the_limit_by_now_can_be_settled(broker):
    message = consumed(broker, "x" * 2000)
    broker.update_settings("q", max_message_size=1024)
    assert broker.leased("q", message.id).message is None
    broker.ack(broker.leased("q", message.id))
    assert broker.view("q")["q"] == (0, 0, 0, 0)


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
    broker.publish_many("q", "ab")
    client = Broker(root, clock=clock, fs=FileSystem(Calls(steal)))
    assert texts(client.consume("q")) == ["b"]
    assert len(stolen) == 1


def test_what_is_no_message_and_can_not_be_moved_is_reported_once(
    broker, root, refusing, clock, caplog
):
    broker.publish_many("q", "ab")
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


def test_what_was_taken_before_an_error_is_kept(broker, root, refusing, clock):
    broker.publish("q", "a")
    id_ = broker.publish("q", "b")
    client = Broker(root, clock=clock, fs=refusing("open", errno.EIO, id_))
    assert texts(client.consume("q", 2)) == ["a"]
    with pytest.raises(StorageError, match="the storage failed"):
        client.consume("q")
    assert broker.view()["q"] == (1, 1, 0, 0)
    assert texts(broker.consume("q")) == ["b"]


# Ack, nack, release, reject


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


def test_a_nacked_message_is_tried_again_and_counted(broker):
    message = consumed(broker, priority=7, requeue_prio=2)
    broker.nack(message)
    (again,) = broker.consume("q")
    assert again.id == message.id
    assert (again.failures, again.losses, again.requeue_counter) == (1, 0, 1)
    assert again.priority == 2


def test_a_nacked_message_stands_at_the_end_of_its_line(broker):
    broker.publish_many("q", "ab", requeue_prio=999)
    broker.nack(broker.consume("q"))
    assert texts(broker.consume("q", 2)) == ["b", "a"]


def test_a_nacked_message_can_wait(broker, clock):
    broker.nack(consumed(broker), delay=30)
    assert broker.consume("q") == []
    assert broker.view()["q"].delayed == 1
    clock.advance(31)
    (again,) = broker.consume("q")
    assert (again.failures, again.priority) == (1, 0)


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_after_its_limit_a_message_is_dead(broker, limit):
    broker.publish("q", "x", requeue_limit=limit)
    for _ in range(limit + 1):
        broker.nack(broker.consume("q"))
    assert broker.consume("q") == []
    assert [dead.failures for dead in broker.dead("q")] == [limit + 1]


def test_what_is_not_to_be_requeued_is_dead_at_once(broker):
    broker.nack(consumed(broker, requeue=False), reason="exit 1")
    (dead,) = broker.dead("q")
    assert (dead.message, dead.reason, dead.failures) == ("x", "exit 1", 1)


def test_a_released_message_does_not_count(broker):
    broker.publish_many("q", "abc", requeue_limit=0)
    messages = broker.consume("q", 2)
    broker.release(messages)
    again = broker.consume("q", 3)
    assert texts(again) == ["a", "b", "c"]
    assert [m.requeue_counter for m in again] == [0, 0, 0]
    assert [m.priority for m in again] == [999, 999, 999]


def test_a_rejected_message_is_never_tried_again(broker):
    broker.reject(consumed(broker, "a"), reason="no such file")
    broker.reject(consumed(broker, "b"))
    assert broker.consume("q") == []
    dead = {d.message: d for d in broker.dead("q")}
    assert dead["a"].reason == "no such file"
    assert dead["a"].requeue_counter == 0
    assert "rejected" in dead["b"].reason


# Leases


SETTLE = {
    "ack": Broker.ack,
    "nack": Broker.nack,
    "release": Broker.release,
    "reject": Broker.reject,
    "renew": Broker.renew,
}


@pytest.fixture(params=list(SETTLE.values()), ids=list(SETTLE))
def settle(request):
    return request.param


def test_nobody_settles_what_another_has_consumed_since(
    broker, other, clock, root, settle
):
    mine, theirs = lost_to(other, broker, clock)
    before = files(root)
    with pytest.raises(LeaseLost) as caught:
        settle(broker, mine)
    assert caught.value.messages == (mine,)
    assert mine.id in str(caught.value)
    assert files(root) == before
    other.ack(theirs)


def test_what_was_given_back_is_not_settled_again(broker, settle):
    message = consumed(broker)
    broker.nack(message)
    with pytest.raises(LeaseLost):
        settle(broker, message)
    assert broker.view()["q"] == (1, 0, 0, 0)


def test_what_is_finished_can_only_be_finished_again(broker):
    message = consumed(broker)
    broker.ack(message)
    broker.ack(message)  # its first reply may have been lost
    for settle in (broker.nack, broker.release, broker.reject, broker.renew):
        with pytest.raises(LeaseLost):
            settle(message)
    assert broker.view()["q"] == (0, 0, 0, 0)


def test_what_is_finished_is_not_finished_again_when_its_lease_is_over(broker, clock):
    message = consumed(broker, timeout=5)
    broker.ack(message)
    clock.advance(6)
    with pytest.raises(LeaseLost):
        broker.ack(message)


def test_a_lost_lease_does_not_settle_what_waits_again(broker, other, clock, settle):
    mine = consumed(broker, timeout=5)
    clock.advance(6)
    other.clean("q")
    with pytest.raises(LeaseLost):
        settle(broker, mine)
    assert other.view()["q"] == (1, 0, 0, 0)


def test_a_lease_that_is_over_holds_while_nobody_has_taken_it(broker, clock, settle):
    message = consumed(broker, timeout=5)
    clock.advance(60)
    settle(broker, message)


def test_of_several_all_are_tried_and_those_lost_are_named(broker, root, clock):
    broker.publish_many("q", map(str, range(8)))
    messages = broker.consume("q", 8)
    broker.nack(messages[:7])
    with pytest.raises(LeaseLost) as caught:
        broker.ack(messages)
    assert caught.value.messages == tuple(messages[:7])
    assert "and 2 more" in str(caught.value)
    assert broker.view()["q"] == (7, 0, 0, 0)


def test_a_lease_can_be_prolonged(broker, other, clock):
    message = consumed(broker, timeout=5)
    for _ in range(5):
        clock.advance(4)
        message = broker.renew(message)
        assert other.consume("q") == []
    clock.advance(6)
    assert len(other.consume("q")) == 1


def test_a_lease_can_be_prolonged_by_another_time_than_its_own(broker, other, clock):
    message = broker.renew(consumed(broker, timeout=5), 100)
    clock.advance(99)
    assert other.consume("q") == []
    assert message.timeout == 5


def test_a_message_from_before_a_renewal_still_settles(broker, clock, settle):
    message = consumed(broker)
    clock.advance(1)
    broker.renew(message)
    clock.advance(1)
    renewed = broker.renew(message)
    assert renewed.filename != message.filename
    settle(broker, message)


def test_a_message_at_work_is_found_by_its_id_and_by_its_file_name(broker, other):
    message = consumed(broker)
    assert other.leased("q", message.id) == message
    assert other.leased("q", message.filename) == message
    other.ack(other.leased("q", message.id))
    with pytest.raises(LeaseLost, match=message.id):
        other.leased("q", message.id)


def test_what_is_no_message_at_work_is_not_found(broker, root):
    message = consumed(broker)
    (root / "q" / "work" / message.filename).write_text("junk")
    with pytest.raises(LeaseLost):
        broker.leased("q", message.id)


# Dead letters


def test_dead_letters_come_back_as_if_new(broker):
    broker.publish("q", "x", priority=7, requeue_limit=1)
    for _ in range(2):
        broker.nack(broker.consume("q"), reason="bad")
    assert broker.redrive("q") == 1
    (message,) = broker.consume("q")
    assert (message.failures, message.losses, message.priority) == (0, 0, 7)
    assert message.requeue_limit == 1
    assert broker.dead("q") == []


def test_the_reason_of_a_dead_letter_goes_when_it_comes_back(broker):
    broker.reject(consumed(broker), "bad")
    broker.redrive("q")
    broker.reject(broker.consume("q"))
    assert broker.dead("q")[0].reason != "bad"


def test_an_ack_of_what_was_moved_leaves_it_where_it_waits_now(broker):
    broker.create_queue("other")
    message = consumed(broker)
    broker.move(message, "other")
    broker.ack(message)
    assert texts(broker.consume("other")) == ["x"]


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


def test_an_ack_by_the_name_before_a_renewal_whose_reply_is_lost_is_done(
    broker, root, clock, refusing
):
    message = consumed(broker, timeout=1)
    broker.renew(message, 60)
    clock.advance(5)
    fs = refusing("unlink", errno.ENOENT, "/work/", done=True, times=2)
    Broker(root, clock=clock, fs=fs, clean=False).ack(message)
    assert broker.view("q")["q"] == (0, 0, 0, 0)


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


def test_only_those_that_are_named_come_back(broker):
    ids = [broker.publish("q", text) for text in "abc"]
    broker.reject(broker.consume("q", 3))
    assert broker.redrive("q", [ids[1], "unknown"]) == 1
    assert texts(broker.consume("q", 9)) == ["b"]
    assert broker.redrive("q", []) == 0
    assert [d.message for d in broker.dead("q")] == ["a", "c"]


def test_of_two_that_redrive_a_dead_letter_one_counts_it(broker, root, refusing):
    broker.reject(consumed(broker), "bad")
    late = Broker(root, fs=refusing("rename", errno.ENOENT, "/dead/"))
    assert late.redrive("q") == 0
    assert broker.redrive("q") == 1


def test_what_is_no_message_stays_dead(broker, root):
    broker.publish("q", "x")
    min((root / "q" / "ready").rglob("*.*")).write_text("junk")
    assert broker.consume("q") == []
    assert broker.redrive("q") == 0
    assert len(broker.dead("q")) == 1


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


def test_a_dropped_message_that_died_comes_back_too(broker, root, aged):
    (root / "q" / "drop" / "a").write_text("hello")
    aged(root / "q" / "drop" / "a", 60)
    broker.reject(broker.consume("q"))
    assert broker.redrive("q") == 1
    assert [(m.message, m.priority) for m in broker.consume("q")] == [("hello", 999)]


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


# View, purge, wait


def in_every_state(broker):
    """Leave 4 messages waiting, 3 at work, 2 delayed and 1 dead."""
    broker.publish_many("q", "x" * 8)
    broker.reject(broker.consume("q"), "bad")
    broker.consume("q", 3)
    broker.publish_many("q", "yy", delay=60)


def test_the_view_counts_every_state(broker):
    in_every_state(broker)
    broker.create_queue("other")
    counts = Counts(waiting=4, work=3, delayed=2, dead=1)
    assert broker.view() == {"other": (0, 0, 0, 0), "q": counts}
    assert broker.view("q") == {"q": counts}
    assert list(broker.view(["q", "other"])) == ["q", "other"]
    assert broker.view([]) == {}
    with pytest.raises(QueueNotFound):
        broker.view("unknown")


@pytest.mark.parametrize(
    ("states", "purged"),
    [
        (["waiting"], (4, 0, 0, 0)),
        (["work"], (0, 3, 0, 0)),
        (["delayed"], (0, 0, 2, 0)),
        (["dead"], (0, 0, 0, 1)),
        (["waiting", "dead"], (4, 0, 0, 1)),
        ([], (0, 0, 0, 0)),
    ],
)
def test_only_what_is_named_is_purged(broker, states, purged):
    in_every_state(broker)
    before = broker.view()["q"]
    assert broker.purge("q", states) == purged
    assert broker.view()["q"] == tuple(b - p for b, p in zip(before, purged))


def test_everything_is_purged_unless_something_is_named(broker, root):
    in_every_state(broker)
    assert broker.purge("q") == (4, 3, 2, 1)
    left = {path.name for path in files(root / "q")}
    assert left <= {"ddmq.yaml", "lock", "cleaned"}
    assert broker.publish("q", "x")


@pytest.mark.parametrize(
    ("call", "place", "left"),
    [
        ("unlink", "ready/999", (1, 0, 0, 0)),
        ("rename", "ready/0", (12, 0, 0, 0)),  # a bundle
        ("unlink", "work", (0, 1, 0, 0)),
        ("unlink", "delayed", (0, 0, 1, 0)),
        ("unlink", "dead", (0, 0, 0, 1)),
    ],
)
def test_what_can_not_be_removed_keeps_nothing_else_from_a_purge(
    broker, root, refusing, clock, call, place, left
):
    in_every_state(broker)
    broker.publish_many("q", "x" * 12, priority=0)
    first = min(str(p) for p in files(root / "q" / place) if p.suffix != ".note")
    client = Broker(root, clock=clock, fs=refusing(call, errno.EPERM, first))
    with pytest.raises(StorageError) as told:
        client.purge("q")
    assert f"{first}: Operation not permitted: this stays, all" in str(told.value)
    assert broker.view()["q"] == left


def test_a_purge_leaves_directories_alone(broker, root):
    (root / "q" / "delayed" / "dir").mkdir()
    assert broker.purge("q") == (0, 0, 0, 0)
    assert (root / "q" / "delayed" / "dir").is_dir()


def test_waiting_ends_when_all_is_settled(broker, other, clock):
    broker.publish_many("q", "ab")
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


# Clocks, threads, processes


@pytest.mark.parametrize("clean", [True, False])
def test_a_lease_is_measured_by_the_file_servers_clock(broker, root, clean):
    class Ahead(ddmq.clock.Clock):
        def own_ns(self):
            return super().own_ns() + 1000 * 10**9

    here, there = Broker(root), Broker(root, clock=Ahead(), clean=clean)
    mine = consumed(here, timeout=500)
    assert there.consume("q") == []
    here.ack(mine)
    theirs = consumed(there, timeout=500)
    assert abs(int(theirs.filename[:13]) - int(mine.filename[:13])) < 60_000


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
    assert broker.publish_many("q", "x" * 1001, durable=False) == 1001
    assert len(files(root / "q" / "ready")) == 2
    for _ in range(499):
        broker.publish("q", "x", durable=False)
    assert len({path.parent for path in files(root / "q" / "ready")}) == 2


def test_small_buckets_change_nothing_that_a_user_sees(broker, root, clock):
    client = Broker(root, clock=clock, bucket_size=2, fs=FileSystem())
    client.publish_many("q", map(str, range(9)))
    assert texts(broker.consume("q", 9)) == [str(n) for n in range(9)]
