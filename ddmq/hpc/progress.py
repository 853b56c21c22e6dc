"""How far a command is, as it says itself: a line in `$DDMQ_PROGRESS`.

That is a file of one slot, which is in no directory: it is this process's own, in memory, and
gone with it. Commands reach it by the path of a descriptor in `/proc`.
"""

from __future__ import annotations

import os
from contextlib import suppress

from ddmq.storage.workers import MOST_TEXT

#: Bytes of the file's end in which the last line is looked for.
_END = 4096


class Progress:
    """What the commands of one slot say, one after the other."""

    def __init__(self) -> None:
        """Make the file; OSError: there is no room for it, or this is not Linux."""
        try:
            self._file = os.memfd_create("ddmq-progress", os.MFD_CLOEXEC)
        except AttributeError as error:
            raise OSError(str(error)) from error

    @property
    def path(self) -> str:
        """Where commands write, as long as this process lives."""
        return f"/proc/{os.getpid()}/fd/{self._file}"

    @property
    def descriptor(self) -> int:
        """Its number, which others may need more."""
        return self._file

    def forget(self) -> None:
        """Forget what the last command said."""
        with suppress(OSError):  # somebody sealed it: then it says what it says
            os.ftruncate(self._file, 0)

    def said(self) -> str:
        """Return the last line that says something; empty: there is none."""
        start = max(os.fstat(self._file).st_size - _END, 0)
        lines = os.pread(self._file, _END, start).decode(errors="replace").splitlines()
        told = [line.strip() for line in lines if line.strip("\0 \t")]
        return told[-1][:MOST_TEXT] if told else ""

    def close(self) -> None:
        """Let it go."""
        os.close(self._file)
