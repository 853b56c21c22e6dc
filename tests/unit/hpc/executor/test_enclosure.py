"""Which directories are closed to others, and which are not, however they are looked at."""

from __future__ import annotations

import os

import pytest
from support import open_files

from ddmq import InvalidArgument, StorageError
from ddmq.hpc.executor.enclosure import Enclosure, check_below, is_own_file

SOMEBODY = 12345
give_away = pytest.mark.root("give files away")


@pytest.fixture
def place(tmp_path):
    """A directory in a directory of ours, as both should be."""
    place = tmp_path.resolve() / "above" / "own"
    place.mkdir(parents=True)
    for each in (place, place.parent):
        each.chmod(0o755)
    return place


@pytest.fixture
def enclosure(place):
    enclosure = Enclosure(str(place))
    yield enclosure
    enclosure.close()


def test_what_is_ours_and_closed_is_taken(enclosure, place):
    enclosure.check()
    assert enclosure.holds(str(place), place.stat())
    assert not enclosure.holds(str(place), place.parent.stat())
    place.parent.chmod(0o1777)  # as /tmp is
    enclosure.check()
    place.parent.chmod(0o711)  # nobody needs to list it
    place.chmod(0o700)
    enclosure.check()


def open_to_the_group(place):
    place.chmod(0o770)


def open_to_all(place):
    place.chmod(0o757)


def sticky(place):
    """Others can't remove what is there, but put something beside it."""
    place.chmod(0o1777)


def above_open_to_the_group(place):
    place.parent.chmod(0o775)


def above_open_to_all(place):
    place.parent.chmod(0o757)


def of_somebody(place):
    os.chown(place, SOMEBODY, -1)


def above_of_somebody(place):
    os.chown(place.parent, SOMEBODY, -1)


def above_of_somebody_and_sticky(place):
    """The owner of a sticky directory moves everything in it."""
    os.chown(place.parent, SOMEBODY, -1)
    place.parent.chmod(0o1777)


def another(place):
    place.rename(place.parent / "moved")
    place.mkdir()


def a_link(place):
    place.rename(place.parent / "moved")
    place.symlink_to("moved")


FAULTS = [
    (open_to_the_group, "own: it may be written to by others; `chmod -R go-w`"),
    (open_to_all, "own: it may be written to by others"),
    (sticky, "own: it may be written to by others"),
    (above_open_to_the_group, "above: it may be written to by others; `chmod go-w`"),
    (above_open_to_all, "above: it may be written to by others"),
    pytest.param(of_somebody, "own: it belongs to somebody else", marks=give_away),
    pytest.param(above_of_somebody, "above: it belongs to somebody", marks=give_away),
    pytest.param(above_of_somebody_and_sticky, "above: it belongs", marks=give_away),
]


@pytest.mark.parametrize(("spoil", "why"), FAULTS)
def test_what_others_may_write_to_is_refused(place, spoil, why):
    held = len(open_files())
    spoil(place)
    with pytest.raises(InvalidArgument, match=f"{why}.*serializer='cloudpickle' needs"):
        Enclosure(str(place))
    assert len(os.listdir("/proc/self/fd")) == held


@pytest.mark.parametrize(
    ("spoil", "why"),
    [*FAULTS, (another, "another directory"), (a_link, "another directory")],
)
def test_what_is_opened_later_is_refused_from_then_on(place, enclosure, spoil, why):
    spoil(place)
    with pytest.raises(InvalidArgument, match=why):
        enclosure.check()


def test_a_link_on_the_way_is_not_followed(place):
    (place.parent / "link").symlink_to("own")
    with pytest.raises(StorageError, match="above/link"):
        Enclosure(str(place.parent / "link"))
    (place / "below").mkdir()
    with pytest.raises(StorageError, match="above/link"):
        Enclosure(str(place.parent / "link" / "below"))


def test_what_is_not_there_is_told(place):
    with pytest.raises(StorageError, match="own/none"):
        Enclosure(str(place / "none"))


def test_all_below_must_be_ours_and_its_directories_closed(place):
    (place / "ready").mkdir(mode=0o755)
    (place / "ready" / "file").touch()
    (place / "ready" / "file").chmod(
        0o664
    )  # by the umask, in a directory that is closed
    (place / "ready" / "link").symlink_to("nowhere")
    check_below(str(place))
    (place / "ready").chmod(0o770)  # and somebody holds it open since the queue was
    with pytest.raises(InvalidArgument, match="own/ready: it may be written to"):
        check_below(str(place))


@give_away
@pytest.mark.parametrize("name", ["file", "link", "\x1b[1m"])
def test_what_somebody_else_left_below_is_refused(place, name):
    (place / "ready").mkdir()
    (place / "ready" / "file").touch()
    (place / "ready" / "\x1b[1m").touch()
    (place / "ready" / "link").symlink_to("nowhere")
    os.chown(place / "ready" / name, SOMEBODY, -1, follow_symlinks=False)
    with pytest.raises(InvalidArgument, match="it belongs to somebody") as found:
        check_below(str(place))
    assert "\x1b" not in str(found.value)


def test_a_file_is_ours_that_nobody_else_may_write_to(place):
    (place / "file").touch()
    for mode, wanted in ((0o644, True), (0o664, False), (0o606, False)):
        (place / "file").chmod(mode)
        assert is_own_file((place / "file").stat()) is wanted


@give_away
def test_a_file_of_another_user_is_not_ours(place):
    (place / "file").touch(0o600)
    os.chown(place / "file", SOMEBODY, -1)
    assert not is_own_file((place / "file").stat())
