"""Every family's VAE is decoded through: a loss may look at the pixels a prediction stands for."""

import pytest
import torch

from frisket.families.base import FAMILIES


@pytest.mark.parametrize("name", FAMILIES.names())
def test_gradients_flow_from_decoded_pixels_to_the_latents(name: str) -> None:
    family = FAMILIES.load(name)
    variant = family.variants[family.default]
    parts = family.tiny(family.default)
    assert parts.vae is not None
    vae = parts.vae.eval().requires_grad_(False)
    grid = variant.grid
    side = 4 * grid.spatial
    latents = torch.randn(1, grid.channels, *grid.cells(1, side, side), requires_grad=True)
    pixels = family.decode(vae, latents)
    (gradient,) = torch.autograd.grad((0.1 * pixels).square().sum(), latents)
    assert gradient.isfinite().all()
    assert gradient.any()
