"""How well a mask follows its picture: as it lies, mirrored, turned, and moved a little."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray

from frisket.media.stills.orientation import turn_upright

_Image = NDArray[Any]

COARSE, FINE = 160, 448  # pixels of the longer side: for turns, and for shifts of a few percent
BLUR = {COARSE: 1.5, FINE: 2.0}  # pixels that borders and edges are blurred by
REACH = {COARSE: 26, FINE: 72}  # pixels that a mask is moved by at most
BY_HAND = 3  # pixels (at COARSE) that hand-drawn borders lie off
NEAR = 2  # pixels (at FINE) that an exact border may be off
LOOSE = (2, 4, 7, 10)  # pixels (at FINE) by which masks are drawn too wide or too narrow
APART = 12  # pixels (at FINE) from the best place, from which another is another place
RING = (5, 8)  # pixels (at FINE) around the best place, to tell how sharp it is
STEADY = 2.5  # pixels (at FINE) by which it may change with the width of the mask
SHORTEST = 20  # pixels of border below which nothing can be told
COLOURS = 6  # steps of each channel in which colours inside and outside are compared
SURE, LEAD = 0.3, 1.4  # score of a quarter turn, and against the next best, to be sure of it
SQUARE = 0.02  # difference of the sides up to which a mask may have been turned by 90 degrees

UPRIGHT, MIRRORED, HALF, UPSIDE = 1, 2, 3, 4  # what to do to a mask, by EXIF's numbers
BY_QUARTERS = (5, 6, 7, 8)


@dataclass(frozen=True, slots=True)
class Alignment:
    """A mask turned by EXIF's number `orientation`, against the mask as it lies (natural logs).

    `edges`: how much better its border follows edges; `colours`: how much more colours tell inside
    from outside; `score`: the first in itself, from 0 to 1.
    """

    orientation: int
    edges: float
    colours: float
    score: float

    @property
    def gain(self) -> float:
        """Both together. Colours say less: a small region has few, which others have by chance."""
        return self.edges + 0.35 * min(max(self.colours, -1.0), 1.0)


@dataclass(frozen=True, slots=True)
class Move:
    """The best place of a mask nearby: `right` and `down` are shares of the longer side.

    `gain` is against the mask where it is, drawn wider or narrower if that fits better; `alone`
    against the best place elsewhere, `sharp` against the mean a few pixels around it; `steady`: the
    best place stays the same if the mask is drawn wider or narrower. `score` goes from 0 to 1, and
    is about 0.2 by chance.
    """

    right: float
    down: float
    gain: float
    alone: float
    sharp: float
    steady: bool
    score: float


class Edges:
    """The edges of a picture, prepared to be compared with borders at all shifts within reach.

    The score of a place is the mean along the border of (n . g)^2 / |g|^2, n the border's normal
    and g the picture's gradient, times how much of an edge there is: |g|^2 against its local mean.
    All places at once by FFT, as the square is linear in the structure tensor of the picture.
    """

    def __init__(self, picture: UInt8[np.ndarray, "H W 3"], side: int) -> None:
        """`side` is one of COARSE and FINE; `picture` is that size already."""
        self.blur, self.reach = BLUR[side], REACH[side]
        height, width = picture.shape[:2]
        self.size = (
            cv2.getOptimalDFTSize(max(height, self.reach + 1) + self.reach),
            cv2.getOptimalDFTSize(max(width, self.reach + 1) + self.reach),
        )
        tensor = _compute_structure(picture, self.blur / 1.5, side // 4 + 1)
        self.structure = torch.fft.rfft2(torch.from_numpy(tensor), s=self.size)
        self.frame = torch.fft.rfft2(torch.ones(height, width), s=self.size)

    def scores(self, mask: _Image) -> _Image | None:
        """Scores at all shifts within reach, (0, 0) in the middle; None for too short a border."""
        across, down = _compute_gradients(cv2.GaussianBlur(mask, (0, 0), self.blur))
        length = np.hypot(across, down)
        total = float(length.sum())
        if total < SHORTEST:
            return None
        x, y = across / np.maximum(length, 1e-6), down / np.maximum(length, 1e-6)
        border = np.stack([x * x, 2 * x * y, y * y]) * length
        border_fft = torch.fft.rfft2(torch.from_numpy(border), s=self.size).conj()
        weight = torch.fft.rfft2(torch.from_numpy(length), s=self.size).conj()
        response = torch.fft.irfft2((self.structure * border_fft).sum(0), s=self.size)
        inside = torch.fft.irfft2(self.frame * weight, s=self.size)
        # Shifted out of the picture by half or more, a border says nothing.
        scores = torch.where(
            inside >= 0.5 * total, response / inside.clamp_min(1e-6), torch.zeros(())
        )
        window = torch.roll(scores, (self.reach, self.reach), (0, 1))
        extent = 2 * self.reach + 1
        centred: _Image = window[:extent, :extent].numpy()
        return centred


def _compute_gradients(image: _Image) -> tuple[_Image, _Image]:
    sobel = partial(cv2.Sobel, ddepth=cv2.CV_32F, scale=0.125, borderType=cv2.BORDER_REPLICATE)
    return sobel(image, dx=1, dy=0), sobel(image, dx=0, dy=1)


def _compute_structure(picture: _Image, blur: float, around: int) -> _Image:
    """Structure tensor of a colour picture (xx, xy, yy), its trace between 0 (flat) and 1."""
    across, down = _compute_gradients(cv2.GaussianBlur(picture.astype(np.float32), (0, 0), blur))
    tensor = np.stack([across * across, across * down, down * down]).sum(-1)
    energy = tensor[0] + tensor[2]
    mean = cv2.blur(energy, (around, around), borderType=cv2.BORDER_REFLECT)
    edges: _Image = tensor / (energy + mean + 1)
    return edges.astype(np.float32)


def _find_best(scores: _Image, radius: int) -> float:
    return float(scores[_measure_distances(len(scores), 0, 0) <= radius**2].max())


def _measure_distances(extent: int, right: int, down: int) -> _Image:
    """Squared distance of each place from one that is so far from the middle."""
    y, x = np.mgrid[:extent, :extent] - extent // 2
    squared: _Image = (y - down) ** 2 + (x - right) ** 2
    return squared


def _shrink_pair(picture: _Image, mask: _Image, side: int) -> tuple[_Image, _Image]:
    scale = side / max(picture.shape[:2])
    size = (max(round(picture.shape[1] * scale), 8), max(round(picture.shape[0] * scale), 8))
    plane = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA), plane


def _measure_colours(picture: _Image, mask: _Image) -> float:
    """Share of what there is to know of inside and outside that a pixel's colour tells, 0 to 1."""
    steps = picture.astype(np.int64) * COLOURS // 256
    code = ((steps[..., 0] * COLOURS + steps[..., 1]) * COLOURS + steps[..., 2]).ravel()
    inside = np.bincount(code, mask.ravel(), COLOURS**3)
    totals = np.bincount(code, minlength=COLOURS**3)
    present = totals > 0
    doubt = _compute_entropy(np.array([inside.sum() / totals.sum()]))[0]
    left = (
        totals[present] * _compute_entropy(inside[present] / totals[present])
    ).sum() / totals.sum()
    return float(1 - left / doubt)


