"""The pocket family's denoisers from their files: those packaged with frisket, and saved ones."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel, WanTransformer3DModel
from safetensors.torch import load_file
from torch import Tensor

from frisket.families.base import Source, WeightsNotFound
from frisket.families.models.pocket.transformer import build_transformer
from frisket.families.models.pocket.unet import CHANNELS, build_net

# The image-to-video model is packaged as what it differs in from the clip model: whole tensors, and
# for the others the two factors of a difference of low rank.
DOWN, UP = ".lora_A.weight", ".lora_B.weight"


def build_denoiser(variant: str) -> Any:
    """A fresh denoiser of the shape that ships as `variant`."""
    return build_transformer() if variant == "dit" else build_net(variant)


def read_packaged(variant: str) -> dict[str, Tensor]:
    """The tensors of the denoiser that ships as `variant`, float32; WeightsNotFound without it."""
    file = Path(str(files("frisket") / "pocket" / f"{variant}.safetensors"))
    if not file.is_file():
        raise WeightsNotFound(f"{file} is missing: install frisket again")
    state = {name: value.float() for name, value in load_file(file).items()}
    return add_difference(read_packaged("video"), state) if variant == "video-i2v" else state


def widen_input(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The clip model's tensors as the image-to-video model that overlooks what it is shown."""
    weight = state["conv_in.weight"]
    more = CHANNELS["video-i2v"] - weight.shape[1]
    nothing = weight.new_zeros(weight.shape[0], more, *weight.shape[2:])
    return {**state, "conv_in.weight": torch.cat([weight, nothing], dim=1)}


def add_difference(state: dict[str, Tensor], difference: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with a difference added; those that it has whole take the place of theirs.

    The factors of a convolution are one of its own size down to the rank, and one of 1 x 1 up.
    """
    changed = dict(state)
    for name, value in difference.items():
        if name.endswith(DOWN):
            layer = f"{name.removesuffix(DOWN)}.weight"
            up = difference[f"{name.removesuffix(DOWN)}{UP}"]
            added = up.flatten(1) @ value.flatten(1)
            changed[layer] = state[layer] + added.view_as(state[layer])
        elif not name.endswith(UP):
            changed[name] = value
    return changed


def load_saved(source: Source) -> Any:
    """A denoiser that `save` wrote under `source.path`/denoiser.

    WeightsNotFound where nothing is there, ValueError for another variant's.
    """
    folder = Path(source.path).expanduser() / "denoiser"
    if not (folder / "config.json").is_file():
        raise WeightsNotFound(
            f"{source.path} holds no pocket model: {folder / 'config.json'} is missing."
            " Point model.source at a folder written by Frisket, or leave it empty for"
            " the packaged base."
        )
    kind: Any = WanTransformer3DModel if source.variant == "dit" else UNet2DConditionModel
    config = kind.load_config(folder)
    if config["_class_name"] != kind.__name__:
        raise ValueError(
            f"{folder} holds a {config['_class_name']}, and pocket {source.variant} is a"
            f" {kind.__name__}: check model.variant"
        )
    expected = CHANNELS.get(source.variant)
    if expected is not None and config["in_channels"] != expected:
        raise ValueError(
            f"{folder} holds a UNet that reads {config['in_channels']} channels, and pocket"
            f" {source.variant} reads {expected}: check model.variant"
        )
    net = kind.from_pretrained(
        folder, torch_dtype=source.dtype, use_safetensors=True, local_files_only=True
    )
    return net.to(source.device)
