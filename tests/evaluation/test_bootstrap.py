"""Intervals cover, ratios stay honest where the divisor is not told from 0."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frisket.evaluation.bootstrap import FEW, difference, estimate, ratio

values = st.lists(st.floats(-100, 100), min_size=2, max_size=12)


@given(values)
def test_the_mean_lies_in_its_interval_and_of_many_the_interval_in_the_values(
    some: list[float],
) -> None:
    told = estimate(some)
    assert told.low is not None
    assert told.high is not None
    assert told.low <= told.mean + 1e-9
    assert told.mean - 1e-9 <= told.high
    if len(some) > FEW:
        assert min(some) - 1e-9 <= told.low
        assert told.high <= max(some) + 1e-9


@given(values, st.floats(0.1, 10), st.floats(-10, 10))
def test_intervals_follow_units_and_zero(some: list[float], scale: float, shift: float) -> None:
    plain, other = estimate(some), estimate([value * scale + shift for value in some])
    assert other.low == pytest.approx(plain.low * scale + shift, abs=1e-6)
    assert other.high == pytest.approx(plain.high * scale + shift, abs=1e-6)


@pytest.mark.parametrize("count", [2, 3, 5, 8, 20])
def test_nineteen_of_twenty_intervals_hold_the_truth(count: int) -> None:
    draw = np.random.RandomState(1)
    held = [
        estimate(list(draw.normal(3, 2, count)))  # truth: 3
        for _ in range(200)
    ]
    share = np.mean([each.low <= 3 <= each.high for each in held])
    assert 0.9 <= share <= 0.995


def test_of_two_the_interval_is_wide_and_of_one_there_is_none() -> None:
    two, one = estimate([1.0, 3.0]), estimate([2.0])
    assert (two.low, two.high) == pytest.approx((2 - 12.706, 2 + 12.706))
    assert (one.mean, one.low, one.high, one.count) == (2.0, None, None, 1)
    assert not one.above
    assert not one.below
    with pytest.raises(ValueError, match="nothing was measured"):
        estimate([])


def test_a_report_repeats_to_the_last_digit() -> None:
    assert estimate([0.1, 0.7, 0.4]) == estimate([0.1, 0.7, 0.4])


def test_pairs_tell_more_than_two_means() -> None:
    clips = np.random.RandomState(0).normal(0, 5, 10)
    clips -= clips.mean()
    ours, theirs = list(clips + 1), list(clips)
    assert difference(ours, theirs).above
    assert not estimate(ours).above


@pytest.mark.parametrize("times", [1, 3])
def test_a_ratio_is_of_the_means(times: int) -> None:
    above, below = [4.0, 6.0, 5.0, 5.0] * times, [1.0, 1.5, 1.2, 1.3] * times
    told = ratio(above, below, floor=0.01)
    assert told.value == pytest.approx(4.0)
    assert told.least is not None
    assert told.most is not None
    assert told.least <= 4.0 <= told.most


def test_a_divisor_that_may_be_nothing_gives_only_a_least() -> None:
    told = ratio([4.0, 6.0, 5.0, 5.0], [0.1, -0.1, 0.05, -0.02], floor=0.01)
    assert told.value is None
    assert told.least is not None
    assert 20 <= told.least <= 50  # the low end above, 3.7, over the high end below
    exact = ratio([4.0, 4.0], [0.0, 0.0], floor=0.5)
    assert (exact.value, exact.least) == (None, 8.0)  # 4 / the floor


def test_no_ratio_of_what_may_be_nothing() -> None:
    told = ratio([1.0, -1.0, 0.5], [1.0, 1.0, 1.0], floor=0.01)
    assert (told.value, told.least, told.most) == (None, None, None)
    assert ratio([1.0], [1.0], floor=0.01).value is None  # one pair has no spread
    with pytest.raises(ValueError, match="no pairs"):
        ratio([1.0, 2.0], [1.0], floor=0.01)
