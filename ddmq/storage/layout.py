"""The directories of one queue, and the file server's time, by which its ages are judged.

Here is also what many modules need of queues and bundles: which queues a root has, and the errors
for a bundle that can't be found or claimed.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING

from ddmq.clock import ClockUnknown, in_ms
from ddmq.errors import InvalidArgument
from ddmq.storage.directories import GONE
from ddmq.storage.filesystem import is_shared
from ddmq.storage.names import (
    CANCELLED,
    LINES,
    PAUSED,
    SETTINGS_FILE,
    check_queue_name,
    may_hold_entries,
    new_id,
)

if TYPE_CHECKING:
    from ddmq.clock import Clock
    from ddmq.storage.filesystem import FileSystem

DIRECTORIES = ("tmp", "ready", "bundles", "work", "delayed", "dead", "drop")
#: A directory that is made when it is first needed, for what is to be run when the queue is done.
THEN = "then"
#: The same, for what workers tell of themselves.
WORKERS = "workers"
#: Another one, for what was published with keys.
KEYS = "keys"
#: Where workers write what they ran.
JOURNAL = "journal"
#: The scripts of jobs that were submitted for it.
JOBS = "jobs"
JOURNAL_SUFFIX = ".jsonl"
#: Bytes of one journal, and of one line, that are read. Whoever may write to the queue can make
#: them as large as he likes. A worker's own journal ends long before, and its lines are short.
JOURNAL_BYTES, JOURNAL_LINE = 64 << 20, 64 << 10
#: Seconds after which a file in `tmp/` belongs to a writer that died.
ABANDONED = 3600
#: The same for bundles, which are written while messages come, perhaps from a slow pipe.
ABANDONED_INPUT = 24 * 3600
#: Seconds between two comparisons of the directories with their names.
_CHECK_EVERY = 1.0


def is_queue(root: str, queue: str, fs: FileSystem) -> bool:
    """Tell whether there is an initiated queue of this name."""
    try:
        if not fs.exists(f"{root}/{queue}"):
            return False
        fs.require_directory(f"{root}/{queue}")
        return fs.exists(f"{root}/{queue}/{SETTINGS_FILE}")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:  # it may be one; a client that uses it will be told
        return True


def may_be_queue(name: str) -> bool:
    """Tell whether a queue can have this name."""
    try:
        return check_queue_name(name) == name
    except InvalidArgument:
        return False


def queues(root: str, fs: FileSystem) -> list[str]:
    """Return the names of all queues, sorted."""
    return sorted(
        name
        for name in fs.listing(root)
        if may_be_queue(name) and is_queue(root, name, fs)
    )


class BundleNotFound(OSError):
    """A bundle is not where it should be. That proves nothing, so its leases stay."""

    def __init__(self, path: str, id_: str) -> None:
        super().__init__(errno.ENODATA, "this bundle can't be found", path)
        self.id = id_


class NoClaim(OSError):
    """Somebody put what is no claim where the next claim of a bundle is to be made."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EINVAL, "that is no claim of ddmq; remove it", path)


