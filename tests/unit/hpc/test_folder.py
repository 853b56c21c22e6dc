"""A directory that is held open: nothing that is planted there leads out of it."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import suppress

import pytest
from support import Calls, in_time, open_files

from ddmq.hpc.folder import Folder, reached


@pytest.fixture
def place(tmp_path):
    """A directory, beside one whose files are nobody's business."""
    (tmp_path / "here").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis").write_text("all of it")
    return tmp_path / "here"


@pytest.fixture
def home(place):
    """The other directory; it holds what it held when the test is over."""
    home = place.parent / "home"
    yield home
    assert [path.read_text() for path in home.iterdir()] == ["all of it"]


def test_the_users_own_directory_may_be_a_link_that_he_made(place):
    os.symlink(place, place.parent / "link")
    with Folder.open(str(place.parent / "link")) as folder:
        os.close(folder.new_file("new"))
        assert folder.names() == ["new"]


@pytest.mark.parametrize("make", [True, False])
@pytest.mark.parametrize("target", ["home", "home/thesis", "nowhere"])
def test_below_it_no_link_is_followed(place, home, make, target):
    os.symlink(place.parent / target, place / "below")
    before = open_files()
    with pytest.raises(NotADirectoryError) as refused:
        reached(str(place), "below", "deeper", make=make)
    assert refused.value.filename == f"{place}/below"
    assert os.listdir("/proc/self/fd") == before


def test_a_directory_that_is_made_has_the_mode_that_was_asked_for(place, umask):
    umask(0o077)
    with Folder.open(str(place)) as folder:
        folder.below("shared", make=True, mode=0o2770).close()
        folder.below("shared", make=True, mode=0o700).close()
    assert (place / "shared").stat().st_mode & 0o7777 == 0o2770


@pytest.mark.parametrize("what", ["link", "file"])
def test_a_new_file_is_no_file_that_was_there(place, home, what):
    if what == "link":
        os.symlink(home / "new", place / "new")
    else:
        (place / "new").write_text("old")
    with pytest.raises(FileExistsError) as refused, Folder.open(str(place)) as folder:
        folder.new_file("new")
    assert refused.value.filename == f"{place}/new"


@pytest.mark.parametrize("what", ["link", "FIFO", "directory"])
def test_only_an_ordinary_file_is_read(place, home, what):
    {
        "link": lambda: os.symlink(home / "thesis", place / "file"),
        "FIFO": lambda: os.mkfifo(place / "file"),
        "directory": lambda: os.mkdir(place / "file"),
    }[what]()
    before = open_files()
    refused = pytest.raises(OSError, match=f"{place}/file")
    with in_time(10), refused, Folder.open(str(place)) as folder:
        folder.ordinary_file("file")
    assert os.listdir("/proc/self/fd") == before


def test_a_directory_is_removed_with_all_that_is_in_it_and_no_more(place, home):
    os.makedirs(place / "old" / "a" / "b")
    (place / "old" / "a" / "file").write_text("x")
    os.symlink(home, place / "old" / "a" / "link")
    os.symlink(home / "thesis", place / "old" / "file")
    os.symlink(home, place / "link")
    with Folder.open(str(place)) as folder:
        folder.remove("old")
        folder.remove("link")
        folder.remove("nothing")
    assert os.listdir(place) == []


def test_directories_without_end_exhaust_nobody(place):
    """Two thousand in each other, which neither Python nor pytest could remove."""
    held = os.open(place, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("deep", dir_fd=held)
        below = os.open("deep", os.O_RDONLY, dir_fd=held)
        os.close(held)
        held = below
    os.close(held)
    try:
        with Folder.open(str(place)) as folder:
            folder.remove("deep")
            assert folder.names() == []
    finally:
        subprocess.run(["rm", "-rf", place / "deep"], check=True)


#: What is done in a directory whose name is swapped for a link meanwhile.
DONE = {
    "remove": lambda folder: folder.remove("thesis"),
    "remove all": lambda folder: folder.remove("deep"),
    "make": lambda folder: os.close(folder.new_file("new")),
    "move": lambda folder: folder.move("thesis", folder, "moved"),
    "elect": lambda folder: folder.elect("mark", "me"),
    "list": lambda folder: folder.names(),
    "read": lambda folder: folder.ordinary_file("thesis").close(),
}


@pytest.mark.parametrize("done", DONE)
def test_no_swap_of_a_directory_leads_out_of_it(place, home, done):
    """Before each call, in turn, the directory becomes a link to one of the same contents."""
    number = 0
    while True:
        inner = place / "inner"
        os.makedirs(inner / "deep" / "deeper")
        (inner / "thesis").write_text("planted")
        (home / "deep").mkdir()
        swapped = []

        def call(n, name, function, arguments, inner=inner, swapped=swapped):
            if n == number:  # noqa: B023
                os.rename(inner, inner.with_name("away"))
                os.symlink(home, inner)
                swapped.append(name)
            return function(*arguments)

        with suppress(OSError), reached(str(place), "inner", calls=Calls(call)) as held:
            DONE[done](held)
        (home / "deep").rmdir()
        assert os.listdir(home) == ["thesis"]
        assert (home / "thesis").read_text() == "all of it"
        with Folder.open(str(place)) as folder:
            for name in folder.names():
                folder.remove(name)
        if not swapped:
            break
        number += 1
    assert number >= 3


def test_a_move_whose_reply_was_lost_was_done(place):
    def call(_, name, function, arguments):
        answer = function(*arguments)
        if name == "rename":
            raise OSError(errno.ENOENT, "gone", arguments[0])
        return answer

    (place / "a").write_text("x")
    with Folder.open(str(place), calls=Calls(call)) as folder:
        folder.move("a", folder, "b")
        assert folder.names() == ["b"]
