"""A message that settles itself when its `with` ends, whatever ends it."""

from __future__ import annotations

import copy
import errno
import gc
import os
import pickle
import threading
import weakref
from contextlib import suppress

import pytest
from support import Calls, FakeClock

from ddmq import Broker, InvalidArgument, LeaseLost, Message, StorageError
from ddmq.holding.heartbeat import Heartbeat
from ddmq.holding.held import HeldMessage


@pytest.fixture
def heartbeat(broker, clock):
    """A heartbeat without its thread."""
    return Heartbeat(broker, clock)


@pytest.fixture
def message(broker, heartbeat):
    """A held message whose lease lasts for 30 s."""
    broker.publish("q", {"a": 1}, timeout=30, requeue_limit=1)
    [found] = broker.consume("q")
    return HeldMessage(found, broker, lambda: heartbeat)


@pytest.fixture
def counts(broker):
    """Return a function that counts what waits, is at work, delayed and dead."""
    return lambda: tuple(broker.view("q")["q"])


WAITING, AT_WORK, DONE = (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 0, 0)


def test_it_has_all_that_a_message_has(message):
    value = message.value
    assert type(value) is Message
    for name in (*Message._fields, "requeue_counter", "may_requeue"):
        assert getattr(message, name) == getattr(value, name)
    assert message.as_dict() == value.as_dict()
    assert message.message == {"a": 1}
    assert value.id in repr(message)
    with pytest.raises(AttributeError):
        message.mesage  # noqa: B018


def test_pickled_or_copied_it_is_a_plain_message(message):
    for found in (pickle.loads(pickle.dumps(message)), copy.copy(message)):
        assert type(found) is Message
        assert found == message.value


def test_a_block_that_ends_well_acks(message, counts):
    with message as entered:
        assert entered is message
        assert counts() == AT_WORK
    assert counts() == DONE
    assert message.is_settled


def test_an_exception_nacks_with_its_text_and_traceback_and_goes_on(
    broker, message, counts
):
    for number in (1, 2):
        with pytest.raises(ValueError, match="no such"), message:
            raise ValueError("no such\x1b[31m thing")
        if number == 1:
            assert counts() == WAITING
            [again] = broker.consume("q")
            assert again.failures == 1
            message = HeldMessage(again, broker, message._keep)
    [dead] = broker.dead("q")
    assert dead.reason == r"ValueError: no such\x1b[31m thing"
    assert dead.note["stderr"].startswith("Traceback")
    assert "test_held.py" in dead.note["stderr"]
    assert "\x1b" not in dead.note["stderr"]
    assert dead.note["host"] == os.uname().nodename


def test_what_is_kept_of_a_traceback_is_bounded(broker, heartbeat):
    text = "é\ud800" * 100_000
    broker.publish("q", "a", requeue=False)
    [found] = broker.consume("q")
    message = HeldMessage(found, broker, lambda: heartbeat)
    with pytest.raises(ValueError, match="é"), message:
        raise ValueError(text)
    [dead] = broker.dead("q")
    assert len(dead.reason) == 1000
    assert len(dead.note["stderr"]) == 4096
    assert dead.note["stderr"].strip().endswith("ud800")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_who_is_interrupted_gives_it_back_and_nothing_counts(
    broker, message, counts, error
):
    with pytest.raises(error), message:
        raise error
    assert counts() == WAITING
    [again] = broker.consume("q")
    assert again.requeue_counter == 0


@pytest.mark.parametrize(
    ("settle", "after"),
    [
        (lambda m: m.ack(), DONE),
        (lambda m: m.nack(reason="bad"), WAITING),
        (lambda m: m.nack(delay=60), (0, 0, 1, 0)),
        (lambda m: m.release(), WAITING),
        (lambda m: m.release(delay=60), (0, 0, 1, 0)),
        (lambda m: m.reject("bad", {"why": 1}), (0, 0, 0, 1)),
    ],
)
@pytest.mark.parametrize("fails", [False, True])
def test_what_the_block_has_settled_stays_so(message, counts, settle, after, fails):
    with suppress(ZeroDivisionError), message:
        settle(message)
        assert counts() == after
        assert 1 / (not fails)
    assert counts() == after


def test_it_can_be_moved(broker, message, counts):
    broker.create_queue("other")
    with message:
        message.move("other")
    assert counts() == DONE
    assert broker.view("other")["other"].waiting == 1


def test_it_is_renewed_while_it_is_worked_on_and_only_then(
    message, heartbeat, clock, broker, counts
):
    first = message.lease_ends
    assert first == pytest.approx(clock.time() + 30)
    clock.advance(10)
    heartbeat.beat()
    assert message.lease_ends == first
    with message:
        for _ in range(10):
            clock.advance(10)
            heartbeat.beat()
            assert message.lease_ends == pytest.approx(clock.time() + 30)
            assert not message.is_lost
            assert broker.leased("q", message.filename).filename == message.filename
        broker.clean("q")
        assert counts() == AT_WORK
    assert counts() == DONE
    assert heartbeat.over_in() is None


def test_it_can_be_renewed_by_hand_inside_and_outside(message, heartbeat, clock):
    message.renew(100)
    assert message.lease_ends == pytest.approx(clock.time() + 100)
    with message:
        message.renew(200)
        assert message.lease_ends == pytest.approx(clock.time() + 200)
        assert heartbeat.holds(message.value)
        with pytest.raises(InvalidArgument):
            message.renew(-1)
        assert heartbeat.holds(message.value)


