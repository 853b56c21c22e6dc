"""Workers as jobs of a PBS: a stand-in, which treats them as a real one was seen to do."""

from __future__ import annotations

import signal
import subprocess
import sys
import venv
from pathlib import Path

import filelock
import pytest
import yaml
from acceptance.workers import running, seconds_of_ours, until
from pbs import standin

import ddmq
from ddmq import Broker
from ddmq.hpc import journal

pytestmark = pytest.mark.slow
SCRIPTS = Path(__file__).parents[2] / "scripts"
PROGRAMS = {"ddmq-submit": "ddmq.cli.submit", "ddmq-worker": "ddmq.cli.worker"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install ddmq, as pip does, where no PATH of a job leads; return the directory of commands."""
    prefix = tmp_path_factory.mktemp("venv")
    venv.create(prefix, symlinks=True)
    [site] = prefix.glob("lib/python*/site-packages")
    needed = {str(Path(m.__file__).parents[1]) for m in (ddmq, yaml, filelock)}
    (site / "ddmq.pth").write_text("\n".join(needed))
    for name, module in PROGRAMS.items():
        text = f"#!{prefix}/bin/python\nimport sys\nfrom {module} import main\n"
        program(prefix / "bin" / name, f"{text}sys.exit(main())\n")
    return prefix / "bin"


def number_of(job):
    return job.partition(".")[0].rstrip("[]")


def program(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


class Lab:
    """One queue, and jobs that work on it."""

    def __init__(self, path, installed):
        self.path, self.root, self.spool = path, path / "mq", path / "spool"
        self.login = path / "login"  # what is here, a job does not find
        self.installed = installed
        (self.spool / "home").mkdir(parents=True)
        self.set_kill_delay(10)
        self.login.mkdir()
        for name in ("qsub", "qdel", "pbsdsh"):
            command = f"{sys.executable} -IS {standin.__file__} {self.spool} {name}"
            program(self.login / name, f'#!/bin/sh\nexec {command} "$@"\n')
        self.broker = Broker(self.root, create=True)
        self.broker.create_queue("jobs")
        self.broker.update_settings("jobs", durable=False)

    def set_kill_delay(self, seconds):
        (self.spool / "kill_delay").write_text(str(seconds))

    def run(self, *command, **variables):
        """Run a command on the login node; return what it says."""
        environ = {"PATH": f"{self.login}:/usr/bin:/bin", **variables}
        done = subprocess.run(
            list(map(str, command)),
            env=environ,
            cwd=self.path,
            capture_output=True,
            text=True,
            check=False,
            umask=0o022,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def submit(self, script, *options, **variables):
        """Submit workers that run a shell script for each message; return the job's id."""
        command = program(self.path / "process.sh", f"#!/bin/sh\n{script}\n")
        worker = [self.installed / "ddmq-submit", "pbs", self.root, "jobs", *options]
        return self.run(*worker, "--", command, **variables)

    def qdel(self, job):
        self.run("qdel", job)

    def jobs(self):
        return sorted(int(path.name) for path in self.spool.glob("[0-9]*"))

    def ended(self, job):
        """Wait for the end of a job; return the exit status of each of its tasks."""
        tasks = self._tasks(number_of(job))
        until(lambda: all((task / "status").exists() for task in tasks))
        return [int((task / "status").read_text()) for task in tasks]

    def is_idle(self):
        """Delete what is not over, and tell whether nothing was."""
        left = [
            n
            for n in self.jobs()
            if len(self._tasks(n, "/status")) < len(self._tasks(n))
        ]
        for number in left:
            self.qdel(str(number))
        return not left

    def _tasks(self, number, file=""):
        return list((self.spool / str(number)).glob(f"[0-9]*{file}"))

    def said(self, job):
        """Return what a job of one task printed."""
        [out] = self.path.glob(f"*.o{number_of(job)}")
        assert out.stat().st_mode & 0o777 == 0o600
        return out.read_text()

    def counts(self):
        return tuple(self.broker.view("jobs")["jobs"])

    def results(self):
        """Return how each run ended, with the job that it was in."""
        runs = journal.read(f"{self.root}/jobs")
        return sorted((run.job, run.result) for run in runs)

    def counters(self):
        """Consume all; return what came, and how often each has failed or was lost."""
        messages = self.broker.consume("jobs", 100)
        return sorted((m.message, m.failures, m.losses) for m in messages)


@pytest.fixture
def lab(tmp_path, installed):
    lab = Lab(tmp_path, installed)
    yield lab
    until(lab.is_idle)


FRESH = [(name, 0, 0) for name in "abcdef"]


def test_an_array_does_everything_once_with_nothing_of_our_environment(lab):
    lab.broker.publish_many("jobs", map(str, range(40)))
    note = 'echo "$PATH $PWD $NCPUS $WORD" > "done-$1"'
    options = ["--workers", 3, "-j", 2, "--time", "5:00", "-o", "V"]
    job = lab.submit(f"{note}; sleep 0.02", *options, WORD="handed-on")
    assert lab.ended(job) == [0] * 3
    assert lab.counts() == (0, 0, 0, 0)
    made = list(lab.path.glob("done-*"))
    assert len(made) == 40
    expected = f"/bin:/usr/bin {lab.path} 2 handed-on\n"
    assert {path.read_text() for path in made} == {expected}
    assert {path.stat().st_mode & 0o777 for path in made} == {0o644}
    jobs, results = zip(*lab.results())
    assert set(results) == {"acked"}
    assert set(jobs) <= {f"{job.replace('[]', '')}_{n}" for n in (1, 2, 3)}


def test_a_job_that_is_deleted_fails_nothing_and_leaves_nothing(lab):
    lab.broker.publish_many("jobs", list("abcdef"), requeue_limit=0)
    seconds = seconds_of_ours(81)
    script = f": > started-$1; setsid sleep {seconds} & sleep {seconds} & wait"
    job = lab.submit(script, "-j", 3, "--time", "5:00")
    until(lambda: len(running(seconds)) == 6)
    lab.qdel(job)
    lab.ended(job)
    assert running(seconds) == []
    assert len(list(lab.path.glob("started-*"))) == 3  # and no other one instead
    assert lab.results() == [(job, "released")] * 3
    assert lab.counters() == FRESH
    assert "0 failed, 3 released" in lab.said(job)


def test_a_walltime_of_which_the_worker_knows_nothing_fails_nothing(lab):
    lab.broker.publish_many("jobs", list("abcdef"), requeue_limit=0)
    seconds = seconds_of_ours(85)
    options = ["-j", 3, "--time", "5:00", "-o", "walltime=00:00:02"]
    job = lab.submit(f"sleep {seconds} & sleep {seconds}", *options)
    lab.ended(job)
    assert running(seconds) == []
    assert {result for _, result in lab.results()} <= {"released"}
    assert lab.counters() == FRESH


def test_what_can_only_be_killed_is_killed_and_comes_back_as_a_loss(lab):
    lab.set_kill_delay(0.3)
    lab.broker.update_settings("jobs", message_timeout=1)
    lab.broker.publish_many("jobs", list("abcdef"))
    seconds = seconds_of_ours(82)
    script = f"trap '' TERM; setsid sleep {seconds} & sleep {seconds} & wait"
    job = lab.submit(script, "-j", 3, "--grace", 60, "--time", "5:00")
    until(lambda: len(running(seconds)) == 6)
    lab.qdel(job)
    assert lab.ended(job) == [256 + signal.SIGTERM]  # of the login shell
    until(lambda: running(seconds) == [])  # by the guardian, which has left the session
    until(lambda: lab.counts() == (6, 0, 0, 0))
    lost = [(name, 0, 1) for name in "abc"]
    assert lab.counters() == lost + FRESH[3:]


def test_a_chain_goes_on_when_its_time_is_over(lab):
    lab.broker.publish_many("jobs", list("ab"), requeue_limit=0)
    script = '[ "$1 $PBS_JOBID" != "b 1.pbs" ] || sleep 100; echo "$WORD" > done-$1'
    short = ["--time", "0:00:04", "--grace", "3", "--min-remaining", "0"]
    job = lab.submit(script, *short, "--chain", 5, "-j", 1, "-o", "v=WORD=kept")
    assert lab.ended(job) == [5]
    until(lambda: len(lab.jobs()) == 2)
    assert lab.ended("2.pbs") == [0]
    expected = [("1.pbs", "acked"), ("1.pbs", "released"), ("2.pbs", "acked")]
    assert lab.results() == expected
    assert lab.counts() == (0, 0, 0, 0)
    assert (lab.path / "done-b").read_text() == "kept\n"
    assert "the next job: 2.pbs" in lab.said(job)
    assert lab.jobs() == [1, 2]  # since nothing is left


def test_a_chain_ends_with_a_job_that_is_deleted(lab):
    lab.broker.publish_many("jobs", list("abcdef"), requeue_limit=0)
    seconds = seconds_of_ours(83)
    script = f"sleep {seconds} & sleep {seconds}"
    job = lab.submit(script, "--time", "0:01:00", "--chain", 5, "-j", 2)
    until(lambda: len(running(seconds)) == 4)
    lab.qdel(job)
    lab.ended(job)
    assert "0 failed, 2 released" in lab.said(job)
    assert "the next job" not in lab.said(job)
    assert lab.jobs() == [1]
    assert lab.counters() == FRESH


def test_workers_on_several_nodes_that_are_ended_give_all_back(lab):
    """They know nothing of their job, and each has a session of its own."""
    lab.broker.publish_many("jobs", list("abcdef"), requeue_limit=0)
    seconds = seconds_of_ours(84)
    program(lab.path / "process.sh", f"#!/bin/sh\nsleep {seconds} & sleep {seconds}\n")
    text = (SCRIPTS / "pbs" / "nodes.sh").read_text()
    text = text.replace("/CHANGE-ME/bin", f"{lab.installed}:{lab.login}")
    text = text.replace("select=4", "select=2").replace("-j 16", "-j 2")
    (lab.path / "nodes.sh").write_text(text.replace("/scratch/mq", str(lab.root)))
    job = lab.run("qsub", "nodes.sh")
    until(lambda: len(running(seconds)) == 8)
    lab.qdel(job)
    lab.ended(job)
    assert running(seconds) == []
    assert lab.results() == [("", "released")] * 4
    assert lab.counters() == FRESH
