"""Which tokens each batch of a step carries: by token routing, or by patch masking."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from frisket.families.routes import keep_tokens
from frisket.routing.patches import PatchSelection, RatioPlan
from frisket.routing.router import Router
from frisket.routing.selection import BackgroundSelection, Patch, TokenSelection
from frisket.shapes import Weights
from frisket.training.plan import MicroBatch


@runtime_checkable
class TokenDraws(Protocol):
    """What a trainer is told of tokens that not every step carries."""

    def draw(
        self, micros: Sequence[MicroBatch], steps_done: int, progress: float, generator: Generator
    ) -> list[MicroBatch]:
        """The micro-batches of the next step, each with its tokens (None: all of them).

        `progress` is the share of the run that is done. `generator` gives what is drawn, after
        everything else that the step draws.
        """
        ...

    def carry(self, selection: TokenSelection | None) -> AbstractContextManager[None]:
        """Inside, calls of the denoiser carry the selected tokens alone (None: all)."""
        ...


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
        self, micros: Sequence[MicroBatch], steps_done: int, progress: float, generator: Generator
    ) -> list[MicroBatch]:
        """The micro-batches of a step, each with the tokens it carries (None: all of them).

        `generator` gives one draw a micro-batch, after everything else that the step draws.
        """
        if self.is_full(steps_done, progress):
            return list(micros)
        return [replace(micro, selection=self._choose(micro, generator)) for micro in micros]

    def is_full(self, steps_done: int, progress: float) -> bool:
        """Whether the step after `steps_done` steps carries every token."""
        if progress >= self.full_from:
            return True
        step_generator = Generator().manual_seed((self.seed * 1_000_003 + steps_done) % (1 << 63))
        return bool(torch.rand((), generator=step_generator) < self.full_step_probability)

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
        shown_cells = torch.zeros_like(micro.weighed.weights)
        shown_cells[:, :, 0] = 1
        return shown_cells if predicted is None else torch.maximum(shown_cells, 1 - predicted)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchMasker:
    """The model leaves tokens out itself, from its first block on, and predicts all (MaskDiT)."""

    select: PatchSelection
    ratios: RatioPlan
    patch: Patch

    def draw(
        self, micros: Sequence[MicroBatch], steps_done: int, progress: float, generator: Generator
    ) -> list[MicroBatch]:
        """The micro-batches of a step, each with the tokens that the model sees."""
        ratio = self.ratios.find_ratio(progress)
        if not ratio:
            return list(micros)
        selections = [
            self.select(micro.weighed.weights, self.patch, ratio, generator) for micro in micros
        ]
        pairs = zip(micros, selections, strict=True)
        return [replace(micro, selection=selection) for micro, selection in pairs]

    @contextmanager
    def carry(self, selection: TokenSelection | None) -> Iterator[None]:
        """Inside, the denoiser is told of the selected tokens (None: of all)."""
        with keep_tokens(None if selection is None else selection.tokens):
            yield


def describe_tokens(selection: TokenSelection | None) -> dict[str, Any]:
    """What a `Step` says of the tokens that its call carried, by its names."""
    if selection is None:
        return {}
    return {"importance": selection.importance, "patch": selection.patch}


def silence(prediction: Tensor, selection: TokenSelection | None) -> Tensor:
    """A prediction b c f h w without gradient at the cells of tokens that were left out.

    They come from the shallow layers alone: whatever a loss term makes of them must teach nothing.
    """
    if selection is None or not selection.detached:
        return prediction
    return torch.where(selection.kept > 0, prediction, prediction.detach())
