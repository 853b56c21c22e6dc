"""One line of JSON per run, one file per worker, read together by `ddmq log`."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from itertools import groupby, product
from operator import itemgetter
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from ddmq.clock import Stopwatch, date
from ddmq.errors import StorageError, warn
from ddmq.hpc.folder import Folder, reached
from ddmq.storage.filesystem import is_shared
from ddmq.storage.layout import (
    JOURNAL,
    JOURNAL_BYTES,
    JOURNAL_LINE,
    JOURNAL_SUFFIX,
)
from ddmq.storage.names import MAX_STAMP, Grammar, new_token, random_below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ddmq.clock import Clock

#: Bytes after which a worker goes on in another file.
_ROTATED = 16 << 20
#: Seconds for which lines are collected: a file server is not asked to store each alone.
_FLUSH_EVERY = 1.0
#: Seconds after which it is tried again, where that failed; and how many lines are kept till then.
_AGAIN_EVERY = 30.0
_MOST_KEPT = 10_000
#: How much of how many journals tells how long messages take.
_RECENT_FILES, _RECENT_BYTES = 20, 1 << 18
#: Journals that are merged into one, so that their names fit into its first line.
_MERGED = 200
#: So many journals may be there before workers merge some; how many of them one looks at, and how
#: large these may be.
_MANY, _LOOKED_AT, _SMALL = 200, 100, 1 << 16
#: How often journals are listed that somebody merges meanwhile, and lines written to one that
#: somebody removes.
_READINGS, _TRIES = 5, 3
#: How a line begins that says from which journal the next ones are; bytes of it beside the name.
_FROM, _FROM_BYTES = b'{"from": ', 12
#: The key of the line that says what the job of a worker may use.
_GRANTED, _GRANTED_LINE = "granted", b'{"granted": '
#: What a worker writes before it acks; and the line after that, which names the run.
ACKING = "acking"
_ACKED_LINE = b'{"acked": ["'
_DONE = (ACKING, "acked")
#: The key of the first line of a journal whose worker keeps results: it names their directory.
_OUTPUT, _OUTPUT_LINE = "output_dir", b'{"output_dir": '
#: The most that may be done with a journal. Nobody but its owner writes to it, so that a directory
#: that it names is one that the owner named.
_MODE = 0o644
#: Stands for the owner of a file that others may write to.
_SEVERAL = -1
#: The longest time, in seconds, that is believed, and the largest of all other numbers.
_LONGEST, _LARGEST = 1e10, 1e18
#: Characters of a message that are kept. As JSON, each takes twelve bytes at most.
_MOST_TEXT = 1000
#: How the names of those begin into which others were merged.
COMPACTED = "compacted-"
#: Seconds without a line after which a journal's worker is taken for ended; and after which it
#: goes on in another file, long before somebody may merge the one that it has.
_ENDED_AFTER, _LEFT_AFTER = 7 * 86400.0, 86400.0


class Run(NamedTuple):
    """One run of a command, as a line of the journal."""

    id: str
    """Of the message."""
    start: float
    """Seconds since 1970."""
    duration: float
    """Seconds."""
    result: str
    """acked, failed, dead, released, moved, lost or cancelled. In a journal, `acking` is what a
    worker is about to ack."""
    exit: int | None
    signal: str | None
    host: str
    job: str
    """The id of the batch job, empty outside of one."""
    slot: int
    peak_kib: int
    cpu: float
    """Seconds."""
    log: str
    """The path of its log without `.out` and `.err`, empty when there is none."""
    text: str = ""
    """Of the message, its beginning: what the command got. Earlier workers wrote none."""
    timed_out: bool = False
    """Whether it was ended because it took too long."""
    output: str = ""
    """The name of its result in the output directory, empty when none was kept."""
    logged: str = ""
    """Which of its logs there are: `out`, `err`, or both with a space between them."""
    stamp: int = 0
    """When the message joined the queue, in ns since 1970: its place. Earlier workers wrote none."""
    batch: int = 1
    """How many messages its command had at once. Duration, CPU time and memory are of them all."""


class Granted(NamedTuple):
    """What the job of a worker may use, as the worker notes once: None where nobody says."""

    start: float
    """When the job began, or its worker, in seconds since 1970."""
    slots: int
    """Of the worker."""
    memory_kib: float | None
    seconds: float | None
    """For which the job may run."""


#: The types of a run's values, in all ways in which they are sound. JSON tells 1 from 1.0, and
#: either may be a time.
_SOUND = frozenset(
    (
        str,
        start,
        duration,
        str,
        exit_,
        signal,
        str,
        str,
        int,
        int,
        cpu,
        str,
        str,
        bool,
        str,
        str,
        int,
        int,
    )
    for start, duration, cpu, exit_, signal in product(
        *[(float, int)] * 3, (int, type(None)), (str, type(None))
    )
)
_values_of = itemgetter(*Run._fields)
_decoder = json.JSONDecoder()
#: A line as a worker writes it, where all texts are plain. A million of these are read in half of
#: the time that JSON takes; any other line is read as JSON.
_PLAIN, _TIME, _COUNT = (
    r'"([ !#-\[\]-~]*)"',
    r"([0-9]+\.[0-9]+)",
    r"(0|[1-9][0-9]{0,17})",
)
_USUAL = {
    **dict.fromkeys(Run._fields, _PLAIN),
    **dict.fromkeys(("start", "duration", "cpu"), _TIME),
    **dict.fromkeys(("slot", "peak_kib", "batch"), _COUNT),
    "stamp": "(0|[1-9][0-9]{0,18})",
    "exit": r"(null|0|[1-9][0-9]{0,17})",
    "signal": r"(null|\"[A-Z0-9]+\")",
    "timed_out": "(true|false)",
}
_usual = Grammar(
    "{" + ", ".join(f'"{name}": {value}' for name, value in _USUAL.items()) + "}\n"
)
_acked = Grammar(rf'{{"acked": \[{_PLAIN}, {_TIME}\]}}\n')
_END = ord("\n")


class Journal:
    """The journal of one worker. No message depends on it, but what became of one is told by it.

    So lines that can't be written now, since the file server is away or full, are written later.
    """

    def __init__(
        self,
        queue_path: str,
        host: str,
        clock: Clock,
        mode: int | None,
        *,
        granted: Granted | None = None,
        output_dir: str | None = None,
    ) -> None:
        self._queue_path = queue_path
        self._granted = granted
        self._first_line = b""
        if output_dir is not None:
            line = json.dumps({_OUTPUT: os.path.abspath(output_dir)})
            self._first_line = line.encode() + b"\n"
        self._name = f"{host}-{os.getpid()}-{new_token()}"
        self._clock = clock
        self._mode = mode
        self._lines: list[str] = []
        self._confirmed: list[str] = []
        """Lines that are written with the next ones: without them, all is read the same."""
        self._due_at = clock.monotonic() + _FLUSH_EVERY
        self._file: int | None = None
        self._since_written = Stopwatch(clock)
        self._files = self._written = 0
        self._names_are_counted = True
        self._failed = False

    def add(self, run: Run) -> None:
        """Note a run; it is on disk a second later."""
        if self._granted is not None:
            granted, self._granted = self._granted._asdict(), None
            self._lines.append(json.dumps({_GRANTED: granted}) + "\n")
        if len(self._lines) < _MOST_KEPT:
            self._lines.append(json.dumps(run._asdict()) + "\n")
        if self._clock.monotonic() >= self._due_at:
            self.flush()

    def confirm(self, run: Run) -> None:
        """Note that a run, which was noted as `acking`, is acked; that takes no write of its own.

        Until it is written, what is read is the same, unless the message is run again.
        """
        if len(self._confirmed) < _MOST_KEPT:
            line = json.dumps({"acked": [run.id, run.start]})
            self._confirmed.append(f"{line}\n")

    def due_in(self) -> float | None:
        """Return the seconds until the next flush, None when there is nothing to write."""
        if not self._lines:
            return None
        return max(self._due_at - self._clock.monotonic(), 0.0)

    def flush(self, *, at_end: bool = False) -> None:
        """Write the lines that were collected, into another file after 16 MiB.

        Whoever opens the file from now on reads them, on other nodes too. What failed is tried
        again half a minute later, or `at_end`: at the same place of the file, since a part of it
        may have been stored.
        """
        now = self._clock.monotonic()
        if self._failed and now < self._due_at and not at_end:
            return
        self._due_at = now + _FLUSH_EVERY
        if not self._lines and not (at_end and self._confirmed):
            return
        data = "".join(self._confirmed + self._lines).encode()
        try:
            for _ in range(_TRIES):
                if self._write(data):
                    break
                self.close()
        except OSError as error:
            self._due_at = now + _AGAIN_EVERY
            if error.errno == errno.ESTALE:  # it was removed
                self.close()
            path = self._queue_path
            is_gone = (  # of which the worker tells
                error.errno == errno.ENOENT
                and os.path.isdir(os.path.dirname(path))
                and not os.path.exists(path)
            )
            if not self._failed and not is_gone:
                warn(f"the journal can't be written now: {error}")
            self._failed = True
            return
        self._lines, self._confirmed, self._failed = [], [], False

    def _write(self, data: bytes) -> bool:
        """Write lines to the file, or to a new one; False: somebody has removed the file.

        A worker that wrote nothing for a week is taken for ended, and its file is merged. A client
        of NFSv4 may write to a removed file without an error, and goes on counting its name. So
        nobody writes to one that he left alone for a day.
        """
        is_left = self._since_written.seconds() > _LEFT_AFTER
        if self._file is None or self._written > _ROTATED or is_left:
            self.close()
            self._file = self._new_file()
        is_new = not self._written
        if is_new:
            data = self._first_line + data
        done = 0
        while done < len(data):
            done += os.pwrite(self._file, data[done:], self._written + done)
        # An NFS client sends what it wrote when any descriptor of the file is closed. A disk
        # need not be waited for.
        os.close(os.dup(self._file))
        self._since_written = Stopwatch(self._clock)
        # Some file systems count no names: one that was made now was not removed.
        is_there = is_new or not self._names_are_counted
        is_there = is_there or os.fstat(self._file).st_nlink > 0
        self._written += done
        return is_there

    def _new_file(self) -> int:
        """Make the next file for all who share the queue; return its descriptor."""
        self._files, self._written = self._files + 1, 0
        with reached(*os.path.split(self._queue_path)) as queue:
            folder = queue.below(JOURNAL, make=True, mode=self._mode)
        with folder:
            name = f"{self._name}.{self._files}{JOURNAL_SUFFIX}"
            descriptor = folder.new_file(name, _MODE)
        if self._mode is not None:
            os.fchmod(descriptor, self._mode & _MODE)
        self._names_are_counted = os.fstat(descriptor).st_nlink > 0
        return descriptor

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with suppress(OSError):  # it tells of what was written before
                os.close(self._file)
            self._file = None

    def tidy(self) -> None:
        """Merge some of those that others wrote long ago, if this one was written."""
        if self._files and not self._failed:
            tidy(self._queue_path, self._clock.own_ns() / 1e9)


def read(
    queue_path: str, unsure: Callable[[Run], None] = lambda _: None
) -> Iterator[Run]:
    """Yield the runs in all journals of a queue, in no order.

    A journal that can't be read is left out, which is told. So is each line that is no run;
    how many there were is told in the end. StorageError: their directory can't be read.
    """
    each = read_each(queue_path, unsure=unsure)
    return (run for _, runs in each for run in runs)


def read_each(
    queue_path: str,
    note: Callable[[Granted], None] = lambda _: None,
    unsure: Callable[[Run], None] = lambda _: None,
    note_output: Callable[[str, int], None] = lambda *_: None,
) -> Iterator[tuple[str, Iterator[Run]]]:
    """Yield the name of each journal, and the runs in it, which are to be read before the next.

    What the job of its worker may use is given to `note`. A run is given to `unsure` before it is
    yielded as acked, if no line says that it was: its worker died about then, or goes on. The
    directory of its results is given to `note_output`, before its runs, with the user id of the
    only user who can have named it: any user who may write to the queue can name any directory.
    If several users can write to the file, it is the id of no user.
    What is left out is told as by `read`.
    """
    skipped = 0

    def runs_in(owner: int, lines: Iterator[bytes]) -> Iterator[Run]:
        nonlocal skipped
        acking: dict[tuple[str, float], Run] = {}
        for line in lines:
            key = _acked_in(line)
            run = _parsed(line) if key is None else acking.pop(key, None)
            if run is not None:
                if run.result == ACKING:
                    acking[run[:2]] = Run._make((*run[:3], "acked", *run[4:]))
                    continue
                if key is None and acking:
                    acking.pop(run[:2], None)  # it was not acked, as this line says
                yield run
            elif key is None:
                if (granted := _granted_in(line)) is not None:
                    note(granted)
                elif (directory := _output_in(line)) is not None:
                    note_output(directory, owner)
                else:
                    skipped += 1
        for run in acking.values():
            unsure(run)
            yield run

    try:
        with _Journals(queue_path) as journals:
            for name, owner, lines in journals.parts():
                yield name, runs_in(owner, lines)
    except OSError as error:
        raise StorageError(error) from error
    if skipped:
        warn(
            f"lines in {journals.path} that are left out: {skipped}; they are no runs, as workers "
            "write them, or too many for one journal"
        )


class _Journals:
    """The journals of a queue: their directory, held open, and their names.

    There are none where there is no such directory.
    """

    def __init__(self, queue_path: str) -> None:
        self.path = f"{queue_path}/{JOURNAL}"
        self.names: list[str] = []
        self._held: Folder | None = None
        with suppress(FileNotFoundError, NotADirectoryError):
            self._held = reached(*os.path.split(queue_path), JOURNAL)

    def __enter__(self) -> _Journals:
        try:
            self.look()
        except OSError as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        if self._held is not None:
            self._held.__exit__(*raised)

    def look(self) -> None:
        """List them."""
        everything = [] if self._held is None else self._held.names()
        self.names = sorted(
            n for n in everything if n.endswith(JOURNAL_SUFFIX) and n[0] != "."
        )

    @property
    def folder(self) -> Folder:
        """Return their directory, where there are any."""
        assert self._held is not None
        return self._held

    def opened(self, name: str) -> BinaryIO:
        """Open one; OSError where somebody planted a link, a FIFO or a device."""
        return self.folder.ordinary_file(name)

    def parts(self) -> Iterator[tuple[str, int, Iterator[bytes]]]:
        """Yield the name under which each was written, who wrote it, and its lines, once.

        Somebody may merge them meanwhile: what is gone is looked for again.
        """
        done: set[str] = set()
        for _ in range(_READINGS):
            merged = {name for each in self.names for name in self.sources(each)}
            is_whole = True
            for name in self.names:
                if name in merged or name in done:
                    continue
                try:
                    with self.opened(name) as file:
                        owner = _writer_of(file)
                        for source, lines in _parts(name, file, done):
                            yield source, owner, self._readable(name, lines)
                except FileNotFoundError:
                    is_whole = False
                    continue
                except OSError as error:
                    warn(f"{self.path}/{name} is left out: {error.strerror}")
                done.add(name)
            if is_whole:
                return
            self.look()

    def _readable(self, name: str, lines: Iterator[bytes]) -> Iterator[bytes]:
        """Yield lines as far as they can be read."""
        try:
            yield from lines
        except OSError as error:
            warn(f"{self.path}/{name} is left out: {error.strerror}")

    def sources(self, name: str) -> list[str]:
        """Return the journals that a compacted one took in: its first line names them."""
        if not name.startswith(COMPACTED):
            return []
        try:
            with self.opened(name) as file:
                names = json.loads(file.readline(JOURNAL_LINE))["compacted"]
            # None of these names anything outside of the directory of journals.
            texts = [n for n in names if isinstance(n, str) and "/" not in n]
            return [name for name in texts if name.endswith(JOURNAL_SUFFIX)]
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return []

    def modified(self, name: str) -> float:
        """Return when one was last written to."""
        found = self.folder.status(name)
        return 0.0 if found is None else found.modified_ns / 1e9

    def has_ended(self, name: str, now: float) -> bool:
        """Tell whether this is a file that we can read, to which nobody has written for a week."""
        found = self.folder.status(name)
        if found is None or found.age(int(now * 1e9)) <= _ENDED_AFTER:
            return False
        with suppress(OSError):
            self.opened(name).close()
            return True
        return False

    def size(self, name: str) -> int:
        """Return how many bytes one has."""
        found = self.folder.status(name)
        return 0 if found is None else found.size

    def remove(self, name: str) -> None:
        """Remove one, if we may."""
        self.folder.discard(name)


def _parts(
    name: str, file: BinaryIO, done: set[str]
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield the journals in a file, of which a compacted one has several, but for those `done`.

    The lines of each are to be read before the next. `done` gets their names.
    """
    if not name.startswith(COMPACTED):
        yield name, _lines(file, JOURNAL_BYTES)
        return
    file.readline(JOURNAL_LINE)
    origin = name

    def origin_of(line: bytes) -> str:
        nonlocal origin
        if line.startswith(_FROM):
            with suppress(ValueError, RecursionError):  # somebody else's
                origin = str(json.loads(line)["from"])
        return origin

    for source, lines in groupby(_lines(file, JOURNAL_BYTES), origin_of):
        if source not in done:
            done.add(source)
            yield source, (line for line in lines if not line.startswith(_FROM))


