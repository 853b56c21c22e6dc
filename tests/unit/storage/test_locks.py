"""Mutual exclusion among administrators."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat

import pytest

from ddmq.errors import LockTimeout
from ddmq.storage import locks
from ddmq.storage.background import BackgroundCall
from ddmq.storage.lock_file import holder_of
from ddmq.storage.locks import exclusive


@pytest.fixture
def lock(tmp_path):
    return tmp_path / "lock"


def test_one_at_a_time_holds_the_lock(lock):
    with exclusive(str(lock), 1), pytest.raises(LockTimeout) as caught:  # noqa: SIM117
        with exclusive(str(lock), 0):
            pytest.fail("two hold the lock")
    assert str(lock) in str(caught.value)
    assert "lock_timeout" in str(caught.value)


def test_the_lock_is_free_again_afterwards(lock):
    for _ in range(2):
        with exclusive(str(lock), 0):
            pass


def test_the_lock_is_free_again_after_an_error(lock):
    with pytest.raises(KeyError), exclusive(str(lock), 0):
        raise KeyError
    with exclusive(str(lock), 0):
        pass


@pytest.mark.parametrize("mode", [0o2770, 0o700, 0o755])
def test_whoever_may_write_to_the_directory_may_lock(tmp_path, mode):
    tmp_path.chmod(mode)
    before = os.umask(0)
    try:
        with exclusive(f"{tmp_path}/lock", 0):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == mode & 0o666


def test_a_link_in_place_of_the_lock_is_refused_and_its_target_untouched(
    lock, tmp_path
):
    (tmp_path / "precious").write_text("x")
    lock.symlink_to("precious")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):  # noqa: SIM117
        with exclusive(str(lock), 0):
            pytest.fail("a link was locked")
    assert (tmp_path / "precious").read_text() == "x"


@pytest.fixture
def flock_fails(monkeypatch):
    """Return a function that makes a file system answer every lock with an error."""

    def fail(code):
        def refuse(*_):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(fcntl, "flock", refuse)

    return fail


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_used_without(lock, flock_fails, caplog, code):
    flock_fails(code)
    with caplog.at_level(logging.WARNING, "ddmq"), exclusive(str(lock), 0.1):
        pass
    assert f"{lock}: this file system has no locks" in caplog.text


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_file_system_that_knows_no_locks_stops_nobody(lock, flock_fails):
    flock_fails(errno.ENOSYS)
    for _ in range(2):
        with exclusive(str(lock), 0.1):
            pass


def test_a_lock_that_can_not_be_had_for_another_reason_is_an_error(lock, flock_fails):
    flock_fails(errno.EIO)
    with pytest.raises((OSError, LockTimeout)), exclusive(str(lock), 0.1):
        pytest.fail("it was not locked")


def test_a_hard_link_in_place_of_the_lock_is_refused_and_its_target_untouched(
    lock, tmp_path
):
    (tmp_path / "precious").write_text("x")
    os.link(tmp_path / "precious", lock)
    with pytest.raises(OSError, match="another name"), exclusive(str(lock), 0):
        pytest.fail("a link was locked")
    assert (tmp_path / "precious").read_text() == "x"


def test_the_lock_file_names_its_holder_while_it_is_held(lock):
    with exclusive(str(lock), 0):
        assert holder_of(str(lock)).pid == os.getpid()
    assert holder_of(str(lock)) is None


def test_a_link_planted_while_the_lock_is_held_is_not_written_to(lock, tmp_path):
    (tmp_path / "precious").write_text("x")
    with exclusive(str(lock), 0):
        lock.unlink()
        lock.symlink_to("precious")
    assert holder_of(str(lock)) is None
    assert (tmp_path / "precious").read_text() == "x"


@pytest.fixture
def before_flock(monkeypatch):
    """Return a function that lets something happen once, before a file is locked."""

    def let(act):
        real, acts = fcntl.flock, [act]

        def flock(*arguments):
            if acts:
                acts.pop()()
            return real(*arguments)

        monkeypatch.setattr(fcntl, "flock", flock)

    return let


@pytest.mark.parametrize("how", ["unlink", "replace"])
def test_a_lock_file_that_is_gone_once_it_is_locked_is_no_lock(lock, before_flock, how):
    """Who removes it, as he was told to, may have made another and locked that."""
    held = []

    def competitor():
        lock.unlink() if how == "unlink" else lock.rename(f"{lock}.away")
        held.append(lock.open("w"))
        real(held[0], fcntl.LOCK_EX)

    real = fcntl.flock
    lock.touch()
    before_flock(competitor)
    with pytest.raises(LockTimeout), exclusive(str(lock), 0):
        pytest.fail("two hold the lock")
    held[0].close()


def test_a_lock_in_a_queue_that_was_moved_away_is_made_in_the_new_one(
    tmp_path, before_flock
):
    queue = tmp_path / "q"
    queue.mkdir()

    def competitor():
        queue.rename(tmp_path / ".deleted-1")
        queue.mkdir()

    before_flock(competitor)
    with exclusive(f"{queue}/lock", 0):
        assert holder_of(f"{queue}/lock").pid == os.getpid()
    assert (tmp_path / ".deleted-1" / "lock").read_bytes() == b""


def test_a_lock_file_that_is_replaced_all_the_time_is_given_up(lock, monkeypatch):
    real = fcntl.flock

    def flock(*arguments):
        lock.unlink()
        return real(*arguments)

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(LockTimeout), exclusive(str(lock), 0):
        pytest.fail("what has no name was locked")


def test_a_file_that_somebody_moved_to_the_place_of_the_lock_stays_as_it_is(
    tmp_path, lock
):
    tmp_path.chmod(0o2770)
    lock.write_text("precious")
    lock.chmod(0o600)
    with exclusive(str(lock), 0):
        assert holder_of(str(lock)) is None
    assert lock.read_text() == "precious"
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600


def test_a_queue_that_is_a_link_is_not_locked(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "q").symlink_to("real")
    with pytest.raises(NotADirectoryError), exclusive(f"{tmp_path}/q/lock", 0):
        pytest.fail("it was locked behind a link")
    assert list((tmp_path / "real").iterdir()) == []
    assert holder_of(f"{tmp_path}/q/lock") is None


def test_a_lock_that_is_had_too_late_is_given_back(lock, monkeypatch):
    """Opening it hung in the file server until nobody waited any more."""
    hung = []

    def begin(_, act):
        errand = BackgroundCall(act, in_thread=False)
        if not hung:
            errand.ends_within = lambda _: False
            hung.append(errand)
        return errand

    monkeypatch.setattr(locks.Clock, "begin", begin)
    with (
        pytest.raises(LockTimeout, match="could not be opened"),
        exclusive(str(lock), 0),
    ):
        pytest.fail("it hung")
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(hung[0].result())
    with exclusive(str(lock), 0):
        pass


def test_a_child_that_is_forked_does_not_keep_the_lock(lock):
    reading, writing = os.pipe()
    with exclusive(str(lock), 0):
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
    try:
        with exclusive(str(lock), 0):
            pass
    finally:
        os.close(writing)
        os.waitpid(child, 0)
        os.close(reading)
