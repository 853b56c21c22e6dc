"""Workers as jobs of a real Slurm: nothing is lost, and nothing runs twice at once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from slurm.cluster import Cluster, install, missing

import ddmq
from ddmq import Broker
from ddmq.hpc import journal

pytestmark = pytest.mark.slurm
SCRIPTS = Path(__file__).parents[2] / "scripts"
PACKAGE = Path(ddmq.__file__).parent.parent

#: Notes when it starts and ends, each run in files of its own, and whether another run of
#: the same message goes on beside it: whoever lives holds the lock, children included.
PROCESS = """\
#!/bin/bash
exec 9> "{runs}/$1.lock"
flock -n 9 || touch "{runs}/$1.twice"
touch "{runs}/$1.$DDMQ_LOSSES.$$.start"
sleep {seconds}
touch "{runs}/$1.$DDMQ_LOSSES.$$.end"
"""
#: slurm-wlm-torque takes no script from standard input, as PBS and SGE do.
QSUB = """#!/bin/sh
for last; do :; done
[ -f "$last" ] || {{ cat > stdin.sh; set -- "$@" stdin.sh; }}
exec {real} "$@"
"""
#: What a PBS has and a Slurm has not: it starts a command on each node, without the
#: environment of the job.
PBSDSH = """\
#!/bin/sh
[ "$1" = -- ] && shift
exec srun --ntasks-per-node=1 env -i PATH=/usr/bin:/bin "$@"
"""
#: A command with something to do, and something to complain about.
CHECKSUM = """\
#!/bin/bash
if grep -q bad "$1"; then
    echo "$1: bad header" >&2
    exit 2
fi
sha256sum "$1" > "$1.sha256"
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
        self.ddmq = self._command("ddmq", "ddmq.cli.main")
        self.worker = self._command("ddmq-worker", "ddmq.cli.worker")
        self.submitter = self._command("ddmq-submit", "ddmq.cli.submit")
        self.program("pbsdsh", PBSDSH)
        self.program("qsub", QSUB.format(real=shutil.which("qsub")))
        path_ = f"{path}:{cluster.environ['PATH']}"
        # slurm-wlm-torque sets no PBS_ variables, as a PBS would
        self.environ = {**cluster.environ, "PATH": path_, "PBS_O_WORKDIR": str(path)}

    def _command(self, name: str, module: str) -> str:
        """Make a command of the ddmq that is tested."""
        return self.program(
            name,
            f"#!/bin/sh\nPYTHONPATH={PACKAGE} exec {sys.executable} -c "
            f"'import sys; from {module} import main; sys.exit(main())' \"$@\"\n",
        )

    def program(self, name: str, text: str) -> str:
        program = self.path / name
        program.write_text(text)
        program.chmod(0o755)
        return str(program)

    def process(self, seconds: float) -> str:
        """Make the command that is run for each message."""
        text = PROCESS.format(runs=self.runs, seconds=seconds)
        return self.program("process.sh", text)

    def publish(self, number: int) -> None:
        self.broker.publish_many("jobs", [f"m{n:03d}" for n in range(number)])

    def run(self, *command: str) -> str:
        return self.cluster.run(*command, cwd=str(self.path), env=self.environ)

    def submit(self, *options: str, seconds: float, scheduler: str = "slurm") -> str:
        """Submit workers; return the id of their job."""
        command = [self.submitter, scheduler, str(self.root), "jobs"]
        command += ["--worker", self.worker, *options, "--", self.process(seconds)]
        return self.run(*command).split()[-1].split(".")[0]

    def submit_copy(self, name: str, command: str) -> None:
        """Submit one of the scripts to copy, edited as its user would."""
        text = (SCRIPTS / name).read_text().replace("/scratch/mq", str(self.root))
        lines = text.splitlines()
        copy = self.path / Path(name).name
        kept = [line for line in lines if "CHANGE-ME" not in line]
        copy.write_text("\n".join(kept) + "\n")
        self.run(command, copy.name)

    def counts(self):
        return tuple(self.broker.view("jobs")["jobs"])

    def idle(self) -> bool:
        return not self.cluster.squeue()

    def started(self) -> int:
        return len(list(self.runs.glob("*.start")))

    def losses(self) -> list[str]:
        """Return how often each message had been lost when it was done."""
        return [path.name.split(".")[1] for path in self.runs.glob("*.end")]

    def jobs(self) -> list[str]:
        """Return the ids of the jobs in which messages were acked, one for each ack."""
        runs = journal.read(f"{self.root}/jobs")
        return [run.job for run in runs if run.result == "acked"]

    def work_off(self) -> None:
        """Run a worker here until nothing is left."""
        process = self.process(0)
        done = [self.worker, "-j", "8", "--until-done", "--poll-max", "0.5"]
        done += [str(self.root), "jobs", "--", process]
        subprocess.run(done, check=True, timeout=120, capture_output=True)

    def assert_all_done(self, number: int, unwritten: int = 0) -> None:
        """Each message was acked, once, and no two runs of one were alive together.

        A worker that was killed has not written down its last acks: `unwritten` at most.
        """
        assert self.counts() == (0, 0, 0, 0)
        assert list(self.runs.glob("*.twice")) == []
        ended = {path.name.split(".")[0] for path in self.runs.glob("*.end")}
        assert ended == {f"m{n:03d}" for n in range(number)}
        runs = journal.read(f"{self.root}/jobs")
        acks = Counter(run.id for run in runs if run.result == "acked")
        assert set(acks.values()) == {1}
        assert number - unwritten <= len(acks) <= number


