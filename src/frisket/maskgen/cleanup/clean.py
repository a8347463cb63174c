"""Cleans masks, composes regions by priority, and combines what several sources say."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frisket.maskgen.base import LabelMap, RgbPicture, SoftMask
from frisket.masks.morphology import INSIDE, feather, fill_holes, grow

How = Literal["union", "intersect", "subtract", "replace", "fill", "blend"]
_Image = NDArray[np.float32]  # H W, or H W c

PRIORITY = ("face", "hair", "hands", "clothes", "body")  # small and dear before large
UNTOUCHED = 255  # of a brush layer: nothing is painted here


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What is done to the mask of one region, in the order of these fields; the default is nothing.

    Raises ValueError, which names the field, where a value lies outside its range.
    """

    threshold: float = INSIDE  # a pixel of at least this belongs, in (0, 1)
    refine: float = 0.0  # radius in pixels in which a border may move to an edge of the picture
    refine_eps: float = 1e-4  # variance (of colours in [0, 1]) below which an edge is mere noise
    fill_holes: bool = False  # also what an arm on the hip encloses
    min_area: float = 0.0  # share of the picture below which a patch is dropped
    largest: bool = False  # keep the largest patch (all of the largest, where some are equal)
    grow: float = 0.0  # pixels; below 0 shrinks
    feather: float = 0.0  # pixels to either side of the border
    loosen: float = 0.0  # share by which a box is widened before its mask is made, not by `tidy`

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}; use a number between 0 and 1")
        if not 0 <= self.min_area <= 1:
            raise ValueError(f"min_area is {self.min_area}; use a share of the picture, 0 to 1")
        if self.refine_eps <= 0:
            raise ValueError(f"refine_eps is {self.refine_eps}; use more than 0, such as 0.0001")
        for name in ("refine", "feather", "loosen"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}; use 0 or more")
        if not math.isfinite(self.grow):
            raise ValueError(f"grow is {self.grow} pixels; use a finite number")


def tidy(mask: SoftMask, cleaning: Cleaning, picture: RgbPicture | None = None) -> SoftMask:
    """Clean the mask of one region; soft edges stay soft, and the border of the result is at 0.5.

    Values are first bent so that `threshold` lies at 0.5 (0 and 1 stay), which is where holes and
    patches are then looked for. A dropped patch goes with its soft skirt: the pixels below 0.5
    that lie nearer to it than to a kept patch. Nothing in gives nothing out. Raises ValueError
    where `refine` is wanted without the picture, or their sizes differ.
    """
    plane = _bend(mask.float(), cleaning.threshold)
    if cleaning.refine:
        if picture is None or picture.shape[:2] != mask.shape:
            size = "none" if picture is None else "x".join(map(str, picture.shape[:2]))
            raise ValueError(
                f"refine needs the picture of the mask, {mask.shape[0]}x{mask.shape[1]} pixels;"
                f" it was given {size}"
            )
        plane = refine_border(plane, picture, cleaning.refine, cleaning.refine_eps)
    if cleaning.fill_holes:
        plane = fill_holes(plane[None])[0]
    if cleaning.largest or cleaning.min_area:
        plane = _sift(plane, cleaning.min_area * plane.numel(), largest=cleaning.largest)
    if cleaning.grow:
        plane = grow(plane[None], cleaning.grow)[0]
    return feather(plane[None], cleaning.feather)[0] if cleaning.feather else plane


