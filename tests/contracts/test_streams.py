"""What every family says of its modules' rows: an adapter multiplied by time, word and place."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from frisket.adapters import lora
from frisket.adapters.attach import outputs_of
from frisket.adapters.routed.calls import find_calls, run_checkpointed
from frisket.adapters.routed.factors import Factors
from frisket.adapters.routed.peft_variant import route
from frisket.adapters.routed.schedule import RankSchedule
from frisket.families.base import default_targets
from frisket.families.experts import experts_of, first

RANK = 4


def attach_stirred(case, denoiser: nn.Module) -> None:
    targets, dead = default_targets(case.family, case.variant)
    spec = lora.LoraSpec(rank=RANK, alpha=3.0, targets=targets, dead=dead)
    lora.attach(denoiser, spec, seed=0)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in lora.trainable(denoiser).values():
            value.add_(0.1 * torch.randn(value.shape, generator=generator))


def fill_factors(case, factors: Factors, frames: int, value: float) -> None:
    grid = case.card.grid.cells(frames, *case.size)
    texts = [tensor.shape[1] for tensor in case.conditioning.values() if tensor.ndim > 1]
    factors.space = torch.full((2, 1, *grid), value)
    factors.tokens = torch.full((2, max(texts)), value)


def test_of_every_layer_it_is_known_whose_rows_it_works_on(case):
    for expert in experts_of(case.parts.denoiser).values():
        streams = {name: case.family.streams.find(name) for name in outputs_of(expert)}
        targets, _ = default_targets(case.family, case.variant)
        assert {"image", "joint"} & set(streams.values())
        assert targets
    with pytest.raises(ValueError, match="nothing is known of the rows that nobody works on"):
        case.family.streams.find("nobody")


@torch.no_grad()
def test_a_factor_of_ones_is_the_lora_and_one_of_zeros_the_base_bit_for_bit(case, denoiser):
    attach_stirred(case, denoiser)
    frames = case.lengths[-1]
    plain = case.predict(denoiser, frames)
    factors = route(denoiser, case.family.streams)
    assert torch.equal(case.predict(denoiser, frames), plain)
    factors.ranks = RankSchedule(RANK)
    fill_factors(case, factors, frames, 1.0)
    assert torch.equal(case.predict(denoiser, frames), plain)
    acting = []
    factors.observer = lambda name, _, update: acting.append(name) if update.any() else None
    fill_factors(case, factors, frames, 0.0)
    silenced = case.predict(denoiser, frames)
    with lora.frozen(denoiser):
        base = case.predict(denoiser, frames)
    assert not torch.equal(plain, base)
    if case.card.sees == "nothing":
        assert torch.equal(silenced, base)
        assert not acting
    else:  # reference pictures' rows and an image encoder's tokens keep the adapter
        streams = {case.family.streams.find(name) for name in acting}
        assert streams <= {"image", "text", "joint", "apart"}
    lora.detach(denoiser)
    assert all(find_calls(model) is None for model in experts_of(denoiser).values())


@pytest.mark.slow
@torch.no_grad()
def test_a_factor_of_ones_is_the_lora_bit_for_bit_in_bfloat16_too(case, denoiser):
    attach_stirred(case, denoiser)
    for value in denoiser.parameters():
        value.data = value.data.to(torch.bfloat16)
    frames = case.lengths[-1]
    plain = case.predict(denoiser, frames)
    factors = route(denoiser, case.family.streams)
    factors.ranks = RankSchedule(RANK)
    fill_factors(case, factors, frames, 1.0)
    assert torch.equal(case.predict(denoiser, frames), plain)


@pytest.mark.slow
@torch.no_grad()
def test_outside_the_mask_no_module_of_the_image_has_an_update(case, denoiser):
    attach_stirred(case, denoiser)
    factors = route(denoiser, case.family.streams)
    frames = case.lengths[-1]
    f, h, w = case.card.grid.cells(frames, *case.size)
    factors.space = torch.zeros(1, 1, f, h, w)
    factors.space[..., : w // 2] = 1
    shares = {}

    def observe(name, _, update):
        if case.family.streams.find(name) == "image":
            rows = update.flatten(2).transpose(1, 2) if update.ndim > 3 else update
            calls = [find_calls(model) for model in experts_of(denoiser).values()]
            call = next(watched.record.call for watched in calls if watched and watched.record)
            picture = call.sequences.get("image", ())
            if picture:
                rows = rows[:, : picture[0].count]  # without padding, which is the whole picture's
            shares[name] = float((rows.abs().amax(-1) == 0).float().mean())

    factors.observer = observe
    case.predict(denoiser, frames)
    assert all(share < 1 for share in shares.values())
    if case.card.sees == "nothing" and not case.card.video:
        # Coarse layers of a UNet may have one cell alone, which is inside and outside.
        assert shares == {} or max(shares.values()) >= 0.3


@torch.no_grad()
def test_each_sample_has_the_ranks_of_its_own_noise_level(case, denoiser):
    attach_stirred(case, denoiser)
    route(denoiser, case.family.streams).ranks = RankSchedule(1)
    noisy, conditioning = case.latents(1), case.given(2)
    for levels in case.every_level():
        both = case.family.predict(denoiser, noisy, levels, conditioning)
        calls = [find_calls(model) for model in experts_of(denoiser).values()]
        seen = [calls_.record.call.t for calls_ in calls if calls_ and calls_.record]
        if len(seen[0]) == len(levels) and len(seen) == 1:
            assert torch.allclose(seen[0], levels, atol=2e-3)
        for row in range(2):
            only = {name: value[row : row + 1] for name, value in conditioning.items()}
            window = slice(row, row + 1)
            single = case.family.predict(denoiser, noisy[window], levels[window], only)
            assert torch.allclose(single, both[window], atol=2e-5)


@pytest.mark.slow
def test_recomputed_blocks_see_the_call_they_were_in(case, denoiser):
    if not getattr(first(denoiser), "_supports_gradient_checkpointing", False):
        pytest.skip("cannot checkpoint")
    attach_stirred(case, denoiser)
    plain = deepcopy(denoiser)
    gradients = []
    for model, checkpointed in ((plain, False), (denoiser, True)):
        model.train()
        route(model, case.family.streams).ranks = RankSchedule(1)
        if checkpointed:
            for expert in experts_of(model).values():
                expert.enable_gradient_checkpointing(
                    lambda block, *args, expert=expert: run_checkpointed(expert, block, *args)
                )
        low, high = case.levels().sort().values[[0, -1]]
        losses = [
            case.family.predict(model, case.latents(1), level.expand(2).clone(), case.given(2))
            .square()
            .mean()
            for level in (low, high)
        ]
        torch.stack(losses).sum().backward()  # two calls, then one backward pass over both
        trained = lora.trainable(model)
        gradients.append({name: value.grad for name, value in trained.items()})
    for name, value in gradients[0].items():
        other = gradients[1][name]
        assert (value is None) == (other is None)
        if value is not None:
            assert torch.allclose(value, other, atol=1e-6, rtol=1e-4), name
