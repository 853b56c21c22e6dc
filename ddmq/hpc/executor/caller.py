"""What the workers of an Executor run: it makes calls, and writes down what came of each."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from ddmq.clock import Clock
from ddmq.hpc.executor.bundled_calls import make_together, publish_together
from ddmq.hpc.executor.calls import Call, is_key
from ddmq.hpc.executor.plain_calls import Plain
from ddmq.hpc.faults import may_pass
from ddmq.hpc.folder import Folder
from ddmq.hpc.functions.serving import Reject, Release
from ddmq.storage.names import new_token

if TYPE_CHECKING:
    from ddmq.broker import Broker
    from ddmq.hpc.executor.pickled_calls import Pickled

#: Seconds until a call is made again, where the directory did not take its result.
_TROUBLED = 5.0


class Caller:
    """Makes calls in the form for which it was started, and in no other.

    What came of a call is a file in the directory of results, named by its key. It is there
    before the message is acked: whoever is killed in between leaves calls that are made once
    more, and whose new results take the place of the old ones.
    """

    def __init__(
        self,
        place: str,
        results: str,
        durable: str,
        form: str,
        *allowed: str,
    ) -> None:
        """Open the directory of results; `place` is that of the queue.

        `allowed` are the modules of functions, where calls are JSON.
        """
        self._root, _, self._queue = place.rpartition("/")
        self._form: Plain | Pickled
        if form == "cloudpickle":
            from ddmq.hpc.executor.pickled_calls import (
                Pickled,  # not every worker has it
            )

            self._form = Pickled(self._root, self._queue, results)
        else:
            self._form = Plain(allowed)
        self._broker: Broker | None = None
        self._results = Folder.open(results)
        self._opened = self._results.own_status()
        self._is_durable = bool(durable)
        self._clock = Clock()

    def __call__(self, message: Any, requeue_counter: int) -> None:
        """Make the calls that a message asks for, and keep what came of each."""
        calls = Call.all_in(message)
        if not calls:
            raise Reject("it is no call, as an Executor publishes them")
        if not all(is_key(call.key) for call in calls):
            raise Reject("the key of a call was not made by ddmq, and names no result")
        if len(calls) == 1:
            self._make(calls[0])
        elif requeue_counter:  # one of them may be what killed whoever made them
            self._give_away(calls)
        else:
            make_together(calls, self._make, self._give_away)
        if self._is_durable:
            self._results.sync()  # their names, before the message is acked

    def _make(self, call: Call) -> None:
        data = self._form.answer(call)
        draft, mode = f".ddmq-{new_token()}", self._form.result_mode
        try:
            # So a file has this name that is there whole, or not at all.
            self._results.create(draft, data, sync=self._is_durable, mode=mode)
            self._results.move(draft, self._results, call.key)
        except OSError as error:
            if error.errno == errno.ESTALE and self._is_gone():
                what = "the directory of results was removed"
                raise FileNotFoundError(errno.ENOENT, what, error.filename) from error
            if not may_pass(error) or error.errno == errno.ENOENT:
                raise
            self._clock.sleep(_TROUBLED)  # it may have room for it later
            why = f"its result is not kept in {self._results.path}: {error.strerror}"
            raise Release(why) from error

    def _is_gone(self) -> bool:
        """Tell whether the directory was removed, which an NFS client calls stale.

        While a file server stands still, or has just come back, it may say so of what is there.
        """
        try:
            return not os.path.samestat(os.stat(self._results.path), self._opened)
        except OSError as error:
            return error.errno in (errno.ENOENT, errno.ENOTDIR)

    def _give_away(self, calls: list[Call]) -> None:
        """Let others make those that have no result.

        A message may have been given back, since a job ended. Then some of its calls were given
        away before, and others have made them.
        """
        self._publish([c for c in calls if self._results.status(c.key) is None])

    def _publish(self, calls: list[Call]) -> None:
        """Let calls be messages of their own, for whoever is free."""
        if self._broker is None:
            from ddmq.broker import Broker  # only where calls take long

            self._broker = Broker(self._root)
        publish_together(self._broker, self._queue, calls, 1)
