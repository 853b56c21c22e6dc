"""One line of JSON per run, one file per worker, read together by `ddmq log`."""

from __future__ import annotations

import errno
import json
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from ddmq.fs import FileSystem
from ddmq.log import warn
from ddmq.names import new_token

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ddmq.clock import Clock

#: Where the journals of a queue are, below its directory.
DIRECTORY = "journal"
#: Bytes after which a worker goes on in another file.
_ROTATED = 16 << 20
#: Seconds for which lines are collected: a file server is not asked to store each alone.
_FLUSH_EVERY = 1.0
#: How much of how many journals tells how long messages take.
_RECENT_FILES, _RECENT_BYTES = 20, 1 << 18
_COMPACTED = "compacted-"
_SUFFIX = ".jsonl"
#: Seconds without a line after which a journal's worker is taken for ended.
_ENDED_AFTER = 7 * 86400.0


class Run(NamedTuple):
    """One run of a command, as a line of the journal."""

    id: str
    """Of the message."""
    start: float
    """Seconds since 1970."""
    duration: float
    """Seconds."""
    result: str
    """acked, failed, dead, released, moved or lost."""
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


class Journal:
    """The journal of one worker. Nothing depends on it: what can't be written is said once."""

    def __init__(
        self, queue_path: str, host: str, clock: Clock, mode: int | None
    ) -> None:
        self._directory = f"{queue_path}/{DIRECTORY}"
        self._name = f"{host}-{os.getpid()}-{new_token()}"
        self._clock = clock
        self._mode = mode
        self._lines: list[str] = []
        self._flushed = clock.monotonic()
        self._file: int | None = None
        self._files = self._written = 0
        self._broken = False

    def add(self, run: Run) -> None:
        """Note a run; it is on disk a second later."""
        self._lines.append(json.dumps(run._asdict()) + "\n")
        if self._clock.monotonic() - self._flushed >= _FLUSH_EVERY:
            self.flush()

    def due_in(self) -> float | None:
        """Return the seconds until the next flush, None when there is nothing to write."""
        if not self._lines:
            return None
        return max(self._flushed + _FLUSH_EVERY - self._clock.monotonic(), 0.0)

    def flush(self) -> None:
        """Write the lines that were collected."""
        self._flushed = self._clock.monotonic()
        lines, self._lines = self._lines, []
        if not lines or self._broken:
            return
        try:
            self._write("".join(lines).encode())
        except OSError as error:
            self._broken = True
            warn(f"no journal is kept: {error}")

    def _write(self, data: bytes) -> None:
        if self._file is None or self._written > _ROTATED:
            self._open_next()
        assert self._file is not None
        while data:
            written = os.write(self._file, data)
            self._written += written
            data = data[written:]

    def _open_next(self) -> None:
        self.close()
        fs = FileSystem()
        if fs.mkdir(self._directory) and self._mode is not None:
            fs.chmod(self._directory, self._mode)
        fs.require_directory(self._directory)  # no link to somewhere else
        self._files, self._written = self._files + 1, 0
        path = f"{self._directory}/{self._name}.{self._files}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o666)
        if self._mode is not None:
            os.fchmod(self._file, self._mode & 0o666)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def read(queue_path: str) -> Iterator[Run]:
    """Yield the runs in all journals of a queue, in no order; a damaged line is left out.

    So is a journal that can't be read, which is told.
    """
    files = _journals(queue_path)
    merged = {name for path in files for name in _sources(path)}
    for path in files:
        if os.path.basename(path) not in merged:
            try:
                with _opened(path) as lines:
                    yield from _runs(lines)
            except FileNotFoundError:  # somebody compacts them
                continue
            except OSError as error:
                warn(f"{path} is left out: {error.strerror}")


def _opened(path: str) -> BinaryIO:
    """Open a journal; OSError where somebody planted a link, a FIFO or a device."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
    file = open(os.open(path, flags), "rb")  # noqa: SIM115 - whoever asked closes it
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "not an ordinary file", path)


def _journals(queue_path: str) -> list[str]:
    directory = f"{queue_path}/{DIRECTORY}"
    try:
        names = FileSystem().listing(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(f"{directory}/{name}" for name in names if name.endswith(_SUFFIX))


def _runs(lines: Iterator[bytes] | Any) -> Iterator[Run]:
    for line in lines:
        run = _parsed(line)
        if run is not None:
            yield run


def _parsed(line: bytes) -> Run | None:
    try:
        values = json.loads(line)
        return Run(**{field: values[field] for field in Run._fields})
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _sources(path: str) -> list[str]:
    """Return the journals that a compacted one took in: its first line names them."""
    if not os.path.basename(path).startswith(_COMPACTED):
        return []
    try:
        with _opened(path) as lines:
            names = json.loads(lines.readline())["compacted"]
        return [name for name in names if _may_be_journal(name)]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return []


def _may_be_journal(name: object) -> bool:
    """Tell whether this names a journal, and nothing outside of their directory."""
    return isinstance(name, str) and "/" not in name and name.endswith(_SUFFIX)


def durations(queue_path: str) -> list[float]:
    """Return how long recent successful runs took, in seconds."""
    files = sorted(_journals(queue_path), key=_modified)[-_RECENT_FILES:]
    found = []
    for path in files:
        with suppress(OSError), _opened(path) as lines:
            lines.seek(max(os.fstat(lines.fileno()).st_size - _RECENT_BYTES, 0))
            found += [run.duration for run in _runs(lines) if run.result == "acked"]
    return found


def _is_file(path: str) -> bool:
    found = FileSystem().status(path)
    return found is not None and found.is_file


def _modified(path: str) -> float:
    try:
        return os.lstat(path).st_mtime
    except FileNotFoundError:
        return 0.0


def _age(path: str, now: float) -> float:
    """Return for how many seconds nobody has written to a journal; one that is gone: 0."""
    found = FileSystem().status(path)
    return 0.0 if found is None else found.age(int(now * 1e9))


def compact(queue_path: str, now: float) -> int:
    """Merge the journals of workers that ended into one file; return how many they were.

    Its first line names them, so that a crash before they are removed doubles nothing.
    """
    for path in _journals(queue_path):
        for name in _sources(path):  # left by a compaction that died
            with suppress(OSError):
                os.unlink(f"{os.path.dirname(path)}/{name}")
    files = [path for path in _journals(queue_path) if _is_file(path)]
    ended = [path for path in files if _age(path, now) > _ENDED_AFTER]
    if len(ended) > 1:
        _merge(f"{queue_path}/{DIRECTORY}", ended)
    return len(ended)


def _merge(directory: str, ended: list[str]) -> None:
    draft = f"{directory}/.{new_token()}"
    names = [os.path.basename(path) for path in ended]
    with open(draft, "xb") as merged:
        merged.write(json.dumps({"compacted": names}).encode() + b"\n")
        for path in ended:
            with _opened(path) as lines:
                merged.writelines(line for line in lines if _parsed(line) is not None)
        merged.flush()
        os.fsync(merged.fileno())
    os.replace(draft, f"{directory}/{_COMPACTED}{new_token()}.jsonl")
    for path in ended:
        os.unlink(path)


def told(run: Run | Mapping[str, Any]) -> str:
    """Return one run in words, for people."""
    values = run._asdict() if isinstance(run, Run) else run
    how = values["signal"] or f"exit {values['exit']}"
    where = values["host"] + (f" job {values['job']}" if values["job"] else "")
    return (
        f"{values['id']}  {values['result']:<8} {how:<8} {values['duration']:>9.2f} s"
        f"  {values['peak_kib'] // 1024:>6} MiB  {where}"
    )
