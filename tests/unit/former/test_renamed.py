"""A program written for ddmq 0.9 is told what to write instead."""

from __future__ import annotations

import pickle
from inspect import signature

import pytest

import ddmq
from ddmq import Broker, InvalidArgument
from ddmq.former import renamed


@pytest.mark.parametrize(
    ("method", "given", "instead"),
    [
        ("publish", {"queue": "q", "msg_text": "x"}, "message="),
        ("publish", {"queue": "q", "message": "x", "clean": False}, "clean=False"),
        ("publish", {"queue": "q", "message": "x", "requeue_counter": 1}, "counted"),
        ("consume", {"queue": "q", "clean": False}, "clean=False"),
        ("ack", {"queue": "q", "msg_files": ["f"]}, "leased"),
        ("nack", {"queue": "q", "msg_files": ["f"], "requeue": True}, "leased"),
        ("clean", {"queue": "q", "force": True}, "whenever"),
    ],
)
def test_an_old_keyword_is_answered_with_the_new_one(broker, method, given, instead):
    with pytest.raises(InvalidArgument, match=instead) as error:
        getattr(broker, method)(**given)
    assert "as in ddmq 0.9" in str(error.value)
    assert broker.view("q")["q"].waiting == 0


def test_any_other_keyword_is_python_s_business(broker):
    with pytest.raises(TypeError, match="prio"):
        broker.publish("q", "x", prio=5)


def test_an_old_method_is_answered_with_the_new_one(broker):
    with pytest.raises(AttributeError, match=r"is now queues\(\)"):
        broker.list_queues()
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'$"):
        broker.nonsense()
    assert pickle.loads(pickle.dumps(broker)).queues() == ["q"]


def test_what_is_told_is_there_and_what_was_is_not():
    for method, keywords in renamed._KEYWORDS.items():
        assert not keywords.keys() & signature(getattr(Broker, method)).parameters
    for old, now in renamed._METHODS.items():
        assert not hasattr(Broker, old)
        names = [word.strip("()") for word in now.partition("(")[0].split(".")]
        assert hasattr(Broker if len(names) == 1 else ddmq, names[-1])
