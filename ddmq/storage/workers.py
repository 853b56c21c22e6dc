"""The directory `workers/` of one queue: a name for each worker, by which others see how it does.

All of it is for people. No message depends on it, so whatever is wrong with it is passed over. A
worker's name is that of an empty file, and says everything but what runs in its slots; each change
is one rename, and a new name holds the worker's own token, so none can overwrite another. Two other
kinds of names are there: `<token>.slots`, the file in which a worker tells what runs for long and
what failed, and `drain.…`, by which somebody asks workers to drain. Anybody who may write to the
queue may make any name, so what is read from them is a text that others wrote.
"""

from __future__ import annotations

import json
import os
import re
from bisect import bisect_left
from contextlib import suppress
from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ddmq.seen import Activity, Failure, Running, WorkerSeen
from ddmq.storage.names import Grammar, new_token, random_below

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ddmq.storage.store import Store

_Row = TypeVar("_Row", Running, Failure)
#: What a worker says of itself.
WORKING, IDLE, PAUSED, DRAINING = "working", "idle", "paused", "draining"
BRAKING, AWAY, ENDED = "braking", "away", "ended"
#: What others say of a worker that gave no sign for long, or whose process is gone from this node.
LOST = "lost"
#: Seconds between two renames by one worker, and renames a second by all of a queue.
RENAME_EVERY, RENAMES_PER_SECOND = 10.0, 10
#: Seconds after which a worker gives a sign of life though nothing has changed.
SIGN_EVERY = 60.0
#: The longest of both, however many names somebody planted.
_LONGEST = 3600.0
#: Signs of life that a worker that is not lost may have missed, and seconds more.
_MISSED, _MARGIN = 3, 30.0
#: Seconds for which a time in a name may lie ahead.
_AHEAD = 3600.0
#: Seconds after which the name of a worker that ended is removed; how many such names are kept,
#: and seconds for which a name is kept even where there are more.
KEPT_FOR, KEPT, KEPT_ANYWAY = 7 * 86400.0, 1000, 600.0
#: Bytes of a slots file; in it, characters of a text and failures.
MOST_BYTES, MOST_TEXT, MOST_FAILURES = 1 << 16, 200, 3
_SLOTS = ".slots"
_DRAIN = "drain"
_STATES = (WORKING, IDLE, PAUSED, DRAINING, BRAKING, AWAY, ENDED)
#: The longest forms of texts in names. So no name is longer than 255 bytes.
_JOB, _HOST = 40, 63
_MOST_COUNT, _MOST_WIDE, _MOST_TIME = 10**9 - 1, 10**5 - 1, 10**13 - 1
_TEXT = r"[A-Za-z0-9_%.-]"
_begins = Grammar(
    rf"([0-9a-f]{{16}})\.([0-9]{{13}})\.({'|'.join(_STATES)})\.([0-9]{{1,4}})\."
)
_name = Grammar(
    rf"([0-9a-f]{{16}})\.([0-9]{{13}})\.({'|'.join(_STATES)})\.([0-9]{{1,4}})\.([0-9]{{13}})"
    r"\.([0-9]{1,5})-([0-9]{1,5})\.([0-9]{1,9})-([0-9]{1,9})-([0-9]{1,9})-([0-9]{1,9})"
    r"\.([0-9]{1,13})\.([0-9]{1,10})\.([0-9]{1,10})"
    rf"\.([A-Za-z0-9_%-]{{0,{_JOB}}})\.({_TEXT}{{1,{_HOST}}})"
)
_slots = Grammar(rf"([0-9a-f]{{16}}){re.escape(_SLOTS)}")
_drain = Grammar(
    rf"{_DRAIN}\.([0-9]{{13}})\.[0-9a-f]{{16}}\.(all|host|job)\.({_TEXT}{{0,{_HOST}}})"
)
_escape = re.compile("%([0-9A-F]{2})")


