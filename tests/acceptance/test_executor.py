"""An Executor with real workers: here, killed in the middle, and in a job."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from acceptance.workers import until

import ddmq
from ddmq import Broker
from ddmq.hpc import CallFailed, Executor

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("umask")]
TOP = Path(ddmq.__file__).parents[1]
TASKS = """
import os
import signal
import time

def double(x):
    return 2 * x

def traced(x, place):
    with open(os.path.join(place, f"{x}.{os.getpid()}"), "w"):
        pass
    time.sleep(0.01)
    return [x, os.getpid()]

def fails(x):
    raise ValueError(x)

def dies():
    os.kill(os.getpid(), signal.SIGKILL)

def leaves():
    os._exit(0)

def dies_at_first(x, place):
    if x == 150:
        try:
            os.mkdir(os.path.join(place, "died"))
        except FileExistsError:
            return x
        os.kill(os.getpid(), signal.SIGKILL)
    return x

def first_waits_for_second(x, place):
    with open(os.path.join(place, str(x)), "w"):
        pass
    while x == 0 and not os.path.exists(os.path.join(place, "1")):
        time.sleep(0.01)
    return x
"""
#: A program whose own functions are called, by pickles.
PICKLES = """
import sys
from ddmq.hpc import Executor
class Mine(Exception):
    pass
def double(x):
    if x == 3:
        raise Mine({x})
    return {2 * x}
with Executor(sys.argv[1], slots=1, serializer="cloudpickle") as executor:
    print([*executor.map(double, range(3))], executor.submit(lambda: double(4)).result())
    try:
        executor.submit(double, 3).result()
    except Mine as error:
        print(repr(error), "in double" in str(error.__cause__))
"""
#: A process that asks for calls, makes none, and is gone before they are made.
FIRST = """
import os, sys
from ddmq.hpc import Executor
import acceptance_calls as tasks
executor = Executor(sys.argv[1], "run", slots=1)
executor.submit(tasks.double, 1).result()
executor.map(tasks.double, range(2, 30))
os.kill(os.getpid(), 9)
"""
#: A program that does not wait for what it asks for.
LEAVES = """
import os, sys
from ddmq.hpc import Executor
import acceptance_calls as tasks
executor = Executor(sys.argv[1], "run", slots=1)
executor.submit(tasks.double, 1).result()
executor.map(tasks.double, range(2, 30))
if sys.argv[2] == "shutdown":
    executor.shutdown(wait=False)
