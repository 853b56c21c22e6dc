"""Calls in a thread, whose caller waits no longer than he likes."""

from __future__ import annotations

import _thread
import threading

import pytest

from ddmq.storage import background
from ddmq.storage.background import BackgroundCall, wait_for


def held():
    """Return a call, and the event at which it ends."""
    go_on = threading.Event()

    def act():
        assert go_on.wait(20)
        return threading.get_ident()

    return BackgroundCall(act), go_on


def test_what_it_returns_comes_back():
    assert BackgroundCall(lambda: 5).ends_within(20)
    call, go_on = held()
    assert not call.ends_within(0.01)
    go_on.set()
    assert call.ends_within(20)
    assert call.ends_within(0)
    assert call.result() != threading.get_ident()


@pytest.mark.parametrize("error", [OSError(5, "x"), KeyboardInterrupt()])
def test_what_it_raises_is_raised_where_it_was_wanted(error):
    def act():
        raise error

    call = BackgroundCall(act)
    assert call.ends_within(20)
    with pytest.raises(type(error)):
        call.result()


def test_who_leaves_is_told_once_how_it_ended():
    told = []
    call, go_on = held()
    call.leave(told.append)
    assert told == []
    go_on.set()
    assert call.ends_within(20)
    call.leave(told.append)
    assert told == [None]


def test_without_a_thread_the_call_is_made_at_once():
    call = BackgroundCall(threading.get_ident, in_thread=False)
    assert call.has_ended
    assert call.result() == threading.get_ident()


def test_where_no_thread_can_be_had_the_call_is_made_at_once(monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    call = BackgroundCall(threading.get_ident)
    assert call.result() == threading.get_ident()


def test_who_waits_long_says_once_for_what(monkeypatch, caplog):
    monkeypatch.setattr(background, "SAY_AFTER", 0.01)
    call, go_on = held()
    texts = []

    def text():
        texts.append("it is not done yet")
        threading.Timer(0.05, go_on.set).start()
        return texts[-1]

    assert wait_for(call, text) == call.result()
    assert len(texts) == len(caplog.messages) == 1
    assert caplog.messages[0].startswith("it is not done yet: the file server delays")


def test_who_waits_shortly_says_nothing(caplog):
    with pytest.raises(ZeroDivisionError):
        wait_for(BackgroundCall(lambda: 1 // 0), lambda: pytest.fail("it said so"))
    assert caplog.messages == []
