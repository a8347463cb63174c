"""The identity term: when it looks, at what, and what a user may ask of it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from frisket.losses.base import Step
from frisket.losses.decoding import CONTEXT
from frisket.losses.faces import FaceComparison, FaceMark
from frisket.losses.terms.identity import IdentityLoss

RED = torch.tensor([1.0, 0.0, 0.0])


class Painter:
    """A decoder that remembers what it was handed: the first three channels are the colours."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.latents: list[Tensor] = []

    def __call__(self, latents: Tensor) -> Tensor:
        self.shapes.append(tuple(latents.shape))
        self.latents.append(latents)
        return latents[:, :3]


def compare(picture: Tensor, mark: FaceMark) -> Tensor:
    return 1 - torch.cosine_similarity(picture.mean((0, 2, 3)), mark.target, 0)


def make_step(
    t: list[float], frames: int = 1, marks: tuple[int, ...] = (0,)
) -> tuple[Step, Painter, Tensor]:
    count, generator = len(t), torch.Generator().manual_seed(5)
    shape = (count, 4, frames, 6, 6)
    estimate = torch.randn(shape, generator=generator).requires_grad_()
    clean = torch.randn(shape, generator=generator)
    coverage = torch.zeros(count, 2, frames, 6, 6)
    coverage[:, 1, :, 1:4, 2:5] = 1
    painter = Painter()
    row = tuple(FaceMark(frame, torch.zeros(5, 2), RED) for frame in marks)
    step = Step(
        prediction=torch.randn(shape, generator=generator).requires_grad_(),
        target=clean,
        t=torch.tensor(t),
        weights=torch.ones(count, 1, frames, 6, 6),
        coverage=coverage,
        clean=clean,
        estimate=estimate,
        decode=painter,
        faces=FaceComparison(marks=(row,) * count, region=1, compare=compare),
    )
    return step, painter, estimate


def test_only_samples_of_low_noise_are_decoded_and_taught() -> None:
    step, painter, estimate = make_step([0.2, 0.9, 0.5, 0.35])
    value = IdentityLoss(t_max=0.35)(step)
    assert len(painter.shapes) == 2
    assert (value > 0).tolist() == [True, False, False, True]
    (gradients,) = torch.autograd.grad(value.sum(), estimate)
    assert [bool(row.any()) for row in gradients] == [True, False, False, True]


def test_a_step_of_high_noise_alone_decodes_nothing_and_still_has_a_graph() -> None:
    step, painter, _ = make_step([0.6, 0.9])
    value = IdentityLoss()(step)
    assert painter.shapes == []
    assert torch.equal(value, torch.zeros(2))
    (gradients,) = torch.autograd.grad(value.sum(), step.prediction)
    assert not gradients.any()


def test_a_sample_without_a_face_is_not_decoded() -> None:
    step, painter, _ = make_step([0.1, 0.1])
    assert step.faces is not None
    marks = (step.faces.marks[0], ())
    value = IdentityLoss()(replace(step, faces=replace(step.faces, marks=marks)))
    assert len(painter.shapes) == 1
    assert value[0] > 0
    assert value[1] == 0


def test_the_gradient_is_exactly_zero_outside_the_region_and_grows_with_its_cover() -> None:
    step, painter, estimate = make_step([0.1])
    coverage = step.coverage.clone()
    coverage[:, 1, :, 4] = 0.25
    (gradients,) = torch.autograd.grad(
        IdentityLoss()(replace(step, coverage=coverage))[0], estimate
    )
    inside = coverage[:, 1, None] > 0
    assert not (gradients * ~inside).any()
    assert (gradients[:, :3] * inside).any(1).sum() == inside.sum()
    row = gradients[0, 0, 0].abs()
    assert row[4, 2] == pytest.approx(float(row[2, 2]) / 4, rel=1e-5)
    # Around the region the decoder sees the clean latents themselves.
    assert step.clean is not None
    outside = ~inside.expand_as(step.clean)
    assert torch.equal(painter.latents[0][outside], step.clean[outside])


def test_what_is_not_finite_outside_the_region_does_not_come_in() -> None:
    step, _, estimate = make_step([0.1])
    broken = estimate.detach().clone()
    broken[..., 0, 0] = torch.inf
    broken.requires_grad_()
    value = IdentityLoss()(replace(step, estimate=broken))
    (gradients,) = torch.autograd.grad(value.sum(), broken)
    assert value.isfinite().all()
    assert gradients.isfinite().all()


def test_of_a_video_a_bounded_window_is_decoded_and_the_marked_frame_taught() -> None:
    step, painter, estimate = make_step([0.1], frames=9, marks=(0, 6))
    (gradients,) = torch.autograd.grad(IdentityLoss(frames=2)(step)[0], estimate)
    assert [shape[2] for shape in painter.shapes] == [1, CONTEXT + 1]
    assert [bool(gradients[:, :, frame].any()) for frame in range(9)] == [
        frame in (0, 6) for frame in range(9)
    ]
    assert step.clean is not None
    assert torch.equal(painter.latents[1][:, :, :-1], step.clean[:, :, 6 - CONTEXT : 6])


def test_the_likeness_of_the_clean_picture_itself_is_what_is_left_at_the_target() -> None:
    step, _, _ = make_step([0.1])
    red = torch.zeros_like(step.target)
    red[:, 0] = 2
    value = IdentityLoss()(replace(step, clean=red, estimate=red))
    torch.testing.assert_close(value, torch.zeros(1), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"t_max": 0.0}, "t_max must lie in"),
        ({"t_max": 1.5}, "t_max must lie in"),
        ({"frames": 0}, "frames must be 1 or more"),
        ({"region": ""}, "region is empty"),
        ({"embedder": ""}, "embedder is empty"),
    ],
)
def test_options_without_meaning_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        IdentityLoss(**options)  # type: ignore[arg-type]
