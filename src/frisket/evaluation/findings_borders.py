"""Does the border of a mask lie on edges of its picture, or on the same edges somewhere else?"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from frisket.evaluation.findings import Finding

Image = NDArray[Any]

SIDE = 160  # pixels of the longer side that edges are looked for at
REACH = 0.16  # of the longer side: the farthest shift that is tried
TOLERATED = 0.02  # of it: hand-drawn borders lie that far off
SOFT = 1.5  # pixels (at SIDE) that borders and edges are blurred by
LOOSE = (3, 5, 8, 12)  # pixels (at SIDE) by which a mask may be too wide or too narrow all round
SHORTEST = 40  # pixels of border inside the picture, below which nothing can be told
ELSEWHERE = 0.06  # of it: so far off, another fit is another place
CLEAR = 1.35  # how much better the best place is than the mask's own
CLOSE, CLEARER = 0.05, 1.5  # and where it is so close that a loose border may be the reason
ALONE = 1.1  # and than any other place
STRONG = 0.25  # score from which a border lies on edges (nearly) all along


@dataclass(frozen=True, slots=True)
class Alignment:
    """How well a mask's border follows edges: 1 on a clean edge all along, about 0.2 by chance.

    `own` is the best within a hand's tolerance, `best` the best of all shifts within reach, at
    `shift` (right, down; shares of the picture's longer side), `next` the best that is elsewhere,
    `loose` the best of the mask made wider or narrower all round, within a hand's tolerance.
    """

    own: float
    best: float
    shift: tuple[float, float]
    next: float
    loose: float = 0.0

    @property
    def clear(self) -> bool:
        """Whether the mask fits well in one other place only, and not in its own."""
        close = math.hypot(*self.shift) < CLOSE
        better = self.best >= (CLEARER if close else CLEAR) * self.own
        return better and self.best >= max(STRONG, ALONE * self.next, self.loose)


def alignment(
    picture: UInt8[np.ndarray, "H W 3"], mask: Float[np.ndarray, "H W"]
) -> Alignment | None:
    """Compare the mask's border with the picture's edges, here and at every shift within reach.

    The score of a place is the mean along the border of (n . g)^2 / |g|^2, n the border's normal
    and g the picture's gradient, times how much of an edge there is: |g|^2 against its local mean.
    All places at once by FFT, as the square is linear in the structure tensor of the picture.
    None where there is too little border to tell.
    """
    scale = SIDE / max(picture.shape[:2])
    size = (max(round(picture.shape[1] * scale), 8), max(round(picture.shape[0] * scale), 8))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    plane = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    edges = _edges(small)
    seen = _scored(edges, plane)
    if seen is None or not seen.clear:
        return seen
    # A mask drawn wide (or narrow) all round fits one side of its subject wherever it is moved to.
    for radius in LOOSE:
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
        for change in (cv2.erode, cv2.dilate):
            other = _scored(edges, change(plane, disc))
            seen = replace(seen, loose=max(seen.loose, other.own)) if other else seen
    return seen


def _scored(edges: Image, plane: Image) -> Alignment | None:
    across, down = _gradients(cv2.GaussianBlur(plane, (0, 0), SOFT))
    length = np.hypot(across, down)
    if length.sum() < SHORTEST:
        return None
    normal = np.stack([across, down]) / np.maximum(length, 1e-6)
    return _placed(_correlated(edges, normal, length))


def _gradients(image: Image) -> tuple[Image, Image]:
    sobel = partial(cv2.Sobel, ddepth=cv2.CV_32F, scale=0.125, borderType=cv2.BORDER_REPLICATE)
    return sobel(image, dx=1, dy=0), sobel(image, dx=0, dy=1)


def _edges(picture: Image) -> Image:
    """Structure tensor of a colour picture (xx, xy, yy), its trace between 0 (flat) and 1."""
    across, down = _gradients(cv2.GaussianBlur(picture, (0, 0), SOFT / 1.5))
    tensor = np.stack([across * across, across * down, down * down]).sum(-1)
    energy = tensor[0] + tensor[2]
    around = cv2.blur(energy, (SIDE // 4 + 1,) * 2, borderType=cv2.BORDER_REFLECT)
    edges: Image = tensor / (energy + around + 1)
    return edges


def _correlated(edges: Image, normal: Image, length: Image) -> Tensor:
    """Scores at all shifts, (0, 0) first, negative ones at the far end as FFT lays them."""
    height, width = length.shape
    size = (height + round(REACH * SIDE), width + round(REACH * SIDE))
    border = np.stack([normal[0] ** 2, 2 * normal[0] * normal[1], normal[1] ** 2]) * length
    seen = torch.fft.rfft2(torch.from_numpy(edges), s=size)
    laid = torch.fft.rfft2(torch.from_numpy(border), s=size)
    found = torch.fft.irfft2((seen * laid.conj()).sum(0), s=size)
    frame = torch.fft.rfft2(torch.ones(height, width), s=size)
    weight = torch.fft.rfft2(torch.from_numpy(length), s=size)
    inside = torch.fft.irfft2(frame * weight.conj(), s=size)
    # Shifted out of the picture by half or more, a border says nothing.
    enough = inside >= 0.5 * float(length.sum())
    return torch.where(enough, found / inside.clamp_min(1e-6), torch.zeros(()))


def _placed(scores: Tensor) -> Alignment:
    reach, near, far = (round(share * SIDE) for share in (REACH, TOLERATED, ELSEWHERE))
    window = torch.roll(scores, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    steps = torch.arange(-reach, reach + 1)
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    own = float(window[rows**2 + columns**2 <= near**2].max())
    place = int(window.argmax())
    row, column = divmod(place, 2 * reach + 1)
    down, right = row - reach, column - reach
    elsewhere = (rows - down) ** 2 + (columns - right) ** 2 > far**2
    return Alignment(
        own, float(window[row, column]), (right / SIDE, down / SIDE), float(window[elsewhere].max())
    )


def look_at_borders(
    clip: str, picture: UInt8[np.ndarray, "H W 3"], mask: Float[np.ndarray, "H W"]
) -> Iterator[Finding]:
    """Whether a mask (all regions of one frame) lies beside its subject."""
    seen = alignment(picture, mask)
    if seen is None or not seen.clear:
        return
    longer = max(picture.shape[:2])
    right, down = (round(part * longer) for part in seen.shift)
    told = [
        f"{abs(right)} pixels to the {'right' if right > 0 else 'left'}" if right else "",
        f"{abs(down)} {'down' if down > 0 else 'up'}" if down else "",
    ]
    yield Finding(
        "misaligned",
        "warning",
        clip,
        f"The mask's border lies on edges of the picture ({seen.best:.2f}) where it is moved"
        f" {' and '.join(filter(None, told))}, but not where it is ({seen.own:.2f}).",
        "Look whether picture or mask was cropped or resized without the other; export it again.",
    )
