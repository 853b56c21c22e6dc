"""What a timeout means: for a command that has ended before anybody looked, and for its message."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from hpc.inside import run

from ddmq.hpc import journal

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


#: Obeys SIGTERM, and then does what its message says.
OBEYS = """
trap 'eval "$0"; exit' TERM
touch ready
while :; do sleep 0.01; done
"""
#: Answers what its message says, after SIGTERM.
ANSWERS_LATE = """
import json, os, signal, sys, time
replies = open(int(os.environ["DDMQ_REPLY_FD"]), "w")
def asked(*_):
    answer = {"id": told["id"], told["message"]: True}
    print(json.dumps(answer), file=replies, flush=True)
signal.signal(signal.SIGTERM, asked)
for line in sys.stdin:
    told = json.loads(line)
    open("ready", "w").close()
    time.sleep(1000)
"""


@pytest.mark.parametrize("drains", [False, True], ids=["", "drain"])
@pytest.mark.parametrize("moves", [False, True], ids=["", "timeout=queue:slow"])
@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("exit 0", {}),
        ("exit 75", {}),
        ("exit 7", {"on_exit": {7: "other"}}),
        ("exit 7", {"fatal": frozenset([7])}),
        ("kill -9 $$", {"on_exit": {137: "other"}}),
        ("trap : TERM; while :; do sleep 0.01; done", {"on_exit": {137: "other"}}),
        ("ack", {"persistent": True}),
        ("release", {"persistent": True}),
        ("reject", {"persistent": True}),
    ],
)
def test_a_timeout_is_a_timeout_however_the_command_ends(
    root, broker, clock, text, options, moves, drains
):
    for queue in ("other", "slow"):
        broker.create_queue(queue)
    broker.publish("q", text, requeue_limit=1)
    command = OBEYS
    if "persistent" in options:
        command = [sys.executable, "-c", ANSWERS_LATE]
    if moves:
        on_exit = {**options.get("on_exit", {}), "timeout": "slow"}
        options = {**options, "on_exit": on_exit}

    looks = []

    def step():
        if not looks:
            while not os.path.exists("ready"):
                pass
            clock.advance(5)
        elif drains:
            os.kill(os.getpid(), signal.SIGTERM)
        looks.append(1)

    options = {"timeout": 5, "grace": 1, "max_messages": 1, "brake": False, **options}
    summary = run(root, clock, command, step=step, **options)
    assert summary.numbers["moved" if moves else "failed"] == 1
    assert sum(summary.numbers.values()) == 1
    [queue] = [name for name, counts in broker.view().items() if any(counts)]
    assert queue == ("slow" if moves else "q")
    [message] = broker.consume(queue)
    assert message.failures == (0 if moves else 1)
    [told] = journal.read(f"{root}/q")
    assert (told.timed_out, told.result) == (True, "moved" if moves else "failed")
