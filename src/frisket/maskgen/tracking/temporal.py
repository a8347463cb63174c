"""Steady masks through time: flicker smoothed, gaps filled, scene cuts found; all streaming."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from frisket.maskgen.base import RgbPicture, SoftMask
from frisket.maskgen.tracking.flow import REACH, estimate_flow, warp
from frisket.masks.morphology import INSIDE

T = TypeVar("T")
_Field = NDArray[np.float32]  # H W

CUT = 0.35  # difference of two frames, 0 to 1, from which they are of two shots
AGREE = 0.5  # IoU from which a mask carried by motion is believed
THUMBNAIL, TILES, BINS = 48, 3, 16


def smooth_by_median(planes: Iterable[SoftMask], radius: int) -> Iterator[SoftMask]:
    """Median of each pixel over 2 radius + 1 frames: as many planes as came in, in order.

    Near the ends the window shrinks evenly, so the first and last frame stay as they are. A value
    that is off in no more than `radius` frames of a window goes. Holds one window of planes.
    """
    _check("radius", radius)
    for around, centre in _slide_window(planes, radius):
        even = min(centre, len(around) - 1 - centre)
        yield torch.stack(around[centre - even : centre + even + 1]).median(0).values


def smooth_by_motion(
    frames: Iterable[RgbPicture], planes: Iterable[SoftMask], radius: int, *, cut: float = CUT
) -> Iterator[SoftMask]:
    """Mean border over 2 radius + 1 frames, each carried to the middle one by the motion between.

    Borders are those at 0.5, as signed distances cut at 32 pixels; motion is DIS optical flow
    (Kroeger et al., ECCV 2016), so nothing needs to be known of it. The window ends at a scene
    cut. Frames without a mask say nothing, and one in the middle is filled only where the region
    is seen before and after it within the window: what has left stays away. Results have an edge
    one pixel soft; use `smooth_by_median` where soft hair must stay soft. As many planes as came
    in, in order; ValueError where frames and planes differ in number. Holds one window.
    """
    _check("radius", radius)
    moments = (
        _Moment(
            shot, _to_grey(picture), plane, signed_distance(plane) if has_pixels(plane) else None
        )
        for shot, picture, plane in _pair(frames, planes, cut)
    )
    for around, centre in _slide_window(moments, radius):
        yield _settle(around, centre)


def fill_gaps(
    frames: Iterable[RgbPicture], planes: Iterable[SoftMask], gap: int, *, cut: float = CUT
) -> Iterator[SoftMask]:
    """Planes with every gap closed that is at most `gap` frames long: see `bridge`.

    A gap is a run of frames without a pixel of at least 0.5, between two of the same shot that
    have one. Other planes pass through untouched. As many planes as came in, in order; ValueError
    where frames and planes differ in number. Holds `gap` + 2 frames at most.
    """
    _check("gap", gap)
    moments: list[
        tuple[int, RgbPicture, SoftMask]
    ] = []  # the last plane seen, and those missing since
    for moment in _pair(frames, planes, cut):
        plane = moment[2]
        same_shot = bool(moments) and moments[0][0] == moment[0]
        if same_shot and not has_pixels(plane) and len(moments) <= gap:
            moments.append(moment)
            continue
        closes = same_shot and has_pixels(plane)
        yield from _fill_gap([*moments, moment]) if closes else _list_planes(moments[1:])
        yield plane
        moments = [moment] if has_pixels(plane) else []
    yield from _list_planes(moments[1:])


def _fill_gap(moments: Sequence[tuple[int, RgbPicture, SoftMask]]) -> list[SoftMask]:
    """Masks of what lies between the first and the last of moments that both have one."""
    if len(moments) <= 2:
        return []
    return bridge([picture for _, picture, _ in moments], moments[0][2], moments[-1][2])


def _list_planes(moments: Sequence[tuple[int, RgbPicture, SoftMask]]) -> list[SoftMask]:
    return [plane for _, _, plane in moments]


def bridge(pictures: Sequence[RgbPicture], first: SoftMask, last: SoftMask) -> list[SoftMask]:
    """Masks of the frames between two that have one: `pictures` includes both, results do not.

    Each of the two is carried towards the other by optical flow, frame by frame, and their signed
    distances are blended by time. Where the flow loses the region (carried all the way, it meets
    the other mask with an IoU below 0.5) it moves on a straight line instead. Edges are one pixel
    soft. ValueError where one of the two masks is empty.
    """
    return try_bridge(pictures, first, last)[0]


def try_bridge(
    pictures: Sequence[RgbPicture], first: SoftMask, last: SoftMask
) -> tuple[list[SoftMask], bool]:
    """`bridge`, and whether the motion takes each mask to the other: else it is a straight line."""
    if not (has_pixels(first) and has_pixels(last)):
        raise ValueError("a gap can be bridged only between two masks that are not empty")
    steps = len(pictures) - 1
    greys = [_to_grey(picture) for picture in pictures]
    ends = signed_distance(first), signed_distance(last)
    ahead = _carry(greys, ends[0])
    back = _carry(greys[::-1], ends[1])[::-1]
    meets = (
        _compute_overlap(ahead[-1], ends[1]) >= AGREE
        and _compute_overlap(back[0], ends[0]) >= AGREE
    )
    if not meets:
        ahead, back = _slide(*ends, steps), _slide(ends[1], ends[0], steps)[::-1]
    masks = [
        _mask(ahead[k] * np.float32(1 - k / steps) + back[k] * np.float32(k / steps))
        for k in range(1, steps)
    ]
    return masks, meets


def carry_onward(pictures: Sequence[RgbPicture], first: SoftMask) -> list[SoftMask]:
    """A mask of the first picture on each of the others, carried by optical flow from one to next.

    Edges are one pixel soft. ValueError where the mask is empty.
    """
    if not has_pixels(first):
        raise ValueError("an empty mask cannot be carried")
    greys = [_to_grey(picture) for picture in pictures]
    return [_mask(field) for field in _carry(greys, signed_distance(first))[1:]]


def split_shots(frames: Iterable[RgbPicture], cut: float = CUT) -> Iterator[tuple[int, RgbPicture]]:
    """Each frame with the number of its shot, counted from 0.

    A shot begins where colour histograms, taken in 3 x 3 tiles of a small picture, differ from
    those of the frame before by `cut` or more (0 equal, 1 disjoint). A dissolve is no cut; a flash
    may be two.
    """
    shot, before = 0, None
    for picture in frames:
        now = _compute_histogram(picture)
        if before is not None and _differ(before, now) >= cut:
            shot += 1
        before = now
        yield shot, picture


def measure_change(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """How far the colours of two frames (H W 3) differ, 0 to 1; `split_shots` says how."""
    return _differ(*(_compute_histogram(torch.from_numpy(it)) for it in (first, second)))


def _differ(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(np.abs(first - second).sum()) / 2


def has_pixels(plane: SoftMask) -> bool:
    """Whether a pixel belongs, at 0.5."""
    return bool((plane >= INSIDE).any())


def signed_distance(plane: SoftMask) -> _Field:
    """Pixels from the border at 0.5, above 0 inside, cut at 32; the plane has pixels inside."""
    inside = (plane.numpy() >= INSIDE).astype(np.uint8)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    beyond = cv2.distanceTransform(1 - inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Distances are between centres of pixels; the border lies half a pixel before the other side.
    distance = np.where(inside > 0, depth - 0.5, 0.5 - beyond)
    return np.clip(distance, -REACH, REACH).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Moment:
    shot: int
    grey: NDArray[np.uint8]
    plane: SoftMask
    distance: _Field | None  # None where the plane is empty


def _settle(around: Sequence[_Moment], centre: int) -> SoftMask:
    now = around[centre]
    usable = [k for k, it in enumerate(around) if it.shot == now.shot and it.distance is not None]
    if not usable or (now.distance is None and not usable[0] < centre < usable[-1]):
        return now.plane
    fields = [
        warp(moment.distance, estimate_flow(now.grey, moment.grey))
        if k != centre
        else moment.distance
        for k, moment in ((k, around[k]) for k in usable)
        if moment.distance is not None
    ]
    return _mask(np.mean(fields, axis=0))


def _pair(
    frames: Iterable[RgbPicture], planes: Iterable[SoftMask], cut: float
) -> Iterator[tuple[int, RgbPicture, SoftMask]]:
    for moment, plane in zip_longest(split_shots(frames, cut), planes):
        if moment is None or plane is None:
            more, fewer = ("masks", "frames") if moment is None else ("frames", "masks")
            raise ValueError(f"a clip has more {more} than {fewer}; give one mask a frame")
        yield *moment, plane


def _slide_window(items: Iterable[T], radius: int) -> Iterator[tuple[list[T], int]]:
    """For each item those at most `radius` from it, and where it stands among them."""
    window: list[T] = []
    centre = 0
    for item in items:
        window.append(item)
        if len(window) - centre > radius:
            yield window, centre
            centre += 1
            if centre > radius:
                del window[0]
                centre -= 1
    while centre < len(window):
        yield window, centre
        centre += 1
        if centre > radius:
            del window[0]
            centre -= 1


def _carry(greys: Sequence[NDArray[np.uint8]], field: _Field) -> list[_Field]:
    """A field of the first frame on every frame, from one to the next."""
    fields = [field]
    for before, now in pairwise(greys):
        fields.append(warp(fields[-1], estimate_flow(now, before)))
    return fields


def _slide(field: _Field, towards: _Field, steps: int) -> list[_Field]:
    """A field moved on a straight line from its own centre to that of another."""
    (x, y), (to_x, to_y) = _find_middle(field), _find_middle(towards)
    motion = np.empty((*field.shape, 2), np.float32)
    fields = []
    for step in range(steps + 1):
        motion[:] = (x - to_x) * step / steps, (y - to_y) * step / steps
        fields.append(warp(field, motion))
    return fields


def _find_middle(field: _Field) -> tuple[float, float]:
    rows, columns = np.nonzero(field > 0)
    return float(columns.mean()), float(rows.mean())


def _compute_overlap(first: _Field, second: _Field) -> float:
    union = int(((first > 0) | (second > 0)).sum())
    return int(((first > 0) & (second > 0)).sum()) / union if union else 0.0


def _mask(field: _Field) -> SoftMask:
    """Signed distance to coverage: the border is one pixel soft."""
    return torch.from_numpy(np.clip(field + np.float32(0.5), 0, 1).astype(np.float32))


def _to_grey(picture: RgbPicture) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(picture.numpy(), cv2.COLOR_RGB2GRAY), np.uint8)


def _compute_histogram(picture: RgbPicture) -> NDArray[np.float64]:
    """Colour histograms of the tiles of a small picture, all bins together summing to 1."""
    small = cv2.resize(picture.numpy(), (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    side = THUMBNAIL // TILES
    tiles = small.reshape(TILES, side, TILES, side, 3).transpose(0, 2, 4, 1, 3)
    tiles = tiles.reshape(TILES * TILES * 3, side * side).astype(np.float64)
    # Split between the two nearest bins, so that a slight change of light moves no whole pixel.
    place = tiles / 256 * (BINS - 1)
    low = place.astype(int)
    share = place - low
    rows = np.arange(len(tiles))[:, None] * BINS
    count: Any = np.bincount((rows + low).ravel(), (1 - share).ravel(), len(tiles) * BINS)
    count = count + np.bincount((rows + low + 1).ravel(), share.ravel(), len(tiles) * BINS)
    result: NDArray[np.float64] = count / tiles.size
    return result


def _check(name: str, count: int) -> None:
    if count < 0:
        raise ValueError(f"{name} is {count} frames; use 0 or more")
