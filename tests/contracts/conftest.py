"""Every family on the shelf, as tiny random parts; built once a session, and only if asked for."""

from copy import deepcopy
from dataclasses import dataclass, replace

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


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """A noisy picture, 1 H W 3 in uint8."""
    values = torch.randint(
        256, (1, height, width, 3), generator=torch.Generator().manual_seed(seed)
    )
    return values.to(torch.uint8)


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
    def painted(self) -> tuple[int, ...]:
        """The same, and a clip of five latent frames where the model makes such."""
        long = 1 + 4 * self.card.grid.temporal
        return (*self.lengths, long) if self.card.frames >= long else self.lengths

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

    def given(self, batch: int = 2, frames: int = 1) -> Conditioning:
        """What the denoiser is told of a batch: texts, and what it sees of clips that long."""
        text = {name: value[:batch] for name, value in self.conditioning.items()}
        return {**text, **self.seen(batch, frames)}

    def seen(self, batch: int, frames: int) -> Conditioning:
        clips = [self.clip(frames, batch)[i : i + 1] for i in range(batch)]
        parts, family = self.parts, self.family
        each = [
            family.image_conditioning(parts.vae, parts.vision, clip, self.references(i))
            for i, clip in enumerate(clips)
        ]
        return {name: torch.cat([one[name] for one in each]) for name in each[0]}

    def references(self, index: int = 0) -> list[Tensor]:
        """The pictures that go with clip `index`, where the model looks at pictures."""
        if self.card.sees != "pictures":
            return []
        return [picture(*self.size, seed=index)]

    def predict(self, denoiser: nn.Module, frames: int = 1, batch: int = 2) -> Tensor:
        return self.family.predict(
            denoiser, self.latents(frames, batch), self.levels(batch), self.given(batch, frames)
        )

    def levels(self, batch: int = 2) -> Tensor:
        """Noise levels that one expert takes, where there are several."""
        return self.every_level(batch)[0]

    def every_level(self, batch: int = 2) -> list[Tensor]:
        """The same for each expert."""
        spread = torch.linspace(0.1, 0.9, batch)
        ranges = list(self.card.experts.values()) or [(0.25, 0.95)]
        return [low + (high - low) * spread for low, high in ranges]


# Variants that walk the code of another one: `make test` leaves them to `make test-slow`. What is
# theirs alone (a text encoder, a guidance, a number of pictures) tests/families has for each.
WALKED_BY_ANOTHER = {
    ("flux", "schnell"),
    ("flux2", "klein-base-4b"),
    ("hunyuan_video", "1.5-480p-t2v"),
    ("maskdit", "pocket"),
    ("maskdit", "sd"),
    ("pocket", "image"),
    ("qwen_image", "edit"),
    ("qwen_image", "edit-2509"),
    ("sd3", "3.5-large"),
    ("stable_diffusion", "sd15"),
    ("wan", "2.1-i2v-14b-480p"),
    ("wan", "2.2-t2v-a14b"),
    ("wan", "2.2-ti2v-5b"),
}


def _cases():
    return [
        pytest.param(
            (name, variant), marks=[pytest.mark.slow] * ((name, variant) in WALKED_BY_ANOTHER)
        )
        for name in FAMILIES.names()
        for variant, card in FAMILIES.load(name).variants.items()
        if not card.like
    ]


@pytest.fixture(scope="session", params=_cases(), ids="/".join)
def case(request: pytest.FixtureRequest) -> Case:
    name, variant = request.param
    family = FAMILIES.load(name)
    parts = family.tiny(variant)
    assert parts.text is not None
    made = Case(family, variant, parts, {})
    seen = [made.references(index) for index in range(len(PROMPTS))]
    return replace(made, conditioning=family.embed(parts.text, PROMPTS, seen))


@pytest.fixture
def denoiser(case: Case) -> nn.Module:
    """A copy that a test may put an adapter on."""
    assert case.parts.denoiser is not None
    return deepcopy(case.parts.denoiser)
