"""The probes: what one client does, what the other answers, and what both have seen."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq.storage.locks import NO_LOCKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ddmq.diagnose.check.channel import Bench, Channel

#: Names in each race, and how many are tried before both wait for each other.
NAMES, _STRIDE = 400, 5
#: Seconds for one name: at least; and in such calls as we have timed, since losing takes longer.
_NAME_SECONDS, _NAME_CALLS = 0.001, 3
#: Round trips at most, at least, and seconds after which there are enough.
_ROUNDS, _ROUNDS_LEAST, _ROUNDS_SECONDS = 20, 3, 5.0
#: Names that are listed and then renamed.
LISTED = 200
#: Seconds for which a name that was looked up too early is tried.
_EARLY_SECONDS = 3.0
_SYNCS = 5
#: How exact stamps are: one tick of the kernel's timer, in seconds.
TICK = 0.02


# What both can do alone


class Synced(NamedTuple):
    """What fsync takes, in seconds, and what it says to a directory; empty: done."""

    seconds: float
    directory: str


def sync(bench: Bench) -> Synced:
    """Put a file and its directory on stable storage."""
    fs, path, took = bench.fs, bench.directory(f"sync-{bench.side}"), []
    for number in range(_SYNCS):
        start = bench.clock.monotonic()
        fs.create(f"{path}/{number}", b"x" * 1024, sync=True)
        took.append(bench.clock.monotonic() - start)
    calls, refusal = fs.calls, ""  # `FileSystem` would put up with a refusal
    descriptor = calls.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        calls.fsync(descriptor)
    except OSError as error:
        refusal = str(error.strerror)
    finally:
        calls.close(descriptor)
    return Synced(sorted(took)[_SYNCS // 2], refusal)


def offset(bench: Bench) -> float:
    """Learn the file server's clock; return by how many seconds it is ahead of ours."""
    fs, path = bench.fs, f"{bench.directory('tmp')}/clock-{bench.side}"
    bench.clock.compare(lambda: fs.birth_ns(path))
    return bench.clock.offset_ns / 1e9


# Who sees what, when; and whose clock stamps files


class Seen(NamedTuple):
    """How the two saw each other's renames in listings taken afresh."""

    seconds: Sequence[float]
    """Half of each round trip."""
    lost: str
    """The name that was not shown in time; empty: all were."""
    skew: float
    """By how many seconds the stamps of the other's files are ahead of ours."""
    unsure: float
    """By how much that may be wrong."""


def ping(bench: Bench, channel: Channel) -> Seen:
    """Rename files into one directory, and wait for those that the other renames in reply."""
    channel.send({"do": "pong"})
    clock, there, back = bench.clock, bench.directory("ping"), bench.directory("pong")
    names: list[str] = []
    took: list[float] = []
    began, lost = clock.monotonic(), ""
    while len(names) < _ROUNDS and not lost:
        if len(names) >= _ROUNDS_LEAST and clock.monotonic() - began >= _ROUNDS_SECONDS:
            break
        name, before = f"{len(names):03d}", clock.monotonic()
        bench.put(f"{there}/{name}")
        if bench.until(partial(bench.shows, back, name)):
            took.append((clock.monotonic() - before) / 2)
            names.append(name)
        else:
            lost = name
    bench.put(f"{there}/end")
    channel.answer()
    ours = [_stamp(bench, f"{there}/{name}") for name in names]
    theirs = [_stamp(bench, f"{back}/{name}") for name in names]
    ahead, unsure = skew(ours, theirs)
    return Seen(took, lost, skew=ahead, unsure=unsure)


def pong(bench: Bench) -> None:
    """Answer each file of the other with one of the same name."""
    there, back = bench.directory("ping"), bench.directory("pong")
    shown: set[str] = set()

    def has_come() -> bool:
        new = set(bench.names(there)) - shown
        for name in sorted(new - {"end"}):
            bench.put(f"{back}/{name}")
            shown.add(name)
        return "end" in new

    bench.until(has_come, 2 * bench.patience + _ROUNDS_SECONDS)


def _stamp(bench: Bench, path: str) -> float:
    fs = bench.fs
    found = fs.status_when_opened(path)
    return found.modified_ns / 1e9 if found is not None else float("nan")


