"""Dead letters: what failed for good, and what is no message, each with its reason in a note."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from ddmq.fs import IMMOVABLE
from ddmq.log import warn
from ddmq.names import FOREIGN, NOTE_SUFFIX, Dead, Entry, new_id, new_token

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ddmq.clock import Clock
    from ddmq.fs import FileSystem

#: The most bytes of a note that are read.
MAX_NOTE = 1 << 20


class DeadLetters:
    """The directory `dead/` of one queue. Safe to use from several threads."""

    def __init__(self, queue_path: str, fs: FileSystem, clock: Clock) -> None:
        self.path = f"{queue_path}/dead"
        self.mode: int | None = None
        """The mode of new files, where the umask must not decide."""
        self._queue_path = queue_path
        self._fs = fs
        self._clock = clock
        self._told: set[str] = set()

    def all(self) -> list[Dead]:
        """Return the dead letters by priority and stamp."""
        return sorted(_parsed(self._fs.listing(self.path)))

    def count(self) -> int:
        """Return how many there are, and what is no message counts as one."""
        names = self._fs.listing(self.path)
        return sum(not name.endswith(NOTE_SUFFIX) for name in names)

    def path_of(self, dead: Dead) -> str:
        """Return the path of the file of a dead letter."""
        return f"{self.path}/{dead.filename}"

    def set_aside(self, path: str, reason: str = "not a message of ddmq") -> bool:
        """Move something that is no message here; False where it can't be moved."""
        entry = Entry(0, self._clock.time_ns(), FOREIGN + new_id())
        dead = Dead(entry, new_token(), "foreign")
        try:
            moved = self._fs.rename(path, self.path_of(dead))
        except OSError as error:
            if error.errno not in IMMOVABLE:
                raise
            if path not in self._told:
                self._told.add(path)
                warn(
                    f"{path} is no message, and can't be moved to dead/: {error.strerror}"
                )
            return False
        if moved:
            where = os.path.relpath(path, self._queue_path)
            self.write_note(dead, {"reason": f"{reason}; it was {where}"})
        return True

    # Notes

    def write_note(self, dead: Dead, note: Mapping[str, Any]) -> None:
        """Say more about a dead letter than its name can. Without it, its name must do."""
        draft = f"{self._queue_path}/tmp/{new_id()}"
        data = json.dumps(note).encode()
        try:
            self._fs.create_own(draft, data, sync=False, mode=self.mode)
            self._fs.replace(draft, self._note_path(dead))
        except OSError as error:
            self._fs.discard(draft)
            id_ = dead.entry.id
            warn(f"message {id_}: the reason could not be written: {error}")

    def note(self, dead: Dead) -> Mapping[str, Any]:
        """Return the note of a dead letter, which may be empty."""
        try:
            note = json.loads(self._fs.read(self._note_path(dead), MAX_NOTE))
        except (OSError, ValueError, RecursionError, MemoryError):
            return {}
        return note if isinstance(note, dict) else {}

    def discard_note(self, dead: Dead) -> None:
        """Remove the note of what is no dead letter any more."""
        self._fs.discard(self._note_path(dead))

    def notes_alone(self) -> list[str]:
        """Return the paths of notes without a dead letter."""
        names = self._fs.listing(self.path)
        known = {dead.note for dead in _parsed(names)}
        return [
            f"{self.path}/{name}"
            for name in names
            if name.endswith(NOTE_SUFFIX) and name not in known
        ]

    def _note_path(self, dead: Dead) -> str:
        return f"{self.path}/{dead.note}"


def _parsed(names: Iterable[str]) -> Iterator[Dead]:
    return (dead for name in names if (dead := Dead.parse(name)) is not None)
