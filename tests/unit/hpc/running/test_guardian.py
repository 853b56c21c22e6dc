"""No command outlives its worker."""

from __future__ import annotations

import os
import signal

import pytest
from support import in_time

from ddmq.hpc.running import guardian
from ddmq.hpc.running.process import Process

PATH = "/usr/bin:/bin"
MARK = "DDMQ_RUN=of-this-test"


def sleeper(environ):
    """Return a process whose environment can be read, which is so only a moment later."""
    process = Process(["sleep", "100"], environ)
    with in_time(20):
        while not any(guardian._environ(process.pid)):
            os.sched_yield()
    return process


def test_nothing_bears_a_mark_that_nobody_set():
    guardian.kill_marked("DDMQ_RUN=nobody-has-this")


def test_a_guardian_that_is_dismissed_leaves():
    with guardian.Guardian("DDMQ_WORKER=nobody") as kept:
        assert os.path.exists(f"/proc/{kept.pid}")
    assert not os.path.exists(f"/proc/{kept.pid}")


def test_a_guardian_has_a_session_of_its_own():
    """PBS kills a job by sending SIGKILL to all processes of the job's session."""
    with guardian.Guardian("DDMQ_WORKER=nobody") as kept:
        assert os.getsid(kept.pid) == kept.pid != os.getsid(0)


def test_what_bears_the_mark_is_killed_and_nothing_else():
    marked, other = (
        sleeper({"PATH": PATH, "DDMQ_RUN": name})
        for name in ("of-this-test", "of-another-test")
    )
    guardian.kill_marked("DDMQ_RUN=of-this-test")
    assert marked.wait().signal == "SIGKILL"
    assert other.outcome() is None
    other.send(signal.SIGKILL)
    other.wait()


@pytest.mark.parametrize("killer", ["a worker", "its guardian"])
@pytest.mark.parametrize(
    ("own", "theirs", "is_spared"),
    [
        ("", "SLURM_JOB_ID=2", True),
        ("SLURM_JOB_ID=1", "SLURM_JOB_ID=2", True),
        ("PBS_JOBID=1[7].host", "PBS_JOBID=12[7].host", True),
        ("SLURM_JOB_ID=1", "SLURM_JOB_ID=1", False),
        ("SLURM_JOB_ID=1", "JOB_ID=2", False),  # a name that anybody may use
        ("SLURM_JOB_ID=1", "", False),
    ],
)
def test_a_job_that_a_command_submitted_is_none_of_ours(
    monkeypatch, killer, own, theirs, is_spared
):
    """Schedulers hand the environment on, and the mark in it, to a job that may run here."""
    if own:
        monkeypatch.setenv(*own.split("="))
    other = dict(
        [theirs.split("=")] if theirs else [], PATH=PATH, DDMQ_RUN="of-this-test"
    )
    plain = {"PATH": PATH, "DDMQ_RUN": "of-this-test"}
    submitted, command = map(sleeper, (other, plain))
    if killer == "a worker":
        guardian.kill_marked(MARK)
    else:
        kept = guardian.Guardian(MARK)
        os.write(kept._write, b"died\n")
        os.waitpid(kept.pid, 0)
        os.close(kept._read)
        os.close(kept._write)
    assert command.wait().signal == "SIGKILL"
    assert (submitted.outcome() is None) == is_spared
    submitted.send(signal.SIGKILL)
    submitted.wait()


@pytest.fixture
def started(tmp_path):
    """Start a line of shell; return its process and what its children print to, once they run.

    In it, `cleared` is a child without a mark, as in a container that gets an environment of its
    own. Whoever is to be waited for prints a word.
    """
    program = tmp_path / "cleared"
    program.write_text("#!/bin/sh\nexec env -i sh -c 'echo runs; exec sleep 1000'\n")
    program.chmod(0o755)
    begun = []

    def start(script, run="of-this-test"):
        read, write = os.pipe()
        environ = {"PATH": f"{tmp_path}:{PATH}", "DDMQ_RUN": run}
        process = Process(["sh", "-c", script], environ, stdout=write)
        os.close(write)
        begun.append((process, read))
        said = b""
        with in_time(30):
            while said.count(b"runs") < script.count("cleared") + script.count("runs"):
                said += os.read(read, 100)
        return process, read

    yield start
    for process, read in begun:
        process.send(signal.SIGKILL)
        process.wait()
        os.close(read)


