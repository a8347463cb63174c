"""Outside the mask, stay with the frozen model."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from frisket.losses.base import Step, weighted_mse
from frisket.shapes import PerSample


@dataclass(frozen=True, slots=True)
class Prior:
    """s(t) sum(|prediction - prior|^2 (1-w)) / (C sum(1-w)), the prior from the adapter-free model.

    After the prior-preservation term of OneTrainer, with these choices of our own:

    threshold: cells whose raw coverage by any region is above it are left to the subject.
    t_min, t_power: s(t) = t^t_power where t >= t_min, else 0, for each sample by its own t: strong
        at high noise, where layout is decided, fading at low noise, where light and shadow are.
    warmup: share of the run over which the strength rises from 0.
    teacher: "base" (adapter off) or "ema" (the averaged adapter; needs optimizer.ema).
    """

    threshold: float = 1.0
    t_min: float = 0.0
    t_power: float = 0.0
    warmup: float = 0.0
    teacher: Literal["base", "ema"] = "base"
    needs: ClassVar[frozenset[str]] = frozenset({"prior"})

    def __post_init__(self) -> None:
        """Refuse options that have no meaning."""
        for name in ("threshold", "t_min", "warmup"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"prior: {name} must lie in [0, 1], got {getattr(self, name)}")
        if self.t_power < 0:
            raise ValueError(f"prior: t_power must be >= 0, got {self.t_power}")
        if self.teacher not in ("base", "ema"):
            raise ValueError(f"prior: teacher {self.teacher!r} is not one of base, ema")

    def strength(self, t: PerSample, progress: float) -> PerSample:
        """The schedule: how much the term counts at each sample's noise level, in [0, 1]."""
        rise = min(1.0, progress / self.warmup) if self.warmup else 1.0
        return torch.where(t >= self.t_min, t.float() ** self.t_power, 0.0) * rise

    def __call__(self, step: Step) -> PerSample:
        """Weighted distance of each sample to the prior, float32; 0 where nothing is outside."""
        if step.prior is None:
            raise ValueError("prior: the step carries no prediction of the frozen model")
        outside = (1 - step.weights.float()).clamp_min(0)
        if self.threshold < 1:
            covered = step.coverage.float().sum(1, keepdim=True)
            outside = outside * (covered <= self.threshold)
        distance = weighted_mse(step.prediction, step.prior, outside)
        return distance * self.strength(step.t, step.progress)


TERM = Prior
