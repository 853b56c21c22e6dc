"""Exactly one result for each message, however often it ran."""

from __future__ import annotations

import os
from contextlib import suppress

#: Where results are while their command runs, below the output directory.
UNFINISHED = ".ddmq-unfinished"


class Result:
    """The file or directory that a command makes at `path`, which then becomes `<id>`.

    Each run has a path of its own, so two runs of one message never write to the same. What
    is kept last has replaced what was kept before; of directories, the first one stays.
    """

    def __init__(self, directory: str, id_: str, token: str) -> None:
        self._directory = directory
        self._final = f"{directory}/{id_}"
        self.path = f"{directory}/{UNFINISHED}/{id_}.{token}"
        os.makedirs(os.path.dirname(self.path), exist_ok=True)

    def keep(self, *, sync: bool) -> None:
        """Make what the command wrote the result, if it wrote anything.

        With `sync`, a file is on stable storage before its message may be acked.
        """
        if not os.path.lexists(self.path):
            return
        if sync:
            _sync(self.path)
        try:
            os.replace(self.path, self._final)
        except OSError:
            if not os.path.isdir(self._final):
                raise
            self.discard()  # an earlier run made the same directory
        if sync:
            _sync(self._directory)

    def discard(self) -> None:
        """Remove what the command wrote."""
        import shutil  # slow to import, and rarely needed

        if os.path.isdir(self.path) and not os.path.islink(self.path):
            shutil.rmtree(self.path, ignore_errors=True)
            return
        with suppress(OSError):
            os.unlink(self.path)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
