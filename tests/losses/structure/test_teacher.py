"""The teacher term: the base under control, outside the mask, with exactly these weights."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from frisket.losses.base import BASE, CONTROLLED, Step, check_needs
from frisket.losses.terms.prior import Prior
from frisket.losses.terms.teacher import Teacher


def make_step() -> Step:
    generator = torch.Generator().manual_seed(2)
    shape = (3, 4, 2, 5, 6)
    weights = torch.rand(3, 1, 2, 5, 6, generator=generator)
    weights[2] = 1
    return Step(
        prediction=torch.randn(shape, generator=generator).requires_grad_(),
        target=torch.randn(shape, generator=generator),
        t=torch.tensor([0.2, 0.8, 0.5]),
        weights=weights,
        coverage=weights,
        prior_control=torch.randn(shape, generator=generator),
    )


def test_it_weighs_what_the_mask_leaves_and_nothing_else() -> None:
    step = make_step()
    assert step.prior_control is not None
    outside = 1 - step.weights
    squares = ((step.prediction - step.prior_control).square() * outside).sum((1, 2, 3, 4))
    expected = squares[:2] / (4 * outside[:2].sum((1, 2, 3, 4)))
    value = Teacher()(step)
    torch.testing.assert_close(value[:2], expected)
    assert value[2] == 0  # nothing is outside
    (gradient,) = torch.autograd.grad(value.sum(), step.prediction)
    by_hand = 2 * (step.prediction - step.prior_control) * outside
    by_hand[:2] /= 4 * outside[:2].sum((1, 2, 3, 4), keepdim=True)
    torch.testing.assert_close(gradient, by_hand.detach())


def test_a_prediction_that_is_the_teachers_costs_exactly_nothing() -> None:
    step = make_step()
    assert step.prior_control is not None
    same = replace(step, prediction=step.prior_control.clone().requires_grad_())
    assert torch.equal(Teacher()(same), torch.zeros(3))


@pytest.mark.parametrize("options", [{}, {"kind": "l1"}, {"normalise": "none"}, {"t_min": 0.5}])
def test_it_is_the_prior_of_another_base(options: dict[str, Any]) -> None:
    step = make_step()
    of_base = replace(step, prior=step.prior_control, prior_control=None)
    assert torch.equal(Teacher(**options)(step), Prior(**options)(of_base))


def test_low_noise_may_be_left_out() -> None:
    value = Teacher(t_min=0.5)(make_step())
    assert (value > 0).tolist() == [False, True, False]


def test_without_a_teacher_it_refuses() -> None:
    with pytest.raises(ValueError, match="no prediction of the base under control"):
        Teacher()(replace(make_step(), prior_control=None))
    with pytest.raises(ValueError, match=r"set control\.source, or take the term prior"):
        check_needs("teacher", Teacher(), [CONTROLLED])
    check_needs("teacher", Teacher(), [BASE])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"t_min": 1.5}, "t_min must lie in"),
        ({"normalise": "area"}, "normalise 'area' is not one of"),
        ({"kind": "l3"}, "kind 'l3' is not one of"),
        ({"delta": 0.0}, "delta must be > 0"),
    ],
)
def test_options_without_meaning_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(Exception, match=words + "|[Tt]ype-check"):
        Teacher(**options)
