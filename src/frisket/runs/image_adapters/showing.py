"""The references of a run on its denoiser: drawn for a step, fixed for a look, off for sampling."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from frisket.config.regions import weights_of
from frisket.config.tree import Config
from frisket.data.sample import Batch
from frisket.families.base import Family
from frisket.inference.methods.base import Method
from frisket.inference.methods.identity.instantid.pose import Strokes
from frisket.masks.weights import RegionWeights
from frisket.runs.image_adapters.branches import ReferenceBranches, connect_branches
from frisket.runs.image_adapters.posing import PoseRows
from frisket.runs.image_adapters.references import ReferenceSet
from frisket.runs.image_adapters.sampling import make_sampling_method
from frisket.training.confine import lay_taught


@dataclass(frozen=True, slots=True)
class ShownReferences:
    """What an image adapter on a denoiser is shown, batch by batch.

    `confined` is the table of regions that it acts within while it trains, None for everywhere.
    `strokes` are those of InstantID's key points, None for other kinds, which have none.
    """

    family: Family
    references: ReferenceSet
    branches: ReferenceBranches
    dropout: float = 0.0
    confined: RegionWeights | None = None
    strokes: Strokes | None = None

    @contextmanager
    def draw(self, batch: Batch) -> Iterator[None]:
        """Inside, and in the backward pass after, each row is shown what is drawn for it."""
        place = None
        if self.confined is not None:
            place = lay_taught(self.confined, batch.coverage, batch.masked)
        rows = self.references.draw(batch, self.dropout)
        self.branches.set_rows(rows, place, self._draw_poses(batch))
        yield

    def show(self, batch: Batch) -> AbstractContextManager[None]:
        """Inside, each row is shown its own, without chance; after, nothing is."""
        return self.branches.show(self.references.show(batch), self._draw_poses(batch))

    def _draw_poses(self, batch: Batch) -> Callable[[int, int], Tensor] | None:
        """Pictures of the clips' own key points, of those that the adapter is not shown as well."""
        if self.strokes is None:
            return None
        return PoseRows(self.references.list_points(batch), self.strokes).draw

    def make_method(self, denoiser: nn.Module) -> Method:
        """For sampling with the adapter as it is now; its hooks of training are off from here."""
        self.branches.set_rows(None)
        strokes: Strokes = self.strokes or "fixed"
        return make_sampling_method(self.family, denoiser, self.references, strokes)


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
        strokes=options.strokes if options.kind == "instantid" else None,
    )
