"""A thing cut out by clicks or a box without any model: GrabCut between guesses of its extent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from frisket.maskgen.base import Box, ClickPoint, RgbPicture, Segment
from frisket.maskgen.cleanup.clean import refine_border
from frisket.maskgen.draft.grabcut import Region

SIDE = 288  # pixels of the longer side that is cut: colours decide, not detail
ROUNDS = 3  # of GrabCut
DAB = 0.012  # radius of a click, as a share of the longer side: what is sure around it
REACHES = (0.07, 0.16, 0.32)  # radii of what a click alone may mean, as shares of the longer side
LEAST = 8.0  # areas of a click's own square: less is the click itself
BEYOND = 2.0  # how far a thing may reach past its guess, in guesses
FILLED = 0.85  # share of a box's sides that the likely place within it has
STEP = 90.0  # of L, a and b together, of a full edge
MARGIN = (
    0.25  # of what is possible, that is looked at around it: the background that counts is near
)
SAME_IOU = 0.95  # IoU from which two candidates are one
EPS = 1e-3  # ridge of the guided filter that lays the border on edges of the whole picture


@dataclass(frozen=True, slots=True)
class Clicked:
    """What is known of a picture before it is clicked: nothing."""

    bytes: int = 0


def cut_click(
    picture: RgbPicture, points: Sequence[ClickPoint], box: Box | None = None
) -> list[Segment]:
    """Up to three things that clicks, a box or both may mean, the likeliest first.

    A click inside belongs to the thing, one outside does not; with a box nothing beyond it does.
    The score in [0, 1] is how strong the edges of the picture along the outline are, less those
    within: a thing, and not half of one or two of them. The same every time. ValueError where
    nothing is asked for (no click inside, no box), or points lie outside the picture.
    """
    high, wide, _ = picture.shape
    _check(points, box, high, wide)
    scale = min(SIDE / max(high, wide), 1.0)
    size = (max(round(wide * scale), 8), max(round(high * scale), 8))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    pixels = cv2.resize(np.ascontiguousarray(picture.numpy()), size, interpolation=method)
    across, down = size[0] / wide, size[1] / high
    clicks = [(x * across, y * down, inside) for x, y, inside in points]
    frame = None
    if box is not None:
        frame = (box.left * across, box.top * down, box.right * across, box.bottom * down)
    edges = _find_edges(pixels)
    candidates: list[tuple[float, Region]] = []
    for seeds in _list_seeds(pixels.shape[:2], clicks, frame):
        region = _cut(pixels, seeds, clicks)
        overlaps = (_measure_overlap(region, other) for _, other in candidates)
        if region.any() and not any(overlap > SAME_IOU for overlap in overlaps):
            candidates.append((_rate(region, edges), region))
    candidates.sort(key=lambda candidate: -candidate[0])
    sizable = [
        candidate for candidate in candidates if candidate[1].sum() > LEAST * (DAB * max(size)) ** 2
    ]
    return [
        Segment(_enlarge(region, picture, scale), round(score, 4), box=box)
        for score, region in sizable or candidates[:1]
    ]


def _check(points: Sequence[ClickPoint], box: Box | None, high: int, wide: int) -> None:
    if box is None and not any(inside for _, _, inside in points):
        raise ValueError("points: give at least one click inside the thing, or a box around it")
    for x, y, _ in points:
        if not (0 <= x < wide and 0 <= y < high):
            raise ValueError(
                f"points: {x:g},{y:g} lies outside the picture of {wide} x {high} pixels"
            )
    if box is not None and box.within(high, wide) is None:
        raise ValueError(f"box: {box.left:g},{box.top:g},{box.right:g},{box.bottom:g} is empty")


def _list_seeds(
    size: tuple[int, ...], clicks: Sequence[ClickPoint], frame: tuple[float, ...] | None
) -> list[NDArray[np.uint8]]:
    """What is sure and what likely, one guess after the other, as GrabCut takes it."""
    high, wide = size
    y, x = np.mgrid[:high, :wide].astype(np.float32) + 0.5
    longest = max(high, wide)
    near = _measure_near(x, y, clicks)
    guesses: list[NDArray[np.uint8]] = []
    if frame is not None:
        left, top, right, bottom = frame
        inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
        middle = ((left + right) / 2, (top + bottom) / 2)
        half = (max(right - left, 1) / 2, max(bottom - top, 1) / 2)
        round_place = ((x - middle[0]) / half[0]) ** 2 + ((y - middle[1]) / half[1]) ** 2
        for likely in (inside, inside & (round_place < FILLED**2), inside & (round_place < 0.36)):
            guesses.append(_mark(inside, likely | (near < DAB * longest)))
    else:
        for reach in REACHES:
            likely = near < reach * longest
            guesses.append(_mark(near < BEYOND * reach * longest, likely))
    for seeds in guesses:
        for at_x, at_y, inside in clicks:
            dab = (x - at_x) ** 2 + (y - at_y) ** 2 <= max(DAB * longest, 1.5) ** 2
            seeds[dab] = cv2.GC_FGD if inside else cv2.GC_BGD
    return guesses


def _mark(possible: Region, likely: Region) -> NDArray[np.uint8]:
    seeds = np.full(possible.shape, cv2.GC_BGD, np.uint8)
    seeds[possible] = cv2.GC_PR_BGD
    seeds[possible & likely] = cv2.GC_PR_FGD
    return seeds


def _measure_near(
    x: NDArray[np.float32], y: NDArray[np.float32], clicks: Sequence[ClickPoint]
) -> NDArray[np.float32]:
    """Distance of each pixel from the nearest click inside; infinite without one."""
    near = np.full(x.shape, np.inf, np.float32)
    for at_x, at_y, inside in clicks:
        if inside:
            near = np.minimum(near, np.hypot(x - at_x, y - at_y))
    return near


def _cut(pixels: NDArray[Any], seeds: NDArray[np.uint8], clicks: Sequence[ClickPoint]) -> Region:
    """GrabCut (Rother et al. 2004), and of what it gives the patches that were clicked."""
    marks = seeds.copy()
    has_background = bool(np.isin(marks, (cv2.GC_BGD, cv2.GC_PR_BGD)).any())
    has_thing = bool(np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD)).any())
    if not (has_background and has_thing):
        return np.full(marks.shape, has_thing)
    part = _crop(marks)
    cut, near = np.ascontiguousarray(marks[part]), np.ascontiguousarray(pixels[part])
    cv2.setRNGSeed(0)
    models = np.zeros((2, 1, 65))
    cv2.grabCut(near, cut, (0, 0, 0, 0), models[0], models[1], ROUNDS, cv2.GC_INIT_WITH_MASK)
    region = np.zeros(marks.shape, bool)
    region[part] = (cut == cv2.GC_FGD) | (cut == cv2.GC_PR_FGD)
    return _fill_holes(_keep_patches(region, seeds == cv2.GC_FGD), clicks)


def _crop(marks: NDArray[np.uint8]) -> tuple[slice, slice]:
    """What is possible, and some of the background around it."""
    spans = []
    for axis in (1, 0):
        at = np.flatnonzero((marks != cv2.GC_BGD).any(axis))
        margin = round((at[-1] - at[0] + 1) * MARGIN) + 4
        spans.append(slice(max(at[0] - margin, 0), at[-1] + margin + 1))
    return spans[0], spans[1]


def _keep_patches(region: Region, sure_pixels: Region) -> Region:
    """The patches that hold something sure; the largest where nothing is."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        region.astype(np.uint8), connectivity=4
    )
    if count <= 1:
        return region
    keeps = np.zeros(count, bool)
    if (region & sure_pixels).any():
        keeps[labels[region & sure_pixels]] = True
    else:
        keeps[1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))] = True
    keeps[0] = False
    result: Region = keeps[labels]
    return result


