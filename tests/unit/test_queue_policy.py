"""What the settings of a queue and the options of a message mean for it."""

from __future__ import annotations

import errno

import pytest
from protocol.scenes import QUEUE
from support import Calls, Crash, FakeClock, crashing_before
from unit.scenes import consumed, files, leased, lost_to, texts

from ddmq import (
    Broker,
    InvalidArgument,
    LeaseLost,
    MessageNotFound,
    Seen,
    StorageError,
)
from ddmq.message import encode
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.names import Lease

# Messages come


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


# Messages are consumed


def test_what_was_taken_before_an_error_is_kept(broker, root, refusing, clock):
    broker.publish("q", "a")
    id_ = broker.publish("q", "b")
    client = Broker(root, clock=clock, fs=refusing("open", errno.EIO, id_))
    assert texts(client.consume("q", 2)) == ["a"]
    with pytest.raises(StorageError, match="the storage failed"):
        client.consume("q")
    assert broker.view()["q"] == (1, 1, 0, 0)
    assert texts(broker.consume("q")) == ["b"]


def test_a_message_that_is_over_the_limit_by_now_can_be_settled(broker):
    message = consumed(broker, "x" * 2000)
    broker.update_settings("q", max_message_size=1024)
    assert broker.leased("q", message.id).message is None
    broker.ack(broker.leased("q", message.id))
    assert broker.view("q")["q"] == (0, 0, 0, 0)


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


@pytest.mark.parametrize("number", [2, 20])
def test_each_of_many_messages_may_be_as_long_as_one(broker, number):
    """Few become files of their own, and more a bundle."""
    broker.update_settings("q", max_message_size=1024)
    longest = "x" * (1024 - len(encode("", 999)))
    broker.publish("q", longest)
    broker.publish_many("q", [longest] * number)
    with pytest.raises(InvalidArgument, match="over 1024"):
        broker.publish_many("q", [f"{longest}x"] * number)
    assert texts(broker.consume("q")) == [longest]
    assert len(broker.consume("q", number)) == number
    assert broker.view("q")["q"] == (0, number + 1, 0, 0)


# Messages are settled


def test_a_nacked_message_is_tried_again_and_counted(broker):
    message = consumed(broker, priority=7, requeue_prio=2)
    broker.nack(message)
    (again,) = broker.consume("q")
    assert again.id == message.id
    assert (again.failures, again.losses, again.requeue_counter) == (1, 0, 1)
    assert again.priority == 2


def test_a_nacked_message_stands_at_the_end_of_the_ready_queue(broker):
    broker.publish_many("q", list("ab"), requeue_prio=999)
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
    broker.publish_many("q", list("abc"), requeue_limit=0)
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


@pytest.mark.parametrize(("anew", "count"), [(False, 1), (True, 0)])
@pytest.mark.parametrize("together", [1, 20])
def test_what_is_moved_keeps_its_counts_unless_it_begins_anew(
    broker, anew, count, together
):
    broker.create_queue("other")
    broker.publish_many("q", ["x"] * together, timeout=77, durable=False)
    [message] = broker.consume("q")
    broker.nack(message)
    [message] = broker.consume("q")
    broker.move(message, "other", anew=anew)
    [moved] = broker.consume("other")
    assert (moved.id, moved.timeout) == (message.id, 77)
    assert moved.failures == count


def test_an_ack_of_what_was_moved_leaves_it_where_it_waits_now(broker):
    broker.create_queue("other")
    message = consumed(broker)
    broker.move(message, "other")
    broker.ack(message)
    assert texts(broker.consume("other")) == ["x"]


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


