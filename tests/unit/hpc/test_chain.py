"""The next job of a chain: one worker submits it, each number once."""

from __future__ import annotations

import errno

import pytest
from hpc.fakes import fake_commands
from support import Calls, FakeClock

from ddmq import Broker
from ddmq.errors import DdmqError, InvalidArgument
from ddmq.hpc import chain, submit
from ddmq.storage.filesystem import FileSystem


@pytest.fixture
def fake(tmp_path, monkeypatch):
    return fake_commands(tmp_path, monkeypatch)


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path / "mq", create=True)
    broker.create_queue("jobs")
    return broker


def chained(name="slurm", left="2", **more):
    return {
        "DDMQ_CHAIN_LEFT": left,
        "DDMQ_CHAIN_SCRIPT": "/the/script.sh",
        "DDMQ_CHAIN_SCHEDULER": name,
        **more,
    }


def test_one_worker_of_a_job_submits_the_next(broker, fake):
    got = fake("sbatch", "Submitted batch job 8")
    path = f"{broker.root}/jobs"
    array = {"SLURM_JOB_ID": "8", "SLURM_ARRAY_JOB_ID": "7"}
    said = [
        chain.continue_chain(path, chained(**array, SLURM_ARRAY_TASK_ID=str(n)))
        for n in range(1, 4)
    ]
    assert said == ["Submitted batch job 8", None, None]
    exported = "--export=ALL,DDMQ_CHAIN_LEFT=1,DDMQ_CHAIN_ID=7"
    assert got() == [exported, "/the/script.sh", "LEFT=1"]


@pytest.mark.parametrize(
    ("before", "exported"),
    [
        ("NONE", ""),
        ("nil,DDMQ_CHAIN_LEFT=2,DDMQ_CHAIN_ID=7", ""),
        ("HOME,A=b,DDMQ_CHAIN_LEFT=2", "HOME,A=b,"),
    ],
)
def test_a_job_that_exports_nothing_still_counts_down(
    broker, fake, monkeypatch, before, exported
):
    got = fake("sbatch")
    monkeypatch.setenv("SLURM_EXPORT_ENV", before)
    chain.continue_chain(f"{broker.root}/jobs", chained(SLURM_JOB_ID="7"))
    assert got()[0] == f"--export={exported}DDMQ_CHAIN_LEFT=1,DDMQ_CHAIN_ID=7"


def test_each_number_is_reached_once_whatever_is_requeued(broker, fake):
    got = fake("sbatch")
    path = f"{broker.root}/jobs"
    for job in ("7", "8", "9"):
        environ = chained(DDMQ_CHAIN_ID="a/b", SLURM_JOB_ID=job)
        chain.continue_chain(path, environ)
    assert got().count("/the/script.sh") == 1


def test_somebody_is_elected_where_all_hear_that_the_mark_exists(broker, fake):
    """As on GlusterFS, of which all may hear so who make a directory or file at once."""
    got = fake("sbatch")

    def call(_, name, function, arguments):
        result = function(*arguments)
        if name in ("mkdir", "symlink"):
            raise FileExistsError(errno.EEXIST, "File exists", arguments[0])
        return result

    path, fs = f"{broker.root}/jobs", FileSystem(Calls(call))
    for _ in range(2):
        chain.continue_chain(path, chained(SLURM_JOB_ID="7"), fs)
    assert got().count("/the/script.sh") == 1


def test_a_refusal_is_not_the_end_and_makes_the_election_void(broker, fake):
    got = fake("sbatch", "sbatch: error: Socket timed out", status=1)
    path, clock = f"{broker.root}/jobs", FakeClock()
    environ = chained(SLURM_JOB_ID="7")
    with pytest.raises(submit.SubmitFailed, match="timed out"):
        chain.continue_chain(path, environ, clock=clock)
    assert got().count("/the/script.sh") == 3
    fake("sbatch", "Submitted batch job 8")
    assert chain.continue_chain(path, environ) == "Submitted batch job 8"


def test_storage_that_refuses_is_explained(broker):
    with pytest.raises(DdmqError, match="No such file"):
        chain.continue_chain("/nowhere/q", chained())


def test_pbs_is_handed_the_number_that_is_left(broker, fake):
    got = fake("qsub")
    environ = chained("pbs", PBS_JOBID="7[2].host")
    assert chain.continue_chain(f"{broker.root}/jobs", environ) == "12345"
    handed_on = "DDMQ_CHAIN_LEFT=1,DDMQ_CHAIN_ID=7.host"
    assert got() == ["-v", handed_on, "/the/script.sh", "LEFT=1"]


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("#PBS -V\n#PBS\t-l mem=1gb -v A=b\n", "A=b,"),
        ("#PBS -vA=b -N x\n#PBS -v C\n", "A=b,C,"),
        ("#PBS -v A=b,DDMQ_CHAIN_LEFT=9\n#PBS -v A=b,DDMQ_CHAIN_LEFT=9\n", "A=b,"),
        ("#PBS -v 'A=b\necho -v C=d\n", ""),
    ],
)
def test_a_script_to_copy_keeps_the_variables_of_its_user(
    broker, fake, tmp_path, text, before
):
    got = fake("qsub")
    (tmp_path / "mine.sh").write_text(text)
    environ = chained("pbs", PBS_JOBID="7", DDMQ_CHAIN_SCRIPT=f"{tmp_path}/mine.sh")
    chain.continue_chain(f"{broker.root}/jobs", environ)
    assert got()[:2] == ["-v", f"{before}DDMQ_CHAIN_LEFT=1,DDMQ_CHAIN_ID=7"]


def test_a_path_that_is_no_program_here_is_no_hindrance(broker, fake):
    got = fake("qsub")
    environ = chained("pbs", PBS_JOBID="7", DDMQ_CHAIN_COMMAND="/login/only/qsub")
    assert chain.continue_chain(f"{broker.root}/jobs", environ) == "12345"
    assert "/the/script.sh" in got()


def test_a_chain_may_be_for_ever(broker, fake):
    fake("sbatch")
    path = f"{broker.root}/jobs"
    environ = chained(left="9" * 18, SLURM_JOB_ID="7")
    assert chain.continue_chain(path, environ) == "12345"


def test_a_scheduler_that_is_none_of_ours_is_named(broker):
    with pytest.raises(
        InvalidArgument, match="SCHEDULER is 'lsf'; it must be one of sl"
    ):
        chain.continue_chain(f"{broker.root}/jobs", chained("lsf"))


@pytest.mark.parametrize(
    "environ",
    [
        {},
        *(chained(left=x) for x in ("0", "x", "²", "9" * 5000)),
        {"DDMQ_CHAIN_LEFT": "3"},
    ],
)
def test_a_chain_has_an_end(broker, fake, environ):
    got = fake("sbatch")
    assert chain.continue_chain(f"{broker.root}/jobs", environ) is None
    assert got() is None


@pytest.mark.parametrize(
    ("restarts", "asked"), [("0", True), ("1", True), ("2", False)]
)
def test_a_task_requeues_itself_and_never_the_whole_array(
    broker, fake, restarts, asked
):
    got = fake("scontrol", "")
    environ = {
        **chained(left="2"),
        "DDMQ_CHAIN_SCRIPT": "requeue",
        "SLURM_JOB_ID": "9",
        "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_RESTART_COUNT": restarts,
    }
    said = chain.continue_chain(f"{broker.root}/jobs", environ)
    assert bool(said) == asked
    assert (got() or [])[:2] == (["requeue", "7_3"] if asked else [])
