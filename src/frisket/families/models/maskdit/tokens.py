"""From latents to tokens and back, where each token is, and how removed ones come in again."""

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from frisket.shapes import Cells, Latents

PERIOD = 10_000.0  # the longest wave of a place or a noise level


def cut_patches(latents: Latents, patch: int) -> Float[Tensor, "b n d"]:
    """Squares of patch x patch cells as tokens, row by row, frame by frame: d = c patch^2."""
    tokens = latents.unfold(3, patch, patch).unfold(4, patch, patch)  # b c f h w p q
    return tokens.permute(0, 2, 3, 4, 1, 5, 6).flatten(4).flatten(1, 3)


def join_patches(tokens: Float[Tensor, "b n d"], grid: Cells, patch: int) -> Latents:
    """The inverse of `cut_patches` for a token grid f h w."""
    frames, height, width = grid
    cells = tokens.unflatten(2, (-1, patch, patch)).unflatten(1, grid)  # b f h w c p q
    cells = cells.permute(0, 4, 1, 2, 5, 3, 6)
    return cells.reshape(len(tokens), -1, frames, height * patch, width * patch)


def take_tokens(
    tokens: Float[Tensor, "_ n d"], kept_tokens: Int[Tensor, "_ k"] | None
) -> Float[Tensor, "_ m d"]:
    """The kept tokens in the order of `kept_tokens`; all where that is None."""
    if kept_tokens is None:
        return tokens
    batch = max(len(tokens), len(kept_tokens))
    index = kept_tokens.expand(batch, -1)[..., None].expand(-1, -1, tokens.shape[2])
    return tokens.expand(batch, -1, -1).gather(1, index)


def restore_tokens(
    tokens: Float[Tensor, "b k d"],
    kept_tokens: Int[Tensor, "_ k"] | None,
    mask_token: Float[Tensor, "1 1 d"],
    count: int,
) -> Float[Tensor, "b n d"]:
    """All `count` tokens in their order: the kept ones at their places, `mask_token` elsewhere."""
    if kept_tokens is None:
        return tokens
    full = mask_token.to(tokens.dtype).expand(len(tokens), count, -1)
    index = kept_tokens.expand(len(tokens), -1)[..., None].expand_as(tokens)
    return full.scatter(1, index, tokens)


def embed_places(grid: Cells, width: int, *, frames: bool) -> Float[Tensor, "1 n d"]:
    """Fixed sines and cosines of each token's column and row, half the width each.

    With `frames` a quarter of the width is of the frame, the rest as before. ValueError for a
    width that cannot be divided so.
    """
    if width % (16 if frames else 4):
        raise ValueError(f"a width of {width} is not a multiple of {16 if frames else 4}")
    return _embed_places(grid, width, frames)


@lru_cache(maxsize=64)
def _embed_places(grid: Cells, width: int, frames: bool) -> Tensor:
    f, h, w = (torch.arange(side, dtype=torch.float64) for side in grid)
    at_f, at_h, at_w = (axis.flatten() for axis in torch.meshgrid(f, h, w, indexing="ij"))
    time = width // 4 if frames else 0
    half = (width - time) // 2
    parts = [_embed_line(at_w, half), _embed_line(at_h, half)]
    parts += [_embed_line(at_f, time)] if frames else []
    return torch.cat(parts, dim=1).float()[None]


def _embed_line(places: Tensor, width: int) -> Tensor:
    """Sines, then cosines, of waves from 1 to `PERIOD` cells long over 2 pi."""
    waves = PERIOD ** (-torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angles = places[:, None] * waves
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def embed_level(level: Float[Tensor, "b"], width: int) -> Float[Tensor, "b d"]:
    """Cosines, then sines, of a noise level at `width` / 2 wave lengths; float32."""
    half = width // 2
    waves = PERIOD ** (-torch.arange(half, dtype=torch.float32, device=level.device) / half)
    angles = level.float()[:, None] * waves
    return torch.cat([angles.cos(), angles.sin()], dim=1)
