"""`concurrent.futures` on a queue: calls are messages, and workers make them."""

from __future__ import annotations

import atexit
import errno
import os
import stat
import threading
import weakref
from concurrent import futures
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ddmq.broker import Broker
from ddmq.clock import Clock
from ddmq.errors import (
    DdmqError,
    InvalidArgument,
    QueueNotFound,
    RootNotFound,
    StorageError,
)
from ddmq.hpc.calling import command_for, name_of
from ddmq.hpc.calls import MAX_RESULT, Answer, Call, CallFailed, checked
from ddmq.hpc.crew import Crew
from ddmq.hpc.folder import Folder
from ddmq.hpc.result import is_result
from ddmq.log import warn
from ddmq.storage.names import new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

#: Seconds for which a call is lost at most whose worker was killed: the timeout in new queues.
_TIMEOUT = 60
#: Seconds between two looks for results: the first, and the longest; and the share of the time
#: that looking may take.
_LOOK_FIRST, _LOOK_LONGEST, _SHARE = 0.01, 1.0, 0.05
#: Seconds between two looks for calls that are dead letters.
_LOOK_FOR_DEAD = 2.0
#: Seconds between two looks for calls that are nowhere, and for jobs, while no results come; and
#: after how many seconds of that they are lost. A file server may show a result a minute later.
_LOOK_FOR_LOST, _LOST_AFTER = 30.0, 75.0
#: What the kernel says of a link, of what is no file, and of a file that is closed to us.
_NO_RESULT = (errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.EACCES, errno.EPERM)
_CALLER = "ddmq.hpc.calls:Caller"
_OF_OTHERS = stat.S_IWGRP | stat.S_IWOTH
#: All of this process: it does not end before their calls are made.
_living: weakref.WeakSet[Executor] = weakref.WeakSet()
_SHARED = "shared=True trusts all who may write there with every function that workers may call"


class CallFuture(futures.Future[Any]):
    """What will come of a call."""

    def __init__(self, key: str, executor: Executor) -> None:
        super().__init__()
        self.key = key
        self._executor = executor

    def cancel(self) -> bool:
        """Take the call out of the queue if it waits; False: a worker has it, or it is done.

        A call of a `map` is one of several in a bundle. It may still be made by a worker that
        looked just before; then what comes of it is not used.
        """
        if not self.done():
            self._executor.take_out([self])
        return self.cancelled()


