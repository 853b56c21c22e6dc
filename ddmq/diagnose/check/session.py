"""A check from beginning to end: two clients find each other, probe, and leave nothing behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq.clock import Clock
from ddmq.diagnose.check import mounts, probes, report, space, storm
from ddmq.diagnose.check.channel import Bench, Channel, Silence
from ddmq.diagnose.check.children import Family, ended_like_interrupted
from ddmq.diagnose.check.rendezvous import MARK, PREFIX, Lobby, make_private, party
from ddmq.diagnose.check.report import Report
from ddmq.errors import DdmqError, InvalidArgument, StorageError, real_path, warn
from ddmq.hpc.folder import Folder
from ddmq.printable import quoted
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.names import new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ddmq.diagnose.check.rendezvous import Party
    from ddmq.diagnose.finding import Finding

#: Seconds after which the directory of a check belongs to one that died.
_STALE = 86400
#: What the names of directories begin with that are on this node only.
_RECORDS = "ddmq-check-"
_ONE_NODE = "as far as one node can tell"
_REMOVED_WITHIN = 3.0
#: Seconds between a race being told and its start, besides what listings lag behind.
_LEAD = 0.2
#: Seconds of a lease in the storm, besides what listings lag behind.
_LEASE = 1.5


class Place(NamedTuple):
    """What is checked, and with what."""

    directory: str
    other: str | None = None
    """The same file system, mounted once more."""
    timeout: float = 60
    """Seconds that another client may take to come."""
    patience: float = 60
    """Seconds that it may take to answer."""
    fs: FileSystem = FileSystem()
    flock: Callable[[int, int], object] = fcntl.flock

    def bench(self, side: str, path: str, records: str) -> Bench:
        """Return the place of one client."""
        return Bench(
            side=side,
            path=path,
            fs=self.fs,
            clock=Clock(),
            flock=self.flock,
            patience=self.patience,
            records=records,
        )


def check(
    place: Place,
    environ: Mapping[str, str],
    clients: int | None,
    tell: Callable[[str], None],
) -> Report | None:
    """Check a directory; None: another process reports what was found.

    A check leaves nothing behind, unless it is killed by SIGKILL: then a check on a later day
    removes it.
    """
    for directory in (place.directory, place.other):
        if directory is not None and not os.path.isdir(directory):
            raise InvalidArgument(f"{directory!r} is no directory; name one that is")
    other = None if place.other is None else real_path(place.other)
    place = place._replace(directory=real_path(place.directory), other=other)
    fs, local = place.fs, tempfile.gettempdir()
    with ended_like_interrupted():
        try:
            _remove_old(place.directory, fs.hidden(place.directory), PREFIX)
            _remove_old(local, os.listdir(local), _RECORDS)
            together = party(environ, clients)
            if together is None:
                return _alone(place, tell)
            return _together(place, tell, together)
        except OSError as error:
            raise StorageError(error) from error


def _remove_old(directory: str, names: list[str], prefix: str) -> None:
    """Remove from a directory what our checks left there that were killed a day ago.

    Where others may write, they may give such a name to any directory of ours. Nobody but a check
    put the mark into it.
    """
    now = Clock().time()
    with Folder.open(directory) as above:
        for name in names:
            # It may be removed just now by its own check, or be no directory.
            with suppress(OSError):
                if not name.startswith(prefix):
                    continue
                with above.below(name) as left:
                    found = left.own_status()
                    if found.st_uid != os.getuid() or now - found.st_mtime <= _STALE:
                        continue
                    if left.status(MARK) is not None:
                        for each in sorted(left.names(), key=MARK.__eq__):
                            left.remove(each)
                above.remove_empty(name)


def _alone(place: Place, tell: Callable[[str], None], missed: str = "") -> Report:
    """Check with two processes of this node; `missed` says who did not come."""
    name = f"{PREFIX}{new_token()}"
    path, other = f"{place.directory}/{name}", place.other or place.directory
    try:
        make_private(path, place.fs)
        with _records() as records:
            ours = place.bench("a", path, records)
            theirs = place.bench("b", f"{other}/{name}", records)
            findings = _with_child(ours, theirs, tell)
            local = mounts.is_local(mounted(ours))
    finally:
        _remove(path)
    host = os.uname().nodename
    clients = [f"a process on {host}", f"another on {host}"]
    if place.other:
        both = [place.directory, place.other]
        clients = [f"{c}, in {d}" for c, d in zip(clients, both)]
        return Report(both, clients, findings, "by both mounts")
    scope = "for processes on this node" if local else _ONE_NODE
    hint = ""
    if missed or not local:
        where = quoted(place.directory)
        hint = (
            f"{missed}Only this node took part. On two: `srun -N2 ddmq check {where}`, or `ddmq "
            f"check --clients 2 {where}` on each within a minute."
        )
    return Report([place.directory], clients, findings, scope, hint)


@contextmanager
def _records() -> Iterator[str]:
    """Provide a directory on this node."""
    path = f"{tempfile.gettempdir()}/{_RECORDS}{new_token()}"
    try:
        os.mkdir(path, 0o700)  # within `try`: an interrupt may come right after it
        FileSystem().create_own(f"{path}/{MARK}", b"", sync=False)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _with_child(
    ours: Bench, theirs: Bench, tell: Callable[[str], None]
) -> list[Finding]:
    """Do all probes with a process that we start."""
    fs = ours.fs
    if not ours.until(lambda: fs.exists(theirs.path)):
        raise DdmqError(
            f"{os.path.dirname(theirs.path)} does not show what was made in "
            f"{os.path.dirname(ours.path)}: name two mounts of one file system"
        )

    us = os.getpid()

    def answer() -> None:
        channel = Channel(theirs, lambda: os.getppid() == us)
        with suppress(Silence):  # nobody is left to be told
            Partner(theirs, channel).answer()

    family = Family()
    try:
        partner = family.start(answer, group=True)
        channel = Channel(ours, partner.is_alive)
        return _Check(ours, channel, tell, nodes=1).run()
    finally:
        family.end()


def _together(
    place: Place, tell: Callable[[str], None], together: Party
) -> Report | None:
    """Check with a client on another node, if one comes; None: the other one reports."""
    if place.other is not None:
        raise InvalidArgument("with clients on several nodes, name one directory")
    tell(f"waiting for {together.size - 1} more")
    fs = place.fs
    lobby = Lobby(place.directory, together, fs, os.uname().nodename)
    meeting = None
    try:
        meeting = lobby.meet(Clock(), place.timeout)
    finally:
        if meeting is None:
            lobby.leave()
    if meeting is None:
        missed = f"No other client came within {place.timeout:g} seconds. "
        return _alone(place, tell, missed)
    if not meeting.side:
        return None
    fs.mkdir(meeting.path)
    nodes = len(set(meeting.hosts))
    with _records() as records:
        bench = place.bench(meeting.side, meeting.path, records)
        channel = Channel(bench, lambda: True)
        if meeting.side == "b":
            Partner(bench, channel).answer()
            return None
        try:
            findings = _Check(bench, channel, tell, nodes=nodes).run()
        finally:
            _remove(lobby.path)
    clients = [f"a process on {host}" for host in meeting.hosts]
    scope = "for clients on several nodes" if nodes > 1 else _ONE_NODE
    return Report([place.directory], clients, findings, scope)


def _remove(path: str) -> None:
    """Remove a directory; what NFS keeps for those who have it open goes a little later."""
    clock = Clock()
    shutil.rmtree(path, ignore_errors=True)
    deadline = clock.monotonic() + _REMOVED_WITHIN
    while os.path.lexists(path):
        if clock.monotonic() > deadline:
            warn(f"{path} could not be removed entirely; remove it by hand")
            return
        clock.sleep(_LEAD)
        shutil.rmtree(path, ignore_errors=True)


class _Check:
    """The client that leads."""

    def __init__(
        self,
        bench: Bench,
        channel: Channel,
        tell: Callable[[str], None],
        *,
        nodes: int,
    ) -> None:
        self._bench = bench
        self._channel = channel
        self._tell = tell
        self._nodes = nodes
        self._lag = 0.0

    def run(self) -> list[Finding]:
        """Do all probes; one that can't be done is the last one."""
        findings: list[Finding] = []
        steps: tuple[Callable[[], Iterator[Finding]], ...] = (
            self.surroundings, self.alone, self.views, self.races, self.locks,
            self.storm,
        )  # fmt: skip
        for step in steps:
            try:
                for finding in step():
                    findings.append(finding)
                    self._tell(f"checked: {finding.name}")
            except (OSError, DdmqError) as error:
                return [*findings, report.of_failure(step.__name__, error)]
        self._channel.ask("end")
        return findings

    def surroundings(self) -> Iterator[Finding]:
        """Say what is mounted here, and what is left of it."""
        ours = mounted(self._bench)
        yield from report.of_mount(ours, nodes=self._nodes)
        theirs, found = None, self._channel.ask("mounted")
        if found:
            kind, source, point, options = found
            theirs = mounts.Mount(kind, source, point, tuple(options))
        if not mounts.are_alike(ours, theirs):
            yield from report.of_mount(theirs, nodes=self._nodes)
        kind = ours.kind if ours is not None else ""
        path = self._bench.path
        yield report.of_space(space.free(path), space.quota(path, kind))

    def alone(self) -> Iterator[Finding]:
        """Try what each client can do alone."""
        ours = probes.sync(self._bench)
        yield report.of_sync([ours, probes.Synced(*self._channel.ask("sync"))])

    def views(self) -> Iterator[Finding]:
        """Find out how soon each client sees what the other one does."""
        bench, channel = self._bench, self._channel
        offsets = [probes.offset(bench), channel.ask("offset")]
        seen = probes.ping(bench, channel)
        self._lag = max(seen.seconds, default=0.0)
        yield report.of_seen(seen)
        yield report.of_clocks(offsets, seen)
        yield report.of_listed(probes.listed(bench, channel), probes.LISTED)
        yield report.of_early(probes.early(bench, channel))

    def races(self) -> Iterator[Finding]:
        """Let both clients try to win the same names."""
        for kind in ("rename", "mkdir", "create", "symlink"):
            lead = _LEAD + 3 * self._lag
            race = probes.race(self._bench, self._channel, kind, lead)
            yield report.of_race(kind, race)

    def locks(self) -> Iterator[Finding]:
        """Find out whether a lock of one client keeps the other out."""
        locked = probes.locked(self._bench, self._channel)
        yield report.of_locks(locked, self._nodes)

    def storm(self) -> Iterator[Finding]:
        """Let messages pass through a queue while processes are killed."""
        lease = _LEASE + 4 * self._lag
        broker = storm.make_queue(self._bench, lease)
        ours = storm.Storm(self._bench)
        try:
            self._channel.send({"do": "storm"})
            ours.run()
            kills = ours.kills + self._channel.answer()
            patience = self._bench.patience + 3 * lease
            left = storm.left_after(self._bench, broker, patience)
            ours.stop()
            theirs = [storm.Line(*line) for line in self._channel.ask("record")]
            account = storm.account([*ours.record(), *theirs], kills, left)
        finally:
            ours.stop()
        yield report.of_storm(account)


