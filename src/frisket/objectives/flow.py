"""Rectified flow: a straight line from data to noise."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Generator

from frisket.objectives.shift import Cells
from frisket.objectives.timesteps import TimestepSampler
from frisket.shapes import Latents, PerSample

Weighting = Literal["none", "sigma_sqrt", "cosmap"]


@dataclass(frozen=True, slots=True)
class Flow:
    """x_t = (1 - t) x_0 + t noise, target = noise - x_0 (Liu et al. 2022; Esser et al. 2024, 13).

    `weighting`: none, sigma_sqrt (t^-2) or cosmap (Esser et al. 2024, section 3.1).
    """

    timesteps: TimestepSampler = field(default_factory=TimestepSampler)
    weighting: Weighting = "none"

    def sample_t(
        self, count: int, generator: Generator, *, cells: Cells | None = None
    ) -> PerSample:
        """Draw noise levels for latents of f x h x w `cells`."""
        return self.timesteps(count, generator, cells)

    def corrupt(self, clean: Latents, noise: Latents, t: PerSample) -> tuple[Latents, Latents]:
        """Noisy latents and the velocity that carries data to noise."""
        level = t.view(-1, 1, 1, 1, 1).to(clean.dtype)
        return (1 - level) * clean + level * noise, noise - clean

    def weight(self, t: PerSample) -> PerSample:
        """Weight of a noise level, per sample."""
        if self.weighting == "sigma_sqrt":
            return t.clamp_min(1e-3) ** -2
        if self.weighting == "cosmap":
            return 2 / (torch.pi * (1 - 2 * t + 2 * t**2))
        return torch.ones_like(t)
