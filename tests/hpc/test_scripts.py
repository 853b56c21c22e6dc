"""Job scripts to copy, run as their scheduler runs them, by stand-ins for what it has."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ddmq
from ddmq import Broker
from ddmq.hpc import journal

SCRIPTS = Path(__file__).parents[2] / "scripts"
WORKER = f"""\
#!/bin/sh
umask >> umasks
PYTHONPATH={Path(ddmq.__file__).parent.parent} exec {sys.executable} -c \
'import sys; from ddmq.hpc.cli import main; sys.exit(main())' "$@"
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


@pytest.fixture
def submitted_from(tmp_path):
    """Make a directory with a command, and with what a scheduler finds on its PATH."""
    (tmp_path / "bin").mkdir()
    for name, text in (
        ("bin/ddmq-worker", WORKER),
        ("bin/pbsdsh", PBSDSH),
        ("process.sh", '#!/bin/sh\ntouch "done-$1"\n'),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def start_as_job(name, root, directory, where, edit=str, **variables):
    """Start a copy of a script as a job, edited as its user would."""
    text = edit((SCRIPTS / name).read_text().replace("/scratch/mq", str(root)))
    (directory / "job.sh").write_text(text)
    path = f"{directory}/bin:/usr/bin:/bin"
    command = ["/bin/bash", directory / "job.sh"]
    return subprocess.Popen(command, env={"PATH": path, **variables}, cwd=where)


def run_as_job(*arguments, **variables):
    """Run a copy of a script as a job, to its end."""
    assert start_as_job(*arguments, **variables).wait(60) == 0


PBS = {"PBS_JOBID": "7[2].host", "PBS_ARRAY_INDEX": "2", "NCPUS": "2"}
SGE = {"JOB_ID": "7", "SGE_TASK_ID": "2", "NSLOTS": "2"}


@pytest.mark.parametrize(
    ("name", "workers", "job", "variables"),
    [
        ("pbs/array.sh", 1, "7.host_2", PBS),
        ("pbs/preemptible.sh", 1, "7.host_2", PBS),
        ("pbs/nodes.sh", 4, "", PBS),
        ("sge/array.sh", 1, "7_2", SGE),
    ],
)
def test_a_script_works_where_its_scheduler_puts_it(
    submitted_from, root, name, workers, job, variables
):
    Broker(root, create=True).publish_many("jobs", map(str, range(30)), durable=False)
    told = {"PBS_O_WORKDIR": str(submitted_from)} if variables is PBS else {}
    where = "/" if told else submitted_from  # PBS starts jobs in the home directory
    run_as_job(name, root, submitted_from, where, **variables, **told)
    runs = list(journal.read(f"{root}/jobs"))
    assert {run.job for run in runs} == {job}
    assert sorted(run.result for run in runs) == ["acked"] * 30
    assert len(list(submitted_from.glob("done-*"))) == 30
    assert (submitted_from / "umasks").read_text().split() == ["0022"] * workers


@pytest.fixture
def qsub(tmp_path):
    """Make a `qsub` that only the login node has on its PATH; return what it is asked."""
    asked, login = tmp_path / "asked", tmp_path / "login"
    login.mkdir()
    (login / "qsub").write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    (login / "qsub").chmod(0o755)
    return asked


def chained(root, directory, walltime, signals=()):
    """Run the chain of PBS; send it signals when it has started a command."""
    Broker(root, create=True).publish_many("jobs", ["a", "b"], durable=False)
    started = directory / "started"
    process = directory / "process.sh"
    process.write_text(f"#!/bin/sh\n: > {started}; exec /bin/sleep 60\n")
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
    chained(root, submitted_from, "00:00:10")
    handed_on = "DDMQ_CHAIN_LEFT=9,DDMQ_CHAIN_ID=7.host"
    assert qsub.read_text() == f"-v {handed_on} {submitted_from}/chain.sh\n"


def test_a_qdel_near_the_end_ends_the_chain(submitted_from, root, qsub):
    """PBS says SIGTERM at the walltime and to a job that is deleted."""
    chained(root, submitted_from, "00:01:00", [signal.SIGTERM])
    assert not qsub.exists()
