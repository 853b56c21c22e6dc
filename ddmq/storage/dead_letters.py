"""Dead letters: messages that failed for good, and what is no message, each with a reason."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq.errors import warn
from ddmq.message import InvalidContent
from ddmq.storage.filesystem import IMMOVABLE
from ddmq.storage.names import (
    FOREIGN,
    MAX_NOTE,
    NO_MESSAGE,
    NOTE_SUFFIX,
    NUMBER,
    READY,
    Entry,
    Grammar,
    entry_of,
    known,
    new_id,
    new_token,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ddmq.clock import Clock
    from ddmq.message import Content
    from ddmq.storage.filesystem import FileSystem
    from ddmq.storage.layout import Layout
    from ddmq.storage.store import MessageFiles


_dead = Grammar(rf"{NUMBER}\.{READY}\.([0-9a-f]{{16}})\.([a-z]{{1,20}})")


class Dead(NamedTuple):
    """A dead letter: a file in `dead/`, with a code for the reason."""

    entry: Entry
    token: str
    """The token of its last claim. A note with it is of the same death, and of no other."""
    code: str

    @property
    def filename(self) -> str:
        """The name in `dead/`."""
        entry = self.entry
        return f"{entry.priority}.{entry.filename}.{self.token}.{self.code}"

    @property
    def note(self) -> str:
        """The name of its note, beside it."""
        return f"{self.entry.id}.{self.token}.{self.code}{NOTE_SUFFIX}"

    @classmethod
    def parse(cls, filename: str) -> Dead | None:
        """Read a name found in `dead/`."""
        match = _dead.fullmatch(filename)
        if match is None:
            return None
        priority, *fields, token, code = match.groups()
        return cls(entry_of(priority, fields), token, code)


class DeadLetters:
    """The directory `dead/` of one queue. Safe to use from several threads."""

    def __init__(
        self, layout: Layout, fs: FileSystem, clock: Clock, files: MessageFiles
    ) -> None:
        self.path = layout.dead
        self._layout = layout
        self._fs = fs
        self._clock = clock
        self._files = files
        self._told: set[str] = set()

    def all(self) -> list[Dead]:
        """Return the dead letters by priority and stamp."""
        return sorted(known(Dead.parse, self._fs.listing(self.path)))

    def ids(self) -> list[str]:
        """Return the id of each; a file that is no message counts as one."""
        names = self._fs.listing(self.path)
        fields = (
            name.split(".", 3) for name in names if not name.endswith(NOTE_SUFFIX)
        )
        return [each[2] if len(each) > 2 else "" for each in fields]

    def path_of(self, dead: Dead) -> str:
        """Return the path of the file of a dead letter."""
        return f"{self.path}/{dead.filename}"

    def content(self, dead: Dead) -> Content | None:
        """Read the message of a dead letter; None: it holds none, or can't be read now."""
        path = self.path_of(dead)
        try:
            return self._files.read(path, dead.entry)
        except (FileNotFoundError, InvalidContent):
            return None
        except OSError as error:
            warn(f"{path}: its message can't be read now: {error.strerror}")
            return None

    def quarantine(self, path: str, reason: str = NO_MESSAGE) -> bool:
        """Move what is no message to `dead/`, with a note; False where it can't be moved."""
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
            where = os.path.relpath(path, self._layout.path)
            self.write_note(dead, {"reason": f"{reason}; it was {where}"})
        return True

    def redrive(self, dead: Dead, append: Callable[[str, Entry], bool]) -> bool:
        """Let `append` put a dead letter into the ready queue, with its counts at zero.

        It gets the priority that it was published with. False: it holds no message, or is gone.
        """
        content = self.content(dead)
        if content is None:
            return False
        priority = content.priority_or(dead.entry.priority)
        entry = Entry(priority, 0, dead.entry.id, policy=dead.entry.policy)
        moved = append(self.path_of(dead), entry)
        if moved:
            self.discard_note(dead)
        return moved

    # Notes

    def write_note(self, dead: Dead, note: Mapping[str, Any]) -> None:
        """Write what the name of a dead letter can't tell. If that fails, the name must do."""
        try:
            self._layout.put(self._note_path(dead), json.dumps(note).encode())
        except OSError as error:
            id_ = dead.entry.id
            warn(f"message {id_}: the reason could not be written: {error}")

    def note(self, dead: Dead) -> Mapping[str, Any]:
        """Return the note of a dead letter, which may be empty.

        Any member may write here, so the file may hold anything. What is no note, or too large,
        counts as empty.
        """
        from ddmq.untrusted import parsed  # rarely needed

        try:
            data = self._fs.read(self._note_path(dead), MAX_NOTE + 1)
            note = parsed(data) if len(data) <= MAX_NOTE else None
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def discard_note(self, dead: Dead) -> None:
        """Remove the note of a message that is no dead letter any more."""
        self._fs.discard(self._note_path(dead))

    def notes_alone(self) -> list[str]:
        """Return the paths of the notes that have no dead letter."""
        names = self._fs.listing(self.path)
        ours = {dead.note for dead in known(Dead.parse, names)}
        return [
            f"{self.path}/{name}"
            for name in names
            if name.endswith(NOTE_SUFFIX) and name not in ours
        ]

    def _note_path(self, dead: Dead) -> str:
        return f"{self.path}/{dead.note}"
