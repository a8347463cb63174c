"""Attention maps on the latent grid, averaged over layers and steps, and made fit to look at."""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from frisket.shapes import Cells


def lay_on_grid(
    maps: Float[Tensor, "b T tf th tw"], cells: Cells, *, smooth: bool = False
) -> Float[Tensor, "b T f h w"]:
    """A layer's map on the latent grid `cells` (f, h, w); values stay what they were.

    Each latent cell takes the value of the token that it belongs to: a patch of 2 x 2 cells has
    one token, and a UNet layer of a lower resolution one a square of cells. `smooth` interpolates
    bilinearly instead, for looking at. A token that spans several frames gives each its value.
    ValueError where a layer has more frames than the grid, or where the frames do not fit.
    """
    frames = maps.shape[2]
    if frames > cells[0] or (cells[0] % frames and frames > 1):
        raise ValueError(
            f"a map of {frames} frames does not lie on a grid of {cells[0]} (frames folded into the"
            " batch by guidance look like this: say with rows which samples are meant)"
        )
    if frames != cells[0]:
        maps = maps.repeat_interleave(cells[0] // frames, 2)
    if maps.shape[3:] == cells[1:]:
        return maps
    pictures = maps.flatten(0, 1)  # bT f h w
    if smooth:
        resized = functional.interpolate(pictures, cells[1:], mode="bilinear", align_corners=False)
    else:
        resized = functional.interpolate(pictures, cells[1:], mode="nearest")
    return resized.reshape(*maps.shape[:2], *resized.shape[1:])


def average(
    maps: Mapping[str, Tensor] | Iterable[Mapping[str, Tensor]],
    cells: Cells,
    *,
    smooth: bool = False,
) -> Float[Tensor, "b T f h w"]:
    """The mean of all layers on the latent grid; of several calls, over all of theirs alike.

    `maps` is `seen.maps`, or one such mapping a call (`call.maps for call in seen.calls`).
    ValueError where there is nothing to average.
    """
    calls = [maps] if isinstance(maps, Mapping) else list(maps)
    grids = [lay_on_grid(layer, cells, smooth=smooth) for call in calls for layer in call.values()]
    if not grids:
        raise ValueError("no attention was captured: no forward pass ran within the block")
    return torch.stack(grids).mean(0)


def compare_phrases(maps: Float[Tensor, "b T f h w"]) -> Float[Tensor, "b T f h w"]:
    """Softmax over the phrases of each cell: ConceptAttention's heat maps, from form `output`.

    They compare phrases with each other: with one phrase alone they are 1 everywhere. Average over
    layers and steps first, as its authors do.
    """
    return maps.softmax(1)


def scale_to_peak(maps: Float[Tensor, "b T f h w"]) -> Float[Tensor, "b T f h w"]:
    """Each map from 0 (its lowest cell) to 1 (its highest), for looking at; 0 where it is flat."""
    low, high = maps.amin((2, 3, 4), keepdim=True), maps.amax((2, 3, 4), keepdim=True)
    return torch.where(high > low, (maps - low) / (high - low).clamp_min(1e-30), 0.0)


def normalise_over_space(maps: Float[Tensor, "b T f h w"]) -> Float[Tensor, "b T f h w"]:
    """Each map divided by its sum: how a phrase's attention is shared out between the cells.

    For non-negative maps (form `attention`); a map of zeros stays zeros.
    """
    total = maps.sum((2, 3, 4), keepdim=True)
    return torch.where(total > 0, maps / total.clamp_min(1e-30), 0.0)
