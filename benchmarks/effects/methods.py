"""How two adapters are put on one model and sampled together, one function a method."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.effects.one_subject import load_parts
from numpy.typing import NDArray

from frisket.families.base import FAMILIES, Parts
from frisket.inference.generate import generate
from frisket.pocket.pairs import WIDTH
from frisket.pocket.world import SIZE
from frisket.runs.sampler import attach_loras

SAMPLING_SEED = 3000
Pictures = NDArray[np.uint8]  # n 32 64 3


@dataclass(frozen=True, slots=True)
class Method:
    """The kind of adapter it fuses, what is set to train such, and how both are sampled."""

    kind: str
    settings: tuple[str, ...]
    sample: Callable[[Any, Sequence[Path], list[str]], Pictures]


def sample_wide(parts: Parts, prompts: list[str]) -> Pictures:
    """One wide picture a prompt, by the family's own pipeline."""
    family = FAMILIES.load("pocket")
    variant = family.variants[parts.variant]
    pictures = generate(
        family,
        parts,
        prompts,
        seeds=[SAMPLING_SEED + index for index in range(len(prompts))],
        height=SIZE,
        width=WIDTH,
        frames=1,
        steps=variant.steps,
        guidance=variant.guidance,
    )
    return np.stack([np.asarray(picture.frames[0]) for picture in pictures])


def sample_sum(config: Any, files: Sequence[Path], prompts: list[str]) -> Pictures:
    """Both at strength 1, one on the other."""
    return sample_wide(load_parts(config, tuple((file, 1.0) for file in files)), prompts)


def sample_regional(config: Any, files: Sequence[Path], prompts: list[str]) -> Pictures:
    """The first adapter acts on the left half, the second on the right half."""
    parts = load_parts(config, ())
    family = FAMILIES.load("pocket")
    every = attach_loras(family, parts, [(file, 1.0) for file in files], routed=True)
    grid = family.variants[parts.variant].grid
    cells = grid.cells(1, SIZE, WIDTH)
    left = torch.zeros(1, 1, *cells)
    left[..., : cells[2] // 2] = 1
    for factors, space in zip(every, (left, 1 - left), strict=True):
        factors.space = space
    return sample_wide(parts, prompts)


METHODS: Mapping[str, Method] = {
    "sum": Method("lora", (), sample_sum),
    "regional": Method("lora", (), sample_regional),
}
WAITING: Mapping[str, str] = {
    "freefuse": "FreeFuse is not in this checkout",
    "tara": "TARA is not in this checkout",
}
