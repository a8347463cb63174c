"""What HunyuanVideo-1.5's image-to-video models are shown of a clip, in training and sampling."""

from contextlib import AbstractContextManager
from typing import Any

import diffusers
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from frisket.families.base import Conditioning
from frisket.families.defaults import TextBundle
from frisket.families.models.hunyuan_video.version_15 import GRID
from frisket.families.shared.first_frames import (
    KEPT,
    mark_whole,
    replace_method,
    require_condition,
)
from frisket.shapes import Clip, Plane


def show_clip(
    vision: nn.Module,
    latents: Tensor,
    clip: Clip,
    keep: Plane | None,
    *,
    is_reference: bool = False,
) -> Conditioning:
    """`seen` 1 33 f h w (clean latents, then where they are) and `image` 1 N d (Siglip's tokens).

    `latents` are those of `cut_visible`. Without `keep` that is the first frame alone,
    as in HunyuanVideo15ImageToVideoPipeline; with it also the cells all of whose pixels are
    kept. A still is shown nothing but these and is trained as text to video, which the model does
    too: its first frame would be all there is to learn; `is_reference` is for one that is a
    reference picture, which the image encoder sees whole. There is no `CLEAN_MASK`: the model
    denoises the shown cells along with the rest when it samples, so it has to keep being taught
    there.
    """
    assert isinstance(vision, TextBundle)
    cells = GRID.cells(*clip.shape[2:])
    moving = cells[0] > 1
    places = torch.zeros(1, 1, *cells, device=latents.device)
    if keep is not None:
        places[0, 0] = mark_whole(keep.to(latents.device), GRID.spatial, GRID.temporal)
    if moving:
        places[:, :, 0] = 1
    clean = functional.pad(latents, (0, 0, 0, 0, 0, cells[0] - latents.shape[2])) * places
    frame = ((clip[0, :, 0].float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    picture = Image.fromarray(frame.permute(1, 2, 0).cpu().numpy())
    stock = diffusers.HunyuanVideo15ImageToVideoPipeline
    device = next(vision.parameters()).device
    tokens: Tensor = stock._get_image_embeds(
        vision.image_encoder, vision.feature_extractor, picture, device
    )
    return {"seen": torch.cat([clean, places], 1), "image": tokens * float(moving or is_reference)}


def cut_visible(clip: Clip, keep: Plane | None) -> Tensor:
    """1 3 F' H W: what an image-to-video model is shown: the first frame, and what `keep` keeps."""
    if keep is None:
        return clip[:, :, :1]
    visible = (keep > KEPT).to(clip)
    if clip.shape[2] > 1:
        visible[0] = 1
    return clip * visible


def hold_condition(pipeline: Any, conditioning: Conditioning) -> AbstractContextManager[None]:
    """Inside, the pipeline's latents to go on from, and where they are, are those of `seen`.

    Siglip's tokens stay those of the pipeline's own picture.
    """
    require_condition(conditioning, ("seen",))
    clean, places = conditioning["seen"].split((GRID.channels, 1), 1)

    def show(prepared: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        latents, mask = prepared
        return clean.to(latents).expand_as(latents), places.to(mask).expand_as(mask)

    return replace_method(pipeline, "prepare_cond_latents_and_mask", show)
