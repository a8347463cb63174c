"""What of a clip's latent cells is kept when it is laid over others, cached beside its coverage."""

from collections.abc import Sequence
from typing import Any

import torch

from frisket.data.cached.store import key_of
from frisket.data.encoding import Encoding
from frisket.data.mask_pipeline import keep_plane, mask_record, planes_of, read_cells
from frisket.data.records import Window
from frisket.grid import LatentGrid
from frisket.masks.coverage import to_latent
from frisket.masks.morphology import feather, grow

RULE = 1  # goes into cache keys; count up when a step below changes


def prepare_keep(
    work: Encoding, window: Window, *, grow_pixels: float = 0.0, feather_pixels: float = 0.0
) -> str:
    """The key of the plane of cells that stay a clip's own before another background.

    The kept regions together, grown and feathered in pixels, then the mean of each cell: tensor
    `keep`, 1 f h w in [0, 1].
    """
    key = key_of(
        _record(window, work, {"grow": float(grow_pixels), "feather": float(feather_pixels)})
    )
    if not work.entries.ready("coverage", key):
        plane = keep_plane(window, work.kept, work.regions)
        if grow_pixels:
            plane = grow(plane, grow_pixels)
        if feather_pixels:
            plane = feather(plane, feather_pixels)
        cells = to_latent(plane[None], work.encoders.grid)
        work.entries.store("coverage", key, {"keep": cells})
        work.tally.covered += 1
    return key


def prepare_cutout(work: Encoding, window: Window) -> str:
    """The key of what a mix in latent space cuts out of a clip.

    Tensors `keep` (1 f h w), `planes` of the kept regions as the loss reads them (k f h w), and
    `prior_planes` where the prior term reads masks its own way; note `regions`, their names.
    """
    how = window.masking
    readings = {
        "pixels": [float(how.pixel_gamma), float(how.pixel_floor)],
        "reading": how.reading,
        "prior_reading": how.prior_reading,
    }
    key = key_of(_record(window, work, readings))
    if not work.entries.ready("coverage", key):
        grid: LatentGrid = work.encoders.grid
        planes = planes_of(window, work.regions)
        names = [name for name in work.kept if name in planes]
        pixels = torch.stack([planes[name] for name in names])
        tensors = {
            "keep": to_latent(pixels.sum(0, keepdim=True).clamp(0, 1), grid),
            "planes": read_cells(pixels, how, grid),
        }
        if how.prior_reading:
            tensors["prior_planes"] = read_cells(pixels, how, grid, how.prior_reading)
        work.entries.store("coverage", key, tensors, {"regions": "\n".join(names)})
        work.tally.covered += 1
    return key


def _record(window: Window, work: Encoding, more: dict[str, Any]) -> dict[str, Any]:
    kept_names: Sequence[str] = sorted(work.kept)
    grid = work.encoders.grid
    return {
        "kind": "coverage",
        "cutout": RULE,
        **mask_record(window, work.regions),
        "kept": kept_names,
        "grid": [grid.spatial, grid.temporal],
        **more,
    }
