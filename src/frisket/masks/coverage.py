"""From the pixel grid to the latent grid: area in space, causal groups in time."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from frisket.grid import LatentGrid
from frisket.masks.axes import check_axes, to_fractions
from frisket.shapes import CellPlanes, Coverage, FrameCells, Planes

CellReading = Literal["mean", "max", "min", "bilinear", "nearest", "nearest-exact", "bicubic"]
Reduce = Callable[[Tensor, int], Tensor]

REDUCTIONS: dict[CellReading, Reduce] = {
    "mean": torch.mean,
    "max": torch.amax,
    "min": torch.amin,
}
# What other trainers shrink masks with (losses/compat.py): keywords of torch's `interpolate`.
SAMPLERS: dict[CellReading, dict[str, Any]] = {
    "bilinear": {"mode": "bilinear", "antialias": True},  # torchvision's Resize of a tensor
    "nearest": {"mode": "nearest"},
    "nearest-exact": {"mode": "nearest-exact"},
    "bicubic": {"mode": "bicubic"},
}


def to_latent(planes: Planes, grid: LatentGrid, reading: CellReading = "mean") -> CellPlanes:
    """Lay region planes on the latent grid; float32 in [0, 1] (bicubic may overshoot).

    Space: each cell reads its own `grid.spatial` x `grid.spatial` pixels and no others. Time: the
    groups of a causal video VAE (Wan encodes chunks of 1, 4, 4, ... frames): latent frame 0 reads
    pixel frame 0, latent frame i reads frames 1 + (i - 1) t to i t. Nothing is interpolated.

    `mean` is the exact share of the cell that a region covers, `max` keeps thin or fast regions
    whole, `min` keeps only cells a region fills (exclusion); both hold in space and time alike. The
    others shrink every frame as other trainers shrink a still, and average over time.
    ValueError where the planes have other axes or do not fit the grid, or for an unknown reading.
    """
    check_axes("planes", planes, "k F H W")
    if reading not in REDUCTIONS and reading not in SAMPLERS:
        readings = [*REDUCTIONS, *SAMPLERS]
        raise ValueError(f"no reading {reading!r} of a latent cell: use one of {readings}")
    reduce = REDUCTIONS.get(reading, torch.mean)
    _, height, width = grid.cells(*planes.shape[1:])
    regions = planes.shape[0]
    if reading in SAMPLERS:
        cells = functional.interpolate(planes.float(), (height, width), **SAMPLERS[reading])
    else:
        # Rows before columns: whole rows are contiguous, three times as fast as both at once.
        rows = reduce(planes.float().reshape(regions, -1, height, grid.spatial, planes.shape[3]), 3)
        cells = reduce(rows.reshape(regions, -1, height, width, grid.spatial), 4)
    return group_frames(cells, grid, reading)


def group_frames(cells: FrameCells, grid: LatentGrid, reading: CellReading = "mean") -> CellPlanes:
    """Cells of every pixel frame, k F h w, in the causal groups of the latent frames (k f h w)."""
    if cells.shape[1] == 1:
        return cells
    reduce = REDUCTIONS.get(reading, torch.mean)
    regions, frames, h, w = cells.shape
    groups = cells[:, 1:].reshape(regions, (frames - 1) // grid.temporal, grid.temporal, h, w)
    return torch.cat([cells[:, :1], reduce(groups, 2)], dim=1)


def coverage(
    mask_pixels: Tensor, spatial: int, temporal: int = 1, reading: CellReading = "mean"
) -> Tensor:
    """How much of each latent cell each region of a batch covers: b k F H W to b k f h w.

    `spatial` and `temporal` are the strides of the VAE: pixels a side of a cell, and frames that
    its causal time axis folds into one latent frame, F = 1 + (f - 1) temporal. Stills may leave
    their frame axis out, b k H W to b k h w. Masks are bools or floats in [0, 1]; the result is
    float32, on the masks' device. What a `reading` does: `to_latent`.

    ValueError for other axes, other dtypes, values outside [0, 1], NaN, and planes that do not fit
    the grid.
    """
    still = mask_pixels.ndim == 4
    if mask_pixels.ndim not in (4, 5) or 0 in mask_pixels.shape:
        raise ValueError(
            f"the mask has shape {tuple(mask_pixels.shape)}; give b k F H W (batch, regions,"
            " frames, rows, columns; one mask is k = 1), or b k H W for stills"
        )
    for name, stride in (("spatial", spatial), ("temporal", temporal)):
        if stride < 1:
            raise ValueError(f"{name} is {stride}; use the VAE's stride, 1 or more")
    if still and temporal != 1:
        raise ValueError(
            f"temporal = {temporal}, but a mask of shape {tuple(mask_pixels.shape)} has no frame"
            " axis: give b k F H W (mask[:, None] makes it of b F H W)"
        )
    planes = to_fractions("the mask", mask_pixels)
    clips = planes.unsqueeze(2) if still else planes
    grid = LatentGrid(channels=1, spatial=spatial, temporal=temporal)
    cells = lay_clips(clips, grid, reading)
    return cells.squeeze(2) if still else cells


def lay_clips(planes: Tensor, grid: LatentGrid, reading: CellReading = "mean") -> Coverage:
    """`to_latent` of the planes of several clips at once, b k F H W. Raises as it does."""
    cells = to_latent(planes.flatten(0, 1), grid, reading)
    return cells.reshape(*planes.shape[:2], *cells.shape[1:])