def _lines(file: BinaryIO, most: int) -> Iterator[bytes]:
    """Yield the lines in the next `most` bytes of a file.

    For a line that is longer than any of ours, and for the rest of a file that is larger, an
    empty line is yielded. What follows the last end of a line is still being written.
    """
    inside = False
    while most > 0 and (line := file.readline(min(most, JOURNAL_LINE))):
        most -= len(line)
        ended = line[-1] == _END
        if not inside and (ended or len(line) == JOURNAL_LINE):
            yield line if ended else b""
        inside = not ended
    if most <= 0 and file.read(1):
        yield b""


def _parsed(line: bytes) -> Run | None:
    """Read a line; None: it is no run, or holds a number or text that no worker writes."""
    usual = _usual.fullmatch(line.decode("latin-1"))
    run = _as_json(line) if usual is None else _as_usual(usual.groups())
    if run is None:
        return None
    sound = (
        0 <= run.start <= _LONGEST
        and 0 <= run.duration <= _LONGEST
        and 0 <= run.cpu <= _LONGEST
        and 0 <= run.slot <= _LARGEST
        and 0 <= run.peak_kib <= _LARGEST
        and 0 <= run.batch <= _LARGEST
        and 0 <= run.stamp <= MAX_STAMP
        and (run.exit is None or 0 <= run.exit <= _LARGEST)
    )
    return run if sound else None


