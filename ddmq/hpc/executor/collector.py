"""Looks for what comes of calls: results, and that none will come."""

from __future__ import annotations

import errno
import os
import threading
from concurrent import futures
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ddmq.errors import DdmqError, QueueNotFound, RootNotFound, warn
from ddmq.hpc.executor.calls import MAX_RESULT, Answer, Call, CallFailed, is_key
from ddmq.hpc.executor.enclosure import is_own_file
from ddmq.storage.directories import GONE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, KeysView, Sequence

    from ddmq.broker import Broker
    from ddmq.clock import Clock
    from ddmq.hpc.executor.crew import Crew
    from ddmq.hpc.executor.pickled_calls import Pickled
    from ddmq.hpc.executor.plain_calls import Plain
    from ddmq.hpc.folder import Folder

#: Seconds between two looks for results: the first, and the longest; and the share of the time
#: that looking may take.
_LOOK_FIRST, _LOOK_LONGEST, _SHARE = 0.01, 1.0, 0.05
#: Seconds between two looks for calls that are dead letters.
_LOOK_FOR_DEAD = 2.0
#: Seconds between two looks for calls that are nowhere, and for jobs, while no results come; and
#: after how many seconds of that they are lost. A file server may show a result a minute later.
_LOOK_FOR_LOST, _LOST_AFTER = 30.0, 75.0
#: What is said in a child of the process that made an Executor.
OF_PARENT = (
    "this process was forked from the one that made the Executor, and to which its calls belong; "
    "make another Executor here"
)
#: What the kernel says of a link, of what is no file, and of a file that is closed to us.
_NO_RESULT = (errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.EACCES, errno.EPERM)


@contextmanager
def _whatever_callbacks_do() -> Iterator[None]:
    """Go on where one ends its thread, as by `sys.exit`; Python logs an Exception of theirs."""
    try:
        yield
    except BaseException as error:  # noqa: BLE001 - all other calls would wait for ever
        warn(f"a callback of a future raised {type(error).__name__}")


class CallFuture(futures.Future[Any]):
    """What will come of a call."""

    def __init__(self, key: str, collector: Collector) -> None:
        super().__init__()
        self.key = key
        self._collector = collector

    def cancel(self) -> bool:
        """Take the call out of the queue if it waits; False: a worker has it, or it is done.

        A call of a `map` is one of several in a bundle. It may still be made by a worker that
        looked just before; then what comes of it is not used.
        """
        if not self.done():
            self._collector.take_out([self])
        return self.cancelled()

    def leave(self) -> None:
        """Let nobody wait for it in a child of this process, where no thread looks for it."""
        super().__init__()  # another thread of the parent may have held its lock
        self.set_exception(futures.BrokenExecutor(OF_PARENT))


