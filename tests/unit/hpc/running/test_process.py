"""A process and its outcome."""

from __future__ import annotations

import errno
import os
import signal

import pytest

from ddmq.hpc.running.process import Outcome, Process, encoded, share_of_cores


def test_outcomes_are_told_in_words():
    assert str(Outcome(3)) == "exit status 3"
    assert str(Outcome(-9)) == "killed by SIGKILL"
    assert (Outcome(-9).code, Outcome(-99).signal) == (137, "99")


def test_a_process_that_is_gone_gets_no_signal():
    process = Process(["true"], {"PATH": "/usr/bin:/bin"})
    assert process.wait().succeeded
    process.send(signal.SIGTERM)
    assert process.outcome() == process.wait()


def test_one_whose_exit_status_somebody_else_got_did_not_succeed():
    process = Process(["true"], {"PATH": "/usr/bin:/bin"})
    os.waitpid(process.pid, 0)  # as another thread of a program may do
    for outcome in (process.outcome(), process.wait()):
        assert not outcome.succeeded
        assert (outcome.code, outcome.exit, outcome.signal) == (-1, None, None)
        assert "exit status" in str(outcome)


@pytest.mark.parametrize(
    ("coding", "text", "data"),
    [
        ("ascii", "\u65e5", b"\xe6\x97\xa5"),
        ("ascii", "\udcc3\udcbc \xfc", b"\xc3\xbc \xc3\xbc"),
        ("latin-1", "\xfc", b"\xfc"),
        ("latin-1", "\u65e5", b"\xe6\x97\xa5"),
        ("utf-8", "\u65e5\udcff", b"\xe6\x97\xa5\xff"),
    ],
)
def test_what_the_locale_has_no_bytes_for_is_utf_8(monkeypatch, coding, text, data):
    monkeypatch.setattr(os, "fsencode", lambda x: x.encode(coding, "surrogateescape"))
    assert encoded(text) == data


@pytest.mark.parametrize(
    ("cores", "slots", "shares"),
    [
        (range(8), 2, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ((2, 3, 9, 10, 11), 2, [[2, 3], [9, 10, 11]]),
        (range(7), 3, [[0, 1], [2, 3], [4, 5, 6]]),
        ((5, 6), 2, [[5], [6]]),
        ((5, 6), 5, [[5], [6], [5], [6], [5]]),
    ],
)
def test_each_slot_has_its_share_of_the_cores(monkeypatch, cores, slots, shares):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(cores))
    assert [share_of_cores(n + 1, slots) for n in range(slots)] == shares


def test_a_process_is_not_lost_if_its_worker_can_not_have_its_cores_back(monkeypatch):
    before, real, calls = os.sched_getaffinity(0), os.sched_setaffinity, []

    def refused_once(pid, cores):
        calls.append(cores)
        if len(calls) == 2:  # the first one is for the process
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(pid, cores)

    monkeypatch.setattr(os, "sched_setaffinity", refused_once)
    process = Process(["true"], {"PATH": "/usr/bin:/bin"}, cores=[max(before)])
    assert process.wait().succeeded
    assert os.sched_getaffinity(0) >= before


@pytest.mark.parametrize("program", ["true", "/nothing/of/this/name"])
def test_who_starts_a_process_on_some_cores_keeps_his_own(program):
    before = os.sched_getaffinity(0)
    if len(before) == 1:
        pytest.skip("there is one core, so none can be left out")
    environ = {"PATH": "/usr/bin:/bin"}
    try:
        process = Process([program], environ, cores=[max(before)])
    except FileNotFoundError:
        assert program != "true"
    else:
        assert process.wait().succeeded
    assert os.sched_getaffinity(0) == before
