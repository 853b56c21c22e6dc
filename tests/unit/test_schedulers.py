"""What each batch scheduler is called and can do."""

from __future__ import annotations

import os
import re
from importlib import resources

import pytest

from ddmq import schedulers
from ddmq.schedulers import SCHEDULERS


@pytest.mark.parametrize(
    ("environ", "job", "slots", "end"),
    [
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "8"}, "7", 8, None),
        (
            {
                "SLURM_JOB_ID": "9",
                "SLURM_ARRAY_JOB_ID": "7",
                "SLURM_ARRAY_TASK_ID": "3",
                "SLURM_CPUS_PER_TASK": "4",
                "SLURM_CPUS_ON_NODE": "8",
                "SLURM_JOB_END_TIME": "1700000000",
            },
            "7_3",
            4,
            1.7e9,
        ),
        (
            {"PBS_JOBID": "2[3].host", "PBS_ARRAY_INDEX": "3", "NCPUS": "6"},
            "2.host_3",
            6,
            None,
        ),
        ({"JOB_ID": "5", "SGE_TASK_ID": "undefined", "NSLOTS": "2"}, "5", 2, None),
        ({}, "", len(os.sched_getaffinity(0)), None),
        ({"NCPUS": "99"}, "", len(os.sched_getaffinity(0)), None),
        ({"JOB_ID": "5"}, "", len(os.sched_getaffinity(0)), None),
        ({"JOB_ID": "5", "SGE_TASK_ID": "3", "NSLOTS": "x"}, "5_3", None, None),
    ],
)
def test_the_environment_of_a_job_is_understood(environ, job, slots, end):
    assert schedulers.job_id(environ) == job
    assert schedulers.slots(environ) == (slots or len(os.sched_getaffinity(0)))
    assert schedulers.end_time(environ) == end


def test_only_slurm_says_when_a_job_ends_and_warns_of_it():
    end = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "1700000000"}
    assert schedulers.least_remaining(end) == 90
    assert schedulers.least_remaining({"SLURM_JOB_ID": "7"}) == 0
    assert schedulers.warning(end) == "SIGUSR1"
    for environ in ({"PBS_JOBID": "7"}, {"SGE_TASK_ID": "7"}, {}):
        assert schedulers.least_remaining(environ) == 0
        assert schedulers.warning(environ) == ""


def test_all_tasks_of_an_array_have_one_id_in_common():
    task = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
    assert schedulers.whole_job_id(task) == "7"
    assert schedulers.whole_job_id({"PBS_JOBID": "2[3].host"}) == "2.host"
    assert schedulers.whole_job_id({}) == ""


def test_an_environment_gets_variables_of_ddmq():
    environ = {"A": "b"}
    assert schedulers.with_variables(environ, id="x") == {"A": "b", "DDMQ_ID": "x"}
    assert environ == {"A": "b"}


def test_an_environment_without_chain_tells_of_none():
    environ = {"DDMQ_CHAIN_LEFT": "0", "DDMQ_CHAIN_SCRIPT": "x", "DDMQ_ROOT": "y"}
    assert schedulers.without_chain(environ) == {"DDMQ_ROOT": "y"}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_row_of_the_table_has_a_template_in_its_words(name):
    row = SCHEDULERS[name]
    template = resources.files("ddmq.hpc") / "templates" / f"{name}.sh"
    options = re.findall("^#[^!].*", template.read_text(encoding="utf-8"), re.MULTILINE)
    assert all(option.startswith(row.prefix) for option in options)
    for form in (row.job_name, row.tasks, row.slots, row.time_option, row.export):
        assert form.count("{}") == 1
    assert row.letter.count("{}") == row.word.count("{}") == 2
    assert bool(row.joined) == bool(row.chunk) == bool(row.own_slots)
    assert bool(row.requeue) == bool(row.requeued) == bool(row.restarts)
    assert re.search(f"(?:{row.asks_slots})7$", row.slots.format(7))
    assert row.asks_memory or row.asks_memory_each


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_row_tells_all_of_how_one_hears_of_jobs_or_nothing(name):
    row = SCHEDULERS[name]
    told = row.submitted, row.list_jobs, row.jobs_option, row.cancel_waiting
    told += row.cluster_option, row.forgotten, row.habits
    assert all(told) or not any(told)
    if any(told):
        assert row.jobs_option.count("{}") == row.cluster_option.count("{}") == 1
        assert re.compile(row.submitted).groups == 2
