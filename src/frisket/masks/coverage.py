"""From the pixel grid to the latent grid: area in space, causal groups in time."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from frisket.grid import LatentGrid
from frisket.shapes import CellPlanes, Planes

Reading = Literal["mean", "max", "min"]
Reduce = Callable[[Tensor, int], Tensor]

REDUCTIONS: dict[Reading, Reduce] = {
    "mean": torch.mean,
    "max": torch.amax,
    "min": torch.amin,
}


def to_latent(planes: Planes, grid: LatentGrid, reading: Reading = "mean") -> CellPlanes:
    """Lay region planes on the latent grid; float32 in [0, 1].

    Space: each cell reads its own `grid.spatial` x `grid.spatial` pixels and no others. Time: the
    groups of a causal video VAE (Wan encodes chunks of 1, 4, 4, ... frames): latent frame 0 reads
    pixel frame 0, latent frame i reads frames 1 + (i - 1) t to i t. Nothing is interpolated.

    `mean` is the exact share of the cell that a region covers, `max` keeps thin or fast regions
    whole, `min` keeps only cells a region fills (exclusion); both hold in space and time alike.
    ValueError where the planes do not fit the grid, or for an unknown reading.
    """
    if reading not in REDUCTIONS:
        raise ValueError(f"no reading {reading!r} of a latent cell: use one of {list(REDUCTIONS)}")
    reduce = REDUCTIONS[reading]
    frames, height, width = grid.cells(*planes.shape[1:])
    regions = planes.shape[0]
    # Rows before columns: whole rows are contiguous, which is three times as fast as both at once.
    rows = reduce(planes.float().reshape(regions, -1, height, grid.spatial, planes.shape[3]), 3)
    cells = reduce(rows.reshape(regions, -1, height, width, grid.spatial), 4)
    if frames == 1:
        return cells
    groups = cells[:, 1:].reshape(regions, frames - 1, grid.temporal, height, width)
    return torch.cat([cells[:, :1], reduce(groups, 2)], dim=1)
