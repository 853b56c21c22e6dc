"""A queue on the lab's NFS, its processes in the guests, and their logs on the host."""

from __future__ import annotations

import itertools
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nfs import agent
from protocol.test_processes import ACTOR, QUEUE, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from nfs.lab import Guest, Lab, Process

NUMBERS = itertools.count()


class Client:
    """A client in a guest: it answers as a `Broker` does, and is new for each call."""

    def __init__(self, guest: Guest, root: Path, *, create: bool = False) -> None:
        self._guest = guest
        self._root = str(root)
        if create:
            guest.call(agent.make_root, self._root)

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def ask(*arguments: Any, **options: Any) -> Any:
            words = (self._root, verb, arguments, options)
            return self._guest.call(agent.ask, *words, timeout=3 * 3600)

        return ask


class NfsStage(Stage):
    """The processes run on the clients in turn; the last client answers our own questions.

    Logs and what stops the processes are outside of NFS, on the host: what a process noted
    is there at once, whatever becomes of its guest.
    """

    processes: list[Process]  # type: ignore[assignment]

    def __init__(self, lab: Lab, version: str, lease: float, patience: float) -> None:
        self.lab = lab
        name = f"root{next(NUMBERS)}"
        directory = lab.dir / name
        directory.mkdir()
        super().__init__(
            directory,
            Path("/nfs") / version / name,
            open_root=partial(Client, lab.clients[-1]),
            patience=patience,
        )
        self.version = version
        self.broker.update_settings(QUEUE, message_timeout=lease)

    def start(  # type: ignore[override]
        self, role: str, argument: object, guest: Guest | None = None
    ) -> Process:
        """Start a process on one client, or on the next that is on."""
        number = len(self.processes)
        log = self.logs / f"{number:03d}.{role}"
        on = [guest for guest in self.lab.clients if guest.is_on]
        guest = guest or on[number % len(on)]
        process = guest.start(
            [sys.executable, ACTOR, role, self.root, log, argument, self.bucket_size],
            Path(f"{log}.stderr"),
        )
        self.processes.append(process)
        return process

    def files(self, *names: str) -> list[str]:
        queue = self.root / QUEUE
        paths = [str(queue / name) for name in names]
        found: list[str] = self.lab.clients[-1].call(agent.files_in, paths)
        return found

    def until_told(self, what: str, times: int = 1) -> list[str]:
        """Wait until something was noted so often; return of which messages."""
        deadline = time.monotonic() + self.patience
        while len(self.told(what)) < times:
            assert time.monotonic() < deadline, f"{what}: {self.told(what)}"
            time.sleep(0.2)
        return self.told(what)
