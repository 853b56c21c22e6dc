"""One type for all that is found, and how people and programs are told."""

from __future__ import annotations

import json

import pytest

from ddmq.diagnose.finding import BAD, NOTE, Finding, counted, listed, table, wrong


def test_programs_are_told_all_but_how_it_is_mended():
    found = wrong("expired", "2 leases are over", "requeues them", paths=["/a", "/b"])
    assert json.loads(json.dumps(found.as_dict())) == {
        "name": "expired",
        "level": BAD,
        "text": "2 leases are over",
        "remedy": "requeues them",
        "figures": {"number": 2},
    }


def test_a_remedy_stands_below_what_it_mends():
    findings = [Finding("one", BAD, "it is broken", "mend it"), Finding("a", NOTE, "x")]
    assert table(findings) == [
        "bad   one  it is broken",
        "           -> mend it",
        "note  a    x",
    ]


def test_a_long_text_is_broken_into_lines_and_no_word_is():
    lines = table([Finding("one", BAD, f"{'word ' * 40}{'x' * 120}")])
    assert max(map(len, lines[:-1])) <= 100
    assert lines[-1] == f"{' ' * 10}{'x' * 120}"


def test_what_would_turn_a_terminal_round_is_told_and_not_done():
    [line] = table([Finding("one", BAD, "a\x1b[2J")])
    assert "\x1b" not in line


def test_nothing_found_makes_no_lines():
    assert table([]) == []


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/a"], "/a"),
        (["/a", "/b", "/c"], "/a, /b, /c"),
        (["/a", "/b", "/c", "/d"], "/a, /b, /c and 1 more"),
        (["/a", "/b", "/c", "/d", "/e"], "/a, /b, /c and 2 more"),
        (["/a\n"], "/a\\n"),
    ],
)
def test_three_paths_are_named_and_the_others_counted(paths, expected):
    assert listed(paths) == expected


def test_one_is_and_many_are():
    assert counted(1, "lease") == "1 lease is"
    assert counted(2, "lease") == "2 leases are"
