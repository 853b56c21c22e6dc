"""Signals that ask for a drain, and commands that they may have ended."""

from __future__ import annotations

import os
import signal
import subprocess

from support import FakeClock, in_time

from ddmq.hpc.signals import Notice, Signals, Suspects


def test_the_same_signal_later_means_haste():
    clock = FakeClock()
    with Signals(clock) as signals:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGUSR1)
            signals.wait(0, {})
        assert (signals.drain_requested, signals.haste_requested) == (True, False)
        assert signals.notice == Notice("SIGUSR1", clock.own_ns() / 1e9)
        clock.advance(6)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.haste_requested


def test_what_announces_the_end_does_not_kill_who_has_drained():
    numbers = [signal.SIGUSR1, signal.SIGUSR2]
    before = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    try:
        with Signals(FakeClock()):
            pass
        found = [signal.getsignal(number) for number in numbers]
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)
    assert found == [signal.SIG_IGN] * 2
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


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