def _as_usual(fields: tuple[str, ...]) -> Run:
    (
        id_,
        start,
        duration,
        result,
        exit_,
        signal,
        host,
        job,
        slot,
        peak_kib,
        cpu,
        log,
        text,
        timed_out,
        output,
        logged,
        stamp,
        batch,
    ) = fields
    return Run(
        id_,
        float(start),
        float(duration),
        result,
        None if exit_ == "null" else int(exit_),
        None if signal == "null" else signal[1:-1],
        host,
        job,
        int(slot),
        int(peak_kib),
        float(cpu),
        log,
        text,
        timed_out == "true",
        output,
        logged,
        int(stamp),
        int(batch),
    )


def _as_json(line: bytes) -> Run | None:
    try:
        text = line.decode("utf-8", "surrogatepass")
        values, end = _decoder.raw_decode(text)  # quicker than `json.loads`
        if text[end:].strip():
            return None
        try:
            run = Run._make(_values_of(values))
        except KeyError:
            run = Run._make(_values_of({**Run._field_defaults, **values}))
        return run if tuple(map(type, run)) in _SOUND else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _acked_in(line: bytes) -> tuple[str, float] | None:
    """Read the line that says that a run was acked, as far as it names the run."""
    if not line.startswith(_ACKED_LINE):
        return None
    said = _acked.fullmatch(line.decode("latin-1"))
    return None if said is None else (said[1], float(said[2]))


