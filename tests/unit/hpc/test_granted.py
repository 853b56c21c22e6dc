"""What a job may use is what its scheduler says, else what the kernel enforces."""

from __future__ import annotations

import pytest

from ddmq.hpc.granted import granted
from ddmq.hpc.journal import Granted

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_START_TIME": "1000",
    "SLURM_MEM_PER_NODE": "4096",
    "SLURM_CPUS_ON_NODE": "8",
}


@pytest.fixture
def top(tmp_path):
    """Return a function that makes the kernel's files; it returns where they are."""

    def made(groups, **limits):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups)
        for path, limit in limits.items():
            file = tmp_path / "sys/fs/cgroup" / path.replace("__", "/")
            name = "memory.limit_in_bytes" if path[:6] == "memory" else "memory.max"
            file.mkdir(parents=True, exist_ok=True)
            (file / name).write_text(f"{limit}\n")
        return f"{tmp_path}/"

    return made


def test_slurm_tells_memory_start_and_end(top):
    nothing = top("")
    told = granted(SLURM, 4, 1005.0, 8200.0, top=nothing)
    assert told == Granted(1000.0, 4, 4 << 20, 7200.0)
    each = {**SLURM, "SLURM_MEM_PER_NODE": "0", "SLURM_MEM_PER_CPU": "512"}
    assert granted(each, 4, 1005.0, None, top=nothing).memory_kib == 4 << 20
    wrong = {**SLURM, "SLURM_MEM_PER_NODE": "much", "SLURM_JOB_START_TIME": "9999"}
    assert granted(wrong, 4, 1005.0, None, top=nothing) is None
    assert granted(wrong, 4, 1005.0, 1010.0, top=nothing) == (1005.0, 4, None, 5.0)


def test_where_nobody_limits_anything_nothing_is_told(top):
    assert granted({}, 4, 5.0, None, top=top("")) is None


@pytest.mark.parametrize("of_slurm", [{}, {"SLURM_JOB_ID": "7"}])
def test_the_least_of_the_groups_that_we_are_in_counts(top, of_slurm):
    place = top(
        "0::/job/step\n", job=3 << 30, job__step="max", job__step__other=1 << 20
    )
    told = granted({**of_slurm, "PBS_JOBID": "1"}, 2, 5.0, None, top=place)
    assert told == Granted(5.0, 2, 3 << 20, None)


def test_the_first_version_of_groups_is_understood_too(top):
    groups = "5:cpu:/job\n4:blkio,memory:/job/1\n0::/\n"
    limits = {"memory": 9223372036854771712, "memory__job__1": 2 << 30}
    limits["job"] = 1 << 20  # a group of that name is of another kind
    place = top(groups, **limits)
    assert granted({}, 2, 5.0, None, top=place) == Granted(5.0, 2, 2 << 20, None)


def test_nonsense_of_the_kernel_is_passed_over(top, tmp_path):
    place = top("nonsense\n0::/../..\n::\n\n", x="many")
    (tmp_path / "sys/memory.max").write_text("1024")
    assert granted({}, 1, 5.0, None, top=place) is None


def test_the_scheduler_is_believed_before_the_kernel(top):
    place = top("0::/job\n", job=1 << 30)
    assert granted(SLURM, 4, 1005.0, None, top=place).memory_kib == 4 << 20
