"""The probes: what one client does, what the other answers, and what both have seen."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq.locks import NO_LOCKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ddmq.check.channel import Bench, Channel

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
    path, took = bench.directory(f"sync-{bench.side}"), []
    for number in range(_SYNCS):
        start = bench.clock.monotonic()
        bench.fs.create(f"{path}/{number}", b"x" * 1024, sync=True)
        took.append(bench.clock.monotonic() - start)
    return Synced(sorted(took)[_SYNCS // 2], _sync_directory(bench, path))


def _sync_directory(bench: Bench, path: str) -> str:
    calls = bench.fs.calls
    descriptor = calls.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        calls.fsync(descriptor)
    except OSError as error:
        return str(error.strerror)
    finally:
        calls.close(descriptor)
    return ""


def offset(bench: Bench) -> float:
    """Learn the file server's clock; return by how many seconds it is ahead of ours."""
    path = f"{bench.directory('tmp')}/clock-{bench.side}"
    bench.clock.compare(lambda: bench.fs.birth_ns(path))
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
    there, back = bench.directory("ping"), bench.directory("pong")
    took: list[float] = []
    start, lost = bench.clock.monotonic(), ""
    while _wants_more(len(took), bench.clock.monotonic() - start) and not lost:
        name = f"{len(took):03d}"
        seconds = _round_trip(bench, f"{there}/{name}", back, name)
        lost = name if seconds is None else ""
        took += [seconds / 2] if seconds is not None else []
    bench.put(f"{there}/end")
    channel.answer()
    names = [f"{number:03d}" for number in range(len(took))]
    stamps = [[_stamp(bench, f"{d}/{name}") for name in names] for d in (there, back)]
    return Seen(took, lost, *skew(*stamps))


def _wants_more(rounds: int, seconds: float) -> bool:
    return rounds < _ROUNDS and (rounds < _ROUNDS_LEAST or seconds < _ROUNDS_SECONDS)


def _round_trip(bench: Bench, path: str, back: str, name: str) -> float | None:
    before = bench.clock.monotonic()
    bench.put(path)
    shown = bench.until(lambda: bench.shows(back, name))
    return bench.clock.monotonic() - before if shown else None


def pong(bench: Bench) -> None:
    """Answer each file of the other with one of the same name."""
    there, back = bench.directory("ping"), bench.directory("pong")
    shown: set[str] = set()

    def has_come() -> bool:
        new = set(bench.fs.listing(there)) - shown
        for name in sorted(new - {"end"}):
            bench.put(f"{back}/{name}")
            shown.add(name)
        return "end" in new

    bench.until(has_come, 2 * bench.patience + _ROUNDS_SECONDS)


def _stamp(bench: Bench, path: str) -> float:
    found = bench.fs.status_when_opened(path)
    return found.modified_ns / 1e9 if found is not None else float("nan")


