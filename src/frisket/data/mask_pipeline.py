"""From the mask of one window to its cached coverage, and to the plane a swap keeps."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from frisket.data.records import Masking, Window
from frisket.grid import LatentGrid
from frisket.masks.coverage import CellReading, to_latent
from frisket.masks.cut import cut_to_latent
from frisket.masks.morphology import bend, feather, fill_holes, grow
from frisket.masks.read import read
from frisket.masks.weights import free_share
from frisket.media.paths import VIDEOS
from frisket.shapes import CellPlanes, Plane, Planes

RULE = 1  # goes into cache keys; count up when a step below changes
MOVING = 1  # the same where masks are videos: count up when how they are read changes
INSIDE = 0.5  # a pixel or a cell counts as the region's from here on


@dataclass(frozen=True, slots=True)
class Facts:
    """What the banner wants to know of one coverage; remembered apart from the planes."""

    mean: Mapping[str, float]  # region -> share of the clip
    thin: tuple[str, ...]  # regions with pixels but without a single cell that is mostly theirs
    free: float  # share of the clip that no region covers

    def dump(self) -> str:
        """The facts as a JSON text, which `parse` reads."""
        return json.dumps([dict(self.mean), list(self.thin), self.free])

    @staticmethod
    def parse(text: str) -> "Facts":
        """The inverse of `dump`."""
        mean, thin, free = json.loads(text)
        return Facts(mean, tuple(thin), free)


def list_regions(window: Window, regions: Sequence[str]) -> list[str]:
    """The configured regions that a mask may hold; all, where it names none (a grey mask).

    A region that is added to the table and that this mask cannot hold changes nothing here.
    """
    how = window.masking
    names = {*window.masks, *how.levels, *how.legend}
    return [region for region in regions if region in names] or list(regions)


def _moving_record(window: Window) -> dict[str, Any]:
    """How the masks of a window are read where they are videos; nothing for pictures."""
    alpha = window.masking.source == "alpha"
    files = [window.clip] if alpha else [*window.masks.values()]
    record: dict[str, Any] = {}
    if any(path.suffix.lower() in VIDEOS for path in files):
        record["moving"] = MOVING
    if alpha and window.media.reading:
        record["reading"] = list(window.media.reading)
    return record


def mask_record(window: Window, regions: Sequence[str]) -> dict[str, Any]:
    """Everything that makes the pixel planes of a window, for cache keys."""
    return {
        "clip": window.content if window.masking.source == "alpha" else None,
        **_moving_record(window),
        "masks": dict(window.masks_content),
        "geometry": window.geometry.record(),
        "regions": list_regions(window, regions),
        **window.masking.record(),
    }


def coverage_record(window: Window, regions: Sequence[str], grid: LatentGrid) -> dict[str, Any]:
    """Everything that makes the coverage of a window, for its key; no weight is in it."""
    how, again = window.masking, window.masking.prior_reading
    bent = (how.pixel_gamma, how.pixel_floor) != (1, 0)
    return {
        "kind": "coverage",
        "rule": RULE,
        **mask_record(window, regions),
        "reading": how.reading,
        # Named only where it is asked for: caches made before there was one stay good.
        **({"pixels": [float(how.pixel_gamma), float(how.pixel_floor)]} if bent else {}),
        **({"prior_reading": again} if again else {}),
        "grid": [grid.spatial, grid.temporal],
    }


def planes_of(window: Window, regions: Sequence[str]) -> dict[str, Plane]:
    """The named planes of a window at the size it is trained at, in the configured order.

    The house's order: read, cut like the clip, fill holes, grow, feather. Regions the mask does not
    hold are left out. BadMedia or ValueError as `read` and `Geometry.plane` raise them.
    """
    return shape_planes(read_planes(window, regions), window)


def shape_planes(
    named: Mapping[str, Plane], window: Window
) -> dict[str, Float[Tensor, "F H_cut W_cut"]]:
    """The same of planes that are read already, at the mask's own size."""
    return {name: _shape(plane, window) for name, plane in named.items()}


def read_planes(window: Window, regions: Sequence[str]) -> dict[str, Plane]:
    """The named planes at the mask's own size."""
    how, regions = window.masking, list_regions(window, regions)
    named = read(
        window.masks,
        clip=window.media,
        alpha=how.source == "alpha",
        picks=window.geometry.picks,
        regions=regions,
        levels=how.levels,
        legend=how.legend,
        invert=how.invert,
    )
    return {name: named[name] for name in regions if name in named}


