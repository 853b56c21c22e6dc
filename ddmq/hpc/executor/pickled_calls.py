"""Calls of which all is pickled, by cloudpickle: between processes of one user.

Whoever can write a pickle that is read can run anything. So nothing is unpickled, nor sent to be,
unless root, queue and results are closed to others at that moment: `loads` is the only place.
"""

from __future__ import annotations

import importlib
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any

from ddmq.errors import DdmqError, InvalidArgument
from ddmq.hpc.executor.calls import (
    Answer,
    Call,
    CallFailed,
    caused,
    traceback_of,
)
from ddmq.hpc.executor.enclosure import Enclosure, check_below
from ddmq.hpc.functions.serving import Reject

if TYPE_CHECKING:
    import os
    from collections.abc import Callable


class Pickled:
    """Makes messages of calls, and calls of messages; see also `plain_calls.py`."""

    result_mode = 0o600
    """Of the files with results: others may not write to them, whatever the umask says."""
    can_start = True
    """Whether workers can be started now that will make all calls."""

    def __init__(self, root: str, queue: str, results: str) -> None:
        """Hold the directories; InvalidArgument: one is open to others, or no cloudpickle."""
        self._places = root, queue, results
        try:
            cloudpickle: Any = importlib.import_module("cloudpickle")
        except ImportError as error:
            raise InvalidArgument(
                "serializer='cloudpickle': cloudpickle is not installed; "
                "`pip install 'ddmq[cloudpickle]'`, here and where the workers are"
            ) from error
        self._dumps: Callable[[Any], bytes] = cloudpickle.dumps
        self._loads: Callable[[bytes], Any] = cloudpickle.loads
        self._enclosure = Enclosure(root, f"{root}/{queue}", results)

    def words(self) -> list[str]:
        """Return what makes one like this in a worker's process."""
        return ["cloudpickle"]

    def check_all(self, results: os.stat_result) -> None:
        """Raise InvalidArgument where others have been in the queue, or these are no results."""
        root, queue, place = self._places
        if not self._enclosure.holds(place, results):
            raise InvalidArgument(f"{place}: it is another directory than a moment ago")
        check_below(f"{root}/{queue}")

    def close(self) -> None:
        """Let go of the directories."""
        self._enclosure.close()

    def _loaded(self, text: str) -> Any:
        """Unpickle; InvalidArgument: others may have written it."""
        self._enclosure.check()
        return self._loads(b64decode(text))

    def _text(self, value: Any) -> str:
        return b64encode(self._dumps(value)).decode("ascii")

    # The caller's side

    def function(self, fn: Callable[..., Any]) -> tuple[str, bytes]:
        """Return a function pickled, and what people call it; InvalidArgument: it can't be."""
        name = getattr(fn, "__qualname__", type(fn).__qualname__)
        full = f"{getattr(fn, '__module__', '?')}:{name}"
        return full, self._checked(full, self._dumps, fn)

    def call(
        self,
        key: str,
        function: tuple[str, bytes],
        args: list[Any],
        kwargs: dict[str, Any],
        *,
        each: bool = False,
    ) -> Call:
        """Return a call; InvalidArgument: it can't be pickled, or others could write there."""
        self._enclosure.check()
        name, code = function
        text = self._checked(name, self._text, (code, args, kwargs))
        return Call(key, name, [], {}, each, text)

    @staticmethod
    def _checked(name: str, act: Callable[[Any], Any], value: Any) -> Any:
        try:
            return act(value)
        except Exception as error:
            raise InvalidArgument(f"{name} can't be pickled: {error}") from error

    def outcome(self, answer: Answer) -> tuple[Any, BaseException | None]:
        """Return what a call returned, or the exception that it raised."""
        if not answer.pickle:
            if answer.error is not None:
                return None, answer.exception(())
            return answer.value, None
        try:
            value, error, text = self._loaded(answer.pickle)
            return value, None if error is None else caused(error, text)
        except DdmqError as refused:
            return None, refused
        except Exception as why:  # noqa: BLE001 - whatever an object does here
            failed = CallFailed(f"its result can't be unpickled: {why}")
            failed.__cause__ = why
            return None, failed

    # The side of the workers

    def answer(self, call: Call) -> bytes:
        """Make a call, and return what came of it; Reject: it is none for this worker."""
        if not call.pickle:
            raise Reject(
                "it is not pickled, and this worker makes pickled calls only; "
                "use a queue of its own"
            )
        try:
            code, args, kwargs = self._loaded(call.pickle)
            function = self._loads(code)
        except DdmqError as error:
            raise Reject(str(error)) from error
        except Exception as error:  # noqa: BLE001 - it is the caller's to handle
            return self._failed(call.key, error)
        try:
            value = call._replace(args=args, kwargs=kwargs).made(function)
            return Answer(call.key, pickle=self._text((value, None, ""))).data()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the same
            return self._failed(call.key, error)

    def _failed(self, key: str, error: BaseException) -> bytes:
        """Return what tells of an exception, as it is or in words."""
        try:
            text = self._text((None, error, traceback_of(error)))
            self._loads(b64decode(text))  # some are pickled, and never come out again
            return Answer(key, pickle=text).data()
        except Exception:  # noqa: BLE001 - whatever an object does here
            return Answer.failed(key, error).data()
