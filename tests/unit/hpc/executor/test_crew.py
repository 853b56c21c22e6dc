"""How an Executor writes down what it wants of workers."""

from __future__ import annotations

import os
import subprocess

import pytest

from ddmq import DdmqError, InvalidArgument
from ddmq.hpc.executor.crew import Crew, words_of


def test_options_are_written_as_on_a_command_line():
    given = {"workers": 20, "j": 16, "time": "1:00:00", "min_remaining": 5.5}
    given.update(option=["account=abc", "mem=4G"], dry_run=True)
    assert words_of(given) == [
        *("--workers", "20", "-j", "16", "--time", "1:00:00"),
        *("--min-remaining", "5.5", "--option", "account=abc", "--option", "mem=4G"),
        "--dry-run",
    ]


@pytest.mark.parametrize("name", ["--workers", "a b", "", "a=b", "1"])
def test_what_is_no_option_is_refused(name):
    with pytest.raises(InvalidArgument, match="no option"):
        words_of({name: 1})


@pytest.mark.slow
def test_what_the_submission_says_is_told(broker, root, tmp_path):
    crew = Crew(str(root), "q")
    with pytest.raises(
        DdmqError, match=r"no job is known to be submitted: .*is no time"
    ):
        crew.start(["true"], None, {"time": "5"})
    assert not crew.are_started


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Return a function that puts commands of Slurm's on the PATH, which keep their arguments."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    monkeypatch.setenv("PATH", f"{bin_}:/usr/bin:/bin")

    def make(name, script):
        kept = tmp_path / f"{name}.asked"
        (bin_ / name).write_text(f'#!/bin/sh\necho "$@" >> {kept}\n{script}\n')
        (bin_ / name).chmod(0o755)
        return kept

    return make


@pytest.mark.slow
def test_a_warning_of_the_submission_is_passed_on(broker, root, slurm, caplog):
    slurm(
        "sbatch", "cat > /dev/null; echo little money >&2; echo Submitted batch job 7"
    )
    broker.create_queue("q")
    crew = Crew(str(root), "q")
    crew.start(["true"], None, {"workers": 1})
    assert crew._jobs == {"": ["7"]}
    assert "little money" in caplog.text


@pytest.mark.slow
def test_who_interrupts_a_submission_hears_that_there_may_be_a_job(
    broker, root, slurm, caplog
):
    slurm("sbatch", f"cat > /dev/null; kill -INT {os.getpid()}")
    broker.create_queue("q")
    crew = Crew(str(root), "q")
    with pytest.raises(KeyboardInterrupt):
        crew.start(["true"], None, {"workers": 1})
    assert "interrupted: a job may be submitted or not" in caplog.text


@pytest.fixture
def crew(root, tmp_path):
    """The crew of jobs on two clusters."""
    crew = Crew(str(root), "q")
    crew._jobs = {"": ["7", "8"], "west": ["9"]}
    return crew


def test_jobs_have_left_when_slurm_says_so_of_all(crew, slurm, monkeypatch):
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    asked = slurm("squeue", 'test -z "$SQUEUE_STATES"')
    assert crew.have_left()
    assert asked.read_text().splitlines() == ["-h -j 7,8", "-h -M west -j 9"]
    slurm("squeue", "echo slurm_load_jobs error: Invalid job id specified >&2; exit 1")
    assert crew.have_left()


@pytest.mark.parametrize(
    "script",
    ["case $* in *west*) echo 9 PENDING;; esac", "exit 1", "echo away >&2; exit 1"],
)
def test_jobs_have_not_left_where_slurm_does_not_say_so(crew, slurm, script):
    slurm("squeue", script)
    assert not crew.have_left()


def test_nobody_knows_what_has_left_without_squeue_or_jobs_or_in_a_chain(crew, slurm):
    assert not crew.have_left()
    slurm("squeue", "")
    assert crew.have_left()
    crew._is_chain = True
    assert not crew.have_left()
    crew._is_chain, crew._jobs = False, {}
    assert not crew.have_left()


def test_jobs_that_wait_are_taken_back(crew, slurm, caplog):
    asked = slurm("scancel", "")
    crew.cancel_waiting()
    assert asked.read_text().splitlines() == [
        "--state=PENDING 7 8",
        "--state=PENDING -M west 9",
    ]
    assert not caplog.text
    slurm("scancel", "echo no controller >&2; exit 1")
    crew.cancel_waiting()
    assert caplog.text.count("no controller") == 2


def test_that_there_is_no_scancel_is_a_warning(crew, slurm, caplog):
    crew.cancel_waiting()
    assert caplog.text.count("scancel") >= 2


def test_the_jobs_are_those_of_which_slurm_told(root, tmp_path, monkeypatch):
    said = (
        "Submitted batch job 12\nSubmitted batch job 13 on cluster a-b.c\nno job 14\n"
    )
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, said, "")
    )
    crew = Crew(str(root), "q")
    crew.start(["true"], None, {"workers": 2})
    assert crew._jobs == {"": ["12"], "a-b.c": ["13"]}


@pytest.mark.slow
def test_a_worker_ends_though_a_child_of_this_process_has_its_pipe(root, tmp_path):
    crew = Crew(str(root), "q")
    crew._words = [
        "/bin/sh",
        "-c",
        "read line",
    ]  # as a worker: until the pipe is closed
    crew._start_here()
    pipe = os.dup(crew._process.stdin.fileno())
    try:
        crew.end()
        assert crew._process.returncode is not None
    finally:
        os.close(pipe)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_of_this_process_lets_go_of_the_pipe(root, tmp_path):
    crew = Crew(str(root), "q")
    crew._words = ["/bin/sh", "-c", "read line"]
    crew._start_here()
    wait, go = os.pipe()
    child = os.fork()
    if not child:
        os.close(go)
        os.read(wait, 1)  # until the test is over
        os._exit(0)
    try:
        crew._process.stdin.close()
        crew._process.wait(30)
    finally:
        os.close(go)
        os.close(wait)
        os.waitpid(child, 0)
        crew._process.kill()
        crew._process.wait()
