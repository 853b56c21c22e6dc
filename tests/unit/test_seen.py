"""What those see who only look."""

from __future__ import annotations

import pickle

import pytest

import ddmq
from ddmq import seen
from ddmq.broker import STATES
from ddmq.seen import letter
from ddmq.storage.dead_letters import Dead
from ddmq.storage.names import Entry

SEEN = {name for name in ddmq.__all__ if hasattr(seen, name)}


def test_all_that_is_seen_is_public():
    ours = {
        k
        for k, v in vars(seen).items()
        if getattr(v, "__module__", "") == seen.__name__
    }
    assert ours - {"letter", "_reason"} == SEEN
    assert "Counts" in SEEN


@pytest.mark.parametrize("name", sorted(SEEN))
def test_what_is_seen_is_found_in_the_package(name):
    assert getattr(ddmq, name) is getattr(seen, name)
    assert name in dir(ddmq)


def test_a_star_imports_all_that_is_public():
    names = {}
    exec("from ddmq import *", names)
    assert names.keys() >= set(ddmq.__all__)
    assert names["Counts"] is seen.Counts


def test_a_name_that_is_not_public_is_named():
    with pytest.raises(AttributeError, match="'ddmq' has no attribute 'Sightings'"):
        ddmq.Sightings  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'letter'"):
        exec("from ddmq import letter", {})


def test_what_is_seen_can_be_pickled():
    counts = ddmq.Counts(1, 2, 3, 4)
    assert pickle.loads(pickle.dumps(counts)) == counts
    assert pickle.loads(pickle.dumps(ddmq.Counts)) is ddmq.Counts


def test_what_may_be_purged_are_the_states_that_are_counted():
    assert ddmq.Counts._fields == STATES


def test_the_requeue_counter_of_a_dead_letter_is_failures_and_losses():
    dead = Dead(Entry(5, 1, "abc", 2, 3), "0" * 16, "failed")
    assert letter("q", dead, "x", {}).requeue_counter == 5


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("failed", "failed, and not to be tried again after 2 failures and 3 losses"),
        ("expired", "its lease expired, and not to be tried again after 2 failures"),
        ("rejected", "rejected by its consumer"),
        ("invalid", "holds no message"),
        ("foreign", "not a message of ddmq"),
        ("newer", "newer"),
    ],
)
def test_the_name_of_a_dead_letter_tells_its_reason(code, reason):
    dead = Dead(Entry(5, 1, "abc", 2, 3), "0" * 16, code)
    assert reason in letter("q", dead, "x", {}).reason


def test_a_note_has_the_last_word_on_the_reason():
    dead = Dead(Entry(5, 1, "abc"), "0" * 16, "rejected")
    dead = letter("q", dead, "x", {"reason": "bad", "a": 1})
    assert dead.reason == "bad"
    assert dead.as_dict()["note"] == {"reason": "bad", "a": 1}
