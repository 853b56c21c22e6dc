"""Several short calls in one message, which become messages of their own where they take long."""

from __future__ import annotations

import json
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ddmq.broker import Broker
    from ddmq.hpc.executor.calls import Call

#: Characters of calls that are together in a message: far less than any message may have.
_MOST = 1 << 16
#: Seconds in which all calls of a message are made, or others get those that are not begun.
_MOMENT = 0.5
#: How often a message of several may come back. When it does, each becomes a message of its own.
_COMES_BACK = 100


def publish_together(
    broker: Broker, queue: str, calls: Sequence[Call], most: int
) -> None:
    """Publish calls at once, so many of them in a message at most."""
    if most <= 1:
        broker.publish_many(queue, [call.message() for call in calls])
        return
    messages = list(_together(calls, most))
    broker.publish_many(queue, messages, requeue=True, requeue_limit=_COMES_BACK)


def _together(calls: Sequence[Call], most: int) -> Iterator[dict[str, Any]]:
    """Yield messages; a large call is in one of its own."""
    some: list[dict[str, Any]] = []
    length = 0
    for call in calls:
        message = call.message()
        own = len(json.dumps(message))
        if some and (len(some) == most or length + own > _MOST):
            yield {"calls": some}
            some, length = [], 0
        some.append(message)
        length += own
    if some:
        yield {"calls": some}


def make_together(
    calls: Sequence[Call],
    make: Callable[[Call], None],
    publish: Callable[[list[Call]], None],
) -> None:
    """Make calls one after the other; those that are not begun after a moment are published.

    So nobody waits for what is slow before it while others are free.
    """
    left, lock = deque(calls), threading.Lock()

    def give_away() -> None:
        with lock:
            rest = list(left)
            left.clear()
        try:
            if rest:
                publish(rest)
        except Exception:  # noqa: BLE001 - whatever it is, they are made here then
            left.extend(rest)

    timer = threading.Timer(_MOMENT, give_away)
    timer.daemon = True
    call: Call | None = left.popleft()
    timer.start()
    try:
        while call is not None:
            make(call)
            if not left:
                timer.cancel()
                timer.join()
            with lock:
                call = left.popleft() if left else None
    finally:
        timer.cancel()
