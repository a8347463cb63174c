"""The terms: what each teaches, and where."""

import pytest
import torch

from frisket.losses.base import Step
from frisket.losses.terms.denoise import Denoise
from frisket.losses.terms.prior import Prior


def step_of(seed: int = 0, t: tuple[float, ...] = (0.2, 0.9), **changes: object) -> Step:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 3, 2, 4, 4)
    weights = (torch.rand((2, 1, 2, 4, 4), generator=generator) > 0.5).float()
    values: dict[str, object] = {
        "prediction": torch.randn(shape, generator=generator).requires_grad_(),
        "target": torch.randn(shape, generator=generator),
        "t": torch.tensor(t),
        "weights": weights,
        "coverage": weights.clone(),
        "prior": torch.randn(shape, generator=generator),
    }
    return Step(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["mse", "l1", "huber", "smooth_l1"])
def test_denoise_teaches_only_where_there_is_weight(kind: str) -> None:
    step = step_of()
    (gradient,) = torch.autograd.grad(Denoise(kind=kind)(step).sum(), step.prediction)
    outside = (step.weights == 0).expand_as(gradient)
    assert gradient[outside].eq(0).all()
    assert gradient[~outside].ne(0).any()


def test_huber_of_large_delta_is_half_the_square() -> None:
    step = step_of()
    torch.testing.assert_close(Denoise("huber", delta=100.0)(step), Denoise()(step) / 2)


def test_prior_holds_only_outside_and_stops_no_gradient_of_the_teacher() -> None:
    step = step_of()
    (gradient,) = torch.autograd.grad(Prior()(step).sum(), step.prediction)
    inside = (step.weights == 1).expand_as(gradient)
    assert gradient[inside].eq(0).all()
    assert gradient[~inside].ne(0).any()


def test_prior_is_the_published_formula() -> None:
    step = step_of()
    outside = 1 - step.weights
    assert step.prior is not None
    squares = ((step.prediction - step.prior) ** 2 * outside).sum((1, 2, 3, 4))
    torch.testing.assert_close(Prior()(step), squares / (3 * outside.sum((1, 2, 3, 4))))


def test_a_full_mask_has_no_outside_and_no_nan() -> None:
    # OneTrainer: an all-white mask with the prior on and normalisation divides 0 by 0.
    step = step_of(weights=torch.ones(2, 1, 2, 4, 4))
    assert Prior()(step).eq(0).all()
    heavy = step_of(weights=torch.full((2, 1, 2, 4, 4), 2.0))
    assert Prior()(heavy).eq(0).all()


def test_strength_is_taken_for_each_sample_at_its_own_t() -> None:
    # Gating the whole batch by one t is the defect daily users report.
    plain, gated = Prior()(step_of()), Prior(t_min=0.5)(step_of())
    assert gated[0] == 0
    assert gated[1] == plain[1]
    faded = Prior(t_power=2.0)(step_of())
    torch.testing.assert_close(faded, plain * torch.tensor([0.2, 0.9]) ** 2)


def test_warmup_raises_the_strength_over_its_share_of_the_run() -> None:
    term = Prior(warmup=0.1)
    half = term(step_of(progress=0.05))
    torch.testing.assert_close(half, Prior()(step_of()) / 2)
    torch.testing.assert_close(term(step_of(progress=0.5)), Prior()(step_of()))


def test_threshold_leaves_the_border_to_the_subject() -> None:
    coverage = torch.full((2, 1, 2, 4, 4), 0.3)
    weights = torch.full((2, 1, 2, 4, 4), 0.3)
    step = step_of(coverage=coverage, weights=weights)
    assert Prior(threshold=0.2)(step).eq(0).all()
    assert Prior(threshold=0.4)(step).gt(0).all()


def test_a_cell_at_the_very_threshold_is_outside_and_not_the_priors_alone() -> None:
    # "above it" is left to the subject, "below it" is the prior's alone: an edge is neither.
    quarters = torch.full((2, 2, 2, 4, 4), 0.125)  # of each of two regions
    step = step_of(coverage=quarters, weights=torch.full((2, 1, 2, 4, 4), 0.25))
    assert Prior(threshold=0.25)(step).gt(0).all()
    assert Prior(threshold=0.125)(step).eq(0).all()
    at_edge = step_of(uncurved=torch.full((2, 1, 2, 4, 4), 0.25))
    assert Prior(threshold=0.25, alone=True)(at_edge).eq(0).all()
    assert Prior(threshold=0.375, alone=True)(at_edge).gt(0).all()


def test_cells_alone_are_claimed_only_where_the_term_holds_them() -> None:
    """Before the warm-up and below t_min they stay with the others, as in blissful-tuner."""
    step = step_of()  # t is 0.2 and 0.9
    raw = torch.zeros_like(step.weights)
    term = Prior(alone=True, threshold=0.1, warmup=0.5, t_min=0.5)
    assert term.exclusive_mask(raw, step.t, 0.0).eq(0).all()
    later = term.exclusive_mask(raw, step.t, 0.01)
    assert later[0].eq(0).all()
    assert later[1].eq(1).all()
    assert (
        term.exclusive_mask(raw + 0.1, step.t, 1.0).eq(0).all()
    )  # the threshold itself is not below it


def test_options_without_meaning_are_refused() -> None:
    # ValueError in production; where a type annotation speaks first under pytest, a TypeError
    with pytest.raises((ValueError, TypeError), match="l2"):
        Denoise(kind="l2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="t_min must lie in"):
        Prior(t_min=3.0)
    with pytest.raises((ValueError, TypeError), match="me"):
        Prior(teacher="me")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no prediction of the frozen model"):
        Prior()(step_of(prior=None))
