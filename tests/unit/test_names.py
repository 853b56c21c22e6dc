"""The grammar of file names, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmq.errors import InvalidArgument
from ddmq.names import (
    MAX_PRIORITY,
    MAX_STAMP,
    RESERVED,
    Bundle,
    Dead,
    Delayed,
    Entry,
    Lease,
    Spent,
    are_buckets,
    are_in_priority,
    bucket_name,
    check_queue_name,
    is_shelf,
    new_id,
    new_token,
    overrides_of,
    parse_place,
    parse_priority,
    policy_of,
    random_below,
    shelf_name,
    stamp_of,
)

priorities = st.integers(0, MAX_PRIORITY)
stamps = st.integers(0, MAX_STAMP)
ids = st.from_regex("[a-z0-9-]{1,64}", fullmatch=True)
counts = st.integers(0, 999_999_999)
milliseconds = st.integers(0, 10**13 - 1)
overrides = st.fixed_dictionaries(
    {},
    optional={
        "timeout": st.integers(1000, 10**12).map(lambda n: n / 1000),
        "requeue": st.booleans(),
        "requeue_prio": priorities,
        "requeue_limit": st.none() | st.integers(0, 10**8),
    },
)
policies = overrides.map(policy_of)
entries = st.builds(Entry, priorities, stamps, ids, counts, counts, policies)
tokens = st.from_regex("[0-9a-f]{16}", fullmatch=True)
leases = st.builds(
    Lease.of, entries, milliseconds, tokens, st.sampled_from(["", ".line", ".draft"])
)
lines = st.integers(0, 99_999)
cursors = st.tuples(lines, lines, lines).map(sorted)
bundles = st.builds(
    lambda cursor, *others: Bundle(*others[:3], *reversed(cursor), *others[3:]),
    cursors,
    priorities,
    st.integers(0, MAX_STAMP - 10**9),
    st.from_regex("[0-9a-f]{20}", fullmatch=True),
    milliseconds,
    tokens,
    policies,
)
delayed = st.builds(Delayed, st.one_of(entries, bundles), milliseconds)
dead = st.builds(Dead, entries, tokens, st.from_regex("[a-z]{1,20}", fullmatch=True))

#: Text that looks like a name, most of it a little wrong.
ALMOST = (
    r"([0-9]{12,14}\.)?(0?[0-9]{1,19}\.)?[0-9]{18,20}\.[a-z0-9A-]{0,3}"
    r"\.0?[0-9]{1,10}-[0-9]{1,2}(\.[0-9a-g]{15,17}|\.[a-z]{0,21})?\n?"
)
texts = st.one_of(st.text(), st.from_regex(ALMOST, fullmatch=True))


@given(entries)
def test_an_entry_survives_its_name(entry):
    assert Entry.parse(entry.priority, entry.filename) == entry


@given(overrides)
def test_what_a_publisher_sets_survives_its_field(own):
    assert overrides_of(policy_of(own)) == own


@pytest.mark.parametrize(
    ("own", "field"),
    [
        ({}, ""),
        ({"timeout": 3}, "t3000"),
        ({"timeout": 1.07}, "t1070"),
        ({"timeout": 10**9}, "t1000000000000"),
        ({"requeue": False, "requeue_limit": None}, "r0ln"),
        ({"requeue": True, "requeue_prio": 0, "requeue_limit": 7}, "r1p0l7"),
    ],
)
def test_a_policy_is_a_few_letters_and_numbers(own, field):
    assert policy_of(own) == field


@pytest.mark.parametrize(
    ("field", "seconds"),
    [("t1", 1), ("t999", 1), ("t1000", 1), ("t1001", 1.001), ("t9" + "9" * 12, 10**9)],
)
def test_a_timeout_in_a_name_is_believed_within_its_bounds(field, seconds):
    assert overrides_of(field) == {"timeout": seconds}
    assert Entry.parse(5, f"{1:019d}.abc.0-0.{field}").policy == field


@pytest.mark.parametrize(
    "field",
    ["t0", "t07", "t", "x1", "r2", "p", "l", "l-1", "p1r1", "t1.r1", "t" + "9" * 14],
)
def test_what_is_no_policy_is_in_no_name(field):
    assert Entry.parse(5, f"{1:019d}.abc.0-0.{field}") is None
    assert Lease.parse(f"{1:013d}.5.{1:019d}.abc.0-0.{field}.{'0' * 16}") is None


@given(entries, tokens)
def test_a_dead_letter_and_its_note_name_the_claim_and_how_it_ended(entry, token):
    dead = Dead(entry, token, "failed")
    assert dead.note == f"{entry.id}.{token}.failed.note"
    assert dead.filename.endswith(f".{token}.failed")


names_in_a_bucket = st.from_regex(
    r"[0-9]{19}\.[a-z0-9-]{1,20}\.[0-9]{1,9}-[0-9]{1,9}(\.t9{1,13}(l9{1,9})?)?",
    fullmatch=True,
)


@given(names_in_a_bucket)
def test_whatever_is_in_a_name_those_that_are_made_of_it_are_names(name):
    entry = Entry.parse(5, name)
    if entry is None:
        return
    timeout = overrides_of(entry.policy).get("timeout", 600)
    lease = Lease.of(entry, 1_900_000_000_000 + int(timeout * 1000), "0" * 16)
    assert Lease.parse(lease.filename) == lease
    for later in (entry.failed(), entry.lost(), entry.failed().lost()):
        assert Entry.parse(5, later.filename) == later
        assert Dead.parse(Dead(later, lease.token, "failed").filename) is not None


@given(bundles)
def test_a_bundle_survives_its_name(bundle):
    assert Bundle.parse(bundle.priority, bundle.filename) == bundle
    assert parse_place(bundle.priority, bundle.filename) == bundle


@given(milliseconds, st.from_regex("[0-9a-f]{20}", fullmatch=True))
def test_a_spent_bundle_survives_its_name(since, id_):
    assert Spent.parse(Spent(since, id_).filename) == Spent(since, id_)


@given(leases)
def test_a_lease_survives_its_name(lease):
    assert Lease.parse(lease.filename) == lease


@given(delayed)
def test_a_delayed_message_survives_its_name(name):
    assert Delayed.parse(name.filename) == name


@given(dead)
def test_a_dead_letter_survives_its_name(name):
    assert Dead.parse(name.filename) == name


@given(st.lists(stamps.map(bucket_name)), texts)
def test_of_buckets_one_that_is_none_spoils_all(names, other):
    assert are_buckets(names)
    assert are_buckets([*names, other]) == are_buckets([other])


@given(st.lists(stamps.map(bucket_name) | stamps.map(shelf_name)), texts)
def test_of_buckets_and_shelves_one_that_is_neither_spoils_all(names, other):
    assert are_in_priority(names)
    assert are_in_priority([*names, other]) == are_in_priority([other])


@given(stamps)
def test_a_shelf_survives_its_name_and_is_no_bucket(stamp):
    name = shelf_name(stamp)
    assert (stamp_of(name), is_shelf(name), are_buckets([name])) == (stamp, True, False)
    name = bucket_name(stamp)
    assert (stamp_of(name), is_shelf(name), are_in_priority([name])) == (
        *(stamp, False, True),
    )


@given(stamps)
def test_a_bucket_survives_its_name(stamp):
    assert are_buckets([bucket_name(stamp)])
    assert int(bucket_name(stamp)) == stamp


@pytest.mark.parametrize("parse", [Lease.parse, Delayed.parse, Dead.parse])
@given(text=texts)
def test_what_is_read_as_a_name_is_written_the_same(parse, text):
    found = parse(text)
    assert found is None or found.filename == text


@pytest.mark.parametrize("cursor", ["9-10-1", "9-3-4", "09-3-1", "9-3-1-0"])
def test_a_cursor_that_no_claim_can_have_made_is_none(cursor):
    name = f"{10**18}.{'a' * 20}.{cursor}.1700000000000.{'0' * 16}"
    assert Bundle.parse(5, name) is None


def test_the_lines_of_a_bundle_have_stamps_that_names_can_tell():
    last = Bundle(5, MAX_STAMP - 4, "b" * 20, lines=4)
    assert Bundle.parse(5, last.filename) == last
    assert Bundle.parse(5, last.at(last.stamp + 1).filename) is None


def test_a_claim_takes_the_next_lines_and_its_name_tells_their_leases():
    bundle = Bundle(5, 100, "b" * 20, lines=4)
    first = bundle.taking(3, 1_700_000_000_000, "1" * 16)
    last = first.taking(3, 1_800_000_000_000, "2" * 16)
    assert (bundle.waiting, first.waiting, last.waiting) == (4, 1, 0)
    assert [lease.entry for lease in first.drafts()] == [
        Entry(5, 100 + number, f"{'b' * 20}-{number}") for number in range(3)
    ]
    assert [lease.line for lease in last.drafts()] == [("b" * 20, 3)]
    assert {lease.token for lease in first.drafts()} == {"1" * 16}
    assert {lease.expiry for lease in last.drafts()} == {1_800_000_000_000}
    assert first.last_draft() == first.drafts()[-1]
    assert bundle.drafts() == []


def test_of_an_emptied_bundle_nothing_waits_and_nothing_was_taken():
    bundle = Bundle(5, 100, "b" * 20, lines=4).taking(3, 1_700_000_000_000, "1" * 16)
    emptied = bundle.emptied("2" * 16)
    assert emptied == Bundle(5, 100, "b" * 20, 4, 4, 0, 0, "2" * 16)
    assert (emptied.waiting, emptied.drafts()) == (0, [])


def test_a_bundle_is_sorted_where_its_next_line_stands():
    bundle = Bundle(5, 10**18, "b" * 20, lines=9).taking(4, 0, "1" * 16)
    before = Entry(5, 10**18 + 3, "z").filename
    after = Entry(5, 10**18 + 5, "a").filename
    assert sorted([after, bundle.filename, before]) == [before, bundle.filename, after]


def test_a_lease_that_was_renewed_is_of_the_same_claim():
    lease = Lease.of(Entry(5, 1, "a-1"), 1, "0" * 16, ".line")
    assert lease.is_same_claim(Lease.of(Entry(5, 1, "a-1"), 9, "0" * 16))
    assert not lease.is_same_claim(Lease.of(Entry(5, 2, "a-2"), 1, "0" * 16))
    assert not lease.is_same_claim(Lease.of(Entry(5, 1, "a-1"), 1, "1" * 16))


@given(texts)
def test_what_is_read_as_a_ready_name_is_written_the_same(text):
    found = Entry.parse(7, text)
    assert found is None or (found.filename == text and found.priority == 7)


@given(st.one_of(texts, st.from_regex("[0-9]{1,20}", fullmatch=True)))
def test_what_is_read_as_a_directory_is_written_the_same(text):
    priority = parse_priority(text)
    assert not are_buckets([text]) or bucket_name(int(text)) == text
    assert priority is None or str(priority) == text


@given(leases | delayed | dead, st.data())
def test_a_damaged_name_is_never_read_as_another(name, data):
    text = name.filename
    at = data.draw(st.integers(0, len(text)))
    character = data.draw(st.sampled_from("0019.-az\n") | st.characters())
    rest = text[at + data.draw(st.integers(0, 1)) :]
    damaged = text[:at] + character + rest
    found = type(name).parse(damaged)
    assert found is None or found.filename == damaged


@pytest.mark.parametrize(
    "name",
    ["01.a.0-0", "1.a.00-0", "1.a.0-01", "1.a.0", "1.A.0-0", "1..0-0", "1.a.0-0\n"],
)
def test_a_ready_name_is_written_in_one_way_only(name):
    assert Entry.parse(5, "0" * 18 + "1.a.0-0") is not None
    assert Entry.parse(5, "0" * 18 + name) is None


@given(st.lists(stamps, unique=True))
def test_sorted_ready_names_are_messages_in_order(found):
    names = sorted(Entry(1, stamp, new_id()).filename for stamp in found)
    assert [Entry.parse(1, name).stamp for name in names] == sorted(found)


@given(st.lists(milliseconds, unique=True), entries)
def test_sorted_leases_expire_in_order(found, entry):
    names = sorted(Lease.of(entry, expiry, new_token()).filename for expiry in found)
    assert [Lease.parse(name).expiry for name in names] == sorted(found)


def test_the_next_state_keeps_priority_and_place():
    entry = Entry(12, 34, "abc", 1, 2)
    assert Delayed(entry, 5).filename == "0000000000005.12.0000000000000000034.abc.1-2"
    assert Spent(5, "a" * 20).filename == "spent.0000000000005." + "a" * 20


def test_the_largest_stamp_has_as_many_digits_as_each():
    assert len(str(MAX_STAMP)) == len(bucket_name(0)) == 19
    assert len(bucket_name(MAX_STAMP)) == 19
    assert len(bucket_name(MAX_STAMP + 1)) == 20


def test_ids_and_tokens_are_new_each_time():
    assert (
        len({new_id() for _ in range(100)} | {new_token() for _ in range(100)}) == 200
    )


@pytest.mark.parametrize("name", ["0", "9", "10", str(MAX_PRIORITY)])
def test_a_number_is_a_priority(name):
    assert parse_priority(name) == int(name)


def test_the_largest_priority_is_the_largest_that_a_name_can_tell():
    assert parse_priority(str(MAX_PRIORITY)) == MAX_PRIORITY
    assert parse_priority(str(MAX_PRIORITY + 1)) is None


@pytest.mark.parametrize("name", ["", "-1", "01", "1.5", "\u0661", "1\n", "9" * 19])
def test_what_is_no_plain_number_is_no_priority(name):
    assert parse_priority(name) is None


@pytest.mark.parametrize(
    "name", ["q", "testmq", "a.b", "a b", "Größe", "x" * 200, "0", "work2", "a-b_c"]
)
def test_these_name_queues(name):
    assert check_queue_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../evil",
        "a/b",
        "/a",
        "a\0b",
        "a\nb",
        "a\x7fb",
        "a\u202eb",
        "a,b",
        ".hidden",
        "-f",
        "\ud800",
        "x" * 201,
        "é" * 101,
        *sorted(RESERVED),
    ],
)
def test_these_name_no_queue(name):
    with pytest.raises(InvalidArgument) as caught:
        check_queue_name(name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "'' is empty"),
        ("work", "'work' is reserved for ddmq's own files"),
        (".x", "'.x' begins with a dot or a dash"),
        ("a/b", "'a/b' has a slash, a comma or an unprintable character"),
        ("x" * 201, "' is longer than 200 bytes"),
    ],
)
def test_who_names_no_queue_is_told_why(name, fault):
    with pytest.raises(InvalidArgument, match=f"{fault}; choose another") as caught:
        check_queue_name(name)
    assert str(caught.value).startswith("queue name '")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", [None, 5, b"q", ["q"]])
def test_only_text_names_a_queue(name):
    with pytest.raises(InvalidArgument, match=r"queue name .* is not text"):
        check_queue_name(name)


@given(st.text())
def test_a_good_queue_name_is_one_visible_file_name(text):
    try:
        name = check_queue_name(text)
    except InvalidArgument:
        return
    assert "/" not in name
    assert name[0] not in ".-"
    assert 0 < len(name.encode()) <= 200


@pytest.mark.parametrize(("limit", "numbers"), [(0, {0}), (1, {0}), (2, {0, 1})])
def test_each_number_below_a_limit_comes_and_no_other(limit, numbers):
    assert {random_below(limit) for _ in range(200)} == numbers
