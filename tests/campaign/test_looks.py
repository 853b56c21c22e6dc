"""A client looks a million times at one message that others move; it never sees none.

    pytest -m campaign -s tests/campaign/test_looks.py

`DDMQ_LOOKS` sets the number of looks, and `PYTEST_DEBUG_TEMPROOT` the place of the queue.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ddmq import Broker

pytestmark = pytest.mark.campaign
LOOKS = int(os.environ.get("DDMQ_LOOKS", "1000000"))
QUEUE = "q"
#: Nacks, releases and delays one message, until standard input is closed.
RESTLESS = """
import itertools, select, sys
from ddmq import Broker
from ddmq.storage.housekeeping import find_due
broker = Broker(sys.argv[1], clean=False)
store = broker._queue("q").store
for number in itertools.count():
    [message] = broker.consume("q")
    if number % 10:
        (broker.nack if number % 2 else broker.release)(message)
    else:
        broker.nack(message, delay=0.0001)
        while not [*map(store.delayed.make_due, find_due(store)[0])]:
            pass
    if number % 1000 == 0 and select.select([sys.stdin], [], [], 0)[0]:
        print(number)
        break
"""


def test_no_look_calls_a_queue_empty_in_which_a_message_never_rests(
    tmp_path: Path,
) -> None:
    broker = Broker(tmp_path / "mq", create=True, clean=False)
    broker.create_queue(QUEUE)
    broker.update_settings(QUEUE, requeue_prio=5)
    broker.publish(QUEUE, "x", priority=5)
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", RESTLESS, broker.root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as restless:
        empty = sum(broker.is_empty(QUEUE) for _ in range(LOOKS))
        moved, _ = restless.communicate()
    took = time.monotonic() - began
    told = f"{LOOKS} looks in {took:.0f} s at what moved {moved.strip()} times"
    print(f"{told}: {empty} called the queue empty")  # noqa: T201
    assert restless.returncode == 0
    assert empty == 0
