"""The references of a run on its denoiser: drawn for a step, fixed for a look, off for sampling."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from torch import nn

from frisket.config.regions import weights_of
from frisket.config.tree import Config
from frisket.data.sample import Batch
from frisket.families.base import Family
from frisket.inference.methods.identity.image_attention import ImageAttention
from frisket.masks.weights import RegionWeights
from frisket.runs.image_adapters.branches import ReferenceBranches, connect_branches
from frisket.runs.image_adapters.references import ReferenceSet
from frisket.runs.image_adapters.setup import make_sampling_method
from frisket.training.confine import lay_taught


@dataclass(frozen=True, slots=True)
class ShownReferences:
    """What an image adapter on a denoiser is shown, batch by batch.

    `confined` is the table of regions that it acts within while it trains, None for everywhere.
    """

    family: Family
    references: ReferenceSet
    branches: ReferenceBranches
    dropout: float = 0.0
    confined: RegionWeights | None = None

    @contextmanager
    def draw(self, batch: Batch) -> Iterator[None]:
        """Inside, and in the backward pass after, each row is shown what is drawn for it."""
        place = None
        if self.confined is not None:
            place = lay_taught(self.confined, batch.coverage, batch.masked)
        self.branches.set_rows(self.references.draw(batch, self.dropout), place)
        yield

    def show(self, batch: Batch) -> AbstractContextManager[None]:
        """Inside, each row is shown its own, without chance; after, nothing is."""
        return self.branches.show(self.references.show(batch))

    def make_method(self, denoiser: nn.Module) -> ImageAttention:
        """For sampling with the adapter as it is now; its hooks of training are off from here."""
        self.branches.set_rows(None)
        return make_sampling_method(self.family, denoiser, self.references)


def connect_references(
    config: Config, family: Family, denoiser: nn.Module, references: ReferenceSet
) -> ShownReferences:
    """Join the adapter on a denoiser to its layers, with the clips' references behind it."""
    options = config.image_adapter
    return ShownReferences(
        family,
        references,
        connect_branches(family, denoiser),
        dropout=options.dropout,
        confined=weights_of(config) if options.confine else None,
    )
