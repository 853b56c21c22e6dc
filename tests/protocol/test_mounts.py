"""The emulated NFS says what a real one was measured to say, and counts when that is wrong."""

from __future__ import annotations

import errno
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from protocol import mounts
from protocol.mounts import Mount, Rates, Server
from support import SYSTEM_CALLS, FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

READ = os.O_RDONLY
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
SURE = Rates(early=0, forgets=0, plus=0, estale=1)


class Lab:
    """Two nodes, A and B, at one directory `d`."""

    def __init__(self, root: Path, version: int = 4, rates: Rates = SURE) -> None:
        self.clock = FakeClock()
        self.server = Server(str(root), self.clock, version=version, rates=rates)
        self.a, self.b = self.server.mount(), self.server.mount()
        self.d = f"{root}/d"
        self.f = f"{root}/d/f"
        self.a.mkdir(self.d)

    def write(self, node: Mount, path: str, data: bytes = b"x") -> None:
        descriptor = node.open(path, os.O_WRONLY | os.O_CREAT)
        node.write(descriptor, data)
        node.close(descriptor)

    def later(self) -> None:
        """Let everything be too old that was remembered."""
        self.clock.advance(61)


@pytest.fixture(params=[3, 4], ids=["v3", "v4"])
def lab(request: Any, tmp_path: Path) -> Lab:
    return Lab(tmp_path, request.param)


def code(act: Callable[..., Any], *arguments: Any) -> int:
    """Return how something fails; 0: it does not."""
    try:
        act(*arguments)
    except OSError as error:
        return error.errno or -1
    return 0


USES: dict[str, Callable[[Mount, str], Any]] = {
    "rename": lambda node, path: node.rename(path, f"{path}2"),
    "unlink": lambda node, path: node.unlink(path),
    "open": lambda node, path: node.close(node.open(path, READ)),
    "stat": lambda node, path: node.lstat(path),
}
every_use = pytest.mark.parametrize("use", USES.values(), ids=USES)
CURES: dict[str, Callable[[Lab], Any]] = {
    "list": lambda lab: lab.b.listdir(lab.d),
    "open": lambda lab: lab.b.close(lab.b.open(lab.d, READ | os.O_DIRECTORY)),
    "change": lambda lab: lab.b.mkdir(f"{lab.d}/other"),
    "wait": lambda lab: lab.later(),
}


@every_use
@pytest.mark.parametrize("cure", CURES.values(), ids=CURES)
def test_a_name_looked_up_too_early_is_missing_until_its_directory_is_asked_for(
    lab: Lab, use: Any, cure: Any
) -> None:
    assert code(use, lab.b, lab.f) == errno.ENOENT
    assert not lab.server.told
    lab.write(lab.a, lab.f)
    assert code(use, lab.b, lab.f) == errno.ENOENT
    assert code(lab.b.open, lab.f, NEW) == errno.EEXIST
    assert lab.server.told[mounts.NEGATIVE] == 1
    assert lab.a.lstat(lab.f).st_size == 1
    cure(lab)
    use(lab.b, lab.f)


@pytest.mark.parametrize("make", ["mkdir", "mknod"])
def test_making_a_name_tells_whether_there_is_one(lab: Lab, make: str) -> None:
    assert code(lab.b.lstat, lab.f) == errno.ENOENT
    getattr(lab.a, make)(lab.f)
    assert code(getattr(lab.b, make), lab.f) == errno.EEXIST


def test_what_was_removed_is_there_for_who_has_seen_it_but_can_not_be_moved(
    lab: Lab,
) -> None:
    lab.write(lab.a, lab.f)
    lab.b.lstat(lab.f)
    lab.a.unlink(lab.f)
    assert lab.b.lstat(lab.f).st_size == 1
    assert lab.server.told[mounts.POSITIVE] == 1
    lab.later()
    assert code(lab.b.lstat, lab.f) == errno.ENOENT
    lab.write(lab.a, lab.f)
    lab.b.listdir(lab.d)
    lab.b.lstat(lab.f)
    lab.a.unlink(lab.f)
    assert code(lab.b.rename, lab.f, f"{lab.f}2") == errno.ENOENT


def test_attributes_are_of_the_past_until_the_file_is_opened(lab: Lab) -> None:
    lab.write(lab.a, lab.f)
    lab.b.lstat(lab.f)
    lab.write(lab.a, lab.f, b"longer")
    assert lab.b.lstat(lab.f).st_size == 1
    assert lab.server.told[mounts.ATTRIBUTES] == 1
    descriptor = lab.b.open(lab.f, READ)
    assert lab.b.fstat(descriptor).st_size == lab.b.lstat(lab.f).st_size == 6
    assert lab.b.read(descriptor, 10) == b"longer"
    lab.b.close(descriptor)


