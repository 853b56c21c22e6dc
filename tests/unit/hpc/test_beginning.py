"""A worker that starts while the file server stands still waits for it."""

from __future__ import annotations

import errno
import os

import pytest
from hpc.inside import Hurried

from ddmq.errors import DdmqError, QueueNotFound, StorageError
from ddmq.hpc.beginning import TooLate, once_it_answers
from ddmq.hpc.limits import Deadline

FAR = Deadline(None)


def refused(code):
    return StorageError(OSError(code, os.strerror(code), "/mq"))


def explained(code):
    error = DdmqError("--output-dir out can't be used")
    error.__cause__ = OSError(code, os.strerror(code), "out")
    return error


@pytest.fixture
def begin(clock):
    """Return a function that tries something which answers one after the other."""
    with Hurried(clock, pace=10) as signals:

        def begin(*answers, deadline=FAR, grace=10.0, step=lambda: None):
            left = list(answers)

            def act():
                answer = left.pop(0) if len(left) > 1 else left[0]
                if isinstance(answer, Exception):
                    raise answer
                return answer

            signals.step = step
            return once_it_answers(
                act, lambda: signals, deadline=deadline, grace=grace, clock=clock
            )

        begin.signals = signals
        yield begin


@pytest.mark.parametrize("code", [errno.EIO, errno.ETIMEDOUT, errno.ESTALE])
@pytest.mark.parametrize("made", [refused, explained])
def test_it_waits_and_says_so_once(begin, clock, caplog, code, made):
    before = clock.monotonic()
    assert begin(*[made(code)] * 8, "done") == "done"
    assert 120 < clock.monotonic() - before < 300
    first, last = caplog.messages
    assert first.startswith(
        "nothing was started yet, tried again until the file server"
    )
    assert last == "the file server answers again"


@pytest.mark.parametrize(
    "error",
    [
        QueueNotFound("no such queue"),
        refused(errno.EACCES),
        refused(errno.ENOENT),
        refused(errno.ENOSPC),
        explained(errno.ENOTDIR),
    ],
)
@pytest.mark.parametrize("before", [[], [refused(errno.EIO)]])
def test_what_waiting_does_not_mend_ends_it_at_once(begin, clock, error, before):
    began = clock.monotonic()
    with pytest.raises(type(error)) as raised:
        begin(*before, error)
    assert raised.value is error
    assert clock.monotonic() - began < 2


def test_where_it_answers_no_signal_is_taken(clock):
    taken = []
    end = {"deadline": FAR, "grace": 10.0, "clock": clock}
    assert once_it_answers(lambda: "done", taken.append, **end) == "done"
    assert taken == []


def test_a_signal_ends_it(begin):
    def step():
        begin.signals.drain_requested = True

    with pytest.raises(TooLate, match="asked to drain"):
        begin(refused(errno.EIO), step=step)


def test_the_end_of_the_job_ends_it_as_early_as_it_would_end_commands(begin, clock):
    ends = clock.monotonic() + 100
    with pytest.raises(TooLate, match="its time is over"):
        begin(refused(errno.EIO), deadline=Deadline(ends))
    assert clock.monotonic() == pytest.approx(ends - 10, abs=0.1)
