"""Who holds a lock, in the lock file and in words."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmq.holder import Holder, told

OURS = Holder("node7", os.getpid(), "123_4", 1_700_000_000.5)
_printable = st.text(
    st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=80
)


@given(st.builds(Holder, _printable, st.integers(), _printable, st.floats(0, 1e11)))
def test_a_holder_is_read_as_it_was_written(holder):
    assert Holder.parse(holder.encode()) == holder


@given(st.binary())
def test_whatever_stands_in_a_lock_file_names_somebody_or_nobody(data):
    found = Holder.parse(data)
    assert told("/mq/lock", found, "node7", 1)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"null", b"{}", b'{"host": 1}', b"[" * 9999, b"\xff"]
)
def test_what_is_no_holder_names_nobody(text):
    assert Holder.parse(text) is None


def test_fields_that_we_do_not_know_are_ignored_and_no_terminal_is_confused():
    data = b'{"host": "a\\u001bb\\n", "pid": 1, "job": "", "since": 0, "mood": "good"}'
    assert Holder.parse(data) == Holder("a?b?", 1, "", 0)


@pytest.mark.parametrize(
    ("holder", "host", "words"),
    [
        (OURS, "node7", ["held by process", "job 123_4", "cancel job", "--lock-timeout"]),
        (OURS, "node8", ["last known holder is process", "`kill", "on node7", "dead"]),
        (OURS._replace(pid=2**40), "node7", ["last known holder, process", "has ended"]),
        (OURS._replace(pid=0), "node7", ["last known holder, process", "has ended"]),
        (None, "node7", ["left no name", "fuser", "lock_timeout"]),
        (OURS._replace(since=1e300), "node8", ["since ?"]),
    ],
)  # fmt: skip
def test_it_is_said_who_holds_the_lock_and_what_to_do(holder, host, words):
    text = told("/mq/lock", holder, host, 10)
    assert text.startswith("/mq/lock: ")
    assert [word for word in words if word not in text] == []


def test_no_job_is_named_where_there_is_none():
    assert "job" not in told("/mq/lock", OURS._replace(job=""), "node7", 1)
