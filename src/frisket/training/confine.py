"""Region-confined training: while it trains, the adapter acts under the masks alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn import functional

from frisket.adapters.routed.factors import Factors
from frisket.data.sample import Batch
from frisket.masks.weights import RegionWeights
from frisket.shapes import Coverage, Flags, Weights


@dataclass(frozen=True, slots=True)
class Confinement:
    """The adapter's update is multiplied by what the is_taught regions cover, grown by some cells.

    Equal to a plain LoRA where the coverage is 1. Outside it the adapter reaches the picture
    through attention only: every update there is exactly 0. Samples without a mask are not
    confined.
    """

    factors: Factors
    table: RegionWeights
    grow: int = 0  # latent cells, to every side and corner

    @contextmanager
    def __call__(self, batch: Batch) -> Iterator[None]:
        """Inside, calls of the denoiser (and their recomputation, later) are confined."""
        before = self.factors.space
        self.factors.space = self.lay(batch.coverage, batch.masked)
        try:
            yield
        finally:
            self.factors.space = before

    def lay(self, coverage: Coverage, masked: Flags) -> Weights:
        """Where the adapter acts: b 1 f h w in [0, 1], of regions whose weight is above 0."""
        return lay_taught(self.table, coverage, masked, self.grow)


def lay_taught(table: RegionWeights, coverage: Coverage, masked: Flags, grow: int = 0) -> Weights:
    """What the regions that have a weight cover, b 1 f h w in [0, 1]; 1 where there is no mask.

    `grow` widens it by so many latent cells, to every side and corner.
    """
    is_taught = torch.tensor([weight > 0 for weight in table.regions.values()])
    place = coverage[:, is_taught.to(coverage.device)].float().sum(1, keepdim=True).clamp(0, 1)
    if grow:
        side = 2 * grow + 1
        frames = place.transpose(1, 2).flatten(0, 1)
        frames = functional.max_pool2d(frames, side, stride=1, padding=grow)
        place = frames.unflatten(0, (len(place), -1)).transpose(1, 2)
    return torch.where(masked.view(-1, 1, 1, 1, 1), place, 1.0)
