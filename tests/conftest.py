"""What every test gets: no home directory, and a queue whose clock can be turned."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from protocol.scenes import new_world
from support import Calls, FakeClock

from ddmq import Broker
from ddmq.clock import Clock
from ddmq.storage import locks
from ddmq.storage.background import BackgroundCall
from ddmq.storage.filesystem import FileSystem, Status

settings.register_profile("ddmq", deadline=None)
settings.load_profile("ddmq")
BUILD = Path(__file__).parents[1] / "packaging" / "pyz" / "build.py"

# What runs in the background of a script ignores these, and so would all that tests start.
if signal.getsignal(signal.SIGQUIT) == signal.SIG_IGN:
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_home(tmp_path_factory, monkeypatch):
    """Send whoever looks for a home directory to one that does not exist."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.getbasetemp() / "nobody's-home"))


@pytest.fixture(autouse=True)
def _only_the_time_that_can_be_set(request, monkeypatch):
    """Let a file be as old as a test says: as where a file system keeps no change time.

    A test that is marked `real_times` has both times, as the kernel keeps them.
    """
    if "real_times" not in request.keywords:
        real = Status.of.__func__

        def of(cls, found):
            status = real(cls, found)
            return status._replace(changed_ns=status.modified_ns)

        monkeypatch.setattr(Status, "of", classmethod(of))


class _AtOnce(Clock):
    """A clock by which nobody waits for a thread."""

    def begin(self, act):
        return BackgroundCall(act, in_thread=False)


@pytest.fixture(autouse=True)
def _no_thread_for_a_lock(request, monkeypatch):
    """Spare the tests that are marked `deep` a thread for each of their many thousand locks."""
    if "deep" in request.keywords:
        monkeypatch.setattr(locks, "Clock", _AtOnce)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "mq"


@pytest.fixture
def broker(root, clock):
    """A client of a new root whose queue `q` exists."""
    Broker(root, create=True).create_queue("q")
    return Broker(root, clock=clock)


@pytest.fixture
def world(tmp_path):
    """A queue as the tests of the protocol see it: its clock, its files and its clients."""
    return new_world(tmp_path / "root")


@pytest.fixture
def aged(clock):
    """Return a function that makes a file so old, in seconds, by the fake clock."""

    def age(path, seconds):
        then = clock.time_ns() - int(seconds * 1e9)
        os.utime(path, ns=(then, then), follow_symlinks=False)
        return path

    return age


@pytest.fixture
def umask():
    """Return a function that sets the umask until the test ends."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.fixture
def refusing():
    """Return a function that makes a file system where one kind of call fails.

    Calls named `name` fail with `code` where their first argument contains `where`, at
    most `times` times; they are done before they fail where `done` is set.
    """

    def make(name, code, where="", *, times=10**9, done=False):
        left = [times]

        def call(_, made, function, arguments):
            if made != name or where not in str(arguments[0]) or not left[0]:
                return function(*arguments)
            left[0] -= 1
            if done:
                function(*arguments)
            named = arguments[:1] if isinstance(arguments[0], str) else ()
            raise OSError(code, os.strerror(code), *named)

        return FileSystem(Calls(call))

    return make


@pytest.fixture(scope="session")
def pyz(tmp_path_factory):
    """Build ddmq.pyz, and return where it is; it needs pip, and a package index in reach."""
    path = tmp_path_factory.mktemp("pyz") / "ddmq.pyz"
    build = [sys.executable, str(BUILD), str(path)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no ddmq.pyz here: {done.stderr.strip()[-200:]}")
    return path
