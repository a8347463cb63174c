"""Five key points drawn as the picture InstantID's IdentityNet reads."""

import math

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

KeypointPicture = UInt8[Tensor, "H W 3"]

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255))
LIMBS = ((0, 2), (1, 2), (3, 2), (4, 2))  # every other point to the nose
STICK, RADIUS = 4, 10  # pixels: half a limb's width, and a point's radius
DIMMING = 0.6  # of the limbs; points are full
TRAINED_SIDE = 1024  # pixels a side InstantID was trained at, which the sizes above suit


def draw_keypoints(
    keypoints: Float[Tensor, "5 2"], height: int, width: int, *, scaled: bool = False
) -> KeypointPicture:
    """The five points on black, RGB, as IdentityNet was trained to read them.

    `keypoints` are (x, y) in pixels of the picture: eyes (left of the picture first), nose, corners
    of the mouth. Equal to draw_kps of InstantID's pipeline (Apache-2.0) pixel by pixel: limbs of 8
    pixels, points of radius 10, whatever the picture's size; coordinates cut to whole pixels
    towards 0. With `scaled`, which is ours, both follow the picture: they are what they would be at
    1024 pixels, and the same there. Points may lie outside. ValueError where one is not finite.
    """
    if not bool(torch.isfinite(keypoints).all()):
        raise ValueError(f"key points {keypoints.tolist()} are not finite; detect the face again")
    stick, radius = (measure_strokes(height, width)) if scaled else (STICK, RADIUS)
    points = keypoints.detach().cpu().double().numpy()
    board = np.zeros((height, width, 3))
    for begin, end in LIMBS:
        across, down = points[begin] - points[end]
        middle = (points[begin] + points[end]) / 2
        outline = cv2.ellipse2Poly(
            (int(middle[0]), int(middle[1])),
            (int(math.sqrt(across**2 + down**2) / 2), stick),
            int(math.degrees(math.atan2(down, across))),
            0,
            360,
            1,
        )
        cv2.fillConvexPoly(board, np.asarray(outline), COLOURS[begin])
    picture = (board * DIMMING).astype(np.uint8)
    for (x, y), colour in zip(points, COLOURS, strict=True):
        cv2.circle(picture, (int(x), int(y)), radius, colour, -1)
    return torch.from_numpy(picture)


def measure_strokes(height: int, width: int) -> tuple[int, int]:
    """Half a limb's width and a point's radius that suit a picture, in pixels, at least 1."""
    share = math.sqrt(height * width) / TRAINED_SIDE
    return max(round(STICK * share), 1), max(round(RADIUS * share), 1)
