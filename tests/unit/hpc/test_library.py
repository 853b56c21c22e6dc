"""The worker of a program: what it can be told, and what it refuses."""

from __future__ import annotations

import threading

import pytest

from ddmq import DdmqError, InvalidArgument, QueueNotFound
from ddmq.hpc import Worker
from ddmq.hpc.options import WorkerOptions


def test_options_are_those_of_the_worker(broker, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "7")
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    told = Worker(root, "q", timeout=5, output_dir="out")._options
    assert told == WorkerOptions(
        slots=7,
        persistent=True,
        timeout=5,
        output_dir=f"{tmp_path}/out",
        spool="/var/tmp",
    )
    assert Worker(root, "q", slots=2)._options.slots == 2


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"slot": 2}, "did you mean slots?"),
        ({"batch": 2}, "batch is no option"),
        ({"stdin": True}, "stdin is no option"),
        ({"slots": 0}, "slots is 0; it must be a positive number"),
    ],
)
def test_what_is_no_option_is_refused(broker, root, options, why):
    with pytest.raises(InvalidArgument, match=why.replace("?", r"\?")):
        Worker(root, "q", **options)


def test_the_queue_must_be_there(broker, root):
    with pytest.raises(QueueNotFound):
        Worker(root, "none")


def test_it_runs_in_the_main_thread_only(broker, root):
    errors = []

    def run():
        try:
            Worker(root, "q").run("json:dumps")
        except DdmqError as error:
            errors.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "main thread" in errors[0]


def test_the_function_is_sought_before_anything_is_taken(broker, root):
    broker.publish("q", "a")
    with pytest.raises(InvalidArgument, match="no such function"):
        Worker(root, "q").run("json:none")
    with pytest.raises(InvalidArgument, match="at the top of a module"):
        Worker(root, "q").run(lambda message: None)
    assert broker.view("q")["q"].waiting == 1