@pytest.mark.parametrize(
    ("seconds", "meanwhile", "is_known"),
    [
        (1, lambda b: None, True),
        (1, lambda b: b.consume("next"), True),
        (1, lambda b: b.ack(b.consume("next")), True),
        (1, lambda b: b.reject(b.consume("next")), True),
        (6, lambda b: None, True),
        (6, lambda b: b.consume("next"), True),
        (6, lambda b: b.nack(b.consume("next"), delay=60), True),
        (6, lambda b: b.reject(b.consume("next")), True),
        # Another consumer may have had it, once the lease was over.
        (6, lambda b: b.ack(b.consume("next")), False),
    ],
)
@pytest.mark.parametrize("number", [1, 20])
def test_a_move_that_finds_nothing_was_done_if_the_message_is_in_the_target(
    broker, other, clock, seconds, meanwhile, is_known, number
):
    broker.create_queue("next")
    broker.publish_many("q", ["x"] * number)
    [message] = broker.consume("q")
    message = broker.renew(message, 5)
    broker.move(message, "next")
    clock.advance(seconds)
    meanwhile(other)
    before = other.view()
    if is_known:
        broker.move(message, "next")
    else:
        with pytest.raises(LeaseLost):
            broker.move(message, "next")
    assert other.view() == before


@pytest.mark.parametrize("target", ["q", "next"])
def test_a_move_that_finds_the_message_in_its_own_queue_was_not_done(
    broker, other, target
):
    broker.create_queue("next")
    message = consumed(broker)
    other.release(other.leased("q", message.id))
    with pytest.raises(LeaseLost):
        broker.move(message, target)
    assert other.view()["q"] == (1, 0, 0, 0)


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


def test_only_those_that_are_named_come_back(broker):
    ids = [broker.publish("q", text) for text in "abc"]
    broker.reject(broker.consume("q", 3))
    with pytest.raises(MessageNotFound, match="unknown: no dead letter"):
        broker.redrive("q", [ids[1], "unknown"])
    assert broker.redrive("q", [ids[1]]) == 1
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


def test_a_dropped_message_that_died_comes_back_too(broker, root, aged):
    (root / "q" / "drop" / "a").write_text("hello")
    aged(root / "q" / "drop" / "a", 60)
    broker.reject(broker.consume("q"))
    assert broker.redrive("q") == 1
    assert [(m.message, m.priority) for m in broker.consume("q")] == [("hello", 999)]


# The queue itself


def test_an_open_queue_is_attended_to_again_when_the_first_of_its_duties_is_due(world):
    queue = world.broker(clean=False)._queue(QUEUE)
    now = world.clock.monotonic()
    queue.attend(now, clean=False)
    assert (queue.attended_at, queue.due_at) == (now, now + 1)
    world.clock.advance(0.5)
    queue.attend(now + 0.5, clean=False)
    assert queue.due_at == now + 1  # nothing was due, and nothing put off


def test_a_lease_that_is_renewed_each_time_is_given_up_after_eight(world):
    client = world.broker(clean=False)
    lease = Lease.parse(leased(world, client).filename)
    queue, tried = client._queue(QUEUE), []

    def renewed_meanwhile(current):
        tried.append(current)
        queue.store.leases.renew([current], 60 + len(tried))
        return False

    lost = queue.settle(lease, renewed_meanwhile)
    assert lost == tried[-1]
    assert len(set(tried)) == 8


def test_a_message_that_is_refused_is_a_dead_letter_though_nobody_read_it(world):
    client = world.broker(clean=False)
    for text in ("a", "b"):
        client.publish(QUEUE, text)
    seen = []

    def refuse_first(message):
        seen.append(message.message)
        return "not here" if len(seen) == 1 else None

    found = client.consume(QUEUE, 2, unless=refuse_first)
    assert [message.message for message in found] == ["b"]
    assert seen == [None, None]
    assert [dead.reason for dead in client.dead(QUEUE)] == ["not here"]