def refine_border(mask: SoftMask, picture: RgbPicture, radius: float, eps: float) -> SoftMask:
    """Move the border of a mask to the edges of its picture: the guided filter, colour guide.

    He, Sun and Tang, "Guided Image Filtering", PAMI 2013: within each window of `radius` the mask
    is fitted as an affine function of the RGB values in [0, 1], with ridge `eps`, and each pixel
    takes the mean of the fits it is in. Windows are cut at the picture's border. A mask that is
    all 0 or all 1 comes back as it was, and so does what lies 2 radii from the mask's border along
    rows or columns. The border moves no farther than about half a radius.
    """
    reach = max(round(radius), 1)
    plane = np.ascontiguousarray(mask.numpy())
    window = np.ones((4 * reach + 1, 4 * reach + 1), np.uint8)
    changes = cv2.dilate(plane, window) > cv2.erode(plane, window)
    rows, columns = (np.flatnonzero(changes.any(axis)) for axis in (1, 0))
    if not rows.size:
        return mask.clone()
    # What is read around the changing pixels, and no more: most regions are small.
    crop = tuple(slice(max(it[0] - 2 * reach, 0), it[-1] + 2 * reach + 1) for it in (rows, columns))
    result = plane.copy()
    fitted = _filter_guided(plane[crop], (picture[crop] / 255).numpy(), reach, eps)
    result[crop] = np.where(changes[crop], fitted, plane[crop])
    return torch.from_numpy(result)


def _filter_guided(
    plane: _Image, picture: NDArray[Any], reach: int, eps: float
) -> NDArray[np.float64]:
    side = (2 * reach + 1, 2 * reach + 1)
    options: dict[str, Any] = {"normalize": False, "borderType": cv2.BORDER_CONSTANT}
    count = cv2.boxFilter(np.ones_like(plane), cv2.CV_64F, side, **options)

    def average(image: NDArray[Any]) -> NDArray[np.float64]:
        # In double: variances are small differences of large numbers.
        return np.asarray(cv2.boxFilter(image, cv2.CV_64F, side, **options) / count, np.float64)

    guide = np.ascontiguousarray(np.moveaxis(picture, -1, 0))
    colour, share = np.stack([average(channel) for channel in guide]), average(plane)
    together = np.stack([average(channel * plane) for channel in guide]) - colour * share
    spread = {
        (i, j): average(guide[i] * guide[j]) - colour[i] * colour[j] + eps * (i == j)
        for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    }
    slope = _solve(spread, together)
    offset = share - (slope * colour).sum(0)
    fit = average(offset) + sum(
        average(a) * channel for a, channel in zip(slope, guide, strict=True)
    )
    return np.asarray(np.clip(fit, 0, 1), np.float64)


