"""One-to-one assignment against every assignment there is."""

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from frisket.maskgen.tracking.matching import assign

SCORES = st.dictionaries(
    st.tuples(st.integers(0, 3), st.integers(1, 4)), st.sampled_from([0.2, 0.5, 0.6, 0.85, 1.0])
)


def test_a_better_first_pair_does_not_cost_the_second_find_its_own() -> None:
    """Best first, find 0 takes number 1 and find 1 is left with nothing."""
    assert assign({(0, 1): 0.8, (0, 2): 0.6, (1, 1): 0.7}, 0.5) == {0: 2, 1: 1}
    assert assign({(0, 1): 0.8, (0, 2): 0.4, (1, 1): 0.7}, 0.5) == {0: 1}


def test_equal_sums_go_to_the_first() -> None:
    assert assign(dict.fromkeys([(1, 1), (0, 1)], 0.7), 0.5) == {0: 1}
    assert assign(dict.fromkeys([(0, 2), (0, 1)], 0.7), 0.5) == {0: 1}


@given(scores=SCORES, least=st.sampled_from([0.0, 0.5, 0.9]))
def test_no_assignment_has_a_greater_sum(
    scores: dict[tuple[int, int], float], least: float
) -> None:
    pairs = assign(scores, least)
    assert len(set(pairs.values())) == len(pairs)
    assert all(scores[pair] >= least for pair in pairs.items())
    usable = {pair: score for pair, score in scores.items() if score >= least}
    best = max(
        sum(usable.get(pair, 0.0) for pair in enumerate(numbers))
        for numbers in permutations(range(1, 5))
    )
    assert abs(sum(usable[pair] for pair in pairs.items()) - best) < 1e-9
