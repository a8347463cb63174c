"""What the trainer is told: the plan of a run, its hooks, and one micro-batch ready to train on."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Generator

from frisket.data.sample import Batch
from frisket.families.base import CLEAN_MASK
from frisket.grid import LatentGrid
from frisket.losses.base import Normalise
from frisket.losses.weighting import Weighed, Weighting, WeightTable, list_exclusive, weigh
from frisket.masks.morphology import feather_cells
from frisket.objectives.noise import NoiseSampler
from frisket.routing.selection import TokenSelection
from frisket.shapes import Coverage, Latents, PerSample, Weights

What = Literal["save", "validate", "preview"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does, in plain values; the recipe fills it from the configuration.

    `raw_beta` makes the loss grow with the raw coverage (see `scale_by_area`), `draw` says whether
    samples or whole batches train unmasked, `unscaled_by` what a term is not multiplied by: the
    weight of the noise level ("t"), of the data set ("set"). `epoch` is the number of batches, of
    all processes, in one pass over the clips (0: nobody asks), `max_norm` the largest norm of a
    layer's update (0: no limit). `phrases` says which plane of the coverage each phrase of a batch
    is of, `concepts` which regions are logged apart, `balance` what each region is multiplied by.
    """

    steps: int
    accumulate: int = 1
    seed: int = 0
    clip: float = 1.0
    normalise: Normalise = "sample"
    beta: float = 0.5
    raw_beta: float = 0.0
    draw: Literal["sample", "batch"] = "sample"
    unscaled_by: Mapping[str, frozenset[str]] = field(default_factory=dict)
    unmasked_probability: float = 0.0
    feather_t: float = 0.0
    epoch: int = 0
    max_norm: float = 0.0
    noise: NoiseSampler = field(default_factory=NoiseSampler)
    phrases: tuple[int, ...] = ()
    concepts: Mapping[str, int] = field(default_factory=dict)
    balance: tuple[float, ...] = ()

    def unmask(self, batch: Batch, generator: Generator) -> Batch:
        """The batch with some samples, or all of it, unmasked by chance."""
        if not self.unmasked_probability:
            return batch
        count = len(batch) if self.draw == "sample" else 1
        drawn = torch.rand(count, generator=generator)
        masked = (drawn >= self.unmasked_probability).to(batch.masked.device)
        return replace(batch, masked=batch.masked & masked)

    def make_weighting(
        self, table: WeightTable, grid: LatentGrid, terms: Iterable[object]
    ) -> Weighting:
        """How the cells of a clip on `grid` are weighed under `table`, for these loss terms."""

        def soften(coverage: Coverage, t: PerSample) -> Coverage:
            """Region borders widened with t: by feather_t pixels at pure noise, not at t = 0."""
            return feather_cells(coverage, self.feather_t * t, grid)

        return Weighting(
            table=table,
            channels=grid.channels,
            normalise=self.normalise,
            beta=self.beta,
            raw_beta=self.raw_beta,
            soften=soften if self.feather_t else None,
            exclusive=list_exclusive(terms),
            concepts=self.concepts,
            balance=self.balance,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """One batch with everything that was drawn and laid for it before any forward pass.

    `share` is the part of the optimizer step's clips that it holds, over all ranks. `selection` are
    the tokens that the denoiser carries through its routed blocks, or sees at all; None: all of
    them.
    """

    batch: Batch
    noise: Latents
    t: PerSample
    weighed: Weighed
    share: float = 1.0
    selection: TokenSelection | None = None


def weigh_batch(
    weighting: Weighting,
    batch: Batch,
    t: PerSample,
    progress: float,
    *,
    carried: Weights | None = None,
) -> Weighed:
    """The cells of one batch, weighed (`losses.weighting.weigh`)."""
    return weigh(
        weighting,
        batch.coverage,
        batch.masked,
        t,
        clean=batch.conditioning.get(CLEAN_MASK),
        carried=carried,
        progress=progress,
        region_flags=batch.region_flags,
    )


def weigh_carried(weighting: Weighting, micro: MicroBatch, progress: float) -> MicroBatch:
    """A micro-batch with the weight of tokens that its model does not see taken away.

    As it is where all are seen, or where those that are left out have none (token routing).
    """
    selection = micro.selection
    if selection is None or selection.detached:
        return micro
    weighed = weigh_batch(weighting, micro.batch, micro.t, progress, carried=selection.kept)
    return replace(micro, weighed=weighed)


def seed_step(generator: Generator, seed: int, steps_done: int, process: int) -> None:
    """Seed what a step draws from, and the global generator, which adapter dropout draws from.

    Everything random in a step is drawn from its own seed (the run's, `steps_done`,
    the process): resuming needs no generator state, and previews or validation change nothing.
    """
    mixed = (seed * 1_000_003 + steps_done) * 8191 + process
    generator.manual_seed(mixed % (1 << 63))
    torch.manual_seed((mixed + 1) % (1 << 63))


@dataclass(slots=True)
class Hooks:
    """What happens besides training; each is called with the number of finished steps.

    None of them may change the weights or draw from a generator of the trainer. Every process has
    the same rhythm (`save_every`, ...), even where its own hooks do nothing: it waits
    for the one that works.
    """

    save: Callable[[int], None] = lambda _: None
    validate: Callable[[int], None] = lambda _: None
    preview: Callable[[int], None] = lambda _: None
    progress: Callable[[int, Mapping[str, float]], None] = lambda *_: None
    save_every: int = 0
    validate_every: int = 0
    preview_every: int = 0
    save_every_epochs: int = 0
    validate_every_epochs: int = 0
    preview_every_epochs: int = 0

    def due(self, what: What, done: int, rows: tuple[int, int], epoch: int) -> bool:
        """Whether it is time for `what` after step `done`, by the steps or by the epochs.

        `rows` are the batches of all processes taken before and after that step: it is the step in
        which an epoch of `epoch` batches ends, be it in the middle of an accumulation.
        """
        steps, epochs = getattr(self, f"{what}_every"), getattr(self, f"{what}_every_epochs")
        if steps > 0 and done % steps == 0:
            return True
        span = epochs * epoch
        return span > 0 and rows[1] // span > rows[0] // span
