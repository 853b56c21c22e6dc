"""Directories that are held: what is swapped, moved or made anew under their names."""

from __future__ import annotations

import errno
import gc
import os
import resource
import threading
from contextlib import nullcontext, suppress

import pytest
from support import (
    Calls,
    FakeClock,
    counting,
    failing,
    interrupted,
    open_files,
)

from ddmq import Broker, LeaseLost
from ddmq.storage.filesystem import FileSystem


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    (root / "q" / "work").mkdir(parents=True)
    (root / "q" / "tmp").mkdir()
    (root / "q" / "tmp" / "a").write_text("ours")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "a").write_text("of somebody else")
    return str(root)


@pytest.fixture
def fs(root):
    return FileSystem(root=root)


def swapped(directory, target):
    """Put a link in the place of a directory."""
    os.rename(directory, f"{directory}.away")
    os.symlink(target, directory)


ACTS = {
    "rename": lambda fs, d: fs.rename(f"{d}/a", f"{d}/b"),
    "unlink": lambda fs, d: fs.unlink(f"{d}/a"),
    "read": lambda fs, d: fs.read(f"{d}/a"),
    "create": lambda fs, d: fs.create(f"{d}/b", b"x", sync=False),
    "create_own": lambda fs, d: fs.create_own(f"{d}/b", b"x", sync=False),
    "touch": lambda fs, d: fs.touch(f"{d}/b"),
    "link": lambda fs, d: fs.link(f"{d}/b", "us"),
    "link_own": lambda fs, d: fs.link_own(f"{d}/b", "us"),
    "place_link": lambda fs, d: fs.place_link(f"{d}/b", "us", f"{d}/c"),
    "elected": lambda fs, d: fs.elected(f"{d}/b", "us"),
    "named_by": lambda fs, d: fs.named_by(f"{d}/a"),
    "is_alive": lambda fs, d: fs.is_alive(f"{d}/a"),
    "mkdir": lambda fs, d: fs.mkdir(f"{d}/b"),
    "chmod": lambda fs, d: fs.chmod(f"{d}/a", 0o640),
    "elect": lambda fs, d: fs.elect(f"{d}/b", "us"),
    "listing": lambda fs, d: fs.listing(d),
    "stamp": lambda fs, d: fs.stamp(d),
    "touched_ns": lambda fs, d: fs.touched_ns(d),
    "remove_tree": lambda fs, d: fs.remove_tree(d),
}


@pytest.mark.parametrize("is_held", [False, True])
@pytest.mark.parametrize("part", ["q", "q/tmp"])
@pytest.mark.parametrize("act", ACTS)
def test_a_link_in_place_of_a_directory_leads_nowhere(tmp_path, act, part, is_held):
    """Whichever of them is swapped before whichever call."""
    for n in range(20):
        root = tmp_path / str(n)
        (root / "q" / "tmp").mkdir(parents=True)
        (root / "q" / "tmp" / "a").write_text("ours")
        (root / "home" / "tmp").mkdir(parents=True)
        for home in ("home", "home/tmp"):
            (root / home / "a").write_text("of somebody else")
        fs, home = FileSystem(root=str(root)), "home" if part == "q" else "home/tmp"
        if is_held:
            fs.read(f"{root}/q/tmp/a")
        calls = interrupted(n, lambda: swapped(f"{root}/{part}", f"{root}/{home}"))  # noqa: B023
        fs.calls = calls
        with suppress(FileNotFoundError, NotADirectoryError):
            ACTS[act](fs, f"{root}/q/tmp")
        assert sorted(os.listdir(root / "home")) == ["a", "tmp"]
        assert os.listdir(root / "home" / "tmp") == ["a"]
        for file in (root / "home" / "a", root / "home" / "tmp" / "a"):
            assert file.read_text() == "of somebody else"
        if len(calls.made) <= n:
            return
    pytest.fail("it made more calls than were tried")


def test_a_directory_that_was_made_anew_is_used_from_the_next_call_on(root, fs):
    fs.read(f"{root}/q/tmp/a")
    os.rename(f"{root}/q", f"{root}/old")
    os.makedirs(f"{root}/q/tmp")
    os.unlink(f"{root}/old/tmp/a")
    os.rmdir(f"{root}/old/tmp")  # the one that is held
    fs.create(f"{root}/q/tmp/b", b"x", sync=False)
    assert os.listdir(f"{root}/q/tmp") == ["b"]


