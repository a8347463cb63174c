"""Run against run: no better without an interval off 0, and nothing said of what was not learnt."""

import numpy as np
import pytest

from frisket.evaluation.comparison import compare_runs, read_measured
from frisket.evaluation.measured import Measured


def around(mean: float, spread: float, seed: int) -> list[float]:
    drawn = np.random.RandomState(seed).normal(0, spread, 8)
    return list(mean + drawn - drawn.mean())


def measured(name: str, seed: int, *, inside: float = 0.4, leak: float = 0.1, spread: float = 0.02):
    values = {
        "gain/inside": around(inside, 0.02, seed),
        "leak": around(leak, spread, seed + 9),
        "changed": around(0.6, 0.02, seed),
        "faces": [1.0] * 8,
    }
    return Measured(name, True, {}, values)


def test_a_difference_beyond_its_interval_names_the_better_run_and_the_numbers() -> None:
    result = compare_runs([measured("plain", 0, leak=0.6), measured("mask", 1, leak=0.05)])
    leak = next(pair for pair in result.pairs if pair.metric == "leak")
    assert (leak.standing, leak.winner, leak.loser) == ("better", "mask", "plain")
    assert "mask lets less background through than plain: 0.05 against 0.60" in leak.sentence
    assert result.sentence.startswith("mask lets less background through than the other.")
    assert "Not told apart by learnt inside." in result.sentence
    assert {pair.metric for pair in result.pairs} == {"gain/inside", "leak"}  # faces has no better


def test_points_of_a_share_are_spelled_with_the_larger_one_first() -> None:
    result = compare_runs([measured("short", 0, inside=0.2), measured("long", 1, inside=0.6)])
    inside = result.pairs[0]
    assert "long learnt more of the subject than short: 60% against 20%" in inside.sentence
    assert "a difference of 40 points (" in inside.sentence


def test_a_difference_within_its_interval_is_none() -> None:
    result = compare_runs(
        [measured("a", 0, leak=0.3, spread=0.4), measured("b", 3, leak=0.31, spread=0.4)]
    )
    assert all(pair.standing == "alike" for pair in result.pairs)
    assert result.sentence.startswith("No run is shown to be better than another.")


def test_nothing_is_kept_out_by_a_run_that_learnt_nothing() -> None:
    result = compare_runs(
        [measured("idle", 0, inside=0.0, leak=0.0), measured("full", 1, leak=0.5)]
    )
    leak = next(pair for pair in result.pairs if pair.metric == "leak")
    assert leak.standing == "open"
    assert "too little was learnt by idle" in leak.sentence
    assert "idle lets less" not in result.sentence


def test_of_three_the_best_beats_all_others_and_chance_is_told_of() -> None:
    runs = [
        measured(name, seed, leak=leak)
        for seed, (name, leak) in enumerate([("a", 0.1), ("b", 0.4), ("c", 0.7)])
    ]
    result = compare_runs(runs)
    assert "a lets less background through than all others." in result.sentence
    assert not result.note
    assert "by chance alone" in compare_runs([*runs, measured("d", 5), measured("e", 6)]).note


def test_a_single_value_and_a_metric_of_one_run_alone_prove_nothing() -> None:
    one, other = measured("a", 0), measured("b", 1, leak=0.9)
    for run in (one, other):
        run.values["gain/inside"] = [0.4]  # type: ignore[index]
    del other.values["leak"]  # type: ignore[attr-defined]
    result = compare_runs([one, other])
    assert [(pair.metric, pair.standing) for pair in result.pairs] == [("gain/inside", "open")]
    with pytest.raises(ValueError, match="two runs"):
        compare_runs([one])


def test_a_file_that_is_no_report_is_refused() -> None:
    with pytest.raises(ValueError, match="no report of"):
        read_measured({"runs": [{"name": "a"}]})
