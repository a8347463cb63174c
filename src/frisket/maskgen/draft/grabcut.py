"""From a face box to a person: GrabCut between nested guesses of head and torso, then the head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from frisket.maskgen.base import Box

_Pixels = NDArray[Any]  # uint8, H W 3, RGB
Region = NDArray[np.bool_]  # H W
Soft = NDArray[np.float32]  # H W, [0, 1]

FACE = 64  # pixels: larger faces are brought down to it, so that one set of numbers serves all
SMALL_FACE = 40  # smaller ones are brought up to it, or single pixels would decide
SIDEWAYS, UP, DOWN = 3.0, 1.9, 8.0  # how far a window reaches from the middle of the face, in faces
ROUNDS = 2  # of GrabCut: more of them gain nothing and let the colours drift

# Three guesses of where a person can be at all: the head's size and half the torso's width. What
# two of three cuts hold belongs, so a flag that only the widest guess reaches does not.
GUESSES = ((0.85, 1.8), (0.93, 2.2), (1.0, 2.6))
LIKENESS = 10.0  # squared deviations up to which a colour is still the hair's
DEVIATIONS = (12.0, 5.0, 5.0)  # least of the Lab colours of one thing: lighting varies most
LIGHTNESS = 0.6  # weight of L against a and b, for the same reason
STEP = 8  # of L, a and b together, in 256 levels each: what an edge has at least
ENOUGH = 30  # pixels a colour is read from


@dataclass(frozen=True, slots=True)
class CropWindow:
    """The part of a picture around one face, at that face's scale.

    `x` (1 W) and `y` (H 1) are distances of its pixels from the middle of the face, to the right
    and down, in units of the face's side.
    """

    pixels: _Pixels
    rows: slice  # of the picture
    columns: slice
    x: NDArray[np.float64]
    y: NDArray[np.float64]

    def ellipse(self, y: float, wide: float, high: float) -> Region:
        """Pixels inside the ellipse around (0, y) with these half axes."""
        inside: Region = (self.x / wide) ** 2 + ((self.y - y) / high) ** 2 < 1
        return inside

    def torso(self, top: float, neck: float, wide: float, low: float) -> Region:
        """Pixels below `top`, within half a `neck` there and half a `wide` from `low` on."""
        slope = np.sqrt(np.clip((self.y - top) / (low - top), 0, 1))  # shoulders round off
        inside: Region = (np.abs(self.x) < neck + (wide - neck) * slope) & (self.y > top)
        return inside

    def reach(self, head: float, width: float) -> Region:
        """Where a person can be at all, by one of the guesses."""
        return self.ellipse(-0.2, head, 1.15 * head) | self.torso(0.3, 0.6, width, 2.8)

    @property
    def likely(self) -> Region:
        """Where a person probably is."""
        return self.ellipse(-0.12, 0.68, 0.85) | self.torso(0.6, 0.42, 1.35, 2.0)

    @property
    def core(self) -> Region:
        """The inner face, which is nothing else."""
        return self.ellipse(0.1, 0.30, 0.36)

    def face_of(self, other: Box, face: Box) -> Region:
        """Where the face of somebody `other` is; `face` is the one this window is around."""
        side = face.right - face.left
        x, y = ((a - b) / side for a, b in zip(other.centre, face.centre, strict=True))
        half = (other.right - other.left) / side / 2
        inside: Region = (self.x - x) ** 2 + (self.y - y) ** 2 < half**2
        return inside

    def place(self, region: Region, height: int, width: int) -> Soft:
        """The region in a picture of that size, soft where a border was scaled."""
        size = (self.columns.stop - self.columns.start, self.rows.stop - self.rows.start)
        method = cv2.INTER_AREA if size[0] < region.shape[1] else cv2.INTER_LINEAR
        picture = np.zeros((height, width), np.float32)
        picture[self.rows, self.columns] = cv2.resize(
            region.astype(np.float32), size, interpolation=method
        )
        return picture


@dataclass(frozen=True, slots=True)
class PersonEstimate:
    """A person's pixels of a window, and how the cuts came to them; numbers in [0, 1].

    `agreement`: mean IoU of the three cuts with their majority. `contact`: share of the rim of the
    middle guess that the person touches, high where it ran out into the background. `kept`: share
    of the likely place that is the person's, low where most of it was cut away. `edged`: share of
    the outline that runs along an edge of the picture, low where it runs through a bare wall.
    """

    region: Region
    agreement: float
    contact: float
    kept: float
    edged: float

    @property
    def trust(self) -> float:
        """How far the cut is to be believed, in all."""
        return self.agreement * (1 - self.contact) * self.edged


def window_of(picture: _Pixels, face: Box) -> CropWindow:
    """Cut and scale the surroundings of a face; `face` is the cascades' square box."""
    side = face.right - face.left
    x, y = face.centre
    high, wide, _ = picture.shape
    columns = slice(max(int(x - SIDEWAYS * side), 0), min(int(x + SIDEWAYS * side) + 1, wide))
    rows = slice(max(int(y - UP * side), 0), min(int(y + DOWN * side) + 1, high))
    scale = min(FACE / side, 1.0) if side > SMALL_FACE else SMALL_FACE / side
    cut = picture[rows, columns]
    size = max(round(cut.shape[1] * scale), 8), max(round(cut.shape[0] * scale), 8)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    along = (np.arange(size[0]) + 0.5) * cut.shape[1] / size[0] + columns.start
    down = (np.arange(size[1]) + 0.5) * cut.shape[0] / size[1] + rows.start
    return CropWindow(
        pixels=cv2.resize(cut, size, interpolation=method),
        rows=rows,
        columns=columns,
        x=(along[None] - x) / side,
        y=(down[:, None] - y) / side,
    )


