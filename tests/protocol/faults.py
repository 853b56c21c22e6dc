"""System calls that fail in every way that a file system knows, one at a time."""

from __future__ import annotations

import errno
import itertools
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from protocol.scenes import QUEUE, SCENES, Play, Scene, plays, text
from support import (
    Calls,
    counting,
    failing,
    failing_from,
    losing_reply,
    writing_short,
)

from ddmq import DdmqError, StorageError
from ddmq.storage.keys import key_of_draft

if TYPE_CHECKING:
    from collections.abc import Callable

#: The calls that change names: they can be done though the reply says something else.
_CHANGING = ("open", "rename", "symlink", "unlink", "mknod", "mkdir", "rmdir")
#: The calls for which the kernel needs another descriptor.
_OPENING = ("open", "listdir")
#: An administrator set these up, or they are no messages: they may wait for the next one.
_NO_MESSAGES = ("bad", "stray")
_FORBIDDING = ("EACCES", "EROFS", "EROFS-that-lasts")
#: Seconds after which a client looks again at what it was not allowed to read.
_LATER = 31


class Fault(NamedTuple):
    """One way in which a system call fails."""

    name: str
    make: Callable[[int], Calls]
    """Return system calls of which the n-th that can fail so does."""
    among: tuple[str, ...] = ()
    """The calls that can fail so; all of them when there are none here."""

    lasts: bool = False
    """Whether later calls fail, too. Then nobody can tidy up before the verb is tried again."""

    def __str__(self) -> str:
        return self.name

    def candidates(self, calls: Calls) -> int:
        """Count the calls made that could have failed so."""
        return len(self._made(calls))

    def hit(self, calls: Calls, n: int) -> str:
        """Return which call it was that failed; empty when there were fewer."""
        return "".join(self._made(calls)[n : n + 1])

    def _made(self, calls: Calls) -> list[str]:
        return [name for name in calls.made if not self.among or name in self.among]


def _refusing(name: str) -> Fault:
    code = getattr(errno, name)
    return Fault(name, lambda n: failing(n, code))


def _lying(name: str) -> Fault:
    code = getattr(errno, name)
    make = partial(losing_reply, names=_CHANGING, code=code)
    return Fault(f"{name}-though-done", make, _CHANGING)


def _going_away(more: int) -> Fault:
    """The server does a last thing, does not say so, and answers nothing for some calls."""
    make = partial(losing_reply, names=_CHANGING, code=errno.EIO, more=more)
    return Fault(f"EIO-though-done-and-{more}-more", make, _CHANGING, lasts=True)


def _lasting(name: str) -> Fault:
    code = getattr(errno, name)
    among = {"EIO": (), "EMFILE": _OPENING, "ENFILE": _OPENING}.get(name, _CHANGING)
    make = partial(failing_from, code=code, among=among)
    return Fault(f"{name}-that-lasts", make, among, lasts=True)


def _no_descriptor(name: str, times: int) -> Fault:
    code = getattr(errno, name)
    make = partial(failing_from, code=code, among=_OPENING, times=times)
    return Fault(f"{name}-{times}-times", make, _OPENING)


#: Too many files are open: in this process, or on this node. A first time is no reason to fail.
NO_DESCRIPTOR = [
    _no_descriptor("EMFILE", 1),
    _no_descriptor("ENFILE", 2),
    *map(_lasting, ("EMFILE", "ENFILE")),
]
FAULTS = [
    *map(_refusing, ("EIO", "ENOSPC", "EDQUOT", "ESTALE", "EACCES", "EROFS", "EINTR")),
    Fault("ESTALE-twice", partial(failing, code=errno.ESTALE, twice=True)),
    *map(_lying, ("ENOENT", "ESTALE", "EIO")),
    *map(_going_away, (1, 2, 4)),
    *map(_lasting, ("EIO", "ENOSPC", "EROFS")),
    Fault("short-write", writing_short, ("write",)),
    Fault(
        "short-write-then-ENOSPC", lambda n: writing_short(n, errno.ENOSPC), ("write",)
    ),
    *NO_DESCRIPTOR,
]


class Case(NamedTuple):
    """One scene and one fault."""

    scene: Scene
    fault: Fault
    warm: bool

    def __str__(self) -> str:
        return f"{self.scene}-{'warm' if self.warm else 'cold'}-{self.fault}"


def cases(*faults: Fault) -> list[Case]:
    """Return every scene, cold and warm, with these faults, by default with all."""
    found = itertools.product(SCENES, (False, True), faults or FAULTS)
    return [Case(scene, fault, warm) for scene, warm, fault in found]


