"""How long a queue has been empty, and when to look again."""

from __future__ import annotations

import errno

import pytest

from ddmq.errors import StorageError
from ddmq.hpc.poller import Poller


@pytest.fixture
def poller(clock):
    return Poller(clock.monotonic, 5.0)


def test_a_queue_is_looked_at_at_once(poller):
    assert poller.is_due()
    assert not poller.has_been_empty_for(0.0)


def test_the_longer_a_queue_is_empty_the_longer_is_the_pause(poller, clock):
    pauses = []
    for _ in range(20):
        poller.looked(found=False)
        pauses.append(poller.due_in())
        assert not poller.is_due()
        clock.advance(pauses[-1] + 1e-6)
        assert poller.is_due()
    assert 0.07 < pauses[0] < 0.13
    assert all(3.7 < pause < 6.3 for pause in pauses[-5:])
    assert len(set(pauses[-5:])) > 1  # a thousand workers do not look in step


def test_what_was_found_begins_the_count_anew(poller, clock):
    poller.looked(found=False)
    clock.advance(10)
    assert poller.has_been_empty_for(10)
    poller.looked(found=True)
    assert poller.is_due()
    assert not poller.has_been_empty_for(0)


def test_a_server_that_is_away_is_asked_less_and_less(poller, clock, caplog):
    error = StorageError(OSError(errno.EIO, "no answer", "/mq"))
    pauses = []
    for _ in range(7):
        poller.server_is_away(error)
        pauses.append(poller.due_in())
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 30, 30])
    assert "trying again in 30 s: /mq: no answer" in caplog.text
    poller.look_at_once()  # which means nothing while it is away
    assert not poller.is_due()
    clock.advance(31)
    poller.looked(found=False)
    poller.look_at_once()
    assert poller.is_due()


def test_it_knows_whether_it_looked_after_a_moment(poller, clock):
    moment = clock.monotonic()
    assert not poller.looked_after(moment)
    clock.advance(1)
    poller.looked(found=False)
    assert poller.looked_after(moment)


def test_a_paused_queue_is_not_empty_and_asked_less_and_less(poller, clock, caplog):
    poller.looked(found=False)
    clock.advance(60)
    pauses = []
    for _ in range(20):
        poller.is_paused(Exception("q is paused by me"))
        pauses.append(poller.due_in())
        clock.advance(pauses[-1] + 1e-6)
        assert poller.is_due()
        assert not poller.has_been_empty_for(0.0)
    assert pauses[0] < 0.3
    assert all(3.7 < pause < 6.3 for pause in pauses[-5:])
    assert caplog.text.count("q is paused by me") == 1
    assert "resumed" not in caplog.text
    poller.looked(found=False)
    assert caplog.text.count("the queue is resumed") == 1
    clock.advance(10)
    assert poller.has_been_empty_for(10)
