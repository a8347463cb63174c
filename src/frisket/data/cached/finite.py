"""What is cached is numbers: nothing that holds NaN or infinity is written, or taken as written."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from frisket.media.paths import BadMedia


class NotFinite(BadMedia):
    """A model gave NaN or infinity for a clip or caption; says how many values and the fix."""


def count_strange(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """Names of tensors that hold NaN or infinity: to how many values do, and how many there are."""
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    counts = {
        name: tensor.numel() - int(tensor.isfinite().sum()) for name, tensor in floating.items()
    }
    return {name: (count, floating[name].numel()) for name, count in counts.items() if count}


def check_finite(tensors: Mapping[str, Tensor], model: str, record: Mapping[str, Any]) -> None:
    """Raise NotFinite where what `model` made is no number; `record` is that of its encoder.

    Trained on, one such clip makes the whole adapter NaN, and the loss blames the learning rate.
    """
    strange = count_strange(tensors)
    if not strange:
        return
    name, (count, total) = next(iter(strange.items()))
    dtype = str(record.get("dtype", "")).removeprefix("torch.")
    if dtype == "float16":
        top = torch.finfo(torch.float16).max
        fix = (
            f"float16 ends at {top:.0f}, which it most likely went beyond: set model.dtype ="
            ' "bfloat16" or "float32"'
        )
    else:
        fix = (
            "its weights are most likely damaged or those of another model: get them anew, or mend"
            " model.source"
        )
    where = f" in {dtype}" if dtype else ""
    raise NotFinite(
        f"the {model} gives NaN or infinity for it{where} ({count} of the {total} values of"
        f" {name!r}); {fix}"
    )
