"""Two designs to consume from bundles, as bare system calls: a cursor, and unpacking.

    python benchmarks/unpacking.py [--quick] [--dir DIR]

*Cursor*: the bundle stays, and its name says which line is next. Each message takes four
calls: make an empty file for a tentative lease in `work/`, rename the bundle, rename the file
to a lease, unlink it.

*Unpacking*: the first client that renames the bundle writes a file for each line into a
directory. One rename makes that directory a bucket. Then the client removes the bundle. Each
message takes eight calls: create, write, close; rename into `work/`, open, read, close, unlink.
Each file of a durable message needs an fsync as well, before the bundle is removed.

Neither sketch has the checks that a real client needs. Shows the calls, the CPU time and the
wall time per message, of 1 and 8 processes, and the greatest number of files. In memory an
fsync costs nothing: give a directory on real storage to see its price.
"""

from __future__ import annotations

import json
import os
import stat
import statistics
import sys
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from rates import forked
from support import TEXT, Cost, Table, arguments, now, scratch

from ddmq.storage.filesystem import CountedCalls
from ddmq.storage.names import new_id, new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LINES = 1000
PROCESSES = 1, 8
_BUNDLE = b"\n".join(
    [json.dumps({"priority": 999}).encode()] + [json.dumps(TEXT).encode()] * LINES
)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_EXPIRY = "1700000000000"
_FIRST = 1_700_000_000_000_000_000
_MAX_SPREAD = 512


