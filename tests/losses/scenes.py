"""What ours and another trainer's loss are both given: drawn by numpy's frozen generator.

`numpy.random.RandomState` promises the same stream in every version, so that numbers recorded from
another trainer's code (`scripts/record_peer_losses.py`) belong to the same tensors here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Mask = Tensor | None  # H W in [0, 1]; F H W where it moves; None for a clip without
KINDS = ("soft", "hard", "corner", "line", "empty", "full", "none")


@dataclass
class Scene:
    """Masks in pixels, and everything the models predicted."""

    masks: list[Mask]
    prediction: Tensor  # b c f h w
    target: Tensor
    prior: Tensor
    t: Tensor
    level: Tensor  # weight of each sample's noise level
    weight: Tensor  # weight of each sample's data set
    spatial: int
    temporal: int = 4

    @property
    def size(self) -> tuple[int, int]:
        return self.prediction.shape[3] * self.spatial, self.prediction.shape[4] * self.spatial


def scene_of(
    seed: int,
    kinds: Sequence[str],
    *,
    frames: int = 1,
    height: int = 3,
    width: int = 4,
    s: int = 8,
    plain: bool = False,
) -> Scene:
    """A scene of one clip a kind, its masks in 8 bits; `plain` leaves level and weight at 1."""
    draws = np.random.RandomState(seed)
    count, pixels = len(kinds), (height * s, width * s)

    def mask(kind: str) -> Mask:
        soft = draws.randint(0, 256, pixels).astype(np.float32)
        corner, line = np.zeros(pixels, np.float32), np.zeros(pixels, np.float32)
        corner[: pixels[0] // 2 + 1, : pixels[1] // 2 + 1] = 255
        line[:, pixels[1] // 2 - 1 : pixels[1] // 2 + 1] = 255
        drawn = {
            "soft": soft,
            "hard": (soft > 127) * np.float32(255),
            "corner": corner,
            "line": line,
            "empty": np.zeros(pixels, np.float32),
            "full": np.full(pixels, 255, np.float32),
            "none": None,
        }[kind]
        return None if drawn is None else torch.from_numpy(drawn) / 255

    def latents() -> Tensor:
        values = draws.standard_normal((count, 2, frames, height, width))
        return torch.from_numpy(values.astype(np.float32))

    def spread(low: float, high: float) -> Tensor:
        return torch.from_numpy(draws.uniform(low, high, count).astype(np.float32))

    masks = [mask(kind) for kind in kinds]
    prediction, target, prior, t = latents(), latents(), latents(), spread(0.02, 1)
    level, weight = spread(0.5, 1.5), spread(0.5, 1.5)
    ones = torch.ones(count)
    return Scene(
        masks, prediction, target, prior, t, *((ones, ones) if plain else (level, weight)), s
    )