class WorkerName(NamedTuple):
    """What the name of a worker says."""

    token: str
    """Sixteen hexadecimal digits, the worker's own."""
    time: int
    """When it was made, by the file server's clock, in milliseconds since 1970."""
    state: str
    every: int
    """Seconds after which the next sign of life is due."""
    started: int
    """When the worker started, in milliseconds since 1970."""
    slots: int
    busy: int
    acked: int
    failed: int
    released: int
    moved: int
    work: int
    """Milliseconds for which slots were busy with what has ended."""
    peak: int
    """KiB of memory that a command had at most, of those that ended."""
    process: int
    job: str
    host: str

    @property
    def filename(self) -> str:
        """The name in `workers/`."""
        most, wide = _MOST_COUNT, _MOST_WIDE
        counts = self.acked, self.failed, self.released, self.moved
        numbers = "-".join(str(min(number, most)) for number in counts)
        return (
            f"{self.token}.{self.time:013d}.{self.state}.{min(self.every, 9999)}"
            f".{self.started:013d}.{min(self.slots, wide)}-{min(self.busy, wide)}.{numbers}"
            f".{min(self.work, _MOST_TIME)}.{min(self.peak, most)}.{self.process}"
            f".{escaped(self.job, _JOB, but='_-')}.{escaped(self.host, _HOST) or '-'}"
        )

    @classmethod
    def parse(cls, filename: str) -> WorkerName | None:
        """Read a name found in `workers/`."""
        match = _name.fullmatch(filename)
        if match is None:
            return None
        token, time, state, *numbers, job, host = match.groups()
        fields: list[Any] = [token, int(time), state, *map(int, numbers)]
        fields += [_plain(job), _plain(host)]
        return cls(*fields)

    def seen(self, now: float) -> WorkerSeen:
        """Return it as others see it at a time, in seconds since 1970."""
        is_lost = self.state != ENDED and not _lives(self.time, self.every, now)
        return WorkerSeen(
            host=self.host,
            process=self.process,
            job=self.job,
            state=LOST if is_lost else self.state,
            slots=self.slots,
            busy=self.busy,
            acked=self.acked,
            failed=self.failed,
            released=self.released,
            moved=self.moved,
            work=self.work / 1000,
            peak_kib=self.peak,
            started=self.started / 1000,
            seen=self.time / 1000,
            age=max(now - self.time / 1000, 0.0),
        )


class Drain(NamedTuple):
    """A request to some workers to drain."""

    time: int
    """In milliseconds since 1970: workers that start later are not meant."""
    kind: str
    """`all`, `host` or `job`."""
    which: str = ""

    @property
    def filename(self) -> str:
        """A name for it in `workers/`, which nobody else makes."""
        which = escaped(self.which, _HOST)
        return f"{_DRAIN}.{self.time:013d}.{new_token()}.{self.kind}.{which}"

    @classmethod
    def parse(cls, filename: str) -> Drain | None:
        """Read a name found in `workers/`."""
        match = _drain.fullmatch(filename)
        return None if match is None else cls(int(match[1]), match[2], _plain(match[3]))

    def means(self, worker: WorkerName) -> bool:
        """Tell whether it asks this worker.

        A host is meant by its name without its domain, too; a job by its number alone, or by the
        id of its array.
        """
        if worker.started > self.time:
            return False
        if self.kind == "host":
            return self.which in (worker.host, worker.host.partition(".")[0])
        if self.kind == "job":
            array, _, index = worker.job.rpartition("_")
            whole = array if index.isdigit() else worker.job
            known = worker.job, whole, whole.partition(".")[0]
            which = _plain(escaped(self.which, _JOB, but="_-"))
            return which != "" and which in known
        return True


class Look(NamedTuple):
    """What one listing of `workers/` tells a worker."""

    turn: Turn
    drains: list[Drain]


class Turn(NamedTuple):
    """When a worker of a queue may rename, so that all together rename ten times a second at most.

    The time is divided into intervals, and each worker has its own moment in each.
    """

    interval: float = RENAME_EVERY
    """Seconds."""
    phase: float = 0.0
    """Seconds from the beginning of an interval."""
    number: int = 1
    """Of workers."""

    @classmethod
    def of(cls, token: str, tokens: Sequence[str]) -> Turn:
        """Return the turn of a worker among others, whose tokens are sorted."""
        number = max(len(tokens), 1)
        interval = min(max(RENAME_EVERY, number / RENAMES_PER_SECOND), _LONGEST)
        rank = bisect_left(tokens, token)
        return cls(interval, rank * interval / number, number)

    def after(self, moment: float) -> float:
        """Return the seconds from a moment, since 1970, to the first turn that is not before it."""
        return (self.phase - moment) % self.interval

    def since(self, moment: float) -> float:
        """Return the seconds since the last turn that was not after a moment."""
        return (moment - self.phase) % self.interval


