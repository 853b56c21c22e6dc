"""`ddmq doctor`: what is wrong with queues; looks without disturbing, and mends when asked."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq import admin
from ddmq.broker import Broker
from ddmq.check import space
from ddmq.check.report import BAD, Finding, of_space, table
from ddmq.clock import Clock
from ddmq.config import SettingsFile
from ddmq.errors import DdmqError, StorageError
from ddmq.fs import FileSystem
from ddmq.names import new_token
from ddmq.settings import layered
from ddmq.store import Store
from ddmq.symptoms import (
    Patient,
    Symptom,
    explained,
    lock_at,
    mended_mode,
    symptoms,
    writers_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MENDED = "mended"


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
        findings = [{**f._asdict(), "figures": dict(f.figures)} for f in self.findings]
        return {"well": self.is_well, "mendable": self.mendable, "findings": findings}

    def __str__(self) -> str:
        """Show it to people."""
        return "\n".join([*table(self.findings), self.verdict()])

    def verdict(self) -> str:
        """Say it in plain words."""
        bad = sum(finding.level == BAD for finding in self.findings)
        if not bad:
            return "all is well"
        fix = f"; `--fix` mends {self.mendable} of them" if self.mendable else ""
        return f"{bad} found{fix}"


def diagnose(root: str, queues: Iterable[str] | None, *, fix: bool) -> Diagnosis:
    """Look at a root and its queues, all by default; with `fix`, mend what can be mended.

    Mending is what the housekeeping and `ddmq create` do anyway, and never destroys a
    message. Raises RootNotFound, and QueueNotFound where a queue is named.
    """
    broker = Broker(root, clean=False)
    names = broker.queues() if queues is None else list(queues)
    before = list(_of_root(broker.root))
    if fix:
        _move_away(before, FileSystem(root=broker.root))
        findings = _compared("root", before, list(_of_root(broker.root)))
    else:
        findings = [_finding("root", symptom, fixed=False) for symptom in before]
    mendable = 0 if fix else sum(bool(symptom.fix) for symptom in before)
    findings += _space_of(broker.root)
    for name in names:
        before = _examined(broker, name)
        if fix:
            _mend_if_possible(broker, name, before)
            after = _examined(broker, name)
            findings += _compared(name, before, after)
        else:
            findings += [_finding(name, symptom, fixed=False) for symptom in before]
            mendable += sum(bool(symptom.fix) for symptom in before)
    return Diagnosis(findings, mendable)


def _of_root(root: str) -> Iterator[Symptom]:
    yield from writers_of(root)
    yield from lock_at(f"{root}/lock")


def _space_of(root: str) -> Iterator[Finding]:
    found = of_space(space.free(root), "")
    if found.remedy:
        yield found._replace(name="root: space")


def _examined(broker: Broker, name: str) -> list[Symptom]:
    """Look at one queue."""
    path, fs = f"{broker.root}/{name}", FileSystem(root=broker.root)
    if not admin.is_queue(broker.root, name, fs):
        raise admin.queue_not_found(broker.root, name)
    try:
        files = SettingsFile(broker.root, fs), SettingsFile(path, fs, of_queue=True)
        settings = layered(*(file.read() for file in files))
        store = Store(path, fs, Clock())
        return list(symptoms(Patient(store, settings)))
    except DdmqError as error:
        return [explained(error)]
    except OSError as error:
        return [explained(StorageError(error))]


def _finding(queue: str, symptom: Symptom, *, fixed: bool) -> Finding:
    remedy = symptom.remedy
    if symptom.fix:
        remedy = "" if fixed else f"`--fix` {remedy}"
    level = MENDED if fixed else symptom.level
    figures = {**symptom.figures, "paths": list(symptom.paths)}
    return Finding(f"{queue}: {symptom.name}", level, symptom.text, remedy, figures)


def _compared(
    name: str, before: Iterable[Symptom], after: Sequence[Symptom]
) -> list[Finding]:
    """Tell what was mended from what is still there."""
    left = {symptom.name for symptom in after}
    mended = [s for s in before if s.fix and s.name not in left]
    return [
        *(_finding(name, symptom, fixed=True) for symptom in mended),
        *(_finding(name, symptom, fixed=False) for symptom in after),
    ]


def _mend_if_possible(broker: Broker, name: str, found: Sequence[Symptom]) -> None:
    try:
        _mend(broker, name, found)
    except OSError as error:
        raise StorageError(error) from error


def _mend(broker: Broker, name: str, found: Sequence[Symptom]) -> None:
    fixes = {symptom.fix for symptom in found}
    store = Store(f"{broker.root}/{name}", FileSystem(root=broker.root), Clock())
    if _move_away(found, store.fs) or "create" in fixes:
        broker.create_queue(name)
        found = _examined(broker, name)  # what was hidden behind that
        fixes = {symptom.fix for symptom in found}
    for symptom in found:
        for path in symptom.paths:
            if symptom.fix == "modes":
                _set_mode(path, store)
            elif symptom.fix == "aside":
                store.letters.set_aside(path)
    if "clean" in fixes:
        broker.clean(name)


def _move_away(found: Iterable[Symptom], fs: FileSystem) -> bool:
    """Give what stands in the place of something else a hidden name; tell whether any did.

    A directory may hold messages that only others can read: nothing is removed.
    """
    moved = False
    for path in (path for s in found if s.fix == "away" for path in s.paths):
        directory, name = os.path.split(path)
        with suppress(OSError):  # then the symptom stays, and is told
            moved |= fs.rename(path, f"{directory}/.{name}-{new_token()}")
    return moved


def _set_mode(path: str, store: Store) -> None:
    """Set the mode that a queue of a mode asks for, where the file is ours.

    One that has another name too may be anything of ours: somebody linked it here.
    """
    with suppress(OSError):  # then the symptom stays, and is told
        queue = store.fs.directories.opened(store.path).status().st_mode
        descriptor = store.fs.directories.open(path, os.O_PATH | os.O_NOFOLLOW)
        try:
            found = os.fstat(descriptor)
            if stat.S_ISDIR(found.st_mode) or found.st_nlink == 1:
                mode = mended_mode(found.st_mode, stat.S_IMODE(queue))
                os.chmod(f"/proc/self/fd/{descriptor}", mode)
        finally:
            os.close(descriptor)
