"""Rectified flow: a straight line from data to noise."""

from dataclasses import dataclass, field

from torch import Generator

from frisket.objectives.kinds import LevelWeighting
from frisket.objectives.timesteps import TimestepSampler
from frisket.objectives.weighting import DIFFUSION, weight_flow
from frisket.shapes import Cells, Latents, PerSample


@dataclass(frozen=True, slots=True)
class Flow:
    """x_t = (1 - t) x_0 + t noise, target = noise - x_0 (Liu et al. 2022; Esser et al. 2024, 13).

    `weighting` is one of `weighting.weight_flow`.
    """

    timesteps: TimestepSampler = field(default_factory=TimestepSampler)
    weighting: LevelWeighting = "none"

    def __post_init__(self) -> None:
        """Refuse what is made for other models."""
        if self.weighting in DIFFUSION:
            raise ValueError(
                f"timesteps.weighting = {self.weighting!r} is for models that predict epsilon or v;"
                " this one predicts a flow: take none, cosmap, sigma_sqrt, sigma, bell, half_bell"
                " or flex"
            )

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
        return weight_flow(self.weighting, t)
