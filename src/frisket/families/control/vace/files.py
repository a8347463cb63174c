"""VACE's weights: the context blocks out of a whole transformer's folder, or of their own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import WanVACETransformer3DModel
from safetensors import safe_open
from torch import Tensor, nn

from frisket.families import weights
from frisket.families.control.base import ControlNotUsable
from frisket.families.control.loading import find_folder, load_net, read_config
from frisket.families.control.vace.net import CHANNELS, SETTINGS, VaceNet

WHOLE_CLASS = WanVACETransformer3DModel.__name__
PREFIX = "vace_"  # of the context blocks' weights


def load_vace(source: str | Path, variant: str, *, dtype: torch.dtype, device: str) -> nn.Module:
    """The context blocks of a VACE transformer's folder, or of one that `VaceNet` saved; frozen.

    Of a whole transformer its other weights are not read: the model's own denoiser takes their
    place. Raises as `load_net`; WeightsNotFound for a hub id, which has to be fetched first.
    """
    folder = find_folder(source, variant, weights_too=device != weights.SHAPES)
    if folder is None:
        raise weights.WeightsNotFound(
            f"{source} is no folder here, and VACE is read from a folder alone: hf download"
            f' {source} --include "transformer/*" --local-dir FOLDER, and control.source ='
            ' "FOLDER/transformer"'
        )
    config = read_config(folder)
    if config.get("_class_name") != WHOLE_CLASS:
        return load_net(VaceNet, source, variant, dtype=dtype, device=device)
    channels = config.get("vace_in_channels")
    if channels != CHANNELS:
        raise ControlNotUsable(
            f"{folder} is not usable: its vace_in_channels is {channels}, not {CHANNELS}"
        )
    names = (*SETTINGS, "vace_layers", "vace_in_channels")
    try:
        with torch.device(weights.SHAPES):
            net = VaceNet(**{name: config[name] for name in names if name in config})
    except Exception as error:  # a stranger's config may raise anything
        raise ControlNotUsable(
            f"{folder}: its config.json is damaged: {error}. Fetch it again."
        ) from error
    if device == weights.SHAPES:
        return net.to(dtype).requires_grad_(False).eval()
    _fill(net, folder, dtype)
    return net.to(device).requires_grad_(False).eval()


def _fill(net: VaceNet, folder: Path, dtype: torch.dtype) -> None:
    exact = set(net._keep_in_fp32_modules)
    tensors = {
        name: value.to(torch.float32 if exact & set(name.split(".")) else dtype)
        for name, value in _read_weights(folder)
    }
    try:
        net.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ControlNotUsable(
            f"{folder} does not fit its own config.json: {reason}. Fetch it again."
        ) from error


def _read_weights(folder: Path) -> Iterator[tuple[str, Tensor]]:
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as reader:
            for name in reader.keys():  # noqa: SIM118
                if name.startswith(PREFIX):
                    yield name, reader.get_tensor(name)


def assemble(transformer: Any, net: Any) -> Any:
    """A WanVACETransformer3DModel of a transformer's own modules and a net's; nothing is copied."""
    config = {name: value for name, value in transformer.config.items() if name[0] != "_"}
    with torch.device("meta"):
        model: Any = WanVACETransformer3DModel.from_config(
            {
                **config,
                "vace_layers": list(net.config.vace_layers),
                "vace_in_channels": net.config.vace_in_channels,
            }
        )
    for part in (transformer, net):
        for name, child in part.named_children():
            setattr(model, name, child)
    model.scale_shift_table = transformer.scale_shift_table
    return model.eval()
