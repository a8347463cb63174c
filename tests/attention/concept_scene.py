"""What ConceptAttention's own code and ours are given: tiny FLUX weights and one picture's inputs.

Weights are drawn by the names and shapes of the authors' model, which the record keeps.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

HIDDEN, HEADS, DEPTH = 32, 2, 2
CHANNELS, POOLED, TEXT = 16, 24, 20
AXES = (4, 4, 8)
CELLS = (4, 4)
LEVEL = 0.5


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def draw_weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """By name; scales of norms around 1, the rest of a size at which attention is not flat."""
    weights = {}
    for seed, (name, shape) in enumerate(sorted(shapes.items())):
        values = draw(seed, *shape)
        weights[name] = 1 + 0.3 * values if name.endswith("scale") else 0.12 * values
    return weights


def draw_inputs() -> dict[str, Tensor]:
    """`image` n c, `text` s d, `concepts` C d, and the pooled vectors of both."""
    count = CELLS[0] * CELLS[1]
    return {
        "image": draw(1000, 1, count, CHANNELS),
        "text": draw(1001, 1, 6, TEXT),
        "pooled": draw(1002, 1, POOLED),
        "concepts": draw(1003, 1, 3, TEXT),
        "concept_pooled": draw(1004, 1, POOLED),
    }


def draw_positions() -> Tensor:
    """Of the picture's tokens: picture, row, column."""
    rows, columns = torch.meshgrid(*(torch.arange(side) for side in CELLS), indexing="ij")
    return torch.stack([torch.zeros(CELLS), rows, columns], -1).flatten(0, 1)
