"""Attention maps and masks that our penalties and their authors' code are both given.

Drawn by numpy's frozen generator, so that numbers recorded from the authors
(`scripts/record_attention_losses.py`) belong to the same tensors here.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

RESOLUTION = 16
HEADS = 2
LAYERS = 2
TEXT = 7
PIXELS = 64


@dataclass
class AttentionScene:
    """A batch of samples; `maps` are of one resolution, one tensor b n cells T a layer."""

    maps: list[Tensor]
    masks: Tensor  # b k H W in pixels, hard
    tokens: list[list[int]]  # text positions of each phrase, the same in every sample
    directions: list[Tensor]  # as the maps: a gradient is recorded as its slope along these


def draw_scene(seed: int, *, batch: int, tokens: list[list[int]], aligned: bool) -> AttentionScene:
    """Softmax maps and hard boxes; `aligned` boxes fill whole cells of the attention's grid."""
    draw = np.random.RandomState(seed)
    shape = (batch, HEADS, RESOLUTION**2, TEXT)

    def normal() -> Tensor:
        return torch.from_numpy(draw.standard_normal(shape).astype(np.float32))

    maps = [(2 * normal()).softmax(-1) for _ in range(LAYERS)]
    masks = torch.zeros(batch, len(tokens), PIXELS, PIXELS)
    step = PIXELS // RESOLUTION if aligned else 1
    for sample in range(batch):
        for region in range(len(tokens)):
            top, left = draw.randint(0, PIXELS // 2 // step, 2) * step
            height, width = (draw.randint(8, PIXELS // 2 + 1, 2) // step) * step
            masks[sample, region, top : top + height, left : left + width] = 1
    return AttentionScene(maps, masks, tokens, [normal() for _ in range(LAYERS)])
