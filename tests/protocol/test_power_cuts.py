"""The power is cut, and what was not synced is lost: some of all ways to lose it."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest
from protocol.cuts import CONSUMING, PUBLISHING, replay
from protocol.disks import Cut, Recording, put
from protocol.scenes import QUEUE, World, new_world, text
from support import FakeClock

from ddmq import Broker
from ddmq.storage.filesystem import FileSystem

if TYPE_CHECKING:
    from pathlib import Path

    from protocol.cuts import Story

pytestmark = pytest.mark.deep
#: How many combinations at each point: all, or so many at random; the campaign has more.
SOME = 12


@pytest.mark.parametrize("ordered", [False, True], ids=["any", "ordered"])
@pytest.mark.parametrize("story", PUBLISHING, ids=str)
def test_what_was_confirmed_is_there_and_nothing_torn_is_consumed(
    story: Story, ordered: bool, tmp_path: Path
) -> None:
    assert replay(story, tmp_path, ordered=ordered, most=SOME).trees


@pytest.mark.parametrize("story", CONSUMING, ids=str)
def test_no_line_of_a_bundle_is_lost_where_renames_stay_in_order(
    story: Story, tmp_path: Path
) -> None:
    assert replay(story, tmp_path, ordered=True, most=SOME).trees


def test_a_message_in_a_root_that_was_just_made_is_there(tmp_path: Path) -> None:
    recording = Recording(os.fspath(tmp_path))
    fs, clock = FileSystem(recording.calls()), FakeClock(time.time())
    broker = Broker(tmp_path / "new" / "mq", create=True, fs=fs, clock=clock)
    broker.publish(QUEUE, text("a"))
    cut = Cut(recording, len(recording.events), ordered=False)
    for tree in cut.trees(100, seed=5):
        put(tree, os.fspath(tmp_path / "after"))
        found = World(tmp_path / "after" / "new" / "mq").broker()
        assert [m.message for m in found.consume(QUEUE)] == [text("a")]
        shutil.rmtree(tmp_path / "after")


def test_a_bundle_cut_at_any_byte_holds_no_message_that_nobody_published(
    tmp_path: Path,
) -> None:
    numbers = [*range(12345, 12357)]
    world = new_world(tmp_path)
    world.broker().publish_many(QUEUE, numbers, durable=False)
    [path] = world.files("bundles")
    for size in range(os.path.getsize(path), -1, -1):
        os.truncate(path, size)
        shutil.copytree(world.path, tmp_path / "torn" / QUEUE)
        shutil.copy(f"{world.root}/ddmq.yaml", tmp_path / "torn")
        torn = World(tmp_path / "torn").broker()
        found = [m.message for m in torn.consume(QUEUE, 100)]
        assert found == numbers[: len(found)]
        shutil.rmtree(tmp_path / "torn")
    assert found == []
