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

# A script's background commands ignore SIGINT and SIGQUIT, `nohup` ignores SIGHUP; tests inherit that.
for number in (signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Skip what needs root where an ordinary user runs the tests."""
    if os.geteuid() == 0:
        return
    for item in items:
        marker = item.get_closest_marker("root")
        if marker is not None:
            item.add_marker(pytest.mark.skip(f"needs root, to {marker.args[0]}"))


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


@pytest.fixture
def mounted():
    """Return a function that mounts a tmpfs on a directory, with options such as `size=1m`.

    Only root may mount: tests that use it are marked `root`.
    """
    done = []

    def mount(path, options):
        path.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "ddmq", str(path)]
        subprocess.run(command, check=True)
        done.append(path)
        return path

    yield mount
    for path in done:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture(scope="session")
def pyz(tmp_path_factory):
    """Build ddmq.pyz, and return where it is; it needs pip, and a package index in reach."""
    path = tmp_path_factory.mktemp("pyz") / "ddmq.pyz"
    build = [sys.executable, str(BUILD), str(path)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no ddmq.pyz here: {done.stderr.strip()[-200:]}")
    return path
