"""The masks that peers were given to shrink and to blur."""

import numpy as np
import torch


def _ellipse(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    return np.hypot(rows - 0.45, columns - 0.55) < 0.33


def shrunk_mask() -> torch.Tensor:
    """H W, hard."""
    return torch.from_numpy(_ellipse(64, 96).astype(np.float32))


def blurred_mask() -> torch.Tensor:
    """H W, hard, with a shorter side of which 0.005 are three pixels and more."""
    return torch.from_numpy(_ellipse(700, 900).astype(np.float32))


def marks(grey: np.ndarray) -> list[float]:
    """Of a picture of 8 bits its mean, and 24 pixels of a row across the ellipse's edge."""
    edge = int((grey[315] > 127).argmax())
    row = grey[315, edge - 12 : edge + 12]
    return [round(float(grey.astype(np.float64).mean()), 5), *map(float, row)]
