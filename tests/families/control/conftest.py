"""What tests of several families' ControlNets share."""

import pytest
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution


@pytest.fixture
def plain_posterior(monkeypatch) -> None:
    """Some public pipelines draw a control's latents from the VAE's posterior; we take its mode."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, *_options: self.mode())
