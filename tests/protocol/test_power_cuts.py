"""The power is cut, and what was not synced is lost: some of all ways to lose it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from protocol.cuts import CONSUMING, PUBLISHING, replay

if TYPE_CHECKING:
    from pathlib import Path

    from protocol.cuts import Story

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
