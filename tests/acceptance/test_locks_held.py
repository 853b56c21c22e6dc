"""Every lock held by a real process that never lets go: messages flow, administration explains."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import pytest

from ddmq import Broker, LockTimeout
from ddmq.cli import main as cli

QUEUE = "q"
#: Holds the locks that it is given until it is killed; says when it has them.
HOLDER = """
import contextlib, os, sys, time
from ddmq.storage.locks import exclusive
with contextlib.ExitStack() as stack:
    for path in sys.argv[1:]:
        stack.enter_context(exclusive(path, 0))
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def held(*paths):
    """Let a process of another job hold locks; it is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, *map(str, paths)],
        stdout=subprocess.PIPE,
        env={**os.environ, "SLURM_JOB_ID": "4711"},
    )
    try:
        assert process.stdout.readline() == b"held\n"
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


@pytest.fixture
def lab(tmp_path):
    """A queue with a message at work whose lease is over soon."""
    broker = Broker(tmp_path / "mq", create=True)
    broker.create_queue(QUEUE)
    broker.update_settings(QUEUE, message_timeout=1, durable=False)
    return broker


@pytest.fixture
def locked(lab):
    with held(f"{lab.root}/lock", f"{lab.root}/{QUEUE}/lock") as process:
        yield process


def waited(broker):
    """Consume until there is something: an expired message is requeued."""
    deadline = time.monotonic() + 20
    while not (messages := broker.consume(QUEUE)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return messages[0]


def test_messages_flow_while_every_lock_is_held(lab, locked):
    lab.publish(QUEUE, "first")
    lab.publish(QUEUE, "second")
    (first,) = lab.consume(QUEUE)
    lab.ack(first)
    (second,) = lab.consume(QUEUE)
    lab.nack(second)
    assert waited(lab).message == "second"  # and not acked: its lease expires
    again = waited(lab)
    assert (again.message, again.failures, again.losses) == ("second", 1, 1)
    lab.ack(again)
    assert tuple(lab.view()[QUEUE]) == (0, 0, 0, 0)


def test_who_waits_for_a_lock_that_is_held_is_told_everything(lab, locked, capsys):
    for command in (
        ("create", lab.root, "new"),
        ("delete", lab.root, QUEUE),
        ("purge", lab.root, QUEUE),
        ("config", lab.root, QUEUE, "--set", "priority=5"),
        ("config", lab.root, "--set", "priority=5"),
    ):
        start = time.monotonic()
        status = cli.main([*map(str, command), "--lock-timeout", "0.2"])
        error = capsys.readouterr().err
        assert (status, error.count("\n")) == (1, 1), command
        assert time.monotonic() - start < 5
        assert f"held by process {locked.pid} on host {os.uname().nodename}" in error
        assert "job 4711, since 2" in error
        assert "wait longer with --lock-timeout" in error
        assert f"`fuser -v {lab.root}/" in error
    assert lab.queues() == [QUEUE]
    assert lab.settings(QUEUE).priority == 999


def test_a_new_root_is_waited_for_only_so_long(tmp_path, capsys):
    (tmp_path / "new").mkdir()
    with held(tmp_path / "new" / "lock"):
        command = ["create", "-f", str(tmp_path / "new"), "--lock-timeout", "0.1"]
        assert cli.main(command) == 1
    assert "within 0.1 seconds" in capsys.readouterr().err


def test_programs_can_say_how_long_to_wait(lab, locked):
    request = {"cmd": "purge", "root": lab.root, "queue": [QUEUE], "lock_timeout": 0}
    assert cli.main(["json", json.dumps(request)]) == 1
    with pytest.raises(LockTimeout, match="within 0 seconds"):
        Broker(lab.root, lock_timeout=0).purge(QUEUE)


def test_whoever_waits_does_not_wipe_out_the_holders_name(lab, locked):
    for _ in range(2):
        with pytest.raises(LockTimeout, match=f"process {locked.pid} "):
            Broker(lab.root, lock_timeout=0.1).purge(QUEUE)


def test_the_name_of_a_holder_that_was_killed_is_only_the_last_known_one(lab):
    lock = f"{lab.root}/{QUEUE}/lock"
    with held(lock) as process:
        pass
    hold = "import fcntl, sys, time; f = open(sys.argv[1]); fcntl.flock(f, 2); print(); sys.stdout.flush(); time.sleep(600)"
    with ExitStack() as stack:
        other = stack.enter_context(
            subprocess.Popen([sys.executable, "-c", hold, lock], stdout=subprocess.PIPE)
        )
        stack.callback(other.kill)
        other.stdout.readline()
        with pytest.raises(LockTimeout) as caught:
            Broker(lab.root, lock_timeout=0.1).purge(QUEUE)
    assert f"its last known holder, process {process.pid} " in str(caught.value)
    assert "has ended" in str(caught.value)


def test_a_crash_of_the_holder_frees_the_lock_and_the_next_one_signs(lab):
    lock = f"{lab.root}/{QUEUE}/lock"
    with held(lock):
        pass
    with held(lock) as process, open(lock, "rb") as file:
        assert json.loads(file.read())["pid"] == process.pid
    lab.purge(QUEUE)
    with open(lock, "rb") as file:
        assert file.read() == b""