def _granted_in(line: bytes) -> Granted | None:
    """Read the line that says what a job may use; None: it is none as workers write it."""
    if not line.startswith(
        _GRANTED_LINE
    ):  # at once, as anybody may write a million others
        return None
    from ddmq.untrusted import parsed  # workers themselves read none

    try:
        row = parsed(line)[_GRANTED]
    except (ValueError, KeyError):
        return None
    if not isinstance(row, dict):
        return None
    start, slots, *limits = [_bounded(row.get(name)) for name in Granted._fields]
    if start is None or slots is None or limits == [None, None]:
        return None
    return Granted(start, int(slots), *limits)


def _output_in(line: bytes) -> str | None:
    """Read the line that names the directory of results; None: it is none as workers write it."""
    if not line.startswith(_OUTPUT_LINE):  # of a million others, none is parsed
        return None
    from ddmq.untrusted import parsed  # workers themselves read none

    try:
        directory = parsed(line)[_OUTPUT]
    except (ValueError, KeyError):
        return None
    is_path = isinstance(directory, str) and directory.startswith("/")
    return directory if is_path and "\0" not in directory else None


def _bounded(value: Any) -> float | None:
    is_number = type(value) in (int, float)
    return float(value) if is_number and 0 <= value <= _LARGEST else None


