"""What every loss term promises, whichever it is."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import Tensor

from frisket.losses.base import (
    ATTENTION,
    FACES,
    LEFT_OUT,
    NEEDS,
    STRUCTURE,
    TERMS,
    AttentionMaps,
    AttentionTerm,
    LossTerm,
    Step,
)
from frisket.routing.selection import TokenSelection
from frisket.training.token_routing import silence

WATCHING = [name for name in TERMS.names() if ATTENTION in TERMS.load(name)().needs]
RESTORING = [name for name in TERMS.names() if LEFT_OUT in TERMS.load(name)().needs]
COMPARING = [name for name in TERMS.names() if FACES in TERMS.load(name)().needs]
EXTRACTING = [name for name in TERMS.names() if STRUCTURE in TERMS.load(name)().needs]
ELSEWHERE = (*WATCHING, *RESTORING, *COMPARING, *EXTRACTING)


@pytest.fixture(params=[name for name in TERMS.names() if name not in ELSEWHERE])
def term(request: pytest.FixtureRequest) -> LossTerm:
    """The term with its defaults; those that look elsewhere have tests of their own below."""
    return TERMS.load(request.param)()


@pytest.fixture(params=RESTORING)
def restoring(request: pytest.FixtureRequest) -> LossTerm:
    """A term that is taught where tokens were left out, with its defaults."""
    return TERMS.load(request.param)()


@pytest.fixture(params=WATCHING)
def watching(request: pytest.FixtureRequest) -> LossTerm:
    """A term that is taught by where the denoiser attends, with its defaults."""
    return TERMS.load(request.param)()


@pytest.fixture(params=[1, 3], ids=["image", "video"])
def frames(request: pytest.FixtureRequest) -> int:
    return request.param


def make(frames: int, weights: str = "mixed", dtype: torch.dtype = torch.float32) -> Step:
    """A step of three samples, 4 channels on `frames` x 5 x 6 cells, prediction with gradient."""
    generator = torch.Generator().manual_seed(frames)

    def draw(channels: int = 4) -> Tensor:
        return torch.randn(3, channels, frames, 5, 6, generator=generator).to(dtype)

    coverage = torch.rand(3, 2, frames, 5, 6, generator=generator) / 2
    chance = torch.rand(3, 1, frames, 5, 6, generator=generator)
    laid = {
        "mixed": torch.where(chance < 0.4, 0.0, torch.where(chance > 0.7, 1.0, chance)),
        "zeros": torch.zeros_like(chance),
        "ones": torch.ones_like(chance),
    }[weights]
    return Step(
        prediction=draw().requires_grad_(),
        target=draw(),
        t=torch.tensor([0.2, 0.6, 1.0]),
        weights=laid,
        coverage=coverage,
        prior=(prior := draw()),
        prior_control=prior,
    )


def inverted(term: LossTerm) -> bool:
    """Whether the term teaches outside the mask (it compares with the frozen model)."""
    return bool(term.needs)


def gradient(term: LossTerm, step: Step) -> Tensor:
    (found,) = torch.autograd.grad(term(step).sum(), step.prediction)
    return found


def test_it_names_needs_the_trainer_knows(term):
    assert term.needs <= NEEDS


def test_one_finite_float32_value_a_sample(term, frames):
    value = term(make(frames))
    assert value.shape == (3,)
    assert value.dtype == torch.float32
    assert value.isfinite().all()
    assert (value > 0).all()


def test_nothing_to_teach_is_zero_with_a_finite_zero_gradient(term, frames):
    step = make(frames, "ones" if inverted(term) else "zeros")
    assert torch.equal(term(step), torch.zeros(3))
    assert torch.equal(gradient(term, step), torch.zeros_like(step.prediction))


def test_the_gradient_is_exactly_zero_where_it_does_not_teach(term, frames):
    step = make(frames)
    teaches = step.weights < 1 if inverted(term) else step.weights > 0
    found = gradient(term, step)
    assert not (found * ~teaches).any()
    assert torch.equal((found != 0).any(1, keepdim=True), teaches)


def test_cells_handed_over_clean_carry_no_loss(term, frames):
    """Neither value nor gradient nor divisor knows what lies there: nothing is predicted there."""
    step = make(frames)
    predicted = torch.ones_like(step.weights)
    predicted[..., :3] = 0
    step = replace(step, weights=step.weights * predicted, predicted=predicted)
    prediction = step.prediction.detach() + 7 * (1 - predicted)
    other = replace(step, prediction=prediction.requires_grad_())
    assert torch.equal(term(step), term(other))
    found = gradient(term, step)
    assert not (found * (1 - predicted)).any()
    assert (found * predicted).any()


def test_a_sample_knows_no_other(term, frames):
    step = make(frames)
    changed = step.prediction.detach().clone()
    changed[1:] += 5
    other = replace(step, prediction=changed)
    value, moved = term(step), term(other)
    assert torch.equal(value[:1], moved[:1])
    assert not torch.equal(value[1:], moved[1:])
    assert not gradient(term, step)[0].equal(torch.zeros_like(changed[0]))
    (only,) = torch.autograd.grad(term(step)[0], step.prediction)
    assert not only[1:].any()


def test_half_precision_is_summed_in_float32(term, frames):
    step = make(frames, dtype=torch.bfloat16)
    whole = replace(
        step,
        prediction=step.prediction.detach().float(),
        target=step.target.float(),
        prior=step.prior.float(),
        prior_control=step.prior_control.float(),
    )
    value = term(step)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.detach(), term(whole), rtol=1e-5, atol=1e-6)
    found = gradient(term, step)
    assert found.dtype == torch.bfloat16
    assert found.isfinite().all()


def test_the_target_and_the_prior_are_not_taught(term, frames):
    step = make(frames)
    target, prior = step.target.requires_grad_(), step.prior.requires_grad_()
    step = replace(step, target=target, prior=prior, prior_control=prior)
    term(step).sum().backward()
    for given in (step.prior, step.target):
        assert given.grad is None or not given.grad.any()


def list_draws(step: Step) -> tuple[Tensor, list[Tensor]]:
    """Four cells of each sample that weigh nothing, and every draw of two of them: b 1 f h w."""
    chosen = torch.zeros_like(step.weights)
    places = [row.flatten().eq(0).nonzero()[:4, 0] for row in step.weights]
    draws = []
    for pair in combinations(range(4), 2):
        draw = torch.zeros_like(step.weights)
        for row, cells in enumerate(places):
            draw[row].view(-1)[cells[list(pair)]] = 1
            chosen[row].view(-1)[cells] = 1
        draws.append(draw)
    return chosen, draws


def leave_out(step: Step, chosen: Tensor, draw: Tensor) -> Step:
    """Of the chosen cells those of the draw alone went through: half of them, each as likely."""
    kept = torch.where(chosen > 0, draw, 1.0)
    selection = TokenSelection(
        tokens=torch.zeros(3, 1, dtype=torch.long),
        grid=(1, 1, 1),
        kept=kept,
        importance=torch.where(chosen > 0, 2 * draw, 1.0),
    )
    silenced = silence(step.prediction, selection)
    return replace(step, prediction=silenced, importance=selection.importance)


def test_tokens_that_were_left_out_are_as_if_there_were_none(term, frames):
    """Neither value nor gradient knows what the denoiser says there, nor what lies there."""
    step = make(frames)
    assert step.prior is not None
    chosen, draws = list_draws(step)
    dropped = chosen * (1 - draws[0])
    other = replace(
        step,
        prediction=(step.prediction.detach() + 7 * dropped).requires_grad_(),
        target=step.target - 3 * dropped,
        prior=step.prior + 5 * dropped,
        prior_control=step.prior + 5 * dropped,
    )
    values, gradients = [], []
    for each in (step, other):
        values.append(term(leave_out(each, chosen, draws[0])))
        (given,) = torch.autograd.grad(values[-1].sum(), each.prediction)
        gradients.append(given)
    assert torch.equal(*values)
    assert torch.equal(*gradients)
    assert not (gradients[0] * dropped).any()
    assert gradients[0].any()


def test_the_mean_over_all_draws_of_tokens_is_the_whole(term, frames):
    step = make(frames)
    chosen, draws = list_draws(step)
    values, gradients = [], []
    for draw in draws:
        values.append(term(leave_out(step, chosen, draw)))
        gradients.append(torch.autograd.grad(values[-1].sum(), step.prediction)[0])
    torch.testing.assert_close(torch.stack(values).mean(0), term(step))
    torch.testing.assert_close(torch.stack(gradients).mean(0), gradient(term, step))


def test_another_grid_is_refused_not_broadcast(term):
    step = make(3)
    with pytest.raises(Exception, match=r"weights|shape|type-check"):
        term(replace(step, weights=step.weights[:, :, :1], coverage=step.coverage[:, :, :1]))


def watch(term: LossTerm, frames: int, weights: str = "mixed") -> tuple[Step, list[Tensor]]:
    """A step in which two phrases were seen in two layers, one coarser than the latents."""
    assert isinstance(term, AttentionTerm)
    step = make(frames, weights)
    generator = torch.Generator().manual_seed(7)
    grids = {"fine": (frames, 5, 6), "coarse": (frames, 2, 3)}
    maps = {
        name: torch.rand(3, 2, *grid, generator=generator).requires_grad_()
        for name, grid in grids.items()
    }
    known = torch.tensor([[True, True], [True, False], [False, False]])
    seen = AttentionMaps(maps=maps, known=known, regions=(1, 0))
    return replace(step, attention={term.attention: seen}), list(maps.values())


def test_a_watching_term_says_what_it_reads(watching: LossTerm) -> None:
    assert isinstance(watching, AttentionTerm)
    assert watching.needs <= NEEDS
    with pytest.raises(ValueError, match="carries no attention"):
        watching(make(1))


def test_attention_is_one_finite_float32_value_a_sample(watching: LossTerm, frames: int) -> None:
    step, maps = watch(watching, frames)
    value = watching(step)
    assert value.shape == (3,)
    assert value.dtype == torch.float32
    assert value.isfinite().all()
    gradients = torch.autograd.grad(value.sum(), maps)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert all(gradient[0].any() for gradient in gradients)


def test_a_phrase_that_is_not_in_the_caption_teaches_nothing(watching: LossTerm) -> None:
    step, maps = watch(watching, 1)
    assert watching(step)[2] == 0
    for gradient in torch.autograd.grad(watching(step).sum(), maps):
        assert not gradient[1, 1].any()
        assert not gradient[2].any()


def test_a_region_that_covers_nothing_teaches_no_phrase(watching: LossTerm) -> None:
    step, maps = watch(watching, 3)
    step = replace(step, coverage=torch.zeros_like(step.coverage))
    assert torch.equal(watching(step), torch.zeros(3))
    assert not any(gradient.any() for gradient in torch.autograd.grad(watching(step).sum(), maps))


def test_attention_of_a_sample_knows_no_other(watching: LossTerm) -> None:
    step, maps = watch(watching, 1)
    for gradient in torch.autograd.grad(watching(step)[0], maps):
        assert not gradient[1:].any()


def test_attention_in_cells_handed_over_clean_is_not_taught(watching: LossTerm) -> None:
    step, maps = watch(watching, 3)
    predicted = torch.ones_like(step.weights)
    predicted[:, :, 0] = 0  # the first latent frame
    step = replace(step, predicted=predicted)
    for gradient in torch.autograd.grad(watching(step).sum(), maps):
        assert not gradient[:, :, 0].any()
        assert gradient[:, :, 1:].any()


def make_partial(frames: int, *, dtype: torch.dtype = torch.float32) -> Step:
    """A step whose middle columns were left out; tokens of 1 x 1 x 2 cells, some without weight."""
    step = make(frames, "ones", dtype)
    out = torch.zeros_like(step.weights)
    out[..., 2:4] = 1
    carried = step.weights * (1 - out)
    weight = torch.ones_like(out)
    weight[:, :, :, :2] = 0
    weight[2] = 0
    noisy = step.target * 0.3 + step.prediction.detach()
    return replace(step, weights=carried, left_out=out * weight, noisy=noisy, patch=(1, 1, 2))


def test_what_was_left_out_is_one_finite_float32_value_a_sample(restoring, frames):
    for dtype in (torch.float32, torch.bfloat16):
        value = restoring(make_partial(frames, dtype=dtype))
        assert value.shape == (3,)
        assert value.dtype == torch.float32
        assert value.isfinite().all()
        assert (value[:2] > 0).all()
        assert value[2] == 0  # nothing of it had weight


def test_what_was_left_out_alone_is_taught_and_only_where_it_has_weight(restoring, frames):
    step = make_partial(frames)
    found = gradient(restoring, step)
    assert torch.equal((found != 0).any(1, keepdim=True), step.left_out > 0)


def test_where_nothing_was_left_out_nothing_is_restored(restoring, frames):
    step = replace(make_partial(frames), left_out=None)
    assert torch.equal(restoring(step), torch.zeros(3))
    assert not gradient(restoring, step).any()


def test_what_was_left_out_and_handed_over_clean_carries_no_loss(restoring, frames):
    step = make_partial(frames)
    predicted = torch.ones_like(step.weights)
    predicted[:, :, :, 3] = 0
    found = gradient(restoring, replace(step, predicted=predicted))
    assert not (found * (1 - predicted)).any()
    assert (found * predicted).any()


def test_what_was_left_out_of_a_sample_knows_no_other(restoring, frames):
    step = make_partial(frames)
    (only,) = torch.autograd.grad(restoring(step)[0], step.prediction)
    assert only[:1].any()
    assert not only[1:].any()


def test_what_the_model_was_handed_is_not_taught(restoring, frames):
    step = make_partial(frames)
    step = replace(step, noisy=step.noisy.requires_grad_())
    restoring(step).sum().backward()
    assert step.noisy.grad is None or not step.noisy.grad.any()
