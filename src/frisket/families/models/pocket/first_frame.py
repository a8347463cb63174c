"""What the pocket family's image-to-video model is shown of a clip: mask and clean latents."""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from frisket.families.base import Conditioning
from frisket.families.models.pocket.unet import TEMPORAL
from frisket.families.shared.first_frames import KEPT, replace_method, require_condition
from frisket.families.shared.pocket.vae import PocketVae
from frisket.shapes import Clip

SPATIAL = 2  # pixels a cell has on a side

ShownPixels = Float[Tensor, "b 1 F H W"]  # 1 = shown, 0 = grey, which is 0


class FirstFrameVision(nn.Module):
    """Says that a variant sees the first frame, through the VAE alone; has no weights."""


def show_clip(clip: Clip, visible: ShownPixels) -> Conditioning:
    """`condition` b 52 f h w: four mask channels (1 = kept) over the latents of what is shown.

    Wan 2.1's in small: channel j of latent frame i > 0 is pixel frame 1 + 4 (i - 1) + j, latent
    frame 0 says frame 0 four times, and a cell is kept where all of its pixels are.
    """
    kept_clip = torch.where(
        visible > 0, clip, torch.zeros((), dtype=clip.dtype, device=clip.device)
    )
    latents = PocketVae(TEMPORAL).encode(kept_clip)
    cells = functional.pixel_unshuffle(visible.transpose(1, 2), SPATIAL).amin(2)  # b F h w
    spread = torch.cat([cells[:, :1].repeat(1, TEMPORAL, 1, 1), cells[:, 1:]], dim=1)
    mask = spread.unflatten(1, (-1, TEMPORAL)).transpose(1, 2)
    return {"condition": torch.cat([mask.to(latents), latents], dim=1)}


def mark_visible(clip: Clip, keep: Tensor | None) -> ShownPixels:
    """Which pixels are shown: the whole first frame, and those of `keep` (F H W).

    Of a still (F = 1) only those of `keep`: its first frame would be all there is to learn.
    ValueError where `keep` is of another size.
    """
    visible = torch.zeros_like(clip[:, :1])
    if keep is not None:
        if keep.shape != clip.shape[2:]:
            raise ValueError(
                f"keep is {tuple(keep.shape)} (F H W), its clip is {tuple(clip.shape[2:])}"
            )
        visible[:] = (keep > KEPT).to(visible)
    if clip.shape[2] > 1:
        visible[:, :, 0] = 1
    return visible


def read_frame(image: Any, height: int, width: int) -> Float[Tensor, "1 3 1 H W"]:
    """A PIL picture of the size of the clip, in [-1, 1]; another size is resized (bicubic)."""
    picture: Image.Image = image.convert("RGB")
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()
    return (pixels / 127.5 - 1)[None, :, None]


def hold_condition(pipeline: Any, conditioning: Conditioning) -> AbstractContextManager[None]:
    """Inside, PocketPipeline samples under a condition in place of its first frame's.

    ValueError for the conditioning of a text-to-video model.
    """
    require_condition(conditioning, ("condition",))

    def show(prepared: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        noise, stock = prepared
        return noise, conditioning["condition"].to(stock).expand_as(stock)

    return replace_method(pipeline, "prepare_latents", show)