class Workers:
    """The workers of one queue, as their names tell."""

    def __init__(self, store: Store) -> None:
        self._layout = store.layout
        self._fs = store.fs
        self._clock = store.clock
        self._path = store.layout.workers

    # What a worker does

    def show(self, before: WorkerName | None, now: WorkerName) -> None:
        """Show a worker under a new name, in place of that before, if that is still there."""
        target = f"{self._path}/{now.filename}"
        with suppress(
            FileNotFoundError
        ):  # nobody made the directory, or somebody removed it
            if before is not None:
                source = f"{self._path}/{before.filename}"
                if source == target or self._fs.rename(source, target):
                    return
            self._fs.touch(target, self._layout.file_mode)
            return
        self._layout.make_directory(self._path)
        self._fs.touch(target, self._layout.file_mode)

    def look(self, token: str) -> Look:
        """Return when the turn of a worker is, and who is asked to drain: one listing."""
        now = self._clock.time()  # before the listing, which may take long
        tokens, drains = set(), []
        for name in self._names():
            match = _begins.match(name)  # this is quicker than to parse it
            if match is not None:
                if match[3] != ENDED and _lives(int(match[2]), int(match[4]), now):
                    tokens.add(match[1])
                continue
            drain = Drain.parse(name)
            if drain is not None and _age(drain.time, now) <= KEPT_FOR:
                drains.append(drain)
        return Look(Turn.of(token, sorted(tokens)), drains)

    def tell(self, token: str, activity: Activity) -> None:
        """Tell what a worker does, as much of it as fits; nothing: its file is removed."""
        path = f"{self._path}/{token}{_SLOTS}"
        if not activity.running and not activity.failures:
            self._fs.unlink(path)
            return
        failures = [_shortened(x) for x in activity.failures[-MOST_FAILURES:]]
        running: list[dict[str, Any]] = []
        row = {"ends": activity.ends, "failures": failures, "running": running}
        size = len(json.dumps(row))
        for each in map(_shortened, activity.running):
            size += len(json.dumps(each)) + 2
            if size > MOST_BYTES:
                break
            running.append(each)
        self._layout.put(path, json.dumps(row).encode())

    # What others do

    def all(
        self,
        *,
        running: bool = False,
        wanted: Callable[[WorkerSeen], bool] = lambda _: True,
    ) -> list[WorkerSeen]:
        """Return the workers, in the order in which they started: one listing.

        With `running`, what each tells is read, too, that lives, is busy or had failures, and is
        `wanted`.
        """
        now = self._clock.time()  # before the listing, which may take long
        found: dict[str, WorkerName] = {}
        for name in map(WorkerName.parse, self._names()):
            # A listing that comes in pages may show a worker under two names.
            if name is not None and found.get(name.token, name).time <= name.time:
                found[name.token] = name
        seen = []
        for name in sorted(found.values(), key=lambda each: (each.started, each.token)):
            worker = name.seen(now)
            if worker.is_live and is_gone(name.host, name.process):
                worker = worker._replace(state=LOST)
            if running and worker.tells and wanted(worker):
                told = self._activity(name.token)
                worker = worker._replace(**told._asdict())
            seen.append(worker)
        return seen

    def _activity(self, token: str) -> Activity:
        """Read what a worker told, as far as that is sound."""
        from ddmq.untrusted import moment, parsed  # workers themselves read none

        try:
            data = self._fs.read(f"{self._path}/{token}{_SLOTS}", MOST_BYTES + 1)
            told = parsed(data) if len(data) <= MOST_BYTES else None
        except (OSError, ValueError):
            return Activity()
        if not isinstance(told, dict):
            return Activity()
        return Activity(
            _sound(told.get("running"), _running_of),
            _sound(told.get("failures"), _failure_of)[-MOST_FAILURES:],
            moment(told.get("ends")),
        )

    def drain(self, kind: str, which: str = "") -> int:
        """Ask workers to drain that have started by now: `all`, those of a `host`, or of a `job`.

        Return how many live that are meant, as far as a listing shows it.
        """
        now = self._clock.time()  # before the listing, which may take long
        drain = Drain(int(now * 1000), kind, which)
        path = f"{self._path}/{drain.filename}"
        try:
            self._fs.touch(path, self._layout.file_mode)
        except FileNotFoundError:  # there may be one that has not shown itself yet
            self._layout.make_directory(self._path)
            self._fs.touch(path, self._layout.file_mode)
        names = filter(None, map(WorkerName.parse, self._names()))
        return len({x.token for x in names if drain.means(x) and x.seen(now).is_live})

    def old(self, within: float = inf) -> list[str]:
        """Return the paths of what nobody needs any more: names of workers that ended long ago.

        Of those that ended or are lost within the last week, the latest 1,000 stay. Files of
        workers that have no name are looked at `within` so many seconds, each time others first.
        """
        now, names = self._clock.time(), self._names()
        over, tokens, old = [], set(), []
        for name in names:
            worker, drain = WorkerName.parse(name), Drain.parse(name)
            if worker is not None:
                tokens.add(worker.token)
                if not worker.seen(now).is_live:
                    over.append((_age(worker.time, now), name))
            elif drain is not None and _age(drain.time, now) > KEPT_FOR:
                old.append(name)
        over.sort(key=itemgetter(0))
        for number, (age, name) in enumerate(over):
            if age > (KEPT_FOR if number < KEPT else KEPT_ANYWAY):
                old.append(name)
        end, at = self._clock.monotonic() + within, random_below(len(names))
        for name in (*names[at:], *names[:at]):
            if self._clock.monotonic() > end:
                break
            match = _slots.fullmatch(name)
            if match is not None and match[1] not in tokens:
                found = self._fs.status(f"{self._path}/{name}")
                if found is not None and found.age(int(now * 1e9)) > KEPT_ANYWAY:
                    old.append(name)
        return [f"{self._path}/{name}" for name in old]

    def _names(self) -> list[str]:
        """List the directory; nothing is in it where nobody made it, or we may not list it."""
        try:
            return self._fs.listing(self._path)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return []


