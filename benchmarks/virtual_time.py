"""Many processes in virtual time, run one at a time; used by `simulate.py`.

A process is a generator. What it yields is for how many seconds it sleeps. In between it may call
any code, and that code may wait in virtual time at any depth (`wait_until`). So the code that is
simulated needs no change. A process that waits inside a call keeps the thread that runs it; one
that sleeps between two steps keeps none. Exactly one thread runs at any time: it hands the baton
to the thread or process whose event is next.
"""

from __future__ import annotations

import _thread
import threading
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ddmq.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_Result = TypeVar("_Result")
#: Bytes of a thread's stack. Thousands of threads may wait at once.
_STACK = 256 << 10
#: When virtual time starts, in nanoseconds since 1970: not a whole second.
_EPOCH_NS = 1_700_000_000_123_456_789


class Baton:
    """What a thread holds while it runs, and waits for otherwise."""

    __slots__ = ("lock", "process", "waits")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lock.acquire()
        self.waits = 0
        """The number of the present wait. An event that belongs to an earlier one is void."""
        self.process: Iterator[float] | None = None
        """What the thread is to go on with."""


class Simulation:
    """Virtual time, and the events to come. The thread that makes it takes part."""

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds since the start."""
        self._events: list[tuple[float, int, Baton | Iterator[float], int]] = []
        self._made = 0
        self._free: list[Baton] = []
        self._main = self._running = Baton()
        self._error: BaseException | None = None

    def start(self, process: Iterator[float], after: float = 0.0) -> None:
        """Let a process take its first step in so many seconds."""
        self._made += 1
        heappush(self._events, (self.now + after, self._made, process, 0))

    def wait_until(self, moment: float) -> None:
        """Let the running thread wait until a moment."""
        events = self._events
        if not events or events[0][0] > moment:
            self.now = max(moment, self.now)
            return
        self._notify_at(moment, self._running)
        self._pause()

    def sleep(self, seconds: float) -> None:
        """Let the running thread wait for so many seconds."""
        self.wait_until(self.now + seconds)

    def wait_for(self, call: VirtualCall[Any], seconds: float) -> None:
        """Let the running thread wait for the end of a call, but no longer than that."""
        call.waiting = self._running
        self._notify_at(self.now + max(seconds, 0.0), self._running)
        self._pause()
        call.waiting = None

    def notify(self, baton: Baton) -> None:
        """Let a thread go on that waits."""
        self._notify_at(self.now, baton)

    def _notify_at(self, moment: float, baton: Baton) -> None:
        self._made += 1
        heappush(self._events, (moment, self._made, baton, baton.waits))

    def _pause(self) -> None:
        """Give the baton away, and return when our own next event has come."""
        me = self._running
        found = self._next()
        if found is not me:
            self._hand_to(found)
            me.lock.acquire()
        self._running = me
        if me is self._main and self._error is not None:
            raise self._error

    def _next(self) -> Baton | Iterator[float]:
        """Return whose event is the next one, at the time of it."""
        while True:
            self.now, _, found, wait = heappop(self._events)
            if not isinstance(found, Baton):
                return found
            if found.waits == wait:
                found.waits += 1
                return found

    def _hand_to(self, found: Baton | Iterator[float]) -> None:
        if isinstance(found, Baton):
            found.lock.release()
        elif self._free:
            baton = self._free.pop()
            baton.process = found
            baton.lock.release()
        else:
            baton = Baton()
            baton.process = found
            usual = threading.stack_size(_STACK)
            _thread.start_new_thread(self._run, (baton,))
            threading.stack_size(usual)

    def _run(self, me: Baton) -> None:
        """Take the steps of processes, as long as their events are the next ones."""
        while True:
            process, me.process = me.process, None
            assert process is not None
            self._running = me
            self._step(process)
            found = self._next()
            if isinstance(found, Baton):
                self._free.append(me)
                found.lock.release()
                me.lock.acquire()
            else:
                me.process = found

    def _step(self, process: Iterator[float]) -> None:
        try:
            self.start(process, next(process))
        except StopIteration:
            pass
        except BaseException as error:  # noqa: BLE001 - raised in the thread that made us
            self._error = error
            self.notify(self._main)


class VirtualCall(Generic[_Result]):
    """What `ddmq.storage.background.BackgroundCall` is, in virtual time."""

    def __init__(self, simulation: Simulation, act: Callable[[], _Result]) -> None:
        self.has_ended = False
        self.waiting: Baton | None = None
        self._simulation = simulation
        self._result: _Result | None = None
        self._error: BaseException | None = None
        self._report: Callable[[BaseException | None], object] | None = None
        simulation.start(self._steps(act))

    def _steps(self, act: Callable[[], _Result]) -> Iterator[float]:
        try:
            self._result = act()
        except BaseException as error:  # noqa: BLE001 - raised where somebody asks for the result
            self._error = error
        self.has_ended = True
        if self.waiting is not None:
            self._simulation.notify(self.waiting)
        if self._report is not None:
            self._report(self._error)
        yield from ()

    def ends_within(self, seconds: float) -> bool:
        """Wait at most `seconds` for the end of the call; tell whether it has ended."""
        if not self.has_ended:
            self._simulation.wait_for(self, seconds)
        return self.has_ended

    def result(self) -> _Result:
        """Return what the call returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return cast("_Result", self._result)

    def leave(self, report: Callable[[BaseException | None], object]) -> None:
        """Stop waiting: in the end `report` is called with the error, or None."""
        self._report = report
        if self.has_ended:
            report(self._error)


class VirtualClock(Clock):
    """The clock of all simulated nodes, and of their file server: they agree."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self._simulation = simulation

    def own_ns(self) -> int:
        """Return the virtual time, in nanoseconds since 1970."""
        return _EPOCH_NS + int(self._simulation.now * 1e9)

    def monotonic(self) -> float:
        """Return the virtual seconds that have passed."""
        return self._simulation.now

    def sleep(self, seconds: float) -> None:
        """Wait in virtual time."""
        self._simulation.sleep(seconds)

    def outlast_tick(self, *, is_long: bool) -> None:
        """Wait in virtual time until a change gets a new stamp."""
        self._simulation.sleep(1.05 if is_long else 0.02)

    def begin(self, act: Callable[[], Any]) -> Any:
        """Let another simulated thread make a call."""
        return VirtualCall(self._simulation, act)
