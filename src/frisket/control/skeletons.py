"""Poses drawn as OpenPose draws them: the limbs and colours that ControlNets of poses know."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from frisket.control.base import ControlPicture

# Joints of OpenPose (arXiv 1812.08008): nose, neck, right shoulder, elbow, wrist, the left ones,
# right hip, knee, ankle, the left ones, right and left eye, right and left ear.
NECK, JOINTS = 1, 18
# The joint of COCO that each is; None is the neck, between the shoulders.
FROM_COCO = (0, None, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
LEFT_SHOULDER, RIGHT_SHOULDER = 5, 6  # of COCO
# Pairs of joints in the order they are drawn, over each other.
LIMBS = (
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11)),
    *((11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),
)
# One colour a joint, all round the hues in steps of 20 degrees; a limb has that of its number.
COLOURS = tuple(
    tuple(round(255 * min(max(abs((hue / 60 + shift) % 6 - 3) - 1, 0), 1)) for shift in (0, 4, 2))
    for hue in range(0, 360, 20)
)
SHARE = 0.6  # of its colour's brightness that a limb has; joints have all
THICK = 4  # pixels: half the width of a limb and the radius of a joint, at 512
SIDE = 512


def name_joints(
    points: Float[Tensor, "17 2"], scores: Float[Tensor, " 17"]
) -> tuple[Float[Tensor, "18 2"], Float[Tensor, " 18"]]:
    """COCO's joints (x, y) as OpenPose's; the neck is the shoulders' mean, as sure as the less."""
    neck = (points[LEFT_SHOULDER] + points[RIGHT_SHOULDER]) / 2
    confidence = torch.minimum(scores[LEFT_SHOULDER], scores[RIGHT_SHOULDER])
    places = [neck if joint is None else points[joint] for joint in FROM_COCO]
    confidences = [confidence if joint is None else scores[joint] for joint in FROM_COCO]
    return torch.stack(places), torch.stack(confidences)


def draw_skeletons(
    people: Sequence[tuple[Float[Tensor, "18 2"], Float[Tensor, " 18"]]],
    size: tuple[int, int],
    least: float,
) -> ControlPicture:
    """People on black at (height, width); joints less sure than `least`, and their limbs, are not.

    Limbs are ellipses in 60 % of their colour, joints discs over them, as wide as OpenPose draws
    them at 512 pixels, in proportion.
    """
    canvas = np.zeros((*size, 3), np.uint8)
    thickness = max(round(THICK * min(size) / SIDE), 1)
    for points, scores in people:
        _draw_limbs(canvas, points, scores >= least, thickness)
        for (x, y), is_certain, colour in zip(
            points.tolist(), scores >= least, COLOURS, strict=True
        ):
            if is_certain:
                cv2.circle(canvas, (int(x), int(y)), thickness, colour, thickness=-1)
    return torch.from_numpy(canvas)


def _draw_limbs(
    canvas: UInt8[np.ndarray, "H W 3"], points: Tensor, is_certain: Tensor, thickness: int
) -> None:
    for (first, second), colour in zip(LIMBS, COLOURS, strict=False):
        if not (is_certain[first] and is_certain[second]):
            continue
        (x, y), (other_x, other_y) = points[first].tolist(), points[second].tolist()
        length = math.hypot(x - other_x, y - other_y)
        angle = math.degrees(math.atan2(y - other_y, x - other_x))
        centre = (int((x + other_x) / 2), int((y + other_y) / 2))
        ellipse = cv2.ellipse2Poly(centre, (int(length / 2), thickness), int(angle), 0, 360, 1)
        dim = tuple(int(part * SHARE) for part in colour)
        cv2.fillConvexPoly(canvas, np.asarray(ellipse, np.int32), dim)
