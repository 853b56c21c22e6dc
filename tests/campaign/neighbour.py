"""A malicious member of a queue's group, who acts at random wherever he may write.

He replaces directories by links to the owner's home, and puts them back, as fast as he can. He
puts links, FIFOs, sockets and programs in the places of files. He plants misleading names and
harmful contents. He truncates, moves and removes. `Neighbour.go_on` never ends: somebody has to
kill him.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import random
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

ID, TOKEN, STAMP = "0123456789abcdef0123", "0123456789abcdef", 1_600_000_000_000_000_000
ENTRY = f"{STAMP}.{ID}.0-0"
LEASE = f"1600000000000.0.{ENTRY}.{TOKEN}"
#: Names in the owner's home that a client looks for in a queue as well.
LIKE_A_QUEUE = (
    *("tmp", "ready", "bundles", "work", "delayed", "dead", "drop", "journal", "jobs"),
    *("lock", "ddmq.yaml", "cleaned", "documents", ".ddmq-unfinished"),
)
#: The file in the home directory that most of his links lead to.
SECRET = "secret"
#: How many files are in the directory that takes long to remove; the first ones have
#: namesakes in the owner's home.
CROWD = 20_000
NAMESAKES = 300
#: A text in his programs, and in no job script of the owner's.
MARK = "the neighbour's own program"
_EXCHANGE = 2
_HERE = -100
_LIBC = ctypes.CDLL(None, use_errno=True)
_DAYS = 2 * 86400
_QUEUE = (
    "tmp",
    "ready",
    "bundles",
    "work",
    "delayed",
    "dead",
    "drop",
    "journal",
    "jobs",
)
#: So many lists need over 700 MB; so many files of them are made by each of his processes.
_POISON, _POISONED = 10_000_000, 3


class Area(NamedTuple):
    """The places where he may write, and those that he tries to reach."""

    root: Path
    queue: Path
    results: Path
    logs: Path
    home: Path
    """The owner's, which is closed to him."""
    own: Path
    """His own directory, on the same file system."""
    witness: Path
    """Where his programs say who ran them."""


def exchange(one: object, other: object) -> None:
    """Swap two names atomically."""
    names = os.fsencode(str(one)), os.fsencode(str(other))
    if _LIBC.renameat2(_HERE, names[0], _HERE, names[1], _EXCHANGE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(one))


