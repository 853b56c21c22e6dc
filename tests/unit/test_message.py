"""What message files hold, both ways."""

from __future__ import annotations

import json
import pickle
import re
import sys
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmq.errors import InvalidArgument
from ddmq.message import (
    Content,
    InvalidContent,
    Message,
    Policy,
    TooLarge,
    decode,
    decode_dropped,
    encode,
    encode_message,
)
from ddmq.queue_policy import message_of
from ddmq.settings import Settings
from ddmq.storage.names import Entry, Lease, policy_of

text = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
)
#: Whole milliseconds: names say no more.
timeouts = st.integers(1, 10**12).map(lambda milliseconds: milliseconds / 1000)
overrides = st.fixed_dictionaries(
    {},
    optional={
        "timeout": timeouts,
        "requeue": st.booleans(),
        "requeue_prio": st.integers(0, 10**18 - 1),
        "requeue_limit": st.none() | st.integers(0, 10**8),
    },
)


def leased(message, settings=None, failures=0, losses=0, own=()):
    entry = Entry(5, 1, "abc", failures, losses, policy_of(dict(own)))
    lease = Lease.of(entry, 2, "0" * 16)
    return message_of("q", lease, Content(message, 5), settings or Settings())


def test_a_message_has_the_lease_that_its_file_name_says():
    message = leased("x", failures=1, own={"timeout": 9})
    assert message.lease == Lease.parse(message.filename)
    renewed = message._replace(filename=message.filename.replace("2", "3"))
    assert renewed.lease is None  # what it says now is read when it is settled
    assert Message(*message) == message


def test_a_pickled_message_holds_its_fields_alone():
    """Another version, or another class for leases, can read it."""
    message = leased("x")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(message, protocol)
        assert len(data) == len(pickle.dumps(Message(*message), protocol))
        assert pickle.loads(data) == message


@pytest.mark.skipif(sys.version_info < (3, 10), reason="it knows no `int | None`")
def test_the_types_of_a_message_can_be_asked_for():
    assert list(typing.get_type_hints(Message)) == list(Message._fields)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@given(values, st.integers(0, 10**18 - 1))
def test_a_message_survives_its_file(value, priority):
    assert decode(encode(value, priority)) == Content(value, priority)


@given(values)
def test_a_message_file_is_one_line_of_json(value):
    data = encode(value, 5)
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    assert json.loads(data) == {"message": value, "priority": 5}


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        {"a": float("-inf")},
        {1, 2},
        b"bytes",
        object,
        {("a",): 1},
        "\ud800",
        ["\udfff"],
        {"\ud800": 1},
    ],
    ids=repr,
)
def test_what_is_no_json_value_is_refused(value):
    with pytest.raises(InvalidArgument, match="message"):
        encode(value, 5)


def test_a_value_that_holds_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(InvalidArgument, match="no JSON value"):
        encode(value, 5)


def test_a_value_nested_too_deeply_is_refused():
    with pytest.raises(InvalidArgument, match="no JSON value"):
        encode(nested(200_000), 5)


def test_a_message_that_is_too_large_is_refused_with_a_remedy():
    with pytest.raises(InvalidArgument) as told:
        encode("\33" + "x" * 1000, 5, 1000)
    assert "over 1000 (max_message_size), and begins with '" in str(told.value)
    assert "publish the path" in str(told.value)
    assert str(told.value).isprintable()


@pytest.mark.parametrize(
    "encoded", [lambda x: encode(x, 5, 40), lambda x: encode_message(x, 5, 40)]
)
def test_the_text_quotes_what_was_measured_of_a_message_that_others_change(encoded):
    class Changing(dict):
        def items(self):
            found = [*super().items()]
            self.clear()
            return found

    with pytest.raises(InvalidArgument, match=r"""begins with '{"a":"xxxx"""):
        encoded(Changing(a="x" * 40))


def test_the_largest_message_that_can_be_written_can_be_read():
    size = len(encode("x" * 1000, 5))
    assert decode(encode("x" * 1000, 5, size), size).message == "x" * 1000
    with pytest.raises(InvalidArgument):
        encode("x" * 1000, 5, size - 1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"{", "cut short"),
        (b'{"message": "x"', "cut short"),
        (b'{"message": "x"} {}', "not JSON"),
        (b'{"message": NaN}', "not JSON"),
        (b'{"message": -Infinity}', "not JSON"),
        (b'{"message": [1.5, -1e999]}', "not JSON.*-1e999 is beyond all numbers"),
        (b'{"message": ' + b"9" * 400 + b".0}", "beyond all numbers"),
        (b"\xff\xfe", "not JSON"),
        (b"\0" * 100, "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b'{"message": ' + b"9" * 100_000, "not JSON"),
        (b"[]", "no object"),
        (b'"text"', "no object"),
        (b"null", "no object"),
        (b'{"priority": 5}', "no object"),
        (b'{"message": "x", "timeout": 0}', "timeout is 0"),
        (b'{"message": "x", "timeout": true}', "timeout is true"),
        (b'{"message": "x", "timeout": "9"}', "timeout is '9'"),
        (b'{"message": "x", "requeue": 1}', "requeue is 1"),
        (b'{"message": "x", "requeue_prio": -1}', "requeue_prio is -1"),
        (b'{"message": "x", "requeue_prio": null}', "requeue_prio is null"),
        (b'{"message": "x", "requeue_limit": 0.5}', "requeue_limit is 0.5"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_file_that_holds_no_message_says_why(data, reason):
    with pytest.raises(InvalidContent, match=reason):
        decode(data)


@given(st.binary())
def test_any_bytes_are_a_message_or_a_reason(data):
    try:
        content = decode(data)
    except InvalidContent as error:
        reason = str(error)
        assert reason.startswith(("its file", "in its file"))
    else:
        assert isinstance(content, Content)


@pytest.mark.parametrize("around", ["", " ", "\n", "\r\n\t "])
def test_space_may_stand_around_the_content(around):
    data = f'{around}{{"message": "x", "priority": 5}}{around}'.encode()
    assert decode(data) == Content("x", 5)


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b'\n {"message":1 "x":2}', "line 2 column 15 (char 15)"),
        (b'{"message":1\n', "line 2 column 1 (char 13)"),
        (b" \n", "line 2 column 1 (char 2)"),
        (b'{"message":1} \n x \n', "line 2 column 2 (char 16)"),
    ],
    ids=["space before", "cut short", "space alone", "more behind"],
)
def test_the_reason_says_where_in_the_file_the_fault_is(data, where):
    with pytest.raises(InvalidContent, match=re.escape(where)):
        decode(data)


