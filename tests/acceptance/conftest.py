"""What every acceptance test gets: a queue on a real clock, as a user has it."""

from __future__ import annotations

import pytest

from ddmq import Broker


@pytest.fixture
def broker(root):
    """A client of a new root whose queue `jobs` exists."""
    broker = Broker(root, create=True)
    broker.create_queue("jobs")
    return broker
