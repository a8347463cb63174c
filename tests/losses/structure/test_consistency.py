"""The consistency term: when it looks, where, at what, and that it is ControlNet++'s reward."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.losses.structure.reward_scene import (
    TIMESTEPS,
    decode_colours,
    draw_direction,
    draw_latents,
)
from torch import Tensor

from frisket.losses.base import Step
from frisket.losses.comparing import StructureComparison
from frisket.losses.decoding import CONTEXT
from frisket.losses.structure import EXTRACTORS, find_edges
from frisket.losses.terms.consistency import ConsistencyLoss
from frisket.objectives.base import Objective
from frisket.objectives.edm import Edm
from frisket.objectives.epsilon import Epsilon
from frisket.objectives.estimates import estimate_clean
from frisket.objectives.flow import Flow
from frisket.training.decoded.structure import measure_noise

RECORDED = json.loads(Path(__file__).with_name("controlnet_plus.json").read_text())


class Painter:
    """A decoder of 2 x 2 pixels a cell that remembers what it was handed."""

    def __init__(self) -> None:
        self.latents: list[Tensor] = []

    def __call__(self, latents: Tensor) -> Tensor:
        self.latents.append(latents)
        return decode_colours(latents).repeat_interleave(2, 3).repeat_interleave(2, 4)


def make_step(
    t: list[float], frames: int = 1, looked: tuple[int, ...] = (0,), extractor: str = "edges"
) -> tuple[Step, Painter, Tensor]:
    count, generator = len(t), torch.Generator().manual_seed(5)
    shape = (count, 4, frames, 6, 7)
    estimate = torch.randn(shape, generator=generator).requires_grad_()
    clean = torch.randn(shape, generator=generator)
    weights = torch.zeros(count, 1, frames, 6, 7)
    weights[:, :, :, 1:4, 2:5] = 1
    painter = Painter()
    step = Step(
        prediction=torch.randn(shape, generator=generator).requires_grad_(),
        target=clean,
        t=torch.tensor(t),
        weights=weights,
        coverage=weights,
        clean=clean,
        estimate=estimate,
        decode=painter,
        structure=StructureComparison(
            frames=(looked,) * count, noise=torch.tensor(t), extract=EXTRACTORS[extractor]
        ),
    )
    return step, painter, estimate


def describe_reward(recorded: dict[str, Any]) -> tuple[Step, Tensor]:
    """The scene that their lines were run on, as a step of ours; also the prediction, a leaf."""
    clean, noise, prediction = draw_latents()
    kind = "v" if recorded["prediction_type"] == "v_prediction" else "epsilon"
    objective = Epsilon(prediction=kind)
    t = (torch.tensor(recorded["timesteps"]) + 1) / 1000
    clean, noise = clean[:, :, None], noise[:, :, None]
    noisy, target = objective.corrupt(clean, noise, t)
    prediction.requires_grad_()
    ones = torch.ones_like(clean[:, :1])
    return Step(
        prediction=prediction[:, :, None],
        target=target,
        t=t,
        weights=ones,
        coverage=ones,
        clean=clean,
        estimate=estimate_clean(objective, noisy, prediction[:, :, None], t),
        decode=decode_colours,
        structure=StructureComparison(
            frames=((0,),) * len(clean),
            noise=measure_noise(objective, t),
            extract=EXTRACTORS["canny"],
        ),
    ), prediction


@pytest.mark.parametrize("case", range(4))
def test_it_is_the_reward_of_controlnet_plus_plus(case: int) -> None:
    """Their lines from the estimate to the gated reward, run on the same tensors: 1e-5."""
    recorded = RECORDED["reward"][case]
    step, prediction = describe_reward(recorded)
    value = ConsistencyLoss(extractor="canny")(step).mean()
    assert float(value.detach()) == pytest.approx(recorded["value"], rel=1e-5, abs=1e-9)
    (gradient,) = torch.autograd.grad(value, prediction)
    slopes = (gradient * draw_direction(prediction.shape)).flatten(1).sum(1)
    expected = torch.tensor(recorded["slopes"])
    torch.testing.assert_close(slopes, expected, rtol=2e-5, atol=1e-8)
    assert bool(value > 0) == (tuple(recorded["timesteps"]) == TIMESTEPS)


@pytest.mark.parametrize("objective", [Epsilon(), Epsilon(prediction="v"), Flow(), Edm()])
@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_a_prediction_that_is_the_target_costs_nothing(
    objective: Objective, extractor: str
) -> None:
    clean, noise, _ = (part[:, :, None] for part in draw_latents())
    t = torch.tensor([0.02, 0.1, 0.2, 0.15, 0.05])
    noisy, target = objective.corrupt(clean, noise, t)
    ones = torch.ones_like(clean[:, :1])
    comparison = StructureComparison(
        frames=((0,),) * len(t), noise=measure_noise(objective, t), extract=EXTRACTORS[extractor]
    )
    step = Step(
        prediction=target,
        target=target,
        t=t,
        weights=ones,
        coverage=ones,
        clean=clean,
        estimate=estimate_clean(objective, noisy, target, t),
        decode=decode_colours,
        structure=comparison,
    )
    value = ConsistencyLoss(extractor=extractor)(step)
    assert (value < 1e-6).all()


@pytest.mark.parametrize(
    ("objective", "below", "above"),
    [
        (Epsilon(), 0.201, 0.202),  # levels 200 and 201 of 1000
        (Epsilon(prediction="v"), 0.201, 0.202),
        (Flow(), 0.364, 0.365),
    ],
)
def test_the_gate_is_theirs_under_any_objective(
    objective: Objective, below: float, above: float
) -> None:
    step, painter, _ = make_step([0.1, 0.1])
    assert step.structure is not None
    noise = measure_noise(objective, torch.tensor([below, above]))
    value = ConsistencyLoss()(replace(step, structure=replace(step.structure, noise=noise)))
    assert (value > 0).tolist() == [True, False]
    assert len(painter.latents) == 2  # of one sample the estimate and the clean latents


def test_only_samples_of_low_noise_are_decoded_taught_and_counted() -> None:
    step, painter, estimate = make_step([0.2, 0.9, 0.5, 0.35])
    shown = ConsistencyLoss(t_max=0.35)(step)
    assert len(painter.latents) == 4
    assert (shown > 0).tolist() == [True, False, False, True]
    over_all = ConsistencyLoss(t_max=0.35, average="all")(step)
    torch.testing.assert_close(shown, over_all * 2)  # two of four are below
    (gradients,) = torch.autograd.grad(shown.sum(), estimate)
    assert [bool(row.any()) for row in gradients] == [True, False, False, True]
    assert step.structure is not None
    noted = torch.stack(step.structure.errors[:2])
    torch.testing.assert_close(noted, over_all[[0, 3]].detach())


def test_a_step_of_high_noise_alone_decodes_nothing_and_still_has_a_graph() -> None:
    step, painter, _ = make_step([0.6, 0.9])
    value = ConsistencyLoss()(step)
    assert painter.latents == []
    assert torch.equal(value, torch.zeros(2))
    (gradients,) = torch.autograd.grad(value.sum(), step.prediction)
    assert not gradients.any()


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("where", ["inside", "outside"])
def test_the_gradient_is_exactly_zero_where_the_term_has_no_weight(
    where: str, extractor: str
) -> None:
    """Though decoder, blur and differences mix neighbours."""
    step, painter, estimate = make_step([0.1], extractor=extractor)
    value = ConsistencyLoss(where=where, extractor=extractor)(step)  # type: ignore[arg-type]
    (gradients,) = torch.autograd.grad(value[0], estimate)
    taught = step.weights > 0 if where == "inside" else step.weights < 1
    assert not (gradients * ~taught).any()
    assert (gradients * taught).any()
    # There the decoder sees the clean latents themselves.
    assert step.clean is not None
    silent = ~taught.expand_as(step.clean)
    assert torch.equal(painter.latents[0][silent], step.clean[silent])


def test_pixels_weigh_what_their_cell_does() -> None:
    """Twice the weight in half of the cells: the mean that was worked out by hand."""
    step, _, _ = make_step([0.1])
    weights = torch.ones_like(step.weights)
    weights[..., 4:] = 2
    value = ConsistencyLoss(where="inside")(replace(step, weights=weights))
    assert step.estimate is not None
    assert step.clean is not None
    pictures = [Painter()(part).div(2).add(0.5).clamp(0, 1) for part in (step.estimate, step.clean)]
    squares = (find_edges(pictures[0]) - find_edges(pictures[1])).square()
    halves = squares[..., :8].sum() + 2 * squares[..., 8:].sum()
    torch.testing.assert_close(value[0], halves / (12 * 8 + 2 * 12 * 6))


def test_everywhere_is_the_plain_mean_and_outside_and_inside_part_it() -> None:
    step, _, _ = make_step([0.1])
    whole = ConsistencyLoss()(replace(step, weights=torch.rand_like(step.weights)))
    assert torch.equal(whole, ConsistencyLoss()(step))
    full = replace(step, weights=torch.ones_like(step.weights))
    assert torch.equal(ConsistencyLoss(where="inside")(full), ConsistencyLoss()(full))
    assert torch.equal(ConsistencyLoss(where="outside")(full), torch.zeros(1))


def test_what_is_not_finite_without_weight_does_not_come_in() -> None:
    step, _, estimate = make_step([0.1])
    broken = estimate.detach().clone()
    broken[..., 0, 0] = torch.inf
    broken.requires_grad_()
    value = ConsistencyLoss(where="inside")(replace(step, estimate=broken))
    (gradients,) = torch.autograd.grad(value.sum(), broken)
    assert value.isfinite().all()
    assert gradients.isfinite().all()


def test_of_a_video_a_bounded_window_is_decoded() -> None:
    step, painter, estimate = make_step([0.1], frames=9, looked=(0, 6))
    (gradients,) = torch.autograd.grad(ConsistencyLoss(frames=2)(step)[0], estimate)
    lengths = [latents.shape[2] for latents in painter.latents]
    assert lengths == [1, 1, CONTEXT + 1, CONTEXT + 1]
    taught = [bool(gradients[:, :, frame].any()) for frame in range(9)]
    assert taught == [frame in (0, 6) for frame in range(9)]


def paint_controls(step: Step, extractor: str) -> Tensor:
    """Control pictures drawn from the clean clip by the extractor itself, as colours."""
    assert step.clean is not None
    picture = Painter()(step.clean).div(2).add(0.5).clamp(0, 1)
    return EXTRACTORS[extractor](picture).expand(-1, 3, -1, -1, -1)


@pytest.mark.parametrize("extractor", ["luma"])
def test_a_control_picture_of_the_clip_is_the_clips_own_target(extractor: str) -> None:
    step, painter, _ = make_step([0.1, 0.2], extractor=extractor)
    assert step.structure is not None
    controls = paint_controls(step, extractor)
    shown = replace(step, structure=replace(step.structure, controls=controls))
    of_control = ConsistencyLoss(extractor=extractor, target="control")(shown)
    assert len(painter.latents) == 2  # nothing but the estimates is decoded
    torch.testing.assert_close(of_control, ConsistencyLoss(extractor=extractor)(step))


def test_controls_that_are_missing_or_of_another_size_are_refused() -> None:
    step, _, _ = make_step([0.1])
    term = ConsistencyLoss(extractor="luma", target="control")
    with pytest.raises(ValueError, match="carries no controls"):
        term(step)
    assert step.structure is not None
    small = replace(step, structure=replace(step.structure, controls=torch.zeros(1, 3, 1, 6, 7)))
    with pytest.raises(ValueError, match=r"\(6, 7\) pixels beside a clip of \(12, 14\)"):
        term(small)


def test_fifty_steps_of_it_alone_bring_the_structure_back() -> None:
    step, _, _ = make_step([0.1])
    assert step.clean is not None
    start = step.clean + 0.5 * torch.randn(
        step.clean.shape, generator=torch.Generator().manual_seed(1)
    )
    estimate = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([estimate], lr=0.05)
    values = []
    for _ in range(50):
        value = ConsistencyLoss()(replace(step, estimate=estimate)).sum()
        values.append(float(value.detach()))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert values[-1] < 0.1 * values[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"t_max": -0.1}, "t_max must lie in"),
        ({"t_max": 1.5}, "t_max must lie in"),
        ({"frames": 0}, "frames must be 1 or more"),
        ({"where": "face"}, "where 'face' is not one of everywhere, outside, inside"),
        ({"kind": "huber"}, "kind 'huber' is not one of mse, l1"),
        ({"target": "mask"}, "target 'mask' is not one of clip, control"),
        ({"average": "mean"}, "average 'mean' is not one of shown, all"),
        ({"extractor": "pose"}, "extractor 'pose' is not one of edges, canny, luma, colours"),
        ({"extractor": "depth"}, "is a model; set source to its folder"),
        ({"source": "dpt"}, "has no weights; leave source out"),
        ({"extractor": "canny", "target": "control"}, "depends on the size a picture is looked"),
        ({"extractor": "edges", "target": "control"}, "depends on the size a picture is looked"),
        ({"extractor": "colours", "target": "control"}, 'set extractor = "luma"'),
    ],
)
def test_options_without_meaning_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(Exception, match=words + "|type-check|Type-check"):
        ConsistencyLoss(**options)


def test_a_sample_without_weight_in_its_frames_does_not_count_as_compared() -> None:
    step, _, _ = make_step([0.1, 0.1])
    alone = step.weights.clone()
    alone[1] = 0
    values = ConsistencyLoss(where="inside")(replace(step, weights=alone))
    assert float(values[1].detach()) == 0
    assert step.structure is not None
    assert len(step.structure.errors) == 1
    lone = ConsistencyLoss(where="inside", average="all")(replace(step, weights=alone))
    torch.testing.assert_close(values[0], 2 * lone[0])  # averaged over the one that was compared
