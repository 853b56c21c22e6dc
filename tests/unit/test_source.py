"""How far the reading of a file is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ddmq import source

LINES = 4000


def progress_of(path: str, *, null: bool = False) -> list[str]:
    told: list[str] = []
    read = source.messages(path, as_json=False, null=null, tell=told.append)
    assert len(list(read)) == LINES
    return told


def test_of_a_file_a_bar_shows_which_share_is_read(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes((b"x" * 9 + b"\n") * LINES)
    assert progress_of(str(tmp_path / "lines")) == [
        "[######..................]  25%  1,000 messages",
        "[############............]  50%  2,000 messages",
        "[##################......]  75%  3,000 messages",
        "[########################] 100%  4,000 messages",
    ]


def test_of_what_has_no_known_end_only_the_number_is_shown() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"x\n" * LINES)  # less than what a pipe holds
    os.close(writer)
    shown = progress_of(f"/dev/fd/{reader}")
    os.close(reader)
    assert shown == [f"{number},000 messages" for number in (1, 2, 3, 4)]


@pytest.mark.parametrize("null", [False, True])
def test_what_is_empty_is_left_out_but_counted(tmp_path: Path, null: bool) -> None:
    end = b"\0" if null else b"\n"
    (tmp_path / "pieces").write_bytes((b"x" + end + end) * LINES)
    told = progress_of(str(tmp_path / "pieces"), null=null)
    assert len(told) == 2 * LINES // 1000
