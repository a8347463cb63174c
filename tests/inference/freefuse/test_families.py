"""FreeFuse on whole pipelines of several families: cross- and joint attention, pictures, a clip."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from frisket.adapters import lora
from frisket.adapters.routed.factors import Factors
from frisket.families.base import FAMILIES, Family, Parts, default_targets
from frisket.families.experts import experts_of
from frisket.inference.generate import clips, embed
from frisket.inference.methods.freefuse import method
from frisket.inference.methods.freefuse.bias import Bias
from frisket.inference.methods.freefuse.method import FreeFuse, FuseOptions
from frisket.inference.sample_specs import SampleSpec, build_spec
from frisket.runs.sampling.sampler import attach_loras

PROMPT = "a red fox on a stone wall"
PHRASES = {PROMPT: ((1,), (2, 3))}
QUICK = [("pocket", "image", True), ("wan", "2.1-t2v-1.3b", True), ("flux", "dev", True)]
SLOW = [
    ("pocket", "video", True),
    ("stable_diffusion", "sdxl", True),
    ("z_image", "turbo", False),
]
CASES = [*QUICK, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW)]
# Rows that stand for no cell: Z-Image pads the eight of this picture to 32.
PADDING = {"turbo": 24}
Fused = tuple[Family, Parts, list[Factors], SampleSpec, bool]


def write_loras(family: Family, parts: Parts, folder: Path) -> list[tuple[Path, float]]:
    files, denoiser = [], parts.denoiser
    assert denoiser is not None
    targets, dead = default_targets(family, parts.variant)
    for seed in (1, 2):
        spec = lora.LoraSpec(rank=2, targets=targets, dead=dead)
        lora.attach(denoiser, spec, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        for value in lora.trainable(denoiser).values():
            value.data += 0.2 * torch.randn(value.shape, generator=generator)
        path = folder / f"lora{seed}.safetensors"
        lora.save(denoiser, path, {}, prefix=family.lora_prefix)
        lora.detach(denoiser)
        files.append((path, 1.0))
    return files


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]} {case[1]}")
def fused(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Fused:
    name, variant, biased = request.param
    family = FAMILIES.load(name)
    parts = family.tiny(variant)
    files = write_loras(family, parts, tmp_path_factory.mktemp("loras"))
    factors = attach_loras(family, parts, files, routed=True)
    card = family.variants[variant]
    side, frames = 2 * card.grid.step, 1 + card.grid.temporal if card.video else 1
    spec = build_spec(
        card, PROMPT, 3, height=side, width=2 * side, frames=frames, steps=3, guidance=2.0
    )
    return family, parts, [own for own in factors if own is not None], spec, biased


def draw(family: Family, parts: Parts, spec: SampleSpec, method: FreeFuse | None = None) -> Tensor:
    embeddings = embed(family, parts.variant, parts.text, [spec])
    return next(iter(clips(family, parts, embeddings, [spec], method=method)))[1]


def count_hooks(denoiser: nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in denoiser.modules()
    )


def test_each_lora_is_confined_and_the_pipeline_left_as_it_was(fused: Any) -> None:
    family, parts, factors, spec, biased = fused
    options = FuseOptions(step=2, bias=Bias() if biased else None)
    make = (family, parts.denoiser, factors, ("one", "two"), PHRASES, None, options)
    plain = draw(family, parts, spec)
    started: list[Tensor] = []

    def keep(_: nn.Module, args: Any, kwargs: Any) -> None:
        state = next(value for value in (*args, *kwargs.values()) if value is not None)
        started.append(state[0] if isinstance(state, list) else state)

    before = count_hooks(parts.denoiser)
    models = list(experts_of(parts.denoiser).values())
    handles = [model.register_forward_pre_hook(keep, with_kwargs=True) for model in models]
    fuse = FreeFuse(*make)
    mixed = draw(family, parts, spec, fuse)
    for handle in handles:
        handle.remove()
    masks = fuse.masks[spec]
    assert masks.shape[0] == 2
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    assert masks.sum(0).max() <= 1
    assert torch.isfinite(mixed).all()
    assert not torch.equal(mixed, plain)
    calls = len(started) // 5  # two steps of the first phase, three of the second
    assert len(started) % 5 == 0
    assert torch.equal(started[0], started[2 * calls])
    assert count_hooks(parts.denoiser) == before
    assert all(own.idle for own in factors)
    assert torch.equal(draw(family, parts, spec), plain)


def test_masks_of_ones_are_the_plain_sum_bit_for_bit(
    fused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all words too: on the text two LoRAs are kept apart by words, not by masks."""
    family, parts, factors, spec, _ = fused
    options = FuseOptions(step=1)
    fuse = FreeFuse(family, parts.denoiser, factors, ("one", "two"), PHRASES, None, options)
    find = FreeFuse._find_masks

    def find_everywhere(*args: Any) -> Any:
        masks, shapes = find(*args)
        return torch.ones_like(masks), shapes

    monkeypatch.setattr(FreeFuse, "_find_masks", find_everywhere)
    monkeypatch.setattr(method, "silence_others", lambda rows, _: torch.ones(len(rows), 1))
    assert torch.equal(draw(family, parts, spec, fuse), draw(family, parts, spec))


@torch.no_grad()
def test_inside_one_mask_nothing_depends_on_the_other_lora(fused: Any) -> None:
    """Of every module: rows of the first LoRA's cells do not move when the second one changes."""
    family, parts, factors, spec, _ = fused
    cells = family.variants[parts.variant].grid.cells(spec.frames, spec.height, spec.width)
    left = torch.zeros(1, 1, *cells)
    left[..., : cells[2] // 2] = 1
    outputs: list[dict[str, Tensor]] = []

    def observe(name: str, base: Tensor, update: Tensor) -> None:
        outputs[-1][name] = update

    factors[0].space, factors[1].space, factors[1].observer = left, 1 - left, observe
    outputs.append({})
    draw(family, parts, replace(spec, steps=1))
    factors[0].space = factors[1].space = factors[1].observer = None
    find, seen = family.streams.find, 0
    for name, update in outputs[0].items():
        if find(name) != "image":
            continue
        # Rows or cells: half of them (of one column a half is a mean, not 0).
        quiet = (update.flatten(2).abs().sum(1) if update.ndim > 3 else update.abs().sum(-1)) == 0
        count = quiet.numel() - PADDING.get(parts.variant, 0)
        seen += bool(update.any()) and int(quiet.sum()) * 2 == count
    assert seen > 3
