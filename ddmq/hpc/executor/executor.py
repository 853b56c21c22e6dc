"""`concurrent.futures` on a queue: calls are messages, and workers make them."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from concurrent import futures
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ddmq.broker import Broker
from ddmq.clock import Clock
from ddmq.errors import DdmqError, InvalidArgument, StorageError, public
from ddmq.hpc.executor.bundled_calls import publish_together
from ddmq.hpc.executor.collector import OF_PARENT, Collector
from ddmq.hpc.executor.crew import Crew
from ddmq.hpc.executor.enclosure import require_own, require_own_names
from ddmq.hpc.executor.plain_calls import Plain
from ddmq.hpc.folder import Folder
from ddmq.hpc.functions.calling import command_for
from ddmq.storage.names import new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ddmq.hpc.executor.calls import Call
    from ddmq.hpc.executor.collector import CallFuture
    from ddmq.hpc.executor.pickled_calls import Pickled

#: Seconds for which a call is lost at most whose worker was killed: the timeout in new queues.
_TIMEOUT = 60
#: Of so many calls one is in a message, and of more several are: so many at most.
_MANY, _TOGETHER = 100, 20
#: Seconds in which a worker acks what is done.
_LAST_ACKS = 1.0
_CALLER = "ddmq.hpc.executor.caller:Caller"
#: All of this process: it does not end before their calls are made.
_living: weakref.WeakSet[Executor] = weakref.WeakSet()


class Executor(futures.Executor):
    """Makes calls of functions by workers: `ddmq-worker --persistent`, here or in Slurm jobs.

    A call is a message with the name of a function and its arguments as JSON. The workers make
    calls of functions in the modules of `allow` only; by default that is the module of the first
    function. What a function returns comes back as JSON, in one file for each call, in `results`.

    With `serializer="cloudpickle"` functions, arguments, results and exceptions may be anything
    that can be pickled. Then whoever may write there can run anything as you: root, queue and
    results must be yours, and closed to others, with all directories above them.

    `queue` is made where it is missing, for its user alone (0700), and `results` likewise; by
    default that is `ddmq-results/<queue>` in the current directory. Where neither has a name,
    both are removed when all is done, unless Slurm jobs may still use them.

    Whoever may write there can have every function of those modules called, and say what it
    returned. So where others may write to queue or results, or replace the queue since they may
    write to the root, that is an InvalidArgument, unless `shared` says that it is meant so.

    `slurm` has the options of `ddmq-submit slurm`, and of its workers: `dict(workers=20, j=16,
    time="1:00:00")`. Without it a worker is started here, with so many `slots`; by default as
    many as there are processors.
    """

    @public
    def __init__(
        self,
        root: str | os.PathLike[str],
        queue: str | None = None,
        *,
        allow: Iterable[str] = (),
        results: str | os.PathLike[str] | None = None,
        slots: int | None = None,
        slurm: Mapping[str, Any] | None = None,
        shared: bool = False,
        serializer: str = "json",
        clock: Clock | None = None,
    ) -> None:
        """Make the queue and the directory of results; workers come with the first call."""
        self.futures: list[CallFuture] = []
        """The futures that `attach` found, in the order in which they were submitted."""
        allowed = {allow} if isinstance(allow, str) else set(allow)
        is_pickled = _is_pickled(serializer, allowed, shared=shared)
        if slots is not None and slots < 1:
            raise InvalidArgument(f"slots is {slots}; it must be greater than 0")
        self._clock = clock or Clock()
        self._is_temporary = queue is None and results is None and slurm is None
        self.queue = f"calls-{new_token()}" if queue is None else queue
        self.results = _place_of(results, self.queue)
        if is_pickled:  # a link on the way may belong to somebody else
            self.results = os.path.realpath(self.results)
        self._broker = Broker(root, clock=self._clock)  # which resolves links, too
        place = f"{self._broker.root}/{self.queue}"
        if not shared:
            require_own_names(self._broker.root)
            require_own(place)
            require_own(self.results)
        if self._broker.create_queue(self.queue, mode=0o700):
            self._broker.update_settings(self.queue, message_timeout=_TIMEOUT)
        self._answers = _opened(self.results)
        try:
            # By now they are there, and nobody else can take their place.
            if not shared:
                require_own(place)
                require_own(self.results, self._answers.own_status())
            self._form = self._pickled() if is_pickled else Plain(allowed)
        except BaseException:
            self._answers.close()
            raise
        self._workers = Crew(self._broker.root, self.queue)
        self._slots, self._slurm = slots, slurm
        self._run = f"{self._clock.time_ns():019d}{new_token()[:4]}"
        self._number = 0
        self._collector = Collector(
            self._broker,
            self.queue,
            self._answers,
            form=self._form,
            workers=self._workers,
            clock=self._clock,
            at_end=self._close,
        )
        _living.add(self)

    def _pickled(self) -> Pickled:
        from ddmq.hpc.executor.pickled_calls import Pickled  # not everybody has it

        form = Pickled(self._broker.root, self.queue, self.results)
        try:
            form.check_all(self._answers.own_status())
        except BaseException:
            form.close()
            raise
        return form

    @classmethod
    @public
    def attach(
        cls, root: str | os.PathLike[str], queue: str, **options: Any
    ) -> Executor:
        """Find the calls of a run again, whose process has ended: they are in `futures`.

        `options` are those of the Executor. Workers are started only where `allow`, `slots` or
        `slurm` asks for some; others that were started before go on. Nothing is made:
        QueueNotFound, and InvalidArgument where the directory of results is missing.
        """
        results = _place_of(options.get("results"), queue)
        with Broker(root) as broker:
            broker.settings(queue)
        if not os.path.isdir(results):
            raise InvalidArgument(
                f"{results}: no such directory; say where the results of the run are: results="
            )
        found = cls(root, queue, **options)
        found._find(start=bool({"allow", "slots", "slurm"} & options.keys()))
        return found

    def _find(self, *, start: bool) -> None:
        """Expect all calls of another process; start workers for them."""
        self.futures = self._collector.find()
        if self.futures and start:
            self._start()

    # Calls

    @public
    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> CallFuture:
        """Let a worker call `fn(*args, **kwargs)`; return what will come of it.

        InvalidArgument: no other process finds the function, or its arguments are no JSON.
        """
        with self._collector.lock:
            call = self._call(self._ready_for(fn), list(args), kwargs)
            [future] = self._published([call])
        return future

    @public
    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[Any]:
        """Yield what `fn` returns for each, in their order; all calls are published at once.

        Of many calls, several are in one message. A worker that does not make all of these
        within a moment gives others what it has not begun. With a `chunksize`, so many calls are
        one, which saves more where each takes less than a millisecond.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        ends = None if timeout is None else self._clock.monotonic() + timeout
        each = [list(args) for args in zip(*iterables)]
        with self._collector.lock:
            function = self._ready_for(fn)
            if chunksize == 1:
                calls = [self._call(function, args, {}) for args in each]
            else:
                calls = [
                    self._call(function, each[first : first + chunksize], {}, each=True)
                    for first in range(0, len(each), chunksize)
                ]
            found = self._published(calls)
        return self._results(found, ends, is_many=chunksize > 1)

    def _results(
        self, found: list[CallFuture], ends: float | None, *, is_many: bool
    ) -> Iterator[Any]:
        """Yield the results of futures in their order; in the end none of them is left waiting.

        What was yielded is not kept here: it may be large.
        """
        found.reverse()
        come: list[Any] = []
        try:
            while found:
                left = None if ends is None else ends - self._clock.monotonic()
                come.append(found[-1].result(left))
                found.pop()
                if is_many:
                    come = come.pop()
                    come.reverse()
                while come:
                    yield come.pop()
        finally:
            self._collector.take_out(found)

    def _ready_for(self, fn: Callable[..., Any]) -> Any:
        """Return a function as calls name it, which workers that run now may call."""
        if self._collector.is_of_parent:
            raise RuntimeError(OF_PARENT)
        if self._collector.is_ending:
            raise RuntimeError("cannot schedule new futures after shutdown")
        function = self._form.function(fn)
        self._start()
        return function

    def _call(
        self,
        function: Any,
        args: list[Any],
        kwargs: dict[str, Any],
        *,
        each: bool = False,
    ) -> Call:
        self._number += 1
        key = f"{self._run}-{self._number:09d}"
        return self._form.call(key, function, args, kwargs, each=each)

    def _published(self, calls: list[Call]) -> list[CallFuture]:
        """Publish calls; return a future for each."""
        found = self._collector.expect(call.key for call in calls)
        try:
            if len(calls) == 1:
                id_ = self._broker.publish(self.queue, calls[0].message())
                self._collector.is_message(calls[0].key, id_)
            else:
                most = min(len(calls) // _MANY, _TOGETHER)
                publish_together(self._broker, self.queue, calls, most)
        except BaseException:
            self._collector.forget(calls)
            raise
        return found

    def _start(self) -> None:
        """Start the workers, unless they are, or nobody knows what they may call."""
        if self._form.can_start and not self._workers.are_started:
            durable = self._broker.settings(self.queue).durable
            places = f"{self._broker.root}/{self.queue}", self.results
            words = [*places, "durable" if durable else "", *self._form.words()]
            self._workers.start(command_for(_CALLER, *words), self._slots, self._slurm)

    # The end

    def _leave(self) -> None:
        """Use nothing of it in a child of this process."""
        self._collector.leave()

    @property
    def has_workers(self) -> bool:
        """Whether it started workers."""
        return self._workers.are_started

    @public
    def shutdown(
        self,
        wait: bool = True,  # noqa: FBT001, FBT002 - as in the standard library
        *,
        cancel_futures: bool = False,
    ) -> None:
        """Take no more calls; when all are made, end the workers.

        With `wait`, return after that; else the program waits for it when it ends. With
        `cancel_futures`, calls that wait are not made.
        """
        with self._collector.lock:
            self._collector.is_ending = True
        if cancel_futures:
            self._collector.take_out()
        self._collector.end(wait=wait)

    def _close(self) -> None:
        """End the workers, and remove what nobody asked to keep."""
        if (
            self._workers.is_here
        ):  # it acks what is done, and then has nothing to say of its end
            with suppress(DdmqError):
                self._broker.wait(self.queue, timeout=_LAST_ACKS)
        self._workers.end()
        if self._workers.are_jobs:
            self._workers.cancel_waiting()
            with suppress(DdmqError):
                self._broker.drain(self.queue)
        self._answers.close()
        self._form.close()
        if self._is_temporary:
            import shutil  # slow to import

            with suppress(DdmqError):
                self._broker.delete_queue(self.queue)
            shutil.rmtree(self.results, ignore_errors=True)
            with suppress(OSError):
                os.rmdir(os.path.dirname(self.results))
        self._broker.close()


def _leave_all() -> None:
    """Let a child of this process, which has none of its threads, use nothing of its Executors."""
    for executor in list(_living):
        executor._leave()


os.register_at_fork(after_in_child=_leave_all)


def _wait_for_all() -> None:
    """Let this process end when all calls are made, as the executors of Python itself do.

    Calls that other workers make, as after `attach`, are not waited for.
    """
    for executor in list(_living):
        if executor.has_workers:
            executor.shutdown()


# What `atexit` calls comes after Python has waited for its threads, and makes none any more.
getattr(threading, "_register_atexit", atexit.register)(_wait_for_all)


def _is_pickled(serializer: str, allowed: set[str], *, shared: bool) -> bool:
    """Tell whether calls are pickled; InvalidArgument: what else was said is not for that."""
    if serializer == "json":
        return False
    if serializer != "cloudpickle":
        raise InvalidArgument(
            f"serializer is {serializer!r:.60}; it must be 'json' or 'cloudpickle'"
        )
    if shared or allowed:
        name = "shared=True" if shared else "allow="
        raise InvalidArgument(
            f"{name} is not for serializer='cloudpickle': whoever may write there can run "
            "anything as you, in no module; leave it out"
        )
    return True


def _place_of(results: str | os.PathLike[str] | None, queue: str) -> str:
    """Return the directory of results."""
    return os.path.abspath(results or f"ddmq-results/{queue}")


def _opened(results: str) -> Folder:
    """Open the directory of results, which is made for us alone where it is missing."""
    try:
        os.makedirs(os.path.dirname(results), exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(results, 0o700)
        return Folder.open(results)
    except OSError as error:
        raise StorageError(error) from error
