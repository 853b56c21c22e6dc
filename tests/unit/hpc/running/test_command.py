"""What runs for a message."""

from __future__ import annotations

import errno
import os
import signal

import pytest

from ddmq.hpc import options
from ddmq.hpc.running.command import Invocation, Surroundings, fitting
from ddmq.hpc.running.execution import CommandNotFound, Execution, Unfit
from ddmq.hpc.running.stream import Output


def start(message, words, given, clock, environ=None):
    outputs = Output(1), Output(2)
    surroundings = Surroundings(words, given, environ or {}, clock, outputs)
    return Invocation([Execution(message, 1, given)], surroundings)


def test_what_is_not_ours_to_signal_is_killed_again_and_again(
    root, broker, clock, monkeypatch
):
    broker.publish("q", "1")
    [message] = broker.consume("q")
    sent = []

    def refuse(pid, number):
        sent.append(number)
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    given = options.WorkerOptions(timeout=5, grace=2)
    environ = {"PATH": "/usr/bin:/bin"}
    run = start(message, ["sleep", "100"], given, clock, environ)
    with monkeypatch.context() as patched:
        patched.setattr(os, "killpg", refuse)
        patched.setattr("ddmq.hpc.running.process.kill_marked", lambda *_: None)
        for pause in (5, 2, 1, 1):
            assert run.due_in() == pause
            run.watch()  # nothing yet
            clock.advance(pause)
            run.watch()
    assert sent == [signal.SIGTERM] + [signal.SIGKILL] * 3
    assert run.timed_out
    run.kill()
    os.waitid(os.P_PID, run._process.pid, os.WEXITED | os.WNOWAIT)
    assert str(run.outcome()) == "killed by SIGKILL"
    run.close(save=False)


def test_what_we_ended_ourselves_is_no_riddle(ended):
    run = ended("kill -TERM $$")
    assert (run.was_signalled, run.is_certain, run.went_well) == (True, False, False)
    run.execution.command.timed_out = True
    assert (run.was_signalled, run.is_certain, run.went_well) == (False, True, False)
    assert not ended("exit 3").was_signalled
    assert ended("exit 0").went_well


@pytest.mark.parametrize(
    ("text", "why"), [("a\0b", "holds a NUL"), ("x" * 200_000, "can be no argument")]
)
def test_a_text_that_can_be_no_argument_is_unfit(broker, clock, text, why):
    broker.publish("q", text)
    [message] = broker.consume("q")
    given, before = options.WorkerOptions(), os.listdir("/proc/self/fd")
    with pytest.raises(Unfit, match=why):
        start(message, ["true"], given, clock)
    assert os.listdir("/proc/self/fd") == before


def test_a_command_that_is_missing_is_no_messages_fault(broker, clock):
    broker.publish("q", "a")
    [message] = broker.consume("q")
    given = options.WorkerOptions()
    with pytest.raises(CommandNotFound, match="no-such-program: No such file"):
        start(message, ["no-such-program"], given, clock)


@pytest.mark.parametrize(
    ("script", "mode", "why"),
    [
        ("#!/bin/sh\r\n", 0o755, r"interpreter that is not there \(CRLF line ends\?\)"),
        ("#!/bin/sh\n", 0o644, r"Permission denied \(chmod \+x .*/run.sh\?\)"),
        ("exit 0\n", 0o755, "does it begin with #!"),
    ],
)
def test_what_may_be_the_matter_with_a_program_is_told(
    broker, clock, tmp_path, script, mode, why
):
    (tmp_path / "run.sh").write_text(script)
    (tmp_path / "run.sh").chmod(mode)
    broker.publish("q", "a")
    [message] = broker.consume("q")
    with pytest.raises(CommandNotFound, match=why):
        start(message, [f"{tmp_path}/run.sh"], options.WorkerOptions(), clock)
    broker.publish("q", f"{tmp_path}/run.sh")
    [message] = broker.consume("q")
    with pytest.raises(Unfit, match=f"it names the program {tmp_path}/run.sh: .*{why}"):
        start(message, ["{}"], options.WorkerOptions(), clock)


def test_a_slot_in_the_name_of_a_program_is_no_messages_fault(broker, clock):
    broker.publish("q", "a")
    [message] = broker.consume("q")
    with pytest.raises(CommandNotFound, match=r"no-such-\{slot\}: No such file"):
        start(message, ["no-such-{slot}"], options.WorkerOptions(), clock)


def test_what_a_command_said_last_is_known_as_soon_as_it_has_ended(ended):
    assert ended("echo why >&2; exit 1").execution.tail() == "why"


def test_a_path_whose_bytes_are_no_text_fits_into_a_variable():
    path = os.fsdecode(b"/results/\xff")
    too_long = path + "x" * (128 << 10)
    given = {"output": path, "nul": "a\0b", "long": too_long}
    assert fitting(given) == {"output": path}
