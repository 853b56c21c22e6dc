"""What jobs asked for is read from the scripts that ddmq-submit keeps."""

from __future__ import annotations

import os

import pytest

from ddmq.hpc.journal import Granted
from ddmq.hpc.report.asked import Asked, asked, parsed
from ddmq.hpc.submit import Request, rendered

NAME = "ddmq-0123456789abcdef.sh"


@pytest.mark.parametrize(
    ("scheduler", "option", "whole"),
    [
        ("slurm", "mem=64G", 64 << 20),
        ("slurm", "mem-per-cpu=4G", 64 << 20),
        ("slurm", "mem=500", 500 << 10),
        ("pbs", "mem=64gb", 64 << 20),
        ("sge", "h_vmem=4G", 64 << 20),
    ],
)
def test_the_script_of_each_scheduler_is_understood(scheduler, option, whole):
    options = [f"-l {option}"] if scheduler == "sge" else [option]
    request = Request(
        scheduler, "q", ["ddmq-worker"], ["x"], slots=16, seconds=7200, options=options
    )
    assert parsed(rendered(request, "/q/jobs/x.sh")) == Asked(16, whole, 7200)


def test_what_the_script_does_not_say_is_not_known():
    assert parsed("") == parsed("#!/bin/sh\necho --mem=5G\n") == Asked()
    assert parsed("#SBATCH --time=1-02:00:00\n") == Asked(None, None, 93600.0)
    assert parsed(
        "#SBATCH --mem=" + "9" * 99 + "\n#SBATCH --cpus-per-task=0\n"
    ) == Asked(None, 999999999 << 10, None)


def test_the_latest_script_counts_and_nothing_else_does(tmp_path):
    jobs = tmp_path / "q" / "jobs"
    jobs.mkdir(parents=True)
    assert asked(str(tmp_path / "q")) is None
    for number, name in enumerate(["ddmq-ffffffffffffffff.sh", NAME, "mine.sh"], 1):
        (jobs / name).write_text(f"#SBATCH --mem={number}G\n")
        os.utime(jobs / name, (number, number))
    assert asked(str(tmp_path / "q")).memory_kib == 2 << 20


def test_no_link_and_no_fifo_is_read(tmp_path):
    jobs = tmp_path / "q" / "jobs"
    jobs.mkdir(parents=True)
    (tmp_path / "secret").write_text("#SBATCH --mem=1G\n")
    (jobs / NAME).symlink_to(tmp_path / "secret")
    assert asked(str(tmp_path / "q")) is None
    (jobs / NAME).unlink()
    os.mkfifo(jobs / NAME)
    assert asked(str(tmp_path / "q")) is None
    assert asked(str(tmp_path / "none")) is None


def test_what_a_worker_noted_counts_and_the_script_says_the_rest():
    script = Asked(16, 64 << 20, 7200)
    noted = script.noted_by(Granted(5.0, 4, 8 << 20, None))
    assert noted == Asked(4, 8 << 20, 7200, is_noted=True)
    assert Asked().noted_by(Granted(5.0, 4, None, 60.0)).memory_kib is None
