"""The laws of the weighted mean: what a mask may and may not do to a loss."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from frisket.losses.base import divisors, weighted_mean, weighted_mse

KINDS = ("sample", "batch", "none", "area", "global")


def drawn(seed: int, shape: tuple[int, ...] = (2, 3, 3, 4, 5)) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randn(shape, generator=generator).requires_grad_()
    target = torch.randn(shape, generator=generator)
    weights = torch.rand((shape[0], 1, *shape[2:]), generator=generator)
    return prediction, target, weights * (weights > 0.4) * 1.5


@given(st.integers(0, 10_000))
def test_the_fused_form_is_the_written_formula(seed: int) -> None:
    prediction, target, weights = drawn(seed)
    value = weighted_mse(prediction, target, weights)
    formula = ((prediction - target) ** 2 * weights).sum((1, 2, 3, 4))
    formula = formula / (3 * weights.sum((1, 2, 3, 4)))
    torch.testing.assert_close(value, formula)
    (ours,) = torch.autograd.grad(value.sum(), prediction)
    (theirs,) = torch.autograd.grad(formula.sum(), prediction)
    torch.testing.assert_close(ours, theirs)


def test_the_gradient_passes_a_numerical_check() -> None:
    prediction, target, weights = drawn(3, (1, 2, 1, 2, 3))
    step = 1e-2
    value = weighted_mse(prediction, target, weights)
    (gradient,) = torch.autograd.grad(value.sum(), prediction)
    for index in range(prediction.numel()):
        moved = prediction.detach().clone()
        moved.view(-1)[index] += step
        up = weighted_mse(moved, target, weights)
        moved.view(-1)[index] -= 2 * step
        down = weighted_mse(moved, target, weights)
        assert float((up - down) / (2 * step)) == pytest.approx(
            float(gradient.view(-1)[index]), abs=1e-3
        )


@given(st.integers(0, 10_000))
def test_no_gradient_where_no_weight(seed: int) -> None:
    prediction, target, weights = drawn(seed)
    (gradient,) = torch.autograd.grad(weighted_mse(prediction, target, weights).sum(), prediction)
    assert gradient[(weights == 0).expand_as(gradient)].eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_ones_is_plain_mse_bit_for_bit(dtype: torch.dtype) -> None:
    prediction, target, _ = drawn(1, (1, 16, 3, 8, 8))
    prediction, target = prediction.to(dtype).detach(), target.to(dtype)
    ours = prediction.clone().requires_grad_()
    theirs = prediction.clone().requires_grad_()
    value = weighted_mse(ours, target, torch.ones(1, 1, 3, 8, 8))
    plain = functional.mse_loss(theirs.float(), target.float())
    assert value.item() == plain.item()
    value.sum().backward()
    plain.backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_mask_gives_zero_and_no_nan(kind: str) -> None:
    # ai-toolkit and OneTrainer divide by the mask's mean: 0 / 0 there.
    prediction, target, weights = drawn(2)
    weights = weights * torch.tensor([0.0, 1.0]).view(2, 1, 1, 1, 1)
    value = weighted_mse(prediction, target, weights, divisors(weights, 3, kind))
    assert value[0] == 0
    assert value[1] > 0
    value.sum().backward()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()
    nothing = torch.zeros_like(weights)
    assert weighted_mse(prediction, target, nothing, divisors(nothing, 3, kind)).eq(0).all()


def test_video_is_normalised_per_sample_not_per_column() -> None:
    # OneTrainer reduces dims 1, 2, 3 of a 5-D mask, which leaves the width axis standing.
    error = torch.ones(1, 2, 1, 8, 8)
    weights = torch.zeros(1, 1, 1, 8, 8)
    weights[..., :4, :4] = 1
    assert weighted_mean(error, weights).item() == pytest.approx(1.0)
    error[..., 4:] = 100.0  # columns the mask does not touch
    assert weighted_mean(error, weights).item() == pytest.approx(1.0)


def test_weights_of_another_grid_raise_and_do_not_broadcast() -> None:
    prediction, target, weights = drawn(0)
    for wrong in (
        weights[..., :1],
        weights[:1],
        weights[:, :, :1],
        weights.expand(-1, 3, -1, -1, -1),
    ):
        # ValueError in production; under pytest the shape annotation speaks first, as a TypeError
        with pytest.raises((ValueError, TypeError)):
            weighted_mse(prediction, target, wrong)


def test_every_normalisation_is_its_formula() -> None:
    prediction, target, weights = drawn(5)
    error = (prediction - target).square()
    total = (error * weights).sum((1, 2, 3, 4))
    cells, laid = weights[0].numel(), weights.sum((1, 2, 3, 4))
    expected = {
        "sample": (total / (3 * laid)).mean(),
        "batch": total.sum() / (3 * laid.sum()),
        "none": (error * weights).mean(),
        "area": (total / (3 * laid) * (laid / cells) ** 0.5).mean(),
        "global": total.sum() / (3 * laid.sum()),
    }
    for kind, value in expected.items():
        ours = weighted_mse(prediction, target, weights, divisors(weights, 3, kind)).mean()
        torch.testing.assert_close(ours, value)


@given(st.floats(0, 1), st.integers(0, 1000))
def test_area_runs_from_sample_to_none(beta: float, seed: int) -> None:
    _, _, weights = drawn(seed)
    ends = divisors(weights, 3, "sample"), divisors(weights, 3, "none")
    between = divisors(weights, 3, "area", beta=beta)
    assert ((between >= ends[0] * 0.999) & (between <= ends[1] * 1.001)).all()
    torch.testing.assert_close(divisors(weights, 3, "area", beta=0.0), ends[0])
    torch.testing.assert_close(divisors(weights, 3, "area", beta=1.0), ends[1])


def test_sample_is_blind_to_the_size_of_the_mask() -> None:
    error = torch.full((2, 1, 1, 8, 8), 2.0)
    weights = torch.zeros(2, 1, 1, 8, 8)
    weights[0, ..., 0, 0] = 1
    weights[1] = 1
    assert weighted_mean(error, weights).tolist() == [2.0, 2.0]


def test_half_precision_predictions_are_summed_in_float32() -> None:
    prediction = torch.full((1, 16, 4, 64, 64), 0.1, dtype=torch.bfloat16)
    weights = torch.full((1, 1, 4, 64, 64), 0.0123)
    value = weighted_mse(prediction, torch.zeros_like(prediction), weights)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(float(prediction[0, 0, 0, 0, 0].float() ** 2), rel=1e-4)


def test_nothing_of_full_size_is_kept_for_backward() -> None:
    prediction, target, weights = drawn(0, (1, 16, 3, 16, 16))
    kept: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        weighted_mse(prediction, target, weights)
    own = {prediction.data_ptr(), target.data_ptr()}
    extra = [t for t in kept if t.data_ptr() not in own and t.numel() >= prediction.numel()]
    assert kept
    assert not extra
