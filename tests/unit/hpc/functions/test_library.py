"""The worker of a program: what it can be told, and what it refuses."""

from __future__ import annotations

import signal
import threading

import pytest

from ddmq import DdmqError, InvalidArgument, QueueNotFound
from ddmq.hpc import Worker
from ddmq.hpc.options import Next, WorkerOptions


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
    told = Worker(
        root, "q", output_dir=tmp_path, on_success="lines:n", term_signal="INT"
    )
    assert told._options.on_success == Next("lines", "n")
    assert (told._options.term_signal, told._options.output_dir) == (2, str(tmp_path))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"slot": 2}, "did you mean slots?"),
        ({"batch": 2}, "batch is no option"),
        ({"stdin": True}, "stdin is no option"),
        ({"slots": 0}, "slots is 0; it must be a positive number"),
        ({"on_success": "queue:q"}, "must be another one"),
        ({"on_success": Next("queue", "q")}, "must be another one"),
        ({"on_success": "lines:n"}, "needs output_dir"),
        ({"on_success": ("queue", "n")}, "it must be queue:NAME or lines:NAME"),
        ({"on_success": "move:n"}, "neither queue:NAME nor"),
        ({"env": {"A": 1}}, "a dict of names and texts"),
        ({"env": "x"}, "a dict of names and texts"),
        ({"on_exit": [3]}, "a dict of exit statuses"),
        ({"log_dir": 5}, "the path of a directory"),
        ({"term_signal": "NONE"}, "is no signal"),
        ({"term_signal": 1000}, "the number of a signal"),
        ({"bind": "x"}, "True or False"),
        ({"output_name": 5, "output_dir": "out"}, "a text with placeholders"),
        ({"time": "1:00:00"}, "time is '1:00:00'; it must be a number of seconds"),
        ({"deadline": "x"}, "deadline is 'x'"),
        ({"min_remaining": "5m"}, "min_remaining is '5m'"),
    ],
)
def test_what_is_no_option_is_refused(broker, root, options, why):
    with pytest.raises(InvalidArgument, match=why.replace("?", r"\?")):
        Worker(root, "q", **options)


def test_the_queue_must_be_there(broker, root):
    with pytest.raises(QueueNotFound):
        Worker(root, "none")


def test_the_signals_of_the_program_are_its_own_again(broker, root):
    numbers = [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2]
    before = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    try:
        Worker(root, "q").run("json:dumps")
        after = [signal.getsignal(number) for number in numbers]
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)
    assert after == [signal.SIG_DFL] * 3


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
