"""The file server's clock."""

from __future__ import annotations

import time

import pytest

from ddmq.clock import Clock

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


def test_measured_time_never_goes_back_when_the_server_is_behind():
    clock = Clock()
    before = clock.monotonic()
    clock.synchronise(BEFORE, BEFORE - 1000 * SECOND, AFTER)
    clock.sleep(0)
    assert clock.monotonic() >= before
