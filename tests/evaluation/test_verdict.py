"""The verdict says what the numbers show and no more."""

import numpy as np
import pytest

from frisket.evaluation.measured import Measured, compute_gains
from frisket.evaluation.verdict import judge


def around(mean: float, spread: float, seed: int = 0) -> list[float]:
    """Eight values whose mean is just this."""
    drawn = np.random.RandomState(seed).normal(0, spread, 8)
    return list(mean + drawn - drawn.mean())


def run(
    name: str,
    masked: bool,
    *,
    leak: float | None,
    inside: float = 0.4,
    spread: float = 0.02,
    changed: float = 0.6,
):
    values = {
        "gain/inside": around(inside, 0.02),
        "gain/outside": around(0.05 if masked else 0.6, 0.02),
    }
    if leak is not None:
        values["leak"] = around(leak, spread, seed=masked)
        values["changed"] = around(changed, 0.02)
    return Measured(name, masked, {}, values)


def test_with_and_without_side_by_side() -> None:
    told = judge([run("without", False, leak=0.7), run("with", True, leak=0.05)])
    assert told.sentence.startswith(
        "The mask worked: the background was learnt 14x less than without. The subject was learnt"
    )
    assert "fell by 40%" in told.sentence
    assert told.held
    assert len(told.claims) == 3


def test_a_leak_not_told_from_nothing_is_at_least() -> None:
    told = judge([run("without", False, leak=0.7), run("with", True, leak=0.0)])
    assert "at least" in told.sentence
    assert "x less than without" in told.sentence


def test_a_difference_within_the_spread_is_none() -> None:
    told = judge(
        [run("without", False, leak=0.5, spread=0.3), run("with", True, leak=0.45, spread=0.3)]
    )
    assert told.sentence.startswith("The mask was not shown to work")
    assert not told.held


def test_a_little_less_is_called_a_help() -> None:
    told = judge([run("without", False, leak=0.6), run("with", True, leak=0.45)])
    assert told.sentence.startswith("The mask helped: the background was learnt 1.3x less")


def test_where_no_background_came_along_nothing_is_said_of_the_mask() -> None:
    told = judge([run("without", False, leak=0.0), run("with", True, leak=0.0)])
    assert told.sentence.startswith("Nothing can be said of the mask")


def test_an_empty_mask_does_not_get_praise() -> None:
    told = judge([run("without", False, leak=0.7), run("with", True, leak=0.05, inside=0.0)])
    assert told.sentence.startswith("Too little was learnt to tell")
    assert not told.held
    worse = judge([run("with", True, leak=0.05, inside=-0.3)])
    assert "the error inside the mask grew by 30%" in worse.sentence
    leaky = judge([run("with", True, leak=0.6, inside=-0.3)])
    assert "The subject was not learnt: the error inside the mask grew by 30%" in leaky.sentence


@pytest.mark.parametrize(
    "little",
    [
        {"inside": 1e-4, "spread": 0.0, "changed": 0.0},  # does nothing
        {"inside": 0.07, "changed": 0.08},  # a start that nobody sees
        {"inside": 0.01, "changed": 0.9},  # pictures moved, and no nearer to the subject
    ],
)
def test_a_run_that_learnt_too_little_has_kept_nothing_out(little: dict[str, float]) -> None:
    alone = judge([run("with", True, leak=0.0, **little)])
    assert alone.sentence.startswith("Too little was learnt to tell: the error inside the mask")
    assert not any(claim.met for claim in alone.claims)
    compared = judge([run("without", False, leak=0.7), run("with", True, leak=0.0, **little)])
    assert compared.sentence.startswith("Too little was learnt to tell")
    assert [claim.met for claim in compared.claims] == [True, False, False]
    assert "too little was learnt for this to say anything" in compared.claims[-1].measured


def test_without_pictures_more_must_be_learnt() -> None:
    assert judge([run("with", True, leak=None, inside=0.2)]).held
    assert not judge([run("with", True, leak=None, inside=0.07)]).claims[0].met


def test_a_background_that_came_along_is_told_however_little_else_was_learnt() -> None:
    told = judge([run("with", True, leak=0.6, inside=0.01)])
    assert told.sentence.startswith("The background came along in spite of the mask")


def test_alone_a_run_is_held_against_the_base_and_says_what_it_cannot() -> None:
    told = judge([run("with", True, leak=0.05)])
    assert told.sentence.startswith("The background stayed out: a leak of 0.0")
    assert "only a run without one would show" in told.sentence
    assert judge([run("with", True, leak=0.6)]).sentence.startswith("The background came along")
    unsure = judge([run("with", True, leak=0.2, spread=0.2)])
    assert unsure.sentence.startswith("Whether the background stayed out cannot be told")


def test_of_several_runs_the_sentence_names_the_one_it_is_about() -> None:
    runs = [run("plain", False, leak=0.7), run("a", True, leak=0.05), run("b", True, leak=0.04)]
    told = judge(runs)
    assert told.sentence.startswith("a: The mask worked")
    assert [claim.sentence.split()[0] for claim in told.claims] == [
        *("plain", "a", "b"),
        "a,",
        "b,",
    ]
    assert judge(runs[1:]).sentence.startswith("a: The background stayed out")


def test_without_any_mask_there_is_only_the_leak() -> None:
    told = judge([run("without", False, leak=0.7)])
    assert told.sentence.startswith("The background came along (a leak of 0.70 (")
    assert "no run here was trained with a mask" in told.sentence


def test_without_pictures_errors_tell() -> None:
    told = judge([run("without", False, leak=None), run("with", True, leak=None)])
    assert told.sentence.startswith("The mask worked: the background was learnt")
    assert told.claims[-1].measured.startswith("The error outside the mask fell by 5% (")
    assert told.claims[-1].measured.endswith(": 12x less.")


def test_nothing_to_judge() -> None:
    with pytest.raises(ValueError, match="no run"):
        judge([])


def test_gains_average_to_the_gain_of_the_means() -> None:
    errors = {"base/inside": [1.0, 3.0], "tuned/inside": [0.5, 3.0]}
    assert compute_gains(errors, "inside") == pytest.approx([0.25, 0.0])
    assert sum(compute_gains(errors, "inside")) / 2 == pytest.approx(1 - 3.5 / 4)


def test_selectivity_is_gain_over_movement() -> None:
    errors = {
        "base/inside": [1.0, 1.2, 0.9],
        "tuned/inside": [0.5, 0.7, 0.4],
        "moved/outside": [0.05, 0.05, 0.05],
    }
    values = {"gain/inside": compute_gains(errors, "inside")}
    told = Measured("run", True, errors, values).selectivity()
    assert told is not None
    assert told.value == pytest.approx(10)
    at_rest = errors | {"moved/outside": [0.0, 0.0, 0.0]}
    still = Measured("run", True, at_rest, values).selectivity()
    assert still is not None
    assert still.value is None
    assert still.least == pytest.approx(0.5 / 1e-6)
    assert Measured("run", True).selectivity() is None
    little = {"gain/inside": [0.01, 0.011, 0.012]}  # "7x" of two small numbers is no praise
    assert Measured("run", True, errors, little).selectivity() is None
