"""Masks of methods: where each acts, on the latent grid of every size that is sampled."""

from collections.abc import Iterable
from pathlib import Path

from frisket.grid import LatentGrid
from frisket.inference.methods.plugin import ClipSize
from frisket.runs.methods.regional import lay_mask
from frisket.shapes import Weights


def lay_masks(
    mask: Path | None,
    sizes: Iterable[ClipSize],
    grid: LatentGrid,
    *,
    option: str = "--method-mask",
    owner: str = "method",
) -> dict[ClipSize, Weights]:
    """One mask by the size of each clip (frames, height, width in pixels); {} where there is none.

    Planes are 1 1 f h w in [0, 1] on the latent grid, as those of LoRAs are. ConfigError for a
    mask that is not there, is empty, or has another number of frames or another aspect; BadMedia
    for a file that is no picture. `option` and `owner` are the words of messages.
    """
    if mask is None:
        return {}
    planes = {size: lay_mask(mask, [size], grid, option=option, owner=owner) for size in sizes}
    return {size: next(iter(by_cells.values())) for size, by_cells in planes.items()}
