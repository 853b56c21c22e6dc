"""The names that one client passes over for a while, since it can't read, move or change them.

Only a client that claims or publishes messages takes this hint. A search for evidence sees
everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddmq.errors import warn

if TYPE_CHECKING:
    from ddmq.clock import Clock

#: Seconds for which a name is passed over. The trouble may end, as when a ticket is renewed.
_PASSED_OVER_FOR = 30.0
#: Seconds for which one call quarantines what is no message, and until the next call does.
TIDY_FOR, TIDY_AGAIN = 0.5, 1.0
#: How often a name is tried in vain before it is passed over, and how many such are remembered.
_VAIN, _MAX_VAIN = 24, 1000


class PassedOver:
    """The names and paths that this client passes over. Safe to use from several threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}
        self._left: list[str] = []
        self._refused: set[str] = set()
        self._told: set[str] = set()
        self._vain: dict[str, int] = {}

    def without(self, path: str, names: list[str]) -> list[str]:
        """Return the names in the directory `path`, without those that are passed over."""
        if not self._until:
            return names
        now, known = self._clock.monotonic(), list(self._until.items())
        self._until = over = {key: until for key, until in known if until > now}
        return [n for n in names if n not in over and f"{path}/{n}" not in over]

    def has(self, path: str) -> bool:
        """Tell whether a path is passed over now."""
        now = self._clock.monotonic()
        return self._until.get(path, now) > now

    def add(self, name: str) -> None:
        """Pass over a name or path for half a minute."""
        self._until[name] = self._clock.monotonic() + _PASSED_OVER_FOR

    def tell(self, name: str, trouble: str, error: OSError) -> None:
        """Warn once that something is passed over, and why."""
        if name not in self._told:
            self._told.add(name)
            warn(f"{name} {trouble} and is passed over: {error.strerror}")

    def remove(self, name: str) -> None:
        """Stop passing over a name or path."""
        self._until.pop(name, None)

    def refuse(self, name: str, known_as: str) -> None:
        """Pass over what could not be read or moved twice.

        So it does not block all messages behind it for ever.
        """
        if known_as in self._refused:
            self.add(name)
        self._refused.add(known_as)

    def tried_in_vain(self, path: str) -> None:
        """Count a rename that found nothing; pass over a name that listings go on to show.

        A name that a competitor has taken is gone from the next listing. A name that stays is
        an error of the file server.
        """
        if len(self._vain) > _MAX_VAIN:
            self._vain.clear()
        self._vain[path] = self._vain.get(path, 0) + 1
        if self._vain[path] >= _VAIN:
            del self._vain[path]
            self.add(path)

    def leave_for_later(self, bucket: str) -> None:
        """Pass over a bucket for a second, since too much in it is no message."""
        self._until[bucket] = self._clock.monotonic() + TIDY_AGAIN
        if bucket not in self._left:
            self._left.append(bucket)

    def what_was_left(self) -> list[str]:
        """Return the buckets that were left for later, and stop passing them over."""
        left, self._left = self._left, []
        for bucket in left:
            self.remove(bucket)
        return left
