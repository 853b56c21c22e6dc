"""What a timeout means: for a command that has ended before anybody looked, and for its message."""

from __future__ import annotations

import os
import sys

import pytest
from hpc.inside import run

pytestmark = pytest.mark.usefixtures("here", "patience")

#: Ends by itself, or stays and answers. It leaves a file behind when it has done so.
EXITS = "touch done"
ANSWERS = """
import os, sys
replies = open(int(os.environ["DDMQ_REPLY_FD"]), "w")
for line in sys.stdin:
    id_ = line.partition('"id": ')[2].partition(",")[0]
    print('{"id": %s, "ack": true}' % id_, file=replies, flush=True)
    open("done", "w").close()
"""


def has_ended():
    """Wait until the command that runs has done its work, and left nothing to be seen later."""
    while not os.path.exists("done"):
        pass


def has_exited():
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)


@pytest.mark.parametrize(
    ("command", "ends", "options"),
    [
        (EXITS, has_exited, {}),
        ([sys.executable, "-c", ANSWERS], has_ended, {"persistent": True}),
    ],
    ids=["exits", "answers"],
)
def test_what_ended_before_a_late_look_has_not_timed_out(
    root, broker, clock, command, ends, options
):
    """As where the worker was stopped, or the result of another slot took long to be synced."""
    broker.publish("q", "a", requeue_limit=0)
    looks = []

    def late():
        if not looks:
            ends()
            clock.advance(10)
        looks.append(1)

    summary = run(root, clock, command, step=late, timeout=5, **options)
    assert summary.numbers["acked"] == 1, broker.dead("q")
