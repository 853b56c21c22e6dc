"""Two clients talk through the very file system that is being checked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from ddmq.errors import DdmqError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddmq.clock import Clock
    from ddmq.storage.filesystem import FileSystem

_LOOK_FIRST, _LOOK_LONGEST = 0.001, 0.05
_MOST = 1 << 24


class Silence(DdmqError):
    """The other client did not answer, or what it answered was not to be seen."""


class Bench(NamedTuple):
    """Where one of the two clients works."""

    side: str
    """`a` or `b`."""
    path: str
    """The directory of this check, as this client sees it."""
    fs: FileSystem
    clock: Clock
    flock: Callable[[int, int], object]
    patience: float
    """Seconds that the other may take."""
    records: str
    """A directory on this node, for what must not depend on what is checked."""

    def directory(self, name: str) -> str:
        """Return the path of a directory for one probe, made when it is missing."""
        self.fs.mkdir(f"{self.path}/{name}")
        return f"{self.path}/{name}"

    def put(self, path: str, data: bytes = b"") -> None:
        """Let a file appear whole, by rename, as messages do."""
        draft = f"{self.directory('tmp')}/{self.side}"
        self.fs.create(draft, data, sync=False)
        self.fs.replace(draft, path)

    def until(self, claim: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait until something is so; False when it is not within `seconds`."""
        seconds = self.patience if seconds is None else seconds
        deadline, pause = self.clock.monotonic() + seconds, _LOOK_FIRST
        while not claim():
            if self.clock.monotonic() >= deadline:
                return False
            self.clock.sleep(pause)
            pause = min(pause * 1.2, _LOOK_LONGEST)
        return True

    def names(self, directory: str) -> list[str]:
        """Return what a listing taken afresh shows, in no order."""
        return self.fs.listing(directory)

    def shows(self, directory: str, name: str) -> bool:
        """Tell whether a listing taken afresh shows a name."""
        return name in self.names(directory)


class Channel:
    """What one client tells the other: one file for each thing said, in order."""

    def __init__(self, bench: Bench, is_there: Callable[[], bool]) -> None:
        """Open it; `is_there` tells whether the other one can still answer."""
        self._bench = bench
        self._fs = bench.fs
        self._is_there = is_there
        self._path = bench.directory("talk")
        self._other = "b" if bench.side == "a" else "a"
        self._sent = self._heard = 0

    def send(self, value: Any) -> None:
        """Say something."""
        name = f"{self._bench.side}.{self._sent:04d}"
        self._bench.put(f"{self._path}/{name}", json.dumps(value).encode())
        self._sent += 1

    def receive(self, seconds: float | None = None) -> Any:
        """Return what the other says next; Silence when nothing comes."""
        name = f"{self._other}.{self._heard:04d}"

        def has_come() -> bool:
            if self._bench.shows(self._path, name):
                return True
            # It may have said this after we looked, and have ended then.
            if not self._is_there() and not self._bench.shows(self._path, name):
                raise Silence("the other client has ended")
            return False

        try:
            if not self._bench.until(has_come, seconds):
                waited = self._bench.patience if seconds is None else seconds
                raise Silence(f"the other client was not heard for {waited:g} seconds")
            self._heard += 1
            return json.loads(self._fs.read(f"{self._path}/{name}", _MOST))
        except FileNotFoundError as error:
            raise Silence("the other client has ended") from error
        except ValueError as error:
            raise Silence("what the other client said can't be read") from error

    def ask(self, what: str, **arguments: Any) -> Any:
        """Let the other do something, and return its answer."""
        self.send({"do": what, **arguments})
        return self.answer()

    def answer(self, seconds: float | None = None) -> Any:
        """Return the answer to what was asked; Silence: it could not be done."""
        answer = self.receive(seconds)
        if "error" in answer:
            raise Silence(f"the other client failed: {answer['error']}")
        return answer["result"]
