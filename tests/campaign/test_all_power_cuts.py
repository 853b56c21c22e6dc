"""The power is cut at each point; each combination of unsynced changes gets lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from protocol.cuts import CONSUMING, PUBLISHING, Replayed, replay

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from protocol.cuts import Story

pytestmark = pytest.mark.campaign

#: We try all combinations at a point up to this number; of more, as many at random.
MOST = 2000


@pytest.mark.parametrize(
    ("stories", "ordered"),
    [(PUBLISHING, False), (PUBLISHING, True), (CONSUMING, True)],
    ids=["publish, any order", "publish, in order", "consume, in order"],
)
def test_nothing_that_was_confirmed_is_lost(
    stories: Sequence[Story],
    ordered: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    total = Replayed()
    for number, story in enumerate(stories):
        print(story)  # noqa: T201
        directory = tmp_path / str(number)
        directory.mkdir()
        total = total.plus(replay(story, directory, ordered=ordered, most=MOST))
    with capsys.disabled():
        print(f"\n{total}")  # noqa: T201
    assert total.trees
