"""Where a step's cells are left to others than the subject."""

import torch

from frisket.losses.base import Step
from frisket.shapes import Weights

ROUNDING = 1e-6


def weigh_outside(step: Step) -> Weights:
    """How much each cell lies outside what is taught, b 1 f h w: 1 - weights, not below 0.

    Where the step says so itself, `step.outside`. 0 in latents handed over clean, which are no
    background, and where a mask fills the cell but for rounding, which dividing by its sum would
    make large.
    """
    outside = step.outside
    if outside is None:
        outside = (1 - step.weights.float()).clamp_min(0)
    outside = torch.where(outside.abs() > ROUNDING, outside, 0.0)
    return outside if step.predicted is None else outside * step.predicted
