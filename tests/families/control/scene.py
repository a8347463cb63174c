"""Tiny parts of a family and one control picture, for its nets' own tests."""

from typing import Any

import torch
from torch import Tensor, nn

from frisket.families.base import FAMILIES
from frisket.families.control.base import CONTROLS
from frisket.families.control.branch import connect_control

PROMPTS = ["a red fox", "two boats on a lake"]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stir(net: nn.Module) -> nn.Module:
    """Every parameter moved off where it is: what is zero at first then does something."""
    with torch.no_grad():
        for seed, value in enumerate(net.parameters()):
            value.add_(0.1 * draw(*value.shape, seed=seed))
    return net.requires_grad_(False).eval()


class Scene:
    """A variant's tiny parts, and controls of two clips in [0, 1]."""

    def __init__(self, name: str, variant: str, frames: int = 1) -> None:
        self.family, self.support, self.variant = FAMILIES.load(name), CONTROLS.load(name), variant
        self.parts = self.family.tiny(variant)
        self.denoiser: Any = self.parts.denoiser
        self.card = self.family.variants[variant]
        grid, self.frames = self.card.grid, frames
        self.size = 2 * grid.step, 3 * grid.step
        self.noisy = draw(2, grid.channels, *grid.cells(frames, *self.size))
        self.conditioning = self.family.embed(self.parts.text, PROMPTS)
        self.clips = draw(2, 3, frames, *self.size, seed=1).sigmoid()

    def read(self, net: nn.Module) -> Tensor:
        rows = [self.support.read(net, self.parts.vae, clip[None]) for clip in self.clips]
        return torch.cat(rows)

    @torch.no_grad()
    def predict(self, net: nn.Module | None = None, scale: float = 1.0) -> Tensor:
        t = torch.tensor([0.3, 0.6])
        if net is None:
            return self.family.predict(self.denoiser, self.noisy, t, self.conditioning)
        branch = connect_control(self.family, self.denoiser, net)
        branch.set_rows(self.read(net), scale)
        try:
            return self.family.predict(self.denoiser, self.noisy, t, self.conditioning)
        finally:
            branch.remove()

    @torch.no_grad()
    def sample(self, net: nn.Module | None = None, *, stock: bool, scale: float = 0.7) -> Tensor:
        """Two steps, by the public ControlNet pipeline or by a branch on the family's own."""
        positive = {name: value[:1] for name, value in self.conditioning.items()}
        negative = self.family.embed(self.parts.text, ["a blur"]) if self.card.negative else None
        kwargs = self.family.call(self.variant, positive, negative, guidance=self.card.guidance) | {
            "height": self.size[0],
            "width": self.size[1],
            "num_inference_steps": 2,
        }
        if self.card.video:
            kwargs["num_frames"] = self.frames
        branch = None
        if stock:
            pipeline = self.support.pipeline(self.parts, net)
            kwargs |= self.support.call(self.clips[:1], scale)
        else:
            pipeline = self.family.pipeline(self.parts)
            branch = connect_control(self.family, self.denoiser, net)
            branch.set_rows(self.read(net)[:1], scale)
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(3)
        try:
            return pipeline(**kwargs, generator=generator, output_type="latent")[0]
        finally:
            if branch is not None:
                branch.remove()
