"""Many numbers in few bins: what is told of them is what they were."""

from __future__ import annotations

import random

import pytest

from ddmq.hpc.report.binned import Histogram, Timeline, rounded_up


def busy(line, start, end, most=100):
    return [piece.busy for piece in line.pieces(start, end, most)]


def test_what_begins_and_ends_within_a_bin_counts_for_its_part():
    line = Timeline(most=8, width=1.0)
    line.add(0.5, 2.5)
    line.add(1.25, 1.75)
    line.add(1.0, 2.0, 0.5)
    # Second by second: a half; a whole, a half of it and a half; a half; nothing.
    assert busy(line, 0, 3) == [0.5, 2.0, 0.5, 0.0]


def test_bins_that_are_merged_tell_the_same():
    line = Timeline(most=8, width=1.0)
    line.add(0.5, 2.5)
    line.add(3.0, 4.0)
    line.widen()
    assert busy(line, 0, 5) == [0.75, 0.75, 0.0]
    line.widen()
    assert busy(line, 0, 5) == [0.75, 0.0]


def test_there_are_never_more_bins_than_allowed():
    line, whole, chance = Timeline(most=16, width=0.125), 0.0, random.Random(1)
    for n in range(2000):
        start, long = n * 10 + chance.random(), chance.random() * 500
        line.add(start, start + long).done += 1
        whole += long
        assert len(line.bins) <= 16
    pieces = line.pieces(0, 21_000, 16)
    assert sum(piece.busy for piece in pieces) * line.width == pytest.approx(whole)
    assert sum(piece.done for piece in pieces) == 2000


def test_one_moment_that_is_far_off_costs_one_bin():
    line = Timeline(most=8, width=1.0)
    line.add(1e9, 1e9 + 2)
    line.add(0.0, 1.0)
    line.add(9e9, 9e9 + 1)
    assert line.width == 1.0
    assert busy(line, 1e9, 1e9 + 2) == [1.0, 1.0, 0.0]


def test_lines_are_added_whatever_their_widths():
    fine, coarse = Timeline(most=64, width=0.5), Timeline(most=64, width=4.0)
    fine.add(1.5, 6.0).done += 1
    coarse.add(3.0, 10.0).failed += 1
    both = Timeline(most=64, width=1.0)
    both.take_in(fine)
    both.take_in(coarse)
    pieces = both.pieces(0, 11.9, 64)
    assert both.width == 4.0
    assert [piece.busy * 4 for piece in pieces] == [2.5 + 1.0, 2.0 + 4.0, 2.0]
    assert [piece.done for piece in pieces] == [0, 1, 0]
    assert [piece.failed for piece in pieces] == [0, 0, 1]


def test_it_is_told_when_a_share_of_all_had_begun():
    line = Timeline(most=64, width=1.0)
    assert line.share_begun(0.5) is None
    for start in (0.5, 1.5, 2.5, 90.5):
        line.add(start, 100)
    assert line.share_begun(0.0) == 0.0
    assert line.share_begun(0.75) == 2.0
    assert line.share_begun(1.0) == 90.0


def test_a_share_of_all_numbers_is_below_what_is_told():
    numbers = Histogram()
    numbers.add_all([float(n) for n in range(1, 101)])
    for share in (0.05, 0.5, 0.95):
        assert share * 100 <= numbers.below(share) <= share * 100 * 1.045
    assert numbers.below(1.0) == numbers.largest == 100
    assert (numbers.number, numbers.total) == (100, 5050)


def test_nothing_is_below_where_there_is_nothing():
    numbers = Histogram()
    numbers.add_all([])
    assert numbers.below(0.5) is None
    assert numbers.bars() == []


def test_bars_are_side_by_side_and_hold_all():
    numbers = Histogram()
    numbers.add_all([0.0, 1e-9, 0.5, 0.5, 3.0, 1e10])
    bars = numbers.bars(10)
    assert len(bars) <= 10
    assert sum(bar.number for bar in bars) == 6
    assert all(one.high == other.low for one, other in zip(bars, bars[1:]))
    assert bars[0].low <= 1e-3
    assert bars[-1].low <= 1e10 < bars[-1].high


def test_bins_do_not_grow_with_the_numbers():
    numbers, chance = Histogram(), random.Random(1)
    numbers.add_all([chance.uniform(0, 1e10) ** 2 for _ in range(10_000)])
    assert len(numbers.counts) < 1000


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0, 0),
        (700, 700),
        (701, 710),
        (0.0123, 0.013),
        (1234567, 1300000),
        (5e-324, 5e-324),
    ],
)
def test_a_number_to_ask_for_has_two_digits_and_is_enough(value, told):
    assert rounded_up(value) == pytest.approx(told)