@pytest.fixture
def lab(cluster, tmp_path):
    lab = Lab(cluster, tmp_path)
    yield lab
    cluster.run("scancel", "-u", "root")
    cluster.until(lab.idle, 30)


def test_an_array_of_workers_does_everything_once(lab):
    lab.publish(200)
    options = ["--workers", "4", "-j", "2", "--time", "5:00", "-o", "exclusive"]
    job = lab.submit(*options, seconds=0.05)
    lab.cluster.until(lab.idle)
    lab.assert_all_done(200)
    assert lab.started() == 200
    assert set(lab.jobs()) == {f"{job}_{n}" for n in range(1, 5)}


def test_one_file_without_an_installation_submits_and_works(lab, pyz):
    command = [sys.executable, "-S", str(pyz)]
    where = [str(lab.root), "jobs"]
    lab.publish(20)
    options = ["--workers", "2", "-j", "2", "--time", "5:00"]
    submit = [*command, "submit", "slurm", *where, *options]
    lab.run(*submit, "--", lab.process(0.05))
    lab.cluster.until(lab.idle)
    lab.assert_all_done(20)
    [script] = (lab.root / "jobs" / "jobs").iterdir()
    assert f"\nexec {sys.executable} {pyz} worker -j 2 " in script.read_text()


def test_a_cancelled_job_gives_its_messages_back(lab):
    lab.publish(6)
    near_its_end = ["--time", "5:00", "--chain", "1"]
    options = ["--grace", "2", *near_its_end]
    job = lab.submit("-j", "2", *options, seconds=30)
    lab.cluster.until(lambda: lab.started() == 2)
    lab.cluster.run("scancel", job)
    lab.cluster.until(lab.idle)
    lab.cluster.until(lambda: lab.counts() == (6, 0, 0, 0), 15)
    assert lab.started() == 2  # and not started again
    counters = [m.requeue_counter for m in lab.broker.consume("jobs", 6)]
    assert counters == [0] * 6


def test_a_killed_worker_costs_losses_and_leaves_nothing_running(lab):
    lab.publish(6)
    job = lab.submit("-j", "2", "--time", "5:00", seconds=60)
    lab.cluster.until(lambda: lab.started() == 2)
    lab.cluster.run("scancel", "--batch", "--signal=KILL", job)
    lab.cluster.until(lab.idle)
    lab.cluster.until(lambda: lab.counts() == (6, 0, 0, 0), 15)
    lab.work_off()  # at once: what still ran would be noticed
    lab.assert_all_done(6)
    assert sorted(lab.losses()) == ["0"] * 4 + ["1"] * 2


def test_a_job_that_is_requeued_goes_on(lab):
    lab.publish(6)
    job = lab.submit("-j", "2", "--time", "5:00", "--grace", "1", seconds=1)
    lab.cluster.until(lambda: lab.started() == 2)
    lab.cluster.run("scontrol", "requeue", job)
    lab.cluster.until(lab.idle, 60)
    lab.assert_all_done(6)


def test_a_time_limit_is_no_failure(lab):
    lab.publish(3)
    options = ["--time", "1:00", "--min-remaining", "0", "--grace", "2", "--chain", "1"]
    lab.submit("-j", "2", *options, seconds=200)
    lab.cluster.until(lambda: lab.started() == 2)
    lab.cluster.until(lab.idle, 300)
    assert lab.started() == 4  # the early warning let the chain go on
    lab.cluster.until(lambda: lab.counts() == (3, 0, 0, 0), 15)
    assert [m.requeue_counter for m in lab.broker.consume("jobs", 3)] == [0] * 3


def test_a_preempted_job_gives_its_messages_back_and_goes_on(lab):
    lab.publish(6)
    options = ["-o", "partition=low", "-o", "exclusive", "-o", "requeue"]
    lab.submit("-j", "2", *options, "--time", "5:00", "--grace", "1", seconds=4)
    lab.cluster.until(lambda: lab.started() == 2)
    competitor = ["sbatch", "-p", "high", "-N", "4", "--exclusive", "--wrap", "true"]
    lab.run(*competitor)
    lab.cluster.until(lab.idle, 90)
    lab.assert_all_done(6)


def test_a_lost_node_costs_a_loss_and_no_message(lab):
    lab.publish(4)
    lab.submit("-j", "2", "--time", "5:00", "-o", "requeue", seconds=3)
    lab.cluster.until(lambda: lab.started() == 2)
    node = lab.run("squeue", "-h", "-o", "%N").strip()
    lab.cluster.kill_node(node)
    lab.cluster.until(lab.idle, 90)  # Slurm has started it anew, on another node
    lab.cluster.start_node(node)
    lab.cluster.until(lambda: node in lab.cluster.idle())
    lab.assert_all_done(4)
    assert sorted(lab.losses()) == ["0", "0", "1", "1"]


