"""What the tests of a client share: another client, and a queue with messages in it."""

from __future__ import annotations

import pytest
from support import open_files

from ddmq import Broker

#: Descriptors that the tests of a module may leave open: those of simulated deaths, for most.
_FEW = 40


@pytest.fixture(autouse=True, scope="module")
def _nothing_stays_open():
    """Find whoever keeps a descriptor for each message, say."""
    before = len(open_files())
    yield
    assert len(open_files()) - before <= _FEW


@pytest.fixture
def other(broker, root, clock):
    """Another client of the same root."""
    return Broker(root, clock=clock)


@pytest.fixture
def in_every_state(broker):
    """Leave 4 messages waiting, 3 at work, 2 delayed and 1 dead."""
    broker.publish_many("q", list("x" * 8))
    broker.reject(broker.consume("q"), "bad")
    broker.consume("q", 3)
    broker.publish_many("q", list("yy"), delay=60)
