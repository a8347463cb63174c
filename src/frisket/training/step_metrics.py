"""The numbers of one optimizer step, kept on the device until the step is whole."""

from collections.abc import Mapping

import torch
from torch import Tensor

from frisket.losses.base import Step
from frisket.training.plan import MicroBatch

CELLS = " cells"  # ends the name of what a sum over cells is divided by


@torch.no_grad()
def sum_metrics(micro: MicroBatch, values: Mapping[str, Tensor], step: Step) -> dict[str, Tensor]:
    """Sums over the clips of what is logged, and over cells: raw error where it teaches and not.

    Of each concept (`loss/<region>`) the error under what it brings to the weights, unbalanced.

    Tensors where they are: a number read here would wait for the device at every micro-batch.
    """
    count = len(micro.batch)
    sums = {name: value.detach().float() * count for name, value in values.items()}
    error = (step.prediction.detach().float() - step.target.float()).square().mean(1, keepdim=True)
    teaches = step.weights > 0
    rest = ~teaches if step.predicted is None else ~teaches & (step.predicted > 0)
    cell_weights = {"inside": teaches, "outside": rest}
    cell_weights |= {f"loss/{name}": weights for name, weights in micro.weighed.concepts.items()}
    for name, where in cell_weights.items():
        sums[name], sums[f"{name}{CELLS}"] = (error * where).sum(), where.sum().float()
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
