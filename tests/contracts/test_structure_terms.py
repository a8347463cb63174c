"""What every loss term that compares the structure of decoded pictures promises."""

from dataclasses import replace

import pytest
import torch
from tests.contracts.test_terms import EXTRACTING, frames, make
from torch import Tensor

from frisket.losses.base import NEEDS, TERMS, LossTerm, Step
from frisket.losses.comparing import StructureComparison, StructureTerm
from frisket.losses.structure import find_edges

__all__ = ["frames"]


@pytest.fixture(params=EXTRACTING)
def extracting(request: pytest.FixtureRequest) -> LossTerm:
    """A term that is taught by the structure of what the prediction looks like, by default."""
    return TERMS.load(request.param)()


def show_structure(
    frames: int, weights: str = "mixed", dtype: torch.dtype = torch.float32
) -> tuple[Step, Tensor]:
    """A step whose first two samples are of low noise; also the estimate, a leaf."""
    step = make(frames, weights, dtype)
    generator = torch.Generator().manual_seed(11)
    estimate = torch.randn(step.prediction.shape, generator=generator).mul_(0.3).requires_grad_()
    t = torch.tensor([0.05, 0.1, 0.9])
    return replace(
        step,
        t=t,
        clean=step.target * 0.3,
        estimate=estimate,
        decode=lambda latents: latents[:, :3],
        structure=StructureComparison(frames=((frames - 1,),) * 3, noise=t, extract=find_edges),
    ), estimate


def test_an_extracting_term_says_what_it_reads(extracting: LossTerm) -> None:
    assert isinstance(extracting, StructureTerm)
    assert extracting.needs <= NEEDS
    with pytest.raises(ValueError, match="carries no structure"):
        extracting(make(1))


def test_structure_is_one_finite_float32_value_a_sample(extracting: LossTerm, frames: int) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        step, _ = show_structure(frames, dtype=dtype)
        value = extracting(step)
        assert value.shape == (3,)
        assert value.dtype == torch.float32
        assert value.isfinite().all()
        assert (value[:2] > 0).all()
        assert value[2] == 0


def test_the_clean_latents_themselves_are_exactly_zero(extracting: LossTerm, frames: int) -> None:
    step, _ = show_structure(frames)
    assert step.clean is not None
    same = replace(step, estimate=step.clean.clone().requires_grad_())
    assert torch.equal(extracting(same), torch.zeros(3))


def test_structure_of_cells_handed_over_clean_is_not_taught(
    extracting: LossTerm, frames: int
) -> None:
    step, estimate = show_structure(frames)
    predicted = torch.ones_like(step.weights)
    predicted[..., :3] = 0
    step = replace(step, weights=step.weights * predicted, predicted=predicted)
    (gradients,) = torch.autograd.grad(extracting(step).sum(), estimate)
    assert not (gradients * (1 - predicted)).any()
    assert (gradients * predicted).any()


def test_the_gradient_of_a_sample_knows_no_other(extracting: LossTerm, frames: int) -> None:
    step, estimate = show_structure(frames)
    (only,) = torch.autograd.grad(extracting(step)[1], estimate)
    assert only[1].any()
    assert not only[[0, 2]].any()
    moved = estimate.detach().clone()
    moved[0] += 3
    assert torch.equal(extracting(replace(step, estimate=moved))[1], extracting(step)[1])


def test_frames_that_are_not_looked_at_are_not_taught(extracting: LossTerm) -> None:
    step, estimate = show_structure(3)
    (gradients,) = torch.autograd.grad(extracting(step).sum(), estimate)
    assert not gradients[:, :, :2].any()
    assert gradients[:, :, 2].any()


def test_the_clean_latents_are_not_taught_by_structure(extracting: LossTerm, frames: int) -> None:
    step, _ = show_structure(frames)
    clean = step.target.clone().requires_grad_()
    extracting(replace(step, clean=clean)).sum().backward()
    assert clean.grad is None or not clean.grad.any()
