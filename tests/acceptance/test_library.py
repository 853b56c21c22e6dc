"""A program's own worker: a function for each message, in processes that stay."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import pytest
from acceptance.workers import counts

from ddmq import InvalidArgument
from ddmq.hpc import Worker
from ddmq.storage.whereabouts import STATUSES

pytestmark = pytest.mark.slow

TASKS = """
import json
import os
import signal
import time
from ddmq.hpc import Reject, Release

def work(message, id, output, slot):
    if message == "bad":
        raise ValueError("a bad one")
    if message == "never":
        raise Reject("it never works")
    if message == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    with open(output, "w") as file:
        json.dump([message, slot, os.getpid()], file)

def interrupt(message):
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(0.3)
"""


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    (tmp_path / "acceptance_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield __import__("acceptance_tasks")
    sys.modules.pop("acceptance_tasks", None)


def test_a_function_is_called_for_each_message_in_processes_that_stay(
    broker, root, tasks, tmp_path, capfd
):
    texts = [f"{number}" for number in range(20)]
    broker.publish_many("jobs", [*texts, "bad", "never", "die"], requeue=False)
    worker = Worker(root, "jobs", slots=2, output_dir=tmp_path / "out")
    done = worker.run(tasks.work)
    assert (done.numbers["acked"], done.numbers["failed"], done.stopped) == (20, 3, "")
    found = [json.loads(p.read_text()) for p in (tmp_path / "out").glob("[!.]*")]
    assert sorted(found) == sorted([t, s, p] for t, s, p in found if t in texts)
    assert len(found) == 20
    assert len({process for _, _, process in found}) <= 4  # one died, and two stayed
    assert os.getpid() not in {process for _, _, process in found}
    reasons = {letter.message: letter.reason for letter in broker.dead("jobs")}
    host = os.uname().nodename
    assert reasons == {
        "bad": f"ValueError: a bad one on {host}",
        "never": f"it never works on {host}",
        "die": f"killed by SIGKILL on {host}",
    }
    assert "ValueError: a bad one" in capfd.readouterr().err
    runs = list(broker.log("jobs"))
    assert len(runs) == 23
    assert broker.status("jobs", [runs[0].id])[runs[0].id] in STATUSES
    [seen] = broker.workers("jobs")
    assert (seen.state, seen.acked) == ("ended", 20)


def test_who_is_interrupted_gives_back_what_did_not_end_and_says_so(
    broker, root, tasks
):
    before = signal.getsignal(signal.SIGINT)
    broker.publish_many("jobs", list("abc"))
    done = Worker(root, "jobs", slots=1).run("acceptance_tasks:interrupt")
    assert done.stopped == "it was asked to drain"
    assert done.left == 2
    assert counts(broker) == (2, 0, 0, 0)
    assert signal.getsignal(signal.SIGINT) is before


def test_its_limits_and_its_deadline_are_those_of_a_worker(broker, root, tasks):
    broker.publish_many("jobs", list("abcdef"))
    done = Worker(root, "jobs", slots=1, max_messages=2).run("json:dumps")
    assert (done.numbers["acked"], done.left) == (2, 4)
    with pytest.raises(InvalidArgument, match="time is 5 s, but the last 10 s"):
        Worker(root, "jobs", slots=1, time=5)
    ends = {"deadline": time.time() + 5, "min_remaining": 60}
    done = Worker(root, "jobs", slots=1, **ends).run("json:dumps")
    assert (done.numbers["acked"], done.left) == (0, 4)
    assert done.at_end
