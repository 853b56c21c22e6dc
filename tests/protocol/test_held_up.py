"""A file server that waits for a client that died: some calls hang, and nobody waits for them.

On NFSv4 a rename, unlink or open of what a dead client had open is answered when the server
has given that client up, a minute or two later.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial

import pytest
from protocol.scenes import unwatched_sweeps
from support import Calls, FakeClock, in_time

from ddmq import Broker, LockTimeout
from ddmq.clock import Clock
from ddmq.storage import background, roots
from ddmq.storage.filesystem import FileSystem

QUEUE = "q"
#: Seconds that a call hangs at most, and in which nobody who does not wait for it is late.
HANGS, AT_ONCE = 20, 1.5
#: A command whose every rename of a leased message hangs.
COMMAND = """
import os, sys, time
from ddmq.cli.main import main
real = os.rename
def rename(source, target, *, src_dir_fd, dst_dir_fd):
    if os.readlink(f"/proc/self/fd/{src_dir_fd}").endswith("/work"):
        time.sleep(600)
    real(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
os.rename = rename
sys.exit(main())
"""


class HeldUp:
    """Calls of one kind at some files hang, until they are let go."""

    def __init__(self):
        self.parts = ()
        self.kind = "rename"
        self.hanging = []
        self.error = None
        self._let_go = threading.Event()
        self.fs = FileSystem(Calls(self._call))

    def _call(self, _, name, function, arguments):
        if name == self.kind and any(part in str(arguments[0]) for part in self.parts):
            self.hanging.append(arguments[0])
            self._let_go.wait(HANGS)
            if self.error:
                raise OSError(self.error, os.strerror(self.error), arguments[0])
        return function(*arguments)

    def let_go(self, error=None):
        self.error = error
        self._let_go.set()


class RealThreads(FakeClock):
    """A clock that stands still, beside which threads go on."""

    begin = Clock.begin


@pytest.fixture
def held_up():
    held_up = HeldUp()
    yield held_up
    held_up.let_go()


@pytest.fixture
def root(tmp_path):
    Broker(tmp_path / "mq", create=True).create_queue(QUEUE)
    return tmp_path / "mq"


def died(root, number):
    """Let a client die with so many leases, which are over; return the messages."""
    client = Broker(root, clock=FakeClock(time.time() - 60), clean=False)
    for n in range(number):
        client.publish(QUEUE, n, timeout=5)
    return client.consume(QUEUE, number)


@contextmanager
def at_once():
    """Let nobody wait for what hangs."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < AT_ONCE


def until(is_so):
    with in_time(HANGS):
        while not is_so():
            time.sleep(0.01)


def leases(root):
    return os.listdir(root / QUEUE / "work")


# Housekeeping


def test_nobody_waits_for_a_lease_that_can_not_be_requeued(root, held_up):
    hung = died(root, 4)[0]
    client = Broker(root, fs=held_up.fs)
    held_up.parts = (hung.id,)
    with at_once():
        client.publish(QUEUE, "new")
    found = []
    for _ in range(4):
        with at_once():
            (message,) = client.consume(QUEUE)
        with at_once():
            message = client.renew(message)
        with at_once():
            client.ack(message)
        found.append(message.message)
    assert sorted(map(str, found)) == ["1", "2", "3", "new"]
    assert len(held_up.hanging) == 1
    held_up.let_go()
    until(lambda: client.consume(QUEUE))


@pytest.mark.parametrize("command", ["publish", "consume"])
def test_a_command_ends_beside_one(root, command):
    died(root, 1)
    Broker(root, clean=False).publish(QUEUE, "new")
    words = [command, str(root), QUEUE, *(["text"] if command == "publish" else [])]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *words],
        capture_output=True,
        timeout=HANGS,  # a thirtieth of what the call takes; Python needs some of it to start
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout


def test_nobody_waits_for_bundles_that_the_dead_one_did_not_remove(root, held_up):
    """The one who reads a message of it has it open, and may get a delegation."""
    dead = Broker(root, clock=FakeClock(time.time() - 60), clean=False)
    for _ in range(6):
        dead.publish_many(QUEUE, range(12))
        dead.ack(dead.consume(QUEUE, 12))
    assert len(list((root / QUEUE / "bundles").glob("*"))) == 6
    held_up.kind, held_up.parts = "open", ("/lines",)
    client = Broker(root, fs=held_up.fs)
    for number in range(3):
        with at_once():
            client.publish(QUEUE, number)
        with at_once():
            (message,) = client.consume(QUEUE)
        with at_once():
            client.ack(message)
        assert message.message == number
    with at_once():
        assert client.consume(QUEUE) == []
    assert 1 <= len(held_up.hanging) <= 6
    held_up.let_go()
    until(lambda: all(sweep.has_ended for sweep in unwatched_sweeps(client)))
    client.clean(QUEUE)
    assert leases(root) == []


def test_what_hangs_is_left_out_and_no_more_than_eight_hang(root, held_up):
    hung = died(root, 10)
    clock = RealThreads(time.time())
    client = Broker(root, fs=held_up.fs, clock=clock)
    held_up.parts = [message.id for message in hung]
    for _ in range(12):
        with at_once():
            client.publish(QUEUE, "new")
        clock.advance(600)
    assert len(held_up.hanging) == len(set(held_up.hanging)) == 8
    held_up.let_go()
    until(lambda: all(sweep.has_ended for sweep in unwatched_sweeps(client)))
    client.publish(QUEUE, "new")
    assert leases(root) == []