@pytest.mark.parametrize("verb", ["rename", "take"])
def test_a_rename_into_what_was_made_anew_is_done(root, fs, verb):
    fs.create(f"{root}/q/work/b", b"x", sync=False)
    os.unlink(f"{root}/q/work/b")
    os.rmdir(f"{root}/q/work")
    os.mkdir(f"{root}/q/work")
    assert getattr(fs, verb)(f"{root}/q/tmp/a", f"{root}/q/work/a") is True
    assert os.listdir(f"{root}/q/work") == ["a"]


@pytest.mark.parametrize("verb", ["rename", "take"])
@pytest.mark.parametrize("is_done", [False, True])
def test_a_stale_handle_is_opened_again(root, is_done, verb):
    """Though the server uses the number of what is gone again, and though it was done."""
    stale = []

    def call(_, name, function, arguments):
        if name == "rename" and not stale:
            stale.append(name)
            if is_done:
                function(*arguments)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), arguments[0])
        return function(*arguments)

    fs = FileSystem(Calls(call), root=root)
    assert getattr(fs, verb)(f"{root}/q/tmp/a", f"{root}/q/work/a") is True
    assert os.listdir(f"{root}/q/work") == ["a"]


@pytest.mark.parametrize("name", ["unlink", "open", "lstat", "mknod", "mkdir"])
def test_so_it_is_by_other_calls(root, name):
    acts = {
        "unlink": lambda: fs.unlink(f"{root}/q/tmp/a"),
        "open": lambda: fs.read(f"{root}/q/tmp/a") == b"ours",
        "lstat": lambda: fs.status(f"{root}/q/tmp/a") is not None,
        "mknod": lambda: fs.touch(f"{root}/q/tmp/b") is None,
        "mkdir": lambda: fs.mkdir(f"{root}/q/tmp/b"),
    }
    stale = []

    def call(_, called, function, arguments):
        if called == name and "/tmp/" in str(arguments[0]) and not stale:
            stale.append(called)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), arguments[0])
        return function(*arguments)

    fs = FileSystem(Calls(call), root=root)
    assert acts[name]() is True
    assert stale


def test_what_is_compared_with_its_name_is_let_go_if_it_has_moved(root, fs):
    fs.read(f"{root}/q/tmp/a")
    os.rename(f"{root}/q", f"{root}/old")
    os.makedirs(f"{root}/q/tmp")
    assert fs.read(f"{root}/q/tmp/a") == b"ours"  # a handle follows
    fs.require_directory(f"{root}/q")
    with pytest.raises(FileNotFoundError):
        fs.read(f"{root}/q/tmp/a")


def test_no_more_directories_are_held_than_may_be(root):
    gc.collect()  # what earlier tests left open is closed now, and not meanwhile
    before, soft = (
        os.listdir("/proc/self/fd"),
        resource.getrlimit(resource.RLIMIT_NOFILE),
    )
    fs = FileSystem(root=root)
    for number in range(100):
        fs.mkdir(f"{root}/q/{number}")
        fs.create(f"{root}/q/{number}/a", b"x", sync=False)
    assert len(os.listdir("/proc/self/fd")) - len(before) <= min(32, soft[0] // 32)
    fs.let_go()
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    "call",
    [
        lambda fs, root: fs.unlink(f"{root}/q/tmp/none"),
        lambda fs, root: fs.rename(f"{root}/q/tmp/none", f"{root}/q/work/none"),
        lambda fs, root: fs.read(f"{root}/q/tmp/none"),
        lambda fs, root: fs.read(f"{root}/q/tmp"),
        lambda fs, root: fs.create(f"{root}/q/tmp/a", b"", sync=False),
        lambda fs, root: fs.mkdir(f"{root}/q/none/a"),
        lambda fs, root: fs.may_change(f"{root}/q/none"),
    ],
    ids=["unlink", "rename", "read", "no file", "exists", "mkdir", "access"],
)
def test_no_error_keeps_a_directory_open(root, call):
    """An error that a frame of its own traceback refers to goes with the next collection only."""
    before = open_files()
    gc.disable()
    try:
        fs = FileSystem(root=root)
        fs.read(f"{root}/q/tmp/a")
        with suppress(OSError):
            call(fs, root)
        del fs
        assert os.listdir("/proc/self/fd") == before
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("open", lambda fs, root: fs.read(f"{root}/q/tmp/a")),
        ("rename", lambda fs, root: fs.rename(f"{root}/q/tmp/a", f"{root}/q/work/a")),
    ],
    ids=["open", "rename"],
)
def test_no_stale_handle_keeps_a_directory_open(root, name, act):
    """It is tried again several times, and nobody keeps the errors."""

    def call(_, called, function, arguments):
        if called == name and str(arguments[0]).endswith("/a"):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return function(*arguments)

    before = open_files()
    gc.disable()
    try:
        fs = FileSystem(Calls(call), root=root)
        with pytest.raises(OSError, match="Stale"):
            act(fs, root)
        del fs
        assert os.listdir("/proc/self/fd") == before
    finally:
        gc.enable()