class Executor(futures.Executor):
    """Makes calls of functions by workers: `ddmq-worker --persistent`, here or in Slurm jobs.

    A call is a message with the name of a function and its arguments as JSON. The workers make
    calls of functions in the modules of `allow` only; by default that is the module of the first
    function. What a function returns comes back as JSON, in one file for each call, in `results`.

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
        clock: Clock | None = None,
    ) -> None:
        """Make the queue and the directory of results; workers come with the first call."""
        self.futures: list[CallFuture] = []
        """The futures that `attach` found, in the order in which they were submitted."""
        self._clock = clock or Clock()
        self._broker = Broker(root, clock=self._clock)
        self._is_temporary = queue is None and results is None and slurm is None
        self.queue = f"calls-{new_token()}" if queue is None else queue
        self._allowed = {allow} if isinstance(allow, str) else set(allow)
        self.results = _place_of(results, self.queue)
        place = f"{self._broker.root}/{self.queue}"
        if not shared:
            _require_own_names(self._broker.root)
            _require_own(place)
            _require_own(self.results)
        if self._broker.create_queue(self.queue, mode=0o700):
            self._broker.update_settings(self.queue, message_timeout=_TIMEOUT)
        self._answers = _opened(self.results)
        if not shared:  # by now they are there, and nobody else can take their place
            try:
                _require_own(place)
                _require_own(self.results, self._answers.own_status())
            except BaseException:
                self._answers.close()
                raise
        self._workers = Crew(self._broker.root, self.queue, self.results)
        self._slots, self._slurm = slots, slurm
        self._run = f"{self._clock.time_ns():019d}{new_token()[:4]}"
        self._number = 0
        self._pending: dict[str, CallFuture] = {}
        self._ids: dict[str, str] = {}
        self._seen: set[str] = set()
        #: Since when calls are nowhere, and no job of ours is left.
        self._lost: dict[str, float] = {}
        self._no_job_since: float | None = None
        _living.add(self)
        self._lock = threading.RLock()
        self._news = threading.Event()
        self._is_ending = False
        self._thread: threading.Thread | None = None

    @classmethod
    def attach(
        cls, root: str | os.PathLike[str], queue: str, **options: Any
    ) -> Executor:
        """Find the calls of a run again, whose process has ended: they are in `futures`.

        `options` are those of the Executor. Workers are started only where `allow` says what
        they may call; others that were started before go on. Nothing is made: QueueNotFound,
        and InvalidArgument where the directory of results is missing.
        """
        results = _place_of(options.get("results"), queue)
        with Broker(root) as broker:
            broker.settings(queue)
        if not os.path.isdir(results):
            raise InvalidArgument(
                f"{results}: no such directory; say where the results of the run are: results="
            )
        found = cls(root, queue, **options)
        found._find()
        return found

    # Calls

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> CallFuture:
        """Let a worker call `fn(*args, **kwargs)`; return what will come of it.

        InvalidArgument: no other process finds the function, or its arguments are no JSON.
        """
        with self._lock:
            call = self._call(self._ready_for(fn), list(args), kwargs)
            [future] = self._expect([call])
            try:
                id_ = self._broker.publish(self.queue, call.message())
            except BaseException:
                del self._pending[call.key]
                raise
            self._ids[call.key] = id_
        return future

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[Any]:
        """Yield what `fn` returns for each, in their order; all calls are published at once.

        A worker makes `chunksize` calls for one message, which saves time where they take less
        than some milliseconds.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        ends = None if timeout is None else self._clock.monotonic() + timeout
        each = [list(args) for args in zip(*iterables)]
        with self._lock:
            name, calls = self._ready_for(fn), []
            if chunksize == 1:
                calls = [self._call(name, args, {}) for args in each]
            else:
                for first in range(0, len(each), chunksize):
                    some = each[first : first + chunksize]
                    calls.append(self._call(name, some, {})._replace(each=True))
            found = self._expect(calls)
            try:
                self._broker.publish_many(self.queue, [c.message() for c in calls])
            except BaseException:
                for call in calls:
                    del self._pending[call.key]
                raise
        return self._results(found, ends, is_many=chunksize > 1)

    def _results(
        self, found: list[CallFuture], ends: float | None, *, is_many: bool
    ) -> Iterator[Any]:
        """Yield the results of futures in their order; in the end none of them is left waiting."""
        found.reverse()
        try:
            while found:
                left = None if ends is None else ends - self._clock.monotonic()
                result = found[-1].result(left)
                found.pop()
                if is_many:
                    yield from result
                else:
                    yield result
        finally:
            self.take_out(found)

    def _ready_for(self, fn: Callable[..., Any]) -> str:
        """Return the name of a function that the workers, which run now, may call."""
        if self._is_ending:
            raise RuntimeError("cannot schedule new futures after shutdown")
        name = name_of(fn)
        module = name.partition(":")[0]
        if not self._allowed:
            self._allowed.add(module)
        if module not in self._allowed:
            known = ", ".join(sorted(self._allowed))
            raise InvalidArgument(
                f"{name}: the workers are started for functions of {known} only; make it "
                f"Executor(…, allow=[…, {module!r}])"
            )
        self._start()
        return name

    def _call(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Call:
        self._number += 1
        return checked(Call(f"{self._run}-{self._number:09d}", name, args, kwargs))

    def _expect(self, calls: Sequence[Call]) -> list[CallFuture]:
        """Return a future for each call, whose result is looked for from now on."""
        found = [CallFuture(call.key, self) for call in calls]
        with self._lock:
            self._pending.update((future.key, future) for future in found)
        self._watch()
        return found

    def _start(self) -> None:
        """Start the workers, unless they are."""
        if not self._workers.are_started:
            command = command_for(_CALLER, *sorted(self._allowed))
            self._workers.start(command, self._slots, self._slurm)

    def take_out(self, unwanted: Iterable[CallFuture]) -> None:
        """Cancel those futures whose calls wait: no worker will make them."""
        with self._lock:
            wanted = {f.key: f for f in unwanted if f.key in self._pending}
            if not wanted:
                return
            if not wanted.keys() <= self._ids.keys():
                for seen in self._broker.contents(self.queue):
                    call = Call.parse(seen.message)
                    if call is not None and call.key in self._pending:
                        self._ids[call.key] = seen.id
            keys = {self._ids[key]: key for key in wanted if key in self._ids}
            states = self._broker.status(self.queue, keys)
            waiting = [x for x, state in states.items() if state == "waiting"]
            states = self._broker.cancel(self.queue, waiting) if waiting else {}
            taken = [
                wanted[keys[x]] for x in states if states[x] in ("dead", "waiting")
            ]
            for future in taken:
                del self._pending[future.key]
        for future in taken:
            futures.Future.cancel(future)
            future.set_running_or_notify_cancel()

    # The end

    @property
    def has_workers(self) -> bool:
        """Whether it started workers."""
        return self._workers.are_started

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
        with self._lock:
            self._is_ending = True
            pending = list(self._pending.values())
        if cancel_futures:
            self.take_out(pending)
        self._watch()
        if wait and self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        """Let the thread look for results from now on."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._collect, name="ddmq-executor", daemon=True
                )
                self._thread.start()
        self._news.set()

    # What its thread does

    def _collect(self) -> None:
        """Look for results until all have come after the end; what goes wrong fails the calls."""
        try:
            self._collect_all()
        except Exception as error:  # noqa: BLE001 - nobody else is told, and all would wait
            self._fail(futures.BrokenExecutor(f"{type(error).__name__}: {error}"))
        finally:
            self._close()

    def _collect_all(self) -> None:
        pause, is_away, is_gone = _LOOK_FIRST, False, False
        looked = looked_for_lost = self._clock.monotonic()
        while True:
            self._news.clear()
            with self._lock:
                if self._is_ending and not self._pending:
                    break
                is_idle = not self._pending
            if is_idle:
                self._news.wait()
                continue
            began, has_come, why = self._clock.monotonic(), False, ""
            try:
                has_come = self._look()
                if has_come:
                    looked_for_lost = began
                    self._lost, self._no_job_since = {}, None
                if began - looked > _LOOK_FOR_DEAD:
                    looked = began
                    self._look_for_dead()
                    is_gone = False
                if began - looked_for_lost > _LOOK_FOR_LOST:
                    looked_for_lost = began
                    self._look_for_lost(began)
                    why = self._missing_jobs(began)
                is_away = False
            except (QueueNotFound, RootNotFound) as error:
                why, is_gone = str(error) if is_gone else "", True
            except DdmqError as error:  # a file server that is away comes back
                if not is_away:
                    warn(f"results are not looked for now, tried again: {error}")
                is_away = True
            why = self._workers.trouble(has_come=has_come) or why
            if why:
                self._fail(futures.BrokenExecutor(why))
            pause = _LOOK_FIRST if has_come else min(pause * 1.5, _LOOK_LONGEST)
            took = self._clock.monotonic() - began
            if self._news.wait(max(pause, took / _SHARE)):
                pause = _LOOK_FIRST

    def _look(self) -> bool:
        """Take the results that have come since the last time; False: there are none."""
        new = [n for n in self._names() if n not in self._seen and is_result(n)]
        for name in new:
            answer = self._read(name)
            self._seen.add(name)
            if answer is None:
                warn(f"{self.results}/{name} is left out: it is no result of a call")
                continue
            with self._lock:
                future = self._pending.pop(answer.key, None)
                self._ids.pop(answer.key, None)
            if future is None or not future.set_running_or_notify_cancel():
                continue
            if answer.error is None:
                future.set_result(answer.value)
            else:
                future.set_exception(answer.exception(self._allowed))
        return bool(new)

    def _names(self) -> list[str]:
        try:
            return self._answers.names()
        except OSError as error:
            raise DdmqError(f"{self.results}: {error.strerror}") from error

    def _read(self, name: str) -> Answer | None:
        """Read a result; None: it is none. DdmqError: it can't be read now."""
        try:
            with self._answers.ordinary_file(name) as file:
                return Answer.parse(file.read(MAX_RESULT + 1))
        except OSError as error:
            if error.errno in _NO_RESULT:
                return None
            raise DdmqError(f"{self.results}/{name}: {error.strerror}") from error

    def _look_for_dead(self) -> None:
        """Fail the calls that no worker could make: their messages are dead letters."""
        if not self._broker.view(self.queue)[self.queue].dead:
            return
        for letter in self._broker.dead(self.queue):
            call = Call.parse(letter.message)
            if call is not None:
                with self._lock:
                    future = self._pending.pop(call.key, None)
                if future is not None and future.set_running_or_notify_cancel():
                    said = str(letter.note.get("stderr", ""))[-1000:]
                    text = f"{call.function} was not called: {letter.reason}"
                    future.set_exception(CallFailed(f"{text}\n{said}".rstrip()))

    def _look_for_lost(self, now: float) -> None:
        """Fail the calls that have long been nowhere: purged, moved, or without their result."""
        with self._lock:
            keys = set(self._pending)
        counts = self._broker.view(self.queue)[self.queue]
        if counts.waiting + counts.work + counts.delayed >= len(keys):
            self._lost = {}
            return
        for seen in self._broker.contents(self.queue, work=True):
            call = Call.parse(seen.message)
            if call is not None:
                keys.discard(call.key)
        self._lost = {key: self._lost.get(key, now) for key in keys}
        for key in [k for k, since in self._lost.items() if now - since > _LOST_AFTER]:
            with self._lock:
                future = self._pending.pop(key, None)
            if future is not None and future.set_running_or_notify_cancel():
                text = "the call is not in its queue, and has no result: was it purged, or moved?"
                future.set_exception(CallFailed(text))

    def _missing_jobs(self, now: float) -> str:
        """Say that all our jobs ended long ago, and nobody else works; empty: it isn't so."""
        if not self._workers.have_left() or any(
            worker.is_live for worker in self._broker.workers(self.queue)
        ):
            self._no_job_since = None
            return ""
        if self._no_job_since is None:
            self._no_job_since = now
        if now - self._no_job_since <= _LOST_AFTER:
            return ""
        return (
            "all Slurm jobs have ended, and calls are left; their output says why. They stay in "
            f"the queue: Executor.attach(…, {self.queue!r}, allow=…, slurm=…)"
        )

    def _fail(self, error: Exception) -> None:
        """Let all calls fail that are not made yet."""
        with self._lock:
            pending, self._pending = self._pending, {}
            self._is_ending = True
        for future in pending.values():
            if future.set_running_or_notify_cancel():
                future.set_exception(error)

    def _close(self) -> None:
        """End the workers, and remove what nobody asked to keep."""
        self._workers.end()
        if self._workers.are_jobs:
            self._workers.cancel_waiting()
            with suppress(DdmqError):
                self._broker.drain(self.queue)
        self._answers.close()
        if self._is_temporary:
            import shutil  # slow to import

            with suppress(DdmqError):
                self._broker.delete_queue(self.queue)
            shutil.rmtree(self.results, ignore_errors=True)
            with suppress(OSError):
                os.rmdir(os.path.dirname(self.results))
        self._broker.close()

    # Another process's calls

    def _find(self) -> None:
        """Make a future for each call that is in the queue, or has a result."""
        keys: set[str] = set()
        for _ in range(2):  # one that moves on while we look is there the next time
            for seen in self._broker.contents(self.queue, work=True):
                call = Call.parse(seen.message)
                if call is not None:
                    keys.add(call.key)
                    self._ids[call.key] = seen.id
        for name in filter(is_result, self._names()):
            answer = self._read(name)
            if answer is not None:
                keys.add(answer.key)
        self.futures = [CallFuture(key, self) for key in sorted(keys)]
        self._pending.update((future.key, future) for future in self.futures)
        if self._allowed and self._pending:
            self._start()
        self._watch()


def _wait_for_all() -> None:
    """Let this process end when all calls are made, as the executors of Python itself do.

    Calls that other workers make, as after `attach`, are not waited for.
    """
    for executor in list(_living):
        if executor.has_workers:
            executor.shutdown()


# What `atexit` calls comes after Python has waited for its threads, and makes none any more.
getattr(threading, "_register_atexit", atexit.register)(_wait_for_all)


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


def _require_own_names(root: str) -> None:
    """Raise InvalidArgument where others may put another directory in the place of a queue."""
    with suppress(FileNotFoundError):  # the broker says that
        mode = os.stat(root).st_mode
        if mode & _OF_OTHERS and not mode & stat.S_ISVTX:
            raise InvalidArgument(
                f"{root}: others may write there, and so replace a queue; `chmod go-w` or "
                f"`chmod +t` it, or use a root of your own; {_SHARED}"
            )


def _require_own(path: str, held: os.stat_result | None = None) -> None:
    """Raise InvalidArgument where others may write to a directory; it need not be there yet.

    `held` is the one that was opened: it must be the one that is there.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(error) from error
    if not stat.S_ISDIR(found.st_mode):
        what = "is a link, or no directory; name the directory itself"
    elif found.st_uid != os.geteuid():
        what = "belongs to somebody else; name another one"
    elif found.st_mode & _OF_OTHERS:
        what = "may be written to by others; `chmod -R go-w` it, or name another one"
    elif held is not None and not os.path.samestat(found, held):
        what = "is another directory than a moment ago; try again"
    else:
        return
    raise InvalidArgument(f"{path}: it {what}; {_SHARED}")
