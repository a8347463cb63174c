"""The structure of a training step, for the terms that compare it: frames, controls, extractor."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from frisket.data.sample import Batch
from frisket.grid import LatentGrid
from frisket.losses.comparing import StructureComparison
from frisket.losses.decoding import Decode
from frisket.objectives.base import Objective
from frisket.shapes import Clip, PerSample, Structure

COMPARED_SHARE = "structure/shown"  # of the samples, those that were compared
ERROR = "structure/error"  # the mean over them


@dataclass(frozen=True, slots=True)
class StructureWatch:
    """What a run hands its trainer: a frozen decoder, and an extractor of structure.

    `decode` turns latents b c f h w into pixels and `extract` pixels in [0, 1] into a map; both are
    differentiable. `frames` latent frames of a clip are looked at in a step.
    """

    frames: int
    grid: LatentGrid
    decode: Decode
    extract: Callable[[Clip], Structure]

    def describe(self, objective: Objective, batch: Batch, t: PerSample) -> dict[str, Any]:
        """What a `Step` says of structure, by its names; the frames are drawn here."""
        count = batch.latents.shape[2]
        return {
            "structure": StructureComparison(
                frames=[draw_frames(count, self.frames) for _ in range(len(batch))],
                noise=measure_noise(objective, t),
                extract=self.extract,
                controls=self._pick_controls(batch, count),
            )
        }

    def _pick_controls(self, batch: Batch, count: int) -> Tensor | None:
        """Of the control pictures the last pixel frame of each latent frame, b 3 f H W."""
        if batch.control is None:
            return None
        last = [self.grid.frames_of(frame)[-1] for frame in range(count)]
        return batch.control[:, :, last]


def draw_frames(count: int, most: int) -> tuple[int, ...]:
    """At most `most` of `count` frames, in order; no two alike.

    From the global generator, which every step seeds anew (`training.plan.seed_step`).
    """
    if count <= most:
        return tuple(range(count))
    return tuple(sorted(torch.randperm(count)[:most].tolist()))


def measure_noise(objective: Objective, t: PerSample) -> PerSample:
    """S / (a + s) of each sample, x_t = a x_0 + s n: t itself of a flow, in [0, 1]."""
    ones = torch.ones(len(t), 1, 1, 1, 1, device=t.device)
    signal, _ = objective.corrupt(ones, torch.zeros_like(ones), t)
    sigma, _ = objective.corrupt(torch.zeros_like(ones), ones, t)
    return (sigma / (signal + sigma)).flatten()


def sum_structure(
    comparison: StructureComparison, device: torch.device
) -> tuple[dict[str, Tensor], Tensor]:
    """Sums over a step's samples: how many were compared, and their errors; how many those are."""
    errors = [error.to(device).float() for error in comparison.errors]
    total = torch.stack(errors).sum() if errors else torch.zeros((), device=device)
    count = torch.tensor(float(len(errors)), device=device)
    return {COMPARED_SHARE: count, ERROR: total}, count
