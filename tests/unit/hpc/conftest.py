"""A job on a clock that can be turned, for the parts of a worker."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from hpc.inside import Hurried

from ddmq.holding.heartbeat import Heartbeat
from ddmq.hpc.journal import Journal
from ddmq.hpc.limits import Deadline, Durations, Limits
from ddmq.hpc.options import WorkerOptions
from ddmq.hpc.poller import Poller
from ddmq.hpc.running.command import Invocation, Surroundings
from ddmq.hpc.running.execution import Ended, Execution
from ddmq.hpc.running.stream import Output
from ddmq.hpc.settling import Settler
from ddmq.hpc.supply import Supply
from ddmq.hpc.triage import Triage
from ddmq.hpc.worker import Job


@pytest.fixture
def job(root, clock):
    """A worker's job, which no scheduler started."""
    with Hurried(clock) as signals:
        yield Job(
            host="node",
            id="",
            environ={"PATH": os.environ["PATH"]},
            signals=signals,
            deadline=Deadline(None),
            journal=Journal(f"{root}/q", "node", clock, None),
            durations=Durations(),
            clock=clock,
        )


@pytest.fixture
def taken(broker, clock):
    """Return a function that publishes and consumes one message."""

    def taken(text="a", **published):
        broker.publish("q", text, **published)
        [message] = broker.consume("q")
        return message

    return taken


def parts_of(broker, job, options):
    """Return the parts of a worker without its loop."""
    clock = job.clock
    heartbeat = Heartbeat(broker, clock)
    settler = Settler(broker, "q", heartbeat, options=options, job=job)
    limits = Limits(options, job)
    poller = Poller(clock.monotonic, options.poll_max)
    supply = Supply(
        broker,
        "q",
        limits=limits,
        poller=poller,
        settler=settler,
        heartbeat=heartbeat,
        then=None,
        clock=clock,
    )
    triage = Triage(
        settler, supply, limits=limits, poller=poller, options=options, clock=clock
    )
    return SimpleNamespace(
        settler=settler,
        limits=limits,
        poller=poller,
        supply=supply,
        triage=triage,
        numbers=settler.numbers,
    )


@pytest.fixture
def surroundings(job, clock):
    """Return a function that says what commands are given."""

    def surroundings(*words, **options):
        outputs = Output(1), Output(2)
        given = WorkerOptions(**options)
        return Surroundings(words, given, job.environ, clock, outputs)

    return surroundings


@pytest.fixture
def ended(broker, clock, job):
    """Return a function that runs a line of shell for a message, to its end."""

    commands = []

    def ended(text, options=None, **published):
        broker.publish("q", text, **published)
        [message] = broker.consume("q")
        given = options or WorkerOptions()
        outputs = Output(1), Output(2)
        words = ["sh", "-c", text]
        execution = Execution(message, 1, given)
        command = Invocation(
            [execution], Surroundings(words, given, job.environ, clock, outputs)
        )
        commands.append(command)
        command._process.wait()
        return Ended(execution, command.outcome())

    yield ended
    for each in commands:
        each.close(save=False)
