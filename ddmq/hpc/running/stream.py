"""What a command prints: passed on, and kept for the dead letter and the log."""

from __future__ import annotations

import os
import select
import stat
from contextlib import suppress
from functools import partial
from math import inf
from threading import Lock
from typing import TYPE_CHECKING
from weakref import finalize

from ddmq.errors import warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ddmq.clock import Clock
    from ddmq.hpc.folder import Folder

_CHUNK = 1 << 16
#: Bytes of the end that are always kept.
TAIL = 4096
#: Bytes after which an output takes no more, and of a line after which it is passed on in parts.
_FULL, _LONG_LINE = 1 << 16, 1 << 16
#: Bytes that a pipe takes at once when it takes any.
_AT_ONCE = select.PIPE_BUF
_TERMINAL = os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
#: Seconds between two looks at a reader that is waited for.
_LOOK = 0.01
#: Chunks read at one go: others must not wait for a command that prints a gigabyte.
_CHUNKS = 16


def unwaiting(descriptor: int) -> int:
    """Return a descriptor by which nobody waits for the reader, who may take nothing.

    A pipe that is ready takes `PIPE_BUF` bytes. A terminal that is ready may take less, and let
    the writer of a longer text wait until somebody reads. So it is opened once more, for us alone.
    """
    if os.isatty(descriptor):
        with suppress(OSError):  # it may belong to another user
            return os.open(f"/proc/self/fd/{descriptor}", _TERMINAL)
    return descriptor


