"""Tell how long each operation takes: `stopwatch.py ROOT FILE SECONDS`, run in a guest.

Leaves in the file how long each publish, consume, ack and create took, and what was consumed.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable

from ddmq import Broker, LeaseLost

QUEUE = "q"


class Stopwatch:
    """Times what a client does, by the monotonic clock of its machine."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def __call__(self, act: Callable[..., Any], *arguments: object) -> Any:
        begun = time.monotonic()
        try:
            return act(*arguments)
        finally:
            took = time.monotonic() - begun
            self.seconds.setdefault(act.__name__, []).append(took)


def main(root: str, out: str, seconds: str) -> None:
    broker, watch = Broker(root), Stopwatch()
    came: list[str] = []
    numbers = itertools.count()
    over = time.monotonic() + float(seconds)
    while time.monotonic() < over:
        watch(broker.publish, QUEUE, "beside")
        for message in watch(broker.consume, QUEUE):
            try:
                watch(broker.ack, message)
                came.append(message.message)
            except LeaseLost:
                came.append("lost")
        watch(broker.create_queue, f"{os.uname().nodename}-{next(numbers)}")
        time.sleep(0.5)
    Path(out).write_text(json.dumps([watch.seconds, came]))


if __name__ == "__main__":
    main(*sys.argv[1:])
