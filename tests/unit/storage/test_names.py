"""The grammar of file names, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.storage.some_names import (
    bundle_ids,
    bundles,
    dead,
    delayed,
    entries,
    leases,
    milliseconds,
    overrides,
    range_leases,
    stamps,
    texts,
)

from ddmq.errors import InvalidArgument
from ddmq.storage.dead_letters import Dead
from ddmq.storage.delayed import Delayed
from ddmq.storage.names import (
    MAX_COUNT,
    MAX_PRIORITY,
    MAX_RANGE,
    MAX_STAMP,
    RESERVED,
    Bundle,
    Entry,
    Lease,
    are_buckets,
    are_in_priority,
    bucket_name,
    check_queue_name,
    is_shelf,
    new_id,
    new_token,
    overrides_of,
    parse_directory,
    parse_paused_by,
    parse_priority,
    parse_ready_entry,
    paused_by,
    policy_of,
    random_below,
    shelf_name,
    stamp_of,
)
from ddmq.storage.range_names import DETACHED, NewClaim, Range, RangeLease


@given(entries)
def test_an_entry_survives_its_name(entry):
    assert Entry.parse(entry.priority, entry.filename) == entry
    assert parse_ready_entry(entry.priority, entry.filename) == entry


@given(entries, milliseconds)
def test_a_new_lease_is_named_after_what_waited(entry, expiry):
    lease = Lease.of_waiting(entry, entry.filename, expiry)
    assert lease == Lease.of(entry, expiry, lease.token) == Lease.parse(lease.filename)
    assert lease.token != Lease.of_waiting(entry, entry.filename, expiry).token


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
def test_the_entry_of_a_bundle_survives_its_name(bundle):
    assert Bundle.parse(bundle.priority, bundle.filename) == bundle
    assert parse_ready_entry(bundle.priority, bundle.filename) == bundle


@given(bundle_ids)
def test_a_directory_of_a_bundle_tells_its_id(id_):
    assert parse_directory(id_) == id_


def test_no_name_is_longer_than_a_file_system_takes_it():
    policy = policy_of(
        {
            "timeout": 10**9,
            "requeue": True,
            "requeue_prio": MAX_PRIORITY,
            "requeue_limit": MAX_COUNT,
        }
    )
    policy = policy.replace("t1", "t9")  # the longest that is believed to be one
    bundle = Bundle(MAX_PRIORITY, MAX_STAMP - 199_998, "f" * 20, 99_999, policy)
    claimed = NewClaim.of_lines(
        bundle, 99_999 - MAX_RANGE, MAX_RANGE, expiry=10**13 - 1, token="f" * 16
    ).held
    counted = claimed.range._replace(failures=MAX_COUNT, losses=MAX_COUNT)
    held = claimed._replace(range=counted).marked([99_998], DETACHED, "f" * 6)
    entry = Entry(MAX_PRIORITY, MAX_STAMP, "z" * 64, MAX_COUNT, MAX_COUNT, policy)
    assert len(held.range.state) == MAX_RANGE
    names = [
        Dead(entry, "f" * 16, "z" * 20).filename,
        Lease.of(entry, 10**13 - 1, "f" * 16, ".line", is_started=False).filename,
        *(Delayed(x, 10**13 - 1).filename for x in (entry, bundle, held.range)),
        held.filename,
        held.detached(99_998),
        held.done,
    ]
    assert RangeLease.parse(names[5]) == held
    assert max(map(len, names)) <= 255
    assert len(held.filename) + 2 > 255  # so a range has as many lines as it can


@given(leases)
def test_a_lease_survives_its_name(lease):
    assert Lease.parse(lease.filename) == lease


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


@pytest.mark.parametrize(
    "parse", [Lease.parse, RangeLease.parse, Delayed.parse, Dead.parse]
)
@given(text=texts)
def test_what_is_read_as_a_name_is_written_the_same(parse, text):
    found = parse(text)
    assert found is None or found.filename == text


@pytest.mark.parametrize("last", ["08", "8-1", "100000", "-1", "8.0-0", ""])
def test_what_counts_no_lines_is_no_entry_of_a_bundle(last):
    assert Bundle.parse(5, f"{10**18}.{'a' * 20}.8") is not None
    assert Bundle.parse(5, f"{10**18}.{'a' * 20}.{last}") is None


def test_the_lines_of_a_bundle_have_stamps_that_names_can_tell():
    last = Bundle(5, MAX_STAMP - 4, "b" * 20, lines=4)
    assert Bundle.parse(5, last.filename) == last
    assert Bundle.parse(5, last.name_at(last.stamp + 1)) is None
    first = Bundle(5, 0, "b" * 20, lines=4)
    assert Bundle.parse(5, first.filename) == first
    assert Bundle.parse(5, first.filename.replace("3.b", "2.b", 1)) is None


@pytest.mark.parametrize(
    "id_", ["a" * 19, "a" * 21, "g" * 20, "A" * 20, "", f"{'a' * 20}.bundle"]
)
def test_the_directory_of_a_bundle_is_named_by_its_id_alone(id_):
    assert parse_directory("a" * 20) == "a" * 20
    assert parse_directory(id_) is None


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


@given(leases | range_leases | delayed | dead, st.data())
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
    range_ = Range(12, 34, "a" * 20, 2, 4, 9, "0" * 16, "ox", 1, 2, "r0")
    name = f"{34:019d}.{'a' * 20}.2-4-9.{'0' * 16}.ox.1-2.r0"
    assert range_.filename == name
    held = RangeLease(range_, 5, "1" * 16)
    assert held.filename == f"{5:013d}.12.{name}.{'1' * 16}.range"
    file = f"12.{35:019d}.{'a' * 20}-3.1-2.r0.{'1' * 16}.222222.detached"
    assert held._replace(mark="2" * 6).detached(3) == file


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


@pytest.mark.parametrize(
    ("user", "host", "read"),
    [
        ("alice", "node-7.cluster", ("alice", "node-7.cluster")),
        ("Ä@:\n", "a b/c", ("____", "a_b_c")),
        ("", "", ("_", "_")),
        ("u" * 99, "h" * 300, ("u" * 64, "h" * 255)),
    ],
)
def test_a_link_says_who_paused_a_queue_and_when(user, host, read):
    target = paused_by(user, host, 1_700_000_000_123_456_789)
    assert parse_paused_by(target) == (*read, 1_700_000_000_123_456_789)


@pytest.mark.parametrize(
    "target",
    [
        "",
        "a@b",
        "a@b:1",
        "@b:1700000000123456789",
        "a\x1b@b:1700000000123456789",
        "/etc",
    ],
)
def test_other_targets_say_nothing_of_a_pause(target):
    assert parse_paused_by(target) is None
