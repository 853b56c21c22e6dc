"""The `ddmq.yaml` files of a root and its queues: read afresh, changed by one at a time."""

from __future__ import annotations

import stat
from contextlib import suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from ddmq.clock import Clock
from ddmq.errors import InvalidSettings, UnknownLayout
from ddmq.locks import exclusive
from ddmq.log import warn
from ddmq.names import SETTINGS_FILE, new_token
from ddmq.patience import awaited
from ddmq.settings import (
    MAX_FILE,
    Settings,
    check_layout,
    checked,
    decoded,
    edited,
    layered,
    parse,
    template,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ddmq.fs import FileSystem

#: Seconds for which those who write wait until a file is removed that somebody dead left.
_DRAFTS_FOR = 1.0
#: Seconds for which a running client believes what it read.
REREAD_EVERY = 30.0
#: Seconds for which one that only looks believes that the layout is still the same.
LAYOUT_EVERY = 300.0
_DRAFT = f".{SETTINGS_FILE}."


class SettingsFile:
    """One `ddmq.yaml`: of a root, or of a queue, which names its layout."""

    def __init__(
        self, directory: str, fs: FileSystem, *, of_queue: bool = False
    ) -> None:
        self.path = f"{directory}/{SETTINGS_FILE}"
        self._directory = directory
        self._fs = fs
        self._of_queue = of_queue
        self._known: tuple[bytes, Mapping[str, Any]] = (b"", {})

    def read(self) -> Mapping[str, Any]:
        """Return what the file sets; its directory is initiated if it can be read.

        Raises FileNotFoundError, InvalidSettings or UnknownLayout.
        """
        data = self._fs.read(self.path, MAX_FILE)
        known, values = self._known
        if data != known:
            values = parse(data, self.path, of_queue=self._of_queue)
            self._known = data, values
        return values

    def check_layout(self) -> None:
        """Raise UnknownLayout or InvalidSettings unless it names a layout that we know."""
        check_layout(decoded(self._fs.read(self.path, MAX_FILE), self.path), self.path)

    def initiate(self, mode: int | None = None) -> bool:
        """Write a file that sets nothing; False when there is one.

        Whoever calls this holds the lock of the directory.
        """
        self._remove_drafts()
        if self.exists():
            return False
        self._replace(template(of_queue=self._of_queue).encode(), mode)
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
            before = decoded(data, self.path)
            text = edited(before, changes, unset, self.path, of_queue=self._of_queue)
            self._replace(text.encode(), self._mode())

    def _mode(self) -> int | None:
        found = self._fs.status(self.path)
        return stat.S_IMODE(found.mode) if found is not None else None

    def _replace(self, data: bytes, mode: int | None) -> None:
        draft = f"{self._directory}/{_DRAFT}{new_token()}"
        self._fs.create_own(draft, data, sync=True, mode=mode)
        replacing = Clock().begin(partial(self._fs.replace, draft, self.path))
        try:
            awaited(replacing, lambda: f"{self.path} can't be replaced yet")
        except OSError:
            self._fs.discard(draft)
            raise
        self._fs.sync_directory(self._directory)

    def _remove_drafts(self) -> None:
        """Remove what writers left that died here; there is none alive beside us.

        The file server may wait for the dead one; we don't.
        """
        for name in self._fs.hidden(self._directory):
            if name.startswith(_DRAFT):
                draft = f"{self._directory}/{name}"
                removing = Clock().begin(partial(self._fs.discard, draft))
                if removing.ends_within(_DRAFTS_FOR):
                    removing.result()


class LayeredSettings:
    """The settings that hold for one queue, read again twice a minute."""

    def __init__(self, root: SettingsFile, queue: SettingsFile, clock: Clock) -> None:
        self._files = (root, queue)
        self._clock = clock
        self._known: Settings | None = None
        self._read_at = float("-inf")
        self._limit = Settings().max_message_size

    def current(self, age: float = REREAD_EVERY) -> Settings:
        """Return the settings, as they were at most `age` seconds ago.

        Of files that became invalid, the last good state holds. Of a queue whose layout
        we don't know, or not any more, nothing holds.
        """
        now, known = self._clock.monotonic(), self._known
        if known is None or not 0 <= now - self._read_at < age:
            self._read_at = now
            known = self._known = self._reread(known)
            self._limit = known.max_message_size
        return known

    def limit(self, age: float) -> int:
        """Return how many bytes a message may have, as it was at most `age` seconds ago.

        It was read when the queue was opened. What is not read now, of a queue that is gone or
        of another layout maybe, leaves what was read last: whoever holds a message goes on.
        """
        if age < inf:
            with suppress(OSError, UnknownLayout, InvalidSettings):
                self.current(age)
        return self._limit

    def _reread(self, known: Settings | None) -> Settings:
        try:
            root, queue = self._files
            own = queue.read()  # first, since it tells whether we may be here
            return layered(root.read(), own)
        except UnknownLayout:
            self._known = None  # so that the next call asks again
            raise
        except InvalidSettings as error:
            if known is None:
                raise
            warn(f"{error}; the settings read before stay in force")
            return known

    def forget(self) -> None:
        """Read the files at the next call."""
        self._read_at = float("-inf")
