"""ddmq beside other queues: 5,000 messages published, then consumed and acked, one by one.

    python benchmarks/peers.py [--quick] [--dir DIR] [--install]

The peers are RabbitMQ, queues from PyPI that use files or SQLite, and the first ddmq
(0.9.14), whose benchmark this was. Each measurement of a peer follows one of a ddmq that is
as durable, each in a process of its own. We judge the median of the ratios of their total
times. strace tells how durable each is: it counts the calls of fsync and fdatasync in the
life of a message, its server's included.

All of them keep their files in one file system, and so does the RabbitMQ server that is
started for this. It is DIR; else, for root, a new ext4 with a journal, in an image in memory;
else memory. pip installs the clients into a directory there. A peer that we can't have is left
out, and the reason is printed. Exits with 1 when a target is missed.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import rabbitmq
from support import Comparison, Table, Target, arguments, scratch

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBER, ROUNDS = 5_000, 7
QUICK_NUMBER, QUICK_ROUNDS = 1_000, 3
#: Messages in whose lives calls are counted.
COUNTED = 200
PEER = Path(__file__).with_name("peer.py")
RABBITMQ = "rabbitmq"


class Peer(NamedTuple):
    """A queue that ddmq is compared with."""

    kind: str
    """What `peer.py` calls it."""
    name: str
    package: str
    """What pip installs."""
    target: Target | None = None
    """For the total time of ddmq, divided by its own."""
    durable: bool = False
    """Whether it is compared with a durable ddmq."""

    @property
    def has_server(self) -> bool:
        """Tell whether it needs the RabbitMQ server."""
        return self.kind.startswith(RABBITMQ)


PEERS = (
    Peer("rabbitmq-get", "RabbitMQ classic, basic_get", "pika", Target(0.5)),
    Peer("rabbitmq-prefetch", "RabbitMQ classic, prefetch 100", "pika", Target(1)),
    Peer("ddmq-0.9.14", "ddmq 0.9.14", "ddmq==0.9.14", Target(1 / 20)),
    Peer("dirq", "dirq", "dirq"),
    Peer("persist-queue-files", "persist-queue, files", "persist-queue"),
    Peer("huey-files", "huey, files; no acks", "huey"),
    Peer("huey-sqlite", "huey, SQLite; no acks", "huey"),
)
DURABLE_PEERS = tuple(
    peer._replace(durable=True)
    for peer in (
        Peer("rabbitmq-quorum-get", "RabbitMQ quorum, basic_get", "pika", Target(1)),
        Peer(
            "rabbitmq-quorum-prefetch",
            "RabbitMQ quorum, prefetch 100",
            "pika",
            Target(1),
        ),
        Peer("persist-queue-sqlite", "persist-queue, SQLite", "persist-queue"),
        Peer("huey-sqlite-fsync", "huey, SQLite with fsync; no acks", "huey"),
    )
)


class Bench:
    """The place where all of them are measured."""

    def __init__(self, directory: Path, number: int) -> None:
        self._directory = directory
        self._number = number
        self._runs = 0
        self._server: rabbitmq.Server | None = None
        self._no_server = ""

    def run_server(self, stack: ExitStack) -> None:
        """Run a RabbitMQ server until `stack` ends, if it is installed."""
        try:
            starting = rabbitmq.started(self._directory / RABBITMQ)
            self._server = stack.enter_context(starting)
        except rabbitmq.Unavailable as error:
            self._no_server = str(error)

    def missing(self, peer: Peer) -> str:
        """Install what a peer needs, and try it; return why we can't measure it, or nothing."""
        if peer.has_server and self._server is None:
            return self._no_server
        packages = self._packages(peer)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target"]
        if not packages.exists() and (said := failure([*pip, packages, peer.package])):
            return said
        return failure(self._command(peer.kind, 10), self._environment(peer.kind, peer))

    def version(self, peer: Peer) -> str:
        """Return the version of a peer: of its server, or of its package."""
        if peer.has_server and self._server is not None:
            return self._server.version
        name = peer.package.partition("=")[0].replace("-", "[-_]")
        [found] = self._packages(peer).glob(f"{name}-*.dist-info")
        return found.name.removesuffix(".dist-info").rpartition("-")[2]

    def _packages(self, peer: Peer) -> Path:
        return self._directory / "packages" / peer.package

    def seconds(self, kind: str, peer: Peer) -> tuple[float, float]:
        """Measure `kind` once: the peer itself, or the ddmq that it is compared with."""
        done = subprocess.run(
            self._command(kind, self._number),
            check=True,
            stdout=subprocess.PIPE,
            env=self._environment(kind, peer),
        )
        publish, consume = map(float, done.stdout.split())
        return publish, consume

    def syncs(self, kind: str, peer: Peer) -> str:
        """Count the fsyncs per message of `kind`."""
        if shutil.which("strace") is None:
            return "no strace"
        log = self._directory / "strace"
        strace = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(log)]
        command, environ = self._command(kind, COUNTED), self._environment(kind, peer)
        quiet = {"stdout": subprocess.DEVNULL, "env": environ}
        if self._server is not None and kind.startswith(RABBITMQ):
            watching = [*strace, "-p", str(self._server.pid)]
            with subprocess.Popen(watching, stderr=subprocess.DEVNULL) as process:
                time.sleep(2)  # until it watches all threads
                subprocess.run(command, check=True, **quiet)
                process.send_signal(signal.SIGINT)
        else:
            subprocess.run([*strace, *command], check=True, **quiet)
        calls = sum("sync(" in line for line in log.read_text().splitlines())
        return f"{calls / COUNTED:.2f}"

    def _command(self, kind: str, number: int) -> list[str]:
        self._runs += 1
        place = str(self._directory / f"{kind}-{self._runs}")
        if self._server is not None and kind.startswith(RABBITMQ):
            place = str(self._server.port)
        return [sys.executable, str(PEER), kind, place, str(number)]

    def _environment(self, kind: str, peer: Peer) -> dict[str, str]:
        """Return variables by which `kind` finds its own packages, and no other ddmq."""
        if kind != peer.kind:
            return dict(os.environ)
        return {**os.environ, "PYTHONPATH": str(self._packages(peer))}


