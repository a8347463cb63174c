"""Where tokens were left out, what lay there: the noisy latents, patch by patch normalised."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional

from frisket.losses.base import LEFT_OUT, Step, weighted_mean
from frisket.shapes import Latents, PerSample

EPSILON = 1e-6  # beside a patch's variance


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """sum(|prediction - z|^2 w) / (C sum(w)) over the cells of tokens that were left out.

    z are the noisy latents, each token's values with mean 0 and variance 1 (their count less one is
    what the squares are divided by). After the reconstruction loss of MaskDiT (Zheng et al. 2023,
    section 3.3), where w is 1; here it is the cell's weight, so that what carries no loss otherwise
    carries none here. 0 in steps that leave no token out. The weight of the noise level is not for
    it.
    """

    needs: ClassVar[frozenset[str]] = frozenset({LEFT_OUT})

    def __call__(self, step: Step) -> PerSample:
        """Distance of each sample, float32."""
        if step.noisy is None:
            raise ValueError("reconstruction: the step carries no noisy latents")
        if step.left_out is None:
            return step.prediction.float().flatten(1)[:, :0].sum(1)
        weights = step.left_out if step.predicted is None else step.left_out * step.predicted
        noisy_patches = normalise_patches(step.noisy.detach(), step.patch)
        error = functional.mse_loss(step.prediction.float(), noisy_patches, reduction="none")
        return weighted_mean(torch.where(weights > 0, error, 0.0), weights)


def normalise_patches(latents: Latents, patch: tuple[int, int, int]) -> Latents:
    """Latents whose values within each patch of f h w cells have mean 0 and variance 1, float32."""
    b, c, *cells = latents.shape
    split = [side for size, step in zip(cells, patch, strict=True) for side in (size // step, step)]
    values = latents.float().reshape(b, c, *split)  # b c f p h q w r
    inside = (1, 3, 5, 7)
    mean = values.mean(inside, keepdim=True)
    spread = (values.var(inside, keepdim=True) + EPSILON).sqrt()
    return ((values - mean) / spread).reshape(latents.shape)


TERM = Reconstruction
