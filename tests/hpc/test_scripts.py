"""Job scripts to copy, run as their scheduler runs them, by stand-ins for what it has."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

import ddmq
from ddmq import Broker
from ddmq.cli import submit
from ddmq.hpc import journal

TOP = Path(__file__).parents[2]
SCRIPTS = TOP / "scripts"
WORKER = f"""\
#!/bin/sh
umask >> umasks
PYTHONPATH={Path(ddmq.__file__).parent.parent} exec {sys.executable} -c \
'import sys; from ddmq.cli.worker import main; sys.exit(main())' "$@"
"""
#: As PBS has it: a task on each node, which gets nothing of the job's environment.
PBSDSH = """\
#!/bin/sh
[ "$1" = -- ] && shift
cd / && umask 0077
for node in 1 2 3 4; do
    env -i PATH=/usr/bin:/bin "$@" &
done
wait
"""
#: As Slurm has it: what the job has is handed on only where it is asked for, or by default.
SRUN = """\
#!/bin/sh
kept=-i
while [ "${1#--}" != "$1" ]; do
    [ "$1" = --export=ALL ] && kept=
    shift
done
exec env $kept "$@"
"""
PUBLISH = f"""\
#!/bin/sh
PYTHONPATH={Path(ddmq.__file__).parent.parent} exec {sys.executable} -m ddmq "$@"
"""


@pytest.fixture
def submitted_from(tmp_path):
    """Make a directory with a command, and with what a scheduler finds on its PATH."""
    (tmp_path / "bin").mkdir()
    for name, text in (
        ("bin/ddmq-worker", WORKER),
        ("bin/ddmq", PUBLISH),
        ("bin/pbsdsh", PBSDSH),
        ("bin/srun", SRUN),
        ("bin/tool", '#!/bin/sh\ntouch "done-$1"\n'),
        ("process.sh", '#!/bin/sh\nexec tool "$1"\n'),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def start_as_job(name, root, directory, where, edit=str, **variables):
    """Start a copy of a script as a job, edited as its user would."""
    text = edit((SCRIPTS / name).read_text().replace("/scratch/mq", str(root)))
    text = text.replace("/CHANGE-ME/bin", f"{directory}/bin")
    return start_text_as_job(text, directory, where, **variables)


def start_text_as_job(text, directory, where, **variables):
    """Start a script as a job."""
    (directory / "job.sh").write_text(text)
    command = ["/bin/bash", directory / "job.sh"]
    environ = {"PATH": "/bin:/usr/bin", **variables}  # as it is where nobody set it
    return subprocess.Popen(command, env=environ, cwd=where)


def run_as_job(*arguments, **variables):
    """Run a copy of a script as a job, to its end."""
    assert start_as_job(*arguments, **variables).wait(60) == 0


PBS = {"PBS_JOBID": "7[2].host", "PBS_ARRAY_INDEX": "2", "NCPUS": "2"}
SGE = {"JOB_ID": "7", "SGE_TASK_ID": "2", "NSLOTS": "2"}
SLURM = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "2"}


@pytest.mark.parametrize(
    ("name", "workers", "job", "variables"),
    [
        ("pbs/array.sh", 1, "7.host_2", PBS),
        ("pbs/preemptible.sh", 1, "7.host_2", PBS),
        ("pbs/nodes.sh", 4, "", PBS),
        ("pbs/chain.sh", 1, "7.host_2", PBS),
        ("sge/array.sh", 1, "7_2", SGE),
        ("slurm/array.sh", 1, "7", SLURM),
        ("slurm/chain.sh", 1, "7", SLURM),
        ("slurm/nodes.sh", 1, "7", SLURM),
        ("slurm/preemptible.sh", 1, "7", SLURM),
    ],
)
def test_a_script_works_where_its_scheduler_puts_it(
    submitted_from, root, name, workers, job, variables
):
    Broker(root, create=True).publish_many("jobs", map(str, range(30)), durable=False)
    told = {
        "PBS_O_WORKDIR": str(submitted_from),
        "SLURM_SUBMIT_DIR": str(submitted_from),
    }
    # PBS starts jobs in the home directory.
    where = "/" if variables is PBS else submitted_from
    run_as_job(name, root, submitted_from, where, **variables, **told)
    runs = list(journal.read(f"{root}/jobs"))
    assert {run.job for run in runs} == {job}
    assert sorted(run.result for run in runs) == ["acked"] * 30
    assert len(list(submitted_from.glob("done-*"))) == 30
    assert (submitted_from / "umasks").read_text().split() == ["0022"] * workers


@pytest.mark.parametrize("name", ["pbs/publish.sh", "slurm/publish.sh"])
def test_a_script_that_publishes_works_without_a_path(submitted_from, root, name):
    (submitted_from / "files.txt").write_text("a\nb\n")
    where = str(submitted_from)
    told = {"PBS_O_WORKDIR": where, "SLURM_SUBMIT_DIR": where}
    run_as_job(name, root, submitted_from, "/", **told)
    assert Broker(root).view("jobs")["jobs"].waiting == 2


CHILDREN = {"good": "exit 0", "bad": "exit 3", "killed": "kill -KILL $$"}


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ("good", "good", 0),
        ("good", "bad", 3),
        ("bad", "good", 3),
        ("killed", "good", 137),
        ("good", "killed", 137),
    ],
)
def test_the_script_of_the_docs_hides_no_child_that_was_killed(
    tmp_path, first, second, status
):
    text = (SCRIPTS.parent / "docs" / "hpc.md").read_text()
    [script] = re.findall(r"```sh\n(#!/bin/sh\n# process\.sh: .*?)```", text, re.DOTALL)
    for name, child in (("align", first), ("count", second)):
        (tmp_path / name).write_text(f"#!/bin/sh\n{CHILDREN[child]}\n")
        (tmp_path / name).chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    for shell in ("sh", "bash"):
        run = partial(subprocess.run, capture_output=True, env=environ, check=False)
        assert run([shell, "-c", script, "process.sh", "a"]).returncode == status
        bare = re.sub(r"(?m)^(status|wait|exit).*\n", "", script) + "wait\n"
        assert run([shell, "-c", bare, "process.sh", "a"]).returncode == 0


def test_every_script_says_where_its_commands_are():
    scripts = sorted(SCRIPTS.glob("*/*.sh"))
    assert len(scripts) == 11
    for script in scripts:
        assert '\nexport PATH="/CHANGE-ME/bin:$PATH"\n' in script.read_text(), script


@pytest.mark.parametrize(
    ("scheduler", "variables"), [("pbs", PBS), ("sge", SGE), ("slurm", SLURM)]
)
def test_a_script_of_ddmq_submit_finds_the_worker_beside_its_python(
    submitted_from, root, monkeypatch, capsys, scheduler, variables
):
    Broker(root, create=True).publish_many("jobs", ["1", "2"], durable=False)
    monkeypatch.setattr(sys, "executable", f"{submitted_from}/bin/python")
    words = [scheduler, str(root), "jobs", "--dry-run", "-j", "2", "--", "touch"]
    assert submit.main(words) == 0
    text = capsys.readouterr().out
    where = str(submitted_from)
    told = {"PBS_O_WORKDIR": where, "SLURM_SUBMIT_DIR": where}
    at = "/" if scheduler == "pbs" else where
    job = start_text_as_job(text, submitted_from, at, **variables, **told)
    assert job.wait(60) == 0
    assert (submitted_from / "1").exists()
    assert (submitted_from / "2").exists()


def test_the_job_scripts_that_the_docs_show_find_their_commands(submitted_from, root):
    Broker(root, create=True).create_queue("jobs")
    process = submitted_from / "process.sh"
    process.write_text('#!/bin/sh\n: > "done-$1"\n')  # needs no PATH
    pages = [TOP / "README.md", *TOP.glob("docs/*.md")]
    shown = [
        script
        for page in pages
        for script in re.findall(
            r"^(#!/bin/bash.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
        )
    ]
    assert shown
    for number, script in enumerate(shown):
        Broker(root).publish("jobs", f"{number}", durable=False)
        text = script.replace("/home/me/venv/bin", f"{submitted_from}/bin")
        text = text.replace("/scratch/mq", str(root))
        told = {"SLURM_SUBMIT_DIR": str(submitted_from)}
        job = start_text_as_job(text, submitted_from, "/", **SLURM, **told)
        assert job.wait(60) == 0
        assert (submitted_from / f"done-{number}").exists()


@pytest.fixture
def qsub(tmp_path):
    """Make a `qsub` that only the login node has on its PATH; return what it is asked."""
    asked, login = tmp_path / "asked", tmp_path / "login"
    login.mkdir()
    (login / "qsub").write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    (login / "qsub").chmod(0o755)
    return asked


def chained(
    root, directory, walltime, signals=(), texts=("a", "b"), run="exec sleep 60"
):
    """Run the chain of PBS; send it signals when it has started a command."""
    Broker(root, create=True).publish_many("jobs", texts, durable=False)
    started = directory / "started"
    process = directory / "process.sh"
    process.write_text(f"#!/bin/sh\nPATH=/bin:/usr/bin\n: > {started}; {run}\n")
    paths = {"PATH": directory / "bin", "PBS_O_PATH": directory / "login"}
    told = {**PBS, **paths, "PBS_O_WORKDIR": directory}
    job = start_as_job(
        *("pbs/chain.sh", root, directory, "/"),
        lambda text: text.replace("08:00:00 --log", f"{walltime} --log"),
        **{name: str(value) for name, value in told.items()},
    )
    for number in signals:
        while not started.exists():
            assert job.poll() is None
            time.sleep(0.01)
        job.send_signal(number)
    assert job.wait(60) == 5


def test_a_chain_goes_on_at_its_end_and_finds_qsub(submitted_from, root, qsub):
    chained(root, submitted_from, "00:00:12")
    handed_on = "DDMQ_CHAIN_LEFT=9,DDMQ_CHAIN_ID=7.host"
    assert qsub.read_text() == f"-v {handed_on} {submitted_from}/chain.sh\n"


def test_a_chain_ends_where_the_first_commands_all_fail(submitted_from, root, qsub):
    chained(root, submitted_from, "00:01:00", texts=["x"] * 30, run="exit 1")
    assert not qsub.exists()
    assert Broker(root).view("jobs")["jobs"] == (30, 0, 0, 0)


def test_a_qdel_near_the_end_ends_the_chain(submitted_from, root, qsub):
    """PBS says SIGTERM at the walltime and to a job that is deleted."""
    chained(root, submitted_from, "00:01:00", [signal.SIGTERM])
    assert not qsub.exists()
