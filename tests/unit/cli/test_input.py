"""How far the reading of a file is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ddmq.cli import input as input_
from ddmq.cli.input import from_json, messages
from ddmq.errors import InvalidArgument

LINES = 4000


def progress_of(path: str, *, null: bool = False) -> list[str]:
    told: list[str] = []
    read = messages(path, as_json=False, null=null, tell=told.append)
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


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000, None, 5])
def test_what_is_no_json_is_named_by_its_place(text: object) -> None:
    with pytest.raises(InvalidArgument, match="message: not JSON"):
        from_json(text, "message")


def test_a_line_that_is_no_text_is_named_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"one\n\xff\n")
    read = messages(str(tmp_path / "lines"), as_json=False, null=False, tell=print)
    assert next(read) == "one"
    with pytest.raises(
        InvalidArgument, match="lines': line 2: not UTF-8 text, from byte 1 on"
    ):
        next(read)


def read(path: Path, **options: bool) -> list[object]:
    told = {"as_json": False, "null": False, **options}
    return list(messages(str(path), tell=print, **told))


@pytest.mark.parametrize("null", [False, True])
def test_a_byte_order_mark_belongs_to_no_message(tmp_path: Path, null: bool) -> None:
    end = b"\0" if null else b"\n"
    mark = b"\xef\xbb\xbf"
    (tmp_path / "lines").write_bytes(mark + b"one" + end + mark + b"two" + end)
    assert read(tmp_path / "lines", null=null) == ["one", "\ufefftwo"]


def test_what_is_wrong_names_the_file_once(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"[\n")
    with pytest.raises(InvalidArgument) as caught:
        read(path, as_json=True)
    assert str(caught.value).count(str(path)) == 1
    assert str(caught.value).startswith(f"'{path}': line 1: not JSON")


def test_lines_that_are_no_messages_are_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"1\n\xff\x1b[2J\n2\n{\n" + b"x\n" * 20 + b"3\n")
    assert read(path, as_json=True, skip_invalid=True) == [1, 2, 3]
    told = [record.message for record in caplog.records]
    assert told[0] == "left out: line 2: not UTF-8 text, from byte 1 on"
    assert told[1].startswith("left out: line 4: not JSON")
    assert (len(told), told[-1]) == (11, "left out: 22 lines in all")


@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize("more", [1, 2, 3, 4, 5, 9, 50])
def test_what_is_too_long_is_left_out_whole_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, null: bool, more: int
) -> None:
    monkeypatch.setattr(input_, "MAX_BYTES", 10)
    monkeypatch.setattr(input_, "_BLOCK", 4)
    end = b"\0" if null else b"\n"
    pieces = [b"first", b"y" * (10 + more), b"x" * 10, b"z" * (10 + more), b"last"]
    for text in (end.join(pieces), end.join(pieces) + end):
        (tmp_path / "in").write_bytes(text)
        found = input_.messages(
            str(tmp_path / "in"),
            as_json=False,
            null=null,
            tell=lambda _: None,
            skip_invalid=True,
        )
        assert list(found) == ["first", "x" * 10, "last"]


def test_an_end_of_line_of_windows_is_no_part_of_the_longest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_, "MAX_BYTES", 10)
    (tmp_path / "in").write_bytes(b"x" * 10 + b"\r\n" + b"y" * 10)
    found = input_.messages(
        str(tmp_path / "in"), as_json=False, null=False, tell=lambda _: None
    )
    assert list(found) == ["x" * 10, "y" * 10]
