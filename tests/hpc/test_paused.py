"""A worker at a queue that somebody pauses: it finishes what it holds, takes no more, and waits."""

from __future__ import annotations

import os

import pytest
from hpc.inside import Hurried, run, worker
from support import Calls

from ddmq import Broker
from ddmq.storage.filesystem import FileSystem


@pytest.mark.parametrize("until", ["empty", "done"])
def test_it_finishes_what_it_holds_and_waits(root, broker, clock, until, caplog):
    broker.publish_many("q", ["x"] * 30)
    seen, other = [], Broker(root, clock=clock, clean=False)

    def step():
        counts = other.view("q")["q"]
        if not seen and counts.waiting < 30:
            other.pause("q")
            seen.append(counts)
        elif seen and len(seen) < 200:
            seen.append(counts)
            if len(seen) == 200:
                other.resume("q")

    options = {"slots": 2, "until": until}
    summary = run(root, clock, "exit 0", step=step, **options)
    assert (summary.numbers["acked"], summary.stopped) == (30, "")
    assert len(seen) == 200
    assert len(set(seen[100:])) == 1  # it took no more
    assert seen[-1].work == 0
    assert seen[-1].waiting > 0
    assert caplog.text.count("queue q is paused by ") == 1
    assert caplog.text.count("the queue is resumed") == 1


def test_it_starts_at_a_paused_queue_and_waits_until_it_shall_end(root, broker, clock):
    broker.publish("q", "x")
    broker.pause("q")
    waits = []

    with Hurried(clock, lambda: waits.append(clock.monotonic()), 10.0) as signals:

        def step():
            waits.append(clock.monotonic())
            if waits[-1] - waits[0] > 3600:
                signals.drain_requested = True

        signals.step = step
        summary = worker(Broker(root, clock=clock), root, signals, clock, "true").run()
    assert (summary.numbers["acked"], summary.left) == (0, 1)
    assert 3600 / 7 < len(waits) < 3600 / 4  # a look in 5 s


def test_a_pause_is_asked_for_by_the_listings_that_are_made_anyway(root, broker, clock):
    """Nothing is read or stated of the name that pauses, while it is not there."""
    broker.publish_many("q", ["x"] * 30)
    asked = []

    def call(_, name, function, arguments):
        asked.append((name, os.path.basename(str(arguments[0]))))
        return function(*arguments)

    run(root, clock, "exit 0", fs=FileSystem(Calls(call)))
    assert ("listdir", "ready") in asked
    assert [each for each in asked if each[1] == "paused"] == []
