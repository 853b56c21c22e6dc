"""What may hang in the file server is done by a thread, so that nobody has to wait for it.

A file server that waits for a client that died answers some calls a minute late (NFSv4: a
rename, unlink or open of what that client had open). Such a call can't be interrupted by
who makes it: so a thread makes it, which keeps no process from ending.
"""

from __future__ import annotations

import _thread
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from ddmq.log import warn

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")
#: Seconds after which a command that waits says for what.
SAY_AFTER = 5.0
#: How a text ends that tells of such a wait.
WHY = (
    "the file server holds it up, probably for a client that died with the file open: it "
    "gives that client up after its lease (on NFSv4 90 seconds by default)"
)


class Errand(Generic[_Result]):
    """Something that a thread does, for one who waits as long as he likes.

    Where no thread can be had, or with `alone` false, it is done at once.
    """

    def __init__(self, act: Callable[[], _Result], *, alone: bool = True) -> None:
        self.has_ended = False
        self._act = act
        self._result: _Result | None = None
        self._error: BaseException | None = None
        self._later: Callable[[BaseException | None], object] | None = None
        self._running = _thread.allocate_lock()
        self._told = _thread.allocate_lock()
        self._running.acquire()
        try:
            if alone:
                _thread.start_new_thread(self._run, ())
                return
        except RuntimeError:  # this user has as many as he may, or Python is ending
            pass
        self._run()

    def _run(self) -> None:
        try:
            self._result = self._act()
        except BaseException as error:  # noqa: BLE001 - raised where somebody asks for the result
            self._error = error
        self.has_ended = True
        self._running.release()
        self._tell()

    def ends_within(self, seconds: float) -> bool:
        """Wait for its end, but only so long; tell whether it came."""
        if not self.has_ended and self._running.acquire(timeout=max(seconds, 0)):
            self._running.release()
        return self.has_ended

    def result(self) -> _Result:
        """Return what it returned, or raise what it raised, once it has ended."""
        if self._error is not None:
            raise self._error
        return cast("_Result", self._result)

    def leave(self, later: Callable[[BaseException | None], object]) -> None:
        """Wait no more: `later` is told in the end what was raised, by the thread."""
        self._later = later
        if self.has_ended:
            self._tell()

    def _tell(self) -> None:
        if self._later is not None and self._told.acquire(blocking=False):
            self._later(self._error)


def awaited(errand: Errand[_Result], doing: Callable[[], str]) -> _Result:
    """Wait for an errand however long it takes; after some seconds, say once what it is."""
    if not errand.ends_within(SAY_AFTER):
        warn(f"{doing()}: {WHY}")
        while not errand.ends_within(SAY_AFTER):
            pass
    return errand.result()