class Neighbour:
    """The `number`-th of his processes; `seed` determines what it does.

    Each process swaps different ones of the queue's own directories, so that each of them
    comes back. It holds the queue open, since another process may have swapped its name.
    """

    def __init__(self, area: Area, seed: str, number: int, of: int) -> None:
        self.area = area
        self.chance = random.Random(f"{seed}-{number}-{of}")
        self.made = self.poisoned = 0
        self._is_first = number == 0
        held = os.open(area.queue, os.O_RDONLY | os.O_DIRECTORY)
        self._queue = f"/proc/self/fd/{held}"
        self._main = [f"{self._queue}/{name}" for name in _QUEUE]
        self._main.append(str(area.queue))
        self._to_swap = self._main[number::of]
        self._links = self._aims()

    def _aims(self) -> list[str]:
        """Return what his links may lead to: the owner's home, and all that is in it."""
        home = str(self.area.home)
        aims = [home, f"{home}/{SECRET}", f"{home}/nothing-yet"]
        aims += [f"{home}/{name}" for name in LIKE_A_QUEUE]
        aims += [
            f"{home}/{name}/{ID}" for name in ("tmp", "bundles", ".ddmq-unfinished")
        ]
        aims += [f"{home}/ready/0", f"{home}/ready/0/{STAMP}", f"{home}/tmp/x"]
        return aims

    def go_on(self) -> None:
        """Do one thing after the other, for ever."""
        acts: list[tuple[int, Callable[[], None]]] = [
            (8, self.flap),
            (4, self.haunt_outputs),
            (4, self.haunt_jobs),
            (3, self.haunt_lock),
            (3, self.haunt_settings),
            (12, self.plant),
            (8, self.replace),
            (4, self.spoil),
            (2, self.hold_lock),
            (2, self.move),
            (2, self.shut),
            (2, self.letter_for_a_directory),
            (1, self.poison),
        ]
        if self._is_first:
            acts.append((2, self.crowd))
        weights, calls = zip(*acts)
        while True:
            with suppress(OSError, ValueError):
                self.chance.choices(calls, weights)[0]()

    # Things of his

    def new(self, kind: str = "") -> str:
        """Make something new beside the queue, of this kind or a random one; return its path."""
        self.made += 1
        path = f"{self.area.own}/{os.getpid()}-{self.made}"
        make: dict[str, Callable[[], object]] = {
            "link": lambda: os.symlink(self.chance.choice(self._links), path),
            "hard link": lambda: os.link(self.chance.choice(self.files()), path),
            "FIFO": lambda: os.mkfifo(path),
            "socket": lambda: os.mknod(path, stat.S_IFSOCK | 0o666),
            "program": lambda: self.write(path, self.program(), 0o777),
            "file": lambda: self.write(path, self.content()),
            "directory": lambda: os.mkdir(path),
            "closed directory": lambda: os.mkdir(path),
            "full directory": lambda: self.fill(path),
        }
        kind = kind or self.chance.choice([*make, *["link"] * 5])
        make[kind]()
        if kind in ("FIFO", "directory"):
            os.chmod(path, 0o2777)
        elif kind == "closed directory":
            os.chmod(path, 0o700)
        return path

    def fill(self, path: str) -> None:
        """Make a directory that holds links to the owner's files, and files."""
        os.mkdir(path)
        os.chmod(path, 0o2777)
        for name in (*LIKE_A_QUEUE, ENTRY, LEASE, ID, "x", f"{STAMP}", "0"):
            if self.chance.random() < 0.5:
                os.symlink(self.chance.choice(self._links), f"{path}/{name}")
            else:
                self.write(f"{path}/{name}", self.content())

    def write(self, path: str, data: bytes, mode: int = 0o666) -> None:
        """Write a file that all may read and write."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o666)
        try:
            os.fchmod(descriptor, mode)
            os.write(descriptor, data)
        finally:
            os.close(descriptor)

    def program(self) -> bytes:
        """Return a script that records who ran it."""
        return (
            f"#!/bin/sh\n#SBATCH --job-name=x\n# {MARK}\nid -u >> {self.area.witness}\n"
        ).encode()

    def content(self) -> bytes:
        """Return what a file of a queue may contain, or must not."""
        link = self.chance.choice(self._links)
        run = dict.fromkeys(("id", "start", "host", "job", "log"), link)
        run |= {"duration": self.chance.choice([1e300, "x", [], -1, float("nan")])}
        run |= dict.fromkeys(("exit", "signal", "slot", "peak_kib", "cpu"), 1e300)
        run |= {"result": "acked"}
        return self.chance.choice(
            [
                *(b"", b"\0" * 5000, b"[" * 5000, b'{"message": "theirs"}', b"{}"),
                b'{"message": "$(id -u >> %s)"}' % os.fsencode(self.area.witness),
                b'{"message": "a", "timeout": 1e-9, "requeue_limit": 1e999}',
                b'{"message": %s}' % (b"[" * 900 + b"]" * 900),
                b'{"message": [%s 0]}' % (b"[]," * 100_000),
                b'{"priority":0}\n' + b'"x"\n' * 50,
                json.dumps(run).encode() + b"\n",
                json.dumps({"time": 1e300, "reason": link, "log": link}).encode(),
                json.dumps({"compacted": [link, f"../../{SECRET}"]}).encode() + b"\n",
                json.dumps({"host": "x", "pid": 1, "since": 1e300}).encode(),
                b"layout: 2 (ddmq 1.0.0)\nmessage_timeout: 1.0e-9\n",
                self.program(),
                b"\x1b]0;x\x07\x9b31m\xe2\x80\xae\r\nddmq: all is well\n",
            ]
        )

    # Where

    def directories(self) -> list[str]:
        """Return the directories of the queue, and some of those below them."""
        found = self._main[:-1]
        ready, priorities = f"{self._queue}/ready", []
        with suppress(OSError):
            priorities = [f"{ready}/{name}" for name in os.listdir(ready)]
        for path in priorities[:20]:
            found.append(path)
            with suppress(OSError):
                found += [f"{path}/{name}" for name in os.listdir(path)[:20]]
        for path in map(str, (self.area.results, self.area.logs)):
            found.append(path)
            with suppress(OSError):
                found += [f"{path}/{name}" for name in os.listdir(path)[-5:]]
        return [path for path in found if not path.endswith("/.ddmq-unfinished")]

    def files(self) -> list[str]:
        """Return some of the files in some of the directories."""
        found = []
        for path in self.chance.sample(self.directories(), 3):
            with suppress(OSError):
                found += [f"{path}/{name}" for name in os.listdir(path)[:50]]
        return [path for path in found if not path.endswith("/.ddmq-unfinished")]

    def name(self) -> str:
        """Return a name that means something in a queue, or nothing."""
        now = time.time_ns()
        stamp = self.chance.choice([STAMP, now, now + 10**9, 10**19 - 1, 0])
        id_ = f"{self.chance.getrandbits(80):020x}"
        id_ = self.chance.choice([ID, id_, "documents", f"{id_}-3", "drop-x"])
        entry = f"{stamp:019d}.{id_}.{self.chance.choice(['0-0', '9-9', '0-0.t1'])}"
        token = f"{self.chance.getrandbits(64):016x}"
        due = self.chance.choice([1_600_000_000_000, now // 10**6, 10**13 - 1])
        lines = self.chance.choice(["9", "1000", "0", "12", "12.open"])
        bundle = f"{stamp:019d}.{ID}.{lines}"
        span, state = self.chance.choice(
            [("0-3-9", "oox"), ("2-3-9", "d"), ("0-9-9", "x"), ("0-3-9", "odl")]
        )
        mark = ".0123ab" if "d" in state else ""
        some = f"{stamp:019d}.{ID}.{span}.{token}.{state}.0-0"
        return self.chance.choice(
            [
                *(entry, bundle, some, f"{due}.0.{entry}.{token}", f"{due}.0.{bundle}"),
                *(f"{due}.0.{some}.{token}{mark}.range", f"{due}.0.{some}", ID),
                *(
                    f"0.{entry}.{token}.0123ab.detached",
                    "lines",
                    "0",
                    "2",
                    f"{span}.{token}.{state}.done",
                ),
                *(f"{due}.0.{entry}", f"0.{entry}.{token}.failed", "drained"),
                *(f"{ID}.{TOKEN}.failed.note", f"{id_}.{token}", f"ddmq-{token}.sh"),
                *(f"{stamp:019d}", f"{stamp:019d}.shelf", "0", "x", ".hidden", "-rf"),
                *(f"compacted-{token}.jsonl", f"{token}.jsonl", ".ddmq-unfinished"),
                *(f"after-no-job-{self.chance.randrange(4)}", "\x1b[2Jname\n", id_),
            ]
        )

    def dwell(self) -> None:
        """Wait for a moment, mostly none."""
        pause = self.chance.choice([0, 0, 0, 2e-5, 2e-4, 2e-3, 2e-2])
        if pause:
            time.sleep(pause)

    # What he does

    def flap(self) -> None:
        """Replace a directory by something else for a moment."""
        others = [x for x in self.directories() if x not in self._main]
        paths = self.chance.choice([self._to_swap, others])
        kinds = ["link"] * 5 + ["directory", "full directory", "closed directory"]
        self.swap(self.chance.choice(paths), self.new(self.chance.choice(kinds)))

    def swap(self, path: str, lure: str) -> None:
        """Swap two names and swap them back, for a moment; sometimes leave them swapped."""
        end = time.monotonic() + self.chance.uniform(0.002, 0.2)
        while time.monotonic() < end:
            exchange(lure, path)
            self.dwell()
            exchange(lure, path)
            self.dwell()
        if self.chance.random() < 0.1:
            exchange(lure, path)
            if path in self._main:
                time.sleep(self.chance.uniform(0, 0.3))
                exchange(lure, path)

    def haunt_outputs(self) -> None:
        """Attack what commands and workers write, as soon as its name appears."""
        unfinished = f"{self.area.results}/.ddmq-unfinished"
        if self._is_first:
            self.haunt_unfinished(unfinished)
        end, known = time.monotonic() + 0.2, set[str]()
        while time.monotonic() < end:
            for directory in (unfinished, str(self.area.results)):
                with suppress(OSError):
                    for name in os.listdir(directory):
                        if name not in known and name != ".ddmq-unfinished":
                            known.add(name)
                            with suppress(OSError):
                                self.meet(f"{directory}/{name}")
        self.haunt_logs()

    def meet(self, path: str) -> None:
        """Put something in the place of a result, or of the directory in which one is made."""
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.replace(self.new(), path)
            return
        lure = self.new(self.chance.choice(["link", "link", "link", "full directory"]))
        exchange(lure, path)
        self.dwell()
        if self.chance.random() < 0.7:
            exchange(lure, path)

    def haunt_unfinished(self, path: str) -> None:
        """Swap the directory of unfinished outputs; undo what would keep workers away."""
        if os.lstat(path).st_uid == os.geteuid():
            os.rename(path, self.new("directory") + "-was")
        elif self.chance.random() < 0.5:
            self.swap(path, self.new("link"))
        else:
            os.rename(path, self.new("directory") + "-was")
            os.symlink(self.chance.choice(self._links), path)
            time.sleep(self.chance.uniform(0, 0.2))
            os.unlink(path)

    def haunt_logs(self) -> None:
        """Swap the directories of a worker's logs."""
        found = []
        for path, names, _ in os.walk(self.area.logs):
            found += [f"{path}/{name}" for name in names]
        self.swap(self.chance.choice(found[-20:]), self.new("link"))

    def haunt_jobs(self) -> None:
        """Put his own program in the place of every job script that appears."""
        jobs, known = f"{self._queue}/jobs", set[str]()
        with suppress(OSError):
            known = set(os.listdir(jobs))
        end = time.monotonic() + self.chance.uniform(0.1, 0.5)
        while time.monotonic() < end:
            for name in set(os.listdir(jobs)) - known:
                known.add(name)
                kind = self.chance.choice(["program", "program", "FIFO", "link"])
                for _ in range(10):
                    os.replace(self.new(kind), f"{jobs}/{name}")
                    self.dwell()

    def haunt_lock(self) -> None:
        """Replace a lock file by something else for a moment."""
        path = self.chance.choice([str(self.area.root), self._queue]) + "/lock"
        lure = self.new(self.chance.choice(["link", "FIFO", "hard link", "file"]))
        self.swap(path, lure)
        if self.chance.random() < 0.3:
            self.write(path, self.content())

    def haunt_settings(self) -> None:
        """Replace the settings for a moment; a member may change them, so he puts them back."""
        path = self.chance.choice([str(self.area.root), self._queue]) + "/ddmq.yaml"
        kind = self.chance.choice(["link", "FIFO", "file", "directory"])
        lure, end = self.new(kind), time.monotonic() + self.chance.uniform(0.002, 0.03)
        while time.monotonic() < end:
            exchange(lure, path)
            self.dwell()
            exchange(lure, path)
            self.dwell()

    def plant(self) -> None:
        """Put something in a wrong place, under a name that has a meaning."""
        for _ in range(self.chance.randrange(1, 8)):
            directory = self.chance.choice(self.directories())
            thing, name = self.new(), self.name()
            if self.chance.random() < 0.5:
                self.backdate(thing)
            os.rename(thing, f"{directory}/{name}")
        time.sleep(0.01)

    def backdate(self, path: str) -> None:
        """Make a thing of his look old."""
        then = time.time() - _DAYS
        os.utime(path, (then, then), follow_symlinks=False)

    def replace(self) -> None:
        """Put something in the place of files that are there."""
        for path in self.chance.sample(files := self.files(), min(3, len(files))):
            found = os.lstat(path)
            if stat.S_ISDIR(found.st_mode):
                exchange(self.new("link"), path)
            else:
                os.rename(self.new(), path)
        time.sleep(0.005)

    def spoil(self) -> None:
        """Truncate files, make them huge, or write into them."""
        for path in self.chance.sample(files := self.files(), min(3, len(files))):
            flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            with suppress(OSError):
                descriptor = os.open(path, flags)
                how = self.chance.randrange(3)
                with suppress(OSError):
                    if how == 0:
                        os.ftruncate(descriptor, 0)
                    elif how == 1:
                        os.ftruncate(descriptor, 1 << 40)
                    else:
                        os.write(descriptor, self.content())
                os.close(descriptor)

    def hold_lock(self) -> None:
        """Hold a lock for a moment, so that administrators wait."""
        path = self.chance.choice([str(self.area.root), self._queue]) + "/lock"
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            time.sleep(self.chance.uniform(0, 0.3))
        os.close(descriptor)

    def move(self) -> None:
        """Move files or directories to other places."""
        for path in self.chance.sample(files := self.files(), min(2, len(files))):
            directory = self.chance.choice(self.directories())
            name = self.chance.choice([os.path.basename(path), self.name()])
            os.rename(path, f"{directory}/{name}")

    def shut(self) -> None:
        """Make an old directory that keeps others out, or that others can't empty."""
        directory = self.chance.choice(self.directories())
        path = f"{directory}/{self.name()}"
        os.mkdir(path)
        self.write(f"{path}/x", b"x")
        os.chmod(path, self.chance.choice([0o700, 0o500, 0, 0o2770]))
        self.backdate(path)
        time.sleep(0.01)

    def letter_for_a_directory(self) -> None:
        """Give a dead letter the name of one of the owner's directories."""
        for name in (ID, "documents", *LIKE_A_QUEUE[:3]):
            letter = f"0.{STAMP}.{name}.0-0.{TOKEN}.failed"
            os.rename(self.new("file"), f"{self._queue}/dead/{letter}")

    def poison(self) -> None:
        """Plant a few messages that take more memory than there is."""
        if self.poisoned < _POISONED:
            self.poisoned += 1
            path = self.new("file")
            self.write(path, b'{"message": [%s 0]}' % (b"[]," * _POISON))
            place = self.chance.choice([f"{self._queue}/drop", *self.directories()])
            os.rename(path, f"{place}/{self.name()}")

    def crowd(self) -> None:
        """Make an old directory in `tmp/` that takes long to remove; swap it meanwhile."""
        made = f"{self.area.own}/crowd"
        if not os.path.isdir(made):
            os.mkdir(f"{made}-draft")
            os.chmod(f"{made}-draft", 0o2777)
            for number in range(CROWD):
                os.mknod(f"{made}-draft/file{number:05d}", 0o666 | stat.S_IFREG)
            os.rename(f"{made}-draft", made)
        self.backdate(made)
        path = f"{self._queue}/tmp/{self.chance.getrandbits(80):020x}"
        os.rename(made, path)
        lure = f"{path[:-20]}.{self.made}"
        os.symlink(f"{self.area.home}/documents", lure)
        end = time.monotonic() + 2
        while time.monotonic() < end:
            exchange(lure, path)
            self.dwell()
            exchange(lure, path)
            self.dwell()


