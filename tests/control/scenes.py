"""Joints that poses are drawn from, here and by the peer (scripts/record_control_pictures.py)."""

import numpy as np
from numpy.typing import NDArray

SCENES = ((0, (512, 512)), (1, (512, 704)), (2, (640, 512)))


def draw_joints(seed: int, size: tuple[int, int]) -> tuple[NDArray[np.float64], list[bool]]:
    """Places (x, y) of 18 joints on whole pixels and a half, and which of them are there."""
    rng = np.random.default_rng(seed)
    places = rng.integers(20, np.array(size[::-1]) - 20, (18, 2)) + 0.5
    return places, [bool(value) for value in rng.random(18) < 0.8]


def sum_blocks(picture: NDArray[np.uint8]) -> list[int]:
    """Sums of 8 x 8 blocks of each channel."""
    height, width = picture.shape[:2]
    blocks = picture.reshape(8, height // 8, 8, width // 8, 3).astype(np.int64)
    return [int(value) for value in blocks.sum((1, 3)).ravel()]