def _compute_entropy(share: _Image) -> _Image:
    share = np.clip(share, 1e-6, 1 - 1e-6)
    bits: _Image = -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
    return bits


def measure_turns(
    picture: UInt8[np.ndarray, "H W 3"], mask: Float[np.ndarray, "H W"], *, quarters: bool
) -> list[Alignment]:
    """How a mask would fit mirrored and turned, the best first; none where nothing can be told.

    `quarters` tries turns by 90 degrees too, where picture and mask are square.
    """
    small, plane = _shrink_pair(picture, mask, COARSE)
    edges = Edges(small, COARSE)
    scores = edges.scores(plane)
    if scores is None:
        return []
    own_score, own_colours = _find_best(scores, BY_HAND), _measure_colours(small, plane)
    height, width = plane.shape
    square = quarters and abs(height / width - 1) <= SQUARE
    alignments = []
    for orientation in (MIRRORED, HALF, UPSIDE, *(BY_QUARTERS if square else ())):
        other = np.ascontiguousarray(turn_upright(plane, orientation))
        if other.shape != plane.shape:
            other = cv2.resize(other, (width, height), interpolation=cv2.INTER_AREA)
        placed_scores = edges.scores(other)
        score = _find_best(placed_scores, BY_HAND) if placed_scores is not None else 0.0
        colours = _measure_colours(small, other)
        alignments.append(
            Alignment(
                orientation,
                _compare_logs(score, own_score, 0.02),
                _compare_logs(colours, own_colours, 0.01),
                score,
            )
        )
    return sorted(alignments, key=lambda alignment: -alignment.gain)


def find_quarter(picture: UInt8[np.ndarray, "H W 3"], mask: Float[np.ndarray, "W H"]) -> int | None:
    """EXIF's number of the turn by 90 degrees (some mirrored) by which a mask clearly fits."""
    height, width = picture.shape[:2]
    candidates = []
    for orientation in BY_QUARTERS:
        other = np.ascontiguousarray(turn_upright(mask, orientation)).astype(np.float32)
        resized = cv2.resize(other, (width, height), interpolation=cv2.INTER_AREA)
        small, plane = _shrink_pair(picture, resized, COARSE)
        scores = Edges(small, COARSE).scores(plane)
        candidates.append((_find_best(scores, BY_HAND) if scores is not None else 0.0, orientation))
    (best, orientation), (second, _), *_ = sorted(candidates, reverse=True)
    return orientation if best >= SURE and best >= LEAD * second else None


