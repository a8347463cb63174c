"""One mask cut to its clip and laid on the latent grid at once."""

from dataclasses import replace

from torch import Tensor

from frisket.grid import LatentGrid
from frisket.masks.axes import check_axes
from frisket.masks.coverage import CellReading, to_latent
from frisket.media.geometry import Geometry
from frisket.shapes import CellPlane, Plane


def cut_to_latent(
    plane: Plane, geometry: Geometry, grid: LatentGrid, reading: CellReading = "mean"
) -> CellPlane:
    """Cut one mask to its clip and lay it on the latent grid, where nothing is done in between.

    The same as `to_latent` of `geometry.plane`, up to float32 rounding. Where the mask shrinks, the
    mean over a cell of means over target pixels is the mean over the cell, so it is taken at once
    and the target's pixels are never made: 4 to 5 times faster for a large mask. Raises as both do.
    """
    check_axes("the mask", plane, "F H W")
    _, height, width = grid.cells(len(geometry.picks), *geometry.target)
    straight = replace(geometry, target=(height, width))
    if reading != "mean" or not _is_nested(geometry, straight, plane):
        return to_latent(geometry.plane(plane)[None], grid, reading)[0]
    return to_latent(straight.plane(plane)[None], replace(grid, spatial=1))[0]


def _is_nested(geometry: Geometry, straight: Geometry, plane: Tensor) -> bool:
    """Whether both cut the same box, and the mask has at least the target's pixels in it."""
    for span, wide, size in zip(geometry.spans(), straight.spans(), plane.shape[1:], strict=True):
        is_same = abs(span.start - wide.start) + abs(span.length - wide.length) < 1e-6
        if not is_same or span.scale_to(size).length < span.out:
            return False
    return True
