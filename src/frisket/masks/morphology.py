"""Grow, shrink, feather and fill region planes, with every radius in pixels."""

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frisket.grid import LatentGrid
from frisket.masks.axes import check_axes, check_samples
from frisket.shapes import Coverage, PerSample, Plane, Planes

_Frame = NDArray[np.float32]  # one frame of a plane, H W

INSIDE = 0.5  # a pixel of at least this belongs to its region, where holes are looked for
FILL_LEVELS = 9  # grey levels at which a hole's rim is read


def grow(plane: Plane, pixels: float) -> Plane:
    """Widen a region by `pixels` (> 0), or narrow it (< 0), in Euclidean distance.

    Each pixel takes the largest (smallest) value within a disc of that radius, so grey values are
    kept; fractions of a pixel blend the two nearest whole radii. What lies beyond the picture's
    border is not looked at: a subject cut by the border is not narrowed there. Range [0, 1].
    """
    _check_finite("grow", pixels)
    pick = cv2.dilate if pixels > 0 else cv2.erode
    return _map_frames(plane, lambda frame: _apply_radius(frame, abs(pixels), pick))


def feather(plane: Plane, pixels: float) -> Plane:
    """Soften region borders: a hard edge becomes a slope that reaches `pixels` to either side.

    A Gaussian of standard deviation pixels / 2, cut at `pixels`; the picture's border is repeated.
    Constants are kept, and so are 0 and 1 farther than `pixels` from any edge. Range [0, 1].
    ValueError for a negative radius.
    """
    _check_finite("feather", pixels)
    if pixels < 0:
        raise ValueError(f"feather is {pixels} pixels; use 0 or more")
    return _map_frames(plane, lambda frame: _blur(frame, pixels))


def bend(planes: Planes, gamma: float = 1.0, floor: float = 0.0) -> Planes:
    """Every pixel p as floor + (1 - floor) p^gamma; 1 and 0 are the plane as it is. Range [0, 1].

    Not the same as the curve of the weights, which comes after the mean of a cell: a hard mask
    keeps its hard cells whatever gamma is. After `--cache_mask_gamma` and `--cache_mask_min_weight`
    of DustyL's blissful-tuner. ValueError for gamma <= 0, a floor outside [0, 1) and other axes.
    """
    check_axes("planes", planes, "k F H W")
    if not gamma > 0 or not 0 <= floor < 1:
        raise ValueError(
            f"pixel_gamma is {gamma} and pixel_floor {floor}; use a gamma above 0 and a floor of 0"
            " or more, below 1"
        )
    bent_planes = planes if gamma == 1 else planes.clamp(0, 1) ** gamma
    return bent_planes if floor == 0 else bent_planes * (1 - floor) + floor


def fill_holes(plane: Plane) -> Plane:
    """Close the holes of each frame: what lies below 0.5 and cannot reach the picture's border.

    A hole takes the value of the rim around it, read at nine grey levels from 0.5 to the frame's
    largest value; a soft inner edge is raised with it. Nothing is ever lowered.
    """
    return _map_frames(plane, _fill_frame)


def feather_cells(coverage: Coverage, pixels: PerSample, grid: LatentGrid) -> Coverage:
    """Blur coverage on the latent grid, in space only, by a radius in pixels for each sample.

    The radius is divided by `grid.spatial`; the Gaussian is that of `feather`. Used for a feather
    that widens with t. Returns float32 in [0, 1]; constants are kept, and a sample of radius 0 or
    less comes back bit for bit. ValueError for other axes, or not one radius a sample.
    """
    check_axes("coverage", coverage, "b k f h w")
    check_samples("the feather's radius", pixels, len(coverage))
    radius = (pixels.float() / grid.spatial).clamp_min(0)
    reach = math.ceil(float(radius.max()))
    if reach == 0:
        return coverage.float()
    offsets = torch.arange(-reach, reach + 1, device=coverage.device)
    sigma = (radius / 2).clamp_min(1e-6)[:, None]
    taps = torch.exp(-0.5 * (offsets / sigma) ** 2) * (offsets.abs() < radius[:, None] + 1)
    taps = taps / taps.sum(1, keepdim=True)
    blurred = coverage.float()
    for axis in (3, 4):
        blurred = _slide(blurred, taps, offsets, axis)
    return blurred.clamp(0, 1)


