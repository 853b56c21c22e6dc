"""A real Snakemake whose jobs are messages: each ends the run as it should."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ddmq
from ddmq import Broker

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = Path(sys.executable).with_name("snakemake")
_missing = [
    name
    for name, is_there in (
        ("snakemake", PROGRAM.exists()),
        (
            "snakemake-executor-plugin-cluster-generic",
            find_spec("snakemake_executor_plugin_cluster_generic") is not None,
        ),
    )
    if not is_there
]
pytestmark = [
    pytest.mark.snakemake,
    pytest.mark.skipif(
        bool(_missing), reason=f"not installed: {', '.join(_missing)}; see tox.ini"
    ),
]
PROFILE = Path(__file__).parents[2] / "scripts" / "snakemake"
#: A machine with other work may take so long for a step; nothing waits longer than it has to.
PATIENCE = 120
#: A rule that takes for ever when it runs first, and notes each time that it ran.
SLOW = """
rule slow:
    output: "slow.txt"
    shell: "echo >> runs; [ $(wc -l < runs) -gt 1 ] || sleep 1000; echo done > {output}"
"""


class Lab:
    """A workflow in a directory, its queue, and the workers that run its jobs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = path / "mq"
        self.broker = Broker(self.root, create=True)
        self.broker.create_queue("jobs", mode=0o700)
        self.broker.update_settings(message_timeout=3, durable=False)
        self.work = path / "work"
        self.work.mkdir()
        bin_ = path / "bin"
        bin_.mkdir()
        for name, module in (("ddmq", "main"), ("ddmq-worker", "worker")):
            self._program(
                bin_ / name,
                f"#!/bin/sh\nPYTHONPATH={Path(ddmq.__file__).parents[1]} exec {sys.executable} "
                f"-c 'import sys; from ddmq.cli.{module} import main; sys.exit(main())' \"$@\"\n",
            )
        self.environ = {
            **os.environ,
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "HOME": str(path),
            "TMPDIR": str(path),
        }
        self._make_profile()
        self.processes: list[subprocess.Popen[str]] = []

    def _program(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def _make_profile(self) -> None:
        """Copy the profile as its user would, with what he must change, and less patience."""
        shutil.copytree(PROFILE, self.path / "profile")
        for path in (self.path / "profile").iterdir():
            text = path.read_text().replace(
                "/scratch/mq snakemake", f"{self.root} jobs"
            )
            text = text.replace("/CHANGE-ME", str(self.path / "profile"))
            text = re.sub("(seconds-between-status-checks): 10", r"\1: 1", text)
            path.write_text(re.sub("(latency-wait): 60", r"\1: 5", text))

    def workflow(self, text: str) -> None:
        (self.work / "Snakefile").write_text(text)

    def worker(self, *options: str) -> subprocess.Popen[str]:
        words = (
            "--forever",
            "--poll-max",
            "0.2",
            "--fatal",
            "1-255",
            "--grace",
            "1",
            *options,
        )
        logs = ("--log-dir", str(self.path / "logs"))
        command = ("ddmq-worker", *words, *logs, str(self.root), "jobs", "--", "sh")
        return self._start(command, "worker")

    def snakemake(self, *options: str) -> subprocess.Popen[str]:
        profile = ("--profile", str(self.path / "profile"))
        return self._start((str(PROGRAM), *profile, *options), "snakemake")

    def _start(self, command: tuple[str, ...], name: str) -> subprocess.Popen[str]:
        with (self.path / f"{name}.{len(self.processes)}").open("w+") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.work,
                env=self.environ,
                text=True,
                start_new_session=True,
            )
        process.said = Path(output.name).read_text
        self.processes.append(process)
        return process

    def until(
        self, claim: Callable[[], object], *, while_runs: subprocess.Popen[str]
    ) -> None:
        end = time.monotonic() + PATIENCE
        while not claim():
            assert while_runs.poll() is None, while_runs.said()
            assert time.monotonic() < end, while_runs.said()
            time.sleep(0.05)

    def runs(self) -> int:
        """Return how often the rule `slow` began to run."""
        path = self.work / "runs"
        return path.read_text().count("\n") if path.exists() else 0

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    try:
        yield lab
    finally:
        lab.close()


