"""What a bundle holds, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.test_message import overrides, values

from ddmq.message import Content, InvalidContent, Publication, decode, encode_message
from ddmq.storage.bundle_file import (
    MAX_BUNDLE_BYTES,
    BundleContent,
    chunks,
    encode,
)
from ddmq.storage.names import policy_of

options = st.builds(
    Publication,
    st.integers(0, 10**18 - 1),
    overrides.map(policy_of),
    st.just(0),
    st.booleans(),
)


def encoded(messages):
    return [encode_message(message) for message in messages]


@given(st.lists(values, min_size=1, max_size=5), options)
def test_messages_survive_their_bundle(messages, chosen):
    lines = BundleContent(encode(encoded(messages), chosen))
    for number, message in enumerate(messages):
        content = Content(message, chosen.priority)
        assert lines.content(number) == content
        assert decode(lines.file_content(number)) == content
    assert lines.durable == chosen.durable


@given(st.lists(st.text("ab\n\0\u2028\x85 ", max_size=9), min_size=1))
def test_no_text_breaks_a_line(messages):
    lines = BundleContent(encode(encoded(messages), Publication(5)))
    read = [lines.content(number).message for number in range(len(messages))]
    assert read == messages


def test_a_chunk_has_so_many_messages_at_most():
    sizes = [len(chunk) for chunk in chunks([b"x"] * 25, 10)]
    assert sizes == [10, 10, 5]
    assert list(chunks([], 10)) == []


def test_a_chunk_is_not_too_large_unless_one_message_is():
    large = b"x" * (MAX_BUNDLE_BYTES // 2 + 1)
    huge = b"x" * (MAX_BUNDLE_BYTES + 1)
    sizes = [len(chunk) for chunk in chunks([large, large, b"x", huge, b"x"], 10)]
    assert sizes == [1, 2, 1, 1]


def test_a_chunk_may_be_as_large_as_a_megabyte_and_no_larger():
    half = b"x" * 2**19
    sizes = [len(chunk) for chunk in chunks([half, half, half, half, b"x"], 10)]
    assert sizes == [2, 2, 1]
    assert [len(chunk) for chunk in chunks([half * 3, half], 10)] == [1, 1]


def test_a_bundle_is_lines_of_which_each_ends():
    assert encode([b"1", b"2"], Publication(5)).split(b"\n")[1:] == [
        b"1",
        b"2",
        b"",
    ]


def test_what_is_published_comes_at_once_and_to_stay_unless_told_otherwise():
    assert Publication(5) == Publication(5, "", delay=0, durable=True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b'"text"\n1\n',
        b'{"timeout":5}\n1\n',
        b'{"priority":-1}\n1\n',
        b'{"priority":5',
        b"\xff\n1\n",
    ],
)
def test_what_has_no_proper_first_line_is_no_bundle(data):
    with pytest.raises(InvalidContent):
        BundleContent(data)


def test_a_bundle_that_says_no_priority_is_told_apart_from_other_junk():
    with pytest.raises(InvalidContent, match="has no priority"):
        BundleContent(b'{"timeout":5}\n1\n')


@pytest.mark.parametrize("number", [1, 2, 10**6])
def test_a_line_without_an_end_or_none_at_all_is_no_message(number):
    lines = BundleContent(b'{"priority":5}\n"whole"\n"cut sh')
    assert lines.content(0).message == "whole"
    with pytest.raises(InvalidContent, match="cut short"):
        lines.content(number)
    assert lines.file_content(number) == b""


def test_a_line_that_is_no_json_becomes_a_file_that_is_no_message():
    lines = BundleContent(b'{"priority":5}\nno json\n')
    with pytest.raises(InvalidContent):
        lines.content(0)
    with pytest.raises(InvalidContent):
        decode(lines.file_content(0))


def test_a_bundle_that_does_not_say_so_is_durable():
    assert BundleContent(b'{"priority":5}\n1\n').durable
