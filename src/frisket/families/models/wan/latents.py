"""Wan's latents: pixels there and back, and what its image-to-video models see of a clip."""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
import transformers
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from frisket.families.base import CLEAN_MASK, Conditioning, References
from frisket.families.defaults import TextBundle
from frisket.families.models.wan.model_cards import GRID, GRIDS
from frisket.families.shared.first_frames import (
    KEPT,
    lay_first,
    mark_whole,
    replace_method,
    require_condition,
)
from frisket.grid import LatentGrid
from frisket.shapes import Clip, Latents, PerSample, Plane

SCALE = 1000  # a Wan transformer is told t * 1000

Visible = Float[Tensor, "b 1 F H W"]  # 1 = shown, 0 = painted grey


class Vision(TextBundle):
    """What a first-frame variant looks with: `image_encoder` and `image_processor`, or nothing.

    2.1 has a CLIP for the first frame, 2.2 sees it through its VAE alone. That it is there says
    that the variant sees the first frame at all: `image_conditioning` is not told the variant.
    """


def clip_processor() -> Any:
    """CLIP's image processor over PIL: the other one of transformers 5 wants torchvision."""
    return getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor


def grid_of(vae: nn.Module) -> LatentGrid:
    """The latent grid a VAE makes."""
    config: Any = vae.config
    return GRIDS.get(config.z_dim, GRID)


@torch.no_grad()
def encode(vae: nn.Module, clip: Clip) -> Latents:
    """Posterior mode, then (z - latents_mean) * (1 / latents_std) per channel; float32.

    Bit for bit what prepare_latents of diffusers' Wan pipelines makes. One latent frame from the
    first frame, one from every four frames after it.
    """
    grid_of(vae).cells(*clip.shape[2:])
    weight = next(vae.parameters())
    wan: Any = vae
    posterior = wan.encode(clip.to(weight.device, weight.dtype)).latent_dist
    mode = posterior.mode().float()
    mean, std = _statistics(vae, mode.device)  # a VAE that only visits the device answers from it
    normal: Tensor = (mode - mean) * (1.0 / std)
    return normal


def decode(vae: nn.Module, latents: Latents) -> Clip:
    """The inverse of `encode`, clamped to [-1, 1], float32."""
    weight = next(vae.parameters())
    mean, std = _statistics(vae, weight.device)
    raw = latents.to(weight.device).float() / (1.0 / std) + mean
    wan: Any = vae
    clip: Tensor = wan.decode(raw.to(weight.dtype), return_dict=False)[0].float()
    return clip


def _statistics(vae: nn.Module, device: torch.device) -> tuple[Tensor, Tensor]:
    config: Any = vae.config
    view = (1, -1, 1, 1, 1)
    mean = torch.tensor(config.latents_mean, device=device).view(view)
    return mean, torch.tensor(config.latents_std, device=device).view(view)


def image_conditioning(
    vae: nn.Module,
    vision: Vision,
    clip: Clip,
    keep: Plane | None,
    references: References = (),
) -> Conditioning:
    """What WanImageToVideoPipeline makes of the first frame, bit for bit.

    16-channel models: `condition` b 20 f h w, four mask channels (1 = kept) over the latents of the
    shown pixels, and `vision` b n d of the first frame where there is an image encoder. 48-channel
    models: see `_hand_over`. A reference is the first frame in place of the clip's own; the image
    encoder sees it whole, of a still too, as LoRA-Edit's does (cjeen/LoRAEdit).
    ValueError where `keep` is of another size.
    """
    clip = lay_first(clip, references)
    if grid_of(vae) is not GRID:
        return _hand_over(vae, clip, keep)
    visible = visible_in(clip, keep)
    shown = torch.where(visible > 0, clip, torch.zeros((), dtype=clip.dtype, device=clip.device))
    latents = encode(vae, shown)
    mask = mask_channels(visible).to(latents)
    conditioning = {"condition": torch.cat([mask, latents], dim=1)}
    if vision.names:
        first_frames = (clip if references else shown)[:, :, 0]
        conditioning["vision"] = torch.cat([_embed_frame(vision, frame) for frame in first_frames])
    return conditioning


