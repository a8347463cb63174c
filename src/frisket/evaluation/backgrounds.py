"""How much of the training backgrounds came along, by colour and texture; no model is needed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from frisket.shapes import Frames, Plane

# Chosen once, on samples of the quick start's seed 0, and kept: wide enough that a colour which a
# model painted a shade off still counts, narrow enough that another colour does not.
BINS, BLUR = 16, 1.5  # of each channel; standard deviation in bins (24 grey levels)
ANGLES, STRENGTHS = 8, 8  # of the texture histogram
WEAK, STRONG = 4.0, 128.0  # grey levels a pixel: the finest step told apart, and the end of them
REACH = 5  # pixels a side that a gradient is read from
ROOM = 0.01  # least share of a picture that must lie outside for its background to be known

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class BackgroundFeatures:
    """Colours and texture of a background (or a whole picture); each histogram sums to 1."""

    colour: Float[Tensor, "colours"]
    texture: Float[Tensor, "textures"]


def describe_background(frames: Frames, outside: Plane) -> BackgroundFeatures | None:
    """Colours and texture where `outside` is 1; None where less than ROOM of the frames is left."""
    eroded = -functional.max_pool2d(-outside[:, None], REACH, 1, REACH // 2)[:, 0]
    if float(eroded.mean()) < ROOM:
        return None
    return BackgroundFeatures(_count_colours(frames, outside), _count_textures(frames, eroded))


def compare_backgrounds(first: BackgroundFeatures, second: BackgroundFeatures) -> dict[str, float]:
    """How alike two looks are, each number in [0, 1], 1 for the same.

    `colour` and `texture`: intersection of the histograms (Swain & Ballard 1991, eq. 1). `both`:
    their geometric mean, high only where colour and texture both came along.
    """
    colour = min(float(torch.minimum(first.colour, second.colour).sum()), 1.0)
    texture = min(float(torch.minimum(first.texture, second.texture).sum()), 1.0)
    return {"colour": colour, "texture": texture, "both": (colour * texture) ** 0.5}


def find_nearest(
    pictures: Sequence[T], training: Sequence[S], near: Callable[[T, S], float]
) -> list[float]:
    """Likeness of each picture to the training background that is most like it."""
    return [max(near(picture, background) for background in training) for picture in pictures]


def score_copies(
    pictures: Sequence[T], training: Sequence[S], near: Callable[[T, S], float]
) -> float | None:
    """What `find_nearest` says of training pictures themselves: what a full copy would score.

    Both sequences are of the same clips, picture and background; each picture is held against the
    backgrounds of the others. None where there are fewer than two.
    """
    if len(pictures) != len(training):
        raise ValueError(f"{len(pictures)} pictures and {len(training)} backgrounds of what clips?")
    if len(pictures) < 2:
        return None
    return fmean(
        max(near(picture, other) for place, other in enumerate(training) if place != index)
        for index, picture in enumerate(pictures)
    )


def measure_leak(
    tuned: Sequence[float], base: Sequence[float], copy: float | None, least: float
) -> list[float] | None:
    """How far each picture went from the base towards a copy: 0 as the base, 1 as a copy.

    `tuned` and `base` are likenesses of pictures of the same prompts and seeds. Below 0 the picture
    is less like the training backgrounds than the base's was. None where a copy would hardly be
    told from what the base paints (by less than `least`): then likeness tells nothing.
    """
    if copy is None or copy - fmean(base) < least:
        return None
    way = copy - fmean(base)
    return [(score - start) / way for score, start in zip(tuned, base, strict=True)]


def _count_colours(frames: Tensor, weights: Tensor) -> Tensor:
    """RGB histogram, blurred so that neighbouring colours count as alike."""
    level = frames.long() * BINS // 256
    cell = (level[..., 0] * BINS + level[..., 1]) * BINS + level[..., 2]
    counts = torch.bincount(cell.flatten(), weights.double().flatten(), minlength=BINS**3)
    counts = counts.view(BINS, BINS, BINS)
    place = torch.arange(BINS, dtype=torch.double)
    blur = torch.exp(-0.5 * ((place[:, None] - place) / BLUR).square())
    blur = blur / blur.sum(1, keepdim=True)  # what would fall off the end stays
    for _ in range(3):
        counts = torch.tensordot(counts, blur, dims=([0], [0]))  # turns the axes round once
    return (counts / counts.sum()).flatten()


def _count_textures(frames: Tensor, weights: Tensor) -> Tensor:
    """Histogram of the grey gradient, direction by strength, so that a pattern counts in any paint.

    Each pixel is shared between its neighbouring bins. Directions run over half a turn: a gradient
    and its opposite are the same edge.
    """
    grey = frames.double() @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.double)
    soft = torch.tensor([0.25, 0.5, 0.25], dtype=torch.double)  # noise has gradients everywhere
    padded = functional.pad(grey[:, None], (1, 1, 1, 1), "replicate")
    grey = functional.conv2d(padded, (soft[:, None] * soft)[None, None])[:, 0]
    grey = functional.pad(grey[:, None], (1, 1, 1, 1), "replicate")[:, 0]
    right = (grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]) / 2
    down = (grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1]) / 2
    angle = torch.atan2(down, right).remainder(torch.pi) / torch.pi * ANGLES
    strength = torch.log1p(torch.hypot(right, down) / WEAK)
    top = torch.log1p(torch.tensor(STRONG / WEAK, dtype=torch.double))
    strength = (strength / top * (STRENGTHS - 1)).clamp_max(STRENGTHS - 1)
    counts = torch.zeros(STRENGTHS * ANGLES, dtype=torch.double)
    for turn in (0, 1):
        for step in (0, 1):
            row = (strength.floor() + step).clamp_max(STRENGTHS - 1).long()
            column = (angle.floor() + turn).long() % ANGLES
            share = (1 - (strength - strength.floor() - step).abs()) * (
                1 - (angle - angle.floor() - turn).abs()
            )
            counts.index_add_(0, (row * ANGLES + column).flatten(), (share * weights).flatten())
    counts = counts.view(STRENGTHS, ANGLES)
    counts[0] = counts[0].mean()  # flat has no direction
    return (counts / counts.sum()).flatten()
