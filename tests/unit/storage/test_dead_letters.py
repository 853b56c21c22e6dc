"""Dead letters: what failed or is quarantined, and the notes that say why."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given
from support import Calls, Crash, counting
from unit.storage.some_names import dead, entries, tokens

from ddmq.settings import Limit
from ddmq.storage.dead_letters import Dead, DeadLetters
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.layout import Layout
from ddmq.storage.names import FOREIGN, Entry
from ddmq.storage.store import MessageFiles

ABC = Dead(Entry(5, 1, "abc"), "0123456789abcdef", "rejected")
NOTE = "abc.0123456789abcdef.rejected.note"


@pytest.fixture
def queue(tmp_path):
    for name in ("tmp", "work", "dead"):
        (tmp_path / name).mkdir()
    return tmp_path


def letters_in(queue, fs, clock):
    layout = Layout(str(queue), fs, clock)
    return DeadLetters(layout, fs, clock, MessageFiles(fs, Limit()))


@pytest.fixture
def letters(queue, clock):
    return letters_in(queue, FileSystem(), clock)


@pytest.fixture
def junk(queue):
    path = queue / "work" / "junk"
    path.touch()
    return path


def test_what_is_quarantined_says_where_it_was_and_comes_first(letters, junk):
    assert letters.quarantine(str(junk))
    [dead] = letters.all()
    assert (dead.code, dead.entry.priority) == ("foreign", 0)
    assert dead.entry.id.startswith("foreign-")
    assert letters.note(dead) == {"reason": "not a message of ddmq; it was work/junk"}


@pytest.mark.parametrize("code", [errno.EACCES, errno.EBUSY, errno.EXDEV])
def test_what_can_not_be_moved_stays_and_somebody_is_warned(
    queue, clock, junk, refusing, caplog, code
):
    letters = letters_in(queue, refusing("rename", code), clock)
    assert not letters.quarantine(str(junk))
    assert f"{junk} is no message, and can't be moved to dead/" in caplog.text
    assert junk.exists()


def test_a_disk_that_fails_is_no_reason_to_leave_something(
    queue, clock, junk, refusing
):
    letters = letters_in(queue, refusing("rename", errno.EIO), clock)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        letters.quarantine(str(junk))


def test_what_is_gone_needs_no_note(letters, queue):
    assert letters.quarantine(f"{queue}/work/gone")
    assert os.listdir(queue / "dead") == []


def test_who_dies_while_a_note_is_written_leaves_a_draft_for_housekeeping(queue, clock):
    def call(_, name, function, arguments):
        if name == "rename":
            raise Crash
        return function(*arguments)

    letters = letters_in(queue, FileSystem(Calls(call)), clock)
    with pytest.raises(Crash):
        letters.write_note(ABC, {"reason": "bad"})
    assert len(os.listdir(queue / "tmp")) == 1
    assert sorted(os.listdir(queue)) == ["dead", "tmp", "work"]


def test_a_note_waits_for_no_disk(queue, clock):
    calls = counting()
    letters = letters_in(queue, FileSystem(calls), clock)
    letters.write_note(ABC, {"reason": "bad"})
    assert letters.note(ABC) == {"reason": "bad"}
    assert "fsync" not in calls.made


def test_a_note_has_the_mode_that_a_group_needs(letters, queue):
    letters._layout.file_mode = 0o666
    letters.write_note(ABC, {"reason": "bad"})
    assert (queue / "dead" / NOTE).stat().st_mode & 0o777 == 0o666


def test_a_note_that_can_not_be_written_leaves_no_draft_and_is_warned_of(
    queue, clock, refusing, caplog
):
    letters = letters_in(queue, refusing("rename", errno.ENOSPC), clock)
    letters.write_note(ABC, {"reason": "bad"})
    assert os.listdir(queue / "tmp") == []
    assert "message abc: the reason could not be written" in caplog.text
    assert os.strerror(errno.ENOSPC) in caplog.text


def test_only_notes_whose_dead_letter_is_gone_are_alone(letters, queue, junk):
    letters.quarantine(str(junk))
    letters.write_note(ABC, {"reason": "bad"})
    (queue / "dead" / "junk").touch()
    assert letters.notes_alone() == [f"{queue}/dead/{NOTE}"]
    nothing, foreign = sorted(letters.ids())
    assert (nothing, foreign[:8]) == ("", FOREIGN)


def test_a_note_is_of_one_claim_alone(letters):
    letters.write_note(ABC, {"reason": "the first time"})
    again = ABC._replace(token="fedcba9876543210")
    assert letters.note(again) == {}
    letters.write_note(again, {"reason": "the second time"})
    letters.discard_note(ABC)
    assert letters.note(again) == {"reason": "the second time"}


# Its names


@given(entries, tokens)
def test_a_dead_letter_and_its_note_name_the_claim_and_how_it_ended(entry, token):
    dead = Dead(entry, token, "failed")
    assert dead.note == f"{entry.id}.{token}.failed.note"
    assert dead.filename.endswith(f".{token}.failed")


@given(dead)
def test_a_dead_letter_survives_its_name(name):
    assert Dead.parse(name.filename) == name