def test_a_run_ends_as_its_jobs_do_and_names_the_log_and_message_of_what_failed(lab):
    lab.workflow(
        """
rule all:
    input: "sum", "never"
rule part:
    output: "part.{n}"
    shell: "echo {wildcards.n} > {output}"
rule sum:
    input: "part.1"
    output: "sum"
    shell: "cat {input} > {output}"
rule bad:
    output: "never"
    log: "bad.log"
    shell: "echo no such header | tee {log} >&2; exit 3"
"""
    )
    lab.worker()
    run = lab.snakemake("--keep-going")
    assert run.wait(PATIENCE) == 1, run.said()
    assert (lab.work / "sum").read_text() == "1\n"
    [dead] = lab.broker.dead("jobs")
    assert "bad.log" in run.said()
    assert f"external_jobid: {dead.id}" in run.said()
    assert dead.note["exit"] == 1
    assert "no such header" in Path(f"{dead.note['log']}.err").read_text()


def test_a_job_whose_worker_is_killed_is_run_again_and_the_run_ends_well(lab):
    lab.workflow(SLOW)
    worker, run = lab.worker(), lab.snakemake()
    lab.until(lab.runs, while_runs=run)
    os.kill(worker.pid, signal.SIGKILL)
    lab.worker()
    assert run.wait(PATIENCE) == 0, run.said()
    assert lab.runs() == 2
    assert (lab.work / "slow.txt").read_text() == "done\n"


def test_a_job_that_is_lost_for_good_has_failed(lab):
    lab.broker.update_settings("jobs", requeue_limit=0)
    lab.workflow(SLOW)
    worker, run = lab.worker(), lab.snakemake()
    lab.until(lab.runs, while_runs=run)
    os.kill(worker.pid, signal.SIGKILL)
    lab.worker()
    assert run.wait(PATIENCE) == 1, run.said()
    [dead] = lab.broker.dead("jobs")
    assert dead.losses == 1
    assert f"external_jobid: {dead.id}" in run.said()


def test_a_job_that_is_nowhere_has_failed(lab):
    lab.workflow(SLOW)
    run = lab.snakemake()
    lab.until(lambda: "with external jobid" in run.said(), while_runs=run)
    lab.broker.purge("jobs")
    assert run.wait(PATIENCE) == 1, run.said()
    assert "Error in rule slow" in run.said()


def test_a_run_that_is_interrupted_cancels_its_jobs_and_can_be_repeated(lab):
    lab.workflow(
        """
rule all:
    input: "slow.1", "slow.2"
rule slow:
    output: "slow.{n}"
    shell: "echo >> runs; [ -e quick ] || sleep 1000; echo done > {output}"
"""
    )
    worker = lab.worker("-j", "1")
    # Snakemake knows no job that it could cancel while it asks how its jobs do. So it is
    # interrupted before it asks first.
    run = lab.snakemake("--seconds-between-status-checks", "15")
    lab.until(lambda: run.said().count("with external jobid") == 2, while_runs=run)
    lab.until(lab.runs, while_runs=worker)
    run.send_signal(signal.SIGINT)
    assert run.wait(PATIENCE) != 0
    lab.until(lambda: len(lab.broker.dead("jobs")) == 2, while_runs=worker)
    assert all("cancelled" in dead.reason for dead in lab.broker.dead("jobs"))
    assert lab.runs() == 1

    (lab.work / "quick").touch()
    again = lab.snakemake("--rerun-incomplete", "slow.2")
    assert again.wait(PATIENCE) == 0, again.said()
    assert (lab.work / "slow.2").read_text() == "done\n"


def test_after_a_run_that_was_killed_a_purge_ends_its_jobs(lab):
    lab.workflow(
        """
rule slow:
    output: "slow.txt"
    shell: "echo $$ >> runs; exec sleep 1000"
"""
    )
    worker, run = lab.worker(), lab.snakemake()
    lab.until(lab.runs, while_runs=run)
    run.kill()
    run.wait()
    job = Path(f"/proc/{(lab.work / 'runs').read_text().strip()}")
    assert job.exists()
    lab.broker.purge("jobs")
    lab.until(lambda: not job.exists(), while_runs=worker)
    assert lab.broker.dead("jobs") == []