def inject(case: Case, directory: Path) -> int:
    """Let each call of a scene fail in turn, and judge; return how many faults that were."""
    for n, play in plays(case.scene, directory, warm=case.warm):
        calls = case.fault.make(n)
        _judge(play, case.fault, calls, n)
        if case.fault.candidates(calls) <= n:
            return n
    raise AssertionError


def _judge(play: Play, fault: Fault, calls: Calls, n: int) -> None:
    before = _unfinished(play)
    told = tries(play, calls, fault)
    if not fault.lasts:
        _assert_nothing_unfinished_is_left(play, before, fault.hit(calls, n))
    if _could_not_be_read(play, fault):
        _assert_all_is_there(play)
        return
    if not _is_done(play):
        assert play.scene.retries or not told
        play.world.clock.advance(_LATER)
        told = play.scene.says(play.act(counting())) or told
        assert _is_done(play)
    assert told or _is_done(play)


def _is_done(play: Play) -> bool:
    """Whether each message is where the verb brings it, or where an error may leave it."""
    ends = messages(play.ends())
    found = messages(play.states())
    for name in play.scene.may_stay:
        if found[name] == "work":
            ends[name] = "work"
    return found == ends


def _unfinished(play: Play) -> set[str]:
    tmp = f"{play.world.path}/tmp"
    others = os.listdir(tmp) if os.path.isdir(tmp) else []
    return {*others, *play.world.vain_ranges()}


def _assert_nothing_unfinished_is_left(
    play: Play, before: set[str], failed: str
) -> None:
    """Unless it was its removal that failed, or a claim or key that may have been made needs it.

    A range that somebody took over, and could not see to, is taken over once more when its lease
    is over. What is left of a bundle that was removed goes with the next cleaning.
    """
    left = _unfinished(play) - before
    keys = f"{play.world.path}/keys"
    made = os.listdir(keys) if os.path.isdir(keys) else []
    named = {os.readlink(f"{keys}/{name}")[:61] for name in made}
    left -= named
    if failed in ("symlink", "readlink", "open", "rename"):
        left = {path for path in left if key_of_draft(path) is None}
    if failed in ("rename", "symlink", "readlink", "open", "lstat", "listdir"):
        left = {path for path in left if not path.endswith(".range")}
    if failed in ("open", "listdir"):
        tmp = f"{play.world.path}/tmp"
        left = {path for path in left if not os.path.isdir(f"{tmp}/{path}")}
    if failed == "rename":
        left -= _finished_bundles(play)
    assert not left or failed in ("unlink", "rmdir")


def _finished_bundles(play: Play) -> set[str]:
    """Return the names of those in `tmp/`, where they are removed."""
    found = Path(play.world.path, "tmp").glob("*/*.done")
    return {path.parent.name for path in found}


def _could_not_be_read(play: Play, fault: Fault) -> bool:
    """Whether a message is where no verb brings it to, but one that nobody may read."""
    states = play.states()
    strays = {s for name, s in states.items() if s not in play.scene.path[name].split()}
    assert strays <= ({"ready", "dead"} if fault.name in _FORBIDDING else set())
    return bool(strays)


def _assert_all_is_there(play: Play) -> None:
    """What could not be read is a dead letter, or waits again, and can be consumed."""
    kept = [name for name, state in messages(play.states()).items() if state != "gone"]
    rescuer = play.world.rescue(play.scene.mode)
    rescuer.redrive(QUEUE)
    consumed = {message.message for message in rescuer.consume(QUEUE, 100)}
    assert {text(name) for name in kept} <= consumed


def tries(play: Play, calls: Calls, fault: Fault | None = None) -> bool:
    """Play the verb; whether it claims success, which only an error may spare it."""
    try:
        result = play.act(calls)
    except DdmqError as error:
        _assert_it_names_a_path(error, play.world.root)
        if fault in NO_DESCRIPTOR:
            _assert_it_says_why(error, fault)
        return False
    told = play.scene.says(result)
    assert told or play.scene.retries
    return told


def _assert_it_says_why(error: DdmqError, fault: Fault | None) -> None:
    """No descriptor was left, not even after the client had closed all that it holds."""
    assert isinstance(error, StorageError)
    assert "has too many files open" in str(error)
    assert fault is not NO_DESCRIPTOR[0]


def _assert_it_names_a_path(error: DdmqError, root: str) -> None:
    named = error.path if isinstance(error, StorageError) else str(error)
    assert root in named


def messages(states: dict[str, str]) -> dict[str, str]:
    """Leave out what is no message: it may wait for whoever finds it next."""
    return {n: state for n, state in states.items() if n not in _NO_MESSAGES}