def skew(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Compare stamps of files that were made in turn, ours first.

    Were they stamped by one clock, each of theirs lies between two of ours. Returns by how
    much it lies ahead of their middle, where they are closest, and how wrong that may be.
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
    path, target = bench.directory("listed"), bench.directory("taken")
    start = bench.clock.monotonic()
    bench.until(lambda: len(bench.fs.listing(path)) >= number)
    seconds = bench.clock.monotonic() - start
    names = bench.fs.listing(path)
    found = [bench.fs.rename(f"{path}/{n}", f"{target}/{n}") for n in names]
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
    tries: list[Callable[[], bool]] = [
        lambda: _opens(bench, f"{bench.path}/early-open/name"),
        lambda: _renames(bench, f"{bench.path}/early-rename/name"),
    ]
    start = bench.clock.monotonic()
    took = [float("inf"), float("inf")]

    def both_work() -> bool:
        for number, attempt in enumerate(tries):
            if took[number] == float("inf") and attempt():
                took[number] = bench.clock.monotonic() - start
        return max(took) < float("inf")

    bench.until(both_work, _EARLY_SECONDS)
    waited = bench.clock.monotonic() - start
    cured = [
        seconds <= waited or _after_opening(bench, path, attempt)
        for seconds, path, attempt in zip(took, ("early-open", "early-rename"), tries)
    ]
    return Early(min(took[0], waited), min(took[1], waited), *cured)


def _after_opening(bench: Bench, name: str, attempt: Callable[[], bool]) -> bool:
    """Open a directory, as `FileSystem.exists` does, and try again."""
    bench.fs.exists(f"{bench.path}/{name}/name")
    return attempt()


def _opens(bench: Bench, path: str) -> bool:
    try:
        bench.fs.calls.close(bench.fs.calls.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except FileNotFoundError:
        return False
    return True


def _renames(bench: Bench, path: str) -> bool:
    """Rename once, and believe what it answers: `FileSystem` would look for more."""
    try:
        bench.fs.calls.rename(path, f"{path}-found")
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
    """Compete for names, from a moment on that both know: `lead` seconds from now."""
    path = bench.directory(f"race-{kind}" if kind == "rename" else "timed")
    before = bench.clock.monotonic()
    for number in range(NAMES):
        bench.fs.create(f"{path}/{kind}-{number:03d}", b"", sync=False)
    took = (bench.clock.monotonic() - before) / NAMES
    each = max(_NAME_SECONDS, took * _NAME_CALLS)
    start = bench.clock.time() + lead
    channel.send({"do": "compete", "kind": kind, "start": start, "each": each})
    ours = compete(bench, kind, start, each)
    theirs = channel.answer(lead + NAMES * each + bench.patience)
    return _settled(bench, kind, set(ours), set(theirs))


def compete(bench: Bench, kind: str, start: float, each: float) -> list[str]:
    """Return the names that we won, when each may take so many seconds."""
    path, target = bench.directory(f"race-{kind}"), bench.directory(f"won-{kind}")
    attempts: dict[str, Callable[[str], bool]] = {
        "rename": lambda name: bench.fs.rename(
            f"{path}/{name}", f"{target}/{name}.{bench.side}"
        ),
        "mkdir": _or_refused(lambda name: bench.fs.mkdir(f"{path}/{name}")),
        "create": _or_refused(lambda name: _create(bench, f"{path}/{name}")),
        "symlink": _or_refused(
            lambda name: bench.fs.elect(f"{path}/{name}", bench.side)
        ),
    }
    if kind == "rename":
        bench.until(lambda: len(bench.fs.listing(path)) == NAMES)
    names = (f"{kind}-{number:03d}" for number in _side_by_side(bench, start, each))
    return [name for name in names if attempts[kind](name)]


def _side_by_side(bench: Bench, start: float, each: float) -> Iterator[int]:
    """Yield the number of each name when both are due to try it; those missed, last."""
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


def _or_refused(attempt: Callable[[str], bool]) -> Callable[[str], bool]:
    """Let an attempt fail: who is slower in making a name may hear any error."""

    def wins(name: str) -> bool:
        try:
            return attempt(name)
        except OSError:
            return False

    return wins


def _create(bench: Bench, path: str) -> bool:
    """Make a file, and remove none whatever is answered."""
    calls = bench.fs.calls
    calls.close(calls.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    return True


def _settled(bench: Bench, kind: str, ours: set[str], theirs: set[str]) -> Race:
    nobody = NAMES - len(ours | theirs)
    missing = 0
    if kind == "rename":
        claimed = {f"{name}.a" for name in ours} | {f"{name}.b" for name in theirs}
        missing = len(claimed - set(bench.fs.listing(f"{bench.path}/won-{kind}")))
    return Race(NAMES, len(ours), len(theirs), len(ours & theirs), nobody, missing)


# Locks


class Locked(NamedTuple):
    """Whether a lock of one client keeps the other out."""

    while_held: str
    """What the other found: `out`, `in`, or `none` where there are no locks."""
    afterwards: str


def locked(bench: Bench, channel: Channel) -> Locked:
    """Hold a lock while the other tries to get it, and let it try again afterwards."""
    path = f"{bench.directory('locks')}/lock"
    bench.put(path)
    with _flocked(bench, path) as ours:
        held = channel.ask("try_lock") if ours == "in" else ours
    return Locked(held, channel.ask("try_lock") if held != "none" else held)


def try_lock(bench: Bench) -> str:
    """Try to get the lock; say what came of it."""
    with _flocked(bench, f"{bench.directory('locks')}/lock") as got:
        return got


@contextmanager
def _flocked(bench: Bench, path: str) -> Iterator[str]:
    descriptor = bench.fs.calls.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield _flock(bench, descriptor)
    finally:
        bench.fs.calls.close(descriptor)


def _flock(bench: Bench, descriptor: int) -> str:
    try:
        bench.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "out"
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return "none"
    return "in"


#: What the other client can be asked to do.
ANSWERS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        sync, offset, pong, take, look_early, look_again, compete, try_lock,
    )
}  # fmt: skip
