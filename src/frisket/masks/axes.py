"""What the numerics of masks are given is checked in production too: a wrong axis broadcasts."""

import torch
from torch import Tensor

NAMES = {
    "b": "batch",
    "k": "regions",
    "f": "latent frames",
    "h": "latent rows",
    "w": "latent columns",
    "F": "frames",
    "H": "rows",
    "W": "columns",
}


def check_axes(name: str, tensor: Tensor, axes: str) -> None:
    """ValueError unless `tensor` has exactly these axes (`frisket.shapes`) and holds fractions.

    Wrong axes would not fail by themselves: a batch of planes without a frame axis broadcasts
    against a batch of anything, and the result looks nearly right.
    """
    wanted = axes.split()
    if tensor.ndim != len(wanted):
        meaning = ", ".join(f"{axis} {NAMES[axis]}" for axis in wanted)
        still = " (a still has one frame)" if "f" in axes.lower() else ""
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}; give it the axes `{axes}`: {meaning}{still}"
        )
    if not tensor.is_floating_point():
        raise ValueError(f"{name} is {tensor.dtype}; give it as floats in [0, 1]")


def check_samples(name: str, values: Tensor, batch: int, *, flags: bool = False) -> None:
    """ValueError unless `values` are one number (or bool, for `flags`) for each of `batch`."""
    if tuple(values.shape) != (batch,):
        raise ValueError(
            f"{name} has shape {tuple(values.shape)} for a batch of {batch};"
            f" give one value a sample, shape ({batch},)"
        )
    if flags != (values.dtype == torch.bool):
        raise ValueError(f"{name} is {values.dtype}; give {'bools' if flags else 'numbers'}")
