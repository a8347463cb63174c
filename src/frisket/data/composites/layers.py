"""Composites of latents on the cell grid, and the coverage of what stays visible in them."""

import torch
from jaxtyping import Float
from torch import Tensor

from frisket.shapes import CellPlanes, Planes

# Other axes than the clip's: checked by hand, the errors name the sizes.
Ground = Float[Tensor, "cg fg hg wg"]
Keep = Float[Tensor, "1 fk hk wk"]


def lay_latents(
    ground: Ground, clip: Float[Tensor, "c f h w"], keep: Keep
) -> Float[Tensor, "c f h w"]:
    """Lay a clip's latents over those of a background: z = k z_clip + (1 - k) z_ground.

    `keep` (1 f h w) is the share of each cell that stays the clip's, in [0, 1]. Computed in float32
    and handed back in the clip's dtype; cells of keep 1 are the clip's and cells of keep 0 the
    ground's, bit for bit. ValueError where shapes differ.

    Exact where a VAE's cells see their own pixels alone and every cell is kept whole or not at all
    (the pocket VAE under a mask that follows its cells). A convolutional VAE sees beyond its cells,
    so that cells near the seam are those of neither picture: docs/background-swap-and-mixes.md has
    numbers.
    """
    if ground.shape != clip.shape or keep.shape != (1, *clip.shape[1:]):
        raise ValueError(
            f"composite: latents of {tuple(clip.shape)} over {tuple(ground.shape)} under a plane of"
            f" {tuple(keep.shape)} cells; all three must have the same f h w"
        )
    share = keep.float()
    return (share * clip.float() + (1 - share) * ground.float()).to(clip.dtype)


def cover_latents(
    lower: CellPlanes, upper: CellPlanes, keep: Float[Tensor, "1 f h w"]
) -> CellPlanes:
    """Coverage k f h w after regions `upper` were laid over `lower` under `keep` (1 f h w).

    What is below shows through what is not kept; what is above shows as far as it is kept. If each
    of both sums to at most 1 over the regions, so does the result.
    """
    return lower * (1 - keep) + limit_to(upper, keep)


def limit_to(planes: Planes, keep: Float[Tensor, "1 F H W"]) -> Planes:
    """Planes of several regions (k F H W), scaled where their sum is above `keep` (1 F H W)."""
    total = planes.sum(0, keepdim=True)
    return planes * torch.where(total > keep, keep / total.clamp_min(1e-12), 1.0)


def shift_cells(cells: Float[Tensor, "n f h w"], down: int, right: int) -> Float[Tensor, "n f h w"]:
    """Move whole cells `down` and `right` (negative: up, left); zeros come in at the border."""
    height, width = cells.shape[2:]
    result = torch.zeros_like(cells)
    if abs(down) < height and abs(right) < width:
        to_rows = slice(max(down, 0), height + min(down, 0))
        to_columns = slice(max(right, 0), width + min(right, 0))
        from_rows = slice(max(-down, 0), height - max(down, 0))
        from_columns = slice(max(-right, 0), width - max(right, 0))
        result[:, :, to_rows, to_columns] = cells[:, :, from_rows, from_columns]
    return result
