"""`ddmq-submit` with schedulers that are executables on the PATH, and the job scripts."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from ddmq import Broker
from ddmq.hpc import chain, scheduler, submit, submit_cli

SCRIPTS = sorted((Path(__file__).parents[2] / "scripts").glob("*/*.sh"))
SCHEDULERS = ["slurm", "pbs", "sge"]
COMMAND = ["--", "./process.sh", "{} 'x' \"y\" $z; `w`", "-o", "--"]


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path / "mq", create=True)
    broker.create_queue("jobs")
    return broker


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Return a function that puts a fake command first on the PATH, and says what it got."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    monkeypatch.setenv("PATH", f"{bin_}:/usr/bin:/bin")

    def make(name, says="12345", status=0):
        log = tmp_path / f"{name}.log"
        program = bin_ / name
        program.write_text(
            '#!/bin/sh\nprintf "%s\\n" "$@" "LEFT=$DDMQ_CHAIN_LEFT" > '
            f"{shlex.quote(str(log))}\necho {shlex.quote(says)} "
            f"{'' if status == 0 else '>&2'}\nexit {status}\n"
        )
        program.chmod(0o755)
        return lambda: log.read_text().splitlines() if log.exists() else None

    return make


def run(capsys, *arguments):
    status = submit_cli.main([str(a) for a in arguments])
    return (status, *capsys.readouterr())


def dry(capsys, name, broker, *options, command=COMMAND):
    status, out, _ = run(
        capsys, name, broker.root, "jobs", "--dry-run", *options, *command
    )
    assert status == 0
    return out


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_script_ends_in_the_worker_with_every_argument_whole(capsys, broker, name):
    out = dry(capsys, name, broker, "-j", 16, "--backoff", "1,2", "--time", "2:00:00")
    last = shlex.split(out.splitlines()[-1])
    assert last[0] == "exec"
    assert last[last.index("--") :] == COMMAND
    assert last[last.index("-j") + 1] == "16"
    assert last[last.index("--backoff") + 1] == "1,2"
    assert [broker.root, "jobs"] == last[last.index("--") - 2 : last.index("--")]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "slurm",
            {
                "#SBATCH --array=1-20",
                "#SBATCH --cpus-per-task=16",
                "#SBATCH --time=26:00:00",
                "#SBATCH --signal=B:USR1@120",
                "#SBATCH --account=abc",
                "#SBATCH -q long",
                "#SBATCH --exclusive",
            },
        ),
        (
            "pbs",
            {
                "#PBS -J 1-20",
                "#PBS -l select=1:ncpus=16",
                "#PBS -l walltime=26:00:00",
                "#PBS -l account=abc",
                "#PBS -q long",
            },
        ),
        ("sge", {"#$ -t 1-20", "#$ -pe smp 16", "#$ -l h_rt=26:00:00", "#$ -q long"}),
    ],
)
def test_each_scheduler_is_spoken_to_in_its_words(capsys, broker, name, lines):
    options = ["--workers", 20, "-j", 16, "--time", "1-2:00:00"]
    options += ["-o", "account=abc", "-o", "q=long", "-o", "exclusive"]
    assert lines <= set(dry(capsys, name, broker, *options).splitlines())


@pytest.mark.parametrize("name", ["pbs", "sge"])
def test_who_is_not_told_the_end_is_told_the_time(capsys, broker, name):
    assert "--time 02:00:00 " in dry(capsys, name, broker, "--time", "2:00:00")


def test_the_umask_is_that_of_the_submission(capsys, broker):
    before = os.umask(0o027)
    try:
        assert "\numask 0027\n" in dry(capsys, "pbs", broker)
    finally:
        os.umask(before)


def test_a_short_job_is_not_warned_at_its_start(capsys, broker):
    assert "USR1@15\n" in dry(capsys, "slurm", broker, "--time", "1:00")


@pytest.mark.parametrize(
    ("waiting", "options", "workers"),
    [
        (0, [], 1),
        (95, [], 10),
        (95, ["-j", "4"], 3),
        (95, ["--max-workers", "5"], 5),
    ],
)
def test_auto_is_enough_for_the_backlog(capsys, broker, waiting, options, workers):
    broker.publish_many("jobs", ["x"] * waiting, durable=False)
    out = dry(capsys, "slurm", broker, "--workers", "auto", *options)
    found = re.search(r"--array=1-(\d+)", out)
    assert (int(found[1]) if found else 1) == workers


def test_the_job_is_submitted_and_its_id_printed(capsys, broker, fake):
    got = fake("sbatch", "Submitted batch job 12345")
    status, out, _ = run(capsys, "slurm", broker.root, "jobs", *COMMAND)
    assert (status, out) == (0, "Submitted batch job 12345\n")
    assert Path(got()[0]).read_text().startswith("#!/bin/bash\n#SBATCH")


def test_the_schedulers_own_words_are_quoted(capsys, broker, fake):
    fake("sbatch", "sbatch: error: invalid account", status=1)
    status, _, err = run(capsys, "slurm", broker.root, "jobs", *COMMAND)
    assert status == 1
    assert "invalid account" in err


def test_a_node_without_scheduler_is_explained(capsys, broker, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    status, _, err = run(capsys, "pbs", broker.root, "jobs", *COMMAND)
    assert status == 1
    assert "qsub: No such file" in err


def test_what_can_not_work_is_refused(capsys, broker, tmp_path):
    short = ["--time", "0:30", "--min-remaining", "60"]
    status, _, err = run(capsys, "slurm", broker.root, "jobs", *short, *COMMAND)
    assert (status, "no message would ever be started" in err) == (1, True)
    status, _, err = run(capsys, "slurm", broker.root, "nothing", *COMMAND)
    assert (status, "no such queue" in err) == (1, True)
    status, _, err = run(capsys, "slurm", tmp_path / "none", "jobs", *COMMAND)
    assert (status, "no ddmq root" in err) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["slurm", "/r", "q"],
        ["lsf", "/r", "q", *COMMAND],
        ["slurm", "/r", "q", "--workers", "none", *COMMAND],
        ["slurm", "/r", "q", "--time", "60", *COMMAND],
        ["slurm", "/r", "q", "--time", "1:2:3:4", *COMMAND],
        ["slurm", "/r", "q", "--bogus", *COMMAND],
    ],
)
def test_wrong_usage_ends_with_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        submit_cli.main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


# Chains


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
    assert got() == ["/the/script.sh", "LEFT=1"]


def test_pbs_is_handed_the_number_that_is_left(broker, fake):
    got = fake("qsub")
    environ = chained("pbs", PBS_JOBID="7[2].host")
    assert chain.continue_chain(f"{broker.root}/jobs", environ) == "12345"
    assert got() == ["-v", "DDMQ_CHAIN_LEFT=1", "/the/script.sh", "LEFT=1"]


@pytest.mark.parametrize(
    "environ", [{}, chained(left="0"), chained(left="x"), {"DDMQ_CHAIN_LEFT": "3"}]
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


@pytest.mark.parametrize("how", [[], ["--requeue"]])
def test_a_chained_script_says_so(capsys, broker, how):
    out = dry(capsys, "slurm", broker, "--chain", "5", *how)
    assert 'DDMQ_CHAIN_LEFT="${DDMQ_CHAIN_LEFT:-5}"' in out
    assert ("DDMQ_CHAIN_SCRIPT=requeue" in out) == bool(how)
    assert "DDMQ_CHAIN" not in dry(capsys, "slurm", broker)


# What schedulers tell


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
    ],
)
def test_the_environment_of_a_job_is_understood(environ, job, slots, end):
    assert scheduler.job_id(environ) == job
    assert scheduler.slots(environ) == slots
    assert scheduler.end_time(environ) == end


# Scripts


def checked(path):
    subprocess.run(["bash", "-n", path], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck here")
    subprocess.run(["shellcheck", path], check=True)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: "/".join(path.parts[-2:]))
def test_a_script_to_copy_is_sound(path):
    text = path.read_text()
    statements = text.rstrip().replace("\\\n", " ").splitlines()
    assert statements[-1].startswith("exec ")
    assert "umask" in text
    assert 'cd "$' in text or "-cwd" in text
    checked(path)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_rendered_script_is_sound(capsys, broker, tmp_path, name):
    script = tmp_path / "job.sh"
    options = ["--workers", 3, "-j", 2, "--time", "1:00:00", "--chain", 2]
    command = ["--", "./process.sh", "{}"]
    script.write_text(dry(capsys, name, broker, *options, command=command))
    checked(script)


def test_the_worker_is_the_one_that_is_installed_here(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.executable", f"{tmp_path}/python")
    worker = tmp_path / "ddmq-worker"
    worker.write_text("")
    worker.chmod(0o755)
    assert submit.worker_path() == str(worker)