def cut_person(window: CropWindow, other_faces: Sequence[Region] = ()) -> PersonEstimate:
    """The majority of three cuts, its holes filled, as far as it hangs together with the face."""
    excluded = (
        np.any(other_faces, axis=0) if len(other_faces) else np.zeros(window.pixels.shape[:2], bool)
    )
    cuts = [
        _cut(window, window.reach(*guess) & ~excluded, mirrored=turn % 2 == 1)
        for turn, guess in enumerate(GUESSES)
    ]
    majority = np.sum(cuts, axis=0) > len(cuts) / 2
    smooth = _close(_open(majority, 1), 3)
    region = _fill_holes(_keep_touching(smooth | window.core, window.core)) & ~excluded
    middle = window.reach(*GUESSES[1])
    rim = middle & ~_erode(middle, 2)
    return PersonEstimate(
        region=region,
        agreement=float(np.mean([_share(cut & region, cut | region) for cut in cuts])),
        contact=_share(region & rim, rim),
        kept=_share(region & window.likely, window.likely),
        edged=_measure_edges(window.pixels, region),
    )


def _measure_edges(pixels: _Pixels, region: Region) -> float:
    outline = region & ~_erode(region, 1)
    lab = cv2.GaussianBlur(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB), (0, 0), 0.8)
    steps = cv2.morphologyEx(lab, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8))
    return _share(outline & (steps.sum(axis=2, dtype=np.int32) > STEP), outline)


def _cut(window: CropWindow, reach: Region, *, mirrored: bool) -> Region:
    seeds = np.full(reach.shape, cv2.GC_BGD, np.uint8)
    seeds[reach] = cv2.GC_PR_BGD
    seeds[reach & window.likely] = cv2.GC_PR_FGD
    # Below a chin there is a neck or a collar, whatever its colour: else a black one gets lost.
    spine = (np.abs(window.x) < 0.3) & (window.y > 0.6) & (window.y < 3)
    seeds[reach & (spine | window.ellipse(0.08, 0.36, 0.44))] = cv2.GC_FGD
    if not mirrored:
        return _grab(window.pixels, seeds)
    return _grab(*(np.ascontiguousarray(side[:, ::-1]) for side in (window.pixels, seeds)))[:, ::-1]


