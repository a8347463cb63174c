"""From the pixel grid to the latent grid: area in space, causal groups in time."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from frisket.grid import LatentGrid
from frisket.masks.axes import check_axes
from frisket.media.geometry import Geometry
from frisket.shapes import CellPlanes, Plane, Planes

Reading = Literal["mean", "max", "min", "bilinear", "nearest", "nearest-exact", "bicubic"]
CellPlane = Float[Tensor, "f h w"]
Reduce = Callable[[Tensor, int], Tensor]

REDUCTIONS: dict[Reading, Reduce] = {
    "mean": torch.mean,
    "max": torch.amax,
    "min": torch.amin,
}
# What other trainers shrink masks with (losses/compat.py): keywords of torch's `interpolate`.
SAMPLERS: dict[Reading, dict[str, Any]] = {
    "bilinear": {"mode": "bilinear", "antialias": True},  # torchvision's Resize of a tensor
    "nearest": {"mode": "nearest"},
    "nearest-exact": {"mode": "nearest-exact"},
    "bicubic": {"mode": "bicubic"},
}


def to_latent(planes: Planes, grid: LatentGrid, reading: Reading = "mean") -> CellPlanes:
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
        known = [*REDUCTIONS, *SAMPLERS]
        raise ValueError(f"no reading {reading!r} of a latent cell: use one of {known}")
    reduce = REDUCTIONS.get(reading, torch.mean)
    frames, height, width = grid.cells(*planes.shape[1:])
    regions = planes.shape[0]
    if reading in SAMPLERS:
        cells = functional.interpolate(planes.float(), (height, width), **SAMPLERS[reading])
    else:
        # Rows before columns: whole rows are contiguous, three times as fast as both at once.
        rows = reduce(planes.float().reshape(regions, -1, height, grid.spatial, planes.shape[3]), 3)
        cells = reduce(rows.reshape(regions, -1, height, width, grid.spatial), 4)
    if frames == 1:
        return cells
    groups = cells[:, 1:].reshape(regions, frames - 1, grid.temporal, height, width)
    return torch.cat([cells[:, :1], reduce(groups, 2)], dim=1)


def cut_to_latent(
    plane: Plane, geometry: Geometry, grid: LatentGrid, reading: Reading = "mean"
) -> CellPlane:
    """Cut one mask to its clip and lay it on the latent grid, where nothing is done in between.

    The same as `to_latent` of `geometry.plane`, up to float32 rounding. Where the mask shrinks, the
    mean over a cell of means over target pixels is the mean over the cell, so it is taken at once
    and the target's pixels are never made: 4 to 5 times faster for a large mask. Raises as both do.
    """
    check_axes("the mask", plane, "F H W")
    _, height, width = grid.cells(len(geometry.picks), *geometry.target)
    straight = replace(geometry, target=(height, width))
    if reading != "mean" or not _nested(geometry, straight, plane):
        return to_latent(geometry.plane(plane)[None], grid, reading)[0]
    return to_latent(straight.plane(plane)[None], replace(grid, spatial=1))[0]


def _nested(geometry: Geometry, straight: Geometry, plane: Tensor) -> bool:
    """Whether both cut the same box, and the mask has at least the target's pixels in it."""
    for span, wide, size in zip(geometry.spans(), straight.spans(), plane.shape[1:], strict=True):
        same = abs(span.start - wide.start) + abs(span.length - wide.length) < 1e-6
        if not same or span.scaled(size).length < span.out:
            return False
    return True