def test_who_has_no_descriptor_left_lets_go_of_those_held(root, fs):
    fs.read(f"{root}/q/tmp/a")
    fs.read(f"{root}/q/tmp/a")
    fs.calls = failing(1, errno.EMFILE)
    fs.create(f"{root}/q/work/b", b"x", sync=False)
    assert os.listdir(f"{root}/q/work") == ["b"]


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EBADF])
@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("open", lambda fs, root: fs.create(f"{root}/q/tmp/b", b"x", sync=False)),
        ("unlink", lambda fs, root: fs.unlink(f"{root}/q/tmp/a")),
        ("mkdir", lambda fs, root: fs.mkdir(f"{root}/q/tmp/b")),
    ],
    ids=["open", "unlink", "mkdir"],
)
def test_all_that_is_let_go_is_closed_before_anything_is_opened(root, name, act, code):
    """Else there may be no descriptor left; or its number is another's when it is closed."""

    def call(_, called, function, arguments):
        if called == name and not held:
            held.extend(each.descriptor for each in fs.directories.held.values())
            raise OSError(code, os.strerror(code))
        if held and not still_open:
            still_open.append([number for number in held if is_open(number)])
        return function(*arguments)

    def is_open(number):
        with suppress(OSError):
            return bool(os.fstat(number))

    fs, held, still_open = FileSystem(root=root), [], []
    fs.read(f"{root}/q/tmp/a")
    fs.calls = Calls(call)
    act(fs, root)
    assert len(held) == 3
    assert still_open == [[]]


def test_a_directory_stays_open_while_somebody_uses_it(root):
    """Another thread lets go of it meanwhile, and its number goes to another file."""

    def call(_, name, function, arguments):
        if name == "unlink":
            fs.let_go()
            others.append(os.open(home, os.O_RDONLY | os.O_DIRECTORY))
        return function(*arguments)

    home, others = os.path.join(os.path.dirname(root), "home"), []
    fs = FileSystem(Calls(call), root=root)
    assert fs.unlink(f"{root}/q/tmp/a") is True
    assert os.listdir(home) == ["a"]
    os.close(others[0])


def test_threads_share_what_is_held(root, fs):
    def work(number):
        for turn in range(200):
            path = f"{root}/q/{(number + turn) % 40}"
            fs.mkdir(path)
            fs.create(f"{path}/{number}-{turn}", b"x", sync=False)
            assert fs.unlink(f"{path}/{number}-{turn}") is True
            fs.listing(path)

    fs.directories._most = 4
    failed = []
    threading.excepthook, before = failed.append, threading.excepthook
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        threading.excepthook = before
    assert failed == []


def test_another_thread_that_opened_the_new_directory_first_hides_nothing(root):
    """The rename that failed was done in the one before: it is done again all the same."""

    def call(_, name, function, arguments):
        if name == "rename" and not renamed:
            renamed.append(name)
            try:
                return function(*arguments)
            except FileNotFoundError:
                fs.listing(f"{root}/q/work")  # as another thread does now
                raise
        return function(*arguments)

    fs, renamed = FileSystem(root=root), []
    fs.create(f"{root}/q/work/b", b"x", sync=False)
    os.unlink(f"{root}/q/work/b")
    os.rmdir(f"{root}/q/work")
    os.mkdir(f"{root}/q/work")
    fs.calls = Calls(call)
    assert fs.rename(f"{root}/q/tmp/a", f"{root}/q/work/a") is True
    assert os.listdir(f"{root}/q/work") == ["a"]


