"""DDPM's noising in 1000 levels: the objective of models that predict the noise, or v."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Generator, Tensor

from frisket.objectives.kinds import LevelWeighting
from frisket.objectives.timesteps import TimestepSampler
from frisket.objectives.weighting import DIFFUSION, weight_diffusion
from frisket.shapes import Cells, Latents, PerSample

LEVELS = 1000
BETAS = (0.00085, 0.012)  # of Stable Diffusion's "scaled linear" schedule: linear in sqrt(beta)

PredictionKind = Literal["epsilon", "v"]


@dataclass(frozen=True, slots=True)
class Epsilon:
    """x_t = a x_0 + s noise, a^2 + s^2 = 1 (Ho et al. 2020, eq. 4), of Stable Diffusion's levels.

    t = (k + 1) / 1000 is level k, the integer timestep from 0 to 999 that the denoiser is told.
    The target is the noise ("epsilon"), or v = a noise - s x_0 (Salimans & Ho 2022, appendix D).

    `timesteps` empty draws every level as often, as these models were trained; a sampler's t is
    rounded up to a level. `min_snr` is gamma of min-SNR weighting (Hang et al. 2023; 0 is off).
    `weighting` is one of `weighting.weight_diffusion`, and multiplies it.
    `zero_terminal_snr` stretches the schedule until its last level is pure noise (Lin et al. 2023,
    algorithm 1), as v models were trained that can paint pictures all black or all white.
    """

    prediction: PredictionKind = "epsilon"
    timesteps: TimestepSampler | None = None
    min_snr: float = 0.0
    zero_terminal_snr: bool = False
    weighting: LevelWeighting = "none"

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if self.min_snr < 0:
            raise ValueError(f"timesteps.min_snr must be >= 0 (5 is usual), got {self.min_snr}")
        if self.weighting != "none" and self.weighting not in DIFFUSION:
            raise ValueError(
                f"timesteps.weighting = {self.weighting!r} is for models that predict a flow; this"
                " one predicts epsilon or v: leave it at none, take debiased or noise_like, or set"
                " timesteps.min_snr = 5"
            )
        if self.zero_terminal_snr and self.prediction == "epsilon":
            raise ValueError(
                "zero terminal SNR is for v models: at pure noise, epsilon says nothing about the"
                " picture"
            )

    def sample_t(
        self, count: int, generator: Generator, *, cells: Cells | None = None
    ) -> PerSample:
        """Draw levels, as t: exactly the float32 nearest to n / 1000, n from 1 to 1000."""
        if self.timesteps is None:
            level = torch.randint(LEVELS, (count,), generator=generator)
        else:
            drawn = self.timesteps(count, generator, cells)
            # What is a level already stays one: 0.007 * 1000 is a little over 7 in float32.
            level = (drawn * LEVELS - 1e-3).ceil().long().clamp(1, LEVELS) - 1
        return (level + 1).float() / LEVELS

    def corrupt(self, clean: Latents, noise: Latents, t: PerSample) -> tuple[Latents, Latents]:
        """Noisy latents as DDPMScheduler.add_noise makes them, and the noise or get_velocity's."""
        squared = self._signal(t)
        signal, sigma = (
            part.sqrt().view(-1, 1, 1, 1, 1).to(clean.dtype) for part in (squared, 1 - squared)
        )
        noisy = signal * clean + sigma * noise
        return noisy, noise if self.prediction == "epsilon" else signal * noise - sigma * clean

    def weight(self, t: PerSample) -> PerSample:
        """`weighting`, times min(snr, gamma) / snr with `min_snr`, for v / (snr + 1)."""
        if not self.min_snr and self.weighting == "none":
            return torch.ones_like(t)
        squared = self._signal(t)
        snr, v = squared / (1 - squared), self.prediction == "v"
        counts = weight_diffusion(self.weighting, snr, v=v)
        return counts * (snr.clamp_max(self.min_snr) / (snr + v)) if self.min_snr else counts

    def _signal(self, t: PerSample) -> PerSample:
        return _signal(self.zero_terminal_snr).to(t.device)[timestep(t)]


def timestep(t: PerSample) -> Tensor:
    """The level nearest to t, 0 to 999: the integer that the denoiser is told."""
    return (t.float() * LEVELS).round().long().clamp(1, LEVELS) - 1


@cache
def _signal(zero_terminal_snr: bool) -> Tensor:
    """a^2 of every level: the product of 1 - beta up to there."""
    low, high = BETAS
    betas = torch.linspace(low**0.5, high**0.5, LEVELS, dtype=torch.float32) ** 2
    squared = torch.cumprod(1 - betas, 0)
    if not zero_terminal_snr:
        return squared
    signal = squared.sqrt()
    squared = ((signal - signal[-1]) * (signal[0] / (signal[0] - signal[-1]))) ** 2
    # The algorithm hands betas on, and samplers multiply them up again: that rounding too.
    betas = 1 - torch.cat([squared[:1], squared[1:] / squared[:-1]])
    return torch.cumprod(1 - betas, 0)
