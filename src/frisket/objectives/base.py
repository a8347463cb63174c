"""What a denoiser is asked to predict, and at which noise levels."""

from typing import Protocol, runtime_checkable

from torch import Generator

from frisket.shapes import Cells, Latents, PerSample


@runtime_checkable
class Objective(Protocol):
    """One way of adding noise and naming the target; t is in (0, 1], 1 is pure noise."""

    def sample_t(
        self, count: int, generator: Generator, *, cells: Cells | None = None
    ) -> PerSample:
        """Draw `count` noise levels on the CPU, for latents of f x h x w `cells`.

        ValueError where the noise levels follow the size of the latents and `cells` is None.
        """
        ...

    def corrupt(self, clean: Latents, noise: Latents, t: PerSample) -> tuple[Latents, Latents]:
        """The noisy latents the denoiser sees and the target it should predict."""
        ...

    def weight(self, t: PerSample) -> PerSample:
        """How much a noise level counts; kept out of the mask's divisor."""
        ...
