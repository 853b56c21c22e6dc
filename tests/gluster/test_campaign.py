"""The core's process tests with half of the processes on each mount of a real GlusterFS.

`pytest -m "gluster and campaign" tests/gluster` kills `DDMQ_KILLS` processes (300) and the
brick `DDMQ_OUTAGES` times (30).
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from campaign.test_kill_storm import Storm, assert_what_was_confirmed_is_there, blow
from protocol.test_processes import (
    QUEUE,
    Stage,
    assert_each_publishers_order_is_kept,
    start_together,
)
from support import Calls

from ddmq import Broker, StorageError
from ddmq.storage.filesystem import FileSystem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gluster.cluster import Volume

pytestmark = pytest.mark.gluster
NUMBERS = itertools.count()
LEASE = 4
LONG = pytest.param(None, marks=pytest.mark.campaign, id="campaign")


@pytest.fixture
def stage(volume: Volume, tmp_path: Path) -> Iterator[Stage]:
    """A queue, whose processes use one mount and the other in turn."""
    volume.until(volume.is_up)
    name = f"root{next(NUMBERS)}"
    stage = Stage(tmp_path, *(mount / name for mount in volume.mounts))
    stage.broker.update_settings(QUEUE, message_timeout=LEASE)
    yield stage
    stage.abandon()


def told_by_mount(stage: Stage, what: str) -> list[int]:
    """Return how often something happened on each mount."""
    numbers: Counter[int] = Counter()
    for log in stage.logs.glob("*"):
        lines = log.read_text().splitlines()
        mount = int(log.stem.partition(".")[0]) % len(stage.roots)
        numbers[mount] += sum(line.startswith(f"{what} ") for line in lines)
    return [numbers[mount] for mount in range(len(stage.roots))]


def test_order_is_kept_from_both_mounts_to_one_consumer(stage: Stage) -> None:
    assert_each_publishers_order_is_kept(stage)
    assert min(told_by_mount(stage, "published")) > 0


@pytest.mark.parametrize("bundled", [False, True], ids=["single", "bundled"])
def test_consumers_that_start_together_on_both_mounts_share_the_messages(
    stage: Stage, capsys: pytest.CaptureFixture[str], bundled: bool
) -> None:
    renames = start_together(stage, bundled=bundled, messages=300)
    each = told_by_mount(stage, "acked")
    with capsys.disabled():
        print(f"\n{each} acked by mount; {renames:.2f} renames for each")  # noqa: T201
    assert min(each) > 0
    assert renames <= 5


@pytest.mark.parametrize("kills", [25, LONG])
def test_a_storm_of_kills_on_both_mounts_loses_nothing(
    stage: Stage, kills: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    told = blow(stage, kills or int(os.environ.get("DDMQ_KILLS", "300")))
    each = told_by_mount(stage, "acked")
    with capsys.disabled():
        print(f"\n{told}; {each} acked by consumers by mount")  # noqa: T201
    assert min(each) > 0


def test_a_bucket_stays_though_its_publisher_heard_an_error(stage: Stage) -> None:
    """Its draft's name still leads there, for a second, on a mount that did not see it move."""
    here, there = map(str, stage.roots)

    def call(_: int, name: str, function, arguments):
        if name != "rename" or not os.path.isdir(arguments[0]):
            return function(*arguments)
        if "/ready/" not in arguments[1]:
            return function(*arguments)
        os.listdir(arguments[0])
        function(*(path.replace(here, there) for path in arguments))
        raise OSError(errno.ETIMEDOUT, "Connection timed out", arguments[0])

    broker = Broker(here, fs=FileSystem(Calls(call)), bundle_size=20)
    with pytest.raises(StorageError, match="timed out"):
        broker.publish_many(QUEUE, map(str, range(50)))
    assert len(Broker(there).consume(QUEUE, 100)) == 50


def all_are_at_work(stage: Stage) -> bool:
    logs = [log for log in stage.logs.iterdir() if log.suffix != ".stderr"]
    return all(log.stat().st_size for log in logs) and len(logs) == len(stage.processes)


@pytest.mark.parametrize("outages", [2, LONG])
def test_a_brick_that_goes_and_comes_back_loses_nothing(
    stage: Stage,
    volume: Volume,
    outages: int | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Clients hear an error, and go on when it is back; what they were publishing is in doubt."""
    outages = outages or int(os.environ.get("DDMQ_OUTAGES", "30"))
    chance = random.Random(outages)
    storm = Storm(stage, each=300 * outages)
    volume.until(lambda: all_are_at_work(stage))
    for _ in range(outages):
        time.sleep(chance.uniform(0.5, 2.5))
        volume.kill_brick()
        time.sleep(chance.choice([0, 0.2, 1, 5]))
        volume.start_brick()
        volume.until(volume.is_up)
    storm.calm()
    away = told_by_mount(stage, "away")
    told = assert_what_was_confirmed_is_there(stage)
    with capsys.disabled():
        print(f"\n{outages} outages, {away} errors by mount; {told}")  # noqa: T201
    assert min(away) > 0
