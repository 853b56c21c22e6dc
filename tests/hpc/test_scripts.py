"""Job scripts to copy, run as their scheduler runs them, by stand-ins for what it has."""

from __future__ import annotations

import subprocess
import sys
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


def run_as_job(name, root, directory, where, **variables):
    """Run a copy of a script as a job."""
    text = (SCRIPTS / name).read_text().replace("/scratch/mq", str(root))
    (directory / "job.sh").write_text(text)
    path = f"{directory}/bin:/usr/bin:/bin"
    command = ["bash", directory / "job.sh"]
    return subprocess.run(
        command, env={"PATH": path, **variables}, cwd=where, check=True, timeout=60
    )


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
