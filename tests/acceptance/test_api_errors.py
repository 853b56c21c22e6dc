"""An expected error of the Python API is the line of its caller, and one sentence."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import ddmq
from ddmq import Broker, InvalidArgument, StorageError

TOP = Path(ddmq.__file__).parents[1]
PROGRAM = """
import sys
from ddmq import Broker
from ddmq.hpc import Executor
root, missing = sys.argv[1:]

def users_line():
    {line}

users_line()
"""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Broker(missing)", "RootNotFound: {missing}: no ddmq root; create it with "),
        ("Broker('\\0')", "InvalidArgument: root '\\x00' is not the path of a dir"),
        ("Broker(root, mode='x')", "InvalidArgument: "),
        ("Broker(root).publish('none', 1)", "QueueNotFound: {root}/none: no such que"),
        ("Broker(root).publish('q', object())", "InvalidArgument: "),
        ("Broker(root).publish('q', 1, delay=-1)", "InvalidArgument: "),
        ("Broker(root).update_settings('q', priority='x')", "InvalidSettings: "),
        ("Broker(root).view('none')", "QueueNotFound: "),
        ("Broker(root).workers('none')", "QueueNotFound: "),
        ("Broker(root).drain('q', host='a', job='b')", "InvalidArgument: "),
        ("Broker(root).redrive('q', ['f' * 20])", "MessageNotFound: "),
        ("Broker(root).leased('q', 'f' * 20)", "LeaseLost: "),
        ("list(Broker(root).contents('none'))", "QueueNotFound: "),
        ("list(Broker(root).contents('broken'))", "StorageError: "),
        ("list(Broker(root).log('none'))", "QueueNotFound: "),
        ("list(Broker(root).iter('none'))", "QueueNotFound: "),
        ("Broker(root).consume_one('none').__enter__()", "QueueNotFound: "),
        ("Broker(root).publish_many('q', [object()])", "InvalidArgument: "),
        ("Broker(root).consume('q', n=0)", "InvalidArgument: "),
        ("Broker(root).status('broken', 'f' * 20)", "StorageError: "),
        ("Executor(missing)", "RootNotFound: {missing}: no ddmq root; create it with "),
        ("Executor(root, slots=0)", "InvalidArgument: slots is 0"),
        ("Executor(root, serializer='x')", "InvalidArgument: "),
        (
            "Executor(root, 'run', shared=True, results='/proc/none')",
            "StorageError: /proc",
        ),
        ("Executor.attach(root, 'none')", "QueueNotFound: "),
        ("Executor(root, 'run', shared=True).submit(lambda: 1)", "InvalidArgument: "),
        ("Executor(root, 'run', shared=True).map(lambda: 1, [1])", "InvalidArgument: "),
    ],
)
def test_it_is_short(tmp_path, line, said):
    root, missing = tmp_path / "mq", tmp_path / "missing"
    for queue in ("q", "broken"):
        Broker(root, create=True).create_queue(queue)
    (root / "broken" / "work").rmdir()
    (root / "broken" / "work").touch()
    program = PROGRAM.format(line=line)
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py", str(root), str(missing)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TOP)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 1
    assert done.stderr.count("Traceback (most recent call last)") == 1, done.stderr
    assert f"    {line}" in lines
    frames = [x for x in lines if x.startswith('  File "') and "/ddmq/" in x]
    most = 2 if ".iter" in line or "consume_one" in line else 1
    assert len(frames) <= most, done.stderr
    assert lines[-1].startswith(
        "ddmq.errors." + said.format(root=root, missing=missing)
    )


def test_a_root_is_missed_with_what_every_caller_in_python_can_type(tmp_path):
    from ddmq.hpc import Executor

    for make in (Broker, Executor):
        with pytest.raises(ddmq.RootNotFound) as raised:
            make(tmp_path / "missing")
        assert str(raised.value).endswith(", or by Broker(root, create=True)")


def test_the_cause_is_kept_for_who_asks(tmp_path):
    broker = Broker(tmp_path, create=True)
    broker.create_queue("q")
    (tmp_path / "q" / "work").rmdir()
    (tmp_path / "q" / "work").touch()
    with pytest.raises(StorageError) as raised:
        broker.status("q", "f" * 20)
    error = raised.value
    assert isinstance(error.cause, OSError)
    assert error.__cause__ is None
    assert error.cause.__traceback__ is not None
    with pytest.raises(InvalidArgument) as wrong:
        Broker("\0")
    assert wrong.value.cause is None
    assert wrong.value.traces  # where it came from


def test_an_error_can_be_sent_to_another_process(tmp_path):
    with pytest.raises(InvalidArgument) as raised:
        Broker(tmp_path, create=True).publish("no/name", "x")
    again = pickle.loads(pickle.dumps(raised.value))
    assert str(again) == str(raised.value)
    assert (again.cause, again.traces) == (None, ())


def test_debug_output_still_shows_where_an_error_came_from(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "ddmq", "-d", "view", tmp_path / "missing"],
        env={**os.environ, "PYTHONPATH": str(TOP)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "FileNotFoundError: " in done.stderr
    assert "in _open_root" in done.stderr
