"""What every loss term that compares faces promises."""

from dataclasses import replace

import pytest
import torch
from tests.contracts.test_terms import COMPARING, frames, make
from torch import Tensor

from frisket.losses.base import NEEDS, TERMS, LossTerm, Step
from frisket.losses.faces import FaceComparison, FaceMark, FaceTerm

__all__ = ["frames"]


@pytest.fixture(params=COMPARING)
def comparing(request: pytest.FixtureRequest) -> LossTerm:
    """A term that is taught by faces in what the prediction looks like, with its defaults."""
    return TERMS.load(request.param)()


def show_faces(
    frames: int, weights: str = "mixed", dtype: torch.dtype = torch.float32
) -> tuple[Step, Tensor]:
    """A step of low noise whose first two samples show a face; also the estimate, a leaf."""
    step = make(frames, weights, dtype)
    generator = torch.Generator().manual_seed(11)
    estimate = torch.randn(step.prediction.shape, generator=generator).requires_grad_()
    mark = FaceMark(frames - 1, torch.zeros(5, 2), torch.ones(3))

    def compare(picture: Tensor, mark: FaceMark) -> Tensor:
        assert picture.shape == (1, 3, 5, 6)
        colours = picture.mean((0, 2, 3)) + 0.1 * picture.square().mean((0, 2, 3))
        return 1 - torch.cosine_similarity(colours, mark.target, 0)

    return replace(
        step,
        t=torch.tensor([0.05, 0.1, 0.1]),
        clean=step.target,
        estimate=estimate,
        decode=lambda latents: latents[:, :3],
        faces=FaceComparison(marks=((mark,), (mark,), ()), region=0, compare=compare),
    ), estimate


def find_taught(step: Step) -> Tensor:
    """The cells b 1 f h w that may be taught: of the region, with a weight, in the last frame."""
    taught = (step.coverage[:, :1] > 0) & (step.weights > 0)
    taught[:, :, :-1] = False
    taught[2] = False
    return taught


def test_a_comparing_term_says_what_it_reads(comparing: LossTerm) -> None:
    assert isinstance(comparing, FaceTerm)
    assert comparing.needs <= NEEDS
    with pytest.raises(ValueError, match="carries no faces"):
        comparing(make(1))


def test_faces_are_one_finite_float32_value_a_sample(comparing: LossTerm, frames: int) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        step, _ = show_faces(frames, dtype=dtype)
        value = comparing(step)
        assert value.shape == (3,)
        assert value.dtype == torch.float32
        assert value.isfinite().all()
        assert (value[:2] > 0).all()
        assert value[2] == 0


def test_faces_are_taught_exactly_where_the_region_has_weight(
    comparing: LossTerm, frames: int
) -> None:
    step, estimate = show_faces(frames)
    (gradients,) = torch.autograd.grad(comparing(step).sum(), estimate)
    assert torch.equal((gradients != 0).any(1, keepdim=True), find_taught(step))


def test_a_region_without_weight_teaches_no_face(comparing: LossTerm, frames: int) -> None:
    step, estimate = show_faces(frames, "zeros")
    assert torch.equal(comparing(step), torch.zeros(3))
    (gradients,) = torch.autograd.grad(comparing(step).sum(), estimate)
    assert not gradients.any()


def test_a_face_in_cells_handed_over_clean_is_not_taught(comparing: LossTerm, frames: int) -> None:
    step, estimate = show_faces(frames)
    predicted = torch.ones_like(step.weights)
    predicted[..., :3] = 0
    step = replace(step, predicted=predicted)
    (gradients,) = torch.autograd.grad(comparing(step).sum(), estimate)
    assert not (gradients * (1 - predicted)).any()
    assert (gradients * predicted).any()


def test_a_face_of_a_sample_knows_no_other(comparing: LossTerm, frames: int) -> None:
    step, estimate = show_faces(frames)
    (only,) = torch.autograd.grad(comparing(step)[1], estimate)
    assert only[1].any()
    assert not only[[0, 2]].any()
    moved = estimate.detach().clone()
    moved[0] += 3
    assert torch.equal(comparing(replace(step, estimate=moved))[1], comparing(step)[1])


def test_the_clean_latents_are_not_taught(comparing: LossTerm, frames: int) -> None:
    step, _ = show_faces(frames)
    clean = step.target.clone().requires_grad_()
    comparing(replace(step, clean=clean)).sum().backward()
    assert clean.grad is None or not clean.grad.any()
