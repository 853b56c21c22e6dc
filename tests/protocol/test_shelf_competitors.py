"""Clients that open and remove shelves at the same time, in all orders with few switches."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from protocol import test_interleavings as several
from protocol.scenes import QUEUE, new_world, text
from protocol.test_interleavings import (
    Client,
    Explorer,
    Play,
    Schedule,
    cleaning_later,
    in_turn,
    name_of,
    publishing,
    releasing,
)
from support import in_time

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def is_step(name: str, arguments: tuple[Any, ...]) -> bool:
    """Tell whether a system call changes or lists what is in the ready queue."""
    if name not in ("mkdir", "rmdir", "rename", "listdir"):
        return False
    return any(isinstance(p, str) and "/ready/" in p for p in arguments[:2])


def publishing_singly(client: Client) -> None:
    """Publish what opens a shelf, and goes on."""
    for number in range(4):
        name = f"s{client.number}{number}"
        client.broker.publish(QUEUE, text(name), durable=number % 2 == 0)
        client.story.published.add(name)


def emptying(client: Client) -> None:
    """Consume until shelves are empty, and remove them."""
    while messages := client.take(3):
        client.ack(messages)
    client.story.world.clock.advance(11)
    client.take()
    client.broker.clean(QUEUE)


class Ordered(Play):
    """What is left of one publisher comes in the order in which it was published."""

    def _rest(self) -> Counter[str]:
        names = []
        last = self.world.rescue()
        while messages := last.consume(QUEUE):
            names.append(name_of(messages[0]))
            last.ack(messages)
        self.world.clock.advance(11)
        last.clean(QUEUE)
        if releasing not in self.scripts and not self.story.doubtful:
            for owner in {name[:2] for name in names}:
                own = [name for name in names if name[:2] == owner]
                assert own == sorted(own), f"{own} are out of order"
        return Counter(names)


@pytest.fixture(autouse=True)
def _small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(several, "new_world", partial(new_world, bucket_size=1))
    monkeypatch.setattr(several, "is_step", is_step)
    monkeypatch.setattr(several, "Play", Ordered)


CASTS = [
    (publishing_singly, publishing_singly, emptying),
    (publishing_singly, publishing, in_turn),
    (publishing, publishing, emptying),
    (releasing, publishing_singly, emptying),
    (publishing_singly, emptying, cleaning_later),
]
every_cast = pytest.mark.parametrize(
    "scripts", CASTS, ids=lambda scripts: "-".join(s.__name__ for s in scripts)
)


either_way = pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])


@pytest.mark.deep
@every_cast
@either_way
def test_no_switch_loses_doubles_or_disorders_a_message(
    scripts: Sequence[Any], order: tuple[int, ...], tmp_path: Path
) -> None:
    with in_time(300):
        tried = list(Explorer(tmp_path, scripts).all_of(order, switches=1))
    assert len(tried) > 5


@pytest.mark.deep
@every_cast
@either_way
def test_no_death_and_no_lost_reply_loses_or_doubles_a_message(
    scripts: Sequence[Any], order: tuple[int, ...], tmp_path: Path
) -> None:
    Explorer(tmp_path, scripts).troubled(Schedule(order))


@pytest.mark.campaign
@every_cast
@either_way
def test_no_two_switches_lose_or_double_a_message(
    scripts: Sequence[Any],
    order: tuple[int, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Order is not promised: who looks may have listed what was there before a bucket."""
    monkeypatch.setattr(several, "Play", Play)
    list(Explorer(tmp_path, scripts).all_of(order, switches=2))
