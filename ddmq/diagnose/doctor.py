"""`ddmq doctor`: what is wrong with queues; looks without disturbing, and mends when asked."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq.broker import Broker
from ddmq.diagnose.check import space
from ddmq.diagnose.check.report import of_space
from ddmq.diagnose.finding import BAD, MENDED, table, wrong
from ddmq.diagnose.patient import LenientFileSystem, Patient
from ddmq.diagnose.symptoms import access, contents, times
from ddmq.errors import DdmqError, QueueNotFound, StorageError, UnknownLayout
from ddmq.settings import Settings, layered
from ddmq.storage.filesystem import FileSystem
from ddmq.storage.layout import is_queue
from ddmq.storage.names import check_queue_name, hidden_name
from ddmq.storage.settings_file import SettingsFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ddmq.diagnose.finding import Finding


class Diagnosis(NamedTuple):
    """What is to be said of queues, and of their root."""

    findings: Sequence[Finding]
    mendable: int
    """How many of them `--fix` would mend."""

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong, or not any more."""
        return all(finding.level != BAD for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        findings = [finding.as_dict() for finding in self.findings]
        return {"well": self.is_well, "mendable": self.mendable, "findings": findings}

    def __str__(self) -> str:
        """Show it to people."""
        return "\n".join([*table(self.findings), self.verdict()])

    def verdict(self) -> str:
        """Say it in plain words."""
        bad = sum(finding.level == BAD for finding in self.findings)
        if not bad and any(each.name.endswith("rights") for each in self.findings):
            return "nothing wrong is seen, as far as we may look"
        if not bad and any(each.name.endswith(": paused") for each in self.findings):
            return "all is well, but workers take nothing from what is paused"
        if not bad and any(each.name.endswith("not renewed") for each in self.findings):
            return "all is well, but for what nobody renews"
        if not bad:
            return "all is well"
        fix = f"; `--fix` mends {self.mendable} of them" if self.mendable else ""
        return f"{bad} found{fix}"


def diagnose(
    root: str,
    queues: Iterable[str] | None,
    *,
    fix: bool,
    purged_after: float | None = None,
) -> Diagnosis:
    """Look at a root and its queues, all by default; with `fix`, mend what can be mended.

    Mending is what the housekeeping and `ddmq create` do anyway, and never destroys a
    message. Where the file system removes files of an age, `purged_after` is that age in
    seconds: files near it are told. Raises RootNotFound, and QueueNotFound where a queue is named.
    """
    broker = Broker(root, clean=False)
    queues = None if queues is None else list(queues)
    for name in queues or ():
        check_queue_name(name)
    names = broker.queues() if queues is None else queues
    found = left = _look_at_root(broker.root)
    if fix:
        move_away(found, FileSystem(root=broker.root))
        left = _look_at_root(broker.root)
    findings = compared("root", found, left)
    mendable = sum(bool(finding.fix) for finding in left)
    room = of_space(space.free(broker.root), "")
    if room.remedy:
        findings.append(room._replace(name="root: space"))
    for name in names:
        try:
            found, left = _seen_to(broker, name, purged_after, fix=fix)
        except QueueNotFound:
            if queues is not None:
                raise
            continue  # somebody has deleted it since it was listed
        findings += compared(name, found, left)
        mendable += sum(bool(finding.fix) for finding in left)
    return Diagnosis(findings, 0 if fix else mendable)


def _seen_to(
    broker: Broker, name: str, purged_after: float | None, *, fix: bool
) -> tuple[list[Finding], list[Finding]]:
    """Return what is wrong with a queue, and what still is after it was mended.

    QueueNotFound: it is not there, or was deleted meanwhile, and what was seen says nothing.
    """
    found = left = _look_at_queue(broker, name, purged_after)
    if fix:
        try:
            _mend(broker, name, found)
        except (OSError, StorageError) as error:
            _require_queue(broker, name)
            if isinstance(error, OSError):
                raise StorageError(error) from error
            raise
        left = _look_at_queue(broker, name, purged_after)
    _require_queue(broker, name)
    return found, left


def _require_queue(broker: Broker, name: str) -> None:
    """Raise QueueNotFound unless there is such a queue, however broken."""
    if not is_queue(broker.root, name, FileSystem(root=broker.root)):
        broker.settings(name)  # raises what says so, unless somebody makes it just now


def _look_at_root(root: str) -> list[Finding]:
    return [*access.writers(root), *access.lock(f"{root}/lock")]


def _look_at_queue(
    broker: Broker, name: str, purged_after: float | None = None
) -> list[Finding]:
    """Return what is wrong with a queue, or what keeps us from looking at it."""
    path, fs = f"{broker.root}/{name}", LenientFileSystem(root=broker.root)
    _require_queue(broker, name)
    try:
        files = SettingsFile(broker.root, fs), SettingsFile(path, fs, of_queue=True)
        settings = layered(*(file.read() for file in files))
        return list(symptoms(Patient.at(path, fs, settings), purged_after))
    except UnknownLayout as error:
        remedy = "nothing here is for this ddmq to mend"
        return [wrong("layout", str(error), remedy)]
    except (DdmqError, OSError) as error:
        trouble = StorageError(error) if isinstance(error, OSError) else error
        return [wrong("settings", " ".join(str(trouble).split()), "mend it first")]


def symptoms(patient: Patient, purged_after: float | None = None) -> Iterator[Finding]:
    """Look at a queue without disturbing it; yield all that is to be said."""
    yield from access.rights(patient.path)
    yield from access.directories(patient)
    yield from access.writers(patient.path)
    yield from access.owners_and_modes(patient)
    yield from times.clock(patient)
    yield from access.lock(patient.lock)
    yield from contents.paused(patient)
    yield from contents.put_aside(patient)
    yield from times.expired(patient)
    yield from contents.lost_bundles(patient)
    yield from contents.false_claims(patient)
    yield from times.ends_too_late(patient)
    yield from times.unrenewed(patient)
    yield from times.soon_over(patient)
    yield from times.due(patient)
    yield from times.stamped_ahead(patient)
    yield from times.follow_ups(patient)
    yield from contents.garbage(patient)
    yield from contents.odd_dead_letters(patient)
    yield from contents.leftovers(patient)
    yield from contents.empty_buckets(patient)
    yield from contents.undropped(patient)
    if purged_after is not None:
        yield from times.near_removal(patient, purged_after)


def compared(
    name: str, found: Iterable[Finding], left: Sequence[Finding]
) -> list[Finding]:
    """Tell, of a queue or the root, what was mended and what is still there."""
    still = {finding.name for finding in left}
    mended = [each for each in found if each.fix and each.name not in still]
    told = [each._replace(level=MENDED, remedy="") for each in mended]
    for each in left:
        remedy = f"`--fix` {each.remedy}" if each.fix else each.remedy
        told.append(each._replace(remedy=remedy))
    return [
        each._replace(
            name=f"{name}: {each.name}",
            figures={**each.figures, "paths": list(each.paths)},
        )
        for each in told
    ]


def _mend(broker: Broker, name: str, found: Sequence[Finding]) -> None:
    """Mend what can be mended of what was found."""
    fs = FileSystem(root=broker.root)
    moved = move_away(found, fs)
    if moved or any(finding.fix == "create" for finding in found):
        # What was deleted lacks all, and is not to come back.
        _require_queue(broker, name)
        broker.create_queue(name)
        found = _look_at_queue(broker, name)  # what was hidden behind that
    patient = Patient.at(f"{broker.root}/{name}", fs, Settings())
    for finding in found:
        for path in finding.paths:
            if finding.fix == "quarantine":
                patient.quarantine(path)
            elif finding.fix == "modes":
                with suppress(OSError):  # then it is found again, and told
                    patient.set_mode(path)
    if any(finding.fix == "clean" for finding in found):
        broker.clean(name)


def move_away(found: Iterable[Finding], fs: FileSystem) -> bool:
    """Give what stands in the place of something else a hidden name; tell whether any did.

    A directory may hold messages that only others can read: nothing is removed.
    """
    moved = False
    for finding in found:
        for path in finding.paths if finding.fix == "away" else ():
            directory, name = os.path.split(path)
            with suppress(OSError):  # then it is found again, and told
                moved |= fs.rename(path, f"{directory}/{hidden_name(name)}")
    return moved
