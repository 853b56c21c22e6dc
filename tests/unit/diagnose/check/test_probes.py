"""What two clients find out about each other where nothing is wrong, and by their stamps."""

from __future__ import annotations

import errno
import os
import stat

import pytest
from support import Calls

from ddmq.diagnose.check import probes
from ddmq.diagnose.check.probes import Locked, skew
from ddmq.storage.filesystem import FileSystem


def test_stamps_of_one_clock_show_no_skew():
    ahead, unsure = skew([10.0, 11.0, 12.0], [10.5, 11.4, 12.5])
    assert abs(ahead) <= unsure


def test_stamps_of_two_clocks_show_how_far_they_are_apart():
    ahead, unsure = skew([10.0, 11.0, 11.1, 12.0], [110.5, 111.05, 111.5, 112.5])
    assert ahead == pytest.approx(100.0)
    assert unsure < 0.1


def test_too_few_stamps_show_nothing():
    assert skew([1.0], [1.0]) == (0.0, float("inf"))


def test_a_directory_that_can_not_be_synced_is_told(benches):
    def call(_, name, do, arguments):
        if name == "fsync" and stat.S_ISDIR(os.fstat(arguments[0]).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return do(*arguments)

    assert probes.sync(benches[0]).directory == ""
    refusing = benches[1]._replace(fs=FileSystem(Calls(call)))
    assert probes.sync(refusing).directory == os.strerror(errno.EINVAL)


def test_one_file_system_shows_each_rename(benches, channel):
    seen = probes.ping(benches[0], channel)
    assert (seen.lost, len(seen.seconds) >= 3) == ("", True)
    assert min(seen.seconds) > 0
    assert abs(seen.skew) <= seen.unsure


def test_a_rename_that_is_never_shown_is_the_last_one(benches, channel, monkeypatch):
    hidden = benches[0]._replace(patience=0.01)
    monkeypatch.setattr(type(hidden), "shows", lambda *_: False)
    monkeypatch.setattr(channel, "answer", lambda: None)
    seen = probes.ping(hidden, channel)
    monkeypatch.undo()
    channel.answer()
    assert (seen.lost, seen.seconds) == ("000", [])


def test_what_is_listed_is_found(benches, channel, monkeypatch):
    monkeypatch.setattr(probes, "LISTED", 5)
    found = probes.listed(benches[0], channel)
    assert (found.shown, found.found) == (5, 5)


def test_a_name_that_was_looked_up_too_early_comes_back(benches, channel):
    found = probes.early(benches[0], channel)
    assert (found.open_cured, found.rename_cured) == (True, True)
    assert max(found.open_seconds, found.rename_seconds) < 3


@pytest.mark.parametrize("kind", ["rename", "mkdir", "create", "symlink"])
def test_each_name_has_one_winner(benches, channel, monkeypatch, kind):
    monkeypatch.setattr(probes, "NAMES", 20)
    race = probes.race(benches[0], channel, kind, 0.05)
    assert (race.names, race.ours + race.theirs) == (20, 20)
    assert (race.twice, race.nobody, race.missing) == (0, 0, 0)


def test_a_lock_keeps_the_other_out_until_it_is_given_up(benches, channel):
    assert probes.locked(benches[0], channel) == Locked("out", "in")


@pytest.mark.parametrize(
    ("code", "said"), [(errno.ENOSYS, "none"), (errno.EAGAIN, "out")]
)
def test_what_a_lock_answers_is_told_apart(benches, channel, code, said):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    found = probes.locked(benches[0]._replace(flock=refuse), channel)
    assert found.while_held == said
