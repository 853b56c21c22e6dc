"""Nodes whose clocks are wrong, and a file server whose clock is the one that counts."""

from __future__ import annotations

import stat
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from protocol.scenes import HOUR, MANY, QUEUE, new_world, text
from support import Calls

from ddmq import Broker
from ddmq.clock import Clock
from ddmq.fs import FileSystem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MINUTE = 60
SKEWS = [(0, 0), (HOUR, -HOUR), (-HOUR, HOUR), (0, HOUR), (-HOUR, -HOUR)]


class Node(Clock):
    """A node's own clock, which runs as the server's does, but is wrong."""

    def __init__(self, server: Any, skew: float) -> None:
        super().__init__()
        self.server = server
        self.skew = skew

    def own_ns(self) -> int:
        return int(self.server.now_ns + self.skew * 1e9)

    def monotonic(self) -> float:
        return self.server.now_ns / 1e9

    def sleep(self, seconds: float) -> None:
        self.server.advance(seconds)


class Cluster:
    """A file server, and clients on nodes with clocks of their own."""

    def __init__(self, directory: Path) -> None:
        self.world = new_world(directory)
        self.server = self.world.clock

    def client(self, skew: float) -> Broker:
        fs = FileSystem(Calls(self._call))
        return Broker(self.world.root, clock=Node(self.server, skew), fs=fs)

    def _call(
        self, _: int, name: str, function: Callable[..., Any], arguments: Any
    ) -> Any:
        """Stamp new files with the server's clock: those that clients ask for the time."""
        found = function(*arguments)
        if name != "fstat" or stat.S_ISDIR(found.st_mode):
            return found
        return SimpleNamespace(
            st_mode=found.st_mode,
            st_size=found.st_size,
            st_nlink=found.st_nlink,
            st_mtime_ns=self.server.now_ns,
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


@pytest.mark.parametrize("many", [False, True], ids=["single", "bundled"])
@pytest.mark.parametrize(("mine", "others"), SKEWS)
def test_a_lease_ends_when_the_server_says_so(
    cluster: Cluster, mine: float, others: float, many: bool
) -> None:
    consumer, keeper = cluster.client(mine), cluster.client(others)
    if many:
        keeper.publish_many(QUEUE, map(text, MANY))
    else:
        keeper.publish(QUEUE, text("m00"))
    [message] = consumer.consume(QUEUE)
    cluster.server.advance(598)
    assert keeper.clean(QUEUE).requeued == 0
    cluster.server.advance(4)
    assert keeper.clean(QUEUE).requeued == 1
    assert message.message == text("m00")


@pytest.mark.parametrize(("mine", "others"), SKEWS)
def test_order_holds_among_publishers_with_wrong_clocks(
    cluster: Cluster, mine: float, others: float
) -> None:
    one, other = cluster.client(mine), cluster.client(others)
    for number in range(6):
        publisher = (one, other)[number % 2]
        publisher.publish_many(QUEUE, [f"{number}-{line}" for line in range(12)])
        cluster.server.advance(1)
        publisher.publish(QUEUE, f"{number}-alone")
        cluster.server.advance(1)
    texts = [message.message for message in other.consume(QUEUE, 100)]
    expected = [
        name
        for number in range(6)
        for name in [*(f"{number}-{line}" for line in range(12)), f"{number}-alone"]
    ]
    assert texts == expected


@pytest.mark.parametrize("step", [-HOUR, -2 * MINUTE, 2 * MINUTE, HOUR])
def test_a_clock_that_steps_during_a_lease_ends_it_neither_early_nor_never(
    cluster: Cluster, step: float
) -> None:
    node = cluster.client(0)
    node.publish(QUEUE, text("a"))
    node.consume(QUEUE)
    cluster.server.advance(5)
    node.view(QUEUE)  # it notices a step by what its clock was before
    node._clock.skew += step
    cluster.server.advance(5)
    assert node.view(QUEUE)[QUEUE] == (0, 1, 0, 0)
    cluster.server.advance(585)
    assert node.view(QUEUE)[QUEUE] == (0, 1, 0, 0)
    cluster.server.advance(10)
    assert node.view(QUEUE)[QUEUE] == (1, 0, 0, 0)


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_a_renewal_after_a_step_lasts_as_long_as_it_says(
    cluster: Cluster, step: float
) -> None:
    consumer, keeper = cluster.client(0), cluster.client(HOUR)
    keeper.publish(QUEUE, text("a"))
    [message] = consumer.consume(QUEUE)
    consumer.view(QUEUE)
    consumer._clock.skew += step
    cluster.server.advance(MINUTE)
    consumer.view(QUEUE)
    consumer.renew(message)
    cluster.server.advance(590)
    assert keeper.clean(QUEUE).requeued == 0
    cluster.server.advance(20)
    assert keeper.clean(QUEUE).requeued == 1


@pytest.mark.parametrize(("mine", "others"), SKEWS)
def test_a_delayed_message_comes_when_the_server_says_so(
    cluster: Cluster, mine: float, others: float
) -> None:
    publisher, consumer = cluster.client(mine), cluster.client(others)
    publisher.publish(QUEUE, text("late"), delay=MINUTE)
    publisher.publish_many(QUEUE, map(text, MANY), delay=MINUTE)
    cluster.server.advance(58)
    assert consumer.consume(QUEUE, 20) == []
    cluster.server.advance(4)
    assert len(consumer.consume(QUEUE, 20)) == 13


def test_a_server_that_is_ahead_takes_everybody_with_it(cluster: Cluster) -> None:
    node = cluster.client(-3 * HOUR)
    node.publish_many(QUEUE, map(text, MANY))
    messages = node.consume(QUEUE, 12)
    cluster.server.advance(601)
    node.clean(QUEUE)
    again = node.consume(QUEUE, 12)
    assert [m.message for m in again] == [m.message for m in messages]
    node.ack(again)
    cluster.server.advance(11)
    node.clean(QUEUE)
    assert node.is_empty(QUEUE)
