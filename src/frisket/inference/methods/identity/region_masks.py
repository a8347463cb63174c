"""Where an image adapter acts: soft masks on the grid that a layer has in a call."""

import torch
from jaxtyping import Float
from torch import Tensor

from frisket.shapes import Cells


def measure_overlaps(size: int, count: int) -> Float[Tensor, "count size"]:
    """How much of each of `count` equal cells each of `size` equal cells covers; rows sum to 1."""
    edges = torch.arange(size + 1, dtype=torch.float64) / size
    borders = torch.arange(count + 1, dtype=torch.float64) / count
    low = torch.maximum(borders[:-1, None], edges[None, :-1])
    high = torch.minimum(borders[1:, None], edges[None, 1:])
    return (high - low).clamp_min(0) * count


def resample_area(masks: Float[Tensor, "b f h w"], cells: Cells) -> Float[Tensor, "b F H W"]:
    """The mean of each cell's area on another grid, in [0, 1], in float32.

    Exact where the grids do not divide each other, and never beyond the values that a mask has
    (diffusers resizes bicubically, which overshoots at soft edges, and guesses the grid from the
    mask's aspect ratio). ValueError for masks of other dimensions.
    """
    if masks.ndim != 4:
        raise ValueError(f"masks are b f h w, got {tuple(masks.shape)}")
    resampled = masks.double()
    for axis, count in enumerate(cells, start=1):
        if resampled.shape[axis] != count:
            weights = measure_overlaps(resampled.shape[axis], count).to(resampled.device)
            resampled = (resampled.movedim(axis, -1) @ weights.mT).movedim(-1, axis)
    return resampled.clamp(0, 1).float()


def lay_on_rows(
    masks: Float[Tensor, "b f h w"], cells: Cells, samples: Tensor, frames: int = 1
) -> Float[Tensor, "r n 1"]:
    """A factor for each row of a layer's query: `samples` says which mask each sample's row takes.

    `frames` > 1 where the frames of a sample are rows of their own, side by side; `cells` is then
    (1, height, width) and each row takes its frame's plane.
    """
    resampled = resample_area(masks, (frames * cells[0], *cells[1:]))[samples.to(masks.device)]
    return resampled.reshape(len(samples) * frames, -1, 1)