def _shortened(told: Running | Failure) -> dict[str, Any]:
    """Return a row of a slots file."""
    fields = told._asdict().items()
    return {k: v[:MOST_TEXT] if isinstance(v, str) else v for k, v in fields}


def _sound(rows: Any, read: Callable[[Any], _Row | None]) -> tuple[_Row, ...]:
    """Read the rows of a slots file, but for those that no worker writes."""
    given = rows if isinstance(rows, list) else []
    found = (read(row) for row in given if isinstance(row, dict))
    return tuple(each for each in found if each is not None)


def _running_of(row: Any) -> Running | None:
    """Read what runs in a slot; None: no worker writes such a row."""
    from ddmq.untrusted import moment

    slot, started = row.get("slot"), moment(row.get("started"))
    texts = [_text(row.get(field)) for field in ("id", "text", "progress")]
    if type(slot) is not int or started is None or None in texts:
        return None
    id_, text, progress = map(str, texts)
    return Running(slot, id_, started, text, progress)


def _failure_of(row: Any) -> Failure | None:
    """Read what failed; None: no worker writes such a row."""
    from ddmq.untrusted import moment

    ended = moment(row.get("ended"))
    texts = [_text(row.get(field)) for field in ("id", "text", "reason")]
    if ended is None or None in texts:
        return None
    id_, text, reason = map(str, texts)
    return Failure(id_, ended, text, reason)


def _text(value: Any) -> str | None:
    """Return as much of a text as is shown; None: it is none."""
    return value[:MOST_TEXT] if isinstance(value, str) else None


def _age(time: int, now: float) -> float:
    """Return how many seconds ago a time in a name was; one well ahead is not believed."""
    age = now - time / 1000
    return age if age > -_AHEAD else inf


def _lives(time: int, every: int, now: float) -> bool:
    """Tell whether a worker may live that gave its last sign then, and one so often."""
    return _age(time, now) <= _MISSED * every + _MARGIN


def is_gone(host: str, process: int) -> bool:
    """Tell whether a host, as names show it, is this node, where we see no such process."""
    if host[:_HOST] != os.uname().nodename[:_HOST]:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's; or no number of a process
        return False
    return False


def escaped(text: str, most: int, but: str = "_.-") -> str:
    """Return as much of a text as fits into `most` bytes of a name.

    What is neither a letter nor a digit, `but` for these, is shown as `%` and two digits a byte.
    """
    shown = ""
    for char in text:
        plain = char if char.isascii() and (char.isalnum() or char in but) else ""
        data = char.encode(errors="replace")
        part = plain or "".join(f"%{byte:02X}" for byte in data)
        if len(shown) + len(part) > most:
            break
        shown += part
    return shown


def _plain(text: str) -> str:
    """Read what was escaped."""
    if "%" not in text:
        return text
    data = _escape.sub(lambda found: chr(int(found[1], 16)), text)
    return data.encode("latin-1").decode("utf-8", "replace")
