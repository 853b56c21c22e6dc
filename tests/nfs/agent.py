"""What runs in a guest: it does what the host asks for, over a port of the virtual machine.

A request is a pickled `(number, function, arguments)`, a reply `(number, result, trouble)`.
Each is done in a thread of its own, so that one that hangs on NFS holds up no other.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import traceback
from typing import Any

#: The processes that were started, by their ids.
PROCESSES: dict[int, subprocess.Popen[bytes]] = {}


def start(command: list[str], out: str, environ: dict[str, str]) -> int:
    """Start a process whose output goes to a file; return its id."""
    with open(out, "ab") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env={**os.environ, **environ},
        )
    PROCESSES[process.pid] = process
    return process.pid


def wait(pid: int) -> int:
    """Return how a process ended, once it has."""
    return PROCESSES[pid].wait()


def signal(pid: int, number: int) -> None:
    """Send a signal, unless the process has ended."""
    PROCESSES[pid].send_signal(number)


def ask(root: str, verb: str, arguments: tuple[Any, ...], options: Any) -> Any:
    """Let a client of the root that has just been opened do something."""
    from ddmq import Broker

    return getattr(Broker(root), verb)(*arguments, **options)


def make_root(root: str) -> None:
    """Make a root, with a client of its own."""
    from ddmq import Broker

    Broker(root, create=True)


def restart_server(grace: int) -> None:
    """Restart the NFS server, which then grants no lock for so many seconds."""
    subprocess.run(["rpc.nfsd", "0"], check=True)
    for setting in (
        "/proc/sys/fs/nfs/nlm_grace_period",
        "/proc/fs/nfsd/nfsv4gracetime",
    ):
        with open(setting, "w") as file:
            file.write(str(grace))
    subprocess.run(["rpc.nfsd", "8"], check=True)


def files_in(directories: list[str]) -> list[str]:
    """Return the paths of all files below some directories."""
    walks = (os.walk(directory) for directory in directories)
    return [
        f"{top}/{file}" for walk in walks for top, _, files in walk for file in files
    ]


def serve() -> None:
    """Do what we are asked, until the power fails."""
    descriptor = os.open(_port(), os.O_RDWR)
    lock = threading.Lock()

    def reply(*words: Any) -> None:
        data = pickle.dumps(words)
        with lock:
            while data:
                data = data[os.write(descriptor, data) :]

    def act(number: int, function: Any, arguments: tuple[Any, ...]) -> None:
        try:
            reply(number, function(*arguments), None)
        except Exception:  # noqa: BLE001 - the host is told, whatever it is
            reply(number, None, traceback.format_exc())

    reply(0, "booted", None)
    with open(descriptor, "rb", closefd=False) as stream:
        while True:
            request = pickle.load(stream)
            threading.Thread(target=act, args=request, daemon=True).start()


def _port() -> str:
    for name in os.listdir("/sys/class/virtio-ports"):
        with open(f"/sys/class/virtio-ports/{name}/name") as stream:
            if stream.read().strip() == "agent":
                return f"/dev/{name}"
    sys.exit("this machine has no port to its host")


if __name__ == "__main__":
    # Requests name functions of this module: there must be one of it, not two.
    from nfs import agent

    agent.serve()
