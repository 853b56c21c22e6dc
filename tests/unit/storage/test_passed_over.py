"""What one client leaves alone for a while."""

from __future__ import annotations

import errno

import pytest

from ddmq.storage.passed_over import PassedOver


@pytest.fixture
def passed(clock):
    return PassedOver(clock)


def test_a_name_is_passed_over_for_half_a_minute(passed, clock):
    passed.add("a")
    clock.advance(29.9)
    assert passed.without("/bucket", ["a", "b"]) == ["b"]
    clock.advance(0.2)
    assert passed.without("/bucket", ["a", "b"]) == ["a", "b"]


def test_a_path_is_passed_over_in_its_own_directory_alone(passed, clock):
    passed.add("/bucket/a")
    assert passed.has("/bucket/a")
    assert passed.without("/bucket", ["a"]) == []
    assert passed.without("/other", ["a"]) == ["a"]
    clock.advance(31)
    assert not passed.has("/bucket/a")


def test_what_is_removed_is_passed_over_no_more(passed):
    passed.add("a")
    passed.remove("a")
    passed.remove("unknown")
    assert passed.without("/bucket", ["a"]) == ["a"]


def test_what_is_refused_is_passed_over_from_the_second_time_on(passed):
    passed.refuse("a.0-0", "a")
    assert passed.without("/bucket", ["a.0-0"]) == ["a.0-0"]
    passed.refuse("a.0-1", "a")  # it is known, though its name tells of a loss now
    assert passed.without("/bucket", ["a.0-1"]) == []


def test_what_is_tried_in_vain_24_times_is_passed_over(passed):
    for _ in range(23):
        passed.tried_in_vain("/bucket/a")
    assert not passed.has("/bucket/a")
    passed.tried_in_vain("/bucket/a")
    assert passed.has("/bucket/a")


def test_no_more_than_a_thousand_names_that_were_tried_in_vain_are_remembered(passed):
    for _ in range(23):
        passed.tried_in_vain("/bucket/a")
    for number in range(1001):
        passed.tried_in_vain(f"/bucket/{number}")
    passed.tried_in_vain("/bucket/a")
    assert not passed.has("/bucket/a")


def test_trouble_is_told_once(passed, caplog):
    for _ in range(2):
        passed.tell("/bucket/a", "can't be moved", OSError(errno.EPERM, "denied"))
    assert caplog.messages == ["/bucket/a can't be moved and is passed over: denied"]


def test_a_bucket_is_left_for_a_second_or_until_somebody_asks_what_was_left(
    passed, clock
):
    passed.leave_for_later("/bucket")
    assert passed.has("/bucket")
    clock.advance(1)
    assert not passed.has("/bucket")
    passed.leave_for_later("/bucket")
    assert passed.what_was_left() == ["/bucket"]
    assert not passed.has("/bucket")
    assert passed.what_was_left() == []
