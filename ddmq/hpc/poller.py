"""How long a queue has been empty, and when to look again: at most `--poll-max` later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddmq.errors import warn
from ddmq.storage.names import jitter

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_PAUSE, _LONGEST_AWAY = 0.1, 30.0


class Poller:
    """How long a queue has been empty, and when to look again."""

    def __init__(self, monotonic: Callable[[], float], longest: float) -> None:
        self._monotonic = monotonic
        self._longest = longest
        self._away = self._paused = False
        self._looked_at = float("-inf")
        self.look_at_once()

    @property
    def is_server_away(self) -> bool:
        """Whether the file server did not answer the last look."""
        return self._away

    @property
    def is_queue_paused(self) -> bool:
        """Whether the last look has shown that somebody paused the queue."""
        return self._paused

    def look_at_once(self) -> None:
        """Take the queue for one that is not empty, and look again, unless the server is away."""
        self._since: float | None = None
        self._pause = _FIRST_PAUSE
        if not self._away:
            self._not_before = 0.0

    def looked(self, *, found: bool) -> None:
        """Note what a look has shown: the longer it shows nothing, the longer the pause.

        With jitter, so that a thousand workers do not look in step.
        """
        self._away = False
        self._looked_at = now = self._monotonic()
        if self._paused:
            self._paused = False
            warn("the queue is resumed")
        if found:
            self.look_at_once()
            return
        self._since = now if self._since is None else self._since
        self._not_before = now + self._pause * jitter()
        self._pause = min(self._pause * 1.5, self._longest)

    def is_paused(self, error: Exception) -> None:
        """Take the queue for one that is not empty, and look again later; tell it once."""
        if not self._paused:
            warn(str(error))
        self._away, self._paused, self._since = False, True, None
        self._not_before = self._monotonic() + self._pause * jitter()
        self._pause = min(self._pause * 1.5, self._longest)

    def server_is_away(self, error: Exception) -> None:
        """Look again later: a file server that is away comes back."""
        self._away = True
        self._pause = min(max(self._pause * 2, 1.0), _LONGEST_AWAY)
        self._not_before = self._monotonic() + self._pause
        warn(f"trying again in {self._pause:.0f} s: {error}")

    def due_in(self) -> float:
        """Return the seconds until the next look."""
        return max(self._not_before - self._monotonic(), 0.0)

    def is_due(self) -> bool:
        """Tell whether it is time to look."""
        return self.due_in() == 0

    def looked_after(self, moment: float) -> bool:
        """Tell whether the last look was later than a moment on the monotonic clock."""
        return self._looked_at > moment

    def has_been_empty_for(self, seconds: float) -> bool:
        """Tell whether the queue has been empty for so long."""
        return self._since is not None and self._monotonic() - self._since >= seconds