class Collector:
    """The futures of calls that are not made yet, and the thread that looks what comes of them.

    One listing of the directory of results looks for all of them.
    """

    def __init__(
        self,
        broker: Broker,
        queue: str,
        results: Folder,
        *,
        form: Plain | Pickled,
        workers: Crew,
        clock: Clock,
        at_end: Callable[[], None],
    ) -> None:
        self.lock = threading.RLock()
        """Held while calls are published, so that none is taken out before."""
        self.is_ending = False
        """Whether no more calls are taken."""
        self.is_of_parent = False
        """Whether this is the copy in a child of the process that looks."""
        self._broker, self._queue = broker, queue
        self._results, self._form = results, form
        self._workers, self._clock, self._at_end = workers, clock, at_end
        self._pending: dict[str, CallFuture] = {}
        self._ids: dict[str, str] = {}
        self._seen: set[str] = set()
        #: Since when calls are nowhere, and no job of ours is left.
        self._lost: dict[str, float] = {}
        self._no_job_since: float | None = None
        self._news = threading.Event()
        self._thread: threading.Thread | None = None

    # What is waited for

    def expect(self, keys: Iterable[str]) -> list[CallFuture]:
        """Return a future for each call, whose result is looked for from now on."""
        found = [CallFuture(key, self) for key in keys]
        with self.lock:
            self._pending.update((future.key, future) for future in found)
        self._watch()
        return found

    def forget(self, calls: Sequence[Call]) -> None:
        """Expect nothing of calls that could not be published."""
        with self.lock:
            for call in calls:
                self._pending.pop(call.key, None)

    def is_message(self, key: str, id_: str) -> None:
        """Remember which message a call is."""
        self._ids[key] = id_

    def take_out(self, unwanted: Iterable[CallFuture] | None = None) -> None:
        """Cancel those futures whose calls wait, or all: no worker will make them."""
        with self.lock:
            asked = list(self._pending.values()) if unwanted is None else unwanted
            wanted = {f.key: f for f in asked if f.key in self._pending}
            if not wanted:
                return
            keys = self._messages_of(wanted.keys())
            states = self._broker.status(self._queue, keys)
            waiting = [x for x, state in states.items() if state == "waiting"]
            states = self._broker.cancel(self._queue, waiting) if waiting else {}
            gone = [x for x in states if states[x] in ("dead", "waiting")]
            taken = [wanted[key] for x in gone for key in keys[x]]
            for future in taken:
                del self._pending[future.key]
        for future in taken:
            futures.Future.cancel(future)
            future.set_running_or_notify_cancel()

    def _messages_of(self, wanted: KeysView[str]) -> dict[str, list[str]]:
        """Return the messages, by their ids, in which there are no other calls than these."""
        if wanted <= self._ids.keys():
            return {self._ids[key]: [key] for key in wanted}
        found = {}
        for seen in self._broker.contents(self._queue):
            calls = [c.key for c in Call.all_in(seen.message) if c.key in self._pending]
            if len(calls) == 1:
                self._ids[calls[0]] = seen.id
            if calls and all(key in wanted for key in calls):
                found[seen.id] = calls
        return found

    def find(self) -> list[CallFuture]:
        """Expect each call that is in the queue, or has a result; return them in their order."""
        keys: set[str] = set()
        for _ in range(2):  # one that moves on while we look is there the next time
            for seen in self._broker.contents(self._queue, work=True):
                keys.update(call.key for call in Call.all_in(seen.message))
        keys.update(filter(is_key, self._names()))
        return self.expect(sorted(keys))

    def end(self, *, wait: bool) -> None:
        """Look until all have come, and then end; with `wait`, return after that."""
        self.is_ending = True
        if self.is_of_parent:
            return
        self._watch()
        if wait and self._thread is not None:
            self._thread.join()

    def leave(self) -> None:
        """Expect nothing in a child of this process: its thread and its calls are the parent's."""
        self.lock = threading.RLock()  # another thread of the parent may have held it
        self.is_ending = self.is_of_parent = True
        for future in self._pending.values():
            future.leave()
        self._pending = {}

    def _watch(self) -> None:
        """Let the thread look for results from now on."""
        with self.lock:
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
            self._at_end()

    def _collect_all(self) -> None:
        pause, is_away, is_gone = _LOOK_FIRST, False, False
        looked = looked_for_lost = self._clock.monotonic()
        while True:
            self._news.clear()
            with self.lock:
                if self.is_ending and not self._pending:
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
        new = [n for n in self._names() if n not in self._seen and is_key(n)]
        for name in new:
            self._take(name)
        return bool(new)

    def _take(self, name: str) -> None:
        """Take a result; of what it holds nothing stays here."""
        answer = self._read(name)
        self._seen.add(name)
        if answer is None or answer.key != name:
            warn(f"{self._results.path}/{name} is left out: it is no result of a call")
            return
        with self.lock:
            future = self._pending.pop(answer.key, None)
            self._ids.pop(answer.key, None)
        if future is None or not future.set_running_or_notify_cancel():
            return
        try:
            come = list(self._form.outcome(answer))
        except BaseException as why:  # noqa: BLE001 - whatever an object does here
            failed = f"its result can't be had here: {type(why).__name__}"
            come = [None, CallFailed(failed)]
        del answer
        error = come.pop()
        with _whatever_callbacks_do():
            if error is None:
                future.set_result(come.pop())
            else:
                future.set_exception(error)

    def _names(self) -> list[str]:
        try:
            return self._results.names()
        except OSError as error:
            if error.errno in GONE:
                return []  # it was removed: what became of the calls is looked for all the same
            raise DdmqError(f"{self._results.path}: {error.strerror}") from error

    def _read(self, name: str) -> Answer | None:
        """Read a result; None: it is none. DdmqError: it can't be read now."""
        try:
            with self._results.ordinary_file(name) as file:
                if self._form.result_mode and not is_own_file(os.fstat(file.fileno())):
                    return None
                return Answer.parse(file.read(MAX_RESULT + 1))
        except OSError as error:
            if error.errno in _NO_RESULT:
                return None
            raise DdmqError(f"{self._results.path}/{name}: {error.strerror}") from error

    def _look_for_dead(self) -> None:
        """Fail the calls that no worker could make: their messages are dead letters."""
        if not self._broker.view(self._queue)[self._queue].dead:
            return
        for letter in self._broker.dead(self._queue):
            for call in Call.all_in(letter.message):
                said = str(letter.note.get("stderr", ""))[-1000:]
                text = f"{call.function} was not called: {letter.reason}"
                self._has_failed(call.key, CallFailed(f"{text}\n{said}".rstrip()))

    def _look_for_lost(self, now: float) -> None:
        """Fail the calls that have long been nowhere: purged, moved, or without their result."""
        with self.lock:
            keys = set(self._pending)
        counts = self._broker.view(self._queue)[self._queue]
        if counts.waiting + counts.work + counts.delayed >= len(keys):
            self._lost = {}
            return
        for seen in self._broker.contents(self._queue, work=True):
            keys.difference_update(call.key for call in Call.all_in(seen.message))
        self._lost = {key: self._lost.get(key, now) for key in keys}
        for key in [k for k, since in self._lost.items() if now - since > _LOST_AFTER]:
            text = "the call is not in its queue, and has no result: was it purged, or moved?"
            self._has_failed(key, CallFailed(text))

    def _has_failed(self, key: str, error: Exception) -> None:
        with self.lock:
            future = self._pending.pop(key, None)
        if future is not None and future.set_running_or_notify_cancel():
            with _whatever_callbacks_do():
                future.set_exception(error)

    def _missing_jobs(self, now: float) -> str:
        """Say that all our jobs ended long ago, and nobody else works; empty: it isn't so."""
        if not self._workers.have_left() or any(
            worker.is_live for worker in self._broker.workers(self._queue)
        ):
            self._no_job_since = None
            return ""
        if self._no_job_since is None:
            self._no_job_since = now
        if now - self._no_job_since <= _LOST_AFTER:
            return ""
        return (
            "all Slurm jobs have ended, and calls are left; their output says why. They stay in "
            f"the queue: Executor.attach(…, {self._queue!r}, allow=…, slurm=…)"
        )

    def _fail(self, error: Exception) -> None:
        """Let all calls fail that are not made yet."""
        with self.lock:
            keys = list(self._pending)
            self.is_ending = True
        for key in keys:
            self._has_failed(key, error)
