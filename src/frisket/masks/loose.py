"""Masks made loose: boxes around what they mark, and whole cells of the latent grid."""

from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from frisket.masks.axes import check_axes
from frisket.masks.morphology import INSIDE
from frisket.shapes import Plane

MaskShape = Literal["box", "mask"]
SMALLEST = 50  # pixels of a box below which a piece is a speck; cjeen/LoRAEdit's


def draw_boxes(plane: Plane, margin: float = 0.1, smallest: int = SMALLEST) -> Plane:
    """A box around each connected piece of each frame, wider and higher by a share of its size.

    0 or 1. Half of the margin goes to either side, in whole pixels rounded down; a box ends at the
    border, and pieces whose own box has fewer than `smallest` pixels are left out. Pixels of at
    least 0.5 are of a piece, corners join. The arithmetic is cjeen/LoRAEdit's `create_bbox_mask`,
    margin 0.1 ("10 %"). ValueError for a negative margin.
    """
    check_axes("plane", plane, "F H W")
    if not margin >= 0:
        raise ValueError(f"margin is {margin}; use a share of the box's size, 0 or more")
    boxes = torch.zeros_like(plane, dtype=torch.float32)
    for frame, box_frame in zip(plane, boxes, strict=True):
        inside = (frame >= INSIDE).to(torch.uint8).cpu().numpy()
        _, _, pieces, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
        for left, top, width, height, _ in np.asarray(pieces)[1:].tolist():
            if width * height < smallest:
                continue
            wider, higher = int(width * margin), int(height * margin)
            begin, start = max(0, top - higher // 2), max(0, left - wider // 2)
            box_frame[begin : begin + height + higher, start : start + width + wider] = 1
    return boxes


def join_frames(plane: Plane) -> Plane:
    """What any frame marks, in every frame."""
    check_axes("plane", plane, "F H W")
    return plane.amax(0, keepdim=True).expand_as(plane).contiguous()


def widen_to_cells(plane: Plane, step: int) -> Plane:
    """Every cell of `step` x `step` pixels that a frame marks anywhere, whole; 0 or 1.

    On the latent grid such a plane has no half cells: read at any of a cell's pixels it says the
    same. ValueError where the sides are no multiples of `step`.
    """
    check_axes("plane", plane, "F H W")
    if plane.shape[1] % step or plane.shape[2] % step:
        raise ValueError(
            f"{plane.shape[2]} x {plane.shape[1]} pixels (width x height) are not whole cells of"
            f" {step}"
        )
    cells: Float[Tensor, "F 1 h w"] = functional.max_pool2d(
        (plane >= INSIDE).float()[:, None], step
    )
    return cells[:, 0].repeat_interleave(step, 1).repeat_interleave(step, 2)