def test_whoever_dies_while_it_restores_leaves_no_half_message(broker, root, clock):
    """A dead letter, and a message with counts, are there whole or not at all."""
    common = {"failures": 1, "losses": 2, "own": {"timeout": 9}}
    dead = Seen("d", "", "", "dead", 3, code="failed", note={"reason": "bad"}, **common)
    seen = [dead, Seen("w", "", "", "waiting", 4, **common)]
    numbers = set()
    for n in range(200):
        before = broker.view("q")["q"]
        fs = FileSystem()
        client = Broker(root, clock=clock, fs=fs, clean=False)
        client.view("q")
        fs.calls = crashing_before(n)
        try:
            client.restore("q", seen)
        except Crash:
            pass
        else:
            break
        now = broker.view("q")["q"]
        numbers.add((now.waiting - before.waiting, now.dead - before.dead))
    assert numbers >= {(0, 0), (0, 1)}
    assert numbers <= {(0, 0), (0, 1), (1, 1)}
    letters = broker.dead("q")
    assert {(x.message, x.failures, x.losses, x.reason) for x in letters} == {
        ("d", 1, 2, "bad")
    }
    waiting = broker.peek("q", 99)
    assert {(x.message, x.priority, x.failures, x.losses) for x in waiting} == {
        ("w", 4, 1, 2)
    }
    assert waiting[0].own == {"timeout": 9}


@pytest.mark.parametrize("hours", [0, 2])
def test_a_dead_letter_whose_draft_was_cleaned_away_is_not_called_restored(
    root, broker, hours
):
    """Its publisher was suspended. A reply that says so, but is wrong, is no error."""
    clock, left = FakeClock(root.stat().st_mtime), []
    cleaner = Broker(root, clock=clock)

    def call(_, name, function, arguments):
        if name != "rename" or not arguments[1].endswith(".failed") or left:
            return function(*arguments)
        left.append(arguments[0])
        if not hours:
            function(*arguments)
            broker.redrive("q")
        clock.advance(hours * 3600)
        cleaner.clean("q")
        raise FileNotFoundError(errno.ENOENT, "gone", arguments[0])

    client = Broker(root, fs=FileSystem(Calls(call)), clock=clock, clean=False)
    dead = [Seen("d", "", "", "dead", 3, 0, 0, code="failed")]
    if hours:
        with pytest.raises(StorageError, match="probably cleaned away"):
            client.restore("q", dead)
        assert broker.view("q")["q"] == (0, 0, 0, 0)
    else:
        assert client.restore("q", dead) == 1
        assert broker.view("q")["q"] == (1, 0, 0, 0)
    assert len(left) == 1


def test_what_was_delayed_elsewhere_is_delayed_until_the_same_time(broker, clock):
    until = clock.time() + 60
    late = [Seen(n, "", "", "delayed", 4, 0, 0, until=until) for n in range(12)]
    due = Seen("due", "", "", "delayed", 4, 0, 0, until=clock.time() - 60)
    far = Seen("far", "", "", "delayed", 4, 1, 0, until=9e9)
    told = []
    assert broker.restore("q", [*late, due, far], told.append) == 14
    assert told == [12, 13, 14]
    assert broker.view("q")["q"] == (1, 0, 13, 0)
    clock.advance(61)
    assert broker.view("q")["q"] == (13, 0, 1, 0)


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES])
def test_a_dead_letter_that_can_not_be_moved_keeps_no_other_one_dead(
    broker, root, clock, refusing, code
):
    for text in "abc":
        broker.publish("q", text)
    broker.reject(broker.consume("q", 3), "bad")
    first = broker.dead("q")[0].id
    ours = Broker(root, clock=clock, fs=refusing("rename", code, first), clean=False)
    with pytest.raises(StorageError, match=first):
        ours.redrive("q")
    assert [dead.id for dead in broker.dead("q")] == [first]
    assert texts(broker.peek("q", 9)) == ["b", "c"]


# What is taken ahead, and not started


