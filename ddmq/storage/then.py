"""What is to be run when a queue is done: the follow-ups in the directory `then/` of one queue.

A follow-up is a symbolic link. Its name is its state, and each change of that is one rename. Its
target is its id, which stays, and which nobody follows. Whoever takes messages makes sure first
that one is armed, and whoever finds the queue done takes that, and only then looks whether the
queue is done. `docs/protocol.md` says why in this order.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ddmq.storage.names import (
    COUNT,
    MAX_COUNT,
    TOKEN,
    Grammar,
    known,
    new_id,
    new_token,
    parse_id,
)

if TYPE_CHECKING:
    from ddmq.storage.store import Store

#: How often we look for a follow-up of ours that has not the name that we knew.
_TRIES = 4


#: The states of a follow-up; the first one is its whole name.
ARMED, LEASED, WAITING, FAILED = "armed", "leased", "waiting", "failed"
_follow_up = Grammar(rf"([0-9]{{13}})\.{COUNT}\.{TOKEN}\.({LEASED}|{WAITING}|{FAILED})")


class FollowUp(NamedTuple):
    """What is to be run when a queue is done: a symbolic link in `then/` to its id."""

    state: str
    """`armed`, `leased`, `waiting` or `failed`."""
    time: int = 0
    """Until when it is leased, or waits, or when it failed for good: milliseconds since 1970."""
    failures: int = 0
    token: str = ""
    """Sixteen hexadecimal digits, new whenever somebody takes it."""

    @property
    def filename(self) -> str:
        """The name in `then/`."""
        if self.state == ARMED:
            return ARMED
        return f"{self.time:013d}.{self.failures}.{self.token}.{self.state}"

    @classmethod
    def parse(cls, filename: str) -> FollowUp | None:
        """Read a name found in `then/`."""
        if filename == ARMED:
            return cls(ARMED)
        match = _follow_up.fullmatch(filename)
        if match is None:
            return None
        time, failures, token, state = match.groups()
        return cls(state, int(time), int(failures), token)

    @property
    def is_pending(self) -> bool:
        """Whether it is still to be done."""
        return self.state != FAILED

    def is_free(self, now: int) -> bool:
        """Tell whether anybody may take it at a time, in milliseconds since 1970."""
        return self.state == ARMED or (self.is_pending and self.time <= now)

    def failed(self, retries: int, now: int, again: int) -> FollowUp:
        """Return it after one more failure: it waits, or has failed for good."""
        failures = min(self.failures + 1, MAX_COUNT)
        if failures > retries:
            return FollowUp(FAILED, now, failures, self.token)
        return FollowUp(WAITING, again, failures, self.token)


class HeldFollowUp(NamedTuple):
    """A follow-up that we have leased."""

    follow_up: FollowUp
    is_new: bool
    """Whether it was armed when we took it, so that it never began."""
    id: str = ""
    """The id by which its command may know it; empty before it begins."""


class FollowUps:
    """The follow-ups of one queue."""

    def __init__(self, store: Store) -> None:
        self._layout = store.layout
        self._fs = store.fs
        self._time = store.time

    def _path(self, follow_up: FollowUp) -> str:
        return f"{self._layout.then}/{follow_up.filename}"

    def all(self) -> list[FollowUp]:
        """Return all of them: first the one that is armed, then by their times."""
        try:
            names = self._fs.listing(self._layout.then)
        except FileNotFoundError:  # nobody has needed it yet
            return []
        found = known(FollowUp.parse, names)
        return sorted(found, key=lambda each: (each.state != ARMED, each.time))

    def look(self) -> tuple[list[FollowUp], list[FollowUp]]:
        """Return all of them, and those that anybody may take, in this order."""
        now = self._time.now_ms()  # before the listing, which may take long
        found = self.all()
        return found, [each for each in found if each.is_free(now)]

    def arm(self) -> None:
        """Make sure that one is armed, for messages that we have taken and not run yet.

        Whatever has this name counts, since whoever takes it makes a follow-up of it.
        """
        armed, id_ = f"{self._layout.then}/{ARMED}", new_id()
        try:
            named = self._fs.elected(armed, id_)
        except FileNotFoundError:
            self._layout.make_directory(self._layout.then)
            named = self._fs.elected(armed, id_)
        if not named and not self._fs.exists(armed):
            text = "it is taken as often as it is made; try again"
            raise OSError(errno.EBUSY, text, armed)

    def claim(self, follow_up: FollowUp, timeout: float) -> HeldFollowUp | None:
        """Lease a follow-up that is free; None: somebody else was faster."""
        expiry = self._time.end_of_lease(timeout)
        ours = FollowUp(LEASED, expiry, follow_up.failures, new_token())
        if not self._fs.take(self._path(follow_up), self._path(ours)):
            return None
        return HeldFollowUp(ours, is_new=follow_up.state == ARMED)

    def begin(self, held: HeldFollowUp, timeout: float) -> HeldFollowUp | None:
        """Lease it for `timeout` more seconds, and return it with its id; None: it is lost.

        It gets another name. Else a claim that the file server carries out once more, late, might
        put what was armed meanwhile in its place.
        """
        expiry = self._time.end_of_lease(timeout)
        ours = held.follow_up._replace(time=expiry, token=new_token())
        if not self._move(held, ours):
            return None
        id_ = parse_id(self._fs.named_by(self._path(ours)))
        if id_ is not None:
            return HeldFollowUp(ours, held.is_new, id_)
        # Somebody put something else there: it gets out of the way of one of ours.
        id_, replacement = new_id(), ours._replace(token=new_token())
        self._fs.link_own(self._path(replacement), id_)
        self._put_away(self._path(ours))
        return HeldFollowUp(replacement, held.is_new, id_)

    def renew(self, held: HeldFollowUp, timeout: float) -> HeldFollowUp | None:
        """Lease it for `timeout` seconds from now; None: it is lost."""
        expiry = self._time.end_of_lease(timeout)
        longer = held.follow_up._replace(time=expiry)
        if not self._move(held, longer):
            return None
        return held._replace(follow_up=longer)

    def finish(self, held: HeldFollowUp) -> bool:
        """Remove what was done; False: others have taken it, or it was removed before."""
        current: FollowUp | None = held.follow_up
        for _ in range(_TRIES):
            if current is None:
                break
            if self._fs.unlink(self._path(current)):
                return True
            current = self._current(held)
        return False

    def give_back(self, held: HeldFollowUp) -> bool:
        """Let others have it at once, and count nothing; False: they have it already.

        One that never began is armed again. If another one is armed by now, both become one. One
        that has begun is never armed: what its id stands for may be done, and nothing that comes
        later is to rely on it.
        """
        if held.is_new and not held.id:
            with suppress(IsADirectoryError, FileExistsError):  # it was put there
                return self._move(held, FollowUp(ARMED))
        waits = held.follow_up._replace(state=WAITING, time=self._time.in_ms(0))
        return self._move(held, waits)

    def fail(
        self, held: HeldFollowUp, retries: int, delay: float
    ) -> tuple[FollowUp, bool]:
        """Count a failure: it waits for `delay` seconds, or has failed more often than `retries`.

        Return what it is now, and whether we still had it.
        """
        now, again = self._time.in_ms(0), self._time.in_ms(delay)
        failed = held.follow_up.failed(retries, now, again)
        return failed, self._move(held, failed)

    def superseded(self, held: HeldFollowUp) -> list[FollowUp]:
        """Return the follow-ups that a new one makes needless, once the queue is done.

        These have failed, wait, or were left by a client that died. List them before the look
        that shows the queue done: all the messages that they stand for came before that. A
        follow-up that another client holds, or that is armed, may be for messages that come later.
        """
        if not held.is_new:
            return []
        now = self._time.now_ms()  # before the listing, which may take long
        return [
            each
            for each in self.all()
            if each.state != ARMED and (each.is_free(now) or each.state != LEASED)
        ]

    def remove(self, follow_ups: list[FollowUp]) -> None:
        """Remove follow-ups, but for those that somebody has taken since they were listed."""
        for each in follow_ups:
            try:
                self._fs.unlink(self._path(each))
            except OSError:
                if not self._fs.is_directory(self._path(each)):
                    raise
                self._put_away(self._path(each))

    def _put_away(self, path: str) -> None:
        """Move what is no link out of the way of all that are."""
        try:
            self._fs.rename(path, f"{self._layout.tmp}/{new_id()}")
        except OSError:
            # A directory of somebody else's, which can be renamed where it is.
            self._fs.rename(path, f"{self._layout.then}/.{new_id()}")

    def _move(self, held: HeldFollowUp, target: FollowUp) -> bool:
        """Rename one of ours, under whatever name it has by now; False: it is lost."""
        current: FollowUp | None = held.follow_up
        for _ in range(_TRIES):
            if current is None:
                break
            if self._fs.rename(self._path(current), self._path(target)):
                return True
            current = self._current(held)
        return False

    def _current(self, held: HeldFollowUp) -> FollowUp | None:
        """Find one of ours by its token: a renewal may have been made, though it was an error."""
        token = held.follow_up.token
        ours = (x for x in self.all() if x.token == token and x.state == LEASED)
        return next(ours, None)
