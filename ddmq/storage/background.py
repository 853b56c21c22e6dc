"""Calls that a thread makes, because the file server may let them hang.

A client may have died with a file open. The file server then answers some calls for that
file a minute late (NFSv4: rename, unlink and open). An NFS server that was restarted answers a
request for a lock only when its grace period is over. No process can interrupt such a call. So a
thread makes it, and the thread does not keep the process from ending.
"""

from __future__ import annotations

import _thread
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from ddmq.errors import warn

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")
#: Seconds after which a command that waits for a call says so.
SAY_AFTER = 5.0
#: The reason that is given then.
WHY_IT_HANGS = (
    "the file server delays the call: a client may have died with the file open, or the server "
    "may have been restarted (it then grants no lock in its grace period); by default, each of "
    "these takes 90 seconds at most"
)


class BackgroundCall(Generic[_Result]):
    """One call in a thread of its own. The caller decides how long to wait for it.

    With `in_thread` false, or when the system gives us no thread, the call is made at once.
    """

    def __init__(self, act: Callable[[], _Result], *, in_thread: bool = True) -> None:
        self.has_ended = False
        self._act = act
        self._result: _Result | None = None
        self._error: BaseException | None = None
        self._report: Callable[[BaseException | None], object] | None = None
        #: Held while the call runs.
        self._running = _thread.allocate_lock()
        #: Taken before the end is reported, so that it is reported once.
        self._reported = _thread.allocate_lock()
        self._running.acquire()
        if in_thread:
            try:
                _thread.start_new_thread(self._run, ())
            except RuntimeError:  # too many threads of this user, or Python is ending
                in_thread = False
        if not in_thread:
            self._run()

    def _run(self) -> None:
        try:
            self._result = self._act()
        except BaseException as error:  # noqa: BLE001 - raised where somebody asks for the result
            self._error = error
        self.has_ended = True
        self._running.release()
        self._report_end()
        del self  # the traceback of an error refers to this frame, and we to the error

    def ends_within(self, seconds: float) -> bool:
        """Wait at most `seconds` for the end of the call; tell whether it has ended."""
        if not self.has_ended and self._running.acquire(timeout=max(seconds, 0)):
            self._running.release()
        return self.has_ended

    def result(self) -> _Result:
        """Return what the call returned, or raise what it raised (once); only when it has ended."""
        # Its traceback refers to all who refer to us. So we must not keep it, nor must this frame.
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error
        return cast("_Result", self._result)

    def leave(self, report: Callable[[BaseException | None], object]) -> None:
        """Stop waiting: at its end the thread calls `report` with the error, or None."""
        self._report = report
        if self.has_ended:
            self._report_end()

    def _report_end(self) -> None:
        if self._report is not None and self._reported.acquire(blocking=False):
            self._report(self._error)


def wait_for(call: BackgroundCall[_Result], text: Callable[[], str]) -> _Result:
    """Wait for a call, however long it takes; after some seconds, log `text` once.

    `text` says what is not done yet. Return what the call returned, or raise what it raised.
    """
    if not call.ends_within(SAY_AFTER):
        warn(f"{text()}: {WHY_IT_HANGS}")
        while not call.ends_within(SAY_AFTER):
            pass
    return call.result()
