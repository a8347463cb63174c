"""What every model family promises, whichever it is."""

import re
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import nn
from torch.nn import functional

from frisket.adapters import lora
from frisket.adapters.targets import resolve
from frisket.families.base import FAMILIES, Source, WeightsNotFound, default_targets
from frisket.families.experts import Experts
from frisket.families.whole_model import open_weights, save_weights
from frisket.losses.base import weighted_mean, weighted_mse
from frisket.masks.coverage import to_latent
from frisket.masks.weights import RegionWeights
from frisket.objectives.epsilon import Epsilon

# tests/adapters/test_lora.py has every kind on one family; here the others are left to the slow.
KINDS = ["lora", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("dora", "loha", "lokr"))]


def spec_for(case, kind="lora") -> lora.LoraSpec:
    targets, dead = default_targets(case.family, case.variant)
    return lora.LoraSpec(kind, rank=2, alpha=3.0, dropout=0.3, targets=targets, dead=dead)


def stir(denoiser: nn.Module) -> None:
    """Move a fresh adapter off zero, so that it changes the prediction."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in lora.trainable(denoiser).values():
            value.add_(0.1 * torch.randn(value.shape, generator=generator))


def assert_frozen(*modules: nn.Module) -> None:
    for module in modules:
        if any(True for _ in module.parameters()):  # the mode of a weightless part means nothing
            assert not any(child.training for child in module.modules())
        assert not any(value.requires_grad for value in module.parameters())


def test_a_family_is_called_what_its_file_is_called():
    assert {name: FAMILIES.load(name).name for name in FAMILIES.names()} == {
        name: name for name in FAMILIES.names()
    }


def test_an_alias_says_one_model_and_is_written_as_it_is_looked_for():
    families = [FAMILIES.load(name) for name in FAMILIES.names()]
    holders = [each for family in families for each in (family, *family.variants.values())]
    aliases = [alias for holder in holders for alias in holder.aliases]
    assert len(set(aliases)) == len(aliases)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", alias) for alias in aliases)


def test_what_a_family_suggests_can_be_filled_in():
    for family in map(FAMILIES.load, FAMILIES.names()):
        assert family.default in family.variants
        said = family.suggestions
        assert said.template.format(caption="sks", background=said.scene).startswith("sks")
        assert said.bank_prompt.format(background="a wall").endswith("a wall")
        assert said.backgrounds
        assert said.pick_unrelated(video=False)
        assert said.pick_unrelated(video=True)


def test_the_default_clip_fits_the_grid_in_whole_patches(case):
    card = case.card
    assert card.grid.cells(card.frames, card.height, card.width)[0] >= 1
    assert card.height % card.grid.step == card.width % card.grid.step == 0


def test_tiny_parts_are_the_same_each_time_and_leave_the_generator_alone(case):
    before = torch.get_rng_state()
    again = case.family.tiny(case.variant)
    assert torch.equal(before, torch.get_rng_state())
    ours = case.parts.denoiser.state_dict()
    theirs = again.denoiser.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_parts_come_frozen_and_in_eval_mode(case):
    assert_frozen(case.parts.vae, case.parts.text, case.parts.denoiser)


def test_encode_agrees_with_the_grid(case):
    for frames in case.lengths:
        latents = case.family.encode(case.parts.vae, case.clip(frames))
        grid = case.card.grid
        assert latents.shape == (2, grid.channels, *grid.cells(frames, *case.size))
        assert latents.dtype == torch.float32
        assert latents.isfinite().all()


def test_encode_is_deterministic_and_knows_no_neighbour_in_the_batch(case):
    clip = case.clip(case.lengths[-1])
    together = case.family.encode(case.parts.vae, clip)
    assert torch.equal(together, case.family.encode(case.parts.vae, clip))
    alone = case.family.encode(case.parts.vae, clip[1:])
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-5)


def test_a_pixel_frame_reaches_its_own_latent_frame_and_none_before_it(case):
    if not case.card.video:
        return
    grid = case.card.grid
    clip = case.clip(1 + 2 * grid.temporal, batch=1)
    before = case.family.encode(case.parts.vae, clip)
    for index in range(3):
        for frame in grid.frames_of(index):
            changed = clip.clone()
            changed[:, :, frame] *= -1
            moved = (case.family.encode(case.parts.vae, changed) - before).abs().mean((0, 1, 3, 4))
            assert moved[index] > 0
            limit = moved[index] if case.card.pooled_time else 0.0
            assert (moved[:index] <= limit).all()


def test_decode_gives_the_clip_back_in_shape(case):
    for frames in case.lengths:
        clip = case.clip(frames)
        decoded = case.family.decode(case.parts.vae, case.family.encode(case.parts.vae, clip))
        assert decoded.shape == clip.shape
        assert decoded.dtype == torch.float32
        assert decoded.isfinite().all()


def test_embed_is_batch_first_deterministic_and_knows_no_neighbour(case):
    prompts = ["a red fox", "", "a much longer caption that names many things on a wooden table"]
    seen = [case.references() for _ in prompts]
    together = case.family.embed(case.parts.text, prompts, seen)
    again = case.family.embed(case.parts.text, prompts, seen)
    for name, value in together.items():
        assert value.shape[0] == len(prompts)
        assert not value.requires_grad
        assert torch.equal(value, again[name])
        for index, prompt in enumerate(prompts):
            pictures = [case.references()] if case.references() else []
            alone = case.family.embed(case.parts.text, [prompt], pictures)[name]
            length = alone.shape[1] if alone.ndim > 1 else None  # ragged texts are padded
            padded = value[index : index + 1, :length] if length else value[index : index + 1]
            torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-5)
            assert length is None or not value[index, length:].any()


def test_predict_keeps_the_shape_and_is_finite_float32(case, denoiser):
    for frames in case.lengths:
        for dtype in (torch.float32, torch.bfloat16):
            model = deepcopy(denoiser).to(dtype)
            with torch.no_grad():
                prediction = case.predict(model, frames)
            assert prediction.shape == case.latents(frames).shape
            assert prediction.dtype == torch.float32
            assert prediction.isfinite().all()


def test_predict_hears_t_and_the_prompt_of_each_sample(case, denoiser):
    frames, levels = case.lengths[-1], case.levels()
    noisy = case.latents(frames, batch=1).expand(2, -1, -1, -1, -1)
    given = case.given(frames=frames)
    same = {name: value[:1].expand(2, *value.shape[1:]) for name, value in given.items()}
    with torch.no_grad():
        by_t = case.family.predict(denoiser, noisy, levels, same)
        by_prompt = case.family.predict(denoiser, noisy, levels[:1].expand(2), given)
        alone = case.family.predict(
            denoiser, noisy[1:], levels[1:], {name: v[1:] for name, v in same.items()}
        )
    assert not torch.equal(by_t[0], by_t[1])
    assert not torch.equal(by_prompt[0], by_prompt[1])
    torch.testing.assert_close(by_t[1:], alone, rtol=1e-4, atol=1e-5)


def test_a_text_that_a_batch_padded_says_the_same(case, denoiser):
    frames, t = case.lengths[-1], case.levels(1)
    given = case.given(1, frames)
    lengths = {value.shape[1] for name, value in given.items() if name.endswith("mask")}
    padded = {
        name: functional.pad(value, (0, 0) * (value.ndim - 2) + (0, 3))
        if name in case.conditioning and value.ndim > 1 and value.shape[1] in lengths
        else value
        for name, value in given.items()
    }
    noisy = case.latents(frames, batch=1)
    with torch.no_grad():
        plain = case.family.predict(denoiser, noisy, t, given)
        longer = case.family.predict(denoiser, noisy, t, padded)
    torch.testing.assert_close(longer, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", [weighted_mse, lambda p, y, w: weighted_mean((p - y) ** 2, w)])
def test_the_gradient_is_exactly_zero_where_the_weight_is_zero(case, denoiser, loss):
    lora.attach(denoiser, spec_for(case), seed=0)
    for frames in case.lengths:
        prediction = case.predict(denoiser, frames)
        prediction.retain_grad()
        target = case.latents(frames, seed=1)
        chance = torch.rand(2, 1, *prediction.shape[2:], generator=torch.Generator().manual_seed(3))
        weights = (chance > 0.5) * chance
        loss(prediction, target, weights).sum().backward()
        moved = prediction.grad != 0
        assert torch.equal(moved.any(1, keepdim=True), weights > 0)


def test_what_is_painted_on_one_cells_pixels_teaches_exactly_that_cell(case, denoiser):
    lora.attach(denoiser, spec_for(case), seed=0)
    grid = case.card.grid
    weigh = RegionWeights({"subject": 1.0}, background=0.0)
    for frames in case.painted:
        cells = grid.cells(frames, *case.size)
        cell = (cells[0] - 1, cells[1] // 2, cells[2] - 1)
        plane = torch.zeros(1, frames, *case.size)
        window = [slice(index * grid.spatial, (index + 1) * grid.spatial) for index in cell[1:]]
        for frame in grid.frames_of(cell[0]):
            plane[0, frame, window[0], window[1]] = 1
        coverage = to_latent(plane, grid, "mean")[None]
        weights = weigh(coverage, torch.tensor([True]))
        prediction = case.predict(denoiser, frames, batch=1)
        prediction.retain_grad()
        weighted_mse(prediction, case.latents(frames, 1, seed=1), weights).sum().backward()
        assert (weights != 0).nonzero().tolist() == [[0, 0, *cell]]
        assert (prediction.grad != 0).any(1)[0].nonzero().tolist() == [list(cell)]


def test_all_ones_weights_are_the_plain_mean_bit_for_bit(case, denoiser):
    with torch.no_grad():
        prediction = case.predict(denoiser, case.lengths[-1])
    target = case.latents(case.lengths[-1], seed=1)
    weights = torch.ones(2, 1, *prediction.shape[2:])
    plain = [functional.mse_loss(*pair) for pair in zip(prediction, target, strict=True)]
    assert torch.equal(weighted_mse(prediction, target, weights), torch.stack(plain))


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_is_the_base_and_restores_the_adapter(case, denoiser, kind):
    with torch.no_grad():
        base = case.predict(denoiser)
        lora.attach(denoiser, spec_for(case, kind), seed=0)
        stir(denoiser)
        denoiser.eval()
        adapted = case.predict(denoiser)
        denoiser.train()
        with lora.frozen(denoiser):
            assert torch.equal(case.predict(denoiser), base)
        assert all(module.training for module in denoiser.modules())
        assert not torch.equal(adapted, base)
        denoiser.eval()
        assert torch.equal(case.predict(denoiser), adapted)


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_targets_are_there_and_every_adapter_parameter_learns(case, denoiser, kind):
    bare = deepcopy(denoiser)
    names = set(lora.attach(denoiser, spec_for(case, kind), seed=0))
    for target in default_targets(case.family, case.variant)[0]:
        assert names & set(resolve(bare, [target]))
    stir(denoiser)
    denoiser.eval()
    frames = case.lengths[-1]
    for levels in case.every_level():  # each expert
        noisy, given = case.latents(frames), case.given(frames=frames)
        prediction = case.family.predict(denoiser, noisy, levels, given)
        (prediction - case.latents(frames, seed=1)).square().mean().backward()
    dead = [
        name
        for name, value in lora.trainable(denoiser).items()
        if value.grad is None or not value.grad.any()
    ]
    assert dead == []


def test_an_adapter_comes_back_from_its_file_exactly(case, denoiser, tmp_path):
    prefix = case.family.lora_prefix
    other = deepcopy(denoiser)
    # alpha / rank is in B under diffusers' names: exact where it is a power of two
    lora.attach(denoiser, replace(spec_for(case), alpha=4.0), seed=0)
    stir(denoiser)
    lora.save(denoiser, tmp_path / "a.safetensors", {}, prefix=prefix)
    lora.load(other, tmp_path / "a.safetensors", prefix=prefix)
    with torch.no_grad():
        assert torch.equal(case.predict(other.eval()), case.predict(denoiser.eval()))


def test_saved_parts_load_back_exactly_through_the_real_path(case, tmp_path):
    family, parts = case.family, case.parts
    family.save(parts, tmp_path)
    source = Source(case.variant, str(tmp_path))
    vae, text = family.load_vae(source), family.load_text(source)
    vision = family.load_vision(source)
    assert (vision is None) == (parts.vision is None)
    denoiser = family.load_denoiser(source)
    clip, frames = case.clip(case.lengths[-1]), case.lengths[-1]
    assert torch.equal(family.encode(vae, clip), family.encode(parts.vae, clip))
    seen = [case.references()]
    ours, theirs = family.embed(text, ["a cat"], seen), family.embed(parts.text, ["a cat"], seen)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    with torch.no_grad():
        assert torch.equal(case.predict(denoiser, frames), case.predict(parts.denoiser, frames))
    assert_frozen(vae, text, denoiser)


def test_trained_weights_take_the_place_of_the_saved_ones(case, denoiser, tmp_path):
    """`family.denoiser_folder` is where `save` and `load_denoiser` have them (train = "all")."""
    family = case.family
    if isinstance(denoiser, Experts):
        return  # refused: all weights are trained of one denoiser
    family.save(case.parts, tmp_path)
    weights = open_weights(denoiser)
    with torch.no_grad():
        for value in weights.values():
            value.mul_(1.5)
    place = tmp_path / family.denoiser_folder
    assert place.is_dir()
    shutil.rmtree(place)
    save_weights(denoiser, place)
    loaded = family.load_denoiser(Source(case.variant, str(tmp_path)))
    assert_frozen(loaded)
    values = dict(loaded.named_parameters())
    assert list(values) == list(weights)
    assert all(torch.equal(values[name], weights[name]) for name in weights)


def test_a_folder_without_weights_is_named(case, tmp_path: Path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(WeightsNotFound, match="empty"):
        case.family.load_denoiser(Source(case.variant, str(empty)))


def test_the_pipeline_is_a_public_one(case):
    assert isinstance(case.family.pipeline(case.parts), DiffusionPipeline)


def test_the_objective_runs_from_data_to_noise(case):
    objective = case.family.objective(case.variant)
    generator = torch.Generator().manual_seed(0)
    t = objective.sample_t(2000, generator, cells=tuple(case.latents(1).shape[2:]))
    assert t.dtype == torch.float32
    assert ((t > 0) & (t <= 1)).all()
    clean, noise = case.latents(1), case.latents(1, seed=1)
    noisy, target = objective.corrupt(clean, noise, torch.tensor([1.0, 1e-3]))
    assert target.shape == clean.shape
    # DDPM's last level still holds 7 % of the picture, its first already 3 % of noise.
    nearly = 0.4 if isinstance(objective, Epsilon) else 0.02
    torch.testing.assert_close(noisy[0], noise[0], atol=nearly, rtol=0)
    torch.testing.assert_close(noisy[1], clean[1], atol=nearly, rtol=0)
    assert objective.weight(t).shape == t.shape
