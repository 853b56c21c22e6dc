"""The names of ranges and claims, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.storage.some_names import marks, range_leases, ranges

from ddmq.storage.names import (
    MAX_COUNT,
    MAX_RANGE,
    MAX_STAMP,
    Bundle,
    Entry,
    Lease,
    parse_ready_entry,
)
from ddmq.storage.range_names import (
    DETACHED,
    OVER,
    TAKEN,
    UNSTARTED,
    NewClaim,
    Range,
    RangeLease,
    made_by,
    parse_claim,
    parse_detached,
    parse_done,
    parse_made_by,
)


@given(ranges)
def test_a_range_survives_its_name(found):
    assert Range.parse(found.priority, found.filename) == found
    assert parse_ready_entry(found.priority, found.filename) == found


@given(range_leases)
def test_the_lease_of_a_range_survives_its_name_and_is_no_lease_of_one_message(held):
    assert RangeLease.parse(held.filename) == held
    assert Lease.parse(held.filename) is None
    assert parse_detached(held.filename) is None


@given(range_leases, st.data())
def test_the_lease_of_a_line_has_a_name_like_any_other(held, data):
    line = data.draw(st.integers(held.range.first, held.range.end - 1))
    entry = held.range.entry(line)
    taken = line in held.range.lines(TAKEN)
    assert held.lease_of(line) == Lease.of(
        entry, held.expiry, held.token, ".line", is_started=not taken
    )


@given(range_leases, st.data())
def test_a_detached_file_tells_its_line_and_the_holder_of_its_range(held, data):
    line = data.draw(st.integers(held.range.first, held.range.end - 1))
    name = held._replace(mark=data.draw(marks)).detached(line)
    found = parse_detached(name)
    assert found == Lease(held.range.entry(line), 0, held.token, name)
    assert found.line == (held.range.bundle, line)
    assert Lease.parse(name) is RangeLease.parse(name) is None


@given(ranges)
def test_a_claim_tells_where_it_ends_and_whose_it_is(claimed):
    assert parse_claim(claimed.target) == (claimed.end, claimed.claim)


@given(range_leases.filter(lambda held: held.range.is_over))
def test_a_claim_that_is_over_tells_its_lines_and_those_of_its_bundle(held):
    _, _, _, first, end, total, *_ = held.range
    assert parse_done(held.done) == (first, end, total)
    assert held.token in held.done


@pytest.mark.parametrize(
    "span",
    ["2-5-9", "2-4-3", "3-3-9", "4-2-9", "02-4-9", "2-4", "2-4-9-9", "2-4-100000"],
)
def test_lines_that_no_claim_can_have_taken_are_no_range(span):
    waiting = f"{10**18}.{'a' * 20}.%s.{'0' * 16}.ol.0-0"
    leased = f"1700000000000.5.{waiting}.{'1' * 16}.range"
    assert Range.parse(5, waiting % "2-4-9") is not None
    assert RangeLease.parse(leased % "2-4-9") is not None
    assert Range.parse(5, waiting % span) is None
    assert RangeLease.parse(leased % span) is None


@pytest.mark.parametrize("state", ["", "o", "d", "ooo", "oa", "OD", "xxx"])
def test_a_range_has_a_letter_for_each_line(state):
    name = f"{10**18}.{'a' * 20}.2-4-9.{'0' * 16}.%s.0-0"
    for right in ("oo", "od", "ot", "tx", "lx", "xx", "x"):
        assert Range.parse(5, name % right).state == right
    assert Range.parse(5, name % state) is None


def test_the_lines_of_a_range_have_stamps_that_names_can_tell():
    last = Range(5, MAX_STAMP - 2, "b" * 20, 2, 4, 9, "0" * 16, "oo")
    assert Range.parse(5, last.filename) == last
    assert Range.parse(5, last.name_at(last.stamp + 1)) is None


@pytest.mark.parametrize(
    "target", ["", "3", f"3.{'0' * 15}", f"03.{'0' * 16}", f"3.{'g' * 16}", "lines"]
)
def test_a_link_that_names_no_claim_is_none(target):
    assert parse_claim(f"3.{'0' * 16}") == (3, "0" * 16)
    assert parse_claim(target) is None


@pytest.mark.parametrize(
    "name",
    [
        "0-3-9.xlx.done",
        f"0-3.{'0' * 16}.xlx.done",
        f"0-3-9.{'0' * 16}.xlx",
        f"0-3-9.{'0' * 16}.done",
        f"0-3-9.{'0' * 16}.xox.done",
        f"0-3-9.{'0' * 15}.xlx.done",
        f"00-3-9.{'0' * 16}.xlx.done",
        f"0-3-9.{'0' * 16}.xlx.done\n",
    ],
)
def test_what_ends_no_claim_is_none(name):
    assert parse_done(f"0-3-9.{'0' * 16}.xlx.done") == (0, 3, 9)
    assert parse_done(name) is None


@pytest.mark.parametrize(
    "name",
    [
        f"5.{1:019d}.abc.0-0.{'0' * 16}",
        f"5.{1:019d}.abc.0-0.{'0' * 16}.detached",
        f"5.{1:019d}.abc.0-0.{'0' * 15}.{'0' * 6}.detached",
        f"{1:013d}.5.{1:019d}.abc.0-0.{'0' * 16}.{'0' * 6}.detached",
        f"{1:019d}.abc.0-0.{'0' * 16}.{'0' * 6}.detached",
    ],
)
def test_what_does_not_end_like_one_is_no_detached_file(name):
    assert parse_detached(f"5.{1:019d}.abc.0-0.{'0' * 16}.{'0' * 6}.detached")
    assert parse_detached(name) is None


def test_a_claim_takes_the_next_lines_and_its_name_tells_their_leases():
    bundle = Bundle(5, 100, "b" * 20, 4, "r0")
    first = NewClaim.of_lines(
        bundle, 0, 3, expiry=1_700_000_000_000, token="1" * 16
    ).held
    last = NewClaim.of_lines(
        bundle, 3, 3, expiry=1_800_000_000_000, token="2" * 16
    ).held
    assert (bundle.waiting, first.range.waiting, last.range.waiting) == (4, 3, 1)
    assert [lease.entry for lease in first.leases()] == [
        Entry(5, 100 + number, f"{'b' * 20}-{number}", policy="r0")
        for number in range(3)
    ]
    assert [lease.line for lease in last.leases()] == [("b" * 20, 3)]
    assert all(lease.is_line for lease in first.leases())
    assert {lease.token for lease in first.leases()} == {"1" * 16}
    assert {lease.expiry for lease in last.leases()} == {1_800_000_000_000}
    assert first.range.target == f"3.{'1' * 16}"
    assert first.marked([0, 1, 2], OVER).done == f"0-3-4.{'1' * 16}.xxx.done"


def test_no_claim_takes_more_lines_than_a_name_can_tell_and_that_of_the_rest_all():
    bundle = Bundle(5, 100, "b" * 20, 1000)
    assert (
        NewClaim.of_lines(bundle, 7, 999, expiry=1, token="1" * 16).held.range.end
        == 7 + MAX_RANGE
    )
    rest = NewClaim.of_rest(bundle, 7, expiry=1, token="1" * 16).held
    assert (rest.range.first, rest.range.end, rest.range.waiting) == (7, 1000, 0)
    assert rest.range.is_over
    assert RangeLease.parse(rest.filename) == rest


def test_each_letter_of_a_range_tells_of_one_line():
    found = Range(5, 100, "b" * 20, 2, 6, 9, "0" * 16, "oooo")
    found = found.marked([3, 5], DETACHED).marked([2], OVER)
    assert found.state == "xdod"
    assert (found.lines(), found.lines(DETACHED), found.lines(OVER)) == (
        [4],
        [3, 5],
        [2],
    )
    assert found.marked([5], UNSTARTED).leaving() == [3, 5]
    assert [line for line in range(9) if found.is_open(line)] == [4]
    assert (found.waiting, found.is_over) == (1, False)
    assert found.marked([3, 4, 5], OVER).is_over


def test_a_range_that_failed_or_was_lost_counts_it_for_each_of_its_lines():
    found = Range(5, 100, "b" * 20, 2, 4, 9, "0" * 16, "oo", 1, 2, "r0")
    assert found.failed().entry(3) == Entry(5, 101, f"{'b' * 20}-3", 2, 2, "r0")
    assert found.lost().entry(2) == Entry(5, 100, f"{'b' * 20}-2", 1, 3, "r0")
    most = found._replace(failures=MAX_COUNT, losses=MAX_COUNT)
    assert most.failed() == most.lost() == most


@pytest.mark.parametrize("first", range(8))
def test_lines_that_come_back_stand_before_those_that_nobody_has_taken(first):
    bundle = Bundle(5, 10**18, "b" * 20, lines=9)
    back = NewClaim.of_lines(bundle, first, 1, expiry=1, token="0" * 16).held.range
    early = Entry(5, 10**18 - 1, "z").filename
    later = Entry(5, 10**18 + 9, "a").filename
    found = sorted([later, bundle.filename, back.filename, early])
    assert found == [early, back.filename, bundle.filename, later]


@pytest.mark.parametrize("host", ["n1", "node-7.cluster.example.org", "a_b"])
def test_a_link_tells_who_claimed_the_lines_of_its_range(host):
    assert parse_made_by(made_by(host, 4711)) == (host, 4711)


@pytest.mark.parametrize(
    "target", ["", "n1", "n1:", ":1", "n1:0", "n1:x", "n 1:1", "n1:1\n", "\x1b[2J:1"]
)
def test_a_link_that_names_nobody_tells_nothing(target):
    assert parse_made_by(target) is None
