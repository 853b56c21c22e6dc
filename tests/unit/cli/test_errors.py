"""The error boundary: one line and a status for each error."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ddmq import Broker, DdmqError, InvalidArgument
from ddmq.cli import errors


def test_a_reader_that_has_seen_enough_causes_no_traceback(root):
    broker = Broker(root)
    broker.publish_many("testmq", ["x" * 1000] * 200, durable=False)
    words = ["consume", str(root), "testmq", "-n", "200"]
    code = f"import sys; from ddmq.cli.main import main; sys.exit(main({words!r}))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""


def test_an_interrupted_command_ends_with_status_130(sh, root, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Broker, "wait", interrupted)
    assert sh("wait", root, "testmq")[0] == 130


def test_debug_shows_where_an_error_came_from(sh, root):
    status, out, err = sh("publish", "-d", root, "nothing", "x\x1b")
    assert (status, out) == (1, "")
    assert err.count("no such queue") == 2
    assert "Traceback (most recent call last)" in err
    assert 'broker.py", line' in err


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (DdmqError("a\nb\x1b"), 1, "prog: a b\\x1b\n"),
        (InvalidArgument("n is 0"), 2, "prog: n is 0\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_each_error_has_its_status_and_at_most_one_line(capsys, error, status, told):
    def fails():
        raise error

    assert errors.guarded("prog", fails) == status
    assert capsys.readouterr() == ("", told)


def test_what_nobody_foresaw_is_shown_as_python_does():
    def fails():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        errors.guarded("prog", fails)


def test_without_standard_output_nothing_is_done(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit, match="prog: standard output is closed"):
        errors.guarded("prog", pytest.fail)


def test_without_standard_error_the_status_tells(monkeypatch):
    def fails():
        raise DdmqError("nobody reads this")

    monkeypatch.setattr(sys, "stderr", None)
    assert errors.guarded("prog", fails) == 1


def test_system_calls_are_counted_most_first():
    assert (
        errors.counted({"open": 1, "read": 3}) == "4 file-system calls: read 3, open 1"
    )
    assert errors.counted({}) == "0 file-system calls: none"
