"""The `ddmq.yaml` files of a root and its queues: read afresh, changed by one at a time."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

from ddmq.errors import InvalidSettings
from ddmq.locks import exclusive
from ddmq.log import warn
from ddmq.names import SETTINGS_FILE, new_token
from ddmq.settings import MAX_FILE, Settings, checked, edited, layered, parse, template

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ddmq.clock import Clock
    from ddmq.fs import FileSystem

#: Seconds for which a running client believes what it read.
REREAD_EVERY = 30.0


class SettingsFile:
    """One `ddmq.yaml`."""

    def __init__(self, directory: str, fs: FileSystem) -> None:
        self.path = f"{directory}/{SETTINGS_FILE}"
        self._directory = directory
        self._fs = fs
        self._data = b""
        self._values: Mapping[str, Any] = {}

    def read(self) -> Mapping[str, Any]:
        """Return what the file sets; its directory is initiated if it can be read.

        Raises FileNotFoundError or InvalidSettings.
        """
        data = self._fs.read(self.path, MAX_FILE)
        if data != self._data:
            self._values = parse(data, self.path)
            self._data = data
        return self._values

    def initiate(self, mode: int | None = None) -> bool:
        """Write a file that sets nothing; False when there is one."""
        try:
            self._fs.create(self.path, template().encode(), sync=True, mode=mode)
        except FileExistsError:
            return False
        self._fs.sync_directory(self._directory)
        return True

    def change(
        self, changes: Mapping[str, Any], unset: Iterable[str], lock_timeout: float
    ) -> None:
        """Set and unset keys: all of it or nothing, and one client at a time."""
        checked(dict(changes), self.path)
        with exclusive(f"{self._directory}/lock", lock_timeout):
            text = self._fs.read(self.path, MAX_FILE).decode()
            self._replace(edited(text, changes, unset).encode())

    def _replace(self, data: bytes) -> None:
        found = self._fs.status(self.path)
        mode = stat.S_IMODE(found.mode) if found is not None else None
        draft = f"{self._directory}/.{SETTINGS_FILE}.{new_token()}"
        self._fs.create(draft, data, sync=True, mode=mode)
        self._fs.rename(draft, self.path)
        self._fs.sync_directory(self._directory)


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
