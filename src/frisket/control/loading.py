"""Loads transformers models from a folder on this machine: no network, no code, no pickles."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from frisket.control.base import ControlModelNotFound
from frisket.disk.hashing import hash_file
from frisket.disk.untrusted import BadText, read_table

PROCESSOR = "preprocessor_config.json"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def read_config(folder: Path, kinds: Sequence[str]) -> Mapping[str, Any]:
    """The config.json of a model's folder; ControlModelNotFound unless its type is of `kinds`."""
    if not folder.is_dir():
        raise ControlModelNotFound(f"{folder}: there is no such folder; give the model's own")
    config = _read_table(folder / "config.json")
    if (kind := config.get("model_type")) not in kinds:
        raise ControlModelNotFound(
            f"{folder} holds a model of type {kind}, not {' or '.join(kinds)}"
        )
    return config


def read_processor(folder: Path) -> Mapping[str, Any]:
    """How a model's pictures are prepared, as saved beside its weights."""
    return _read_table(folder / PROCESSOR)


def _read_table(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        raise ControlModelNotFound(f"{file} is not there; copy it from the model's page")
    try:
        table: Mapping[str, Any] = read_table(file)
    except BadText as error:
        raise ControlModelNotFound(str(error)) from error
    return table


def load_model(kind: Any, folder: Path, device: str) -> nn.Module:
    """A model in eval mode, frozen, float32; ControlModelNotFound where its weights do not fit.

    Only safetensors are opened.
    """
    from transformers.utils import logging as chatter  # noqa: PLC0415 - slow to import

    chatter.disable_progress_bar()
    try:
        model, info = kind.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    # A stranger's config may raise anything, such as huggingface_hub's own kind of Exception.
    except Exception as error:
        raise ControlModelNotFound(f"{folder} does not load as {kind.__name__}: {error}") from error
    finally:
        chatter.enable_progress_bar()
    if missing := sorted(info["missing_keys"]):
        raise ControlModelNotFound(
            f"{folder} has no weights for {len(missing)} parts of {kind.__name__}, such as"
            f" {missing[0]}: it is another model, or an unfinished download"
        )
    frozen: nn.Module = model.requires_grad_(False).eval().to(device)
    return frozen


def compute_fingerprint(folder: Path) -> str:
    """A hash of a model's config and weights, whatever its folder is called."""
    files = sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")])
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{hash_file(file)}\0".encode())
    return digest.hexdigest()[:16]


def normalise(
    frames: Float[Tensor, "b 3 H W"], processor: Mapping[str, Any]
) -> Float[Tensor, "b 3 H W"]:
    """Frames in [0, 1] as a model wants them: its own mean and deviation, ImageNet's without."""
    mean = torch.tensor(processor.get("image_mean") or IMAGENET[0], device=frames.device)
    deviation = torch.tensor(processor.get("image_std") or IMAGENET[1], device=frames.device)
    return (frames - mean.view(1, -1, 1, 1)) / deviation.view(1, -1, 1, 1)
