"""What others wrote is shown by a terminal, and not obeyed."""

from __future__ import annotations

import json
import shlex
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmq.printable import (
    is_printable,
    printable,
    printable_json,
    printable_lines,
    quoted,
)

_TURNS = ["LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"]
_MARKS = "\u200e\u200f\u061c\u2028\u2029"
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def is_obeyed(character):
    """Tell whether a terminal does anything but show it, by what Unicode says."""
    return (
        unicodedata.category(character) in ("Cc", "Cs")
        or unicodedata.bidirectional(character) in _TURNS
        or character in _MARKS
    )


OBEYED = [chr(n) for n in range(0x11_0000) if is_obeyed(chr(n))]


def test_every_character_that_a_terminal_obeys_is_told_in_words():
    shown = printable("".join(OBEYED))
    assert not any(map(is_obeyed, shown))
    assert printable_json(OBEYED).isascii()
    assert len(OBEYED) > 70


@given(st.text())
def test_no_text_is_obeyed_and_ordinary_ones_stay_as_they_are(text):
    assert not any(map(is_obeyed, printable(text)))
    assert not any(map(is_obeyed, printable_lines(text).translate({9: None, 10: None})))
    assert is_printable(text) == (printable_lines(text) == text)


@pytest.mark.parametrize(
    "text", ["Grüße, 你好\u3000", "\U0001f468\u200d\U0001f469 a\u00a0b", r"a\nb"]
)
def test_what_people_write_is_left_alone(text):
    assert (printable(text), printable_lines(text)) == (text, text)
    assert json.loads(printable_json(text)) == text


def test_a_line_break_is_told_where_it_would_forge_a_line():
    assert printable("a\nb\tc\r\x1b[m\x9b\u202e") == r"a\nb\tc\r\x1b[m\x9b\u202e"
    assert printable_lines("a\nb\tc\r") == "a\nb\tc\\r"


@given(_json)
def test_json_says_the_same_to_a_program(value):
    text = printable_json(value)
    assert json.loads(text) == value
    assert not any(map(is_obeyed, text))


@given(st.text(st.characters(exclude_categories=("C", "Z")), min_size=1))
def test_a_path_that_is_told_to_be_typed_is_one_word(path):
    assert shlex.split(quoted(path)) == [path]


def test_a_plain_path_needs_no_quotes():
    assert quoted("/scratch/mq/jobs-1.2") == "/scratch/mq/jobs-1.2"
    assert quoted("") == "''"


def test_what_python_calls_printable_is_shown_as_it_is():
    # So whoever asks `isprintable` first need not import this module.
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    shown = "".join(filter(str.isprintable, every))
    assert printable(shown) == printable_lines(shown) == shown