"""


@pytest.fixture(autouse=True)
def tasks(tmp_path, monkeypatch):
    (tmp_path / "acceptance_calls.py").write_text(TASKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield __import__("acceptance_calls")
    sys.modules.pop("acceptance_calls", None)


def processes_of(executor):
    return executor._workers._process


def test_calls_are_made_by_a_worker_here(broker, root, tasks, capfd, caplog):
    caplog.set_level(logging.INFO, "ddmq")
    with Executor(root, slots=2) as executor:
        one = executor.submit(tasks.double, 4)
        assert list(executor.map(tasks.double, range(100))) == list(range(0, 200, 2))
        assert one.result() == 8
        with pytest.raises(ValueError, match="bad"):
            executor.submit(tasks.fails, "bad").result()
        process = processes_of(executor)
    assert process.returncode is not None
    assert broker.queues() == ["jobs"]
    assert "102 acked" in caplog.text
    assert capfd.readouterr().err == ""


def test_a_function_that_kills_its_process_fails_and_no_other(broker, root, tasks):
    with Executor(root, slots=1) as executor:
        assert executor.submit(tasks.double, 1).result() == 2
        bad = [executor.submit(tasks.dies), executor.submit(tasks.leaves)]
        assert list(executor.map(tasks.double, range(20))) == list(range(0, 40, 2))
        assert isinstance(bad[0].exception(), CallFailed)
        assert "SIGKILL" in str(bad[0].exception())
        assert isinstance(bad[1].exception(), CallFailed)


def test_a_worker_that_is_killed_in_the_middle_leaves_one_result_of_each_call(
    broker, root, tasks, tmp_path
):
    broker.create_queue("killed")
    broker.update_settings("killed", message_timeout=2)
    place = tmp_path / "traces"
    place.mkdir()
    with Executor(root, "killed", slots=2) as executor:
        results = executor.map(tasks.traced, range(300), [str(place)] * 300)
        for number in (20, 100, 200):
            until(lambda number=number: len(os.listdir(place)) > number)
            processes_of(executor).send_signal(signal.SIGKILL)
            before = processes_of(executor)
            until(lambda before=before: processes_of(executor) is not before)
        found = list(results)
    assert [x for x, _ in found] == list(range(300))
    kept = [n for n in os.listdir(executor.results) if not n.startswith(".")]
    assert len(kept) == 300
    assert broker.is_empty("killed")
    assert broker.dead("killed") == []


def test_calls_of_one_message_that_wait_for_a_long_one_go_to_others(
    broker, root, tasks, tmp_path
):
    (tmp_path / "traces").mkdir()
    place = [str(tmp_path / "traces")] * 300
    with Executor(root, slots=2) as executor:
        found = executor.map(tasks.first_waits_for_second, range(300), place)
        assert list(found) == list(range(300))


def test_a_call_that_kills_its_process_has_those_of_its_message_made(
    broker, root, tasks, tmp_path
):
    (tmp_path / "traces").mkdir()
    with Executor(root, "killed", slots=2) as executor:
        place = [str(tmp_path / "traces")] * 1000
        results = executor.map(tasks.dies_at_first, range(1000), place)
        assert list(results) == list(range(1000))
    kept = [n for n in os.listdir(executor.results) if not n.startswith(".")]
    assert len(kept) == 1000
    assert broker.dead("killed") == []


def test_functions_of_the_program_itself_are_called_by_pickles(broker, root, tmp_path):
    pytest.importorskip("cloudpickle", reason="cloudpickle is not installed")
    root.chmod(0o700)
    program = tmp_path / "program.py"
    program.write_text(PICKLES)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TOP), *sys.path])}
    done = subprocess.run(
        [sys.executable, str(program), str(root)],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[{0}, {2}, {4}] {8}\nMine({3}) True\n"


def test_a_worker_for_pickles_does_not_start_where_others_may_write(
    broker, root, tmp_path
):
    pytest.importorskip("cloudpickle", reason="cloudpickle is not installed")
    root.chmod(0o700)
    executor = Executor(root, slots=1, serializer="cloudpickle")
    check = executor._form._enclosure.check
    executor._form._enclosure.check = lambda: root.chmod(0o770)  # at the last moment
    with executor:
        future = executor.submit(len, "")
        executor._form._enclosure.check = check
        assert isinstance(future.exception(), CallFailed)
    assert "mq: it may be written to by others" in str(future.exception())


def test_another_process_finds_what_one_left_that_was_killed(broker, root, tmp_path):
    environ = {**os.environ, "PYTHONPATH": f"{TOP}:{tmp_path}"}
    done = subprocess.run(
        [sys.executable, "-c", FIRST, str(root)], env=environ, check=False
    )
    assert done.returncode == -signal.SIGKILL
    broker.update_settings("run", message_timeout=2)
    allow = ["acceptance_calls"]
    with Executor.attach(root, "run", allow=allow, slots=2) as executor:
        assert [f.result() for f in executor.futures] == list(range(2, 60, 2))
    assert broker.is_empty("run")


@pytest.mark.parametrize("how", ["as it is", "shutdown"])
def test_the_calls_of_a_program_that_ends_are_made(broker, root, tmp_path, how):
    environ = {**os.environ, "PYTHONPATH": f"{TOP}:{tmp_path}"}
    words = [sys.executable, "-c", LEAVES, str(root), how]
    subprocess.run(words, env=environ, check=True)
    assert broker.is_empty("run")
    kept = os.listdir(tmp_path / "ddmq-results" / "run")
    assert len([name for name in kept if not name.startswith(".")]) == 29


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_the_end_comes_though_a_child_of_the_program_lives(broker, root, tasks):
    wait, go = os.pipe()
    with Executor(root, slots=1) as executor:
        assert executor.submit(tasks.double, 1).result() == 2
        child = os.fork()
        if not child:
            os.close(go)
            os.read(wait, 1)  # until the test is over
            os._exit(0)
    os.close(go)
    os.close(wait)
    os.waitpid(child, 0)


def test_calls_are_made_by_workers_in_jobs(broker, root, tasks, tmp_path, monkeypatch):
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    worker = bin_ / "worker"
    main = "import sys; from ddmq.cli.worker import main; sys.exit(main())"
    words = f"env PYTHONPATH={shlex.quote(str(TOP))} {sys.executable} -c '{main}'"
    worker.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    worker.chmod(0o755)
    (bin_ / "sbatch").write_text(
        f"#!/bin/sh\ncat > {tmp_path}/script\nSLURM_JOB_ID=1 SLURM_SUBMIT_DIR={tmp_path} setsid bash {tmp_path}/script "
        f"> {tmp_path}/said 2>&1 < /dev/null &\necho $! > {tmp_path}/job\n"
        "echo Submitted batch job 1\n"
    )
    (bin_ / "sbatch").chmod(0o755)
    (bin_ / "scancel").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/cancelled\n')
    (bin_ / "scancel").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    options = {"workers": 1, "j": 2, "time": "0:10:00", "worker": worker}
    options["poll_max"] = "0.2"
    with Executor(root, "run", slurm=options) as executor:
        assert list(executor.map(tasks.double, range(20))) == list(range(0, 40, 2))
    assert "#SBATCH --time=00:10:00" in (tmp_path / "script").read_text()
    assert (tmp_path / "cancelled").read_text() == "--state=PENDING 1\n"
    assert "run" in Broker(root).queues()
    [seen] = broker.workers("run")
    job = int((tmp_path / "job").read_text())
    for _ in range(3):  # it was asked to drain, which it sees within a minute
        with suppress(AssertionError):
            until(lambda: not Path(f"/proc/{job}").exists())
            break
    assert "asked to drain" in (tmp_path / "said").read_text()
    assert seen.job == "1"
