"""A line of its own, and two processes at it, for the tests of the line and of its buckets."""

from __future__ import annotations

import pytest
from unit.lines import Client


@pytest.fixture
def queue(tmp_path):
    for name in ("ready", "tmp"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def client(queue, clock):
    return Client(queue, clock)


@pytest.fixture
def other(queue, clock):
    return Client(queue, clock)