def hold_condition(pipeline: Any, conditioning: Conditioning) -> AbstractContextManager[None]:
    """Inside, WanImageToVideoPipeline samples under a condition in place of its first frame's.

    Its `prepare_latents` gives noise and condition, or noise, clean latents and where not to use
    them (TI2V-5B); all but the noise is replaced.
    """
    if pipeline.config.expand_timesteps:
        require_condition(conditioning, (CLEAN_MASK, "clean"))

        def hand_over(prepared: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            noise, stock, free = prepared
            clean = conditioning["clean"].to(stock).expand(len(noise), -1, len(free[0, 0]), -1, -1)
            return noise, clean, 1 - conditioning[CLEAN_MASK].to(free)

        return replace_method(pipeline, "prepare_latents", hand_over)
    require_condition(conditioning, ("condition",))

    def show(prepared: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        noise, stock = prepared
        return noise, conditioning["condition"].to(stock).expand_as(stock)

    return replace_method(pipeline, "prepare_latents", show)


def visible_in(clip: Clip, keep: Tensor | None) -> Visible:
    """Which pixels an I2V model is shown: the whole first frame, and those of `keep` (F H W).

    A still (F = 1) has no first frame to go on from: showing it whole would show all there is to
    learn, so nothing of it is shown but what `keep` asks for.
    """
    frames, height, width = clip.shape[2:]
    visible = clip.new_zeros(len(clip), 1, frames, height, width)
    if keep is not None:
        _check_keep(keep, clip)
        visible[:] = (keep > KEPT).to(visible)
    if frames > 1:
        visible[:, :, 0] = 1
    return visible


def mask_channels(visible: Visible) -> Float[Tensor, "b 4 f h w"]:
    """Shown pixels on the latent grid as the I2V models read them: 1 where a cell is wholly shown.

    Channel j of latent frame i is pixel frame 1 + 4 (i - 1) + j; latent frame 0 says frame 0 four
    times.
    """
    frames, height, width = GRID.cells(*visible.shape[2:])
    rows = visible.unflatten(3, (height, GRID.spatial)).amin(4)
    cells = rows.unflatten(4, (width, GRID.spatial)).amin(5)
    head = cells[:, :, :1].repeat_interleave(GRID.temporal, dim=2)
    spread = torch.cat([head, cells[:, :, 1:]], dim=2)
    return spread[:, 0].unflatten(1, (frames, GRID.temporal)).transpose(1, 2)


def _check_keep(keep: Tensor, clip: Clip) -> None:
    if keep.shape != clip.shape[2:]:
        raise ValueError(
            f"keep is {tuple(keep.shape)} (F H W), its clip is {tuple(clip.shape[2:])}"
        )


def _hand_over(vae: nn.Module, clip: Clip, keep: Plane | None) -> Conditioning:
    """`CLEAN_MASK` b 1 f h w, and the clean latents that are handed over there, `clean`.

    Without `keep` that is latent frame 0 (`clean` b 48 1 h w); of a still nothing is given (see
    `visible_in`). With it also every token (2 x 2 cells) all of whose pixels are kept, in all its
    frames, for a token has one noise level: `clean` is then b 48 f h w, the whole clip's. Released
    TI2V-5B was taught frame 0 alone; tokens within a frame are ours.
    """
    grid = grid_of(vae)
    frames, height, width = grid.cells(*clip.shape[2:])
    clean = encode(vae, clip if keep is not None else clip[:, :, :1])
    mask = clean.new_zeros(len(clip), 1, frames, height, width)
    if keep is not None:
        _check_keep(keep, clip)
        tokens = mark_whole(keep.to(clean.device), grid.step, grid.temporal)
        spread = tokens.repeat_interleave(grid.patch, 1).repeat_interleave(grid.patch, 2)
        mask[:] = spread
    if frames > 1:
        mask[:, :, :1] = 1
    return {CLEAN_MASK: mask, "clean": clean}


@torch.no_grad()
def _embed_frame(vision: Vision, frame: Float[Tensor, "3 H W"]) -> Float[Tensor, "1 n d"]:
    """As WanImageToVideoPipeline.encode_image: the image encoder's last hidden layer but one."""
    levels = ((frame.float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    picture = Image.fromarray(np.ascontiguousarray(levels.permute(1, 2, 0).numpy()))
    weight = next(vision.parameters())
    processor: Any = vision.image_processor
    encoder: Any = vision.image_encoder
    pixels = processor(images=picture, return_tensors="pt").to(weight.device)
    hidden: Tensor = encoder(**pixels, output_hidden_states=True).hidden_states[-2]
    return hidden.float()


def build_inputs(noisy: Latents, t: PerSample, conditioning: Conditioning) -> tuple[Tensor, Tensor]:
    """Hidden states and timesteps (float32, t * 1000) as the pipelines hand them over.

    Given cells are clean whatever `noisy` holds there, and their tokens are told t = 0: timesteps
    are then b tokens, one for each 2 x 2 cells, else b. (WanPipeline spells the same level out for
    every token of a 48-channel model; one a sample predicts the same and keeps gigabytes of time
    embeddings out of memory.)
    """
    levels = t.to(noisy.device, torch.float32) * SCALE
    if "condition" in conditioning:
        return torch.cat([noisy, conditioning["condition"].to(noisy.device)], dim=1), levels
    if CLEAN_MASK not in conditioning:
        return noisy, levels
    mask = conditioning[CLEAN_MASK].to(noisy.device)
    mixed = torch.where(mask > 0, conditioning["clean"].to(noisy), noisy)
    patch = GRIDS[noisy.shape[1]].patch
    tokens = (1 - mask.float())[:, 0, :, ::patch, ::patch].flatten(1)
    return mixed, tokens * levels[:, None]
