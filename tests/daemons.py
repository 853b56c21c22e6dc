"""What tests need that start daemons of their own: packages, programs and free ports."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def free_ports(number: int) -> list[int]:
    """Return ports on which nobody listens, so that several can live side by side."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def lacking(programs: Iterable[str]) -> list[str]:
    """Return the programs that are not installed."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    return [name for name in programs if shutil.which(name, path=path) is None]


def install(packages: Iterable[str]) -> None:
    """Install packages with apt, if we are root; their own daemons are kept from starting."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    policy = Path("/usr/sbin/policy-rc.d")
    made = not policy.exists()
    if made:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    quiet: dict[str, Any] = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    wanted = ["install", "-y", "--no-install-recommends", *packages]
    for command in (["update"], wanted):
        subprocess.run([*apt, *command], check=False, env=environ, **quiet)
    if made:
        policy.unlink()
