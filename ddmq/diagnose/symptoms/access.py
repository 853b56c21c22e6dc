"""Who can use a queue: its directories, owners and modes, and its lock."""

from __future__ import annotations

import os
import stat
from itertools import chain
from typing import TYPE_CHECKING

from ddmq.diagnose.finding import NOTE, Finding, listed, wrong
from ddmq.diagnose.patient import PRIORITY
from ddmq.errors import LockTimeout
from ddmq.printable import quoted
from ddmq.storage.filesystem import FORBIDDEN, is_shared
from ddmq.storage.layout import DIRECTORIES
from ddmq.storage.locks import exclusive
from ddmq.storage.names import CANCELLED, parse_priority

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ddmq.diagnose.patient import Patient

#: Seconds for which a lock is tried.
_LOCK_SECONDS = 2.0
#: Files whose owners and modes are looked at, in each directory.
_SAMPLE = 100
#: What `--fix` does with what stands in the place of a directory or a lock.
_AWAY = "gives it a hidden name beside, and makes a new one"
#: What people do about what was published with keys, which no other directory can tell.
_KEYS_AWAY = (
    "let its owner open it; if it is moved away, what was published with a key is published "
    "once more by whoever repeats that"
)


def directories(patient: Patient) -> Iterator[Finding]:
    """Look for directories that are missing, for what stands in their place, or is closed."""
    required = [f"{patient.path}/{name}" for name in DIRECTORIES]
    in_ready = [
        f"{patient.ready}/{name}"
        for name in patient.names(patient.ready)
        if parse_priority(name) is not None or name == CANCELLED
    ]
    missing, replaced, closed = [], [], []
    for path in [*required, *patient.needed_later, *in_ready]:
        found = patient.status(path)
        if found is None:
            if path in required:  # whoever needs them makes the others
                missing.append(path)
        elif not found.is_directory:
            replaced.append(path)
        elif _is_kept_from_us(path):
            closed.append(path)
    if missing:
        text = f"{listed(missing)}: missing"
        yield wrong("missing", text, "makes them", fix="create", paths=missing)
    if replaced:
        text = f"{listed(replaced)}: no directory"
        yield wrong("links", text, _AWAY, fix="away", paths=replaced)
    if patient.keys in closed:
        closed.remove(patient.keys)
        text = f"{patient.keys}: somebody keeps it to himself"
        yield wrong("keys", text, _KEYS_AWAY, paths=[patient.keys])
    if closed:
        text = f"{listed(closed)}: somebody keeps it to himself"
        yield wrong("closed", text, _AWAY, fix="away", paths=closed)


def _is_kept_from_us(path: str) -> bool:
    """Tell whether only others may use a directory where we may put another one."""
    found = _lstat(path)
    if found is None or found.st_uid == os.geteuid():
        return False
    here = os.access(path, os.R_OK | os.W_OK | os.X_OK)
    return not here and os.access(os.path.dirname(path), os.W_OK | os.X_OK)


def rights(path: str) -> Iterator[Finding]:
    """Say so where we may only look, so that what was found is not all that there may be."""
    if not os.access(path, os.W_OK | os.X_OK):
        text = (
            f"we may not write to {path}: what takes that was not tried (the file server's clock, "
            "the lock), and `--fix` mends nothing; let its owner run the doctor"
        )
        yield Finding("rights", NOTE, text, paths=(path,))


def writers(path: str) -> Iterator[Finding]:
    """Say who besides its owner may write to the directory of a queue or a root."""
    found = os.lstat(path)
    if found.st_mode & stat.S_IWOTH:
        text = f"everybody may write to {path}, so everybody can take, change and remove messages"
        remedy = f"chmod o-w {quoted(path)}, unless all are to be trusted"
        yield wrong("writers", text, remedy)
    elif found.st_mode & stat.S_IWGRP:
        import grp  # slow where groups come from a directory service

        try:
            group = grp.getgrgid(found.st_gid).gr_name
        except KeyError:
            group = str(found.st_gid)
        text = f"the group {group} may write to {path}: its members are trusted"
        yield Finding("writers", NOTE, text, paths=(path,))


def owners_and_modes(patient: Patient) -> Iterator[Finding]:
    """Look for files that the queue's owner can't read, or that those who share it can't use."""
    queue = os.lstat(patient.path)
    mode, shared = stat.S_IMODE(queue.st_mode), is_shared(queue.st_mode)
    foreign, unusable = [], []
    for path, found in _sampled(patient):
        is_for_group = shared and found.st_gid == queue.st_gid
        is_readable = found.st_mode & stat.S_IROTH or is_for_group
        if found.st_uid != queue.st_uid and not is_readable:
            foreign.append(path)
        if not is_usable(found.st_mode, mode):
            unusable.append(path)
    if foreign:
        import pwd  # slow where users come from a directory service

        try:
            user = pwd.getpwuid(queue.st_uid).pw_name
        except KeyError:
            user = str(queue.st_uid)
        text = f"{listed(foreign)}: not of {user}, who can't read it"
        remedy = "chown it to the owner of the queue"
        yield wrong("owners", text, remedy, paths=foreign)
    if unusable:
        text = f"{listed(unusable)}: the mode is not that of the queue, {mode:o}"
        remedy = "sets it, where the file is ours and has no other name"
        yield wrong("modes", text, remedy, fix="modes", paths=unusable)


def is_usable(found: int, queue: int) -> bool:
    """Tell whether a mode lets all use a file or directory who may use a queue of that mode."""
    if stat.S_ISDIR(found) and found & stat.S_IRWXU != stat.S_IRWXU:
        return False
    if not is_shared(queue):
        return True
    if stat.S_ISDIR(found):
        return stat.S_IMODE(found) == queue
    return found & queue & 0o660 == queue & 0o660


def _sampled(patient: Patient) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the directories of a queue and some files of each."""
    tops = patient.tmp, patient.ready, patient.work, patient.delayed, patient.dead
    directories = [(path, patient.names(path)) for path in (*tops, patient.drop)]
    # No message depends on the modes of what is in these.
    directories += [(path, []) for path in patient.needed_later]
    below = patient.ready_directories()
    for path, names in chain(
        directories,
        # The names of the priorities are those in `ready/`.
        ((each.path, each.names) for each in below if each.kind != PRIORITY),
    ):
        for each in (path, *(f"{path}/{name}" for name in names[:_SAMPLE])):
            found = _lstat(each)
            if found is not None and not stat.S_ISLNK(found.st_mode):
                yield each, found


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:  # it has moved on, or we may not look
        return None


def lock(path: str) -> Iterator[Finding]:
    """Look whether we can have the lock of a queue or a root within a moment."""
    try:
        with exclusive(path, _LOCK_SECONDS):
            return
    except LockTimeout as error:
        yield wrong("lock", str(error), "messages need no lock; administration does")
    except OSError as error:
        if error.errno in FORBIDDEN and not _is_kept_from_us(path):
            text = (
                f"{path}: we may not lock it ({error.strerror}), and so not administer"
            )
            yield Finding("lock", NOTE, text, paths=(path,))
        else:
            text = f"{path}: no lock of ours ({error.strerror})"
            yield wrong("lock", text, _AWAY, fix="away", paths=[path])