#: A job that stops after two messages, within minutes of its end.
SHORT = ("-j", "1", "--time", "1:00", "--min-remaining", "0", "--max-messages", "2")


@pytest.mark.parametrize("export", ["ALL", "NONE"])
def test_a_chain_of_two_ends_there(lab, export):
    lab.publish(12)
    chain = ["--workers", "2", "--chain", "1", "-o", f"export={export}"]
    lab.submit(*SHORT, *chain, seconds=0.2)
    lab.cluster.until(lambda: len(lab.jobs()) == 8)
    lab.cluster.until(lab.idle)
    assert lab.counts() == (4, 0, 0, 0)
    assert len({job.split("_")[0] for job in lab.jobs()}) == 2
    lab.work_off()
    lab.assert_all_done(12)


def test_each_task_of_an_array_requeues_itself(lab):
    lab.publish(12)
    chain = ["--workers", "2", "--chain", "1", "--requeue"]
    job = lab.submit(*SHORT, *chain, seconds=0.2)
    lab.cluster.until(lambda: len(lab.jobs()) == 8)
    lab.cluster.until(lab.idle)
    assert lab.counts() == (4, 0, 0, 0)
    assert Counter(lab.jobs()) == {f"{job}_1": 4, f"{job}_2": 4}
    lab.work_off()
    lab.assert_all_done(12)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("slurm/array.sh", "sbatch"),
        ("slurm/chain.sh", "sbatch"),
        ("slurm/nodes.sh", "sbatch"),
        ("slurm/preemptible.sh", "sbatch"),
        ("pbs/array.sh", "qsub"),
        ("pbs/chain.sh", "qsub"),
        ("pbs/nodes.sh", "qsub"),
        ("pbs/preemptible.sh", "qsub"),
    ],
)
def test_a_script_to_copy_works(lab, name, command):
    lab.process(0.01)
    lab.publish(40)
    lab.submit_copy(name, command)
    lab.cluster.until(lab.idle)
    lab.assert_all_done(40)


@pytest.mark.parametrize(
    ("name", "command"), [("slurm/publish.sh", "sbatch"), ("pbs/publish.sh", "qsub")]
)
def test_a_job_publishes(lab, name, command):
    (lab.path / "files.txt").write_text("a\nb\nc\n")
    lab.submit_copy(name, command)
    lab.cluster.until(lab.idle)
    assert lab.counts() == (3, 0, 0, 0)


def test_the_pbs_directives_are_understood(lab):
    lab.publish(4)
    options = ["-j", "2", "--time", "5:00", "-o", "mem=100mb"]
    job = lab.submit(*options, seconds=0.1, scheduler="pbs")
    lab.cluster.until(lab.idle)
    lab.assert_all_done(4)
    shown = lab.cluster.run("scontrol", "show", "job", job)
    assert "TimeLimit=00:05:00" in shown
    assert "mem=100M" in shown
    assert "NumCPUs=2 " in shown


def test_the_commands_of_the_readme_work_as_written(lab):
    text = (SCRIPTS.parent / "README.md").read_text(encoding="utf-8")
    block = re.search(r"## On a cluster\n\n```\n(.*?)```", text, re.DOTALL)
    commands = block[1].replace("/scratch/mq", str(lab.root)).splitlines()
    names = [f"{n:02d}.txt" for n in range(20)]
    for name in names:
        (lab.path / name).write_text("bad" if name == "07.txt" else name)
    (lab.path / "files.txt").write_text("\n".join(names))
    lab.program("process.sh", CHECKSUM)
    publish, submit, view, redrive = commands
    lab.run("sh", "-c", publish)
    lab.run("sh", "-c", submit)
    lab.cluster.until(lab.idle)
    _, row, *hints = lab.run("sh", "-c", view).splitlines()
    assert row.split()[-5:-1] == ["0", "0", "0", "1"]
    assert any("ddmq redrive" in hint for hint in hints)
    assert "bad header" in lab.run(lab.ddmq, "dead", str(lab.root), "jobs")
    assert len(list(lab.path.glob("*.sha256"))) == 19
    assert lab.run("sh", "-c", redrive) == "1\n"
    assert lab.counts() == (1, 0, 0, 0)


def test_two_nodes_check_a_file_system_together(lab):
    scratch = lab.path / "scratch"
    scratch.mkdir()
    told = lab.run("srun", "-N2", lab.ddmq, "check", str(scratch))
    assert told.count("SAFE") == 1
    host = os.uname().nodename  # the nodes of this cluster are on one machine
    assert f"clients: a process on {host} and a process on {host}\n" in told
    assert list(scratch.iterdir()) == []


def test_a_job_that_does_not_use_srun_checks_alone(lab):
    scratch = lab.path / "scratch"
    scratch.mkdir()
    wrapped = f"{lab.ddmq} check {scratch}"
    out = lab.path / "check.out"
    lab.run("sbatch", "-W", "-N2", "-o", str(out), "--wrap", wrapped)
    assert "another on" in out.read_text()
