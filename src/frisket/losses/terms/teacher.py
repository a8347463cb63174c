"""Outside the mask, stay with the frozen model beside its ControlNet."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from frisket.losses.base import (
    CONTROLLED,
    ErrorKind,
    Step,
    check_kind,
    divisors,
    weighted_error,
)
from frisket.losses.outside import weigh_outside
from frisket.shapes import PerSample


@dataclass(frozen=True, slots=True)
class Teacher:
    """sum(|prediction - p|^2 (1-w)) / (C sum(1-w)), p of the frozen base beside its ControlNet.

    The background is held where base and ControlNet would draw it: p is predicted with the adapter
    off and with each clip's control exactly as the prediction itself had it in this step (its
    strength, none where it was dropped, its place), so that the term is 0 for an adapter that adds
    nothing. The term `prior` is of the base whatever is beside it, and needs no ControlNet.

    t_min: lowest noise level t that counts, each sample by its own.
    normalise: what is divided by: C sum(1-w) of the sample, its mean over the batch, or all cells.
    kind, delta: the error, as of `denoise`.
    """

    t_min: float = 0.0
    normalise: Literal["sample", "batch", "none"] = "sample"
    kind: ErrorKind = "mse"
    delta: float = 1.0
    needs: ClassVar[frozenset[str]] = frozenset({CONTROLLED})

    def __post_init__(self) -> None:
        """Refuse options that have no meaning."""
        if not 0 <= self.t_min <= 1:
            raise ValueError(f"teacher: t_min must lie in [0, 1], got {self.t_min}")
        if self.normalise not in ("sample", "batch", "none"):
            raise ValueError(
                f"teacher: normalise {self.normalise!r} is not one of sample, batch, none"
            )
        check_kind("teacher", self.kind, self.delta)

    def __call__(self, step: Step) -> PerSample:
        """Weighted distance of each sample to the teacher, float32; 0 where nothing is outside."""
        if step.prior_control is None:
            raise ValueError("teacher: the step carries no prediction of the base under control")
        level_mask = (step.t >= self.t_min).float().view(-1, 1, 1, 1, 1)
        outside = weigh_outside(step) * level_mask
        divisor = divisors(outside, step.prediction.shape[1], self.normalise)
        divisor = torch.where(divisor > 0, divisor, math.inf)  # nothing is outside
        if step.importance is not None:  # after the divisor: the mean over the draws stays
            outside = outside * step.importance
        return weighted_error(
            self.kind, self.delta, step.prediction, step.prior_control, outside, divisor
        )


TERM = Teacher