def failure(command: list[str | Path], environ: dict[str, str] | None = None) -> str:
    """Run a command; return the end of its output when it fails, else nothing."""
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    return done.stderr.strip()[-200:] if done.returncode != 0 else ""


def compared(bench: Bench, number: int, rounds: int) -> Table:
    """Measure all peers that we have, in turns."""
    peers = [peer for peer in PEERS + DURABLE_PEERS if not told_missing(bench, peer)]
    found: dict[Peer, list[list[tuple[float, float]]]] = {peer: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            kinds = reference(peer), peer.kind
            found[peer].append([bench.seconds(kind, peer) for kind in kinds])
    table = Table(
        f"{number:,} messages one by one, seconds, medians of {rounds} rounds",
        *("", "version", "fsyncs/message", "publish", "consume + ack"),
        *("ddmq took, of its time", "target"),
    )
    for durable in (False, True):
        rows = [peer for peer in peers if peer.durable is durable]
        if rows:
            add_rows(table, bench, {peer: found[peer] for peer in rows})
    return table


def told_missing(bench: Bench, peer: Peer) -> bool:
    """Tell whether a peer is left out, and print why."""
    reason = bench.missing(peer)
    if reason:
        print(f"left out: {peer.name}: {' '.join(reason.split())}")
    return bool(reason)


def reference(peer: Peer) -> str:
    """Return the ddmq that a peer is compared with."""
    return "ddmq-durable" if peer.durable else "ddmq"


def add_rows(
    table: Table, bench: Bench, found: dict[Peer, list[list[tuple[float, float]]]]
) -> None:
    """Show ddmq, then the peers that are as durable as it."""
    one = next(iter(found))
    kind = reference(one)
    own = [ours for pairs in found.values() for ours, _ in pairs]
    cells = medians(own)
    table.add(kind.replace("-", ", "), "this", bench.syncs(kind, one), *cells, "", "")
    for peer, pairs in found.items():
        ratio = Comparison.of([(sum(theirs), sum(ours)) for ours, theirs in pairs])
        table.add(
            *(peer.name, bench.version(peer), bench.syncs(peer.kind, peer)),
            *medians([theirs for _, theirs in pairs]),
            ratio.cells(1)[-1],
            peer.target.verdict(ratio.ratio) if peer.target else "",
        )


def medians(seconds: list[tuple[float, float]]) -> list[str]:
    """Return cells with the medians of both columns."""
    return [f"{statistics.median(column):.3f}" for column in zip(*seconds)]


# Where


@contextmanager
def journaled(directory: Path) -> Iterator[Path]:
    """Yield a new ext4 with a journal, its image in `directory`; else `directory` itself."""
    image, place = directory / "image", directory / "ext4"
    place.mkdir()
    if not mounted(image, place):
        print("no ext4 here: only root can mount one, where there are loop devices")
        yield directory
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def mounted(image: Path, place: Path) -> bool:
    """Make an ext4 and mount it, if that is possible."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        return False
    with image.open("wb") as file:
        file.truncate(4 << 30)
    for command in (["mkfs.ext4", "-qF", image], ["mount", "-o", "loop", image, place]):
        if subprocess.run(command, capture_output=True).returncode != 0:
            return False
    return True


def file_system(path: Path) -> str:
    """Return the type of the file system that holds a path."""
    found = {}
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        found[place] = kind
    parents = [str(parent) for parent in (path, *path.parents)]
    return next(found[parent] for parent in parents if parent in found)


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = arguments(__doc__)
    parser.add_argument(
        "--install", action="store_true", help="install RabbitMQ by apt, as root"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and stop all we started
    if options.install:
        rabbitmq.install()
    number = QUICK_NUMBER if options.quick else NUMBER
    with ExitStack() as stack:
        place = stack.enter_context(scratch(options.dir))
        if options.dir is None:
            place = stack.enter_context(journaled(place))
        print(
            f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, "
            f"{file_system(place)}, Linux {platform.release()}, "
            f"Python {platform.python_version()}"
        )
        bench = Bench(place, number)
        bench.run_server(stack)
        rounds = QUICK_ROUNDS if options.quick else ROUNDS
        return compared(bench, number, rounds).show()


if __name__ == "__main__":
    sys.exit(main())
