"""`ddmq migrate`."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from ddmq import Broker, InvalidArgument, QueueNotFound, StorageError
from ddmq.cli.commands import ANY_QUEUES, FORCE
from ddmq.cli.spec import Command, Reply, positional, switch
from ddmq.clock import Clock, date
from ddmq.errors import real_path, warn
from ddmq.former.queues import WORK, FormerMessage, FormerName, FormerQueue, NoMessage
from ddmq.message import encode
from ddmq.storage.locks import exclusive
from ddmq.storage.roots import shared_mode
from ddmq.storage.settings_file import SettingsFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ddmq.cli.spec import Context
    from ddmq.storage.filesystem import FileSystem

#: How many that are left out are told one by one.
_TOLD = 10
#: How many messages are taken over between two syncs of the old queue.
_BATCH = 256
#: Of one migration at a time into a root. Two would forget each other's keys.
_LOCK = ".migrate.lock"


class Migrate(NamedTuple):
    """What `ddmq migrate` can be told."""

    old: str = positional("the directory of the queues of ddmq 0.9")
    new: str = positional("the directory of the queues of this ddmq; another one")
    queues: list[str] | None = ANY_QUEUES
    force: bool = FORCE
    copy: bool = switch("--copy", "leave the old files as they are; publish copies")
    work: bool = switch(
        "--work", "also what an old consumer still holds: it may be done twice"
    )


class Counted(NamedTuple):
    """What became of the messages of one queue."""

    waiting: int = 0
    work: int = 0
    """Were consumed and not acked; they wait now."""
    held: int = 0
    """Are held by a consumer whose time is not over; they stay."""
    left_out: int = 0

    def plain(self, queue: str) -> str:
        """Say it in a line."""
        text = f"{queue}: {self.waiting + self.work} migrated"
        text += f", of which {self.work} were at work" if self.work else ""
        text += f"; {self.held} still held" if self.held else ""
        return text + (f"; {self.left_out} left out" if self.left_out else "")


def migrate(told: Migrate, context: Context) -> Reply:
    """Take over what ddmq 0.9.14 left, each queue into one of the same name."""
    if not told.old or "\0" in told.old:
        raise InvalidArgument(
            f"old root {told.old!r:.80} is not the path of a directory"
        )
    old = real_path(told.old, "old root ")
    broker = Broker(told.new, create=told.force, fs=context.fs)
    if old == broker.root:
        raise InvalidArgument(f"{old}: old and new root are the same directory")
    context.fs.hold_below(old)
    try:
        lock = f"{broker.root}/{_LOCK}"
        with exclusive(lock, broker.settings().lock_timeout):
            found = _queues(old, told.queues, context.fs, broker.root)
            for queue in found:
                queue.check_target()
                if not told.copy:
                    queue.prepare()
            counts = {
                queue.name: _Migration(told, context, broker, queue).counted()
                for queue in found
            }
            context.fs.discard(lock)  # who waits for it opens the next one
    except OSError as error:
        raise StorageError(error) from error
    is_whole = not any(each.held or each.left_out for each in counts.values())
    return Reply(
        {"migrated": {name: each._asdict() for name, each in counts.items()}},
        "\n".join(each.plain(name) for name, each in counts.items()),
        status=0 if is_whole else 1,
    )


def _queues(
    root: str, names: list[str] | None, fs: FileSystem, new_root: str
) -> list[FormerQueue]:
    """Return the queues that are asked for, or all that the first ddmq made."""
    if names is not None:
        names = list(dict.fromkeys(names))
        queues = [FormerQueue(root, name, fs, new_root) for name in names]
        for queue in queues:
            if not queue.is_one():
                raise QueueNotFound(
                    f"{queue.path}: no queue of ddmq 0.9; such a queue has ddmq.yaml and "
                    "work/, and no ready/"
                )
        return queues
    queues = []
    for name in sorted(fs.listing(root)):
        if not fs.is_directory(f"{root}/{name}"):
            continue
        try:
            queue = FormerQueue(root, name, fs, new_root)
        except InvalidArgument as error:
            warn(f"left out: {error}, and give it to the old directory")
            continue
        if queue.is_one():
            queues.append(queue)
    if not queues:
        raise QueueNotFound(
            f"{root}: no queue of ddmq 0.9 in here; such a queue has ddmq.yaml and work/, "
            "and no ready/"
        )
    return queues


class _Migration:
    """One queue being taken over.

    Unless a copy is asked for, a message goes through four steps: its file is renamed into
    `migrating-…/`, where no old client looks, nor a migration into another root; the message is
    published with a key made of the file's name; the file is renamed into `migrated/`; the key is
    forgotten. What is killed between two steps is found in `migrating-…/` by the next run, which
    publishes with the same key and so adds nothing. A key is forgotten only when no power cut can
    bring its file back.
    """

    def __init__(
        self, told: Migrate, context: Context, broker: Broker, queue: FormerQueue
    ) -> None:
        self._told = told
        self._tell = context.tell
        self._broker = broker
        self._queue = queue
        self._fs = context.fs
        self._left_out = 0
        self._held_until: list[int] = []

    def counted(self) -> Counted:
        """Take over all messages, and count them."""
        queue, broker = self._queue, self._broker
        is_made = self._told.force and broker.create_queue(
            queue.name, mode=self._mode()
        )
        limit = broker.settings(queue.name).max_message_size
        if not is_made:
            self._warn_of_readers()
        self._take_settings()
        numbers = {True: 0, False: 0}
        done: list[str] = []
        for name, message in self._messages(limit):
            if not self._told.copy and not queue.take(name):
                continue
            key = f"ddmq 0.9 {queue.name}/{name.key}"
            broker.publish(queue.name, message.message, **message.options, key=key)
            numbers[name.expiry is None] += 1
            if not self._told.copy:
                queue.finish(name)
                done.append(key)
            if len(done) == _BATCH:
                self._forget(done)
            if sum(numbers.values()) % 100 == 0:
                self._tell(f"{queue.name}: {sum(numbers.values()):,} messages")
        self._forget(done)
        queue.tidy()
        held = len(self._held_until)
        if held:
            until = date(max(self._held_until))
            warn(
                f"{queue.path}: consumers hold {held} until {until} at the latest; "
                "migrate again then, or now with --work"
            )
        if self._left_out > _TOLD:
            warn(f"{queue.path}: left out: {self._left_out} in all")
        return Counted(numbers[True], numbers[False], held, self._left_out)

    def _mode(self) -> int:
        """Return the mode of a new queue: what it has by default, cut to what the old one lets.

        The group may write only where what others write gets the group, too (setgid).
        """
        shared = shared_mode(self._broker.root, self._fs)
        if shared is None:
            umask = os.umask(0o077)
            os.umask(umask)
        bits = 0o777 & ~umask if shared is None else shared
        root = os.lstat(self._broker.root)
        group = root.st_gid if root.st_mode & stat.S_ISGID else os.getegid()
        mode = stat.S_IRWXU | (bits & self._queue.access(group) & 0o077)
        if mode & 0o022 or (shared is not None and mode & stat.S_IRWXG):
            mode |= stat.S_ISGID
        return mode

    def _warn_of_readers(self) -> None:
        """Warn if the new queue lets more people read than the old one did; it stays so."""
        path = f"{self._broker.root}/{self._queue.name}"
        root, found = os.lstat(self._broker.root), os.lstat(path)
        bits = root.st_mode & found.st_mode & 0o044
        more = bits & ~self._queue.access(found.st_gid)
        if more:
            who = "all users" if more & 0o004 else "its group"
            warn(
                f"{path}: {who} may read it, and could not read the old {self._queue.path}; see "
                "`chmod`"
            )

    def _messages(self, limit: int) -> Iterator[tuple[FormerName, FormerMessage]]:
        """Yield all that can be published; note what is held, and tell what is no message."""
        now = Clock().own_ns() / 1e9
        names, strange = self._queue.names()
        for path in strange:
            self._leave_out(path, "not a name of ddmq 0.9")
        for path in self._queue.elsewhere():
            self._leave_out(path, "taken by a migration into another root; finish that")
        for name in names:
            is_held = name.place == WORK and (name.expiry or 0) > now
            if is_held and not self._told.work:
                self._held_until.append(name.expiry or 0)
                continue
            try:
                found = self._queue.read(name, limit)
                if found is not None:
                    encode(found.message, 999, limit)
            except (NoMessage, InvalidArgument) as error:
                self._leave_out(name.path, str(error))
                continue
            if found is not None:
                yield name, found

    def _leave_out(self, path: str, why: str) -> None:
        self._left_out += 1
        if self._left_out <= _TOLD:
            warn(f"left out: {self._queue.path}/{path}: {why}")

    def _take_settings(self) -> None:
        """Set what the old queue set, where the new one says nothing of its own."""
        changed, wrong = self._queue.settings()
        for each in wrong:
            warn(f"{each}; this setting is not taken over")
        path = f"{self._broker.root}/{self._queue.name}"
        own = SettingsFile(path, self._fs, of_queue=True).read()
        new = {key: value for key, value in changed.items() if key not in own}
        if new:
            self._broker.update_settings(self._queue.name, **new)

    def _forget(self, keys: list[str]) -> None:
        """Forget keys whose files are surely out of reach; empty the list."""
        if keys:
            self._queue.sync()
        for key in keys:
            self._broker.forget(self._queue.name, key)
        keys.clear()


COMMANDS = (
    Command(
        "migrate",
        "take over the queues that ddmq 0.9 made; run it again if it was interrupted",
        "ddmq migrate -f /scratch/old /scratch/mq\n"
        "  ddmq migrate --copy /scratch/old /scratch/mq jobs",
        Migrate,
        run=migrate,
    ),
)
