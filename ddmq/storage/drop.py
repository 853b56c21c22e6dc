"""The directory `drop/` of one queue: any program may leave a file there as a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddmq.message import InvalidContent, TooLarge
from ddmq.storage.dead_letters import Dead
from ddmq.storage.names import DROPPED, Entry, new_id, new_token, policy_of

if TYPE_CHECKING:
    from ddmq.settings import Limit
    from ddmq.storage.dead_letters import DeadLetters
    from ddmq.storage.filesystem import FileSystem
    from ddmq.storage.layout import Layout
    from ddmq.storage.ready import ReadyQueue
    from ddmq.storage.store import MessageFiles

#: Seconds for which a dropped file must not have changed.
SETTLED = 10


class Drop:
    """Makes messages of the files in `drop/`."""

    def __init__(
        self,
        layout: Layout,
        fs: FileSystem,
        ready: ReadyQueue,
        dead_letters: DeadLetters,
        *,
        files: MessageFiles,
        limit: Limit,
    ) -> None:
        self.path = layout.drop
        self._fs = fs
        self._ready = ready
        self._dead_letters = dead_letters
        self._files = files
        self._limit = limit

    def adopt(self, name: str, priority: int, now_ns: int) -> bool:
        """Make a message of a dropped file that has not changed for a while at `now_ns`.

        Its content stays as it is; its id tells readers that it came through `drop/`. A file
        with a second name (a hard link) may belong to anybody, and be put here so that we read
        it: it is quarantined. A program may use the name again for a file that it still writes.
        So we first rename the file to a name of its own, and check it once more there. If that
        is another file, it stays under its new name.
        """
        path = f"{self.path}/{name}"
        found = self._fs.status(path)
        if found is None or found.age(now_ns) <= SETTLED:
            return False
        found = self._fs.status_when_opened(path) or found
        if not found.is_file or found.names > 1:
            self._dead_letters.quarantine(path)
            return False
        entry = Entry(priority, 0, DROPPED + new_id())
        ours = f"{self.path}/{entry.id}"
        # The first status may be an older one, which an NFS client had cached.
        if found.age(now_ns) <= SETTLED or not self._fs.rename(path, ours):
            return False
        moved = self._fs.status_when_opened(ours) or self._fs.status(ours)
        # Our rename changed the change time, so that is not compared.
        if moved is None or moved[:3] != found[:3] or moved.names > 1:
            return False
        if moved.size > self._limit.max_bytes and moved.size > self._limit.reread():
            dead = Dead(entry, new_token(), "invalid")
            reason = str(TooLarge(self._limit.max_bytes))
            self._dead_letters.write_note(dead, {"reason": reason})
            self._fs.rename(ours, self._dead_letters.path_of(dead))
            return False
        return self._ready.append(ours, self._with_policy(ours, entry))

    def _with_policy(self, path: str, entry: Entry) -> Entry:
        """Return the entry of a dropped file, with the priority and policy that the file sets."""
        try:
            content = self._files.read(path, entry)
        except InvalidContent:
            return entry  # its consumer makes it a dead letter
        priority = content.priority_or(entry.priority)
        return entry._replace(priority=priority, policy=policy_of(content.overrides))
