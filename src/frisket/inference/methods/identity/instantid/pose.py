"""The key-point picture of a sample: where a face is to be, taken from another picture."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from frisket.faces.keypoints import draw_keypoints

Strokes = Literal["fixed", "scaled"]
MARGIN = 0.5  # of the key points' extent, kept inside on each side: a head is larger than them


def fit_keypoints(
    keypoints: Float[Tensor, "5 2"], source: tuple[int, int], target: tuple[int, int]
) -> Float[Tensor, "5 2"]:
    """Key points (x, y) of a picture of `source` pixels (height, width) in one of `target` pixels.

    As a training clip is cut: enlarged alike both ways until the target is covered, and cut about
    the centre; but the cut moves by the least that keeps the face inside (its key points and half
    their extent on each side), or is centred on a face that is larger. The face keeps its shape,
    where stretching the picture would change who it is. Of the same aspect ratio that is the plain
    enlargement, as in the authors' script.
    """
    scale = max(goal / side for goal, side in zip(target, source, strict=True))
    points = keypoints.double() * scale
    low, high = points.amin(0), points.amax(0)
    margin = MARGIN * (high - low)
    offsets = [
        place_cut(side * scale, float(goal), float(least), float(most))
        for side, goal, least, most in zip(
            reversed(source), reversed(target), low - margin, high + margin, strict=True
        )
    ]
    return (points - torch.tensor(offsets, dtype=torch.float64)).to(keypoints.dtype)


def place_cut(length: float, window: float, low: float, high: float) -> float:
    """Where a window on a side begins: about the middle, as near to it as shows `low` to `high`."""
    start = (length - window) / 2
    if high - low > window:
        start = (low + high - window) / 2
    else:
        start = min(max(start, high - window), low)
    return min(max(start, 0.0), length - window)


def draw_pose(
    keypoints: Float[Tensor, "5 2"],
    source: tuple[int, int],
    target: tuple[int, int],
    strokes: Strokes = "fixed",
) -> Float[Tensor, "1 3 H W"]:
    """The key points as IdentityNet reads them, RGB in [0, 1], for a sample of `target` pixels.

    `fixed` strokes are the authors' at every size, for 1024 pixels; `scaled` are as large a share
    of the picture as there. ValueError where a point is not finite.
    """
    fitted = fit_keypoints(keypoints, source, target)
    picture = draw_keypoints(fitted, *target, scaled=strokes == "scaled")
    return picture.permute(2, 0, 1)[None].float() / 255
