"""Data sets keep how often each is seen, however rare one of them is."""

import itertools

import pytest

from frisket.importers.base import BadImport
from frisket.importers.folders import find_whole_repeats, longer

RATES = (0.0022, 0.01, 0.15, 1 / 3, 0.5, 0.9999, 1.0, 2.5, 7.5, 10.0, 40.0)


@pytest.mark.parametrize("rates", list(itertools.combinations(RATES, 2)))
def test_two_sets_keep_their_ratio(rates):
    counts = find_whole_repeats(rates)
    scale = longer(rates, counts)
    assert min(counts) >= 1
    for rate, count in zip(rates, counts, strict=True):
        assert count / rate / scale == pytest.approx(1, abs=0.003)


def test_many_sets_keep_their_ratios():
    rates = [0.0022, 1.0, 0.37, 5.0]
    counts = find_whole_repeats(rates)
    for one, other in itertools.combinations(range(4), 2):
        assert counts[one] / counts[other] == pytest.approx(rates[one] / rates[other], rel=0.003)


@pytest.mark.parametrize(
    ("rates", "counts", "scale"),
    [
        ([], [], 1),
        ([15], [15], 1),
        ([7.5], [15], 2),
        ([2, 4], [2, 4], 1),
        ([0.5, 1], [1, 2], 2),
        ([0.15, 1], [3, 20], 20),
        ([1.0, 0.0022], [455, 1], 455),
        ([0, 1], [0, 1], 1),
        ([0.0], [0], 1),
    ],
)
def test_an_epoch_is_no_longer_than_it_must_be(rates, counts, scale):
    assert find_whole_repeats(rates) == counts
    assert longer(rates, counts) == scale


def test_a_set_that_is_all_but_never_seen_is_refused_by_name():
    with pytest.raises(BadImport, match="1e-06 times"):
        find_whole_repeats([1.0, 1e-6])