def _fill_holes(region: Region, clicks: Sequence[ClickPoint]) -> Region:
    """Without holes, but for those somebody clicked as outside."""
    count, labels = cv2.connectedComponents((~region).astype(np.uint8), connectivity=4)
    opens = np.zeros(count, bool)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        opens[edge] = True
    for x, y, inside in clicks:
        if not inside:
            row = min(int(y), region.shape[0] - 1)
            opens[labels[row, min(int(x), region.shape[1] - 1)]] = True
    result: Region = region | ~opens[labels]
    return result


def _find_edges(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """How much of a full edge each pixel is, in [0, 1]."""
    lab = cv2.GaussianBlur(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB), (0, 0), 0.8)
    steps = cv2.morphologyEx(lab, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    edges: NDArray[np.float32] = np.minimum(steps.sum(axis=2, dtype=np.float32) / STEP, 1)
    return edges


def _rate(region: Region, edges: NDArray[np.float32]) -> float:
    """How strong the edges along the outline are, less those within."""
    # Where the picture's own border cuts the thing, it follows no edge.
    pixels, window = region.astype(np.uint8), np.ones((3, 3), np.uint8)
    inner = cv2.erode(pixels, window, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    outline = region & ~inner
    inside = float(edges[inner].mean()) if inner.any() else 1.0
    edges = edges * _find_inside(region.shape)
    along = float(edges[outline].mean()) if outline.any() else 0.0
    return max(min(along * (1 - inside), 1.0), 0.0)


def _find_inside(size: tuple[int, ...]) -> Region:
    """All but the outermost pixels."""
    inside = np.zeros(size, bool)
    inside[1:-1, 1:-1] = True
    return inside


def _measure_overlap(region: Region, other: Region) -> float:
    return float((region & other).sum() / max((region | other).sum(), 1))


def _enlarge(region: Region, picture: RgbPicture, scale: float) -> torch.Tensor:
    """At the picture's size, in [0, 1], its border moved to the picture's own edges."""
    size = (picture.shape[1], picture.shape[0])
    large = cv2.resize(region.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    mask = torch.from_numpy(large)
    return refine_border(mask, picture, 1 / scale, EPS).clamp(0, 1) if scale < 1 else mask
