"""Outside the mask, stay with the frozen model."""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from frisket.losses.base import (
    BASE,
    EMA,
    ErrorKind,
    Step,
    check_kind,
    divisors,
    weighted_error,
)
from frisket.losses.outside import weigh_outside
from frisket.shapes import PerSample, Weights


@dataclass(frozen=True, slots=True)
class Prior:
    """s(t) sum(|prediction - prior|^2 (1-w)) / (C sum(1-w)), the prior from the adapter-free model.

    After the prior-preservation term of OneTrainer, with these choices of our own:

    threshold: cells whose raw coverage by any region is above it are left to the subject.
    alone: cells whose raw weight is below the threshold are the prior's alone: it holds them at
        full strength, and `denoise` lets go of them (DustyL's blissful-tuner).
    t_min, t_power: s(t) = t^t_power where t >= t_min, else 0, for each sample by its own t: strong
        at high noise, where layout is decided, fading at low noise, where light and shadow are.
    warmup: share of the run over which the strength rises from 0.
    teacher: "base" (adapter off) or "ema" (the averaged adapter; needs optimizer.ema).
    normalise: what is divided by: C sum(1-w) of the sample, its mean over the batch, or all cells.
    kind, delta: the error, as of `denoise`.
    """

    threshold: float = 1.0
    alone: bool = False
    t_min: float = 0.0
    t_power: float = 0.0
    warmup: float = 0.0
    teacher: Literal["base", "ema"] = "base"
    normalise: Literal["sample", "batch", "none"] = "sample"
    kind: ErrorKind = "mse"
    delta: float = 1.0

    def __post_init__(self) -> None:
        """Refuse options that have no meaning."""
        for name in ("threshold", "t_min", "warmup"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"prior: {name} must lie in [0, 1], got {getattr(self, name)}")
        if self.t_power < 0:
            raise ValueError(f"prior: t_power must be >= 0, got {self.t_power}")
        if self.teacher not in ("base", "ema"):
            raise ValueError(f"prior: teacher {self.teacher!r} is not one of base, ema")
        if self.normalise not in ("sample", "batch", "none"):
            raise ValueError(
                f"prior: normalise {self.normalise!r} is not one of sample, batch, none"
            )
        if self.alone and self.threshold == 1:
            raise ValueError("prior: alone needs a threshold below 1, e.g. 0.1")
        check_kind("prior", self.kind, self.delta)

    @property
    def exclusive(self) -> bool:
        """Whether it has cells to itself: its option `alone`."""
        return self.alone

    @property
    def needs(self) -> frozenset[str]:
        """The prediction of its teacher."""
        return frozenset({EMA if self.teacher == "ema" else BASE})

    def strength(self, t: PerSample, progress: float) -> PerSample:
        """The schedule: how much the term counts at each sample's noise level, in [0, 1]."""
        rise = min(1.0, progress / self.warmup) if self.warmup else 1.0
        return torch.where(t >= self.t_min, t.float() ** self.t_power, 0.0) * rise

    def __call__(self, step: Step) -> PerSample:
        """Weighted distance of each sample to the prior, float32; 0 where nothing is outside."""
        prior = step.prior_ema if self.teacher == "ema" else step.prior
        if prior is None:
            model = "averaged" if self.teacher == "ema" else "frozen"
            raise ValueError(f"prior: the step carries no prediction of the {model} model")
        outside = self._outside(step) * self._holds(step.t, step.progress)
        divisor = divisors(outside, step.prediction.shape[1], self.normalise)
        divisor = torch.where(divisor > 0, divisor, math.inf)  # nothing is outside
        if step.importance is not None:  # after the divisor: the mean over the draws stays
            outside = outside * step.importance
        distance = weighted_error(self.kind, self.delta, step.prediction, prior, outside, divisor)
        return distance * self.strength(step.t, step.progress)

    def exclusive_mask(self, uncurved: Weights, t: PerSample, progress: float) -> Weights:
        """1 in the cells that `alone` takes from the other terms, 0 elsewhere.

        None of a sample that the term does not hold now, below t_min or before the warm-up began:
        its cells stay with the others.
        """
        return (uncurved < self.threshold).float() * self._holds(t, progress)

    def _holds(self, t: PerSample, progress: float) -> Weights:
        """1 for each sample on which the term has any strength, else 0; b 1 1 1 1."""
        return (self.strength(t, progress) > 0).float().view(-1, 1, 1, 1, 1)

    def _outside(self, step: Step) -> Weights:
        if self.alone:
            if step.uncurved is None:
                raise ValueError("prior: alone, but the step carries no raw weights")
            alone = self.exclusive_mask(step.uncurved, step.t, step.progress)
            # Latents handed over clean are no background: there is nothing to hold.
            return alone if step.predicted is None else alone * step.predicted
        outside = weigh_outside(step)
        if self.threshold < 1:
            covered = step.coverage.float().sum(1, keepdim=True)
            outside = outside * (covered <= self.threshold)
        return outside


TERM = Prior