def test_times_are_those_of_the_server(lab: Lab) -> None:
    lab.write(lab.a, lab.f)
    made = lab.clock.now_ns
    lab.clock.advance(5)
    lab.a.rename(lab.f, f"{lab.f}2")
    found = lab.a.lstat(f"{lab.f}2")
    assert (found.st_mtime_ns, found.st_ctime_ns) == (made, lab.clock.now_ns)
    assert int(found.st_mtime) == made // 10**9
    lab.b.utime(lab.d)
    assert lab.b.lstat(lab.d).st_mtime_ns == lab.clock.now_ns


def test_the_time_of_a_file_being_made_is_garbage_to_all_but_its_maker(
    lab: Lab,
) -> None:
    descriptor = lab.a.open(lab.f, NEW)
    lab.a.write(descriptor, b"x")
    found = lab.b.lstat(lab.f)
    assert lab.clock.now_ns - found.st_mtime_ns > 20 * 365 * 86400 * 10**9
    assert found.st_ctime_ns == lab.clock.now_ns
    assert found.st_size == 0
    assert (found.st_mode & 0o777 == 0) == (lab.server.version == 3)
    assert lab.server.told[mounts.GARBAGE] == 1
    assert lab.a.fstat(descriptor).st_mtime_ns == lab.clock.now_ns
    lab.a.close(descriptor)
    lab.later()
    assert lab.b.lstat(lab.f).st_mtime_ns == lab.clock.now_ns - 61 * 10**9


def test_a_file_made_by_mknod_or_not_exclusively_has_a_time(lab: Lab) -> None:
    lab.a.mknod(lab.f)
    lab.a.open(f"{lab.f}2", os.O_WRONLY | os.O_CREAT)
    for path in (lab.f, f"{lab.f}2"):
        assert lab.b.lstat(path).st_mtime_ns == lab.clock.now_ns


def test_what_is_written_is_seen_when_it_is_closed(lab: Lab) -> None:
    descriptor = lab.a.open(lab.f, NEW)
    lab.a.write(descriptor, b"x")
    reader = lab.b.open(lab.f, READ)
    assert lab.b.read(reader, 10) == b""
    assert lab.server.told[mounts.UNWRITTEN] >= 1
    lab.a.close(descriptor)
    reader = lab.b.open(lab.f, READ)
    assert lab.b.read(reader, 10) == b"x"


def test_a_file_that_moved_is_opened_under_its_old_name_in_version_3(lab: Lab) -> None:
    lab.write(lab.a, lab.f)
    lab.b.lstat(lab.f)
    lab.a.rename(lab.f, f"{lab.f}2")
    if lab.server.version == 4:
        assert code(lab.b.open, lab.f, READ) == errno.ENOENT
    else:
        assert lab.b.read(lab.b.open(lab.f, READ), 10) == b"x"
        assert lab.server.told[mounts.OLD_NAME] == 1


def test_a_file_replaced_by_another_node_is_stale_once(lab: Lab) -> None:
    lab.write(lab.a, lab.f)
    lab.b.lstat(lab.f)
    lab.write(lab.a, f"{lab.f}2", b"new")
    lab.a.rename(f"{lab.f}2", lab.f)
    assert code(lab.b.open, lab.f, READ) == errno.ESTALE
    assert lab.b.read(lab.b.open(lab.f, READ), 10) == b"new"


def test_a_directory_removed_by_another_node_is_stale_once(lab: Lab) -> None:
    lab.b.listdir(lab.d)
    lab.a.rmdir(lab.d)
    assert code(lab.b.listdir, lab.d) == errno.ESTALE
    assert code(lab.b.listdir, lab.d) == errno.ENOENT
    lab.a.mkdir(lab.d)
    assert code(lab.b.listdir, lab.d) == errno.ENOENT
    lab.later()
    assert lab.b.listdir(lab.d) == []


def test_a_directory_that_moved_is_reached_under_its_old_name(lab: Lab) -> None:
    lab.write(lab.a, lab.f)
    lab.b.lstat(lab.f)
    lab.a.rename(lab.d, f"{lab.d}2")
    lab.b.unlink(lab.f)
    assert lab.server.told[mounts.MOVED] == 1
    assert lab.a.listdir(f"{lab.d}2") == []


