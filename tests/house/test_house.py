"""The house's rules, counted: what still stands against them only ever goes down."""

from pathlib import Path

import pytest
from tests.house.measure import MEASURES
from tests.house.ratchet import Ceiling, find_rise, find_slack, read_ratchet
from tests.house.reading import Tree, read_tree

SOURCE = Path(__file__).parents[2] / "src" / "frisket"


@pytest.fixture(scope="module")
def tree() -> Tree:
    return read_tree(SOURCE)


@pytest.mark.parametrize("measure", list(MEASURES))
def test_no_measure_leaves_its_ceiling(tree, measure):
    places = MEASURES[measure][0](tree)
    ceiling = read_ratchet().get(measure, Ceiling(0, 0, {}))
    assert not (message := find_rise(measure, places, ceiling)), message
    assert not (message := find_slack(measure, places, ceiling)), message