def _shape(plane: Plane, window: Window) -> Float[Tensor, "F H_cut W_cut"]:
    """One plane as the window is trained with it, on the pixel grid."""
    how, cut = window.masking, window.geometry.plane(plane)
    if how.fill_holes:
        cut = fill_holes(cut)
    if how.grow:
        cut = grow(cut, how.grow)
    if how.feather:
        cut = feather(cut, how.feather)
    return cut


def read_cells(
    pixels: Planes, how: Masking, grid: LatentGrid, reading: CellReading | None = None
) -> CellPlanes:
    """Planes as the loss reads them: under the masking's value curve, then laid on the cells."""
    bent = bend(pixels, how.pixel_gamma, how.pixel_floor)
    return to_latent(bent, grid, reading or how.reading)


def cover(
    window: Window, regions: Sequence[str], grid: LatentGrid
) -> tuple[dict[str, CellPlanes], tuple[str, ...], Facts]:
    """Coverage of a window: planes of the regions its mask holds, their names, the facts.

    `planes` weigh the loss; `prior_planes` are there where the prior term reads the mask its own
    way. Both are planes of `planes_of` under the masking's own value curve, which nothing else sees
    (what is shown to a model, swapped or looked at is the mask itself), laid on the grid, to
    float32 rounding.
    """
    named = read_planes(window, regions)
    if not named:
        files = ", ".join(str(path) for path in window.masks.values()) or str(window.clip)
        raise ValueError(
            f"{files}: holds none of the regions {list(regions)}: name its regions in [regions]"
        )
    coverages = lay(named, window, grid)
    cells = coverages["planes"]
    if not cells.isfinite().all():
        files = ", ".join(str(path) for path in window.masks.values()) or str(window.clip)
        raise ValueError(f"{files}: the mask holds NaN or infinity; save it anew with 8 bits")
    # No step of `_shape` raises a plane's largest value, so an empty region is not cut again.
    thin = [
        name
        for (name, plane), own in zip(named.items(), cells, strict=True)
        if float(own.max()) < INSIDE <= float(plane.max())
        and float(_shape(plane, window).max()) >= INSIDE
    ]
    mean = {name: float(own.double().mean()) for name, own in zip(named, cells, strict=True)}
    free = float(free_share(cells.sum(0)).double().mean())
    return coverages, tuple(named), Facts(mean, tuple(thin), free)


def lay(planes: Mapping[str, Plane], window: Window, grid: LatentGrid) -> dict[str, CellPlanes]:
    """`planes`, and `prior_planes` where there are some, of planes at the mask's own size."""
    how = window.masking
    curved = how.pixel_gamma != 1 or how.pixel_floor
    if how.fill_holes or how.grow or how.feather or how.prior_reading or curved:
        pixels = torch.stack([_shape(plane, window) for plane in planes.values()])
        coverages = {"planes": read_cells(pixels, how, grid)}
        if how.prior_reading:
            coverages["prior_planes"] = read_cells(pixels, how, grid, how.prior_reading)
        return coverages
    cut = [cut_to_latent(plane, window.geometry, grid, how.reading) for plane in planes.values()]
    return {"planes": torch.stack(cut)}


def keep_plane(window: Window, kept: Iterable[str], regions: Sequence[str]) -> Plane:
    """What a swap keeps of a clip: the sum of the planes of the regions `kept`, at most 1."""
    named = planes_of(window, regions)
    planes = [named[name] for name in kept if name in named]
    frames, (height, width) = len(window.geometry.picks), window.geometry.target
    if not planes:
        return torch.zeros(frames, height, width)
    return torch.stack(planes).sum(0).clamp(0, 1)


def arrange(
    planes: CellPlanes, names: Sequence[str], regions: Sequence[str]
) -> Float[Tensor, "n f h w"]:
    """Planes by name in the configured order; a region that is not there is zeros. float32."""
    arranged = torch.zeros(len(regions), *planes.shape[1:])
    for plane, name in zip(planes, names, strict=True):
        if name in regions:
            arranged[list(regions).index(name)] = plane
    return arranged
