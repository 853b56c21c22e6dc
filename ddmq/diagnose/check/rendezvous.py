"""How clients on several nodes find each other: in the directory that they check."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ddmq.errors import InvalidArgument
from ddmq.storage.names import new_token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ddmq.clock import Clock
    from ddmq.storage.filesystem import FileSystem

#: What the directories of all checks begin with; nobody's queue can.
PREFIX = ".ddmq-check-"
#: A file in each of them: that it is one, whatever it is called by now.
MARK = "made-by-ddmq-check"
_HELLO = re.compile(r"hello\.([0-9]{7})\.([0-9a-f]{16})\.(.+)")
_PAUSE = 0.05


class Launcher(NamedTuple):
    """What a program that starts processes on several nodes tells each of them."""

    size: str
    rank: str
    key: tuple[str, ...]
    """What together tells one start of it from another."""


#: `srun`, Open MPI's `mpirun`, and those of MPICH and Intel.
LAUNCHERS = (
    Launcher("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", ("SLURM_JOB_ID", "SLURM_STEP_ID")),
    Launcher("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", ("PMIX_NAMESPACE",)),
    Launcher("PMI_SIZE", "PMI_RANK", ("PMI_JOBID", "PBS_JOBID", "SLURM_JOB_ID")),
)


class Party(NamedTuple):
    """The processes that were started together."""

    size: int
    rank: int
    key: str


def party(environ: Mapping[str, str], clients: int | None) -> Party | None:
    """Return with whom we were started; None: alone, as far as anybody tells."""
    if clients is not None:
        return Party(clients, 0, f"clients-{os.getuid()}") if clients > 1 else None
    for launcher in LAUNCHERS:
        size, rank = environ.get(launcher.size, ""), environ.get(launcher.rank, "")
        if size.isdigit() and rank.isdigit() and int(size) > 1:
            words = [environ[name] for name in launcher.key if environ.get(name)]
            key = "-".join(re.sub(r"[^A-Za-z0-9]+", "_", word) for word in words)
            return Party(int(size), int(rank), key or f"launched-{os.getuid()}")
    return None


class Meeting(NamedTuple):
    """Who checks a directory together."""

    path: str
    """The directory of these two."""
    hosts: tuple[str, str]
    side: str
    """`a` leads, `b` answers; empty: we are not needed."""


class Lobby:
    """The directory in which clients wait for each other."""

    def __init__(self, directory: str, party: Party, fs: FileSystem, host: str) -> None:
        self.path = f"{directory}/{PREFIX}{party.key}"
        self._party = party
        self._fs = fs
        self._name = f"hello.{party.rank:07d}.{new_token()}.{host}"

    def meet(self, clock: Clock, timeout: float) -> Meeting | None:
        """Wait until all are there; None when they are not within `timeout` seconds."""
        deadline = clock.monotonic() + timeout
        try:
            make_private(self.path, self._fs)
            self._fs.create_own(f"{self.path}/{self._name}", b"", sync=False)
            while len(names := self._hellos(timeout)) < self._party.size:
                if clock.monotonic() >= deadline:
                    return None
                clock.sleep(_PAUSE)
        except FileNotFoundError:  # the others are done already
            return Meeting(self.path, ("", ""), "")
        # The first one leads; the first one of another host answers.
        leader = names[0]
        others = [n for n in names if host_of(n) != host_of(leader)]
        partner = others[0] if others else names[1]
        side = {leader: "a", partner: "b"}.get(self._name, "")
        path = f"{self.path}/{_token_of(leader)}-{_token_of(partner)}"
        return Meeting(path, (host_of(leader), host_of(partner)), side)

    def _hellos(self, timeout: float) -> list[str]:
        """Return all who said hello, but for those who died here long ago."""
        names = sorted(filter(_HELLO.fullmatch, self._fs.listing(self.path)))
        if len(names) < self._party.size:
            return names
        found = {n: self._fs.status_when_opened(f"{self.path}/{n}") for n in names}
        ours = found[self._name]
        now = ours.modified_ns if ours is not None else 0
        return [n for n, s in found.items() if s is not None and s.age(now) <= timeout]

    def leave(self) -> None:
        """Take our hello back; the last one removes the directory."""
        self._fs.discard(f"{self.path}/{self._name}")
        with suppress(FileNotFoundError):
            if self._fs.listing(self.path) == [MARK]:
                self._fs.discard(f"{self.path}/{MARK}")
        self._fs.rmdir(self.path)


def make_private(path: str, fs: FileSystem) -> None:
    """Make the directory of a check, which is ours alone; InvalidArgument when it is not.

    Clients do what they read in it, so nobody else may write there.
    """
    with suppress(FileExistsError):
        fs.calls.mkdir(path, 0o700)
        fs.create_own(f"{path}/{MARK}", b"", sync=False)
    found = fs.calls.lstat(path)
    is_open = stat.S_IMODE(found.st_mode) & 0o077
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or is_open:
        raise InvalidArgument(
            f"{path}: this is not ours alone, and a check does what it reads there; "
            "remove it, or check another directory"
        )


def host_of(name: str) -> str:
    """Return the host of the client that said hello."""
    return name.split(".", 3)[3]


def _token_of(name: str) -> str:
    return name.split(".", 3)[2]
