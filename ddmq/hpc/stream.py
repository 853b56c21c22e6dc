"""What a command prints: its end is kept for the dead letter, more of it for the log."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from ddmq.log import warn

if TYPE_CHECKING:
    from ddmq.hpc.folder import Folder

_CHUNK = 1 << 16
#: Bytes of the end that are always kept.
TAIL = 4096
#: Chunks read at one go: others must not wait for a command that prints a gigabyte.
_CHUNKS = 16


class Stream:
    """One output of a command: a pipe, read whenever something is in it.

    `passed_on` is a descriptor that gets a copy. `limit` bytes are kept in a nameless file
    in the directory `spool`, half of them from the beginning and half from the end.
    """

    def __init__(
        self, spool: str, *, limit: int = 0, passed_on: int | None = None
    ) -> None:
        self.read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.read_end, False)
        self._passed_on = passed_on
        self._spool = spool
        self._is_full = False
        self._kept = _Ends(spool, limit) if limit else None
        self._tail = b""

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
                return False
            self._take(data)
        return True

    def _take(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-TAIL:]
        if self._kept is not None and not self._is_full:
            self._keep(self._kept, data)
        if self._passed_on is not None:
            with suppress(OSError):  # whoever read it has seen enough
                os.write(self._passed_on, data)

    def _keep(self, kept: _Ends, data: bytes) -> None:
        try:
            kept.add(data)
        except OSError as error:  # no fault of the command's
            self._is_full = True
            warn(f"an output is kept no further, in {self._spool}: {error.strerror}")

    def tail(self) -> str:
        """Return the last few kilobytes, as text."""
        return self._tail.decode("utf-8", "replace").strip()

    def save(self, folder: Folder, name: str) -> bool:
        """Write what was kept to a new file; False when there is nothing."""
        return self._kept is not None and self._kept.save(folder, name)

    def close(self) -> None:
        """Take what is left, up to a megabyte, and wait for nobody who holds the other end."""
        self.pump()
        os.close(self.read_end)
        if self._kept is not None:
            self._kept.close()


class _Ends:
    """The beginning and the end of a long output, in a file of limited size."""

    def __init__(self, spool: str, limit: int) -> None:
        self._spool = spool
        self._half = max(limit // 2, 1)
        self._file: int | None = None
        self._size = 0

    def add(self, data: bytes) -> None:
        """Keep `data`: after the beginning is full, in a ring."""
        if self._file is None:
            self._file = _nameless(self._spool)
        while data:
            part = data[: self._room()]
            written = os.pwrite(self._file, part, self._place())
            self._size += written
            data = data[written:]

    def _place(self) -> int:
        if self._size < self._half:
            return self._size
        return self._half + (self._size - self._half) % self._half

    def _room(self) -> int:
        place = self._place()
        return (self._half if place < self._half else 2 * self._half) - place

    def save(self, folder: Folder, name: str) -> bool:
        """Write both ends to a file, and what is missing between them."""
        if self._file is None:
            return False
        log = folder.new_file(name)
        try:
            self._copy(log, 0, min(self._size, self._half))
            self._copy_ring(log)
        finally:
            os.close(log)
        return True

    def _copy_ring(self, target: int) -> None:
        in_ring = self._size - self._half
        if in_ring > self._half:
            missing = f"\n[... {in_ring - self._half} bytes left out ...]\n"
            os.write(target, missing.encode())
            oldest = self._place()
            self._copy(target, oldest, 2 * self._half - oldest)
            self._copy(target, self._half, oldest - self._half)
        elif in_ring > 0:
            self._copy(target, self._half, in_ring)

    def _copy(self, target: int, start: int, size: int) -> None:
        while size > 0 and self._file is not None:
            data = os.pread(self._file, min(size, _CHUNK), start)
            start, size = start + len(data), size - len(data)
            while data:
                data = data[os.write(target, data) :]

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
