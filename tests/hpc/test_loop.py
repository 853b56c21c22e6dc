"""The loop of a worker, on a clock that can be turned: what it asks, and how often."""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest

from ddmq import Broker, UnknownLayout
from ddmq.hpc.journal import Journal
from ddmq.hpc.limits import Deadline, Durations
from ddmq.hpc.options import WorkerOptions
from ddmq.hpc.worker import Job, Worker
from ddmq.settings import LAYOUT_LINE
from ddmq.storage.filesystem import FileSystem

HOUR = 3600.0
DIRECTORIES = {"ready", "work", "delayed", "drop"}


class Asked:
    """The functions of `os`: each call that names a file is noted, with that file's name."""

    def __init__(self):
        self.made = Counter()

    def __getattr__(self, name):
        function = getattr(os, name)

        def noted(*arguments, **named):
            path = arguments[0]
            if name == "listdir" and isinstance(path, int):
                path = os.readlink(f"/proc/self/fd/{path}")
            if isinstance(path, str):
                self.made[name, os.path.basename(path)] += 1
            return function(*arguments, **named)

        return noted


class Patience:
    """Signals of which none comes for an hour: time passes, and then a drain is asked for."""

    haste_requested = False
    notice = None

    def __init__(self, clock):
        self.waits = 0
        self._clock = clock
        self._end = clock.monotonic() + HOUR

    @property
    def drain_requested(self):
        return self._clock.monotonic() >= self._end

    def wake(self):
        """Nobody waits in real time."""

    def wait(self, seconds, readers, writers=()):
        self.waits += 1
        self._clock.advance(seconds + 1e-6)  # a float of today knows no nanoseconds


def work(broker, root, signals, clock, command=("true",), **options):
    journal = Journal(f"{root}/q", "node", clock, None)
    job = Job(
        host="node",
        id="",
        environ={},
        signals=signals,
        deadline=Deadline(None),
        journal=journal,
        durations=Durations(),
        clock=clock,
    )
    options = WorkerOptions(**options)
    return Worker(broker, "q", list(command), options=options, job=job).run()


@pytest.fixture
def idle(root, clock):
    """Idle for an hour at a queue that has been in use; return the polls, and what was asked."""
    user = Broker(root, create=True, clock=clock)
    user.publish("q", "a")
    user.ack(user.consume("q"))
    asked, signals = Asked(), Patience(clock)
    broker = Broker(root, clock=clock, fs=FileSystem(asked))
    broker.settings("q")
    asked.made.clear()
    work(broker, root, signals, clock, until="forever")
    return signals.waits, asked.made


def test_an_idle_worker_looks_every_five_seconds(idle):
    polls, _ = idle
    assert HOUR / 5 * 0.9 < polls < HOUR / 5 * 1.1 + 20


def test_a_look_costs_three_listings(idle):
    polls, made = idle
    lists = {name: n for (call, name), n in made.items() if call == "listdir"}
    assert lists.pop("workers") <= HOUR / 60
    assert {name for name, n in lists.items() if n > HOUR / 60} == DIRECTORIES
    cleaning = 11 * HOUR / 600
    assert sum(lists[name] for name in DIRECTORIES) <= 3 * polls + cleaning


def test_what_comes_on_top_is_seldom(idle):
    _, made = idle
    on_top = {
        key: n
        for key, n in made.items()
        # Of a directory that was listed a moment ago, the client knows the status.
        if key[0] != "lstat" and key not in {("listdir", d) for d in DIRECTORIES}
        # To open a directory is a part of listing it.
        if key[0] != "open" or ("listdir", key[1]) not in made
        if not of_presence(key)
    }
    assert sum(on_top.values()) <= 21 * HOUR / 600


def of_presence(key):
    """Tell whether a call shows the worker to others: its name begins with its token."""
    return key[1] == "workers" or re.match(r"[0-9a-f]{16}\.1[0-9]{12}\.", key[1])


def test_to_be_seen_costs_an_idle_worker_at_most_a_call_in_ten_seconds(idle):
    _, made = idle
    calls = [n for key, n in made.items() if of_presence(key)]
    assert (
        HOUR / 70 < sum(calls) / 3 < HOUR * 0.1 / 3
    )  # one rename, and a listing with its open


def test_messages_that_fit_no_command_keep_it_from_nothing(root, broker, clock):
    broker.publish_many("q", ["a\0b"] * 20, durable=False)
    signals = Patience(clock)
    summary = work(broker, root, signals, clock, slots=2)
    assert summary.numbers["failed"] == 20
    assert signals.waits >= 10  # it looked after signals and leases in between


def test_a_worker_ends_when_the_layout_of_its_queue_is_not_known_any_more(
    root, broker, clock
):
    """It says so, and gives back what it holds."""
    file = root / "q" / "ddmq.yaml"
    text = file.read_text()
    broker.publish("q", "a")
    signals = Patience(clock)

    def relaid(*_):
        file.write_text(text.replace(LAYOUT_LINE, "layout: 3 (ddmq 1.4.0)"))
        clock.advance(60)

    signals.wait = relaid
    with pytest.raises(UnknownLayout, match=r"layout 3 needs ddmq 1\.4\.0"):
        work(broker, root, signals, clock, ["sh", "-c", "exec sleep 600"], slots=2)
    file.write_text(text)
    assert broker.consume("q")[0].failures == 0
