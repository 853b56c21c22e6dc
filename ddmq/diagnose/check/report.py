"""Figures become findings, and findings a verdict, in plain words; pure."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq.diagnose.check import mounts
from ddmq.diagnose.finding import BAD, NOTE, OK, Finding, table
from ddmq.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddmq.diagnose.check.mounts import Mount
    from ddmq.diagnose.check.probes import Early, Listed, Locked, Race, Seen, Synced
    from ddmq.diagnose.check.space import Space
    from ddmq.diagnose.check.storm import Account

#: Seconds: what listings may lag behind, and stamps of two clients may differ.
_SLOW, _TOO_SLOW = 3.0, 30.0
_SKEWED, _TOO_SKEWED = 0.5, 5.0
_FEW_INODES, _FEW_BYTES = 10_000, 100_000_000
#: Of two who race, the least that the slower one wins of a hundred.
_HARDLY = 2


def of_mount(mount: Mount | None, *, nodes: int) -> list[Finding]:
    """Say what is mounted there, and what is known about it."""
    if mount is None:
        return [Finding("mount", NOTE, "the kernel does not tell what is mounted here")]
    what = f"{mount.kind} from {mount.source}, {', '.join(mount.options)}"
    kind = mounts.KINDS.get(mount.kind)
    figures = mount._asdict()
    if kind is None:
        text = f"{what}; nothing is known about this type: trust the probes"
        return [Finding("mount", NOTE, text, figures=figures), *_of_options(mount)]
    text = f"{what}; {kind.words}"
    if not kind.fit:
        remedy = "put the queue on another file system"
        return [Finding("mount", BAD, text, remedy, figures)]
    if nodes > 1 and not kind.shared:
        remedy = "no two nodes share this one: put the queue where they do"
        return [Finding("mount", BAD, text, remedy, figures)]
    return [Finding("mount", OK, text, figures=figures), *_of_options(mount)]


def _of_options(mount: Mount) -> list[Finding]:
    return [Finding("options", NOTE, remark) for remark in mounts.remarks(mount)]


def of_space(space: Space, quota: str) -> Finding:
    """Say what is left."""
    inodes = "uncounted" if space.inodes is None else f"{space.inodes:,}"
    text = f"{_size(space.bytes)} and {inodes} inodes are free"
    text += f"; quota: {quota}" if quota else "; no quota could be read"
    figures = {**space._asdict(), "quota": quota}
    if space.bytes == 0 or space.inodes == 0:
        return Finding(
            "space", BAD, text, "free some: nothing can be published", figures
        )
    if space.bytes < _FEW_BYTES or (space.inodes or _FEW_INODES) < _FEW_INODES:
        remedy = "a message takes an inode and a block: free some"
        return Finding("space", NOTE, text, remedy, figures)
    return Finding("space", OK, text, figures=figures)


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"


def of_sync(synced: Sequence[Synced]) -> Finding:
    """Say whether what was published survives a power cut."""
    slowest = max(s.seconds for s in synced)
    refusal = next((s.directory for s in synced if s.directory), "")
    text = f"fsync of a new file takes {_time(slowest)} (median of the slower client)"
    figures = {"seconds": slowest, "directory": refusal}
    if refusal:
        text += f"; of a directory: {refusal}"
        remedy = (
            "names may be lost in a power cut, unless the server writes them at once"
        )
        return Finding("fsync", NOTE, text, remedy, figures)
    return Finding("fsync", OK, text + "; directories can be synced", figures=figures)


def of_clocks(offsets: Sequence[float], seen: Seen | None) -> Finding:
    """Say whose clock stamps files."""
    ours = ", ".join(_ahead(offset) for offset in offsets)
    text = f"a new file's stamp against this client's own clock: {ours}"
    figures: dict[str, Any] = {"offsets": list(offsets)}
    if seen is None or not isfinite(seen.skew + seen.unsure):
        return Finding("clock", OK, text, figures=figures)
    figures.update(skew=seen.skew, unsure=seen.unsure)
    apart = max(0.0, abs(seen.skew) - seen.unsure)
    if apart > _SKEWED:
        text += f"; files of the two clients are stamped by clocks {_time(apart)} apart"
        remedy = (
            "keep the clocks of the nodes together (NTP): leases end early by as much"
        )
        level = BAD if apart > _TOO_SKEWED else NOTE
        return Finding("clock", level, text, remedy, figures)
    text += f"; both clients' files bear one clock (to {_time(seen.unsure)})"
    return Finding("clock", OK, text, figures=figures)


def _ahead(seconds: float) -> str:
    if not seconds:
        return "no difference"
    return f"{_time(abs(seconds))} {'ahead' if seconds > 0 else 'behind'}"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def of_seen(seen: Seen) -> Finding:
    """Say how soon a listing taken afresh shows what the other client renamed."""
    took = sorted(seen.seconds)
    if seen.lost:
        text = "a listing taken afresh did not show what the other client renamed"
        remedy = (
            "is it one file system? does it cache directories? ddmq can't work here"
        )
        return Finding("listing", BAD, text, remedy, {"rounds": len(took)})
    median, worst = took[len(took) // 2], took[-1]
    text = (
        f"a listing taken afresh shows the other client's rename after {_time(median)}, at "
        f"worst {_time(worst)} ({len(took)} round trips)"
    )
    figures = {"median": median, "worst": worst, "rounds": len(took)}
    if worst > _TOO_SLOW:
        return Finding("listing", BAD, text, "leases can't be kept in time", figures)
    if worst > _SLOW:
        remedy = "messages are seen late: keep message_timeout well above"
        return Finding("listing", NOTE, text, remedy, figures)
    return Finding("listing", OK, text, figures=figures)


def of_listed(listed: Listed, number: int) -> Finding:
    """Say whether a rename finds what a listing showed."""
    text = (
        f"of {number} names that the other client made, a listing showed {listed.shown} "
        f"after {_time(listed.seconds)}, and a rename found {listed.found}"
    )
    figures = listed._asdict()
    if listed.found < listed.shown or listed.shown != number:
        remedy = "messages could be passed over or stuck: ddmq can't work here"
        return Finding("rename", BAD, text, remedy, figures)
    return Finding("rename", OK, text, figures=figures)


def of_early(early: Early) -> Finding:
    """Say what a name does that was looked up before it was there."""
    figures = early._asdict()
    worst = max(early.open_seconds, early.rename_seconds)
    if not (early.open_cured and early.rename_cured):
        text = (
            f"a name that was looked up too early is still missing {_time(worst)} later"
        )
        remedy = "opening its directory does not help: messages could seem lost"
        return Finding("early look-up", BAD, text, remedy, figures)
    text = (
        f"a name that was looked up too early is found after {_time(early.open_seconds)} "
        f"(open) and {_time(early.rename_seconds)} (rename)"
    )
    if worst > 1:
        text += ", at the latest when its directory is opened, as ddmq does"
    return Finding("early look-up", OK, text, figures=figures)


_RACES = {
    "rename": "rename to a target of one's own",
    "mkdir": "mkdir",
    "create": "create with O_EXCL",
    "symlink": "symlink that names its maker",
}


def of_race(kind: str, race: Race) -> Finding:
    """Say whether each name had one winner."""
    name, figures = f"race: {kind}", race._asdict()
    text = f"{_RACES[kind]}: of {race.names} names the clients won {race.ours} and {race.theirs}"
    broken = [
        f"{number} were won by {whom}"
        for number, whom in ((race.twice, "both"), (race.nobody, "nobody"))
        if number
    ] + ([f"{race.missing} were won, and are not there"] if race.missing else [])
    if broken:
        level, remedy = _verdict(kind, race)
        return Finding(name, level, f"{text}; {', '.join(broken)}", remedy, figures)
    if min(race.ours, race.theirs) * 100 < race.names * _HARDLY:
        text += ", each by one; but the two hardly met, so this says little"
        return Finding(name, NOTE, text, "run it again", figures)
    return Finding(name, OK, f"{text}, each by one", figures=figures)


def _verdict(kind: str, race: Race) -> tuple[str, str]:
    """Return level and remedy where a name had not exactly one winner."""
    if kind == "symlink":
        remedy = (
            "chains of jobs may end early, or go on twice; no message depends on it"
        )
        return NOTE, remedy
    if kind in ("mkdir", "create") and not race.twice and race.nobody < race.names / 2:
        return NOTE, "nothing of ddmq's is elected so; no message depends on it"
    return BAD, "two consumers could get one message, or none: ddmq can't work here"


def of_locks(locked: Locked, nodes: int) -> Finding:
    """Say whether a lock of one client keeps the other out."""
    figures = locked._asdict()
    remedy = "let one node at a time create, delete, purge and config"
    if locked.while_held == "none":
        text = "files can't be locked here; messages need no locks"
        return Finding("locks", NOTE, text, remedy, figures)
    if locked.while_held == "in":
        text = "a lock keeps nobody out (flock); messages need no locks"
        remedy += "; NFS: without nolock, local_lock=none; Lustre: flock; BeeGFS: "
        remedy += "tuneUseGlobalFileLocks"
        return Finding("locks", NOTE, text, remedy, figures)
    if locked.afterwards != "in":
        text = "a lock that was given up stays locked; messages need no locks"
        return Finding(
            "locks", NOTE, text, "see the lock daemon of the server", figures
        )
    whom = "another node" if nodes > 1 else "another process"
    return Finding("locks", OK, f"a lock keeps {whom} out (flock)", figures=figures)


def of_storm(account: Account) -> Finding:
    """Say what became of the messages."""
    figures = account._asdict()
    text = (
        f"{account.published} messages published alone and in bundles, consumed and "
        f"acked while {account.kills} processes were killed: {account.lost} lost, "
        f"{account.acked_twice} acked twice, {account.again} consumed again, since their "
        "consumer was killed"
    )
    broken = [
        f"{number} {what}"
        for number, what in (
            (account.consumed_twice, "leased to two at once"),
            (account.foreign, "acked and never published"),
            (account.left, "still in the queue"),
        )
        if number
    ] + [f"errors: {error}" for error in account.errors]
    if broken or account.lost or account.acked_twice or not account.published:
        text = "; ".join((text, *broken))
        return Finding("messages", BAD, text, "ddmq can't work here", figures)
    return Finding("messages", OK, text, figures=figures)


def of_failure(what: str, error: Exception) -> Finding:
    """Say that a probe could not be done."""
    if isinstance(error, OSError):
        error = StorageError(error)  # whose text says what to do
    remedy = "what comes after it was not tried"
    return Finding(what, BAD, " ".join(str(error).split()), remedy)


class Report(NamedTuple):
    """All that was found out."""

    directories: Sequence[str]
    clients: Sequence[str]
    """Where they ran."""
    findings: Sequence[Finding]
    scope: str = ""
    """For whom the verdict holds."""
    hint: str = ""
    """How to try more than was tried."""

    @property
    def is_safe(self) -> bool:
        """Whether no promise was broken."""
        return all(finding.level != BAD for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "safe": self.is_safe,
            "verdict": self.verdict(),
            "directories": list(self.directories),
            "clients": list(self.clients),
            "findings": [finding.as_dict() for finding in self.findings],
        }

    def verdict(self) -> str:
        """Say it in plain words."""
        where = " and ".join(self.directories)
        keep = "keep" if len(self.directories) > 1 else "keeps"
        broken = [f.name for f in self.findings if f.level == BAD]
        if broken:
            return f"NOT SAFE: don't put queues into {where} ({', '.join(broken)})"
        notes = sum(bool(f.level == NOTE and f.remedy) for f in self.findings)
        but = (
            f"; see the {notes} notes"
            if notes > 1
            else "; see the note"
            if notes
            else ""
        )
        return f"SAFE: {where} {keep} what ddmq needs, {self.scope}{but}"

    def __str__(self) -> str:
        """Show it to people."""
        lines = [f"clients: {' and '.join(self.clients)}", *table(self.findings)]
        return "\n".join([*lines, "", *filter(None, (self.hint,)), self.verdict()])
