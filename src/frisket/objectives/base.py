"""What a denoiser is asked to predict, and at which noise levels."""

from typing import Protocol, runtime_checkable

from torch import Generator

from frisket.shapes import Latents, PerSample


@runtime_checkable
class Objective(Protocol):
    """One way of adding noise and naming the target; t is in (0, 1], 1 is pure noise."""

    def sample_t(self, count: int, generator: Generator) -> PerSample:
        """Draw `count` noise levels on the CPU."""
        ...

    def corrupt(self, clean: Latents, noise: Latents, t: PerSample) -> tuple[Latents, Latents]:
        """The noisy latents the denoiser sees and the target it should predict."""
        ...

    def weight(self, t: PerSample) -> PerSample:
        """How much a noise level counts; kept out of the mask's divisor."""
        ...
