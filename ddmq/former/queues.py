"""What ddmq 0.9.14 left on disk: read with care, and taken by one rename each."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq.errors import InvalidArgument, InvalidSettings
from ddmq.settings import (
    MAX_FILE,
    OVERRIDES,
    SETTINGS,
    check,
    decoded,
    fault,
    parse_value,
    raised,
    show,
)
from ddmq.storage.names import (
    MAX_COUNT,
    MAX_PRIORITY,
    SETTINGS_FILE,
    check_queue_name,
)
from ddmq.untrusted import moment, parsed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ddmq.storage.filesystem import FileSystem

#: Where the first ddmq kept what was consumed; and where we put what we have taken.
WORK, TAKEN = "work", "migrated"
#: Where we put what we take: a directory for each new root, named by a hash of its path.
_TAKING = re.compile(r"migrating(?:-[0-9a-f]{16})?", re.ASCII)
#: What it did unless a `ddmq.yaml` said otherwise.
_DEFAULTS = {"message_timeout": 600, "priority": 999, "requeue_prio": 0}
_NAME = re.compile(
    r"(?:(?P<expiry>\d{1,20})\.)?(?P<priority>\d{1,20})\.(?P<number>\d{1,30})\."
    r"ddmq(?P<id>[0-9A-Za-z]{1,64})",
    re.ASCII,
)
#: Digits from which on a number is a time without its decimal point. Shorter ones are counters.
_TIME_DIGITS = 10
#: It wrote all but ASCII as `\uXXXX`: three times as long as UTF-8 at most. The rest of the file
#: is short.
_LONGER, _REST = 3, 1 << 14


class NoMessage(ValueError):
    """A file that can't become a message; the text says why."""


class FormerName(NamedTuple):
    """The name of a message's file, `[<expiry>.]<priority>.<number>.ddmq<id>`."""

    filename: str
    place: str
    """The directory it is in, below that of its queue; empty for that itself."""
    priority: int
    number: str
    key: str
    """The name without the expiry: the same in each place."""
    expiry: int | None
    """When its lease ends, in seconds since 1970, and 0 where that is no time; None: it waits."""

    @classmethod
    def parse(cls, filename: str, place: str) -> FormerName | None:
        """Read a name; None: the first ddmq did not make it."""
        found = _NAME.fullmatch(filename)
        if found is None:
            return None
        is_taken = _TAKING.fullmatch(place) is not None
        if not is_taken and (place == WORK) != (found["expiry"] is not None):
            return None
        expiry = None
        if found["expiry"] is not None:
            expiry = int(moment(int(found["expiry"])) or 0)
        priority = min(int(found["priority"]), MAX_PRIORITY)
        key = f"{found['priority']}.{found['number']}.ddmq{found['id']}"
        return cls(filename, place, priority, found["number"], key, expiry)

    @property
    def order(self) -> tuple[int, bool, int, str]:
        """What the messages are sorted by: priority, then age, then name."""
        is_time = len(self.number) >= _TIME_DIGITS
        return (
            self.priority,
            is_time,
            0 if is_time else int(self.number),
            # As the first ddmq compared: a time that ends in a zero lacks that digit.
            f"{self.number}.{self.key}",
        )

    @property
    def path(self) -> str:
        """The path below the directory of the queue."""
        return f"{self.place}/{self.filename}" if self.place else self.filename


class FormerMessage(NamedTuple):
    """A message of the first ddmq, as `Broker.publish` takes it."""

    message: Any
    options: Mapping[str, Any]


