"""A real GlusterFS on one machine: one brick on loopback, mounted twice over FUSE.

Brick and clients get the translators that `gluster volume create` gives them, from files of
our own: so no glusterd is needed, which knows only one port.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import daemons
from daemons import free_ports, lacking

PROGRAMS = ("glusterfs", "glusterfsd")
PACKAGES = ("glusterfs-server", "glusterfs-client")

BRICK = """\
volume posix
    type storage/posix
    option directory {dir}/brick
end-volume

volume access-control
    type features/access-control
    subvolumes posix
end-volume

volume locks
    type features/locks
    subvolumes access-control
end-volume

volume upcall
    type features/upcall
    option cache-invalidation off
    subvolumes locks
end-volume

volume {dir}/brick
    type performance/io-threads
    subvolumes upcall
end-volume

volume server
    type protocol/server
    option transport-type tcp
    option transport.address-family inet
    option transport.socket.bind-address 127.0.0.1
    option transport.socket.listen-port {port}
    option auth.addr.{dir}/brick.allow 127.0.0.1
    option auth-path {dir}/brick
    subvolumes {dir}/brick
end-volume
"""
CLIENT = """\
volume client
    type protocol/client
    option transport-type tcp
    option transport.address-family inet
    option remote-host 127.0.0.1
    option remote-port {port}
    option remote-subvolume {dir}/brick
    option ping-timeout 42
end-volume

volume distribute
    type cluster/distribute
    subvolumes client
end-volume

volume utime
    type features/utime
    subvolumes distribute
end-volume

volume write-behind
    type performance/write-behind
    subvolumes utime
end-volume

volume open-behind
    type performance/open-behind
    subvolumes write-behind
end-volume

volume quick-read
    type performance/quick-read
    subvolumes open-behind
end-volume

volume md-cache
    type performance/md-cache
    subvolumes quick-read
end-volume

volume io-threads
    type performance/io-threads
    subvolumes md-cache
end-volume
"""


def missing() -> list[str]:
    """Return what keeps us from it, in words."""
    return lacking(PROGRAMS) + ([] if os.path.exists("/dev/fuse") else ["/dev/fuse"])


def install() -> None:
    """Install what is missing with apt, as root."""
    if missing():
        daemons.install(PACKAGES)


class Volume:
    """The volume; all its files are in one directory."""

    def __init__(self, directory: Path) -> None:
        self.dir = directory
        self.mounts = (directory / "a", directory / "b")
        self.environ = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"}
        [self._port] = free_ports(1)

    def start(self) -> None:
        """Start the brick, and mount it twice."""
        for path in (self.dir / "brick", *self.mounts):
            path.mkdir(parents=True)
        for name, text in (("brick.vol", BRICK), ("client.vol", CLIENT)):
            (self.dir / name).write_text(text.format(dir=self.dir, port=self._port))
        self.start_brick()
        for path in self.mounts:
            log = f"--log-file={self.dir}/{path.name}.log"
            self._run(
                *("glusterfs", f"--volfile={self.dir}/client.vol", log),
                *(f"--pid-file={self.dir}/{path.name}.pid", str(path)),
            )
        self.until(self.is_up)

    def is_up(self) -> bool:
        """Tell whether both mounts show one directory."""
        first, second = self.mounts
        with contextlib.suppress(OSError):
            (first / "started").mkdir(exist_ok=True)
            return os.path.ismount(first) and "started" in os.listdir(second)
        return False

    def start_brick(self) -> None:
        """Start the server, or start it again."""
        (self.dir / "brick.pid").unlink(missing_ok=True)  # the dead may still lock it
        self._run(
            *("glusterfsd", f"--volfile={self.dir}/brick.vol"),
            *(f"--log-file={self.dir}/brick.log", f"--pid-file={self.dir}/brick.pid"),
        )

    def kill_brick(self) -> None:
        """Let the server vanish."""
        pid = (self.dir / "brick.pid").read_text().strip()
        self._kill(self.dir / "brick.pid")
        self.until(lambda: not os.path.exists(f"/proc/{pid}/exe"))

    def _kill(self, pid_file: Path) -> None:
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(pid_file.read_text()), signal.SIGKILL)

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            command,
            env=self.environ,
            timeout=60,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr, self.told())

    def until(self, claim, seconds: float = 30) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + seconds
        while not claim():
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.1)

    def told(self) -> str:
        """Return what the daemons said last."""
        logs = self.dir.glob("*.log")
        return "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in logs)

    def stop(self) -> None:
        """Unmount, and end every daemon."""
        for path in self.mounts:
            subprocess.run(["umount", "-l", path], check=False, capture_output=True)
        for pid_file in self.dir.glob("*.pid"):
            self._kill(pid_file)
