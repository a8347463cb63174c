"""What the numerics of masks are given is checked in production too: a wrong axis broadcasts."""

import math

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

OVER = 1e-3  # what the rounding of a resize in half precision may lie outside [0, 1]


def check_axes(name: str, tensor: Tensor, axes: str) -> None:
    """ValueError unless `tensor` has exactly these axes (`frisket.shapes`) and holds fractions.

    Wrong axes would not fail by themselves: a batch of planes without a frame axis broadcasts
    against a batch of anything, and the result looks nearly right.
    """
    axis_names = axes.split()
    if tensor.ndim != len(axis_names):
        meaning = ", ".join(f"{axis} {NAMES[axis]}" for axis in axis_names)
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


def to_fractions(name: str, mask: Tensor) -> Tensor:
    """A mask of bools or floats as float32 in [0, 1], of the same axes and without gradient.

    Values up to 0.001 outside are a resize's rounding and are clamped. ValueError for integers (8
    bits may count to 1 or to 255), for values further outside, NaN and infinity.
    """
    if mask.dtype == torch.bool:
        return mask.float()
    if not mask.is_floating_point():
        raise ValueError(
            f"{name} is {mask.dtype}, which may count to 1 or to 255: give floats in [0, 1]"
            " (mask / 255 where it counts to 255) or bools (mask > 0 where it counts to 1)"
        )
    planes = mask.detach().float()
    low, high = (float(value) for value in planes.aminmax())
    if not (low >= -OVER and high <= 1 + OVER):
        fix = (
            "clean it, or make it anew"
            if not (math.isfinite(low) and math.isfinite(high))
            else "divide 8 bits by 255; to weigh a region above 1 use frisket.RegionWeights"
        )
        raise ValueError(f"{name} holds values from {low:g} to {high:g}; use 0 to 1 ({fix})")
    return planes.clamp(0, 1)
