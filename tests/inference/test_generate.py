"""Sampling: what is asked for comes out, whatever the batch, and nothing else changes."""

import logging
from dataclasses import replace

import pytest
import torch
from torch import nn

from frisket.families.base import FAMILIES, Family, Parts
from frisket.inference.generate import Picture, collate, embed, generate, sample
from frisket.inference.sample_specs import SampleSpec, build_spec

PROMPTS = ["a red cat", "a green dog on a wall", "a blue bird"]


@pytest.fixture(scope="module", params=["wan", "pocket"])
def loaded(request: pytest.FixtureRequest) -> tuple[Family, Parts]:
    family = FAMILIES.load(request.param)
    return family, family.tiny(next(iter(family.variants)))


def made(loaded: tuple[Family, Parts], batch: int, **changes: object) -> list[Picture]:
    family, parts = loaded
    frames = 5 if family.variants[parts.variant].video else 1
    wanted: dict[str, object] = {
        "seeds": [7, 8, 9],
        "height": 32,
        "width": 48,
        "frames": frames,
        "steps": 2,
        "guidance": 2.0,
    }
    return list(generate(family, parts, PROMPTS, batch=batch, **(wanted | changes)))  # type: ignore[arg-type]


def test_pictures_have_the_size_asked_for_and_name_prompt_and_seed(
    loaded: tuple[Family, Parts],
) -> None:
    pictures = made(loaded, 2)
    frames = 5 if loaded[0].variants[loaded[1].variant].video else 1
    assert [(p.spec.prompt, p.spec.seed) for p in pictures] == list(
        zip(PROMPTS, [7, 8, 9], strict=True)
    )
    for picture in pictures:
        assert picture.frames.shape == (frames, 32, 48, 3)
        assert picture.frames.dtype == torch.uint8
        assert picture.frames.float().std() > 1


def test_a_picture_depends_on_its_seed_and_not_on_its_batch(loaded: tuple[Family, Parts]) -> None:
    alone, together = made(loaded, 1), made(loaded, 3)
    for one, other in zip(alone, together, strict=True):
        assert (one.frames.int() - other.frames.int()).abs().max() <= 1
    again = made(loaded, 1, seeds=[7, 7, 9])
    assert torch.equal(again[0].frames, alone[0].frames)
    assert not torch.equal(again[1].frames, alone[1].frames)


def test_generators_modes_and_gradients_are_left_as_they_were(
    loaded: tuple[Family, Parts],
) -> None:
    denoiser = loaded[1].denoiser
    assert isinstance(denoiser, nn.Module)
    denoiser.train()
    first = next(denoiser.children())
    first.eval()
    before = torch.get_rng_state()
    try:
        made(loaded, 2)
        assert denoiser.training
        assert not first.training
    finally:
        denoiser.eval()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()


def test_what_cannot_be_sampled_is_said_before_any_work(loaded: tuple[Family, Parts]) -> None:
    family, parts = loaded
    with pytest.raises(ValueError, match="3 prompts but 1 seeds"):
        generate(family, parts, PROMPTS, seeds=[1])
    with pytest.raises(ValueError, match="sides are multiples of"):
        generate(family, parts, ["a"], seeds=[1], height=33, width=48)
    with pytest.raises(ValueError, match=r"frames|images"):
        generate(family, parts, ["a"], seeds=[1], height=32, width=48, frames=6)
    with pytest.raises(ValueError, match="denoiser is not loaded"):
        generate(family, Parts(parts.variant), ["a"], seeds=[1])


def test_a_broken_model_is_warned_of_and_painted_black(caplog: pytest.LogCaptureFixture) -> None:
    family = FAMILIES.load("pocket")
    parts = family.tiny("image")
    assert parts.denoiser is not None
    with torch.no_grad():
        next(parts.denoiser.parameters()).fill_(float("nan"))
    with caplog.at_level(logging.WARNING):
        (picture,) = generate(family, parts, ["a cat"], seeds=[3], steps=1)
    assert not picture.frames.any()
    assert "'a cat', seed 3, has NaN" in caplog.text


def tiny_wan() -> tuple[Family, Parts, SampleSpec]:
    family = FAMILIES.load("wan")
    variant = next(iter(family.variants))
    card = family.variants[variant]
    small = build_spec(card, "a cat", 1, height=32, width=48, frames=5, steps=1, guidance=2.0)
    return family, family.tiny(variant), small


def test_each_distinct_text_is_embedded_once() -> None:
    family, parts, small = tiny_wan()
    assert parts.text is not None
    calls: list[int] = []
    parts.text.text_encoder.register_forward_hook(lambda *_: calls.append(1))  # type: ignore[union-attr]
    shots = [
        replace(small, prompt=prompt, seed=seed, negative="blurry")
        for prompt in ("a cat", "a dog")
        for seed in range(3)
    ]
    told = embed(family, parts.variant, parts.text, shots)
    assert {text for text, _ in told} == {"a cat", "a dog", "blurry"}
    assert len(calls) == 3
    embed(family, parts.variant, parts.text, [replace(small, guidance=0.0, negative="blurry")])
    assert len(calls) == 4


def test_shots_of_different_sizes_and_negatives_come_in_order_and_need_no_text_encoder() -> None:
    family, parts, small = tiny_wan()
    shots = [
        small,
        replace(small, seed=2, negative="a dog"),
        replace(small, height=48, width=32, frames=1),
        replace(small, seed=2, negative="a dog", steps=2),
    ]
    told = embed(family, parts.variant, parts.text, shots)
    parts.text = None
    pictures = list(sample(family, parts, told, shots))
    assert [picture.spec for picture in pictures] == shots
    assert pictures[2].frames.shape == (1, 48, 32, 3)
    (alone,) = sample(family, parts, told, shots[1:2])
    assert (alone.frames.int() - pictures[1].frames.int()).abs().max() <= 1
    with pytest.raises(ValueError, match="'a bird' was not embedded"):
        sample(family, parts, told, [replace(small, prompt="a bird")])


def test_the_vae_decodes_in_tiles_and_is_as_it_was_afterwards() -> None:
    family, parts, small = tiny_wan()
    assert parts.vae is not None
    parts.vae.train()
    told = embed(family, parts.variant, parts.text, [small])
    (tiled,) = sample(family, parts, told, [small], tile=True)
    assert tiled.frames.shape == (5, 32, 48, 3)
    assert parts.vae.use_tiling is False
    assert not {"encode", "decode"} & vars(parts.vae).keys()
    assert all(module.training for module in parts.vae.modules())
    pocket = FAMILIES.load("pocket")
    parts, told = pocket.tiny("image"), {("a cat", ()): {"tokens": torch.zeros(1, 12, 64)}}
    plain = build_spec(pocket.variants["image"], "a cat", 1, guidance=0.0)
    with pytest.raises(ValueError, match=r"PocketVae has no tiles: set memory\.tile_vae = false"):
        sample(pocket, parts, told, [plain], tile=True)


def test_texts_of_different_lengths_are_padded_with_zeros() -> None:
    one = {"text": torch.ones(1, 3, 4), "mask": torch.ones(1, 3), "pooled": torch.ones(1, 5)}
    two = {"text": torch.ones(1, 5, 4), "mask": torch.ones(1, 5), "pooled": torch.zeros(1, 5)}
    joined = collate([one, two])
    assert joined["text"].shape == (2, 5, 4)
    assert joined["text"][0].sum() == 12
    assert joined["mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert joined["pooled"].shape == (2, 5)
