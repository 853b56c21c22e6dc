"""`ddmq view --watch`: queues, shown again and again until somebody ends it."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any

from ddmq.cli.screen import Screen
from ddmq.cli.spec import Reply
from ddmq.cli.watching import EVERY, REST, Watch, Watched, calls_of, looker
from ddmq.clock import Clock
from ddmq.errors import InvalidArgument, QueueNotFound, creates
from ddmq.schedulers import environment
from ddmq.settings import show

if TYPE_CHECKING:
    from ddmq.cli.spec import Context, Number

#: Seconds from one refresh to the next where no terminal is, and each adds lines.
_EVERY_LINE = 10.0
#: Seconds after which a terminal is asked for its size again.
_GLANCE = 0.25
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class _Stopped(BaseException):
    """A signal asks us to end."""


def watch(
    root: str, names: list[str] | None, seconds: Number, context: Context
) -> Reply:
    """Show queues until Ctrl-C; a signal that ends us does so when the terminal is as it was."""
    if context.is_for_programs:
        raise InvalidArgument("--watch is for people: it has no other format")
    screen = Screen(sys.stdout, Clock(), environment())
    every = seconds or (EVERY if screen.is_terminal else _EVERY_LINE)
    if not isinstance(every, (int, float)) or not 0 < every < inf:
        raise InvalidArgument(f"--watch is {show(every)}; it must be positive seconds")
    clock = Clock()
    broker, fs = looker(root, context.fs)
    queues = [Watched(broker, name, clock) for name in names or broker.queues()]
    if not queues:
        raise QueueNotFound(
            f"{root}: there is no queue; create one with {creates(root, 'QUEUE')}"
        )
    stopped: list[int] = []

    def stop(number: int, _: Any) -> None:
        stopped.append(number)
        raise _Stopped

    before = {number: signal.getsignal(number) for number in (*_SIGNALS, signal.SIGINT)}
    ours = [n for n in _SIGNALS if before[n] != signal.SIG_IGN]
    with suppress(KeyboardInterrupt, _Stopped):
        try:
            for number in ours:
                signal.signal(number, stop)
            look = Watch(queues, calls_of(fs))
            _go_on(look, screen, float(every), clock, raises=bool(names))
        finally:
            # From now on a signal ends us at once, also where the terminal takes nothing.
            for number in (*ours, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            screen.leave()
            for number in (*ours, signal.SIGINT):
                signal.signal(number, before[number] or signal.SIG_DFL)
    if stopped:
        signal.signal(stopped[0], signal.SIG_DFL)
        os.kill(os.getpid(), stopped[0])
    return Reply({}, "")


def _go_on(
    look: Watch, screen: Screen, every: float, clock: Clock, *, raises: bool
) -> None:
    """Look, show and wait, again and again."""
    began = clock.monotonic()
    found = look.begin(raises=raises)
    while True:
        screen.show(found)
        now = clock.monotonic()
        until = now + max(every, (now - began) * REST)
        while (left := until - clock.monotonic()) > 0:
            clock.sleep(min(left, _GLANCE))
            if screen.has_other_size():
                screen.show(found)
        began = clock.monotonic()
        found = look.refresh()
