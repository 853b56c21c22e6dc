"""A real NFS on one machine: a kernel server and some clients, each a small virtual machine.

Their kernel is Debian's, and so are the NFS tools: both are unpacked, not installed. A guest's
root is the host's, read-only: it runs the Python and the ddmq that run the tests. `init.sh` and
`guest.sh` tell how a guest boots. The network is a pair of sockets for each client: nothing of
it leaves this machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import pickle
import platform
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from typing import Any, Callable

import daemons
from daemons import lacking
from nfs import agent

PROGRAMS = ("qemu-system-x86_64", "modprobe", "depmod", "mkfs.ext4")
PACKAGES = ("qemu-system-x86", "seabios", "kmod", "e2fsprogs")
#: Unpacked for the guests, with what they need and the host lacks.
TOOLS = ("nfs-kernel-server", "rpcbind", "netbase")
CACHE = Path("/var/cache/ddmq-nfs-lab")
#: The host may have one that needs libraries, which a guest lacks at first.
BUSYBOX = CACHE / "usr/bin/busybox"
HERE = Path(__file__).parent
ENVIRON = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"}
#: What a guest needs to reach its root; the rest it loads from there.
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
#: Newer instructions only make an emulated processor slower.
PROCESSOR = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdtscp,+cx16,+rdrand"
MEMORY = "384"
BOOTED_WITHIN = 300
VERSIONS = ("3", "4.2")


class PoweredOff(Exception):
    """The guest that was asked is no more."""


class Trouble(Exception):
    """What was asked of a guest failed there; the text is its traceback."""


def missing() -> list[str]:
    """Return what keeps us from it, in words."""
    if platform.machine() != "x86_64":
        return ["an x86-64 processor"]
    tools = [] if list(CACHE.glob("boot/vmlinuz-*")) else ["Debian's kernel"]
    return lacking(PROGRAMS) + tools + lacking([str(BUSYBOX)])


def install() -> None:
    """Install what is missing with apt, and unpack what guests need, as root."""
    if not missing() or shutil.which("apt-get") is None:
        return
    daemons.install(PACKAGES)
    if not lacking(PROGRAMS):
        with contextlib.suppress(subprocess.CalledProcessError, StopIteration):
            unpack()


def run(*command: object, cwd: Path | None = None) -> str:
    """Run a command of administration; return what it prints."""
    words = list(map(str, command))
    pipe = subprocess.PIPE
    done = subprocess.run(
        words, cwd=cwd, env=ENVIRON, check=True, text=True, stdout=pipe, stderr=pipe
    )
    return done.stdout


def unpack() -> None:
    """Put the kernel and the tools into `CACHE`, whole or not at all."""

    with tempfile.TemporaryDirectory(dir="/var/cache") as name:
        root, archives = Path(name) / "root", Path(name) / "archives"
        (archives / "partial").mkdir(parents=True)
        for link in ("bin", "sbin", "lib", "lib64"):  # as Debian's own root has them
            (root / "usr" / link).mkdir(parents=True)
            (root / link).symlink_to(f"usr/{link}")
        depends = run("apt-cache", "depends", "linux-image-amd64").split()
        kernel = next(word for word in depends if word[:13] == "linux-image-6")
        run("apt-get", "download", kernel, "busybox-static", cwd=archives)
        run(
            *("apt-get", "install", "--download-only", "--no-install-recommends"),
            *("-y", "-o", f"Dir::Cache::archives={archives}", *TOOLS),
        )
        for archive in archives.glob("*.deb"):
            run("dpkg-deb", "-x", archive, root)
        [version] = os.listdir(root / "usr/lib/modules")
        run("depmod", "-b", root, version)
        shutil.rmtree(CACHE, ignore_errors=True)  # of an earlier lab
        with contextlib.suppress(OSError):  # somebody else was as quick
            root.rename(CACHE)


def make_initrd(path: Path) -> None:
    """Make the file system that a guest starts from: a shell, and the way to its root."""
    [version] = os.listdir(CACHE / "usr/lib/modules")
    wanted = []
    for module in MODULES:
        told = run("modprobe", "-d", CACHE, "-S", version, "--show-depends", module)
        lines = map(str.split, told.splitlines())
        wanted += [Path(words[1]) for words in lines if words[0] == "insmod"]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "bin").mkdir()
        (root / "modules").mkdir()
        shutil.copy(BUSYBOX, root / "bin")
        shutil.copy(HERE / "init.sh", root / "init")
        (root / "init").chmod(0o755)
        order = list(dict.fromkeys(wanted))
        for module in order:
            shutil.copy(module, root / "modules")
        names = "".join(f"{module.name}\n" for module in order)
        (root / "modules" / "order").write_text(names)
        with path.open("wb") as stream:
            files = "".join(f"{file.relative_to(root)}\n" for file in root.rglob("*"))
            pack = [str(BUSYBOX), "cpio", "-o", "-H", "newc"]
            quiet = subprocess.DEVNULL
            subprocess.run(
                pack, cwd=root, input=files.encode(), stdout=stream, stderr=quiet
            ).check_returncode()


class Process:
    """A process in a guest, seen as `subprocess.Popen` shows one."""

    def __init__(self, guest: Guest, pid: int) -> None:
        self.guest = guest
        self.pid = pid
        self._end = guest.submit(agent.wait, pid)

    def poll(self) -> int | None:
        return self.wait() if self._end.done() else None

    def wait(self, timeout: float | None = None) -> int:
        """Return how it ended: like killed, where the guest was powered off."""
        try:
            return self._end.result(timeout)
        except PoweredOff:
            return -signal.SIGKILL
        except NotYet:
            raise subprocess.TimeoutExpired(
                f"{self.guest.name}", timeout or 0
            ) from None

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(PoweredOff):
            self.guest.call(agent.signal, self.pid, number)


class Guest:
    """A virtual machine that does what it is asked."""

    def __init__(self, lab: Lab, name: str, number: int) -> None:
        self.lab = lab
        self.name = name
        self.number = number
        self.is_server = name == "server"
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._machine: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        """Turn it on; `wait_until_booted` waits until it can be asked."""
        ours, its = socket.socketpair()
        self._socket, self._numbers = ours, itertools.count(1)
        self._booted: Future[Any] = Future()
        self._waiting = {0: self._booted}
        log = (self.lab.dir / f"{self.name}.qemu.log").open("ab")
        with its, log:
            # Whatever becomes of us, it ends with us.
            self._machine = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._command(its.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[its.fileno()],
                start_new_session=True,
            )
        threading.Thread(
            target=self._listen, args=(ours, self._waiting), daemon=True
        ).start()

    def _command(self, descriptor: int) -> list[str]:
        words = {
            "NODE": self.name,
            "NUMBER": self.number,
            "SHARED": self.lab.dir,
            "HERE": HERE,
        }
        environ = " ".join(f"{key}={value}" for key, value in words.items())
        command = [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot"),
            *("-accel", self.lab.accelerator, "-cpu", PROCESSOR, "-smp", "1"),
            *("-m", MEMORY, "-rtc", "base=utc,clock=host", "-display", "none"),
            *("-serial", f"file:{self.lab.dir}/{self.name}.console.log"),
            *("-kernel", str(self.lab.kernel), "-initrd", f"{self.lab.dir}/initrd"),
            *("-append", f"console=ttyS0 quiet panic=-1 mitigations=off {environ}"),
            *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
            *("-chardev", f"socket,id=agent,fd={descriptor}"),
            *("-device", "virtserialport,chardev=agent,name=agent"),
        ]
        for tag, path in (("host", "/"), ("tools", CACHE), ("shared", self.lab.dir)):
            how = "" if tag == "shared" else ",readonly=on,multidevs=remap"
            what = f"local,id={tag},path={path},security_model=none{how}"
            command += ["-fsdev", what]
            command += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
        for client in self.lab.clients if self.is_server else [self]:
            command += self._cable(client)
        if self.is_server:
            disk = f"file={self.lab.dir}/disk,format=raw,if=virtio,cache=unsafe"
            command += ["-drive", disk]
        return command

    def _cable(self, client: Guest) -> list[str]:
        """Return our end of the network between the server and one client."""
        ends = [f"{self.lab.dir}/{client.name}.{end}" for end in ("server", "client")]
        ours, its = ends if self.is_server else ends[::-1]
        where = f"local.type=unix,local.path={ours},remote.type=unix,remote.path={its}"
        mac = f"52:54:00:77:{client.number:02x}:{int(self.is_server):02x}"
        return [
            *("-netdev", f"dgram,id={client.name},{where}"),
            *("-device", f"virtio-net-pci,netdev={client.name},romfile=,mac={mac}"),
        ]

    def _listen(self, ours: socket.socket, waiting: dict[int, Future[Any]]) -> None:
        """Hand replies to those who wait, until the guest is no more."""
        cut_off = (EOFError, OSError, pickle.UnpicklingError)
        with contextlib.suppress(*cut_off), ours.makefile("rb") as stream:
            while True:
                number, result, trouble = pickle.load(stream)
                with self._lock:
                    future = waiting.pop(number)
                if trouble is None:
                    future.set_result(result)
                else:
                    future.set_exception(Trouble(f"{self.name}: {trouble}"))
        with self._lock:
            ours.close()
            for future in waiting.values():
                future.set_exception(PoweredOff(self.name))
            waiting.clear()

    @property
    def is_on(self) -> bool:
        return self._machine is not None

    def wait_until_booted(self) -> None:
        try:
            self._booted.result(BOOTED_WITHIN)
        except (NotYet, PoweredOff):
            raise AssertionError(f"{self.name} does not boot: {self.told()}") from None

    def told(self) -> str:
        """Return what it said last."""
        logs = (
            self.lab.dir / f"{self.name}.{what}.log" for what in ("console", "qemu")
        )
        return "\n".join(log.read_text(errors="replace")[-2000:] for log in logs)

    def submit(self, function: Callable[..., Any], *arguments: object) -> Future[Any]:
        """Let it call a function that it can import; return where the result will be."""
        future: Future[Any] = Future()
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = future
            try:
                self._socket.sendall(pickle.dumps((number, function, arguments)))
            except OSError:
                self._waiting.pop(number, None)
                future.set_exception(PoweredOff(self.name))
        return future

    def call(
        self, function: Callable[..., Any], *arguments: object, timeout: float = 300
    ) -> Any:
        return self.submit(function, *arguments).result(timeout)

    def start(self, command: list[object], out: Path) -> Process:
        """Start a process whose output goes to a file of the host's."""
        words = list(map(str, command))
        return Process(self, self.call(agent.start, words, str(out), {}))

    def suspend(self, seconds: float) -> None:
        """Let it stand still: what it is asked meanwhile, it does later."""
        assert self._machine is not None
        self._machine.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._machine.send_signal(signal.SIGCONT)

    def power_off(self) -> None:
        """Cut its power: nothing is written back, and nobody is told."""
        if self._machine is not None:
            self._machine.kill()
            self._machine.wait()
            self._machine = None