def _solve(
    matrix: Mapping[tuple[int, int], NDArray[np.float64]], right: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Solve a symmetric 3 x 3 system, given by its upper half, at every pixel (Cramer's rule)."""
    xx, xy, xz, yy, yz, zz = (matrix[key] for key in sorted(matrix))
    inverse = np.empty((3, 3, *xx.shape))
    inverse[0, 0], inverse[1, 1] = yy * zz - yz * yz, xx * zz - xz * xz
    inverse[2, 2] = xx * yy - xy * xy
    inverse[0, 1] = inverse[1, 0] = xz * yz - xy * zz
    inverse[0, 2] = inverse[2, 0] = xy * yz - xz * yy
    inverse[1, 2] = inverse[2, 1] = xy * xz - xx * yz
    determinant = xx * inverse[0, 0] + xy * inverse[0, 1] + xz * inverse[0, 2]
    return np.asarray((inverse * right).sum(1) / determinant, np.float64)


def _bend(mask: SoftMask, threshold: float) -> SoftMask:
    """Two straight lines that bring `threshold` to 0.5 and leave 0 and 1 where they are."""
    if threshold == INSIDE:
        return mask.clone()
    high = INSIDE + (mask - threshold) * (INSIDE / (1 - threshold))
    return torch.where(mask >= threshold, high.clamp(INSIDE, 1), mask * (INSIDE / threshold))


def _sift(mask: SoftMask, least: float, *, largest: bool) -> SoftMask:
    """Drop patches (joined over edges and corners) of fewer pixels, or all but the largest."""
    plane = mask.numpy()
    inside = (plane >= INSIDE).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0  # what is in no patch
    keep = (areas > 0) & (areas >= max(least, areas.max() if largest else 0))
    kept_pixels = keep[labels]
    if not kept_pixels.any():
        return torch.zeros_like(mask)
    dropped = (inside > 0) & ~kept_pixels
    if not dropped.any():
        return mask
    skirt = _measure_distance(dropped) < _measure_distance(kept_pixels)
    return torch.from_numpy(np.where(dropped | ((inside == 0) & skirt), np.float32(0), plane))


def _measure_distance(inside: NDArray[np.bool_]) -> _Image:
    """Pixels to the nearest pixel of a set."""
    distance = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance, np.float32)


def compose(
    planes: Mapping[str, SoftMask],
    priority: Sequence[str] = PRIORITY,
    *,
    regions: Sequence[str] | None = None,
    threshold: float = INSIDE,
) -> LabelMap:
    """Region planes to one label map, 0 for background.

    A pixel goes to the region that comes first in `priority` among those of at least `threshold`
    there; regions that `priority` leaves out come after it, in their own order. Labels count from
    1 in the order of `regions` (default: of `planes`), so that a legend holds for many pictures
    though some lack a region. Raises ValueError where a plane has no label, sizes differ, or there
    is no plane (no size) or more regions than labels.
    """
    regions = tuple(planes) if regions is None else tuple(regions)
    blank = _make_blank(planes)
    unknown = [name for name in planes if name not in regions]
    if unknown:
        raise ValueError(
            f"no label for region {unknown[0]!r}; the regions are {', '.join(regions)}"
        )
    if len(regions) >= UNTOUCHED:
        raise ValueError(f"{len(regions)} regions; a label map holds at most {UNTOUCHED - 1}")
    labels = torch.zeros_like(blank, dtype=torch.uint8)
    for name in reversed(_order(planes, priority)):
        labels[planes[name] >= threshold] = regions.index(name) + 1
    return labels


def soften(
    planes: Mapping[str, SoftMask], priority: Sequence[str] = PRIORITY
) -> dict[str, SoftMask]:
    """Soft planes that share each pixel: in order of priority, each takes of what is left.

    Sums never exceed 1. Where planes are 0 or 1 the result says what `compose` says; a soft border
    over another region shows that region through. The order of `planes` is kept.
    """
    left = torch.ones_like(_make_blank(planes))
    shares: dict[str, SoftMask] = {}
    for name in _order(planes, priority):
        shares[name] = torch.minimum(planes[name].float(), left)
        left = left - shares[name]
    return {name: shares[name] for name in planes}


def combine(first: SoftMask, second: SoftMask, how: How) -> SoftMask:
    """One region as two sources see it, in [0, 1].

    union, intersect: the larger, the smaller value; subtract: the first without the second;
    replace: the second; fill: the second where the first is 0; blend: the mean. ValueError where
    sizes differ or `how` is none of these.
    """
    _make_blank({"first": first, "second": second})
    match how:
        case "union":
            return torch.maximum(first, second)
        case "intersect":
            return torch.minimum(first, second)
        case "subtract":
            return torch.minimum(first, 1 - second)
        case "replace":
            return second.clone()
        case "fill":
            return torch.where(first > 0, first, second)
        case "blend":
            return (first + second) / 2
        case unknown:
            raise ValueError(
                f"no way {unknown!r} to combine masks; use union, intersect, subtract, replace,"
                " fill or blend"
            )


def paint(labels: LabelMap, brush: LabelMap, untouched: int = UNTOUCHED) -> LabelMap:
    """The user's brush over a label map: its values (0 erases) wherever it is not `untouched`."""
    _make_blank({"labels": labels, "brush": brush})
    return torch.where(brush == untouched, labels, brush)


def _order(planes: Mapping[str, SoftMask], priority: Sequence[str]) -> list[str]:
    """Names of `planes`, those in `priority` first."""
    first = [name for name in dict.fromkeys(priority) if name in planes]
    return first + [name for name in planes if name not in first]


def _make_blank(planes: Mapping[str, Tensor]) -> Tensor:
    """Zeros of the size that all planes have."""
    if not planes:
        raise ValueError("there are no planes; a picture without regions has a size all the same")
    sizes = {name: "x".join(map(str, plane.shape)) for name, plane in planes.items()}
    if len(set(sizes.values())) > 1:
        listing = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(f"planes of one picture differ in size: {listing} pixels")
    return torch.zeros_like(next(iter(planes.values())))
