"""Signals that ask for a drain, and commands that they may have ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from support import FakeClock, in_time

from ddmq.hpc.signals import ANNOUNCE, DRAIN, Notice, Signals, Suspects


def test_the_same_signal_later_means_haste():
    clock = FakeClock()
    with Signals(clock) as signals:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGUSR1)
            signals.wait(0, {})
        assert (signals.drain_requested, signals.haste_requested) == (True, False)
        assert signals.notice == Notice("SIGUSR1", clock.monotonic())
        clock.advance(6)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.haste_requested


#: Prints whether SIGUSR1, SIGUSR2 and SIGTERM are ignored in a child.
_CHILD = "import signal; print(*(int(signal.getsignal(n)) for n in (10, 12, 15)))"


@pytest.mark.parametrize("until_exit", [False, True])
@pytest.mark.parametrize("drained", [False, True])
def test_signals_do_not_kill_a_process_that_ends_with_its_worker(drained, until_exit):
    before = {number: signal.getsignal(number) for number in DRAIN}
    try:
        with Signals(FakeClock(), until_exit=until_exit) as signals:
            if drained:
                os.kill(os.getpid(), signal.SIGTERM)
                signals.wait(0, {})
        stay = [n for n in DRAIN if signal.getsignal(n) != before[n]]
        for number in stay:
            os.kill(os.getpid(), number)
        child = subprocess.check_output([sys.executable, "-c", _CHILD], text=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert stay == ([] if not until_exit else list(DRAIN if drained else ANNOUNCE))
    assert child.split() == ["0", "0", "0"]  # as they are by default


def test_what_can_be_read_is_read():
    read, write = os.pipe()
    got = []
    with Signals(FakeClock()) as signals:
        os.write(write, b"x")
        signals.wait(10, {read: lambda: got.append(os.read(read, 9))})
    os.close(read)
    os.close(write)
    assert got == [b"x"]


def test_who_waits_is_woken_up_when_a_child_ends():
    with Signals(FakeClock()) as signals, in_time(20):
        child = subprocess.Popen(["true"])
        signals.wait(1000, {})
        child.wait()


# Commands that a signal may have ended


def test_what_a_signal_ended_is_held_for_half_a_second(clock, ended):
    suspects, signalled, failed = Suspects(clock), ended("exit 143"), ended("exit 1")
    assert suspects.cleared([failed]) == [failed]
    assert suspects.cleared([signalled]) == []
    clock.advance(0.4)
    assert suspects.cleared([failed, ended("exit 0")])[0].outcome.succeeded
    assert suspects.held == [signalled, failed]
    clock.advance(0.4)
    assert suspects.cleared([]) == []
    clock.advance(0.2)
    assert suspects.due_in() == 0
    assert suspects.cleared([]) == [signalled, failed]
    assert suspects.held == []


def test_what_is_taken_is_held_no_more(clock, ended):
    suspects, signalled = Suspects(clock), ended("exit 143")
    suspects.cleared([signalled])
    assert suspects.take() == [signalled]
    assert suspects.take() == []