def test_a_lost_lease_is_raised_when_the_block_has_ended_well(
    broker, message, heartbeat, clock
):
    def lose():
        clock.advance(31)
        broker.clean("q")
        heartbeat.beat()
        assert message.is_lost

    with pytest.raises(LeaseLost), message:
        lose()
    [again] = broker.consume("q")
    assert again.losses == 1
    assert message.is_settled


def test_a_lease_that_was_lost_hides_no_exception(
    broker, message, clock, caplog, counts
):
    with suppress(ZeroDivisionError), message:
        clock.advance(31)
        broker.clean("q")
        raise ZeroDivisionError
    assert counts() == WAITING
    assert f"message {message.id} could not be given back" in caplog.text


def test_who_settles_what_is_lost_is_told_and_nothing_more_is_done(
    broker, message, clock
):
    with message:
        clock.advance(31)
        broker.clean("q")
        with pytest.raises(LeaseLost):
            message.ack()
        assert message.is_settled


def test_what_the_file_system_refused_can_be_tried_again(
    broker, message, heartbeat, counts
):
    def call(_, name, function, arguments):
        if name == "unlink" and refuses[0]:
            raise OSError(errno.EIO, "broken", arguments[0])
        return function(*arguments)

    broker._fs.calls, refuses = Calls(call), [True]
    with message:
        with pytest.raises(StorageError):
            message.ack()
        assert heartbeat.holds(message.value)
        with pytest.raises(InvalidArgument):
            message.nack(delay=-1)
        assert heartbeat.holds(message.value)
        with pytest.raises(StorageError), message:
            pass
        assert not heartbeat.holds(message.value)
        refuses[0] = False
    assert counts() == DONE


def test_in_a_process_that_was_forked_inside_the_end_does_nothing(message, counts):
    with message:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with message:
                    assert not message.is_lost
                    assert message.value
                message.__exit__(None, None, None)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert counts() == AT_WORK
    assert counts() == DONE


# What a broker gives


def threads():
    return [t for t in threading.enumerate() if t.name == "heartbeat"]


def test_a_block_gets_the_next_message_or_none(broker, counts):
    broker.publish("q", "a")
    with broker.consume_one("q") as message:
        assert message.message == "a"
        assert counts() == AT_WORK
    assert counts() == DONE
    with broker.consume_one("q") as message:
        assert message is None
    broker.close()


def test_an_error_of_the_block_is_its_messages(broker, counts):
    broker.publish("q", "a", requeue=False)
    with pytest.raises(KeyError), broker.consume_one("q") as message:
        raise KeyError(message.id)
    [dead] = broker.dead("q")
    assert dead.reason == f"KeyError: '{dead.id}'"
    broker.close()


def test_an_iterator_ends_when_the_queue_was_empty_for_so_long(broker, other, clock):
    broker.publish_many("q", list("ab"))
    seen, began = [], clock.monotonic()
    for message in broker.iter("q", wait=60):
        with message:
            seen.append(message.message)
            clock.advance(100)
            if seen == ["a", "b"]:
                other.publish("q", "c", delay=30)
    assert seen == ["a", "b", "c"]
    assert clock.monotonic() - began == pytest.approx(300 + 30 + 60, abs=10)
    broker.close()


def test_a_paused_queue_gives_nothing_to_who_heeds_that(broker):
    from ddmq import QueuePaused

    broker.publish("q", "a")
    broker.pause("q")
    with pytest.raises(QueuePaused):
        list(broker.iter("q", wait=60, heed_pause=True))
    with pytest.raises(QueuePaused), broker.consume_one("q", heed_pause=True):
        pass


def test_one_thread_renews_all_of_a_broker_until_it_is_closed(broker):
    broker.publish_many("q", list("abc"))
    assert threads() == []
    with broker as entered:
        assert entered is broker
        one, two, three = broker.iter("q")
        with one, two:
            assert len(threads()) == 1
        assert len(threads()) == 1
    assert threads() == []
    with three:  # it opens again what it needs
        assert len(threads()) == 1
    broker.close()
    broker.close()
    assert threads() == []


def test_nothing_that_is_held_is_given_back_by_closing(broker, counts):
    broker.publish("q", "a")
    with broker.consume_one("q"):
        broker.close()
        assert counts() == AT_WORK
    assert counts() == DONE


def test_a_broker_that_is_forgotten_is_not_kept_alive_by_its_thread(root):
    broker = Broker(root, create=True, clock=FakeClock())
    broker.create_queue("q")
    broker.publish("q", "a")
    with broker.consume_one("q"):
        [thread] = threads()
    gone = weakref.ref(broker)
    del broker
    gc.collect()
    assert gone() is None
    thread.join(10)
    assert not thread.is_alive()


def test_after_a_fork_each_process_renews_for_itself(broker, counts):
    broker.publish_many("q", list("ab"))
    with broker.consume_one("q"):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with broker.consume_one("q") as message:
                    assert message.message == "b"
                    assert len(threads()) == 1
                    assert threads()[0].is_alive()
                broker.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
    assert counts() == DONE
    broker.close()


@pytest.mark.slow
def test_a_block_that_takes_longer_than_its_lease_keeps_it(root):
    from time import sleep

    with Broker(root, create=True) as broker:
        broker.create_queue("q")
        broker.publish("q", "a", timeout=1)
        other = Broker(root)
        with broker.consume_one("q") as message:
            before = message.lease_ends
            for _ in range(25):
                sleep(0.1)
                assert other.consume("q") == []
            assert message.lease_ends > before + 1
        assert other.view("q")["q"] == (0, 0, 0, 0)
