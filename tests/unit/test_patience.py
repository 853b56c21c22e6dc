"""What a thread does for one who does not wait longer than he likes."""

from __future__ import annotations

import threading

import pytest

from ddmq.patience import Errand


def held():
    """Return an errand that ends when the event beside it is set, with an error if it is told."""
    go_on = threading.Event()

    def act():
        assert go_on.wait(20)
        return threading.get_ident()

    return Errand(act), go_on


def test_what_it_returns_comes_back():
    assert Errand(lambda: 5).ends_within(20)
    errand, go_on = held()
    assert not errand.ends_within(0.01)
    go_on.set()
    assert errand.ends_within(20)
    assert errand.ends_within(0)
    assert errand.result() != threading.get_ident()


@pytest.mark.parametrize("error", [OSError(5, "x"), KeyboardInterrupt()])
def test_what_it_raises_is_raised_where_it_was_wanted(error):
    def act():
        raise error

    errand = Errand(act)
    assert errand.ends_within(20)
    with pytest.raises(type(error)):
        errand.result()


def test_who_leaves_is_told_once_how_it_ended():
    told = []
    errand, go_on = held()
    errand.leave(told.append)
    assert told == []
    go_on.set()
    assert errand.ends_within(20)
    errand.leave(told.append)
    assert told == [None]


def test_alone_false_does_it_at_once():
    errand = Errand(threading.get_ident, alone=False)
    assert errand.has_ended
    assert errand.result() == threading.get_ident()
