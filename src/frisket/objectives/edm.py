"""EDM: the clean latents are predicted, behind a preconditioning that keeps all scales at one."""

from dataclasses import dataclass, field

import torch
from torch import Generator

from frisket.objectives.timesteps import TimestepSampler
from frisket.shapes import Cells, Latents, PerSample

LEVEL_MEAN, LEVEL_STD = -1.2, 1.2  # of ln sigma (Karras et al. 2022, table 1)
SIGMA_DATA = 0.5  # spread of the clean latents that the preconditioning counts on


@dataclass(frozen=True, slots=True)
class Edm:
    """x_t = (1 - t) y + t n, target y, weight (sigma^2 + s^2) / (sigma s)^2, sigma = t / (1 - t).

    Karras et al. 2022 (section 5, table 1) corrupt to y + sigma n; here that is divided by
    1 + sigma, so that t in (0, 1] is the noise level as everywhere, x_1 is pure noise and the path
    is a flow's. ln sigma ~ N(-1.2, 1.2) is then the logit-normal density of t with these two
    numbers. The denoiser gives D = c_skip x + c_out F(c_in x), see `precondition`.
    """

    timesteps: TimestepSampler = field(
        default_factory=lambda: TimestepSampler("logit_normal", mean=LEVEL_MEAN, std=LEVEL_STD)
    )
    sigma_data: float = SIGMA_DATA

    def sample_t(
        self, count: int, generator: Generator, *, cells: Cells | None = None
    ) -> PerSample:
        """Draw noise levels for latents of f x h x w `cells`."""
        return self.timesteps(count, generator, cells)

    def corrupt(self, clean: Latents, noise: Latents, t: PerSample) -> tuple[Latents, Latents]:
        """Noisy latents and the clean ones."""
        level = t.view(-1, 1, 1, 1, 1).to(clean.dtype)
        return (1 - level) * clean + level * noise, clean

    def weight(self, t: PerSample) -> PerSample:
        """1 / c_out^2 of y + sigma n: what makes the error of F count alike at all levels."""
        squared = (t * self.sigma_data) ** 2
        return (t**2 + (self.sigma_data * (1 - t)) ** 2) / squared


@dataclass(frozen=True, slots=True)
class Scales:
    """What `precondition` multiplies by; b 1 1 1 1 each."""

    skip: torch.Tensor
    out: torch.Tensor
    in_: torch.Tensor


def precondition(t: PerSample, sigma_data: float = SIGMA_DATA) -> Scales:
    """c_skip, c_out, c_in of Karras et al. 2022 (table 1) for x_t = (1 - t) y + t n.

    With x = (1 - t) (y + sigma n): c_in x has unit variance, F's target too; float32, finite up to
    t = 1 where sigma is not.
    """
    level = t.float().view(-1, 1, 1, 1, 1)
    signal = 1 - level
    total = level**2 + (sigma_data * signal) ** 2
    return Scales(
        skip=sigma_data**2 * signal / total,
        out=level * sigma_data / total.sqrt(),
        in_=total.rsqrt(),
    )