def _compare_logs(score: float, other: float, least: float) -> float:
    return math.log(max(score, least) / max(other, least))


def find_move(picture: UInt8[np.ndarray, "H W 3"], mask: Float[np.ndarray, "H W"]) -> Move | None:
    """Where nearby a mask fits best; None where it does where it is, or nothing can be told.

    A mask that is drawn wide or narrow all round fits one side of its subject wherever it is moved
    to: so it is compared with itself made narrower and wider, here and there.
    """
    small, plane = _shrink_pair(picture, mask, COARSE)
    rough = Edges(small, COARSE).scores(plane)
    if rough is None or _find_peak(rough) == (0, 0):
        return None  # most masks: no need to look closer
    small, plane = _shrink_pair(picture, mask, FINE)
    edges = Edges(small, FINE)
    scores = edges.scores(plane)
    if scores is None or scores.max() <= 1.03 * _find_best(scores, NEAR):
        return None
    own_score, best, at = _find_best(scores, NEAR), float(scores.max()), _find_peak(scores)
    if math.hypot(*at) <= NEAR:
        return None
    distance = _measure_distances(len(scores), *at)
    elsewhere = max(float(scores[distance > APART**2].max()), 1e-6)
    around = max(
        float(scores[(distance >= RING[0] ** 2) & (distance <= RING[1] ** 2)].mean()), 1e-6
    )
    first, other_at = best, at
    for other in _redraw(plane):
        placed_scores = edges.scores(other)
        if placed_scores is None:
            continue
        own_score = max(own_score, _find_best(placed_scores, NEAR))
        if placed_scores.max() > best:
            best, other_at = float(placed_scores.max()), _find_peak(placed_scores)
    steady = math.dist(at, other_at) <= STEADY
    gain = best / max(own_score, 1e-6)
    shift = at[0] / FINE, at[1] / FINE
    return Move(*shift, gain, first / elsewhere, first / around, steady, first)


def _find_peak(scores: _Image) -> tuple[int, int]:
    """How far right and down of the middle the best place is."""
    row, column = divmod(int(scores.argmax()), scores.shape[1])
    return column - len(scores) // 2, row - len(scores) // 2


def _redraw(plane: _Image) -> Iterator[_Image]:
    for radius in LOOSE:
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
        yield cv2.erode(plane, disc)
        yield cv2.dilate(plane, disc)


@dataclass(frozen=True, slots=True)
class Reach:
    """Share of the four sides of a picture that a mask covers, of its middle and of all of it."""

    top: float
    bottom: float
    left: float
    right: float
    centre: float
    area: float

    @property
    def sides(self) -> tuple[float, float, float, float]:
        """The four shares in [0, 1]: top, bottom, left, right."""
        return self.top, self.bottom, self.left, self.right

    @property
    def inverted(self) -> bool:
        """Whether what is left free looks like a subject: within the picture, or rising from below.

        Subjects seldom reach the top, and hardly ever cover it from side to side.
        """
        within = min(self.sides) >= 0.97 and self.area < 0.995
        return within or self._is_around() or self._is_beside()

    def _is_around(self) -> bool:
        """Whether the sides are covered by far more than the middle."""
        excess = sum(self.sides) / 4 - self.centre
        clear = excess >= 0.3 and self.top >= 0.8 and self._count_sides(0.9) >= 2
        return excess >= 0.4 or clear

    def _is_beside(self) -> bool:
        """Whether three sides are covered, the top among them, and one leaves room to rise from."""
        large = self.top >= 0.97 and self._count_sides(0.9) >= 3 and 0.6 <= self.area <= 0.9
        full = self.top >= 0.985 and self._count_sides(0.985) >= 3 and 0.6 <= self.area < 0.995
        return large or full

    def _count_sides(self, least: float) -> int:
        return sum(side >= least for side in self.sides)


def measure_reach(mask: Float[np.ndarray, "H W"]) -> Reach:
    """Of sides one sixteenth of the picture wide, and of the middle third."""
    height, width = mask.shape
    high, wide = max(height // 16, 1), max(width // 16, 1)
    middle = mask[height // 3 : height - height // 3, width // 3 : width - width // 3]
    parts: Mapping[str, _Image] = {
        "top": mask[:high],
        "bottom": mask[-high:],
        "left": mask[:, :wide],
        "right": mask[:, -wide:],
        "centre": middle if middle.size else mask,
        "area": mask,
    }
    return Reach(**{name: float(part.mean()) for name, part in parts.items()})
