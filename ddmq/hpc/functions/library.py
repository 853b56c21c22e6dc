"""The worker for programs: it calls a function for each message, in processes of its own."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from ddmq import schedulers
from ddmq.broker import Broker
from ddmq.clock import Clock
from ddmq.errors import DdmqError, InvalidArgument, did_you_mean
from ddmq.hpc.functions.calling import command_for, function_named, name_of
from ddmq.hpc.limits import refuse_too_short
from ddmq.hpc.options import WorkerOptions, on_success, signal_number
from ddmq.hpc.worker import deadline_from, work
from ddmq.settings import is_number
from ddmq.storage.filesystem import FileSystem

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddmq.hpc.worker import Summary

#: What is not for a function that gets its messages one by one, as values.
_NOT_HERE = ("batch", "stdin", "persistent")


class Worker:
    """A worker whose command is a function of Python; see `ddmq-worker --persistent`.

    `options` are those of `ddmq.hpc.options.WorkerOptions`, with times in seconds: `slots`,
    `timeout`, `retries`, `until`, `max_messages`, `output_dir` and so on. Slots are by default as
    many as the scheduler allocated. The job ends in `time` seconds, or at `deadline`, in seconds
    since 1970, or when Slurm says; `min_remaining` is the time below which nothing is started.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        queue: str,
        *,
        time: float | None = None,
        deadline: float | None = None,
        min_remaining: float | None = None,
        **options: Any,
    ) -> None:
        """Check the options, and that there is such a queue."""
        self._environ = schedulers.environment()
        self._clock, self._fs = Clock(), FileSystem()
        self._broker = Broker(root, fs=self._fs, clock=self._clock)
        self._broker.settings(queue)
        self._queue = queue
        self._ends = {"time": time, "at": deadline, "min_remaining": min_remaining}
        for name, value in self._ends.items():
            if value is not None and not is_number(value):
                raise InvalidArgument(
                    f"{'deadline' if name == 'at' else name} is {value!r:.60}; "
                    "it must be a number of seconds"
                )
        self._options = _checked(options, self._environ, queue)
        if time is not None:
            refuse_too_short(time, self._options.grace, min_remaining or 0.0, dash="")

    def run(self, function: Callable[..., Any] | str) -> Summary:
        """Call a function for each message until the queue is empty; return what was done.

        `function` is one that other processes can import, or its name, `module:function`; each
        slot has a process for it, which stays. It gets what `serve` says. Its messages are acked
        when it returns, and fail when it raises an exception.

        The worker takes the signals that ask it to drain, SIGINT included, for as long as it
        runs: so it runs in the main thread. What is returned says why it stopped, in `stopped`,
        where that was before it found the queue empty. InvalidArgument: no other process can
        find the function.
        """
        if threading.current_thread() is not threading.main_thread():
            raise DdmqError(
                "a worker takes signals, and Python gives these to the main thread only; "
                "run it there, or start `ddmq-worker` as a process"
            )
        if isinstance(function, str):
            function = function_named(function)
        return work(
            lambda: self._broker,
            self._queue,
            command_for(name_of(function)),
            options=self._options,
            deadline=deadline_from(self._environ, self._clock, **self._ends),
            environ=self._environ,
            clock=self._clock,
            fs=self._fs,
        )


def _checked(
    options: dict[str, Any], environ: dict[str, str], queue: str
) -> WorkerOptions:
    """Return what a worker is told; InvalidArgument: there is no such option."""
    known = [name for name in WorkerOptions._fields if name not in _NOT_HERE]
    for name in options:
        if name not in known:
            raise InvalidArgument(
                f"{name} is no option of a worker that calls a function"
                f"{did_you_mean(name, known)}"
            )
    defaults = {
        "slots": schedulers.slots(environ),
        "spool": environ.get("TMPDIR", "/tmp"),
    }
    given = {
        name: os.fspath(value) if isinstance(value, os.PathLike) else value
        for name, value in {**defaults, **options}.items()
    }
    if isinstance(given.get("on_success"), str):
        given["on_success"] = on_success(given["on_success"])
    if isinstance(given.get("term_signal"), str):
        given["term_signal"] = signal_number(given["term_signal"])
    told = WorkerOptions(**given, persistent=True).checked(queue)
    places = {
        name: os.path.abspath(place)
        for name in ("log_dir", "output_dir")
        if (place := getattr(told, name)) is not None
    }
    return told._replace(**places)