class FormerQueue:
    """The directory of one queue of the first ddmq. No link in it is followed.

    What is taken goes into a directory of the new root's own, so that of two migrations into
    different roots one alone has a message, whenever they are killed and run again.
    """

    def __init__(self, root: str, name: str, fs: FileSystem, new_root: str) -> None:
        self.name = check_queue_name(name)
        self.path = f"{root}/{name}"
        self.taking = taking_for(new_root)
        self._root = root
        self._fs = fs

    def is_one(self) -> bool:
        """Tell whether the first ddmq made this queue: it has `ddmq.yaml` and `work/`."""
        fs = self._fs
        if not fs.is_directory(self.path) or not fs.is_directory(f"{self.path}/{WORK}"):
            return False
        found = fs.status(f"{self.path}/{SETTINGS_FILE}")
        is_new = fs.status(f"{self.path}/ready") is not None
        return found is not None and found.is_file and not is_new

    def names(self) -> tuple[list[FormerName], list[str]]:
        """Return the names of all messages in their order, and paths that look like some."""
        known, strange = [], []
        for place in ("", WORK, self.taking):
            for filename in self._listing(place):
                name = FormerName.parse(filename, place)
                if name is not None:
                    known.append(name)
                elif ".ddmq" in filename:
                    strange.append(f"{place}/{filename}" if place else filename)
        return sorted(known, key=lambda name: name.order), strange

    def check_target(self) -> None:
        """Raise InvalidArgument if a migration into another root is to be finished first."""
        others = self.elsewhere()
        if not others or self._listing(self.taking):
            return
        other = f"{self.path}/{os.path.dirname(others[0])}"
        raise InvalidArgument(
            f"{other}: has messages that a migration into another root took and did not finish; "
            "run it again into that root, which publishes none twice. If that root is gone for "
            f"good, rename the directory to {self.taking}: all in it is published into this one"
        )

    def elsewhere(self) -> list[str]:
        """Return the paths of messages that migrations into other roots have taken."""
        return [
            f"{place}/{filename}"
            for place in sorted(self._listing(""))
            if place != self.taking and _TAKING.fullmatch(place)
            if self._fs.is_directory(f"{self.path}/{place}")
            for filename in self._listing(place)
            if ".ddmq" in filename
        ]

    def access(self, group: int) -> int:
        """Return the permission bits that both the old root and this queue have.

        Those of the group are what members of `group` are surely allowed.
        """
        bits = 0o777
        for path in (self._root, self.path):
            found = os.lstat(path)
            bits &= found.st_mode
            if found.st_gid != group:
                bits &= ~stat.S_IRWXG | (found.st_mode & stat.S_IRWXO) << 3
        return bits

    def _listing(self, place: str) -> list[str]:
        path = f"{self.path}/{place}" if place else self.path
        try:
            return self._fs.listing(path)
        except FileNotFoundError:
            return []

    def read(self, name: FormerName, limit: int) -> FormerMessage | None:
        """Return the message in a file; None: it is gone. NoMessage says what is wrong with it.

        `limit` is what the message may have in bytes. A file with a second name (a hard link) may
        be anybody's, put here so that we publish it.
        """
        path = f"{self.path}/{name.path}"
        found = self._fs.status(path)
        if found is None:
            return None
        if not found.is_file:
            raise NoMessage("no ordinary file")
        if found.names > 1:
            raise NoMessage("the file has another name (hard link)")
        most = limit * _LONGER + _REST
        try:
            data = self._fs.read(path, most + 1)
        except FileNotFoundError:
            return None
        if len(data) > most:
            raise NoMessage(f"over {most} bytes long (max_message_size is {limit})")
        try:
            row = parsed(data)
        except ValueError as error:
            raise NoMessage(f"no JSON: {error}") from error
        if not isinstance(row, dict) or "message" not in row:
            raise NoMessage('no object with a "message"')
        return FormerMessage(row["message"], options_of(row, name.priority))

    def take(self, name: FormerName) -> bool:
        """Take a file away from all clients of the first ddmq; False: it is gone."""
        source, target = f"{self.path}/{name.path}", self._in(self.taking, name)
        return source == target or self._fs.rename(source, target)

    def finish(self, name: FormerName) -> None:
        """Put a file that was taken, and whose message is published, where all of these are."""
        self._fs.rename(self._in(self.taking, name), self._in(TAKEN, name))

    def prepare(self) -> None:
        """Make the directories for taken messages; no link may stand in their places.

        InvalidArgument: this user may not write to the old queue.
        """
        for place in (self.taking, TAKEN):
            try:
                self._fs.mkdir(f"{self.path}/{place}")
            except PermissionError as error:
                raise InvalidArgument(
                    f"{self.path}: you may not write there, so its messages can't be moved; "
                    "`ddmq migrate --copy` publishes copies and leaves the old files"
                ) from error
            self._fs.require_directory(f"{self.path}/{place}")

    def sync(self) -> None:
        """Let a power cut undo none of the renames made so far."""
        for place in (TAKEN, self.taking, WORK):
            self._fs.sync_directory(f"{self.path}/{place}")
        self._fs.sync_directory(self.path)

    def tidy(self) -> None:
        """Remove the directory for what is taken, if nothing is in it."""
        self._fs.rmdir(f"{self.path}/{self.taking}")

    def settings(self) -> tuple[dict[str, Any], list[str]]:
        """Return the settings that differ from the defaults of then, and what is wrong."""
        found: dict[str, Any] = dict(_DEFAULTS)
        wrong = []
        for path in (f"{self._root}/{SETTINGS_FILE}", f"{self.path}/{SETTINGS_FILE}"):
            try:
                text = decoded(self._fs.read(path, MAX_FILE), path)
                values = parse_value(text)
            except FileNotFoundError:
                continue
            except InvalidSettings as error:
                wrong.append(f"{path}: {error}")
                continue
            for key in _DEFAULTS if isinstance(values, dict) else ():
                if key not in values:
                    continue
                value = raised({key: values[key]})[key]
                why = fault(key, SETTINGS[key], value)
                if why is not None:
                    wrong.append(f"{path}: {why}")
                else:
                    found[key] = value
        changed = {k: v for k, v in found.items() if v != _DEFAULTS[k]}
        return changed, wrong

    def _in(self, place: str, name: FormerName) -> str:
        return f"{self.path}/{place}/{name.filename}"


def taking_for(new_root: str) -> str:
    """Return the name of the directory for what is taken into a root."""
    import hashlib  # slow to import

    path = os.fsencode(os.path.realpath(new_root))
    return f"migrating-{hashlib.sha256(path).hexdigest()[:16]}"


def options_of(row: Mapping[str, Any], priority: int) -> dict[str, Any]:
    """Return what a message of the first ddmq sets itself, as keywords of `Broker.publish`.

    Its `requeue` was the priority for the next try, too. How often it was tried is told by what
    is left of its `requeue_limit`. What is 0 or null was not set.
    """
    options: dict[str, Any] = {"priority": priority}
    timeout, requeue = row.get("timeout"), row.get("requeue")
    limit, counter = row.get("requeue_limit"), row.get("requeue_counter", 0)
    if timeout:
        options["timeout"] = raised({"timeout": timeout})["timeout"]
    options["requeue"] = bool(requeue)
    if type(requeue) is int and requeue:
        options["requeue_prio"] = requeue
    if limit:
        if type(counter) is not int or not 0 <= counter <= MAX_COUNT:
            raise NoMessage(f"requeue_counter is {show(counter)}")
        if type(limit) is not int:
            raise NoMessage(f"requeue_limit is {show(limit)}")
        options["requeue_limit"] = max(0, limit - counter)
    try:
        for key, value in options.items():
            check(key, OVERRIDES.get(key, SETTINGS["priority"]), value)
    except InvalidArgument as error:
        raise NoMessage(str(error)) from error
    return options
