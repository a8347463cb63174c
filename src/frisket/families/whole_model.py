"""All weights of a denoiser: opened for training, written as its class reads them, and exchanged.

Where a LoRA is trained the base is there beside it; where all weights are, the base is another
model. `lay_over` keeps both on one module, for who compares them.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging
from torch import Tensor, nn

from frisket.families.experts import Experts
from frisket.families.quantise import find_kind

BASE_WEIGHTS = (
    "frisket_base_weights"  # attribute of a module that holds a trained model and its base
)
SHARD = "5GB"  # largest file


def open_weights(denoiser: nn.Module) -> dict[str, nn.Parameter]:
    """Let every parameter of a loaded denoiser ask for a gradient; returns them by name, in order.

    Each gets memory of its own: as loaded it may be mapped from the file it came from. What must
    not be trained is a buffer. ValueError for several experts, quantised weights, and a precision
    below float32, in which small updates are rounded away.
    """
    if isinstance(denoiser, Experts):
        raise ValueError(f"all weights of one denoiser are trained, not of {len(denoiser.experts)}")
    if (kind := find_kind(denoiser)) != "none":
        raise ValueError(f"weights in {kind} cannot be trained: load them unquantised")
    parameters = dict(denoiser.named_parameters())
    low = next((name for name, value in parameters.items() if value.dtype != torch.float32), None)
    if low is not None:
        raise ValueError(
            f"{low} is {parameters[low].dtype}, and weights that are trained are float32: load the"
            " denoiser in float32"
        )
    for value in parameters.values():
        value.data = value.data.clone()
        value.requires_grad_(True)
    return parameters


def save_weights(denoiser: nn.Module, folder: Path) -> None:
    """Write a diffusers model into `folder`: its config.json and float32 safetensors.

    The configuration says nothing of where the base lay, so that equal runs make equal files.
    TypeError for a module that is no diffusers model.
    """
    model: Any = denoiser
    if not callable(getattr(model, "save_pretrained", None)):
        raise TypeError(f"{type(denoiser).__name__} has no save_pretrained, which writes a model")
    with _hide_bars():
        model.save_pretrained(folder, safe_serialization=True, max_shard_size=SHARD)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@contextmanager
def _hide_bars() -> Iterator[None]:
    """Without diffusers' own bars for shards, which would break into ours."""
    is_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if is_shown:
            logging.enable_progress_bar()


@dataclass(slots=True)
class BaseWeights:
    """The weights of a module that are not in use: the base's, or inside `use_base` its own."""

    values: dict[str, Tensor]
    uses: int = 0  # blocks of `use_base` that are open


def lay_over(denoiser: nn.Module, trained: Mapping[str, Tensor]) -> None:
    """Put trained weights in the place of the base's, which are kept for `use_base`.

    ValueError, changing nothing, where names or shapes are not those of the denoiser.
    """
    parameters = dict(denoiser.named_parameters())
    for name in sorted({*parameters, *trained}):
        size, other_size = (
            tuple(table[name].shape) if name in table else None for table in (parameters, trained)
        )
        if size != other_size:
            raise ValueError(
                f"{name} is {other_size or 'not'} in the trained model, {size or 'not'} here"
            )
    base = {name: value.data for name, value in parameters.items()}
    for name, value in parameters.items():
        value.data = trained[name].detach().to(value)
    setattr(denoiser, BASE_WEIGHTS, BaseWeights(base))


@contextmanager
def use_base(denoiser: nn.Module) -> Iterator[None]:
    """Inside, a module that `lay_over` was called on is the base again; any other is as it was.

    Tensors change places, nothing is copied but once to the module's device: bit for bit the base
    inside, and the trained model after.
    """
    weights: BaseWeights | None = getattr(denoiser, BASE_WEIGHTS, None)
    if weights is None:
        yield
        return
    if not weights.uses:
        _swap_weights(denoiser, weights)
    weights.uses += 1
    try:
        yield
    finally:
        weights.uses -= 1
        if not weights.uses:
            _swap_weights(denoiser, weights)


def _swap_weights(denoiser: nn.Module, weights: BaseWeights) -> None:
    for name, value in denoiser.named_parameters():
        waiting = weights.values[name].to(value.device)
        weights.values[name], value.data = value.data, waiting