def durations(queue_path: str) -> list[float]:
    """Return how long recent successful runs took, in seconds; none, if nobody can tell."""
    found: list[float] = []
    with suppress(OSError), _Journals(queue_path) as journals:
        for name in sorted(journals.names, key=journals.modified)[-_RECENT_FILES:]:
            with suppress(OSError), journals.opened(name) as file:
                file.seek(max(os.fstat(file.fileno()).st_size - _RECENT_BYTES, 0))
                runs = filter(None, map(_parsed, _lines(file, _RECENT_BYTES)))
                found += [run.duration for run in runs if run.result in _DONE]
    return found


def compact(queue_path: str, now: float) -> int:
    """Merge the journals of workers that ended into few files; return how many they were.

    The first line of each names them, so that a crash before they are removed doubles nothing.
    """
    try:
        with _Journals(queue_path) as journals:
            for each in journals.names:
                for name in journals.sources(each):  # left by a compaction that died
                    journals.remove(name)
        with _Journals(queue_path) as journals:
            ended = [name for name in journals.names if journals.has_ended(name, now)]
            done: set[str] = set()
            for group in _grouped(ended, journals):
                in_this = set(done)
                if len(group) > 1:
                    with suppress(FileNotFoundError):  # others merge the same just now
                        _merge(journals, group, in_this)
                        done = in_this
    except OSError as error:
        raise StorageError(error) from error
    return len(ended)