class Layout:
    """The paths of one queue, and the modes of what is made in it."""

    def __init__(self, path: str, fs: FileSystem, clock: Clock) -> None:
        self.path = path
        self.tmp = f"{path}/tmp"
        self.ready = f"{path}/ready"
        self.paused = f"{path}/ready/{PAUSED}"
        self.cancelled = f"{path}/ready/{CANCELLED}"
        self.bundles = f"{path}/bundles"
        self.work = f"{path}/work"
        self.delayed = f"{path}/delayed"
        self.dead = f"{path}/dead"
        self.drop = f"{path}/drop"
        self.then = f"{path}/{THEN}"
        self.workers = f"{path}/{WORKERS}"
        self.keys = f"{path}/{KEYS}"
        self.journal = f"{path}/{JOURNAL}"
        self.jobs = f"{path}/{JOBS}"
        self.lock = f"{path}/lock"
        self.cleaned = f"{path}/cleaned"
        self.directory_mode: int | None = None
        """The mode of new directories; None: the umask decides."""
        self.file_mode: int | None = None
        """The same for new files."""
        self.checked_at = -inf
        """When the directories were last compared with their names, by the monotonic clock."""
        self._fs = fs
        self._clock = clock

    def bundle(self, id_: str) -> str:
        """Return the path of a bundle's directory."""
        return f"{self.bundles}/{id_}"

    def lines(self, id_: str) -> str:
        """Return the path of the file with a bundle's messages."""
        return f"{self.bundles}/{id_}/{LINES}"

    def make_directory(self, path: str) -> bool:
        """Make a directory for all who share the queue; False when it exists."""
        if self.directory_mode is None:
            return self._fs.mkdir(path)
        draft = f"{self.tmp}/{new_id()}"
        return self._fs.mkdir_with_mode(path, self.directory_mode, draft)

    def open(self) -> None:
        """Check that no directory is a link, and learn the modes of new files and directories."""
        self.check()

    def check(self) -> None:
        """Compare the directories that are held with their names.

        Raises NotADirectoryError when one was replaced by a link. The queue may be another one by
        now, or a group may share it since: so we learn the modes once more.
        """
        self.checked_at = self._clock.monotonic()
        for path in self._directories():
            self._require(path)

    def _require(self, path: str) -> None:
        """Check one directory. That of the queue tells the modes of what is new.

        In a queue that a group shares (`create --mode 2770`), its mode decides those modes; in any
        other, the umask.
        """
        found = self._fs.require_directory(path)
        if path == self.path:
            shared = is_shared(found.mode)
            self.directory_mode = stat.S_IMODE(found.mode) if shared else None
            self.file_mode = found.mode & 0o666 if shared else None

    def check_when_due(self) -> None:
        """Do so at most once a second. A directory that is missing is left to who needs it."""
        now = self._clock.monotonic()
        if 0 <= now - self.checked_at < _CHECK_EVERY:
            return
        self.checked_at = now
        for path in self._directories():
            try:
                self._require(path)
            except OSError as error:
                if error.errno not in GONE:
                    raise

    @property
    def check_due_at(self) -> float:
        """When the next comparison is due, by the monotonic clock."""
        return self.checked_at + _CHECK_EVERY

    def _directories(self) -> list[str]:
        """Return the directories of this queue and its root, each after the one above it."""
        inner = [f"{self.path}/{name}" for name in DIRECTORIES]
        return [os.path.dirname(self.path), self.path, *inner]

    def put_aside(self) -> list[str]:
        """Return the paths of directories that `ddmq doctor` moved away, as they were closed.

        They may hold entries and leases of bundles that are still here.
        """
        return [
            path
            for directory in (self.path, self.ready)
            for name in self._fs.hidden(directory)
            if may_hold_entries(name)
            and self._fs.is_directory(path := f"{directory}/{name}")
        ]

    def mark_cleaned(self) -> None:
        """Let others know that the queue is clean: they need not look for a while."""
        with suppress(OSError):  # then others will clean once more
            self.put(self.cleaned, b"")

    def put(self, path: str, data: bytes, *, sync: bool = False) -> None:
        """Make a whole file at `path`, by one rename: in place of another, or not at all."""
        draft = f"{self.tmp}/{new_id()}"
        self._fs.create_own(draft, data, sync=sync, mode=self.file_mode)
        try:
            self._fs.replace(draft, path)
        except OSError:
            self._fs.discard(draft)
            raise

    def require_change(self) -> None:
        """Raise PermissionError unless we may change this queue."""
        if self._fs.may_change(self.work):
            return
        self.check()  # we may hold the directory of a queue that was deleted and made anew
        if not self._fs.may_change(self.work):
            is_read_only = self._fs.is_read_only(self.work)
            code = errno.EROFS if is_read_only else errno.EACCES
            raise PermissionError(code, os.strerror(code), self.work)


class ServerTime:
    """The file server's clock, which a stamp in `tmp/` lets us compare with ours."""

    def __init__(self, layout: Layout, fs: FileSystem, clock: Clock) -> None:
        self._layout = layout
        self._fs = fs
        self._clock = clock

    def learn(self) -> OSError | None:
        """Compare our clock with the file server's; return the error that prevented it, or None.

        To look at a queue, to ack, to release and to publish need no comparison.
        """
        try:
            self._clock.compare(self._stamp)
        except FileNotFoundError:  # the queue is gone
            raise
        except OSError as error:
            return error
        return None

    def _stamp(self) -> int:
        """Return the time that the server gives to a new file, or else to a touched directory.

        To touch a directory needs no space, so a queue can be emptied when the disk is full.
        A file comes first, because it is the ages of files that are judged.
        """
        try:
            return self._fs.birth_ns(f"{self._layout.tmp}/{new_id()}")
        except FileNotFoundError:
            raise
        except OSError as error:
            try:
                return self._fs.touched_ns(self._layout.tmp)
            except OSError:
                raise error from None

    def is_known(self) -> bool:
        """Tell whether we know the file server's clock; compare ours with it if need be.

        A client that can't compare them judges nothing by its age. If its clock were an hour
        ahead, it would take valid leases for expired, and files being written for abandoned.
        """
        return self._clock.compared_ns() is not None or self.learn() is None

    def now_ns(self) -> int:
        """Return the file server's time, by a clock that nobody has set since the comparison.

        Leases are made, and ages judged, by this time. Raises ClockUnknown.
        """
        now_ns = self._clock.compared_ns()
        if now_ns is not None:
            return now_ns
        trouble = self.learn()
        if trouble is not None:
            self._layout.require_change()
            raise ClockUnknown(
                trouble.errno,
                "this node's clock can't be compared with the file server's "
                f"({trouble.strerror}), so leases would end too early or too late",
                self._layout.tmp,
            )
        return self._clock.time_ns()

    def now_ms(self) -> int:
        """Return the same in milliseconds, rounded up."""
        return in_ms(self.now_ns())

    def end_of_lease(self, seconds: float) -> int:
        """Return when a lease ends that is made now, in milliseconds since 1970."""
        return in_ms(self.now_ns(), seconds)

    def in_ms(self, seconds: float) -> int:
        """Return the time in so many seconds, in milliseconds since 1970, rounded up.

        Our own clock is used if it can't be compared with the server's.
        """
        return in_ms(self._clock.time_ns(), seconds)