def _slide(cells: Tensor, taps: Tensor, offsets: Tensor, axis: int) -> Tensor:
    """Blur along one axis as the value plus weighted differences, which keeps constants exactly."""
    places = torch.arange(cells.shape[axis], device=cells.device)
    result = cells
    for index, offset in enumerate(offsets.tolist()):
        if offset:
            moved_cells = cells.index_select(axis, (places + offset).clamp(0, len(places) - 1))
            result = result + taps[:, index].view(-1, 1, 1, 1, 1) * (moved_cells - cells)
    return result


def _map_frames(plane: Tensor, change: Callable[[_Frame], _Frame]) -> Plane:
    """Apply `change` to every frame; a still mask that was expanded over a clip is changed once."""
    check_axes("the mask", plane, "F H W")
    still = plane.shape[0] > 1 and plane.stride(0) == 0
    frames = plane[:1] if still else plane
    changed = [torch.from_numpy(change(frame)) for frame in frames.float().contiguous().numpy()]
    return torch.stack(changed).expand(plane.shape)


def _check_finite(name: str, pixels: float) -> None:
    if not math.isfinite(pixels):
        raise ValueError(f"{name} is {pixels} pixels; use a finite number")


def _apply_radius(frame: _Frame, radius: float, pick: Callable[..., Any]) -> _Frame:
    """Largest (cv2.dilate) or smallest (cv2.erode) value within `radius`, whole radii blended."""
    full_radius, part = int(radius), radius - int(radius)
    near: _Frame = pick(frame, _draw_disc(full_radius))
    if part == 0:
        return near
    result: _Frame = near + np.float32(part) * (pick(frame, _draw_disc(full_radius + 1)) - near)
    return result


def _draw_disc(radius: int) -> NDArray[np.uint8]:
    """Pixels no farther than `radius`; cv2's own ellipse is lopsided at small sizes."""
    line = np.arange(-radius, radius + 1) ** 2
    return (line[:, None] + line <= radius * radius).astype(np.uint8)


def _blur(frame: _Frame, radius: float) -> _Frame:
    if radius == 0:
        return frame.copy()
    side = 2 * math.ceil(radius) + 1
    # In double, so that rounding to single gives constants back exactly.
    blurred = cv2.GaussianBlur(
        frame.astype(np.float64), (side, side), radius / 2, borderType=cv2.BORDER_REPLICATE
    )
    return np.clip(blurred, 0, 1).astype(np.float32)


def _fill_frame(frame: _Frame) -> _Frame:
    holes = _find_enclosed(frame < INSIDE)
    result = frame.copy()
    if not holes.any():
        return result
    for level in np.linspace(INSIDE, frame.max(), FILL_LEVELS, dtype=np.float32):
        closed = _find_enclosed(frame < level, holes)
        result[closed] = np.maximum(result[closed], level)
    return result


def _find_enclosed(
    low: NDArray[np.bool_], seed: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Pixels of `low` in patches that do not touch the border (and hold a pixel of `seed`).

    Patches join over edges, not corners, so that a diagonal line is a wall.
    """
    count, labels = cv2.connectedComponents(low.astype(np.uint8), connectivity=4)
    enclosed = np.ones(count, dtype=bool) if seed is None else np.zeros(count, dtype=bool)
    if seed is not None:
        enclosed[labels[seed]] = True
    for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        enclosed[border] = False
    enclosed[0] = False  # label 0 is what is not low
    result: NDArray[np.bool_] = enclosed[labels]
    return result