class Spread:
    """How far from the front a consumer starts: farther when competitors are faster."""

    def __init__(self) -> None:
        self._among = 1

    def lost(self) -> None:
        """Look further from the front the next time."""
        self._among = min(self._among * 2, _MAX_SPREAD)

    def order(self, names: list[str]) -> list[str]:
        """Return the names in order, without the few that competitors probably try."""
        among = min(self._among, len(names))
        self._among = max(self._among // 2, 1)
        skipped = int.from_bytes(os.urandom(4), "big") % among if among > 1 else 0
        return sorted(names)[skipped:]


class Design:
    """A queue in a directory, and one process that consumes from it."""

    untouched: str
    """How the name of a bundle ends from which nothing was taken."""

    def __init__(
        self,
        root: str,
        calls: Any = os,
        *,
        durable: bool = False,
        watched: bool = False,
    ) -> None:
        self.line = f"{root}/ready/999"
        self.tmp, self.work = f"{root}/tmp", f"{root}/work"
        self.calls, self.durable = calls, durable
        self.spread = Spread()
        self.watched = watched
        self.files: list[int] = []

    def fill(self, bundles: int) -> None:
        """Publish bundles of a thousand messages each."""
        for path in (self.line, self.tmp, self.work):
            os.makedirs(path, exist_ok=True)
        for number in range(bundles):
            name = f"{_FIRST + number * LINES:019d}.{new_id()}"
            with open(f"{self.line}/{name}{self.untouched}", "wb") as file:
                file.write(_BUNDLE)

    def watch(self) -> None:
        """Note how many files there are, if that is what we measure."""
        if not self.watched:
            return
        directories = self.line, self.tmp, self.work
        self.files.append(
            sum(len(names) for top in directories for *_, names in os.walk(top))
        )

    def read(self, path: str) -> bytes:
        """Read a file, to its end."""
        file, parts = self.calls.open(path, os.O_RDONLY | os.O_CLOEXEC), []
        while part := self.calls.read(file, 1 << 16):
            parts.append(part)
        self.calls.close(file)
        return b"".join(parts)


class Cursor(Design):
    """The design with a cursor: a bundle's name tells its next line, and ends in a token."""

    untouched = f".{LINES}-0-0.{_EXPIRY}.{'0' * 16}"

    def run(self) -> int:
        """Consume and ack until nothing is left; return how many messages."""
        number = 0
        while names := self.calls.listdir(self.line):
            for name in self.spread.order(names):
                taken = self.take_from(name)
                number += taken
                if not taken:
                    self.spread.lost()
                break
        return number

    def take_from(self, name: str) -> int:
        """Take line after line of one bundle, until a competitor takes one."""
        stamp, id_, cursor, *_ = name.split(".")
        following, path = int(cursor.split("-")[1]), f"{self.line}/{name}"
        try:
            lines = self.read(path).split(b"\n")
        except FileNotFoundError:
            return 0
        first, began = int(stamp) - following, following
        while following < LINES:
            moved = self.take(path, f"{first + following}.{id_}", following)
            if moved is None:
                break
            json.loads(lines[1 + following])
            following, path = following + 1, moved
            if not following % 100:
                self.watch()
        else:
            spent = f"{self.work}/spent.{id_}"
            with suppress(FileNotFoundError):  # a competitor saw that none is left, too
                self.calls.rename(path, spent)
                self.calls.unlink(spent)
        return following - began

    def take(self, path: str, name: str, line: int) -> str | None:
        """Take one line and finish it; return the new name of the bundle."""
        stamp, id_ = name.split(".")
        token = new_token()
        lease = f"{self.work}/{_EXPIRY}.999.{stamp}.{id_}-{line}.0-0.{token}"
        draft, leased = f"{lease}.draft", f"{lease}.line"
        moved = (
            f"{self.line}/{int(stamp) + 1}.{id_}.{LINES}-{line + 1}-1.{_EXPIRY}.{token}"
        )
        self.calls.mknod(draft, stat.S_IFREG | 0o666)
        try:
            self.calls.rename(path, moved)
        except FileNotFoundError:
            self.calls.unlink(draft)
            return None
        self.calls.rename(draft, leased)
        self.calls.unlink(leased)
        return moved


class Unpacking(Design):
    """The design that unpacks: the ready queue holds bundles, and buckets that they became."""

    untouched = f".{LINES}"

    def run(self) -> int:
        """Consume and ack until nothing is left; return how many messages."""
        number = 0
        while names := self.calls.listdir(self.line):
            first = min(names)
            if "." not in first:
                number += self.take_from(f"{self.line}/{first}")
            elif self.unpack(first):
                self.watch()
        return number

    def unpack(self, name: str) -> bool:
        """Make a bucket of a bundle; False when a competitor was faster."""
        stamp, id_, _ = name.split(".")
        claimed, draft = f"{self.work}/{name}.{new_token()}", f"{self.tmp}/{id_}"
        try:
            self.calls.rename(f"{self.line}/{name}", claimed)
        except FileNotFoundError:
            return False
        self.calls.mkdir(draft)
        head, *lines = self.read(claimed).split(b"\n")
        for number, line in enumerate(lines):
            single = f"{draft}/{int(stamp) + number}.{id_}-{number}.0-0"
            self.write(single, b'{"message":%b,%b}\n' % (line, head[1:-1]))
        self.sync(draft)
        self.calls.rename(draft, f"{self.line}/{stamp}")
        self.sync(self.line)
        self.calls.unlink(claimed)
        return True

    def write(self, path: str, data: bytes) -> None:
        """Write a new file."""
        file = self.calls.open(path, _NEW, 0o666)
        self.calls.write(file, data)
        if self.durable:
            self.calls.fsync(file)
        self.calls.close(file)

    def sync(self, directory: str) -> None:
        """Put the names in a directory on stable storage, if messages are durable."""
        if self.durable:
            file = self.calls.open(directory, os.O_RDONLY | os.O_CLOEXEC)
            self.calls.fsync(file)
            self.calls.close(file)

    def take_from(self, bucket: str) -> int:
        """Take one file after the other, until a competitor takes one."""
        try:
            names = self.calls.listdir(bucket)
        except FileNotFoundError:
            return 0
        if not names:
            return self.remove(bucket)
        number = 0
        for name in self.spread.order(names):
            leased = f"{self.work}/{_EXPIRY}.999.{name}.{new_token()}"
            try:
                self.calls.rename(f"{bucket}/{name}", leased)
            except FileNotFoundError:
                self.spread.lost()
                return number
            json.loads(self.read(leased))
            self.calls.unlink(leased)
            number += 1
        return number

    def remove(self, bucket: str) -> int:
        """Remove an empty bucket, if no competitor was faster."""
        try:
            self.calls.rmdir(bucket)
        except OSError:
            return 0
        return 0


class Used(NamedTuple):
    """The cost of consuming, per message."""

    calls: float
    fsyncs: float
    cpu: float
    wall: float


class Share(NamedTuple):
    """The part of the work that one of several processes did."""

    messages: int
    calls: int
    fsyncs: int
    cpu: float
    began: float
    ended: float
    files: int


def crowd(make: Callable[[Any], Design], processes: int) -> list[Share]:
    """Let several processes consume until nothing is left."""
    barrier, answers = forked.Barrier(processes), forked.SimpleQueue()
    workers = [
        forked.Process(target=take_part, args=(make, barrier, answers))
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    shares = [answers.get() for _ in workers]
    for worker in workers:
        worker.join()
    return shares


def take_part(make: Callable[[Any], Design], barrier: Any, answers: Any) -> None:
    """Consume as one of several processes, once all are ready."""
    calls = CountedCalls()
    design, done = make(calls), []
    barrier.wait()
    began = now()
    cost = Cost.of(lambda: done.append(design.run()))
    counts, files = Counter(calls.numbers), max(design.files, default=0)
    total = sum(counts.values())
    answers.put(Share(done[0], total, counts["fsync"], cost.cpu, began, now(), files))


def used(shares: Sequence[Share]) -> Used:
    """Return the mean cost of a message."""
    began, ended = min(s.began for s in shares), max(s.ended for s in shares)
    messages = sum(s.messages for s in shares)
    return Used(
        sum(s.calls for s in shares) / messages,
        sum(s.fsyncs for s in shares) / messages,
        sum(s.cpu for s in shares) / messages,
        (ended - began) / messages,
    )


DESIGNS: dict[str, tuple[type[Cursor] | type[Unpacking], bool]] = {
    "cursor": (Cursor, False),
    "unpacking": (Unpacking, False),
    "unpacking, durable": (Unpacking, True),
}


def compared(root: Path, processes: int, bundles: int, rounds: int) -> Table:
    """Measure the designs in turns."""
    runs: dict[str, list[Used]] = {name: [] for name in DESIGNS}
    peaks = {}
    for number in range(rounds + 1):
        for name, (design, durable) in DESIGNS.items():
            path = str(root / f"{processes} {name}")

            design(path).fill(bundles)
            make = partial(design, path, durable=durable, watched=not number)
            shares = crowd(make, processes)
            if number:
                runs[name].append(used(shares))
            else:
                peaks[name] = max(share.files for share in shares)
    return shown(f"{processes} consuming {bundles:,} bundles of 1,000", runs, peaks)


def shown(title: str, runs: dict[str, list[Used]], peaks: dict[str, int]) -> Table:
    """Show the medians of the costs, and of their ratios to the first design."""
    table = Table(
        f"Per message, {title}",
        *("", "calls", "fsyncs", "CPU µs", "wall µs"),
        *("CPU over cursor", "wall over cursor", "files at most"),
    )
    for name, done in runs.items():
        calls, fsyncs, cpu, wall = map(statistics.median, zip(*done))
        both = list(zip(done, runs["cursor"]))
        table.add(
            *(name, f"{calls:.2f}", f"{fsyncs:.2f}"),
            *(f"{cpu * 1e6:.1f}", f"{wall * 1e6:.1f}"),
            f"{statistics.median(one.cpu / cursor.cpu for one, cursor in both):.2f}",
            f"{statistics.median(one.wall / cursor.wall for one, cursor in both):.2f}",
            f"{peaks[name]:,}",
        )
    return table


def main() -> int:
    """Measure and print."""
    options = arguments(__doc__).parse_args()
    rounds, bundles = (3, 8) if options.quick else (9, 32)
    with scratch(options.dir) as root:
        for processes in PROCESSES:
            compared(root, processes, bundles, rounds).show()
    return 0


if __name__ == "__main__":
    sys.exit(main())
