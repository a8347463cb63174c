"""Streams of transformers that are handed latents b c f h w: Wan, HunyuanVideo, SD3, Z-Image."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn

from frisket.families.shared.streams.packed import TWO_STREAMS
from frisket.families.streams import (
    DenoiserCall,
    NameTable,
    Rows,
    Stream,
    bind_call,
    expand_t,
    find_rows,
)

WAN: tuple[tuple[str, Stream], ...] = (
    (r"^condition_embedder\.(time|image)_|\.attn2\.add_[kv]_proj$", "apart"),
    (r"^condition_embedder\.text_embedder\.|\.attn2\.to_[kv]$", "text"),
    (r"^(patch_embedding|proj_out)$|^blocks\.", "image"),
)
SD3: tuple[tuple[str, Stream], ...] = (
    (r"^time_|\.norm\d?(_context)?\.linear$|^norm_out\.", "apart"),
    (r"^context_embedder$", "text"),
    (r"^(pos_embed\.proj|proj_out)$", "image"),
    *TWO_STREAMS,
)
HUNYUAN: tuple[tuple[str, Stream], ...] = (
    (r"^(time|image|context_embedder_2)\w*\b|time_text_embed|norm\w*\.linear$", "apart"),
    (r"^context_embedder\.", "prompt"),
    (r"^(x_embedder\.proj|proj_out)$", "image"),
    *TWO_STREAMS,
    (r"^single_transformer_blocks\.", "joint"),
)
Z_IMAGE: tuple[tuple[str, Stream], ...] = (
    (r"^t_embedder\.|adaLN_modulation", "apart"),
    (r"^(all_x_embedder|cap_embedder)\.", "flat"),
    (r"^noise_refiner\.", "image"),
    (r"^context_refiner\.", "text"),
    (r"^(layers|all_final_layer)\.", "joint"),
)
MULTIPLE = 32  # to which Z-Image pads picture and text


@dataclass(frozen=True, slots=True)
class WanStreams(NameTable):
    """Of Wan, told t * 1000, one a sample or one a token; text comes in by cross-attention."""

    table: tuple[tuple[str, Stream], ...] = WAN

    def read(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> DenoiserCall:
        """What a call is about."""
        call = bind_call(model, args, kwargs)
        config: Any = model.config
        return _read_planes(call, tuple(config.patch_size))


@dataclass(frozen=True, slots=True)
class Sd3Streams(NameTable):
    """Of Stable Diffusion 3.5, told t * 1000: two streams all along."""

    table: tuple[tuple[str, Stream], ...] = SD3

    def read(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> DenoiserCall:
        """What a call is about."""
        call = bind_call(model, args, kwargs)
        config: Any = model.config
        return _read_planes(call, (1, config.patch_size, config.patch_size))


@dataclass(frozen=True, slots=True)
class HunyuanStreams(NameTable):
    """Of HunyuanVideo (single blocks see [image | text]) and 1.5, told t * 1000.

    1.5 puts tokens of an image encoder and of glyphs before the text's, and padding last.
    """

    table: tuple[tuple[str, Stream], ...] = HUNYUAN

    def read(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> DenoiserCall:
        """What a call is about."""
        call = bind_call(model, args, kwargs)
        config: Any = model.config
        patch = (config.patch_size_t, config.patch_size, config.patch_size)
        order = None
        if "encoder_hidden_states_2" in call:
            order = order_text(
                call["encoder_attention_mask"],
                call["encoder_attention_mask_2"],
                call["image_embeds"],
            )
        return _read_planes(call, patch, order)


@dataclass(frozen=True, slots=True)
class ZImageStreams(NameTable):
    """Of Z-Image, told 1 - t: one sequence [image | text], each padded to a multiple of 32."""

    table: tuple[tuple[str, Stream], ...] = Z_IMAGE

    def read(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> DenoiserCall:
        """What a call is about; ValueError for pictures of several sizes in one batch."""
        call = bind_call(model, args, kwargs)
        pictures, texts = call["x"], call["cap_feats"]
        if len({tuple(value.shape) for value in pictures}) != 1:
            raise ValueError("Z-Image: a batch of pictures of several sizes has no one grid")
        f, h, w = pictures[0].shape[-3:]
        deep, side = call["f_patch_size"], call["patch_size"]
        grid = (f // deep, h // side, w // side)
        picture = Rows("image", prod(grid), grid)
        padding = _pad(picture.count) - picture.count
        image = (picture, Rows("padding", padding)) if padding else (picture,)
        words = (Rows("text", max(_pad(len(text)) for text in texts)),)
        return DenoiserCall(
            t=expand_t(1 - call["t"].detach().float(), len(pictures), 1.0),
            cells=(f, h, w),
            text=texts,
            sequences={"image": image, "text": words, "joint": (*image, *words)},
            rows=find_rows(),
        )


def order_text(
    text_mask: Shaped[Tensor, "b s"], glyphs_mask: Shaped[Tensor, "b g"], image: Tensor
) -> Int[Tensor, "b n"]:
    """Where each row of HunyuanVideo 1.5's text stream comes from on the text axis; -1: nowhere.

    The model puts what is there first (image, glyphs, text) and then what is not, in that order.
    """
    count, length = text_mask.shape
    is_image_shown = bool(image.numel()) and not bool((image == 0).all())
    image_flags = torch.full((count, image.shape[1]), is_image_shown, device=text_mask.device)
    present = torch.cat([image_flags, glyphs_mask.bool(), text_mask.bool()], dim=1)
    places = torch.arange(length, device=text_mask.device).expand(count, -1)
    none = -torch.ones_like(present[:, :-length], dtype=places.dtype)
    all_places = torch.cat([none, places], dim=1)
    return all_places.gather(1, torch.sort(~present, dim=1, stable=True).indices)


def _read_planes(
    call: Mapping[str, Any], patch: tuple[int, int, int], order: Tensor | None = None
) -> DenoiserCall:
    states, text = call["hidden_states"], call["encoder_hidden_states"]
    cells = (1, *states.shape[2:]) if states.ndim == 4 else tuple(states.shape[2:])
    grid = tuple(side // size for side, size in zip(cells, patch, strict=True))
    image = (Rows("image", prod(grid), grid),)
    length = text.shape[1] if order is None else order.shape[1]
    words = (Rows("text", length),)
    return DenoiserCall(
        t=expand_t(call["timestep"], len(states)).to(states.device),
        cells=cells,
        text=text,
        sequences={
            "image": image,
            "text": words,
            "prompt": (Rows("text", text.shape[1]),),
            "joint": (*image, *words),
        },
        order=order,
        rows=find_rows(),
    )


def _pad(count: int) -> int:
    return count + -count % MULTIPLE
