"""Make the queues in `tests/former/root` with ddmq 0.9.14 itself.

    python tests/former/make.py ddmq-0.9.14-py3-none-any.whl DIRECTORY

It imports the package from the wheel, of which nothing is installed. Times and ids are those of a
fixed seed, so that each run writes the same bytes.
"""

from __future__ import annotations

import random
import sys
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import yaml


def main(wheel: str, directory: str) -> None:
    """Make a root with three queues, with messages that wait and that were consumed."""
    sys.path.insert(0, wheel)
    from ddmq import broker  # first: to import it may take the time once, or not

    load, now, bits = yaml.load, [1_700_000_000.25], random.Random(14)
    # The package was written for a pyyaml that needs no loader.
    yaml.load = lambda stream: load(stream, yaml.SafeLoader)

    def tick() -> float:
        now[0] += 0.125
        return now[0]

    time.time = tick
    uuid.uuid4 = lambda: SimpleNamespace(hex=f"{bits.getrandbits(128):032x}")
    b = broker(directory, create=True)
    for text in ("a", "b", "c"):
        b.publish("letters", text)
    b.publish("letters", "first", priority=5, timeout=30)
    b.publish("letters", "Grüße\n\u4e2d\U0001f600", requeue=True)
    b.publish("letters", "once more", requeue=True, requeue_counter=2, requeue_limit=3)
    b.publish("letters", "to 7", requeue_prio=7)
    b.publish("letters")
    b.publish("letters", {"any": ["JSON", 1.5, None]}, priority=1000)

    b.create_queue("tasks")
    b.update_settings_file("tasks", {"message_timeout": 3600, "priority": 5})
    b.publish("tasks", "lost", requeue=True)
    b.publish("tasks", "held", timeout=10**9)
    b.publish("tasks", "waits")
    b.consume("tasks", 2)

    b.publish("nacked", "x", requeue=True, requeue_limit=4)
    b.nack(b.consume("nacked"))
    b.publish("nacked", "acked")
    b.publish("nacked", "y")
    acked = b.consume("nacked", 2)[1]
    b.ack("nacked", acked.filename)


if __name__ == "__main__":
    main(sys.argv[1], str(Path(sys.argv[2]).absolute()))
