"""Token routing in training: which steps are routed, and which tokens each batch carries then."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from frisket.routing.router import Router
from frisket.routing.selection import BackgroundSelection, Patch, TokenSelection
from frisket.shapes import Weights
from frisket.training.plan import MicroBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRouting:
    """Some steps are whole, none is routed at the end: the model is used whole.

    full_step_probability: of a step to be whole, drawn from `seed` and the step alone: every
        process draws the same, and a run that is resumed goes on as it would have.
    full_from: share of the run after which all steps are whole.
    first_frame: latent frame 0 is what the model is shown, and is always carried.
    """

    router: Router
    select: BackgroundSelection
    patch: Patch
    seed: int
    full_step_probability: float = 0.25
    full_from: float = 0.85
    first_frame: bool = False

    def draw(
        self, micros: Sequence[MicroBatch], done: int, progress: float, generator: Generator
    ) -> list[MicroBatch]:
        """The micro-batches of a step, each with the tokens it carries (None: all of them).

        `generator` gives one draw a micro-batch, after everything else that the step draws.
        """
        if self.is_full(done, progress):
            return list(micros)
        return [replace(micro, selection=self._choose(micro, generator)) for micro in micros]

    def is_full(self, done: int, progress: float) -> bool:
        """Whether the step after `done` steps carries every token."""
        if progress >= self.full_from:
            return True
        own = Generator().manual_seed((self.seed * 1_000_003 + done) % (1 << 63))
        return bool(torch.rand((), generator=own) < self.full_step_probability)

    @contextmanager
    def carry(self, selection: TokenSelection | None) -> Iterator[None]:
        """Inside, the denoiser carries the selected tokens through the window (None: all)."""
        with self.router.carry(selection):
            yield

    def _choose(self, micro: MicroBatch, generator: Generator) -> TokenSelection | None:
        weighed = micro.weighed
        return self.select(
            weighed.weights,
            self.patch,
            generator,
            always=self._mark_shown(weighed.predicted, micro),
        )

    def _mark_shown(self, predicted: Weights | None, micro: MicroBatch) -> Weights | None:
        """Cells that the model is shown clean, or begins from."""
        if not self.first_frame:
            return None if predicted is None else 1 - predicted
        shown = torch.zeros_like(micro.weighed.weights)
        shown[:, :, 0] = 1
        return shown if predicted is None else torch.maximum(shown, 1 - predicted)


def silence(prediction: Tensor, selection: TokenSelection | None) -> Tensor:
    """A prediction b c f h w without gradient at the cells of tokens that were left out.

    They come from the shallow layers alone: whatever a loss term makes of them must teach nothing.
    """
    if selection is None or not selection.detached:
        return prediction
    return torch.where(selection.kept > 0, prediction, prediction.detach())