def test_who_closed_all_descriptors_after_a_fork_closes_none_of_others(root, fs):
    """As daemons do: the numbers are of other files then."""
    fs.read(f"{root}/q/tmp/a")
    child = os.fork()
    if child == 0:
        os.closerange(3, 200)
        others = [os.open(root, os.O_RDONLY) for _ in range(20)]
        os.closerange(others[0], others[9])
        for number in range(2):
            with suppress(OSError):
                fs.create(f"{root}/q/tmp/{number}", b"x", sync=False)
            fs.let_go()
        for descriptor in others[9:]:
            os.fstat(descriptor)
        os._exit(0 if os.path.exists(f"{root}/q/tmp/1") else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("verb", ["move", "renew", "ack", "publish"])
def test_no_client_follows_a_queue_that_was_moved_for_longer_than_a_second(root, verb):
    clock = FakeClock()
    broker = Broker(root, create=True, clock=clock, clean=False)
    for queue in ("a", "b"):
        broker.create_queue(queue)
        broker.publish(queue, "x")
    [message] = broker.consume("a" if verb == "move" else "b")
    acts = {
        "move": lambda: broker.move(message, "b"),
        "renew": lambda: broker.renew(message),
        "ack": lambda: broker.ack(message),
        "publish": lambda: broker.publish("b", "y"),
    }
    os.rename(f"{root}/b", f"{root}/old")
    Broker(root, clock=clock).create_queue("b")
    clock.advance(1.1)
    with pytest.raises(LeaseLost) if verb == "renew" else nullcontext():
        acts[verb]()
    assert len(os.listdir(f"{root}/old/work")) == (verb != "move")
    assert broker.view("b")["b"].waiting == (verb in ("move", "publish"))


# What is deleted


def test_an_empty_directory_that_is_not_for_us_to_move_goes_as_well(root, fs):
    """To move one takes the permission to write in it, as its `..` changes."""

    def call(_, name, function, arguments):
        if name == "rename":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), arguments[0])
        return function(*arguments)

    fs.mkdir(f"{root}/q/work/theirs")
    fs.calls = Calls(call)
    assert fs.remove_tree(f"{root}/q") is True


def test_a_tree_of_any_depth_is_removed_with_few_descriptors(root, fs, tmp_path):
    fs.mkdir(f"{root}/q/deep")
    here = os.open(f"{root}/q/deep", os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        os.mkfifo("fifo", dir_fd=here)
        os.symlink(tmp_path / "home", "link", dir_fd=here)
        here, above = os.open("d", os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    assert fs.remove_tree(f"{root}/q") is True
    assert os.listdir(root) == []
    assert os.listdir(tmp_path / "home") == ["a"]


def test_what_others_add_while_a_tree_is_removed_goes_as_well(root):
    """They do so through a directory that they hold, before each call in turn."""
    for n in range(60):
        tmp = os.open(f"{root}/q/tmp", os.O_RDONLY)

        def add(tmp=tmp):
            os.close(os.open("added", os.O_CREAT | os.O_WRONLY, dir_fd=tmp))

        calls = interrupted(n, lambda: _unless_gone(add))
        assert FileSystem(calls, root=root).remove_tree(f"{root}/q") is True
        os.close(tmp)
        assert os.listdir(root) == []
        if len(calls.made) <= n:
            return
        os.makedirs(f"{root}/q/tmp")
        os.makedirs(f"{root}/q/work")
    pytest.fail("it made more calls than were tried")


def _unless_gone(add):
    try:
        add()
    except FileNotFoundError:
        return


def test_what_can_not_be_removed_ends_the_removal(root, fs):
    fs.calls = Calls(_refusing_unlink)
    assert fs.remove_tree(f"{root}/q") is False
    assert os.listdir(f"{root}/q/tmp") == ["a"]


def _refusing_unlink(_, name, function, arguments):
    if name == "unlink":
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), arguments[0])
    return function(*arguments)


def test_a_publish_makes_no_more_calls_than_by_path(root):
    calls = counting()
    fs = FileSystem(calls, root=root)
    fs.rename(f"{root}/q/tmp/a", f"{root}/q/work/a")
    calls.made.clear()
    fs.create_own(f"{root}/q/tmp/b", b"x", sync=False)
    fs.rename(f"{root}/q/tmp/b", f"{root}/q/work/b")
    assert calls.made == ["open", "write", "close", "rename"]
