"""The `ddmq.yaml` files of a root and its queues, as they are on disk."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ddmq.clock import Clock
from ddmq.errors import InvalidSettings, UnknownLayout, warn
from ddmq.settings import (
    MAX_FILE,
    Layer,
    Limit,
    Settings,
    check_layout,
    checked,
    decoded,
    edited,
    layered,
    parse,
    template,
)
from ddmq.storage.background import wait_for
from ddmq.storage.names import SETTINGS_FILE, new_token

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ddmq.storage.filesystem import FileSystem

#: Seconds for which a writer waits until a draft is removed that a dead writer left.
_DRAFTS_FOR = 1.0
#: Seconds for which a running client believes what it read.
REREAD_EVERY = 30.0
#: Seconds for which a client that only looks believes that the layout is still the same.
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
        self._known: tuple[bytes, Layer] = (b"", Layer())

    def read(self) -> Layer:
        """Return what the file sets.

        Raises FileNotFoundError when nobody has initiated the directory, InvalidSettings or
        UnknownLayout.
        """
        data = self._fs.read(self.path, MAX_FILE)
        known, layer = self._known
        if data != known:
            layer = parse(data, self.path, of_queue=self._of_queue)
            self._known = data, layer
        return layer

    def check_layout(self) -> None:
        """Raise UnknownLayout or InvalidSettings unless the file names a layout that we know."""
        check_layout(decoded(self._fs.read(self.path, MAX_FILE), self.path), self.path)

    def initiate(self, mode: int | None = None) -> bool:
        """Write a file that sets nothing; False when there is one already.

        The caller holds the lock of the directory.
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
        self, changes: Mapping[str, object], unset: Iterable[str], lock_timeout: float
    ) -> None:
        """Set and unset keys: all of them or none, and one client at a time."""
        from ddmq.storage.locks import exclusive  # rarely needed

        layer = checked(dict(changes), self.path)
        with exclusive(f"{self._directory}/lock", lock_timeout):
            self._remove_drafts()
            before = decoded(self._fs.read(self.path, MAX_FILE), self.path)
            text = edited(before, layer, unset, self.path, of_queue=self._of_queue)
            found = self._fs.status(self.path)
            # The new file is ours. Whoever made the old one may not make it one to be run.
            mode = found.mode & 0o666 if found is not None else None
            self._replace(text.encode(), mode)

    def _replace(self, data: bytes, mode: int | None) -> None:
        draft = f"{self._directory}/{_DRAFT}{new_token()}"
        self._fs.create_own(draft, data, sync=True, mode=mode)
        replacing = Clock().begin(partial(self._fs.replace, draft, self.path))
        try:
            wait_for(replacing, lambda: f"{self.path} can't be replaced yet")
        except OSError:
            self._fs.discard(draft)
            raise
        self._fs.sync_directory(self._directory)

    def _remove_drafts(self) -> None:
        """Remove the drafts of writers that died; we hold the lock, so no other writer lives.

        The file server may wait for the dead writer. We don't.
        """
        for name in self._fs.hidden(self._directory):
            if name.startswith(_DRAFT):
                draft = f"{self._directory}/{name}"
                removing = Clock().begin(partial(self._fs.discard, draft))
                if removing.ends_within(_DRAFTS_FOR):
                    removing.result()


class LayeredSettings(Limit):
    """The settings that hold for one queue. Its files are read again twice a minute."""

    def __init__(self, root: SettingsFile, queue: SettingsFile, clock: Clock) -> None:
        self._files = (root, queue)
        self._clock = clock
        self.known: Settings | None = None
        """As they were last read; None: they must be read before anything else is done."""
        self.read_at = float("-inf")

    def current(self, age: float = REREAD_EVERY) -> Settings:
        """Return the settings, as they were at most `age` seconds ago.

        When a file became invalid, the last good settings hold. When the queue has a layout
        that we don't know, UnknownLayout is raised at every call.
        """
        now, known = self._clock.monotonic(), self.known
        if known is not None and 0 <= now - self.read_at < age:
            return known
        self.read_at = now
        root, queue = self._files
        try:
            own = queue.read()  # first, since it names the layout
            known = layered(root.read(), own)
        except UnknownLayout:
            self.known = None  # so that the next call asks again
            raise
        except InvalidSettings as error:
            if known is None:
                raise
            warn(f"{error}; the settings read before stay in force")
        self.known, self.max_bytes = known, known.max_message_size
        return known

    def reread(self) -> int:
        """Return how many bytes a message may have now.

        Unlike `current`, this raises nothing. The files may be unreadable: the queue is gone,
        say, or has another layout. Then the limit that was read last holds, so that a client
        can go on with the messages that it has.
        """
        with suppress(OSError, UnknownLayout, InvalidSettings):
            self.current(0)
        return self.max_bytes

    def forget(self) -> None:
        """Read the files at the next call."""
        self.read_at = float("-inf")
