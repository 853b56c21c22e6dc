"""What the tests of reports get: runs, and a gatherer."""

from __future__ import annotations

import pytest

from ddmq.hpc.journal import Run
from ddmq.hpc.report.gather import Gatherer
from ddmq.hpc.report.sections import Source
from ddmq.seen import Seen, WorkerSeen

RUN = Run("a", 1000.0, 10.0, "acked", 0, None, "n1", "7", 1, 2048, 8.0, "", text="x")


@pytest.fixture
def run():
    """Return a function that makes a run: on n1, from 1000 to 1010."""
    return lambda **values: RUN._replace(**values)


@pytest.fixture
def letter():
    """Return a function that makes a dead letter, given its id and note."""

    def made(id_, reason="exit status 2 on n1", text="x", **note):
        note = {"exit": 2, "signal": None, "host": "n1", "stderr": "", **note}
        return Seen(text, id_, "jobs", "dead", 5, 1, 0, reason=reason, note=note)

    return made


@pytest.fixture
def seen():
    """Return a function that makes what a worker told of itself: on n1, from 990 to 1050."""

    def made(**values):
        worker = WorkerSeen(
            host="n1",
            process=4711,
            job="7",
            state="ended",
            slots=4,
            busy=0,
            acked=1,
            failed=0,
            released=0,
            moved=0,
            work=1.0,
            peak_kib=1,
            started=990.0,
            seen=1050.0,
            age=0.0,
        )
        return worker._replace(**values)

    return made


@pytest.fixture
def gathered():
    """Return a function that gathers runs of one worker, dead letters and workers."""

    def made(runs, letters=(), workers=(), since=float("-inf")):
        gatherer = Gatherer(since)
        for each in letters:
            gatherer.add_letter("jobs", each)
        gatherer.add_runs("jobs", f"n1-4711-{7:016x}.1.jsonl", runs)
        gatherer.add_workers("jobs", workers)
        return gatherer.gathered()

    return made


@pytest.fixture
def source():
    return Source("/scratch/mq", ("jobs",), None, 2000.0, {})
