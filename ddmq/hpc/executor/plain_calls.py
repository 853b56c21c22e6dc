"""Calls whose arguments and results are JSON, of functions in some modules only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ddmq.errors import InvalidArgument
from ddmq.hpc.executor.calls import Answer, Call, CallFailed
from ddmq.hpc.functions.calling import function_named, name_of
from ddmq.hpc.functions.serving import Reject
from ddmq.untrusted import parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_ANYTHING = "or Executor(…, serializer='cloudpickle') takes anything"


class Plain:
    """Makes messages of calls, and calls of messages; see also `pickled_calls.py`."""

    result_mode = None
    """Of the files with results: as the umask says."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self.allowed = set(allowed)
        """The modules; empty: that of the first function will be the one."""

    def words(self) -> list[str]:
        """Return what makes one like this in a worker's process."""
        return ["json", *sorted(self.allowed)]

    @property
    def can_start(self) -> bool:
        """Whether workers can be started now that will make all calls."""
        return bool(self.allowed)

    def close(self) -> None:
        """Let go of nothing."""

    # The caller's side

    def function(self, fn: Callable[..., Any]) -> str:
        """Return the name of a function that the workers may call; InvalidArgument: none."""
        try:
            name = name_of(fn)
        except InvalidArgument as error:
            raise InvalidArgument(f"{error}; {_ANYTHING}") from error
        module = name.partition(":")[0]
        if not self.allowed:
            self.allowed.add(module)
        if module not in self.allowed:
            known = ", ".join(sorted(self.allowed))
            raise InvalidArgument(
                f"{name}: the workers are started for functions of {known} only; make it "
                f"Executor(…, allow=[…, {module!r}])"
            )
        return name

    def call(
        self,
        key: str,
        function: str,
        args: list[Any],
        kwargs: dict[str, Any],
        *,
        each: bool = False,
    ) -> Call:
        """Return a call; InvalidArgument: its arguments are no JSON."""
        try:
            json.dumps([args, kwargs], allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidArgument(
                f"the arguments of {function} are no JSON: {error}; write them to a file, "
                f"and give its path; {_ANYTHING}"
            ) from error
        return Call(key, function, args, kwargs, each)

    def outcome(self, answer: Answer) -> tuple[Any, BaseException | None]:
        """Return what a call returned, or the exception that it raised."""
        if answer.pickle:
            return None, CallFailed(
                "its result is pickled, and is not read; say serializer='cloudpickle'"
            )
        if answer.error is not None:
            return None, answer.exception(self.allowed)
        return answer.value, None

    # The side of the workers

    def answer(self, call: Call) -> bytes:
        """Make a call, and return what came of it; Reject: it is none for this worker."""
        if call.pickle:
            raise Reject(
                "it is pickled, and this worker was not started for that: use "
                "Executor(…, serializer='cloudpickle') with a queue of its own"
            )
        if call.module not in self.allowed:
            raise Reject(
                f"{call.function[:200]}: this worker was not started for its module"
            )
        try:
            data = Answer(call.key, call.made(function_named(call.function))).data()
            parsed(data)  # as whoever collects it will
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is the caller's to handle
            return Answer.failed(call.key, error).data()
        return data