def mounted(bench: Bench) -> mounts.Mount | None:
    """Tell what is mounted where a client works."""
    return mounts.mount_of(bench.path, mounts.read())


class Partner:
    """The client that answers."""

    def __init__(self, bench: Bench, channel: Channel) -> None:
        self._bench = bench
        self._channel = channel
        self._storm: storm.Storm | None = None

    def answer(self) -> None:
        """Do what we are asked to, until that is all; Silence when nobody asks any more."""
        # The other may wait for itself to finish what takes it long.
        patience = 3 * self._bench.patience
        try:
            while (request := self._channel.receive(patience))["do"] != "end":
                try:
                    answer = {"result": self._do(**request)}
                except (OSError, DdmqError) as error:
                    answer = {"error": " ".join(str(error).split())}
                self._channel.send(answer)
            self._channel.send({"result": None})
        finally:
            if self._storm is not None:
                self._storm.stop()

    def _do(self, do: str, **arguments: Any) -> Any:
        if do == "mounted":
            return mounted(self._bench)
        if do == "storm":
            self._storm = storm.Storm(self._bench)
            self._storm.run()
            return self._storm.kills
        if do == "record":
            if self._storm is None:
                raise Silence("there was no storm")
            self._storm.stop()
            return self._storm.record()
        return probes.ANSWERS[do](self._bench, **arguments)