def nobody_is_left(read):
    """Wait until nobody is there who could print."""
    with in_time(30):
        return os.read(read, 1) == b""


@pytest.mark.parametrize(
    "script",
    [
        "cleared & wait",
        "setsid cleared & wait",
        "setsid sh -c 'setsid env -i sh -c \"echo runs; sleep 1000 & sleep 1000\" & wait' & wait",
    ],
    ids=["child", "session", "deep"],
)
def test_what_has_no_mark_is_found_below_what_has_one(started, script):
    process, read = started(script)
    guardian.kill_marked(MARK)
    assert nobody_is_left(read)
    assert process.wait().signal == "SIGKILL"


@pytest.mark.parametrize(
    "script", ["sleep 1000 & cleared &", "setsid sh -c 'sleep 1000 & cleared &' &"]
)
def test_what_has_no_mark_is_found_in_the_group_of_what_has_one(started, script):
    process, read = started(script)
    process.wait()
    guardian.kill_marked(MARK)
    assert nobody_is_left(read)


def test_what_has_no_mark_is_found_in_the_session_of_what_has_one(started):
    groups_of_their_own = "set -m; sleep 1000 & cleared &"
    process, read = started(f"setsid bash -c '{groups_of_their_own}' &")
    process.wait()
    guardian.kill_marked(MARK)
    assert nobody_is_left(read)


def test_what_is_known_needs_no_mark(started):
    script = "setsid sh -c 'echo runs; exec sleep 1000' & wait"
    process, read = started(script, run="")
    guardian.kill_marked(MARK, process.pid)
    assert nobody_is_left(read)
    assert process.wait().signal == "SIGKILL"


def test_who_kills_is_spared_though_the_mark_is_in_his_group():
    ours = os.posix_spawnp("sleep", ["sleep", "1000"], {"DDMQ_RUN": "of-this-test"})
    guardian.kill_marked(MARK)
    assert os.waitstatus_to_exitcode(os.waitpid(ours, 0)[1]) == -signal.SIGKILL


def test_the_guardian_of_a_worker_that_is_a_command_is_spared(started, tmp_path):
    # It waits as a guardian does, by itself: a process that is just becoming another program,
    # such as `sleep`, shows no environment for an instant.
    os.mkfifo(tmp_path / "word")
    word = os.open(tmp_path / "word", os.O_RDWR)
    script = (
        f"env -i DDMQ_GUARDIAN=1 sh -c 'echo runs; read word' < {tmp_path}/word & wait"
    )
    process, read = started(script)
    guardian.kill_marked(MARK)
    assert process.wait().signal == "SIGKILL"
    os.set_blocking(read, False)
    with pytest.raises(BlockingIOError):
        os.read(read, 1)
    os.close(word)  # so it ends
    os.set_blocking(read, True)
    assert nobody_is_left(read)


def test_what_is_below_a_process_is_known_after_the_end_of_its_parent(started):
    process, read = started("setsid cleared & wait")
    below = guardian.descendants(process.pid)
    assert len(below) == 1
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert guardian.living(below) == list(below)
    assert (
        guardian.living(dict.fromkeys(below, b"1")) == []
    )  # a number that is used again
    guardian.kill_marked(MARK, *below)
    assert nobody_is_left(read)
    assert guardian.living(below) == []


def test_what_is_gone_has_nothing_below_it():
    process = Process(["true"], {"PATH": PATH})
    process.wait()
    assert guardian.descendants(process.pid) == {}
