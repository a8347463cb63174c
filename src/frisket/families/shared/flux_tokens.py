"""Latents to the tokens of FLUX and back: 2 x 2 cells folded into channels, rows before columns."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from frisket.families.experts import first
from frisket.shapes import Latents

Tokens = Float[Tensor, "b n c"]
Folded = Float[Tensor, "b d f y x"]  # d = 4 c, y = h / 2, x = w / 2


def fold(latents: Latents) -> Folded:
    """Put each 2 x 2 block of cells into one cell: channel c becomes 4 c + 2 (row) + (column).

    FLUX.1 does this to its tokens (FluxPipeline._pack_latents), FLUX.2 to its latents
    (Flux2Pipeline._patchify_latents), in the same order.
    """
    b, c, f, h, w = latents.shape
    blocks = latents.reshape(b, c, f, h // 2, 2, w // 2, 2).permute(0, 1, 4, 6, 2, 3, 5)
    return blocks.reshape(b, 4 * c, f, h // 2, w // 2)


def unfold(folded: Folded) -> Latents:
    """The inverse of `fold`."""
    b, d, f, y, x = folded.shape
    blocks = folded.reshape(b, d // 4, 2, 2, f, y, x).permute(0, 1, 4, 5, 2, 6, 3)
    return blocks.reshape(b, d // 4, f, 2 * y, 2 * x)


def to_tokens(cells: Folded) -> Tokens:
    """One token a cell, row by row."""
    return cells.flatten(2).transpose(1, 2)


def from_tokens(tokens: Tokens, rows: int, columns: int) -> Folded:
    """The inverse of `to_tokens` for pictures (one frame)."""
    return tokens.transpose(1, 2).unflatten(2, (1, rows, columns))


def positions(rows: int, columns: int, axes: int, index: int = 0) -> Float[Tensor, "n axes"]:
    """Where the tokens of a picture sit: `index` of the picture, row, column, then zeros."""
    ids = torch.zeros(rows, columns, axes)
    ids[..., 0] = index
    ids[..., 1] = torch.arange(rows)[:, None]
    ids[..., 2] = torch.arange(columns)
    return ids.flatten(0, 1)


def precision(denoiser: nn.Module) -> torch.dtype:
    """What a FLUX transformer computes in: the norms' dtype, for linear layers may be quantised."""
    dtype: torch.dtype = first(denoiser).transformer_blocks[0].attn.norm_q.weight.dtype
    return dtype