class Lab:
    """A server and its clients; all their files are in one directory."""

    def __init__(self, directory: Path, *, clients: int = 3, lease: int) -> None:
        self.dir = directory
        self.lease = lease
        [self.kernel] = CACHE.glob("boot/vmlinuz-*")
        self.server = Guest(self, "server", 0)
        self.clients = [Guest(self, f"node{n}", n) for n in range(clients)]

    def start(self) -> None:
        """Boot them all."""
        make_initrd(self.dir / "initrd")
        self.accelerator = accelerator(self.kernel)
        with (self.dir / "disk").open("wb") as disk:
            disk.truncate(1 << 30)
        environ = {
            "PYTHON": sys.executable,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "LEASE": str(self.lease),
        }
        lines = (f"export {key}={shlex.quote(word)}\n" for key, word in environ.items())
        (self.dir / "environ").write_text("".join(lines))
        run("mkfs.ext4", "-q", "-F", self.dir / "disk")
        self.turn_on()

    def turn_on(self) -> None:
        """Boot those that are off."""
        off = [guest for guest in (self.server, *self.clients) if not guest.is_on]
        for guest in off:
            guest.boot()
        for guest in off:
            guest.wait_until_booted()

    def stop(self) -> None:
        for guest in (self.server, *self.clients):
            guest.power_off()
        (self.dir / "disk").unlink(missing_ok=True)


def accelerator(kernel: Path) -> str:
    """Return "kvm" where it boots this kernel, else what emulates a processor.

    That /dev/kvm is there and opens is no proof: on some machines it runs no such kernel.
    Without a root the kernel soon gives up, and its machine ends.
    """
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        with open("/dev/kvm", "r+b", buffering=0) as device:
            fcntl.ioctl(device, 0xAE00)  # KVM_GET_API_VERSION
        command = [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot"),
            *("-accel", "kvm", "-cpu", PROCESSOR, "-m", "128", "-display", "none"),
            *("-kernel", str(kernel), "-append", "panic=-1"),
        ]
        subprocess.run(command, timeout=10, capture_output=True, check=True)
        return "kvm"
    return "tcg,thread=multi,tb-size=256"
