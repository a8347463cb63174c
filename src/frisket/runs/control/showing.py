"""The controls of a run on its denoiser: drawn for a step, in full for a look, off for sampling."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from frisket.adapters.control.net import TrainedControlNet
from frisket.data.sample import Batch
from frisket.families.control.branch import ControlBranch
from frisket.inference.methods.base import Method
from frisket.masks.weights import RegionWeights
from frisket.shapes import Coverage, Flags, PerSample, Weights
from frisket.training.confine import lay_taught

Confine = Literal["none", "inside", "outside"]


@dataclass(frozen=True, slots=True)
class ControlDraws:
    """How strong each row's control is in a step: nothing in a share of draws, else even in a span.

    Of a net that trains itself every row has it in full, and nothing is drawn.
    """

    dropout: float = 0.0
    least: float = 1.0
    most: float = 1.0

    def draw(self, count: int, generator: Generator) -> PerSample:
        """A strength a row, on the CPU; two numbers of each row are taken, whatever they come to.

        The last thing that a step takes of its generator: noise and levels are as without control.
        """
        if (self.dropout, self.least, self.most) == (0.0, 1.0, 1.0):
            return torch.ones(count)
        strengths, chances = torch.rand(2, count, generator=generator)
        strengths = self.least + (self.most - self.least) * strengths
        return torch.where(chances < self.dropout, 0.0, strengths)


@dataclass(frozen=True, slots=True)
class ShownControls:
    """What the ControlNet beside a denoiser is shown, batch by batch.

    `read` gives what it reads of a batch's controls, b c f h w. `generator` is the trainer's own,
    seeded anew in each step. `regions` say what `confine` takes for inside. `sample` makes the
    method of sampling with the net as it is now.
    """

    branch: ControlBranch
    part: TrainedControlNet | None  # of the denoiser, where the net trains
    read: Callable[[Batch], Tensor]
    generator: Generator
    draws: ControlDraws
    confine: Confine
    regions: RegionWeights
    sample: Callable[[nn.Module], Method]

    @contextmanager
    def draw(self, batch: Batch) -> Iterator[None]:
        """Inside, and in the backward pass after, each row has its control as it was drawn."""
        strengths = self.draws.draw(len(batch), self.generator)
        self._set_rows(batch, strengths)
        yield

    @contextmanager
    def show(self, batch: Batch) -> Iterator[None]:
        """Inside, each row has its control in full, without chance; after, none has."""
        self._set_rows(batch, torch.ones(len(batch)))
        try:
            yield
        finally:
            self.branch.set_rows(None)

    def make_method(self, denoiser: nn.Module) -> Method:
        """For sampling beside the net as it is now; the rows of training are off from here."""
        self.branch.set_rows(None)
        return self.sample(denoiser)

    def _set_rows(self, batch: Batch, strengths: PerSample) -> None:
        if self.part is not None and self.part.is_silent:
            return
        device = batch.latents.device
        place = lay_place(self.confine, self.regions, batch.coverage, batch.masked)
        self.branch.set_rows(self.read(batch).to(device), strengths.to(device), place)


def lay_place(
    confine: Confine, regions: RegionWeights, coverage: Coverage, masked: Flags
) -> Weights | None:
    """Where residuals act, b 1 f h w in [0, 1]; None is everywhere, as is a row without a mask."""
    if confine == "none":
        return None
    inside = lay_taught(regions, coverage, masked)
    if confine == "inside":
        return inside
    return torch.where(masked.view(-1, 1, 1, 1, 1), 1 - inside, 1.0)
