"""A lock file: locked, signed, and who holds it in words."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmq.clock import Clock
from ddmq.storage.lock_file import (
    Holder,
    blame,
    hold,
    holder_of,
    is_running,
    lock_at,
    ourselves,
    sign,
)

OURS = Holder("node7", os.getpid(), "123_4", 1_700_000_000.5)
_printable = st.text(
    st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=80
)

_pids = st.integers(1, 2**31 - 1)


@given(st.builds(Holder, _printable, _pids, _printable, st.floats(0, 1e11)))
def test_a_holder_is_read_as_it_was_written(holder):
    assert Holder.parse(holder.encode()) == holder


@given(st.binary())
def test_whatever_stands_in_a_lock_file_names_somebody_or_nobody(data):
    found = Holder.parse(data)
    assert blame("/mq/lock", found, "node7", 1).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"[]", b"null", b"{}", b'{"host": 1}', b"[" * 9999, b"\xff"),
        b'{"host": "a", "pid": %s, "job": "", "since": 0}' % (b"1" * 4000),
        b'{"host": "a", "pid": -1, "job": "", "since": 0}',
        b'{"host": "a", "pid": 0, "job": "", "since": 0}',
        b'{"host": "a", "pid": true, "job": "", "since": 0}',
        b'{"host": "a", "pid": 1e3, "job": "", "since": 0}',
        b'{"host": "a", "pid": 1, "job": "", "since": NaN}',
        b'{"host": "a", "pid": 1, "job": "", "since": 1e999}',
        b'{"host": "a", "pid": 1, "job": "", "since": 1e300}',
        b'{"host": "a", "pid": 1, "job": "", "since": "now"}',
    ],
)
def test_what_is_no_holder_names_nobody(text):
    assert Holder.parse(text) is None
    assert "left no name" in blame("/mq/lock", None, "node7", 1)


@pytest.mark.parametrize("here", ["node7", "elsewhere"])
def test_nothing_that_stands_in_the_file_is_told_to_be_run(here):
    """Whoever may lock may write `kill 1` there: who reads it must not do it."""
    data = b'{"host": "node7", "pid": 1, "job": "9; rm -r ~`reboot`", "since": 0}'
    text = blame("/mq/a 'queue`/lock", Holder.parse(data), here, 1)
    assert "process 1 on host node7, job 9; rm" in text
    remedy = text[text.index("try again") :]
    assert "kill" not in text
    assert not {"node7", "9; rm", "reboot"} & set(remedy.split())
    assert "rm -r" not in remedy
    assert """`fuser -v '/mq/a '"'"'queue`/lock'`""" in remedy


def test_fields_that_we_do_not_know_are_ignored_and_no_terminal_is_confused():
    data = b'{"host": "a\\u001bb\\n", "pid": 1, "job": "", "since": 0, "mood": "good"}'
    assert Holder.parse(data) == Holder("a\\x1bb\\n", 1, "", 0)


@pytest.mark.parametrize(
    ("holder", "host", "words"),
    [
        (OURS, "node7", ["held by process", "job 123_4", "fuser", "--lock-timeout"]),
        (OURS, "node8", ["last known holder is process", "on host node7", "dead"]),
        (OURS._replace(pid=2**40), "node7", ["last known holder, process", "has ended"]),
        (OURS._replace(pid=0), "node7", ["last known holder, process", "has ended"]),
        (None, "node7", ["left no name", "fuser", "lock_timeout"]),
        (OURS._replace(since=1e300), "node8", ["since ?"]),
    ],
)  # fmt: skip
def test_it_is_said_who_holds_the_lock_and_what_to_do(holder, host, words):
    text = blame("/mq/lock", holder, host, 10)
    assert text.startswith("/mq/lock: ")
    assert [word for word in words if word not in text] == []


def test_no_job_is_named_where_there_is_none():
    assert "job" not in blame("/mq/lock", OURS._replace(job=""), "node7", 1)


# The file


@pytest.fixture
def lock(tmp_path):
    return tmp_path / "lock"


def test_a_process_names_itself_with_its_job(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    holder = ourselves(Clock())
    assert (holder.host, holder.pid) == (os.uname().nodename, os.getpid())
    assert holder.job == "4711"
    assert Holder.parse(holder.encode()) == holder


def test_a_lock_file_is_made_and_locked_for_one(lock):
    descriptor = lock_at(str(lock))
    with pytest.raises(BlockingIOError) as caught:
        lock_at(str(lock))
    assert caught.value.filename == str(lock)
    os.close(descriptor)
    os.close(lock_at(str(lock)))


def test_a_lock_that_is_released_closes_its_file(lock):
    descriptor = lock_at(str(lock))
    held = hold(descriptor)
    assert held.is_locked
    held.release()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(descriptor)
    os.close(lock_at(str(lock)))


def test_the_name_in_a_lock_file_is_replaced_as_a_whole(lock):
    descriptor = lock_at(str(lock))
    long = OURS._replace(job="9" * 80)
    for holder in (long, OURS):
        sign(descriptor, holder.encode())
        assert holder_of(str(lock)) == holder
    sign(descriptor, b"")
    assert lock.read_bytes() == b""
    os.close(descriptor)


def test_what_a_holder_that_died_left_is_replaced_and_other_files_are_not(lock):
    for before, after in ((OURS.encode(), b""), (b"precious", b"precious")):
        lock.write_bytes(before)
        descriptor = lock_at(str(lock))
        sign(descriptor, b"")
        os.close(descriptor)
        assert lock.read_bytes() == after


@pytest.mark.parametrize("plant", ["fifo", "directory", "link", "nothing"])
def test_nobody_is_named_where_no_lock_file_is(lock, plant):
    if plant == "fifo":
        os.mkfifo(lock)
    elif plant == "directory":
        lock.mkdir()
    elif plant == "link":
        (lock.parent / "other").write_bytes(OURS.encode())
        lock.symlink_to("other")
    assert holder_of(str(lock)) is None


def test_a_fifo_in_place_of_the_lock_is_refused_and_not_waited_for(lock):
    os.mkfifo(lock)
    with pytest.raises(OSError, match="not an ordinary file"):
        lock_at(str(lock))


def test_a_process_that_runs_is_known():
    assert is_running(os.getpid())
    assert not any(is_running(pid) for pid in (0, -1, 2**31 - 1, 2**70))
