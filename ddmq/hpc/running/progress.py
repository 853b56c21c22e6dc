"""How far a command is, as it says itself: a line in `$DDMQ_PROGRESS`.

That is a file of one slot on a local disk, beside the outputs. On another node, or in a container
without that directory, it is missing, and nothing else is in its place.
"""

from __future__ import annotations

import os
from contextlib import suppress

from ddmq.storage.names import new_token
from ddmq.storage.workers import MOST_TEXT

#: Bytes of the file's end in which the last line is looked for, and bytes that it may have.
_END, _MOST = 4096, 1 << 16
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class SlotProgress:
    """What the commands of one slot say, one after the other."""

    def __init__(self, spool: str) -> None:
        """Make the file in a directory; OSError: there is no room for it."""
        self.path = os.path.abspath(f"{spool}/ddmq-progress-{new_token()}")
        """Where commands write."""
        self.descriptor = os.open(self.path, _NEW, 0o600)
        """Its number, which others may need more."""

    def forget(self) -> None:
        """Forget what was said."""
        with suppress(OSError):  # then it says what it says
            os.ftruncate(self.descriptor, 0)

    def said(self) -> str:
        """Return the last line that says something; empty: there is none, or it can't be read."""
        try:
            size = os.fstat(self.descriptor).st_size
            data = os.pread(self.descriptor, _END, max(size - _END, 0))
        except OSError:  # that is no reason to end what runs
            return ""
        if size > _MOST:  # it goes on in less
            self.forget()
        lines = data.decode(errors="replace").splitlines()
        told = [line.strip("\0 \t") for line in lines if line.strip("\0 \t")]
        return told[-1][:MOST_TEXT] if told else ""

    def close(self) -> None:
        """Remove it."""
        with suppress(OSError):
            os.unlink(self.path)
        os.close(self.descriptor)
