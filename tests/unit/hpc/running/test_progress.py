"""How far a command is, as it says itself."""

from __future__ import annotations

import os
import stat

import pytest

from ddmq.hpc.running.progress import SlotProgress


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