def test_where_all_is_slow_the_sweeps_grow_fewer(root, held_up):
    clock = RealThreads(time.time())
    client = Broker(root, fs=held_up.fs, clock=clock)
    client.settings(QUEUE)
    held_up.kind, held_up.parts = "listdir", (f"{QUEUE}/work",)
    for _ in range(30):
        client.publish(QUEUE, "new")
        clock.advance(1)
    assert len(held_up.hanging) == 4  # after 0, 2, 6 and 14 seconds


def test_what_stops_a_sweep_that_nobody_waits_for_is_told_once(root, held_up, caplog):
    clock = RealThreads(time.time())
    client = Broker(root, fs=held_up.fs, clock=clock)
    held_up.kind, held_up.parts = "listdir", (f"{QUEUE}/work",)
    for _ in range(2):
        client.publish(QUEUE, "new")
        clock.advance(600)
    held_up.let_go(errno.EIO)
    sweeps = partial(unwatched_sweeps, client)
    until(lambda: caplog.records and all(s.has_ended for s in sweeps()))
    assert [record.getMessage() for record in caplog.records] == [
        f"housekeeping of queue q: [Errno 5] Input/output error: '{root}/q/work'"
    ]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_does_not_leave_it_to_threads_that_it_has_not(root, held_up):
    (hung,) = died(root, 1)
    clock = RealThreads(time.time())
    client = Broker(root, fs=held_up.fs, clock=clock)
    held_up.parts = (hung.id,)
    client.publish(QUEUE, "new")
    assert held_up.hanging
    clock.advance(1.5)
    child = os.fork()
    if not child:
        held_up.parts = ()
        client.publish(QUEUE, "new")
        os._exit(len(leases(root)))
    assert os.waitpid(child, 0) == (child, 0)


def test_without_threads_it_is_done_by_who_comes(root):
    died(root, 1)
    limited = """
import _thread, resource, sys
from ddmq.cli.main import main
_thread.stack_size(1 << 30)
resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
sys.exit(main())
"""
    words = [sys.executable, "-c", limited, "view", str(root), QUEUE]
    done = subprocess.run(words, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert leases(root) == []


# Administration


@pytest.fixture
def impatient(monkeypatch):
    """Whoever waits says so soon."""
    monkeypatch.setattr(background, "SAY_AFTER", 0.05)


def doing(act, *arguments, **options):
    thread = threading.Thread(target=act, args=arguments, kwargs=options)
    thread.start()
    return thread


def test_who_cleans_waits_and_says_on_what(root, held_up, impatient, caplog):
    hung = died(root, 3)[0]
    client = Broker(root, fs=held_up.fs)
    held_up.parts = (hung.id,)
    client.publish(QUEUE, "new")  # its own housekeeping hangs there already
    cleaning = doing(client.clean, QUEUE)
    until(lambda: caplog.records)
    assert cleaning.is_alive()
    text = caplog.records[0].getMessage()
    assert text.startswith(f"cleaning queue q waits at {hung.filename[:13]}")
    assert "a client may have died with the file open" in text
    held_up.let_go()
    cleaning.join(HANGS)
    assert leases(root) == []
    assert len(caplog.records) == 1


def test_who_creates_does_not_wait_for_a_lock_file_that_can_not_be_opened(
    root, monkeypatch
):
    (root / "lock").write_text(
        '{"host": "n7", "pid": 12, "job": "4711", "since": 1.7e9}'
    )
    let_go, real = threading.Event(), os.open

    def hanging(path, flags, *more, **options):
        if os.path.basename(path) == "lock" and flags & os.O_RDWR:
            let_go.wait(HANGS)
        return real(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", hanging)
    client = Broker(root, lock_timeout=0.2)
    with at_once(), pytest.raises(LockTimeout) as caught:
        client.create_queue("new")
    text = str(caught.value)
    assert text.startswith(f"{root}/lock: this lock file could not be opened within 1 ")
    assert "names process 12 on host n7, job 4711, since 2023-11-1" in text
    assert "a client may have died with the file open" in text
    assert "--lock-timeout" in text
    let_go.set()
    assert client.create_queue("new")


def test_nor_for_what_others_left_half_done(root, held_up):
    (root / "new").mkdir()
    (root / "new" / ".ddmq.yaml.0123").touch()
    held_up.kind, held_up.parts = "unlink", ("/.ddmq.yaml.",)
    with at_once():
        assert Broker(root, fs=held_up.fs).create_queue("new")
    assert len(held_up.hanging) == 1


def test_nor_until_all_is_removed_that_others_deleted(root, monkeypatch):
    (root / ".deleted-0123").mkdir()
    let_go = threading.Event()
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: let_go.wait(HANGS))
    monkeypatch.setattr(roots, "_LEFT_FOR", 0.1)
    with at_once():
        assert Broker(root).create_queue("new")
    let_go.set()


def test_who_changes_settings_that_a_dead_client_had_open_says_so(
    root, held_up, impatient, caplog
):
    client = Broker(root, fs=held_up.fs)
    held_up.parts = ("/.ddmq.yaml.",)
    changing = doing(client.update_settings, QUEUE, priority=5)
    until(lambda: caplog.records)
    assert f"{root}/q/ddmq.yaml can't be replaced yet" in caplog.text
    held_up.let_go()
    changing.join(HANGS)
    assert client.settings(QUEUE).priority == 5