def test_space_that_json_does_not_know_is_no_space():
    with pytest.raises(InvalidContent, match="not JSON"):
        decode('{"message": "x"}\u2003'.encode())


def test_an_oversized_file_is_not_parsed():
    data = encode("x" * 1000, 5)
    for read in (decode, decode_dropped):
        with pytest.raises(TooLarge, match="over 1000 bytes"):
            read(data, 1000)


@pytest.mark.parametrize("priority", [b"-1", b"1.5", b'"high"', b"null", b"true"])
def test_a_priority_that_is_none_is_left_to_the_settings(priority):
    content = decode(b'{"message": "x", "priority": ' + priority + b"}")
    assert content.priority_or(999) == 999


def test_priority_zero_is_a_priority():
    assert decode(encode("x", 0)).priority_or(999) == 0


def test_unknown_keys_are_left_to_newer_versions():
    assert decode(b'{"message": 1, "color": "red"}') == Content(1, None, {})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"hello\n", "hello"),
        (b"hello", "hello"),
        (b"two\nlines\n\n", "two\nlines\n"),
        (b"", ""),
        (b"42", "42"),
        (b'["a"]', '["a"]'),
        (b'{"a": 1}', '{"a": 1}'),
        (b'{"message": "x", "timeout": 0}', '{"message": "x", "timeout": 0}'),
        (b'{"message": {"a": 1}}', {"a": 1}),
    ],
)
def test_a_dropped_file_is_a_message_object_or_text(data, message):
    assert decode_dropped(data).message == message


def test_a_dropped_message_object_keeps_what_it_sets():
    dropped = decode_dropped(b'{"message": "x", "priority": 3, "timeout": 5}')
    assert dropped == Content("x", 3, {"timeout": 5})


def test_a_dropped_file_that_is_no_text_is_refused():
    with pytest.raises(InvalidContent, match="not UTF-8"):
        decode_dropped(b"\x89PNG\xff")


def test_what_a_message_sets_goes_before_the_settings():
    settings = Settings(600, requeue=True, requeue_prio=1, requeue_limit=2)
    own = {"timeout": 9, "requeue": False, "requeue_prio": 0, "requeue_limit": None}
    message = leased("x", settings, own=own.items())
    assert message.timeout == 9
    assert message.requeue is False
    assert message.requeue_prio == 0
    assert message.requeue_limit is None


def test_what_a_message_leaves_out_is_from_the_settings():
    settings = Settings(7, requeue=False, requeue_prio=1, requeue_limit=2)
    message = leased("x", settings)
    assert message[4:8] == (7, False, 1, 2)


@pytest.mark.parametrize(
    ("requeue", "limit", "failures", "losses", "expected"),
    [
        (True, None, 0, 0, True),
        (True, None, 10**8, 10**8, True),
        (True, 0, 0, 0, False),
        (True, 1, 0, 0, True),
        (True, 1, 1, 0, False),
        (True, 1, 0, 1, False),
        (True, 3, 1, 1, True),
        (True, 3, 2, 1, False),
        (True, 3, 9, 9, False),
        (False, None, 0, 0, False),
        (False, 5, 0, 0, False),
    ],
)
def test_it_may_come_back_until_the_limit(requeue, limit, failures, losses, expected):
    settings = Settings(requeue=requeue, requeue_limit=limit)
    message = leased("x", settings, failures, losses)
    assert message.may_requeue is expected


def test_the_requeue_counter_is_failures_and_losses():
    message = leased("x", failures=2, losses=3)
    assert message.requeue_counter == 5


def test_everything_known_of_a_message_can_be_written_as_json():
    message = leased({"a": [1]}, failures=2)
    assert set(message.as_dict()) == {*Message._fields, "requeue_counter"}
    assert json.loads(json.dumps(message.as_dict()))["requeue_counter"] == 2


@pytest.mark.parametrize(
    ("own", "left", "age"),
    [
        pytest.param("", 600, None, id="just made"),
        pytest.param("", 300, None, id="renewed half of its timeout ago"),
        pytest.param("", 299, 301, id="a second before that"),
        pytest.param("", -5, 605, id="over"),
        pytest.param("", 9000, None, id="renewed for longer than its timeout"),
        pytest.param("t60000", 31, None, id="with a timeout of its own"),
        pytest.param("t60000", 29, 31, id="of which over half is gone"),
    ],
)
def test_a_lease_tells_when_it_was_renewed_once_half_of_its_timeout_is_gone(
    own, left, age
):
    policy = Policy.of(Entry(5, 1, "abc", policy=own), Settings())
    found = policy.unrenewed_for(1_700_000_000_000 + left * 1000, 1_700_000_000)
    assert found == age