def test_what_was_removed_and_moved_is_wrong_in_a_listing_with_an_old_first_page(
    tmp_path: Path,
) -> None:
    lab = Lab(tmp_path, rates=SURE._replace(paged=1))
    names = [f"{number}" for number in range(40)]
    for name in names:
        lab.write(lab.a, f"{lab.d}/{name}")
    order = lab.a.listdir(lab.d)

    def meanwhile(function: str, path: str) -> bool:
        assert (function, path) == ("page", lab.d)
        lab.a.unlink(f"{lab.d}/{order[0]}")
        lab.a.rename(f"{lab.d}/{order[-1]}", f"{lab.d}/{early}")
        return True

    early = min(map(str, range(1000, 2000)), key=lambda n: mounts.place_of(n))
    lab.b.meanwhile = meanwhile
    assert lab.b.listdir(lab.d) == order[:-1]
    assert lab.server.told[mounts.OLD_PAGE] == 1
    lab.b.meanwhile = None
    assert lab.b.listdir(lab.d) == [early, *order[1:-1]]


def test_a_descriptor_that_was_held_lists_the_past(lab: Lab) -> None:
    descriptor = lab.b.open(lab.d, READ | os.O_DIRECTORY)
    assert lab.b.listdir(descriptor) == []
    lab.a.mknod("f", dir_fd=lab.a.open(lab.d, READ | os.O_DIRECTORY))
    assert lab.b.listdir(descriptor) == []
    assert lab.server.told[mounts.HELD_LISTING] == 1
    assert lab.b.lstat("f", dir_fd=descriptor).st_size == 0
    lab.later()
    assert lab.b.listdir(descriptor) == ["f"]


@pytest.mark.parametrize("function", ["rename", "unlink", "rmdir", "mkdir"])
def test_a_reply_is_lost_of_what_was_done(function: str, tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    path = lab.d if function == "rmdir" else f"{lab.d}/x"
    if function in ("rename", "unlink"):
        lab.write(lab.a, path)
    lab.server.rates = SURE._replace(lost=1)
    more = (f"{lab.d}/y",) if function == "rename" else ()
    said = errno.EEXIST if function == "mkdir" else errno.ENOENT
    assert code(getattr(lab.a, function), path, *more) == said
    assert lab.server.told == {mounts.LOST: 1}
    assert os.path.lexists(path) == (function == "mkdir")


def test_a_node_sees_at_once_what_it_did_itself(tmp_path: Path) -> None:
    lab = Lab(tmp_path, rates=Rates(early=0.5, forgets=0.3))
    d, node = lab.d, lab.b
    for number in range(300):
        path, other = f"{d}/{number % 7}", f"{d}/{number % 5}-"
        assert code(node.lstat, path) == errno.ENOENT
        lab.write(node, path, b"x" * number)
        assert node.lstat(path).st_size == number
        lab.write(lab.a, f"{d}/a{number}")
        node.rename(path, other)
        assert node.lstat(other).st_size == number
        assert code(node.open, path, READ) == errno.ENOENT
        if number % 3 == 0:
            node.unlink(other)
            assert code(node.lstat, other) == errno.ENOENT
    assert set(lab.server.told) <= {mounts.OF_DIRECTORY}


def test_another_process_of_the_node_may_have_looked_up_a_name_before(
    tmp_path: Path,
) -> None:
    lab = Lab(tmp_path, rates=SURE._replace(early=1))
    lab.b.listdir(lab.d)
    lab.write(lab.a, lab.f)
    assert code(lab.b.lstat, lab.f) == errno.ENOENT
    lab.b.listdir(lab.d)
    assert lab.b.lstat(lab.f).st_size == 0
    lab.write(lab.a, f"{lab.d}/g")
    lab.b.listdir(lab.d)
    lab.a.unlink(f"{lab.d}/g")
    assert lab.b.lstat(f"{lab.d}/g").st_size == 1
    assert code(lab.b.unlink, f"{lab.d}/g") == errno.ENOENT


def test_all_that_ddmq_calls_is_emulated() -> None:
    assert vars(Mount).keys() >= SYSTEM_CALLS


def test_what_is_not_emulated_goes_to_the_real_one_and_is_counted(lab: Lab) -> None:
    assert lab.a.getpid() == os.getpid()
    assert lab.server.passed == Counter(getpid=1)
    assert lab.a.O_RDONLY == READ
