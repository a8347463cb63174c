"""What UniID and FastFace are compared on: a small SDXL, weights drawn by their names.

Drawn by numpy's RandomState, whose stream is frozen, so that the authors' modules and ours can be
filled apart and hold the same numbers.
"""

import zlib
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from frisket.families.base import FAMILIES, Family, Parts
from frisket.inference.methods.base import Method
from frisket.inference.sample_specs import SampleSpec, build_spec

WIDTH, HALF, POOLED, LENGTH = 128, 64, 16, 77
STEPS, GUIDANCE, SIDE = 4, 3.0, 128
TOKENS = 3  # of the face in the prompt
STAGES = (64, 128, 256, 512)  # of the recognition network, one block each


def draw(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape)).float()


def fill(module: nn.Module, start: str = "") -> None:
    """Every parameter from its name; counters and running statistics stay as they are."""
    with torch.no_grad():
        for name, value in module.named_parameters():
            value.copy_(draw_named(start + name, value))


def draw_named(name: str, value: Tensor) -> Tensor:
    numbers = draw(zlib.crc32(name.encode()) % 2**31, *value.shape)
    if value.ndim > 1:
        return numbers * value[0].numel() ** -0.5
    return numbers * 0.1 if name.endswith("bias") else 1 + numbers * 0.1


def build_parts() -> tuple[Family, Parts]:
    """SDXL's blocks with 8 or 16 channels, and a text of two encoders of 64."""
    family = FAMILIES.load("stable_diffusion")
    parts = family.tiny("sdxl")
    config: Any = parts.denoiser.config  # type: ignore[union-attr]
    torch.manual_seed(0)
    model: Any = UNet2DConditionModel.from_config({**config, "cross_attention_dim": WIDTH})
    fill(model)
    return family, replace(parts, denoiser=model.eval().requires_grad_(False))


def draw_call(count: int = 1) -> dict[str, Any]:
    """What the pipeline is called with; latents as it asks for them."""
    return {
        "prompt_embeds": draw(1, count, LENGTH, WIDTH),
        "negative_prompt_embeds": draw(2, 1, LENGTH, WIDTH).expand(count, -1, -1),
        "pooled_prompt_embeds": draw(3, count, POOLED),
        "negative_pooled_prompt_embeds": draw(4, 1, POOLED).expand(count, -1),
        "latents": draw(5, count, 4, SIDE // 8, SIDE // 8),
        "guidance_scale": GUIDANCE,
        "num_inference_steps": STEPS,
        "height": SIDE,
        "width": SIDE,
        "output_type": "latent",
    }


def build_specs(family: Family, count: int = 1) -> list[SampleSpec]:
    card = family.variants["sdxl"]
    size = {"height": SIDE, "width": SIDE, "steps": STEPS, "guidance": GUIDANCE}
    return [build_spec(card, f"prompt {index}", index, **size) for index in range(count)]  # type: ignore[arg-type]


def draw_crop(seed: int = 6) -> Tensor:
    """An aligned face as the network sees it, b 3 112 112 in [-1, 1]."""
    small = draw(seed, 1, 3, 7, 7)
    return nn.functional.interpolate(small, size=(112, 112), mode="bilinear").tanh()


def sample(family: Family, parts: Parts, method: Method | None = None, count: int = 1) -> Tensor:
    """The final latents of the stock pipeline, by a method."""
    pipeline = family.pipeline(Parts("sdxl", parts.vae, None, parts.denoiser))
    pipeline.set_progress_bar_config(disable=True)
    specs, call = build_specs(family, count), partial(draw_call, count)
    attached = nullcontext() if method is None else method.attach(pipeline, call, specs)
    with torch.no_grad(), attached:
        latents: Tensor = pipeline(**call()).images
    return latents