class Output:
    """One of the worker's own outputs, which its commands share.

    A reader that is slow must not hold up the worker, which has leases to settle and signals to
    obey. So what can't be written at once waits here. While the output `is_full`, no command is
    asked for more, and none is started.
    """

    def __init__(
        self, descriptor: int, make_room: Callable[[], object] | None = None
    ) -> None:
        self.make_room = make_room
        """Called before anything is written, where a line stands in its place."""
        self._descriptor = own = unwaiting(descriptor)
        if own != descriptor:
            finalize(self, os.close, own)
        self.trouble = ""
        """Why something that was printed is lost, where there is still a reader."""
        self._waiting = bytearray()
        self._last: object = None
        self._poll = select.poll()
        self._poll.register(own, select.POLLOUT)
        #: The thread that renews leases has warnings to tell, too.
        self._lock = Lock()

    def write(self, source: object, data: bytes) -> None:
        """Write what a source printed, in a line of its own where another's has no end."""
        if not data:
            return
        with self._lock:
            if self._last not in (None, source):
                self._waiting += b"\n"
            self._waiting += data
            self._last = None if data.endswith(b"\n") else source
            self._flush()

    @property
    def is_above_line(self) -> bool:
        """Whether a line stands below what is written, so that nobody else may write there."""
        return self.make_room is not None

    @property
    def is_within_line(self) -> bool:
        """Whether what was written last has no end yet."""
        return self._last is not None or bool(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether so much waits that no more may come."""
        return len(self._waiting) > _FULL

    def flush(self) -> bool:
        """Write what can be written at once; False: some of it waits on."""
        with self._lock:
            return self._flush()

    def finish(self, seconds: float, clock: Clock) -> None:
        """Write all, unless its reader takes nothing for so many seconds."""
        since, left = clock.monotonic(), inf
        while not self.flush() and clock.monotonic() - since < seconds:
            if len(self._waiting) < left:
                since, left = clock.monotonic(), len(self._waiting)
            else:
                clock.sleep(_LOOK)

    def _flush(self) -> bool:
        if self._waiting and self.make_room is not None:
            self.make_room()
        try:
            while self._waiting and self._poll.poll(0):
                is_file = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
                most = len(self._waiting) if is_file else _AT_ONCE
                data = bytes(self._waiting[:most])
                del self._waiting[: os.write(self._descriptor, data)]
        except BlockingIOError:  # a terminal that was full all the same
            pass
        except BrokenPipeError:  # its reader has seen enough
            self._waiting.clear()
        except OSError as error:  # a disk is full, for a while perhaps
            self._waiting.clear()
            self.trouble = error.strerror or str(error)
        return not self._waiting


class Stream:
    """One output of a command: a pipe, read whenever something is in it.

    What comes belongs to `part`: to the messages that the command has now.
    """

    def __init__(
        self,
        spool: str,
        *,
        limit: int = 0,
        output: Output | None = None,
        lines: bool = False,
        group: bool = False,
        tag: str = "",
    ) -> None:
        """Open the pipe. What the arguments mean is told at `Part`."""
        self._output = output
        self._new_part = partial(
            Part, spool, limit=limit, output=output, lines=lines, group=group
        )
        self.part = self._new_part(tag=tag)
        self._is_over = False
        self.read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.read_end, False)

    def started(self) -> None:
        """Close our copy of the end that the command writes to."""
        os.close(self.write_end)

    def pump(self) -> bool:
        """Take what there is; False at its end."""
        for _ in range(_CHUNKS):
            try:
                data = os.read(self.read_end, _CHUNK)
            except BlockingIOError:
                return True
            if not data:
                self._is_over = True
                return False
            self.part.take(data)
        return True

    def cut(self, tag: str = "") -> Part:
        """Return the part that was, to be closed by the caller; what comes now is of the next."""
        part, self.part = self.part, self._new_part(tag=tag)
        return part

    @property
    def is_held_up(self) -> bool:
        """Whether nothing is to be taken, since what it is passed on to is full."""
        return self._output is not None and self._output.is_full

    def close(self) -> None:
        """Take what is left, up to a megabyte; do not wait for whoever holds the other end."""
        if not self._is_over:
            self.pump()
        os.close(self.read_end)
        self.part.close()


class Part:
    """What a command prints for its messages.

    `limit` bytes are kept in a nameless file in the directory `spool`, half of them from the
    beginning and half from the end. `output` gets a copy: all at once, in whole `lines` with a
    `tag` before each, or, where the part is a `group`, at the end what was kept.
    """

    def __init__(
        self,
        spool: str,
        *,
        limit: int,
        output: Output | None,
        lines: bool,
        group: bool,
        tag: str,
    ) -> None:
        self._output = output
        self._by_lines = lines or group or bool(tag)
        self._is_group = group
        self._tag = tag.encode()
        self._unended = b""
        self._within_line = False
        self._spool = spool
        self._is_full = False
        self._kept = _Ends(spool, limit) if limit else None
        self._tail = b""

    def take(self, data: bytes) -> None:
        """Keep what was printed, and pass it on."""
        self._tail = (self._tail + data)[-TAIL:]
        if self._kept is not None and not self._is_full:
            self._keep(self._kept, data)
        if self._output is not None and not self._is_group:
            self._pass_on(self._output, data)

    def _pass_on(self, output: Output, data: bytes) -> None:
        """Pass on whole lines, and keep what is not one yet."""
        if not self._by_lines:
            output.write(self, data)
            return
        whole, end, self._unended = (self._unended + data).rpartition(b"\n")
        if end:
            self._tell(output, whole + end)
        if len(self._unended) > _LONG_LINE:
            self._tell(output, self._unended)
            self._unended = b""

    def _pass_on_all(self, output: Output, kept: _Ends) -> None:
        """Pass on what was kept, as far as it can be read."""
        try:
            for piece in kept.pieces():
                self._pass_on(output, piece)
        except OSError as error:  # no fault of the command's
            what = f"an output is lost, and no more of it can be read, in {self._spool}"
            warn(f"{what}: {error.strerror}")

    def _tell(self, output: Output, text: bytes) -> None:
        if self._tag and text:
            inner = text.removesuffix(b"\n").replace(b"\n", b"\n" + self._tag)
            end = b"\n" if text.endswith(b"\n") else b""
            text = (b"" if self._within_line else self._tag) + inner + end
            self._within_line = not end
        output.write(self, text)

    def _keep(self, kept: _Ends, data: bytes) -> None:
        try:
            kept.add(data)
        except OSError as error:  # no fault of the command's
            self._is_full = True
            warn(f"an output is kept no further, in {self._spool}: {error.strerror}")

    def tail(self) -> str:
        """Return the last few kilobytes, as text."""
        return self._tail.decode("utf-8", "replace").strip()

    @property
    def has_log(self) -> bool:
        """Whether there is something to be saved."""
        return self._kept is not None and self._kept.has_something

    def save(self, folder: Folder, name: str) -> bool:
        """Write what was kept to a new file; False when there is nothing."""
        return self._kept is not None and self._kept.save(folder, name)

    def close(self) -> None:
        """Pass on what waits for the end, and forget what was kept."""
        if self._output is not None:
            if self._is_group and self._kept is not None:
                self._pass_on_all(self._output, self._kept)
            self._tell(self._output, self._unended)
        if self._kept is not None:
            self._kept.close()


class _Ends:
    """The beginning and the end of a long output, in a file of limited size."""

    def __init__(self, spool: str, limit: int) -> None:
        self._spool = spool
        self._half = max(limit // 2, 1)
        self._file: int | None = None
        self._size = 0

    @property
    def has_something(self) -> bool:
        """Whether anything was added."""
        return self._size > 0

    def add(self, data: bytes) -> None:
        """Keep `data`: after the beginning is full, in a ring."""
        if self._file is None:
            self._file = _nameless(self._spool)
        while data:
            place = self._place()
            room = (self._half if place < self._half else 2 * self._half) - place
            written = os.pwrite(self._file, data[:room], place)
            self._size += written
            data = data[written:]

    def _place(self) -> int:
        if self._size < self._half:
            return self._size
        return self._half + (self._size - self._half) % self._half

    def save(self, folder: Folder, name: str) -> bool:
        """Write both ends to a file, and what is missing between them."""
        if self._file is None:
            return False
        log = folder.new_file(name)
        try:
            for data in self.pieces():
                while data:
                    data = data[os.write(log, data) :]
        finally:
            os.close(log)
        return True

    def pieces(self) -> Iterator[bytes]:
        """Yield both ends, and between them how much is missing."""
        yield from self._read(0, min(self._size, self._half))
        in_ring = self._size - self._half
        if in_ring > self._half:
            yield f"\n[... {in_ring - self._half} bytes left out ...]\n".encode()
            oldest = self._place()
            yield from self._read(oldest, 2 * self._half - oldest)
            yield from self._read(self._half, oldest - self._half)
        elif in_ring > 0:
            yield from self._read(self._half, in_ring)

    def _read(self, start: int, size: int) -> Iterator[bytes]:
        while size > 0 and self._file is not None:
            data = os.pread(self._file, min(size, _CHUNK), start)
            start, size = start + len(data), size - len(data)
            yield data

    def close(self) -> None:
        """Forget it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _nameless(directory: str) -> int:
    """Open a new file that has no name: it goes when it is closed, or its owner dies."""
    with suppress(OSError, AttributeError):
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    path = f"{directory}/.ddmq-{os.urandom(8).hex()}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.unlink(path)
    return descriptor


def filled_file(spool: str, data: bytes) -> int:
    """Return a nameless file that holds `data`, to be read from its beginning.

    OSError: there is no room for it, for one.
    """
    descriptor = _nameless(spool)
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
    except OSError as error:
        os.close(descriptor)
        error.filename = spool
        raise
    return descriptor
