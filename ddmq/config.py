"""The `ddmq.yaml` files of a root and its queues: read afresh, changed by one at a time."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

from ddmq.errors import InvalidSettings
from ddmq.locks import exclusive
from ddmq.log import warn
from ddmq.names import SETTINGS_FILE, new_token
from ddmq.settings import (
    MAX_FILE,
    Settings,
    checked,
    decoded,
    edited,
    layered,
    parse,
    template,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ddmq.clock import Clock
    from ddmq.fs import FileSystem

#: Seconds for which a running client believes what it read.
REREAD_EVERY = 30.0
_DRAFT = f".{SETTINGS_FILE}."


class SettingsFile:
    """One `ddmq.yaml`."""

    def __init__(self, directory: str, fs: FileSystem) -> None:
        self.path = f"{directory}/{SETTINGS_FILE}"
        self._directory = directory
        self._fs = fs
        self._known: tuple[bytes, Mapping[str, Any]] = (b"", {})

    def read(self) -> Mapping[str, Any]:
        """Return what the file sets; its directory is initiated if it can be read.

        Raises FileNotFoundError or InvalidSettings.
        """
        data = self._fs.read(self.path, MAX_FILE)
        known, values = self._known
        if data != known:
            values = parse(data, self.path)
            self._known = data, values
        return values

    def initiate(self, mode: int | None = None) -> bool:
        """Write a file that sets nothing; False when there is one.

        Whoever calls this holds the lock of the directory.
        """
        self._remove_drafts()
        if self.exists():
            return False
        self._replace(template().encode(), mode)
        return True

    def exists(self) -> bool:
        """Tell whether the directory is initiated."""
        return self._fs.status(self.path) is not None

    def change(
        self, changes: Mapping[str, Any], unset: Iterable[str], lock_timeout: float
    ) -> None:
        """Set and unset keys: all of it or nothing, and one client at a time."""
        checked(dict(changes), self.path)
        with exclusive(f"{self._directory}/lock", lock_timeout):
            self._remove_drafts()
            data = self._fs.read(self.path, MAX_FILE)
            text = edited(decoded(data, self.path), changes, unset, self.path)
            self._replace(text.encode(), self._mode())

    def _mode(self) -> int | None:
        found = self._fs.status(self.path)
        return stat.S_IMODE(found.mode) if found is not None else None

    def _replace(self, data: bytes, mode: int | None) -> None:
        draft = f"{self._directory}/{_DRAFT}{new_token()}"
        self._fs.create_own(draft, data, sync=True, mode=mode)
        try:
            self._fs.replace(draft, self.path)
        except OSError:
            self._fs.discard(draft)
            raise
        self._fs.sync_directory(self._directory)

    def _remove_drafts(self) -> None:
        """Remove what writers left that died here; there is none alive beside us."""
        for name in self._fs.hidden(self._directory):
            if name.startswith(_DRAFT):
                self._fs.discard(f"{self._directory}/{name}")


class LayeredSettings:
    """The settings that hold for one queue, read again twice a minute."""

    def __init__(self, root: SettingsFile, queue: SettingsFile, clock: Clock) -> None:
        self._files = (root, queue)
        self._clock = clock
        self._known: Settings | None = None
        self._read_at = float("-inf")

    def current(self) -> Settings:
        """Return the settings. Of files that became invalid, the last good state holds."""
        now = self._clock.monotonic()
        if self._known is None or not 0 <= now - self._read_at < REREAD_EVERY:
            self._read_at = now
            self._known = self._reread()
        return self._known

    def _reread(self) -> Settings:
        try:
            return layered(*(file.read() for file in self._files))
        except InvalidSettings as error:
            if self._known is None:
                raise
            warn(f"{error}; the settings read before stay in force")
            return self._known

    def forget(self) -> None:
        """Read the files at the next call."""
        self._read_at = float("-inf")
