"""The numbers of one optimizer step, kept on the device until the step is whole."""

import math
import resource
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from frisket.losses.base import Step
from frisket.training.decoded.faces import DISTANCE, sum_faces
from frisket.training.decoded.structure import ERROR, sum_structure
from frisket.training.plan import MicroBatch

CELLS = " cells"  # ends the name of what a sum over cells is divided by


@torch.no_grad()
def sum_metrics(micro: MicroBatch, values: Mapping[str, Tensor], step: Step) -> dict[str, Tensor]:
    """Sums over the clips of what is logged, and over cells: raw error where it teaches and not.

    Of each concept (`loss/<region>`) the error under what it brings to the weights, unbalanced. Of
    faces, where a term compares some, the share of clips that show one and the mean distance; of
    structure the share of clips that were compared and the mean error.

    Tensors where they are: a number read here would wait for the device at every micro-batch.
    """
    count = len(micro.batch)
    sums = {name: value.detach().float() * count for name, value in values.items()}
    error = (step.prediction.detach().float() - step.target.float()).square().mean(1, keepdim=True)
    teaches = step.weights > 0
    rest = ~teaches if step.predicted is None else ~teaches & (step.predicted > 0)
    if step.left_out is not None:
        rest = rest & (step.left_out == 0)  # not seen in this step, and inside all the same
    # What passed by the blocks is no prediction: the others stand for it, each for 1 / P(carried).
    outside = rest if step.importance is None else rest * step.importance
    cell_weights = {"inside": teaches, "outside": outside}
    cell_weights |= {f"loss/{name}": weights for name, weights in micro.weighed.concepts.items()}
    for name, where in cell_weights.items():
        sums[name], sums[f"{name}{CELLS}"] = (error * where).sum(), where.sum().float()
    if step.faces is not None:
        face_sums, sums[f"{DISTANCE}{CELLS}"] = sum_faces(step.faces, error.device)
        sums |= face_sums
    if step.structure is not None:
        structure_sums, sums[f"{ERROR}{CELLS}"] = sum_structure(step.structure, error.device)
        sums |= structure_sums
    return sums | {
        "clips": torch.full_like(sums["loss"], count),
        "silent": micro.weighed.silent.sum().float(),
        "weight": step.weights.float().mean() * count,
        "t": step.t.float().mean() * count,
    }


def mean_metrics(sums: Mapping[str, Tensor]) -> dict[str, float]:
    """One look at the device for all of a step; a region without a cell is left out."""
    device = sums["loss"].device
    stacked = torch.stack([value.to(device) for value in sums.values()])
    numbers = dict(zip(sums, stacked.tolist(), strict=True))
    clips, silent = numbers.pop("clips"), numbers.pop("silent")
    metric_names = [name.removesuffix(CELLS) for name in numbers if name.endswith(CELLS)]
    cells = {name: numbers.pop(f"{name}{CELLS}") for name in metric_names}
    errors = {name: numbers.pop(name) for name in cells}
    means = {name: value / clips for name, value in numbers.items()}
    means |= {name: errors[name] / cells[name] for name in cells if cells[name]}
    return means | {"silent": silent}


@torch.no_grad()
def measure_clips(step: Step) -> Tensor:
    """Of each clip its t and its mean error under its weights (NaN without any): 2 b, on device."""
    error = (step.prediction.detach().float() - step.target.float()).square().mean(1, keepdim=True)
    axes = tuple(range(1, error.ndim))
    return torch.stack([step.t.float(), (error * step.weights).sum(axes) / step.weights.sum(axes)])


def measure_kept(micros: Sequence[MicroBatch]) -> float:
    """Share of the image's tokens that went through the routed blocks, over the step's clips."""
    counts = [len(micro.batch) for micro in micros]
    shares = [1.0 if micro.selection is None else micro.selection.share for micro in micros]
    return sum(n * share for n, share in zip(counts, shares, strict=True)) / sum(counts)


def note_step(
    micros: Sequence[MicroBatch], step_values: Sequence[Tensor], device: torch.device
) -> dict[str, Any]:
    """What the record of a step says besides its numbers: its clips, and the memory held.

    `clips` is what a spike is traced by: of each clip its name, its place in the run's record of
    its clips, t and `measure_clips`. Of several processes each knows its own clips alone.
    `device_mib` is what is reserved on a card, `resident_mib` the most main memory so far.
    """
    pairs = torch.cat([values.t() for values in step_values]).tolist()
    clips: list[dict[str, Any]] = []
    for batch in (micro.batch for micro in micros):
        for place, name in enumerate(batch.names):
            t, error = pairs[len(clips)]
            clip = {
                "name": name,
                "t": round(t, 5),
                "error": error if math.isfinite(error) else None,
            }
            if batch.items:
                clip["item"] = batch.items[place]
            clips.append(clip)
    if device.type == "cuda":
        memory = {"device_mib": round(torch.cuda.memory_reserved(device) / 2**20, 1)}
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        memory = {"resident_mib": round(peak / 1024, 1)}
    return {"clips": clips, **memory}
