"""What the tests of one queue on disk share: its clients, and what is in it."""

from __future__ import annotations

import pytest
from protocol.scenes import QUEUE
from unit.storage.ready_client import Client, number


@pytest.fixture
def queue(tmp_path):
    """The directories that a ready queue needs."""
    for name in ("ready", "tmp"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def client(queue, clock):
    return Client(queue, clock)


@pytest.fixture
def competitor(queue, clock):
    return Client(queue, clock)


@pytest.fixture
def publisher(world):
    """A client that leaves the housekeeping to others."""
    return world.broker(clean=False)


@pytest.fixture
def bundler(world):
    """A client that published a bundle of twelve, and leaves the housekeeping to others."""
    bundler = world.broker(clean=False)
    assert bundler.publish_many(QUEUE, map(str, range(12))) == 12
    return bundler


@pytest.fixture
def drop(root, aged):
    """Return a function that leaves a file in `drop/`."""

    def put(name, data, age=60):
        path = root / "q" / "drop" / name
        path.write_bytes(data)
        return aged(path, age)

    return put


@pytest.fixture
def filled(client):
    """A client that has filled two buckets, one shelf, and a part of another one."""
    for id_ in number(16):
        client.join(id_)
    return client
