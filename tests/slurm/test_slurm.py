"""Workers as jobs of a real Slurm: nothing is lost, and nothing runs twice at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from slurm.cluster import Cluster, install, missing

import ddmq
from ddmq import Broker

pytestmark = pytest.mark.slurm
SCRIPTS = Path(__file__).parents[2] / "scripts"
PACKAGE = Path(ddmq.__file__).parent.parent

#: Writes a line at its start and one at its end, each file by one process.
PROCESS = """\
#!/bin/bash
mark=$1.$DDMQ_LOSSES.$$
date +%s.%N > "{runs}/$mark.start"
sleep {seconds}
date +%s.%N > "{runs}/$mark.end"
"""


@pytest.fixture(scope="module")
def cluster():
    if os.geteuid() != 0:
        pytest.skip("only root can start a Slurm")
    install()
    if missing():
        pytest.skip(f"no Slurm here: {', '.join(missing())} can't be had")
    directory = Path(tempfile.mkdtemp(prefix="ddmq-slurm-"))
    cluster = Cluster(directory)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


class Lab:
    """One queue, and jobs that work on it."""

    def __init__(self, cluster: Cluster, path: Path) -> None:
        self.cluster = cluster
        self.path = path
        self.root = path / "mq"
        self.runs = path / "runs"
        self.runs.mkdir()
        self.broker = Broker(self.root, create=True)
        self.broker.update_settings(message_timeout=5, durable=False)
        self.worker = self._program("ddmq-worker", "ddmq.hpc.cli")

    def _program(self, name: str, module: str) -> Path:
        """Make a command of the ddmq that is tested."""
        program = self.path / name
        program.write_text(
            f"#!/bin/sh\nPYTHONPATH={PACKAGE} exec {sys.executable} -c "
            f"'import sys; from {module} import main; sys.exit(main())' \"$@\"\n"
        )
        program.chmod(0o755)
        return program

    def process(self, seconds: float) -> str:
        """Make the command that is run for each message."""
        program = self.path / "process.sh"
        program.write_text(PROCESS.format(runs=self.runs, seconds=seconds))
        program.chmod(0o755)
        return str(program)

    def publish(self, number: int) -> None:
        self.broker.publish_many("jobs", [f"m{n:03d}" for n in range(number)])

    def submit(self, *options: str, seconds: float, scheduler: str = "slurm") -> str:
        submit = self._program("ddmq-submit", "ddmq.hpc.submit_cli")
        said = self.cluster.run(
            *(str(submit), scheduler, str(self.root), "jobs", "--worker"),
            *(str(self.worker), *options, "--", self.process(seconds)),
            cwd=str(self.path),
        )
        return said.split()[-1].split(".")[0]

    def counts(self):
        return tuple(self.broker.view("jobs")["jobs"])

    def idle(self) -> bool:
        return not self.cluster.squeue()

    def started(self) -> int:
        return len(list(self.runs.glob("*.start")))

    def work_off(self) -> None:
        """Run a worker here until nothing is left."""
        process = self.process(0)
        done = [str(self.worker), "-j", "8", "--until-done", "--poll-max", "0.5"]
        done += [str(self.root), "jobs", "--", process]
        subprocess.run(done, check=True, timeout=120, capture_output=True)

    def assert_all_done(self, number: int) -> None:
        """Each message was finished, and no two runs of one overlapped."""
        assert self.counts() == (0, 0, 0, 0)
        for n in range(number):
            spans = sorted(self._spans(f"m{n:03d}"))
            assert any(end < float("inf") for _, end in spans)
            for (_, end), (start, _) in zip(spans, spans[1:]):
                assert end == float("inf") or end <= start

    def _spans(self, message: str):
        for start in self.runs.glob(f"{message}.*.start"):
            end = start.with_suffix(".end")
            text = end.read_text() if end.exists() else ""
            yield float(start.read_text() or 0), float(text) if text else float("inf")


@pytest.fixture
def lab(cluster, tmp_path):
    lab = Lab(cluster, tmp_path)
    yield lab
    cluster.run("scancel", "-u", "root")
    cluster.until(lab.idle, 30)


def test_an_array_of_workers_does_everything_once(lab):
    lab.publish(200)
    lab.submit("--workers", "4", "-j", "2", "--time", "5:00", seconds=0.05)
    lab.cluster.until(lab.idle)
    lab.assert_all_done(200)
    assert lab.started() == 200


def test_a_cancelled_job_gives_its_messages_back(lab):
    lab.publish(6)
    job = lab.submit("-j", "2", "--time", "5:00", "--grace", "2", seconds=30)
    lab.cluster.until(lambda: lab.started() == 2)
    lab.cluster.run("scancel", job)
    lab.cluster.until(lab.idle)
    lab.cluster.until(lambda: lab.counts() == (6, 0, 0, 0), 15)
    counters = [m.requeue_counter for m in lab.broker.consume("jobs", 6)]
    assert counters == [0] * 6


def test_a_job_that_is_requeued_goes_on(lab):
    lab.publish(6)
    job = lab.submit("-j", "2", "--time", "5:00", "--grace", "1", seconds=1)
    lab.cluster.until(lambda: lab.started() == 2)
    lab.cluster.run("scontrol", "requeue", job)
    lab.cluster.until(lambda: any("RUNNING" in j for j in lab.cluster.squeue()), 60)
    lab.cluster.until(lab.idle, 60)
    lab.work_off()
    lab.assert_all_done(6)


def test_a_time_limit_is_no_failure(lab):
    lab.publish(3)
    options = ["--time", "1:00", "--min-remaining", "0", "--grace", "2"]
    lab.submit("-j", "2", *options, seconds=200)
    lab.cluster.until(lambda: lab.started() == 2)
    lab.cluster.until(lab.idle, 150)
    lab.cluster.until(lambda: lab.counts() == (3, 0, 0, 0), 15)
    assert [m.requeue_counter for m in lab.broker.consume("jobs", 3)] == [0] * 3


def test_a_preempted_job_gives_its_messages_back_and_goes_on(lab):
    lab.publish(8)
    options = ["-o", "partition=low", "-o", "exclusive", "-o", "requeue"]
    lab.submit("-j", "2", *options, "--time", "5:00", "--grace", "1", seconds=1)
    lab.cluster.until(lambda: lab.started() == 2)
    rival = ["sbatch", "-p", "high", "-N", "4", "--exclusive", "--wrap", "sleep 1"]
    lab.cluster.run(*rival, cwd=str(lab.path))
    lab.cluster.until(lab.idle, 90)
    lab.work_off()
    lab.assert_all_done(8)


def test_a_lost_node_costs_a_loss_and_no_message(lab):
    lab.publish(4)
    lab.submit(
        "-j", "2", "--time", "5:00", "-o", "nodelist=n4", "-o", "no-requeue", seconds=20
    )
    lab.cluster.until(lambda: lab.started() == 2)
    lab.cluster.kill_node("n4")
    lab.cluster.until(lambda: lab.counts()[0] == 4, 30)
    losses = sorted(m.losses for m in lab.broker.consume("jobs", 4))
    assert losses == [0, 0, 1, 1]
    lab.cluster.start_node("n4")
    lab.cluster.until(lambda: lab.counts()[0] == 4, 30)
    lab.work_off()
    lab.assert_all_done(4)


def test_a_chain_submits_the_next_job_once(lab):
    lab.publish(8)
    options = [
        "--time",
        "1:00",
        "--min-remaining",
        "58",
        "--chain",
        "1",
        "--workers",
        "2",
    ]
    lab.submit("-j", "1", *options, seconds=1.5)
    lab.cluster.until(lambda: lab.counts()[0] < 8)
    lab.cluster.until(lab.idle, 90)
    assert len(list((lab.root / "jobs" / "jobs").glob("after-*"))) <= 2
    ran = {line.split("_")[0] for line in logged_jobs(lab)}
    assert len(ran) == 2
    lab.work_off()
    lab.assert_all_done(8)


def logged_jobs(lab: Lab) -> set[str]:
    from ddmq.hpc import journal

    return {run.job for run in journal.read(f"{lab.root}/jobs") if run.job}


def test_the_pbs_directives_are_understood(lab):
    lab.publish(4)
    script = lab.submit("--dry-run", "-j", "2", seconds=0, scheduler="pbs")
    assert script
    submit = lab.path / "ddmq-submit"
    command = [str(submit), "pbs", str(lab.root), "jobs", "--worker", str(lab.worker)]
    command += ["-j", "2", "--time", "5:00", "--", lab.process(0.1)]
    lab.cluster.environ["PBS_O_WORKDIR"] = str(lab.path)
    lab.cluster.run(*command, cwd=str(lab.path))
    lab.cluster.until(lab.idle)
    lab.assert_all_done(4)
