"""What the workers of an Executor run: it makes calls, and writes down what came of each."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING, Any

from ddmq.hpc.calls import Call
from ddmq.hpc.faults import may_pass
from ddmq.hpc.folder import Folder
from ddmq.hpc.plain import Plain
from ddmq.hpc.result import is_result
from ddmq.hpc.serving import Reject, Release
from ddmq.storage.names import new_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddmq.hpc.pickled import Pickled

#: Seconds until a call is made again whose result the directory did not take.
_TROUBLED = 5.0


class Caller:
    """Makes calls in the form for which it was started, and in no other.

    What came of a call is a file in the directory of results, named after its message. It is
    there before the message is acked: whoever is killed in between leaves a call that is made
    once more, and whose new result takes the place of the old one.
    """

    def __init__(self, results: str, durable: str, form: str, *words: str) -> None:
        """Open the directory; `words` are what the form needs."""
        self._form: Plain | Pickled
        if form == "cloudpickle":
            from ddmq.hpc.pickled import Pickled  # not every worker has it

            self._form = Pickled(*words)
        else:
            self._form = Plain(words)
        self._results = Folder.open(results)
        self._is_durable = bool(durable)
        self._sleep: Callable[[float], None] = time.sleep

    def __call__(self, message: Any, id: str) -> None:  # noqa: A002 - a field of `serve`
        """Make the call that a message asks for, and keep what came of it."""
        call = Call.parse(message)
        if call is None:
            raise Reject("it is no call, as an Executor publishes them")
        if not is_result(id):
            raise Reject("its id was not made by ddmq, and names no result")
        data = self._form.answer(call)
        try:
            self._keep(id, data)
        except OSError as error:
            if not may_pass(error) or error.errno == errno.ENOENT:
                raise
            self._sleep(_TROUBLED)  # it may have room for it later
            why = f"its result is not kept in {self._results.path}: {error.strerror}"
            raise Release(why) from error

    def _keep(self, name: str, data: bytes) -> None:
        """Let a file have this name that is there whole, or not at all."""
        draft, sync = f".ddmq-{new_token()}", self._is_durable
        self._results.create(draft, data, sync=sync, mode=self._form.result_mode)
        self._results.move(draft, self._results, name)
        if sync:
            self._results.sync()
