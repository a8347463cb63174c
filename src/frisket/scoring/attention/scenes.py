"""Clips as scenes that phrases are read in, and the base and tuned model read one after another."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from frisket.adapters.lora import frozen
from frisket.attention.base import Positions
from frisket.data.sample import Batch
from frisket.families.base import Family, Parts
from frisket.masks.weights import BACKGROUND
from frisket.progress import Progress
from frisket.scoring.attention.phrases import RegionPhrase
from frisket.scoring.attention.reading import (
    BASE,
    TUNED,
    AttentionReading,
    ModelReading,
    WordScene,
    read_model,
)
from frisket.scoring.runner import move_to_device


def build_scenes(
    batches: Sequence[tuple[Batch, str]],
    located: Mapping[str, tuple[Positions, ...]],
    regions: Sequence[str],
) -> list[WordScene]:
    """Clips (one a batch, with its caption) as they are looked at, each under a name of its own.

    A clip without a mask has no coverage; the region `background` is what no other covers.
    """
    scenes: dict[str, WordScene] = {}
    for batch, caption in batches:
        coverage = {}
        if bool(batch.masked[0]):
            planes = batch.coverage[0].float()
            coverage = dict(zip(regions, planes, strict=True))
            coverage[BACKGROUND] = (1 - planes.sum(0)).clamp(0, 1)
        name = batch.names[0]
        if name in scenes:  # of another folder
            name = f"{name} ({len(scenes) + 1})"
        scenes[name] = WordScene(
            name, caption, located[caption], batch.latents, batch.conditioning, coverage
        )
    return list(scenes.values())


@torch.no_grad()
def decode_scenes(
    family: Family, parts: Parts, scenes: Sequence[WordScene], device: torch.device
) -> list[WordScene]:
    """The scenes with their pixels, as the VAE gives them back."""
    assert parts.vae is not None
    decoded = []
    with move_to_device(parts.vae, device):
        for scene in scenes:
            assert scene.latents is not None
            clip = family.decode(parts.vae, scene.latents.to(device))[0].float().cpu()
            frames = clip.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
            decoded.append(replace(scene, frames=frames.permute(1, 2, 3, 0).contiguous()))
    return decoded


def list_models(
    denoiser: nn.Module, *, tuned: bool
) -> list[tuple[str, AbstractContextManager[None]]]:
    """Each model by name, and what makes the denoiser be it."""
    base = (BASE, frozen(denoiser))
    return [base, (TUNED, nullcontext())] if tuned else [base]


def read_scenes(
    family: Family,
    parts: Parts,
    scenes: Sequence[WordScene],
    reading: AttentionReading,
    phrases: Sequence[RegionPhrase],
    progress: Progress,
    *,
    tuned: bool,
) -> list[ModelReading]:
    """What the base attends to in every clip, and, where it is `tuned`, the model as it is."""
    assert parts.denoiser is not None
    parts.denoiser.eval()
    readings = []
    for model, state in list_models(parts.denoiser, tuned=tuned):
        report = partial(progress, f"attention of the {model} model")
        with state:
            readings.append(
                read_model(
                    family,
                    parts.variant,
                    parts.denoiser,
                    scenes,
                    reading,
                    phrases,
                    model=model,
                    report=report,
                )
            )
    return readings
