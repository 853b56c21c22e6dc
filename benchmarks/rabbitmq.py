"""A RabbitMQ server for a benchmark: on loopback, with all its files in one directory."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Debian's; the one on the PATH starts it as another user.
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
#: Ends the server when its standard input ends; so it does, even if SIGKILL ends us.
WRAPPER = """\
trap : TERM
epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 &
"$0" &
read -r word
kill -TERM 0
wait
"""
PATIENCE = 60


class Unavailable(Exception):
    """We can't run RabbitMQ here; the text says why."""


class Server(NamedTuple):
    """A server that runs: its version, its port and its process."""

    version: str
    port: int
    pid: int


def install() -> None:
    """Install Debian's package, as root, and keep its own service from starting."""
    if PROGRAM.exists() or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    policy = Path("/usr/sbin/policy-rc.d")
    made = not policy.exists()
    if made:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "install", "-y"]
    packages = ["--no-install-recommends", "rabbitmq-server"]
    subprocess.run([*apt, *packages], capture_output=True, check=False)
    if made:
        policy.unlink()


@contextmanager
def started(directory: Path) -> Iterator[Server]:
    """Start a server with its files in a new directory; stop it in the end, always."""
    if not PROGRAM.exists():
        raise Unavailable(f"no {PROGRAM}; as root, --install installs it by apt")
    directory.mkdir()
    environ = environment(directory, *free_ports(3))
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", WRAPPER, str(PROGRAM)],
            env=environ,
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        port = int(environ["RABBITMQ_NODE_PORT"])
        wait_for(port, process, directory / "output")
        yield Server(version(), port, int((directory / "pid").read_text()))
    finally:
        stop(process)


def version() -> str:
    """Return the version that is installed."""
    [found] = PROGRAM.parents[1].glob("lib/rabbitmq_server-*")
    return found.name.rpartition("-")[2]


def environment(directory: Path, port: int, between: int, epmd: int) -> dict[str, str]:
    """Return the variables that keep the server in one directory and on loopback."""
    (directory / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\n")
    (directory / "enabled_plugins").write_text("[].\n")
    return {
        "PATH": f"{os.environ['PATH']}:/usr/sbin:/usr/bin:/bin",
        "HOME": str(directory),  # of the Erlang cookie
        "LC_ALL": "C.UTF-8",
        "ERL_EPMD_PORT": str(epmd),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"ddmq{port}@localhost",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(between),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(directory / "data"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_PID_FILE": str(directory / "pid"),
    }


def free_ports(number: int) -> list[int]:
    """Return ports on which nobody listens."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_for(port: int, process: subprocess.Popen[bytes], output: Path) -> None:
    """Wait until the server answers; raise Unavailable if it does not."""
    deadline = time.monotonic() + PATIENCE
    while "completed with" not in output.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            last = output.read_text(errors="replace").strip()[-300:]
            raise Unavailable(f"RabbitMQ did not start on port {port}: {last}")
        time.sleep(0.2)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the server, gently at first, and all processes that it started."""
    assert process.stdin is not None
    process.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(30)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
