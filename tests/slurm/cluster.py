"""A real Slurm on one machine: a controller and some nodes on loopback, without systemd."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import daemons
from daemons import free_ports, lacking

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "qsub")
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "slurm-wlm-torque", "munge")
NODES = 4
CPUS = 16

CONF = """\
ClusterName=ddmqtest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={dir}/munge.socket,cred_expire=5
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool/%n
SlurmctldPidFile={dir}/slurmctld.pid
SlurmdPidFile={dir}/slurmd-%n.pid
SlurmctldLogFile={dir}/slurmctld.log
SlurmdLogFile={dir}/slurmd-%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
KillWait=5
ReturnToService=2
SlurmdTimeout=10
MinJobAge=3600
AccountingStorageType=accounting_storage/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=DEFAULT CPUs={cpus} RealMemory=4000
{nodes}
PartitionName=main Nodes=ALL Default=YES DefaultTime=10 PriorityTier=5 PreemptMode=off
PartitionName=low Nodes=ALL DefaultTime=10 PriorityTier=1 PreemptMode=requeue GraceTime=10
PartitionName=high Nodes=ALL DefaultTime=10 PriorityTier=9 PreemptMode=off
"""


def missing() -> list[str]:
    """Return the programs that are not installed."""
    return lacking(PROGRAMS)


def install() -> None:
    """Install what is missing with apt, as root."""
    if missing():
        daemons.install(PACKAGES)


class Cluster:
    """The cluster; all its files are in one directory."""

    def __init__(self, directory: Path) -> None:
        self.dir = directory
        self.environ = {
            **os.environ,
            "SLURM_CONF": str(directory / "slurm.conf"),
            "PATH": f"{os.environ['PATH']}:/usr/sbin",
        }

    def start(self) -> None:
        """Start all daemons, and wait until every node is idle."""
        for name in ("state", "spool", "munge"):
            (self.dir / name).mkdir(parents=True)
        (self.dir / "munge").chmod(0o700)
        key = self.dir / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        host = socket.gethostname().split(".")[0]
        where = f"NodeHostname={host} NodeAddr=127.0.0.1"
        port, *ports = free_ports(1 + NODES)
        nodes = "\n".join(
            f"NodeName=n{n} {where} Port={own}" for n, own in enumerate(ports, 1)
        )
        fields = {"dir": self.dir, "host": host, "port": port, "cpus": CPUS}
        (self.dir / "slurm.conf").write_text(CONF.format(nodes=nodes, **fields))
        (self.dir / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        self._start_daemons()
        self.until(lambda: len(self.idle()) == NODES)

    def _start_daemons(self) -> None:
        munge = self.dir / "munge"
        self.run(
            *("munged", "--force", f"--key-file={munge}/key"),
            *(f"--socket={self.dir}/munge.socket", f"--pid-file={self.dir}/munged.pid"),
            *(f"--log-file={self.dir}/munged.log", f"--seed-file={munge}/seed"),
        )
        self.run("slurmctld", "-i")
        for n in range(1, NODES + 1):
            self.start_node(f"n{n}")

    def start_node(self, node: str) -> None:
        """Start the daemon of one node."""
        self.run("slurmd", "-N", node)

    def idle(self) -> set[str]:
        """Return the nodes that are free."""
        found = self.run("sinfo", "-h", "-N", "-p", "main", "-t", "idle", "-o", "%N")
        return set(found.split())

    def run(self, *command: str, **options: object) -> str:
        """Run a command in the cluster's environment; return what it prints."""
        options = {"env": self.environ, "timeout": 120, **options}
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, **options
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def squeue(self) -> list[str]:
        """Return the jobs that are not over, an array's tasks one by one."""
        return self.run("squeue", "-h", "-r", "-o", "%i %T").splitlines()

    def until(self, claim, seconds: float = 60) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + seconds
        while not claim():
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.1)

    def told(self) -> str:
        """Return what the daemons said last."""
        logs = self.dir.glob("*.log")
        return "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in logs)

    def kill_node(self, node: str) -> None:
        """Lose a node: its daemon, its job steps and all that they started, by SIGKILL.

        In this order: a step would report to the controller that its command was killed.
        """
        daemon = int((self.dir / f"slurmd-{node}.pid").read_text())
        started = marked("SLURMD_NODENAME", node, self.environ["SLURM_CONF"])
        steps = {parent_of(pid) for pid in started} - {1, *started}
        for victim in (daemon, *steps, *started):
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)

    def stop(self) -> None:
        """End every job and every daemon."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self.run("scancel", "-u", "root", timeout=15)
            self.until(lambda: not self.squeue(), 15)
        for pid_file in sorted(
            self.dir.glob("*.pid"), key=lambda p: p.name, reverse=True
        ):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(pid_file.read_text()), signal.SIGKILL)
        for victim in marked("SLURM_CONF", self.environ["SLURM_CONF"], ""):
            if victim != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)


def parent_of(pid: int) -> int:
    """Return the parent of a process, 1 when it is gone."""
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        return int(stat.rpartition(")")[2].split()[1])
    return 1


def marked(name: str, value: str, other: str) -> list[int]:
    """Return the processes with a variable in their environment, and `other` somewhere in it."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            environ = Path(f"/proc/{pid}/environ").read_bytes()
            words = environ.split(b"\0")
            if f"{name}={value}".encode() in words and other.encode() in environ:
                found.append(int(pid))
    return found