def tidy(queue_path: str, now: float) -> None:
    """Merge some journals of workers that ended, where there are many: a worker's part in it.

    So their number stays bounded, whoever works. It looks at a hundred of them at most.
    """
    with suppress(OSError), _Journals(queue_path) as journals:
        if len(journals.names) <= _MANY:
            return
        start = random_below(len(journals.names))
        some = (journals.names[start:] + journals.names[:start])[:_LOOKED_AT]
        ended = [name for name in some if journals.has_ended(name, now)]
        small = [name for name in ended if journals.size(name) <= _SMALL]
        group = next(_grouped(small, journals))
        if len(group) > 1:
            _merge(journals, group, set())


def _grouped(names: list[str], journals: _Journals) -> Iterator[list[str]]:
    """Yield journals that fit together into one that is read to its end."""
    group: list[str] = []
    total = JOURNAL_LINE
    for name in names:
        size = journals.size(name) + _FROM_BYTES + len(json.dumps(name))
        if group and (len(group) == _MERGED or total + size > JOURNAL_BYTES):
            yield group
            group, total = [], JOURNAL_LINE
        group.append(name)
        total += size
    yield group  # which may be empty


def _merge(journals: _Journals, names: list[str], done: set[str]) -> None:
    """Write what is sound in some journals to one, and remove them.

    What is `done` is in another one already: two clients may merge the same at the same time.
    """
    folder, draft = journals.folder, f".{new_token()}"
    try:
        with open(folder.new_file(draft, _MODE), "wb") as merged:
            mode = folder.own_status().st_mode
            if is_shared(mode):  # all who could read them can read this one
                os.fchmod(merged.fileno(), mode & _MODE)
            us = _writer_of(merged)
            merged.write(json.dumps({"compacted": names}).encode() + b"\n")
            for name in names:
                with journals.opened(name) as file:
                    # The merged file is ours, so it names no directory that another user named.
                    is_ours = _writer_of(file) == us
                    for source, lines in _parts(name, file, done):
                        merged.write(json.dumps({"from": source}).encode() + b"\n")
                        for line in lines:
                            read = _parsed(line) or _acked_in(line) or _granted_in(line)
                            if read is not None or (is_ours and _output_in(line)):
                                merged.write(line)
            merged.flush()
            os.fsync(merged.fileno())
        folder.move(draft, folder, f"{COMPACTED}{new_token()}{JOURNAL_SUFFIX}")
    except OSError:
        folder.discard(draft)
        raise
    for name in names:
        journals.remove(name)


def _writer_of(file: BinaryIO) -> int:
    """Return the user id of the only user who can have written a file; `_SEVERAL`: others can."""
    found = os.fstat(file.fileno())
    return _SEVERAL if found.st_mode & ~_MODE & 0o666 else found.st_uid


def beginning(text: str) -> str:
    """Return as much of a message's text as a journal keeps; `…` stands for the rest."""
    return text if len(text) <= _MOST_TEXT else f"{text[: _MOST_TEXT - 1]}…"


def told(run: Run) -> str:
    """Return one run in words, for people: what became of it, when and where, of which text."""
    return (
        f"{date(run.start)}  {run.id}  {run.result:<8} {how(run):<9} {run.duration:>9.2f} s"
        f"  {run.peak_kib // 1024:>6} MiB  {where(run)}  {run.text}"
    ).rstrip()


def how(run: Run) -> str:
    """Return in words how a run ended."""
    if run.timed_out:
        return "timed out"
    if run.signal is None and run.exit is None:
        return "answered"
    return run.signal or f"exit {run.exit}"


def where(run: Run) -> str:
    """Return the host of a run, and the job if there was one."""
    return run.host + (f" job {run.job}" if run.job else "")
