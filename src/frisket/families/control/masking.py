"""Residuals confined to a region, or shared out of it, at the cells that each of them has."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from frisket.families.control.base import Residual, Residuals
from frisket.shapes import Cells

MaskSide = Literal["inside", "outside"]


def mask_residuals(residuals: Residuals, mask: Tensor, side: MaskSide = "inside") -> Residuals:
    """Residuals times the share of each cell that lies inside (or outside) a region.

    `mask` is b 1 f h w in [0, 1] on any grid, a row for each of the call's or one for all. A cell's
    factor is the mean of the mask over its area, and exactly 0 where that is 0; an all-ones mask
    changes no bit. Rows of a transformer's sequence that are no cell of the picture (a prompt's
    tokens, padding) have the mean over the whole grid (ours: no paper masks those).
    ValueError for a mask of other dimensions, and where a residual has fewer rows than it says.
    """
    if mask.ndim != 5 or mask.shape[1] != 1:
        raise ValueError(f"a mask of residuals is b 1 f h w, got {tuple(mask.shape)}")
    plane = mask[:, 0].detach().cpu().double().clamp(0, 1)
    plane = 1 - plane if side == "outside" else plane
    grids: dict[Cells, Tensor] = {}

    def edit(residual: Residual) -> Tensor:
        if residual.cells not in grids:
            grids[residual.cells] = resample_area(plane, residual.cells)
        return _multiply(residual, grids[residual.cells])

    return residuals.change(edit)


def resample_area(plane: Float[Tensor, "b f h w"], cells: Cells) -> Float[Tensor, "b F H W"]:
    """The mean over each cell's area on another grid, float32, in [0, 1].

    Exact where the grids do not divide each other: a cell that lies across an edge takes the share
    of both. Never beyond the values that a mask has (diffusers resizes bicubically, which
    overshoots at soft edges). ValueError for masks of other dimensions.
    """
    if plane.ndim != 4:
        raise ValueError(f"masks are b f h w, got {tuple(plane.shape)}")
    output = plane.double()
    for axis, count in enumerate(cells, start=1):
        size = output.shape[axis]
        if size == count:
            continue
        shares = _share_cells(size, count).to(output.device)
        output = torch.tensordot(output.movedim(axis, -1), shares, dims=1).movedim(-1, axis)
    return output.clamp(0, 1).float()


def _share_cells(size: int, count: int) -> Float[Tensor, "size count"]:
    """How much of each of `count` cells each of `size` cells fills; columns sum to 1.

    In whole numbers of 1 / (size * count) until the last division, so that an all-ones plane stays
    one.
    """
    starts = torch.arange(size) * count
    borders = torch.arange(count) * size
    low = torch.maximum(starts[:, None], borders[None])
    high = torch.minimum(starts[:, None] + count, borders[None] + size)
    return (high - low).clamp_min(0).double() / size


def _multiply(residual: Residual, grid: Float[Tensor, "b f h w"]) -> Tensor:
    value = residual.value
    factor = _fill_picture(value, grid) if value.ndim == 4 else _fill_sequence(residual, grid)
    factor = factor.to(value.device, value.dtype)
    return torch.where(factor == 0, torch.zeros_like(value), value * factor)


def _fill_picture(value: Tensor, grid: Tensor) -> Float[Tensor, "b 1 h w"]:
    if grid.shape[1] != 1 or value.shape[2:] != grid.shape[2:]:
        raise ValueError(
            f"a residual of {tuple(value.shape)} does not have the {tuple(grid.shape[1:])} cells it"
            " says"
        )
    return grid


def _fill_sequence(residual: Residual, grid: Tensor) -> Float[Tensor, "b n 1"]:
    rows, first, last = residual.value.shape[1], residual.first, math.prod(residual.cells)
    last += first
    if rows < last:
        raise ValueError(
            f"a residual of {rows} rows does not have the {residual.cells} cells it says from row"
            f" {first} on"
        )
    factor = grid.mean((1, 2, 3))[:, None].repeat(1, rows)
    factor[:, first:last] = grid.flatten(1)
    return factor[..., None]
