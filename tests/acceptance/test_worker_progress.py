"""`ddmq-worker` in a terminal: what stands below what its commands print, and at its end."""

from __future__ import annotations

import os
import re
import sys

import pytest
from terminal import BEFORE, Terminal

from ddmq import Broker

pytestmark = pytest.mark.slow
#: The first word comes in two parts.
PROGRAM = """
import sys, time
print("half ", end="", flush=True)
time.sleep(0.8)
print(sys.argv[1], "done")
sys.exit(sys.argv[1] == "x3")
"""


@pytest.mark.parametrize("slots", [1, 2])
def test_what_commands_print_stands_above_it(tmp_path, slots):
    broker = Broker(tmp_path / "mq", create=True)
    broker.create_queue("jobs")
    broker.publish_many("jobs", [f"x{n}" for n in range(8)])
    words = ["-j", slots, "--progress", "--retries", 0, broker.root, "jobs", "--"]
    words += [sys.executable, "-c", PROGRAM, "{}"]
    with Terminal(*words, program="worker", columns=300, rows=40) as terminal:
        terminal.until(
            lambda each: re.match("jobs: 8 published: [1-9] done", each.lines[-1])
        )
        assert terminal.ended() == 4
        *above, last = terminal.lines[len(BEFORE) :]
        [failure] = [line for line in above if line.startswith("message ")]
        assert failure.endswith(
            f" (x3): exit status 1 on {os.uname().nodename}; a dead letter"
        )
        above.remove(failure)
        assert sorted(above) == [f"half x{n} done" for n in range(8)]
        assert last.startswith("ddmq-worker: 7 acked, 1 failed")
        terminal.is_as_it_was()


def test_who_sits_there_is_told_what_others_hold(tmp_path):
    broker = Broker(tmp_path / "mq", create=True)
    broker.create_queue("jobs")
    broker.publish_many("jobs", ["a", "b"])
    [held] = broker.consume("jobs")
    words = broker.root, "jobs", "--", "echo"
    with Terminal(*words, program="worker", columns=200) as terminal:
        assert terminal.ended() == 0
        assert terminal.lines[-2].startswith("ddmq-worker: 1 acked, ")
        assert terminal.lines[-1].startswith("ddmq-worker: 1 at work elsewhere: ")
    broker.ack(held)
    with Terminal(*words, program="worker", columns=200) as terminal:
        assert terminal.ended() == 0
        assert terminal.lines[-1].startswith("ddmq-worker: nothing was waiting; ")
