"""The beginning of a worker: where the file server stands still just then, it waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ddmq.errors import DdmqError, warn
from ddmq.hpc.faults import stands_still

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddmq.clock import Clock
    from ddmq.hpc.limits import Deadline
    from ddmq.hpc.signals import Signals

_Result = TypeVar("_Result")
#: Seconds between two tries: the first pause, and the longest.
_FIRST, _LONGEST = 1.0, 30.0


class TooLate(Exception):
    """It is time to end, and the file server has not answered yet; the text says why it is."""


def once_it_answers(
    act: Callable[[], _Result],
    signals_from_now_on: Callable[[], Signals],
    *,
    deadline: Deadline,
    grace: float,
    clock: Clock,
) -> _Result:
    """Do something that may be tried again, as soon as the file server answers.

    Any other error is raised at once: a wrong path, a missing queue, no permission. Signals are
    taken from when it has to wait, so that Ctrl-C ends all else that takes long.

    Raises TooLate where a signal asks to drain, or where the commands of a worker, which are
    given the `grace`, would have to end by now.
    """
    signals, pause = None, _FIRST
    while True:
        try:
            result = act()
        except (DdmqError, OSError) as error:
            if not stands_still(error):
                raise
            if signals is None:
                warn(
                    "nothing was started yet, tried again until the file server answers: "
                    f"{error}"
                )
                signals = signals_from_now_on()
        else:
            if signals is not None:
                warn("the file server answers again")
            return result
        until = clock.monotonic() + pause
        while (left := until - clock.monotonic()) > 0:
            to_end = deadline.passes_in(clock.monotonic(), grace)
            if signals.drain_requested:
                raise TooLate("it was asked to drain")
            if to_end is not None and to_end <= 0:
                raise TooLate("its time is over")
            signals.wait(left if to_end is None else min(left, to_end), {})
        pause = min(pause * 2, _LONGEST)
