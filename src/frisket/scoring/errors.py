"""Errors of base and tuned model on the same clips, from the same noise at the same levels."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import nn

from frisket.adapters import lora
from frisket.data.sample import Batch
from frisket.evaluation.measured import INSIDE, OUTSIDE
from frisket.evaluation.metrics import drift, region_loss
from frisket.families.base import CLEAN_MASK, Conditioning, Family
from frisket.objectives.base import Objective
from frisket.scoring.clips import EvalSet
from frisket.shapes import Latents

Errors = dict[str, list[float]]  # `base/<region>` and so on: one a clip


@dataclass(frozen=True, slots=True)
class ErrorLevels:
    """Where on the way from clean to noise predictions are compared.

    `draws` of noise at every level `t`, the same for every model: clip n draws from seed + n.
    """

    t: tuple[float, ...]
    draws: int
    device: torch.device
    seed: int = 0

    def noise(self, like: Latents, number: int) -> list[Latents]:
        """The noise of clip (or scene) `number`."""
        generator = torch.Generator().manual_seed(self.seed + number)
        return [torch.randn(like.shape, generator=generator).to(like) for _ in range(self.draws)]


def measure_errors(
    family: Family,
    objective: Objective,
    denoiser: nn.Module,
    measured_on: EvalSet,
    levels: ErrorLevels,
    report: Callable[[int, int], None] = lambda *_: None,
) -> Errors:
    """Mean squared errors of each clip, over all levels and draws; `denoiser` in eval mode.

    `base/<region>` with the adapter off, `tuned/<region>` as it is, `moved/<region>` for the mean
    squared distance of the two; for every region, `inside` (all that is taught) and `outside`. A
    region that some clip does not show is left out. `report` hears how many clips are done.
    """
    clips: list[dict[str, float]] = []
    for number, batch in enumerate(measured_on.batches):
        here = batch.to(levels.device)
        by_name: dict[str, list[float]] = {}
        pairs = _predict_pairs(
            family, objective, denoiser, here.latents, here.conditioning, levels, number
        )
        for base, tuned, target in pairs:
            for which, ours, theirs in (
                ("base", base, target),
                ("tuned", tuned, target),
                ("moved", tuned, base),
            ):
                means = _average_regions((ours - theirs).square(), here, measured_on)
                for region, value in means.items():
                    by_name.setdefault(f"{which}/{region}", []).append(value)
        clips.append({name: fmean(values) for name, values in by_name.items()})
        report(number + 1, len(measured_on.batches))
    shared = [name for name in clips[0] if all(name in clip for clip in clips)]
    return {name: [clip[name] for clip in clips] for name in shared}


def measure_drift(
    family: Family,
    objective: Objective,
    denoiser: nn.Module,
    scenes: Sequence[tuple[Latents, Conditioning]],
    levels: ErrorLevels,
) -> list[float]:
    """Mean squared distance of the tuned to the base's prediction, of each scene (batch of one)."""
    moved = []
    for number, (latents, conditioning) in enumerate(scenes):
        clean = latents.to(levels.device)
        inputs = {name: value.to(levels.device) for name, value in conditioning.items()}
        pairs = _predict_pairs(family, objective, denoiser, clean, inputs, levels, number)
        moved.append(fmean(drift(tuned, base) for base, tuned, _ in pairs))
    return moved


def _average_regions(error: Latents, batch: Batch, measured_on: EvalSet) -> dict[str, float]:
    clean_mask = batch.conditioning.get(CLEAN_MASK)
    named = region_loss(error, batch.coverage, measured_on.regions, clean_mask)
    named.pop(OUTSIDE, None)  # outside of what is taught, not of what has a name
    return named | region_loss(error, measured_on.inside(batch), [INSIDE], clean_mask)


def _predict_pairs(
    family: Family,
    objective: Objective,
    denoiser: nn.Module,
    clean: Latents,
    conditioning: Conditioning,
    levels: ErrorLevels,
    number: int,
) -> Iterator[tuple[Latents, Latents, Latents]]:
    """Predictions of base and tuned model and the target, for every level and draw."""
    noises = levels.noise(clean, number)
    for level in levels.t:
        t = torch.full((len(clean),), level, device=clean.device)
        for noise in noises:
            noisy, target = objective.corrupt(clean, noise, t)
            with torch.no_grad():
                tuned = family.predict(denoiser, noisy, t, conditioning).float()
                with lora.frozen(denoiser):
                    base = family.predict(denoiser, noisy, t, conditioning).float()
            yield base, tuned, target.float()
