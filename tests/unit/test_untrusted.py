"""JSON that somebody else wrote, in order to do harm."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmq.untrusted import MAX_DEPTH, moment, parsed

_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(_json)
def test_what_is_json_is_read(value):
    assert parsed(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"\xff", b"NaN", b"[Infinity]", b"-Infinity", b"1e999"),
        *(b"9" * 5000, b"[" * 60_000, b'{"a":' * 20_000, b"[[]," * 9_000),
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
    ],
)
def test_what_would_do_harm_is_a_value_error(data):
    with pytest.raises(ValueError):  # noqa: PT011 - all that matters is that callers expect it
        parsed(data)


def test_what_is_nested_as_deep_as_allowed_can_be_shown():
    value = parsed(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert json.dumps(value) == "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parsed(b'["' + b"[" * 999 + b'"]')


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -1, 1e300, 10**30, "1", None, [], {}, True]
)
def test_what_is_no_moment_is_unknown(value):
    assert moment(value) is None


def test_a_moment_is_seconds_since_1970():
    assert (moment(0), moment(1.5), moment(253_402_300_799)) == (
        0,
        1.5,
        253_402_300_799,
    )