def _grab(pixels: _Pixels, seeds: NDArray[np.uint8]) -> Region:
    """GrabCut (Rother et al. 2004) from seeds that hold sure foreground; the same every time."""
    if not np.isin(seeds, (cv2.GC_BGD, cv2.GC_PR_BGD)).any():
        return np.ones(seeds.shape, bool)  # a close-up: nothing to tell it apart from
    cv2.setRNGSeed(0)
    models, no_box = np.zeros((2, 1, 65)), (0, 0, 0, 0)
    cv2.grabCut(pixels, seeds, no_box, models[0], models[1], ROUNDS, cv2.GC_INIT_WITH_MASK)
    inside: Region = (seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)
    return inside


def cut_face(window: CropWindow, person: Region) -> Region:
    """The face of a person: a second cut, of skin against hair, collar and background."""
    seeds = np.full(person.shape, cv2.GC_BGD, np.uint8)
    seeds[person & window.ellipse(0.1, 0.60, 0.66)] = cv2.GC_PR_BGD
    seeds[person & window.ellipse(0.1, 0.50, 0.56)] = cv2.GC_PR_FGD
    seeds[window.core] = cv2.GC_FGD
    head = np.ix_(np.abs(window.y[:, 0]) < 1.1, np.abs(window.x[0]) < 1.1)
    face = np.zeros_like(person)
    face[head] = _grab(np.ascontiguousarray(window.pixels[head]), seeds[head])
    smooth = _close(_open(face, 3), 5)  # glasses and brows belong to it
    return _fill_holes(_keep_touching(smooth | window.core, window.core)) & person


def cut_hair(window: CropWindow, person: Region, face: Region) -> Region:
    """The hair of a person: all of the head that is no face, and what hangs down in its colour.

    A hat counts as hair: there is no telling them apart by colour.
    """
    rest = person & ~face
    above = rest & (window.y < 0.3)
    if above.sum() < ENOUGH:
        return above
    lab = cv2.cvtColor(window.pixels, cv2.COLOR_RGB2LAB).astype(np.float32)
    unlike = _compare_colour(lab, above)
    chest = rest & (np.abs(window.x) < 1.2) & (window.y > 1.3) & (window.y < 3)
    hanging = rest & (np.abs(window.x) < 1.0) & (window.y < 1.2) & (unlike < LIKENESS)
    if chest.sum() >= ENOUGH:
        hanging &= unlike < _compare_colour(lab, chest)
    return _keep_touching(above | _open(above | hanging, 2), above) & rest


def _compare_colour(lab: NDArray[np.float32], region: Region) -> NDArray[np.float64]:
    """Squared deviations of each pixel from the colour of a region, by median and MAD."""
    colours = lab[region]
    middle = np.median(colours, axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(colours - middle), axis=0), DEVIATIONS)
    away: NDArray[np.float64] = ((lab - middle) / spread) ** 2 @ np.array([LIGHTNESS, 1, 1])
    return away


def _share(part: Region, total: Region) -> float:
    return float(part.sum() / max(total.sum(), 1))


def _make_disc(radius: int) -> NDArray[Any]:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def _erode(region: Region, radius: int) -> Region:
    return cv2.erode(region.astype(np.uint8), _make_disc(radius)) > 0


def _open(region: Region, radius: int) -> Region:
    return cv2.morphologyEx(region.astype(np.uint8), cv2.MORPH_OPEN, _make_disc(radius)) > 0


def _close(region: Region, radius: int) -> Region:
    return cv2.morphologyEx(region.astype(np.uint8), cv2.MORPH_CLOSE, _make_disc(radius)) > 0


def _keep_touching(region: Region, core: Region) -> Region:
    """The patches of a region that hold a pixel of `core`."""
    count, labels = cv2.connectedComponents(region.astype(np.uint8), connectivity=4)
    keeps = np.zeros(count, bool)
    keeps[labels[core]] = True
    keeps[0] = False
    result: Region = keeps[labels]
    return result


def _fill_holes(region: Region) -> Region:
    """Without holes: what does not hang together with the window's border is filled."""
    border = np.zeros_like(region)
    border[[0, -1]] = True
    border[:, [0, -1]] = True
    return ~_keep_touching(~region, border & ~region)
