"""The simulation of thousands of workers, `benchmarks/simulate.py`: its file system and its runs."""

from __future__ import annotations

import errno
import os
import random
import stat
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMES = ("a", "b", "c", "d", "e", "d/a", "d/b", "d/e", "e/a", "d/e/a")
STEPS = 300
#: Seconds after which a client asks for everything again.
OLD = 200


@pytest.fixture
def clients(tmp_path, monkeypatch):
    """The system calls on two nodes of a simulated server, whose root is empty."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from virtual_nfs import Calls, Node, Server, Service
    from virtual_time import Simulation, VirtualClock

    simulation = Simulation()
    server = Server(
        simulation,
        VirtualClock(simulation),
        Service(threads=2, look=1e-4, change=1e-4),
        version="4.2",
        random=random.Random(1),
    )
    return simulation, [Calls(Node(server), tmp_path, 0) for _ in range(2)]


def status(calls, path, _):
    found = calls.lstat(path)
    kind = stat.S_IFMT(found.st_mode)
    return (kind, found.st_size, found.st_nlink) if stat.S_ISREG(kind) else kind


def write(calls, path, _, flags=os.O_TRUNC):
    descriptor = calls.open(
        path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | flags, 0o644
    )
    calls.write(descriptor, path.encode())
    calls.close(descriptor)


def read(calls, path, _):
    descriptor = calls.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        return calls.read(descriptor, 1000)
    finally:
        calls.close(descriptor)


def listing(calls, path, _):
    descriptor = calls.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        return sorted(calls.listdir(descriptor))
    finally:
        calls.close(descriptor)


OPERATIONS = (
    *(status, write, read, listing),
    lambda calls, path, _: write(calls, path, _, os.O_EXCL),
    lambda calls, path, _: calls.mkdir(path),
    lambda calls, path, _: calls.mknod(path, stat.S_IFREG | 0o644),
    lambda calls, path, _: calls.symlink("nowhere", path),
    lambda calls, path, _: calls.readlink(path),
    lambda calls, path, _: calls.unlink(path),
    lambda calls, path, _: calls.rmdir(path),
    lambda calls, path, to: calls.link(path, to, follow_symlinks=False),
    lambda calls, path, to: calls.rename(path, to),
    lambda calls, path, to: calls.rename(path, to),
)


def outcome(operate, calls, path, to):
    """Return what an operation returns, or the name of its error."""
    try:
        return operate(calls, path, to)
    except OSError as error:
        return errno.errorcode[error.errno]


@pytest.mark.parametrize("seed", range(12))
def test_the_simulated_file_system_answers_as_a_real_one(clients, tmp_path, seed):
    simulation, nodes = clients
    chance = random.Random(seed)
    for _ in range(STEPS):
        simulation.sleep(OLD)
        operate = chance.choice(OPERATIONS)
        path, to = (f"{tmp_path}/{chance.choice(NAMES)}" for _ in range(2))
        real = outcome(operate, os, path, to)
        assert outcome(operate, chance.choice(nodes), path, to) == real


def test_a_node_believes_that_a_name_is_missing_until_it_lists_the_directory(
    clients, tmp_path
):
    _, (one, other) = clients
    one.mkdir(f"{tmp_path}/d")
    path = f"{tmp_path}/d/late"
    assert outcome(status, other, path, None) == "ENOENT"
    write(one, path, None)
    assert outcome(status, other, path, None) == "ENOENT"
    assert listing(other, f"{tmp_path}/d", None) == ["late"]
    assert outcome(status, other, path, None) == outcome(status, one, path, None)


def simulate(*words):
    """Run the benchmark; return its status, and what it printed without its first line."""
    command = [sys.executable, str(BENCHMARKS / "simulate.py"), *words]
    environ = {**os.environ, "PYTHONPATH": str(BENCHMARKS.parent)}
    ended = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True)
    return ended.returncode, ended.stdout


def test_competing_workers_take_each_message_once_and_a_run_can_be_repeated():
    words = ("--slots", "60", "--each", "4", "--length", "0.5", "--spread", "0.9")
    status_, printed = simulate(*words)
    assert status_ == 0
    assert "180 acked, 0 run twice" in printed
    assert simulate(*words) == (0, printed)
