"""Every family on the shelf, as tiny random parts; built once a session, and only if asked for."""

from copy import deepcopy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from frisket.families.base import FAMILIES, Conditioning, Family, Parts, Variant

PROMPTS = ("a red fox on a stone wall", "two boats", "")


def uniform(*shape: int, seed: int = 0) -> Tensor:
    """Values in [-1, 1] that are the same in every test."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Case:
    """One variant of one family."""

    family: Family
    variant: str
    parts: Parts
    conditioning: Conditioning  # of PROMPTS, cut to a batch by `given`

    @property
    def card(self) -> Variant:
        return self.family.variants[self.variant]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Frame counts to test: an image, and a short video where the model makes video."""
        return (1, 1 + self.card.grid.temporal) if self.card.video else (1,)

    @property
    def size(self) -> tuple[int, int]:
        """The least picture with unequal sides and several patches a side."""
        step = self.card.grid.step
        return 2 * step, 3 * step

    def clip(self, frames: int, batch: int = 2) -> Tensor:
        return uniform(batch, 3, frames, *self.size)

    def latents(self, frames: int, batch: int = 2, seed: int = 0) -> Tensor:
        grid = self.card.grid
        return normal(batch, grid.channels, *grid.cells(frames, *self.size), seed=seed)

    def given(self, batch: int = 2) -> Conditioning:
        return {name: value[:batch] for name, value in self.conditioning.items()}

    def predict(self, denoiser: nn.Module, frames: int = 1, batch: int = 2) -> Tensor:
        t = torch.linspace(0.3, 0.9, batch)
        return self.family.predict(denoiser, self.latents(frames, batch), t, self.given(batch))


def _cases() -> list[tuple[str, str]]:
    return [
        (name, variant) for name in FAMILIES.names() for variant in FAMILIES.load(name).variants
    ]


@pytest.fixture(scope="session", params=_cases(), ids="/".join)
def case(request: pytest.FixtureRequest) -> Case:
    name, variant = request.param
    family = FAMILIES.load(name)
    parts = family.tiny(variant)
    assert parts.text is not None
    return Case(family, variant, parts, family.embed(parts.text, PROMPTS))


@pytest.fixture
def denoiser(case: Case) -> nn.Module:
    """A copy that a test may put an adapter on."""
    assert case.parts.denoiser is not None
    return deepcopy(case.parts.denoiser)
