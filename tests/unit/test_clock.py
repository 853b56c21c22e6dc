"""The file server's clock."""

from __future__ import annotations

import threading
import time

import pytest

from ddmq.clock import Clock, Stopwatch, date, seconds_of, span

SECOND = 1_000_000_000
BEFORE = 1_700_000_000 * SECOND + 123_456_789
AFTER = BEFORE + 1_000_000


def synchronised(stamped):
    clock = Clock()
    clock.synchronise(BEFORE, stamped, AFTER)
    return clock


@pytest.mark.parametrize(
    "stamped",
    [
        pytest.param(BEFORE + 500_000, id="between the readings"),
        pytest.param(BEFORE - 4_000_000, id="a tick of the kernel's timer before"),
        pytest.param(BEFORE - BEFORE % SECOND, id="in whole seconds"),
    ],
)
def test_a_stamp_that_agrees_means_no_offset(stamped):
    assert synchronised(stamped).offset_ns == 0


@pytest.mark.parametrize("ahead", [1000, 0.1, -0.1, -1000])
def test_the_servers_offset_is_learned(ahead):
    clock = synchronised(BEFORE + 500_000 + int(ahead * SECOND))
    assert clock.offset_ns == pytest.approx(ahead * SECOND, abs=1)


def test_an_offset_that_went_away_is_forgotten():
    clock = synchronised(BEFORE + 1000 * SECOND)
    clock.synchronise(BEFORE, BEFORE, AFTER)
    assert clock.offset_ns == 0


def test_the_time_shown_is_the_servers():
    clock = synchronised(BEFORE + 1000 * SECOND)
    assert clock.time_ns() - time.time_ns() == pytest.approx(1000 * SECOND, abs=SECOND)
    assert clock.time() - time.time() == pytest.approx(1000, abs=1)


class Turned(Clock):
    """A clock whose two readings a test sets."""

    own = monotonic_seconds = 1000.0

    def own_ns(self):
        return int(self.own * SECOND)

    def monotonic(self):
        return self.monotonic_seconds


def test_a_clock_is_compared_until_it_is_set():
    clock = Turned()
    assert clock.compared_ns() is None
    clock.compare(clock.own_ns)
    clock.own, clock.monotonic_seconds = clock.own + 9999, 10999.5
    assert clock.compared_ns() is not None
    clock.own += 2
    assert clock.compared_ns() is None
    clock.compare(lambda: clock.own_ns() + 77 * SECOND)
    assert clock.compared_ns() == clock.own_ns() + 77 * SECOND


def test_a_comparison_that_failed_changes_nothing():
    clock = Turned()
    with pytest.raises(ZeroDivisionError):
        clock.compare(lambda: 1 // 0)
    assert clock.compared_ns() is None


@pytest.mark.parametrize(
    ("own", "monotonic", "offset"),
    [
        pytest.param(60, 60, 0, id="time passed"),
        pytest.param(-1000, 60, 0, id="the clock was set back"),
        pytest.param(60, 0, 0, id="the machine slept"),
        pytest.param(0, 0, 60, id="it was paused, and the server's clock says so"),
        pytest.param(60, 60, -1000, id="the server's clock was set back"),
    ],
)
def test_how_long_something_took_is_never_told_too_short(own, monotonic, offset):
    clock = Turned()
    watch = Stopwatch(clock)
    clock.own += own
    clock.monotonic_seconds += monotonic
    clock.offset_ns += offset * SECOND
    assert watch.seconds() == 60


def test_measured_time_never_goes_back_when_the_server_is_behind():
    clock = Clock()
    before = clock.monotonic()
    clock.synchronise(BEFORE, BEFORE - 1000 * SECOND, AFTER)
    clock.sleep(0)
    assert clock.monotonic() >= before


@pytest.mark.parametrize("seconds", [0, 1_700_000_000, 4_102_444_800])
def test_a_date_that_is_shown_can_be_typed(seconds):
    assert seconds_of(date(seconds)) == seconds


def test_a_date_may_name_its_zone():
    assert seconds_of("2023-11-14T22:13:20+00:00") == 1_700_000_000
    assert seconds_of("2023-11-14T23:13:20+01:00") == 1_700_000_000


@pytest.mark.parametrize("text", ["", "soon", "2023-13-01", "12"])
def test_what_is_no_date_is_a_value_error(text):
    with pytest.raises(ValueError):  # noqa: PT011 - all that matters is that callers expect it
        seconds_of(text)


def test_something_is_begun_in_another_thread():
    call = Clock().begin(threading.get_ident)
    assert call.ends_within(20)
    assert call.result() != threading.get_ident()


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"),
        (119.4, "119 s"),
        (120, "2 minutes"),
        (7199, "120 minutes"),
        (7200, "2 hours"),
        (2 * 86400, "2 days"),
        (4000 * 86400, "4,000 days"),
    ],
)
def test_a_length_of_time_is_told_in_the_unit_that_people_would_use(seconds, told):
    assert span(seconds) == told
