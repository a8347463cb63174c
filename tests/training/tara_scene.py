"""What TARA's own code and ours are given; numpy's RandomState, so that both draw the same."""

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

SAMPLES, TOKENS, WIDTH, OUT, RANK, ALPHA = 3, 7, 16, 24, 4, 8.0
RARE, LIKE = ((1,), (4,), (2,)), ((5,), (6,), (3,))  # of each sample, one token each
LAYERS = 3


def draw(name: str, shape: Sequence[int], scale: float = 1.0) -> Tensor:
    """The same numbers for the same name, everywhere."""
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(shape))
    return torch.from_numpy((values * scale).astype(np.float32))


def mark(rows: Sequence[Sequence[int]]) -> Tensor:
    """b s, True at the positions."""
    marked = torch.zeros(len(rows), TOKENS, dtype=torch.bool)
    for index, row in enumerate(rows):
        marked[index, list(row)] = True
    return marked


def keys(layer: int) -> tuple[Tensor, Tensor]:
    """Base and update of a layer, b s c."""
    shape = (SAMPLES, TOKENS, OUT)
    return draw(f"base {layer}", shape), draw(f"update {layer}", shape, 0.3)
