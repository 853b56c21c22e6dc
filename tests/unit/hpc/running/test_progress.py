"""How far a command is, as it says itself."""

from __future__ import annotations

import fcntl
import os
import stat

import pytest

from ddmq.hpc.running.progress import SlotProgress, remove_leftovers


@pytest.fixture
def progress(tmp_path):
    made = SlotProgress(str(tmp_path))
    yield made
    made.close()


def say(progress, data, flags=0):
    file = os.open(progress.path, os.O_WRONLY | flags)
    os.write(file, data)
    os.close(file)


def test_the_last_line_counts(progress):
    assert progress.said() == ""
    say(progress, b"40%\n", os.O_TRUNC)
    assert progress.said() == "40%"
    say(progress, b"3/10 of them\n\n", os.O_TRUNC)
    assert progress.said() == "3/10 of them"
    say(progress, b" 4/10 of them", os.O_APPEND)
    assert progress.said() == "4/10 of them"
    progress.forget()
    assert progress.said() == ""


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\n", "\N{REPLACEMENT CHARACTER}"),
        (b"x" * 10**6, "x" * 200),
        (b"1%\n" * 10**5, "1%"),
        (b"\0\n \0\t\n", ""),
    ],
)
def test_whatever_is_in_it_it_is_a_short_text(progress, data, said):
    say(progress, data)
    assert progress.said() == said


def test_it_is_its_owners_alone_and_gone_when_it_is_closed(tmp_path):
    progress = SlotProgress(str(tmp_path))
    assert stat.S_IMODE(os.stat(progress.path).st_mode) == 0o600
    progress.close()
    assert os.listdir(tmp_path) == []


def test_it_does_not_fill_the_disk(progress):
    file = os.open(progress.path, os.O_WRONLY | os.O_APPEND)
    for number in range(3):
        os.write(file, b"x\n" * 10**5 + b"%d\n" % number)
        assert progress.said() == f"{number}"
        assert os.stat(progress.path).st_size == 0
    os.close(file)


def test_what_somebody_removed_is_no_trouble(progress):
    os.unlink(progress.path)
    progress.forget()
    assert progress.said() == ""


def test_only_files_of_workers_that_have_died_are_removed(tmp_path):
    """Even if another process has the number of such a worker by now: a lock tells."""
    spool = tmp_path / "spool"
    spool.mkdir()
    (tmp_path / "victim").write_text("x")
    os.symlink(tmp_path / "victim", spool / "ddmq-progress-link")
    os.mkfifo(spool / "ddmq-progress-fifo")
    (spool / "ddmq-progress-directory").mkdir()
    (spool / "other").write_text("x")
    alive, dead = SlotProgress(str(spool)), SlotProgress(str(spool))
    os.close(
        dead.descriptor
    )  # as the kernel does with those of a process that was killed
    remove_leftovers(str(spool))
    kept = {"link", "fifo", "directory", os.path.basename(alive.path)[14:]}
    assert set(os.listdir(spool)) == {"other", *(f"ddmq-progress-{k}" for k in kept)}
    assert (tmp_path / "victim").read_text() == "x"
    alive.close()
    remove_leftovers(str(tmp_path / "missing"))


@pytest.mark.root("give a file to another user")
def test_files_of_other_users_are_left_alone(tmp_path):
    theirs = tmp_path / "ddmq-progress-theirs"
    theirs.write_text("x")
    os.chown(theirs, 1234, -1)
    remove_leftovers(str(tmp_path))
    assert theirs.exists()


def test_one_that_is_removed_while_it_is_made_is_not_used(tmp_path, monkeypatch):
    real = fcntl.flock

    def removed_meanwhile(descriptor, how):
        os.unlink(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="ddmq-progress-"):
        SlotProgress(str(tmp_path))
    assert os.listdir("/proc/self/fd") == before
