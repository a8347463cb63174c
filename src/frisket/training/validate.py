"""Validation that shows the mask: fixed noise, fixed t, error inside each region and outside."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from frisket.adapters import lora
from frisket.data.sample import Batch
from frisket.evaluation.metrics import region_loss
from frisket.families.base import CLEAN_MASK, Family
from frisket.losses.base import LossTerm, Step
from frisket.objectives.base import Objective
from frisket.shapes import Latents, PerSample, Weights
from frisket.training.decoded.faces import FaceWatch
from frisket.training.decoded.looking import describe_pictures
from frisket.training.decoded.structure import StructureWatch
from frisket.training.ema import evaluating

_Scores = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _LevelResult:
    """What the denoiser says of one batch at one noise level."""

    batch: Batch
    t: PerSample
    noisy: Latents
    prediction: Latents
    target: Latents


@dataclass(slots=True)
class Validator:
    """Scores the denoiser on held-out clips; two calls on the same weights agree bit for bit.

    `score` gives, averaged over clips and noise levels, the mean squared error inside every region
    (`loss/<region>`) and outside (`loss/outside`), and the mean squared distance to the base's
    prediction there (`drift/<region>`, `drift/outside`). Of the terms `comparing`, which look at
    faces, the mean distance over the faces and levels that each counts at (`<term>/<region>`); of
    `extracting`, which compare structure, the mean error (`<term>`).
    """

    family: Family
    objective: Objective
    batches: Sequence[Batch]
    regions: Sequence[str]
    t: Sequence[float]
    seed: int = 0
    # Entered around each prediction: what the batch's rows are shown besides.
    condition: Callable[[Batch], AbstractContextManager[Any]] = nullcontext
    faces: FaceWatch | None = None
    comparing: Mapping[str, LossTerm] = field(default_factory=dict)
    structure: StructureWatch | None = None
    extracting: Mapping[str, LossTerm] = field(default_factory=dict)
    _base: list[Latents] = field(default_factory=list)

    def base(self, denoiser: nn.Module) -> _Scores:
        """Scores with the adapter off; also keeps the base's predictions for `drift`."""
        with torch.no_grad(), lora.frozen(denoiser):
            self._base = [result.prediction.cpu() for result in self._predictions(denoiser)]
            return self._scores(denoiser)

    def score(self, denoiser: nn.Module) -> _Scores:
        """Scores of the denoiser as it is."""
        with torch.no_grad(), evaluating(denoiser):
            return self._scores(denoiser)

    def _predictions(self, denoiser: nn.Module) -> Iterator[_LevelResult]:
        device = next(denoiser.parameters()).device
        generator = torch.Generator().manual_seed(self.seed)
        for batch in self.batches:
            here = batch.to(device)
            for level in self.t:
                noise = torch.randn(batch.latents.shape, generator=generator).to(here.latents)
                t = torch.full((len(batch),), level, device=device)
                noisy, target = self.objective.corrupt(here.latents, noise, t)
                with self.condition(here):
                    prediction = self.family.predict(denoiser, noisy, t, here.conditioning)
                yield _LevelResult(here, t, noisy, prediction, target)

    def _scores(self, denoiser: nn.Module) -> _Scores:
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}

        def add(name: str, value: float) -> None:
            sums[name] = sums.get(name, 0.0) + value
            counts[name] = counts.get(name, 0) + 1

        for index, result in enumerate(self._predictions(denoiser)):
            batch, prediction = result.batch, result.prediction
            self._compare_faces(result, add)
            self._compare_structure(result, add)
            error = (prediction - result.target).square()
            clean = batch.conditioning.get(CLEAN_MASK)
            inside = region_loss(error, batch.coverage, self.regions, clean)
            for region, value in inside.items():
                add(f"loss/{region}", value)
            if self._base:
                moved = (prediction - self._base[index].to(prediction.device)).square()
                inside = region_loss(moved, batch.coverage, self.regions, clean)
                for region, value in inside.items():
                    add(f"drift/{region}", value)
        return {name: value / counts[name] for name, value in sums.items()}

    def _compare_faces(self, result: _LevelResult, add: Callable[[str, float], None]) -> None:
        """Add the distance of every face that a term looks at."""
        batch, watch = result.batch, self.faces
        if watch is None or not any(batch.faces):
            return
        ones = torch.ones_like(batch.coverage[:, :1])
        for name, term in self.comparing.items():
            step = self._show(term, result, watch, ones)
            assert step.faces is not None
            for distance in step.faces.distances:
                add(f"{name}/{self.regions[watch.region]}", float(distance))

    def _compare_structure(self, result: _LevelResult, add: Callable[[str, float], None]) -> None:
        """Add the error of every sample that a term looks at; inside is what any region covers."""
        if self.structure is None:
            return
        inside = result.batch.coverage.sum(1, keepdim=True).clamp(0, 1)
        for name, term in self.extracting.items():
            # Of a video always the same frames are drawn, and training's own are not moved.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                step = self._show(term, result, self.structure, inside)
            assert step.structure is not None
            for error in step.structure.errors:
                add(name, float(error))

    def _show(
        self,
        term: LossTerm,
        result: _LevelResult,
        watch: FaceWatch | StructureWatch,
        weights: Weights,
    ) -> Step:
        """A step that a term has looked at, in the VAE's own precision."""
        batch, prediction = result.batch, result.prediction
        clean = batch.conditioning.get(CLEAN_MASK)
        with torch.autocast(prediction.device.type, enabled=False):
            step = Step(
                prediction=prediction,
                target=result.target,
                t=result.t,
                weights=weights,
                coverage=batch.coverage,
                predicted=None if clean is None else 1 - clean.float(),
                **describe_pictures(
                    (watch,), self.objective, batch, result.noisy, prediction, result.t
                ),
            )
            term(step)
        return step
