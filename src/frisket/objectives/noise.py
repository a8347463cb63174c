"""The noise that is added: plain Gaussian, shifted by channel, or with coarser layers over it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator
from torch.nn.functional import interpolate

from frisket.shapes import Latents


@dataclass(frozen=True, slots=True)
class NoiseSampler:
    """How noise of shape b c f h w is drawn, on the CPU, from one generator.

    `offset` adds that much of one number a channel and clip (crosslabs, "Diffusion with Offset
    Noise"): it teaches brightness as a whole. With `offset_random` its strength is drawn between 0
    and `offset` for each batch. `iterations` lays as many ever coarser layers over it, each at
    `discount` times the strength of the one before, and brings the whole batch back to a standard
    deviation of 1 ("Multi-Resolution Noise for Diffusion Model Training", Whitaker). Both as kohya
    does them, the offset first.

    Of a clip all frames share the offset, as OneTrainer does it, and each frame has coarser layers
    of its own: a clip's noise stays independent from frame to frame but for its brightness.
    """

    offset: float = 0.0
    offset_random: bool = False
    iterations: int = 0
    discount: float = 0.3

    def draw(self, shape: Sequence[int], generator: Generator) -> Latents:
        """Noise of `shape`, b c f h w; float32."""
        noise = torch.randn(tuple(shape), generator=generator)
        if self.offset:
            strength = self.offset
            if self.offset_random:
                strength *= float(torch.rand(1, generator=generator))
            noise = noise + strength * torch.randn(*shape[:2], 1, 1, 1, generator=generator)
        return self._add_layers(noise, generator) if self.iterations else noise

    def _add_layers(self, noise: Latents, generator: Generator) -> Latents:
        b, c, f, h, w = noise.shape
        for level in range(self.iterations):
            # Between a half and a quarter the size of the layer before, as it comes.
            shrink = (2 + 2 * float(torch.rand(1, generator=generator))) ** level
            size = max(1, int(h / shrink)), max(1, int(w / shrink))
            coarse = torch.randn(b, c * f, *size, generator=generator)
            fine = interpolate(coarse, (h, w), mode="bilinear", align_corners=False)
            noise = noise + fine.view(noise.shape) * self.discount**level
            if 1 in size:
                break
        return noise / noise.std()
