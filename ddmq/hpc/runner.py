"""One message, one subprocess, one Outcome; knows no queue."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PLACEHOLDER = "{}"


class Outcome(NamedTuple):
    """How a command ended."""

    status: int
    """Its exit status, or minus the number of the signal that ended it."""

    @property
    def succeeded(self) -> bool:
        """Whether it exited with 0."""
        return self.status == 0

    def __str__(self) -> str:
        """Say it in words."""
        if self.status >= 0:
            return f"exit status {self.status}"
        try:
            return f"killed by {signal.Signals(-self.status).name}"
        except ValueError:
            return f"killed by signal {-self.status}"


def filled(command: Sequence[str], text: str) -> list[str]:
    """Return the arguments with `{}` replaced by the text, or the text as the last one."""
    if not any(PLACEHOLDER in argument for argument in command):
        return [*command, text]
    return [argument.replace(PLACEHOLDER, text) for argument in command]


class Running:
    """A command that was started, without a shell and without standard input."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            arguments, env=environ, stdin=subprocess.DEVNULL, close_fds=True
        )

    def outcome(self) -> Outcome | None:
        """Return how it ended, None while it runs."""
        status = self._process.poll()
        return None if status is None else Outcome(status)

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it, and wait until it has."""
        self._process.kill()
        self._process.wait()