def skew(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Compare stamps of files that were made in turn, ours first.

    If one clock stamped them, each of theirs lies between two of ours. Take the two that are
    closest: return by how much theirs is ahead of their middle, and how wrong that may be.
    """
    gaps = [(b - a, (a + b) / 2, t) for a, b, t in zip(ours, ours[1:], theirs)]
    if not gaps:
        return 0.0, float("inf")
    width, middle, stamp = min(gaps)
    return stamp - middle, width / 2 + TICK


# A listing, and a rename of what it showed


class Listed(NamedTuple):
    """What became of names that the other client had put there."""

    shown: int
    """How many a listing taken afresh showed, in the end."""
    seconds: float
    """Until it showed them all."""
    found: int
    """How many of those that it showed a rename found."""


def listed(bench: Bench, channel: Channel) -> Listed:
    """Put names into a directory; the other one lists it and renames them."""
    path = bench.directory("listed")
    for number in range(LISTED):
        bench.put(f"{path}/{number:03d}")
    return Listed(*channel.ask("take", number=LISTED))


def take(bench: Bench, number: int) -> Listed:
    """List what the other has put there, and rename it."""
    fs, path, target = bench.fs, bench.directory("listed"), bench.directory("taken")
    start = bench.clock.monotonic()
    bench.until(lambda: len(bench.names(path)) >= number)
    seconds = bench.clock.monotonic() - start
    names = bench.names(path)
    found = [fs.rename(f"{path}/{name}", f"{target}/{name}") for name in names]
    return Listed(len(names), seconds, found.count(True))


# A name that was looked up too early


class Early(NamedTuple):
    """How long calls failed for a name that was looked up before it was there."""

    open_seconds: float
    rename_seconds: float
    open_cured: bool
    """Whether opening the directory made it succeed."""
    rename_cured: bool


def early(bench: Bench, channel: Channel) -> Early:
    """Let the other look for names that are not there yet; then put them there."""
    paths = [bench.directory(f"early-{call}") for call in ("open", "rename")]
    channel.ask("look_early")
    for path in paths:
        bench.put(f"{path}/name")
    return Early(*channel.ask("look_again"))


def look_early(bench: Bench) -> None:
    """Look for two names that are not there."""
    for call in ("open", "rename"):
        _opens(bench, f"{bench.directory(f'early-{call}')}/name")


def look_again(bench: Bench) -> Early:
    """Try the two names until it works, or until we open their directory to make it work."""
    fs, calls = bench.fs, bench.fs.calls
    path = f"{bench.path}/early-rename/name"

    def renames() -> bool:
        """Rename once, and believe the answer: `FileSystem` would look for more."""
        try:
            calls.rename(path, f"{path}-found")
        except FileNotFoundError:
            return False
        return True

    tries: dict[str, Callable[[], bool]] = {
        "open": lambda: _opens(bench, f"{bench.path}/early-open/name"),
        "rename": renames,
    }
    start = bench.clock.monotonic()
    took: dict[str, float] = {}

    def both_work() -> bool:
        for call, attempt in tries.items():
            if call not in took and attempt():
                took[call] = bench.clock.monotonic() - start
        return len(took) == len(tries)

    bench.until(both_work, _EARLY_SECONDS)
    waited = bench.clock.monotonic() - start
    cured = {}
    for call, attempt in tries.items():
        if call not in took:
            fs.exists(f"{bench.path}/early-{call}/name")  # opens the directory
        cured[call] = call in took or attempt()
    return Early(
        took.get("open", waited),
        took.get("rename", waited),
        open_cured=cured["open"],
        rename_cured=cured["rename"],
    )


def _opens(bench: Bench, path: str) -> bool:
    calls = bench.fs.calls
    try:
        calls.close(calls.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except FileNotFoundError:
        return False
    return True


# Who wins


class Race(NamedTuple):
    """Who won the names for which both raced."""

    names: int
    ours: int
    theirs: int
    twice: int
    """Won by both."""
    nobody: int
    """Won by none."""
    missing: int
    """Won, but not there afterwards."""


def race(bench: Bench, channel: Channel, kind: str, lead: float) -> Race:
    """Compete for names; both clients begin at one moment, `lead` seconds from now."""
    fs = bench.fs
    path = bench.directory(f"race-{kind}" if kind == "rename" else "timed")
    before = bench.clock.monotonic()
    for number in range(NAMES):
        fs.create(f"{path}/{kind}-{number:03d}", b"", sync=False)
    took = (bench.clock.monotonic() - before) / NAMES
    each = max(_NAME_SECONDS, took * _NAME_CALLS)
    start = bench.clock.time() + lead
    channel.send({"do": "compete", "kind": kind, "start": start, "each": each})
    ours = set(compete(bench, kind, start, each))
    theirs = set(channel.answer(lead + NAMES * each + bench.patience))
    missing = 0
    if kind == "rename":
        claimed = {f"{name}.a" for name in ours} | {f"{name}.b" for name in theirs}
        missing = len(claimed.difference(bench.names(f"{bench.path}/won-{kind}")))
    return Race(
        names=NAMES,
        ours=len(ours),
        theirs=len(theirs),
        twice=len(ours & theirs),
        nobody=NAMES - len(ours | theirs),
        missing=missing,
    )


def compete(bench: Bench, kind: str, start: float, each: float) -> list[str]:
    """Return the names that we won, when each may take so many seconds."""
    fs, side, calls = bench.fs, bench.side, bench.fs.calls
    path, target = bench.directory(f"race-{kind}"), bench.directory(f"won-{kind}")

    def wins(name: str) -> bool:
        if kind == "rename":
            return fs.rename(f"{path}/{name}", f"{target}/{name}.{side}")
        try:
            if kind == "mkdir":
                return fs.mkdir(f"{path}/{name}")
            if kind == "symlink":
                return fs.elect(f"{path}/{name}", side)
            # `FileSystem` would remove the file where a later call fails.
            how = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            calls.close(calls.open(f"{path}/{name}", how, 0o600))
        except OSError:  # who is slower in making a name may hear any error
            return False
        return True

    if kind == "rename":
        bench.until(lambda: len(bench.names(path)) == NAMES)
    names = (f"{kind}-{number:03d}" for number in _side_by_side(bench, start, each))
    return [name for name in names if wins(name)]


def _side_by_side(bench: Bench, start: float, each: float) -> Iterator[int]:
    """Yield the number of each name when both clients shall try it; who is late leaves some out.

    Those that were left out come last.
    """
    late = []
    for first in range(0, NAMES, _STRIDE):
        early = start + first * each - bench.clock.time()
        if early < -_STRIDE * each:
            late.append(first)
            continue
        bench.clock.sleep(max(0.0, early))
        yield from range(first, min(first + _STRIDE, NAMES))
    for first in late:
        yield from range(first, min(first + _STRIDE, NAMES))


# Locks


class Locked(NamedTuple):
    """Whether a lock of one client keeps the other out."""

    while_held: str
    """What the other found: `out`, `in`, or `none` where there are no locks."""
    afterwards: str


def locked(bench: Bench, channel: Channel) -> Locked:
    """Hold a lock while the other tries to get it, and let it try again afterwards."""
    bench.put(f"{bench.directory('locks')}/lock")
    with _flocked(bench) as ours:
        held = channel.ask("try_lock") if ours == "in" else ours
    return Locked(held, channel.ask("try_lock") if held != "none" else held)


def try_lock(bench: Bench) -> str:
    """Try to get the lock; say what came of it."""
    with _flocked(bench) as got:
        return got


@contextmanager
def _flocked(bench: Bench) -> Iterator[str]:
    """Try to hold the lock: `in` (we have it), `out` (another one has), or `none` there is."""
    calls = bench.fs.calls
    path = f"{bench.directory('locks')}/lock"
    descriptor = calls.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        got = "in"
        try:
            bench.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            got = "out"
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            got = "none"
        yield got
    finally:
        calls.close(descriptor)


#: What the other client can be asked to do.
ANSWERS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        sync, offset, pong, take, look_early, look_again, compete, try_lock,
    )
}  # fmt: skip
