"""Faces by the cascades that ship with OpenCV, each put to the vote of several of them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from frisket.maskgen.base import Box

Grey = NDArray[Any]  # uint8, H W

CASCADES = ("frontalface_alt2", "frontalface_default", "frontalface_alt")
PROPOSERS = CASCADES[:2]
LOOK = 400  # longest side that faces are looked for at: one of 20 pixels is 5 % of the picture
SMALLEST = 20  # pixels: what the cascades were trained on
FACE = 72  # pixels: the size every proposal is brought to before the vote
SAME_FACE = 0.35  # boxes that overlap by more are one face
FULL = 50  # raw hits of the weakest cascade that count as certain
MOST_GAIN = 4.0  # of contrast: more would make faces of the noise on a wall
NEAR = 0.25  # of the side: how far from the middle a vote's box may lie


@dataclass(frozen=True, slots=True)
class DraftFace:
    """A square face box (forehead to chin, without the ears) and how sure the vote is, 0 to 1."""

    box: Box
    score: float

    @property
    def side(self) -> float:
        """Of the square, in pixels of the picture."""
        return self.box.right - self.box.left


def find_faces(grey: Grey, least: float) -> list[DraftFace]:
    """Upright frontal faces whose vote reaches `least`, largest first.

    Two cascades propose on the picture made small; on a cut-out of each proposal, brought to one
    size, three cascades look again, at it and at its mirror image. The raw hits of the *weakest*
    cascade are the score: textures fool one cascade with many hits, but seldom all three
    (benchmarks/mask_quality.py counts).
    """
    grey = _stretch(grey)
    candidates: list[DraftFace] = []
    for box in _group(_propose(grey)):
        voted = _vote(grey, box)
        if voted is not None and voted.score >= least:
            candidates.append(voted)
    faces: list[DraftFace] = []
    for face in sorted(candidates, key=lambda face: -face.score):
        if all(_measure_shared(face.box, other.box) < SAME_FACE for other in faces):
            faces.append(face)
    return sorted(faces, key=lambda face: -face.side)


def _stretch(grey: Grey) -> Grey:
    """Contrast a dark picture lacks, as far as its 256 levels give it."""
    low, high = (float(level) for level in np.percentile(grey, (1, 99)))
    gain = min(255 / max(high - low, 1), MOST_GAIN)
    return grey if gain <= 1 else cv2.convertScaleAbs(np.maximum(grey, low) - low, alpha=gain)


@cache
def _load_cascade(name: str) -> Any:
    path = Path(cv2.__file__).parent / "data" / f"haarcascade_{name}.xml"
    return cv2.CascadeClassifier(str(path))


def _propose(grey: Grey) -> list[Box]:
    scale = LOOK / max(grey.shape)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    look = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=method)
    boxes = []
    for name in PROPOSERS:
        hits = _load_cascade(name).detectMultiScale(look, 1.1, 2, minSize=(SMALLEST, SMALLEST))
        for x, y, wide, high in np.reshape(hits, (-1, 4)) / scale:
            boxes.append(Box(float(x), float(y), float(x + wide), float(y + high)))
    # OpenCV's threads find them in any order.
    return sorted(boxes, key=lambda box: (box.area, box.left, box.top))


def _measure_shared(first: Box, second: Box) -> float:
    """Overlap, and 1 where the smaller's middle lies in the larger: a nose is no second face."""
    inner = min(first, second, key=lambda box: box.area)
    outer = second if inner is first else first
    x, y = inner.centre
    inside = outer.left < x < outer.right and outer.top < y < outer.bottom
    return 1.0 if inside else first.overlap(second)


def _group(boxes: list[Box]) -> list[Box]:
    groups: list[list[Box]] = []
    for box in boxes:
        group = next((group for group in groups if group[0].overlap(box) > SAME_FACE), None)
        if group is None:
            groups.append([box])
        else:
            group.append(box)
    return [_take_median(group) for group in groups]


def _take_median(boxes: list[Box]) -> Box:
    edges = [(box.left, box.top, box.right, box.bottom) for box in boxes]
    left, top, right, bottom = np.median(edges, axis=0).tolist()
    return Box(left, top, right, bottom)


def _vote(grey: Grey, box: Box) -> DraftFace | None:
    """Every cascade's hits on one proposal and on its mirror image; None where there are none."""
    window = round(2 * (box.right - box.left))  # half a face of room on every side
    left, top = (round(middle - window / 2) for middle in box.centre)
    crop, scale = _cut_out(grey, left, top, window), window / (2 * FACE)
    all_hits: list[Box] = []
    counts = []
    for name in CASCADES:
        hits = [hit for mirrored in (False, True) for hit in _find_hits(name, crop, mirrored)]
        all_hits += hits
        counts.append(sum(hit.score or 0 for hit in hits))
    if not all_hits:
        return None
    middle = _take_median(all_hits)
    voted_box = Box(
        left=middle.left * scale + left,
        top=middle.top * scale + top,
        right=middle.right * scale + left,
        bottom=middle.bottom * scale + top,
    )
    return DraftFace(voted_box, min(min(counts) / FULL, 1.0))


def _find_hits(name: str, crop: Grey, mirrored: bool) -> list[Box]:
    """What one cascade finds in the middle of a crop, its raw hits as the score."""
    view = np.ascontiguousarray(crop[:, ::-1]) if mirrored else crop
    smallest, largest = FACE * 7 // 10, FACE * 29 // 20
    rectangles, counts = _load_cascade(name).detectMultiScale2(
        view, 1.05, 1, minSize=(smallest, smallest), maxSize=(largest, largest)
    )
    hits = []
    for (x, y, wide, high), count in zip(np.reshape(rectangles, (-1, 4)), counts, strict=True):
        left = 2 * FACE - x - wide if mirrored else x
        hit = Box(float(left), float(y), float(left + wide), float(y + high), score=float(count))
        if max(abs(hit.centre[0] - FACE), abs(hit.centre[1] - FACE)) < NEAR * FACE:
            hits.append(hit)
    return hits


def _cut_out(grey: Grey, left: int, top: int, side: int) -> Grey:
    """A square of the picture at twice FACE pixels; beyond the border its last pixel goes on."""
    rows = np.clip(np.arange(top, top + side), 0, grey.shape[0] - 1)
    columns = np.clip(np.arange(left, left + side), 0, grey.shape[1] - 1)
    method = cv2.INTER_AREA if side > 2 * FACE else cv2.INTER_LINEAR
    return cv2.resize(grey[rows][:, columns], (2 * FACE, 2 * FACE), interpolation=method)