def leave(area: Area, seed: str, queue: int, settings: dict[Path, bytes]) -> None:
    """Put the queue and its settings back, and leave some directories damaged.

    `queue` is its inode. Without its place and settings the queue would count as deleted,
    and a member may delete it. All other damage must be mended by `ddmq doctor`.
    """
    for directory in (area.root, area.own):
        for name in os.listdir(directory):
            path = directory / name
            if os.lstat(path).st_ino == queue and path != area.queue:
                exchange(path, area.queue)
    neighbour = Neighbour(area, seed, 0, 1)
    for path, data in settings.items():
        draft = neighbour.new("file")
        Path(draft).write_bytes(data)
        os.chmod(draft, 0o660)
        exchange(draft, path) if os.path.lexists(path) else os.rename(draft, path)
    for name in neighbour.chance.sample(_QUEUE, 3):
        kinds = ["link", "FIFO", "file", "closed directory"]
        exchange(neighbour.new(neighbour.chance.choice(kinds)), area.queue / name)


def home_of_canaries(home: Path, owner: tuple[int, int]) -> None:
    """Fill a home directory with files that a misled client would touch.

    It looks like a queue, with messages, leases, results and dead letters that are due.
    """
    home.mkdir(mode=0o700)
    message = b'{"message": "CANARY of a message", "priority": 0}'
    files: dict[str, bytes] = {
        SECRET: b"CANARY of a secret",
        **dict.fromkeys(("lock", "cleaned", "x", ID, ENTRY, LEASE), b"CANARY"),
        "ddmq.yaml": b"layout: 2 (ddmq 1.0.0)\n# CANARY\n",
        f"ready/0/{STAMP}/{ENTRY}": message,
        f"work/{LEASE}": message,
        f"bundles/{ID}/lines": b'{"priority":0}\n"CANARY of a line"\n',
        f"delayed/1600000000000.0.{ENTRY}": message,
        f"dead/0.{ENTRY}.{TOKEN}.failed": message,
        f"dead/{ID}.{TOKEN}.failed.note": b'{"reason": "CANARY of a note"}',
        "drop/letter": b"CANARY of a letter",
        "tmp/x/file": b"CANARY",
        f"tmp/{ID}": b"CANARY",
        f"tmp/{ID[::-1]}/file": b"CANARY",
        "journal/old.jsonl": b'{"id": "CANARY"}\n',
        "journal/compacted-x.jsonl": b'{"compacted": ["old.jsonl"]}\n',
        "jobs/ddmq-x.sh": b"#!/bin/sh\n# CANARY\n",
        f".ddmq-unfinished/{ID}.{TOKEN}/{ID}.{TOKEN}/{ID}": b"CANARY",
        f".ddmq-unfinished/{ID}/file": b"CANARY",
        "documents/thesis/file": b"CANARY",
    }
    files |= {f"documents/file{n:05d}": b"CANARY" for n in range(NAMESAKES)}
    for name, data in files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o600)
    found = [(d, [f"{d}/{name}" for name in names]) for d, _, names in os.walk(home)]
    for directory, names in reversed(found):
        os.chmod(directory, 0o700)
        for each in (*names, directory):
            os.chown(each, *owner)
            os.utime(each, (1, 1_600_000_000))


def all_of(path: str) -> dict[str, Any]:
    """Return all that is known of a file, or of a directory and its content.

    This changes none of it, not even the time of the last access.
    """
    known = os.lstat(path)
    times = known.st_atime_ns, known.st_mtime_ns, known.st_ctime_ns
    identity = known.st_mode, known.st_ino, known.st_nlink, known.st_uid, known.st_size
    found: dict[str, Any] = {path: (*identity, *times)}
    if stat.S_ISLNK(known.st_mode) or not known.st_mode & (stat.S_IFREG | stat.S_IFDIR):
        return found
    descriptor = os.open(path, os.O_RDONLY | os.O_NOATIME | os.O_NONBLOCK)
    if stat.S_ISDIR(known.st_mode):
        for name in sorted(os.listdir(descriptor)):
            found |= all_of(f"{path}/{name}")
    elif stat.S_ISREG(known.st_mode):
        found[path] += (os.read(descriptor, 1 << 20),)
    os.close(descriptor)
    return found
