"""MaskDiT: the model that leaves tokens out, and what its loss then teaches."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.families import maskdit_scene as scene

from frisket.families.base import Source
from frisket.families.models.maskdit.family import FAMILY
from frisket.families.models.maskdit.tokens import (
    cut_patches,
    join_patches,
    restore_tokens,
    take_tokens,
)
from frisket.families.routes import keep_tokens
from frisket.losses.terms.denoise import Denoise
from frisket.losses.terms.reconstruction import Reconstruction, normalise_patches

SIZES = [(1, 8, 8), (1, 4, 10), (3, 6, 4)]


def predict(kept: torch.Tensor | None, *, variant: str = "pocket") -> torch.Tensor:
    parts = FAMILY.tiny(variant)
    generator = torch.Generator().manual_seed(3)
    channels = FAMILY.variants[variant].grid.channels
    noisy = torch.randn(2, channels, 1, 8, 12, generator=generator)
    text = FAMILY.embed(parts.text, ["a red circle on a blue wall", "sks"])
    with torch.no_grad(), keep_tokens(kept):
        return FAMILY.predict(parts.denoiser, noisy, torch.tensor([0.3, 0.8]), text)


def test_keeping_all_tokens_is_the_plain_encoder_and_decoder():
    full = predict(None)
    assert torch.equal(predict(torch.arange(24)[None]), full)
    assert not torch.allclose(predict(torch.arange(12)[None]), full)


def test_the_order_of_the_kept_tokens_says_nothing():
    kept = torch.stack([torch.randperm(24)[:9] for _ in range(2)])
    torch.testing.assert_close(
        predict(kept), predict(kept.sort(dim=1).values), rtol=1e-5, atol=1e-5
    )


def test_what_a_removed_token_holds_reaches_nobody():
    """Its own cells aside, where the preconditioning hands it on."""
    parts, kept = FAMILY.tiny("pocket"), torch.arange(12)[None]
    noisy = torch.randn(1, 12, 1, 8, 12)
    text = FAMILY.embed(parts.text, ["sks"])
    cells = torch.zeros(1, 12, 1, 8, 12)
    cells[..., :4, :] = 1  # two rows of six tokens
    with torch.no_grad(), keep_tokens(kept):
        t = torch.tensor([0.5])
        one = FAMILY.predict(parts.denoiser, noisy, t, text)
        other = FAMILY.predict(parts.denoiser, noisy + 5 * (1 - cells), t, text)
    assert torch.equal(one * cells, other * cells)


@pytest.mark.parametrize("size", SIZES)
def test_patches_go_back_where_they_were(size):
    latents = torch.randn(2, 3, *size)
    frames, height, width = size
    tokens = cut_patches(latents, 2)
    assert torch.equal(join_patches(tokens, (frames, height // 2, width // 2), 2), latents)


def test_removed_places_hold_the_mask_token_and_kept_ones_their_own():
    tokens, mask = torch.randn(2, 10, 4), torch.full((1, 1, 4), 9.0)
    kept = torch.stack([torch.randperm(10)[:6] for _ in range(2)])
    back = restore_tokens(take_tokens(tokens, kept), kept, mask, 10)
    for sample in range(2):
        stays = torch.zeros(10, dtype=torch.bool)
        stays[kept[sample]] = True
        assert torch.equal(back[sample, stays], tokens[sample, stays])
        assert (back[sample, ~stays] == 9).all()


def test_removed_patches_are_taught_by_their_reconstruction_alone():
    _, _, step = scene.run_step(scene.build_model(), masked=True)
    step = replace(step, prediction=step.prediction.detach().requires_grad_())
    (denoising,) = torch.autograd.grad(Denoise()(step).sum(), step.prediction)
    (restoring,) = torch.autograd.grad(Reconstruction()(step).sum(), step.prediction)
    assert step.left_out is not None
    removed = step.left_out > 0
    assert torch.equal((denoising != 0).any(1, keepdim=True), ~removed)
    assert torch.equal((restoring != 0).any(1, keepdim=True), removed)


def test_nothing_is_reconstructed_where_nothing_was_removed():
    _, _, step = scene.run_step(scene.build_model(), masked=False)
    assert torch.equal(Reconstruction()(step), torch.zeros(scene.SAMPLES))


@pytest.mark.parametrize("patch", [(1, 2, 2), (2, 1, 3), (1, 1, 1)])
def test_patches_are_normalised_one_by_one(patch):
    latents = 3 + 7 * torch.randn(2, 4, 2, 4, 6)
    values = normalise_patches(latents, patch)
    frames, height, width = patch
    first = values[:, :, :frames, :height, :width].flatten(1)
    torch.testing.assert_close(first.mean(1), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(first.std(1), torch.ones(2), rtol=1e-4, atol=0)


def test_a_model_that_was_saved_is_the_same_again(tmp_path: Path):
    parts = FAMILY.tiny("pocket")
    FAMILY.save(parts, tmp_path)
    again = FAMILY.load_denoiser(Source("pocket", str(tmp_path)))
    states = [dict(model.state_dict()) for model in (parts.denoiser, again)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_run_begins_from_the_same_random_weights():
    one, other = (FAMILY.load_denoiser(Source("pocket")) for _ in range(2))
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