@pytest.mark.parametrize("number", [4, 40])
@pytest.mark.parametrize("options", [{"requeue_limit": 0}, {}])
def test_what_was_not_started_comes_back_to_its_place_and_counts_no_loss(
    broker, other, clock, number, options
):
    """However often its consumer dies; what was started counts, and becomes a dead letter."""
    broker.publish_many("q", list(range(number)), **options)
    first, second, *others = broker.consume("q", number, started=1)
    [started] = broker.start([second])
    assert started.id == second.id
    clock.advance(700)
    swept = other.clean("q")
    dead = {letter.message: letter.losses for letter in other.dead("q")}
    back = other.consume("q", number)
    losses = {message.message: message.losses for message in back}
    both = {first.message: 1, second.message: 1}
    assert (dead, swept.dead) == ((both, 2) if options else ({}, 0))
    assert swept.requeued + swept.dead == number
    expected = dict.fromkeys((m.message for m in others), 0)
    assert losses == (expected if options else {**both, **expected})
    in_order = [m.message for m in back if not m.losses]
    assert in_order == sorted(in_order)


@pytest.mark.parametrize("number", [4, 40])
@pytest.mark.parametrize(
    "settle",
    [
        lambda b, m: b.ack(m),
        lambda b, m: [b.ack(x) for x in m],
        lambda b, m: [b.reject(x) for x in m],
        lambda b, m: [b.move(x, "next") for x in m],
        lambda b, m: b.ack(b.renew(m, 900)),
        lambda b, m: b.ack([b.renew(x, 900) for x in m]),
        lambda b, m: b.ack(b.start(b.renew(m, 900))),
        lambda b, m: b.start(m) and b.ack(m),
        lambda b, m: [b.ack(x) for x in b.start([b.renew(x, 900) for x in m])],
        lambda b, m: [b.ack(b.leased("q", x.filename)) for x in m],
    ],
)
def test_what_was_not_started_can_be_settled_like_any_other(broker, number, settle):
    broker.create_queue("next")
    broker.publish_many("q", list(range(number)))
    settle(broker, broker.consume("q", number, started=1))
    assert broker.view("q")["q"][:3] == (0, 0, 0)


@pytest.mark.parametrize("number", [4, 40])
def test_what_was_released_unstarted_waits_like_any_other(broker, number):
    broker.publish_many("q", list(range(number)))
    broker.release(broker.consume("q", number, started=0))
    assert broker.view("q")["q"] == (number, 0, 0, 0)
    again = broker.consume("q", number)
    assert [m.message for m in again] == list(range(number))
    assert not any(".taken" in m.filename for m in again)


def test_whoever_lost_a_message_can_not_start_it(broker, other, clock):
    broker.publish_many("q", list(range(20)))
    mine = broker.consume("q", 5, started=0)
    clock.advance(700)
    other.clean("q")
    with pytest.raises(LeaseLost) as caught:
        broker.start(mine)
    assert len(caught.value.messages) == 5
    assert len(other.consume("q", 20)) == 20


def test_what_may_be_too_large_to_be_read_counts_from_the_claim_on(
    broker, other, clock
):
    """A message that kills each consumer as it is read would else come back for ever."""
    broker.update_settings("q", max_message_size=2 << 20)
    broker.publish("q", "x")
    assert len(broker.consume("q", started=0)) == 1
    clock.advance(700)
    other.clean("q")
    assert [m.losses for m in other.consume("q")] == [1]


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("number", [4, 40])
def test_a_start_can_be_repeated(root, broker, clock, refusing, number, done):
    broker.publish_many("q", list(range(number)))
    fs = refusing("rename", errno.EIO, "/work/", times=1, done=done)
    mine = broker.consume("q", number, started=0)
    starter = Broker(root, clock=clock, fs=fs)
    with pytest.raises(StorageError):
        starter.start(mine)
    assert len(starter.start(mine)) == number
    clock.advance(700)
    broker.clean("q")
    assert {m.losses for m in broker.consume("q", number)} == {1}
