"""A ControlNet for the pocket family's UNets: diffusers' own module over the VAE's latents."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel
from jaxtyping import Float
from torch import Tensor, nn

from frisket.families.models.pocket.unet import lay_planes

EMBEDDING = (32,)  # features between a control clip and the net: the VAE halved it already
SHARED = (
    "in_channels",
    "down_block_types",
    "block_out_channels",
    "layers_per_block",
    "cross_attention_dim",
    "attention_head_dim",
)


def start_controlnet(denoiser: nn.Module) -> ControlNetModel:
    """A copy of a UNet's first half and middle whose projections are 0 (arXiv 2302.05543).

    It reads control latents of as many channels as the UNet predicts, and is float32 whatever the
    UNet is: it is there to be trained.
    """
    unet: Any = denoiser
    net: ControlNetModel = ControlNetModel.from_unet(
        unet,
        conditioning_embedding_out_channels=EMBEDDING,
        conditioning_channels=unet.config.out_channels,
    )
    on_device: ControlNetModel = net.to(next(denoiser.parameters()).device)
    return on_device


def read_controlnet(folder: Path, *, dtype: torch.dtype, device: str) -> ControlNetModel:
    """A net as diffusers saved it, safetensors alone; OSError and ValueError as diffusers has them.

    Frozen, in eval mode.
    """
    net: Any = ControlNetModel.from_pretrained(
        folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True
    )
    loaded: ControlNetModel = net.to(device).requires_grad_(False).eval()
    return loaded


def compare_configs(net: nn.Module, denoiser: nn.Module) -> str:
    """In which of the sizes that both have they differ, in words; empty where in none."""
    own: Any = net
    unet: Any = denoiser
    differences = [
        f"{name} is {_read(own, name)} and not {_read(unet, name)}"
        for name in SHARED
        if _read(own, name) != _read(unet, name)
    ]
    channels = own.config.conditioning_channels
    if channels != unet.config.out_channels:
        differences.append(
            f"it reads control latents of {channels} channels and not {unet.config.out_channels}"
        )
    return "; ".join(differences)


def _read(model: Any, name: str) -> Any:
    value = model.config[name]
    return list(value) if isinstance(value, list | tuple) else value


def compute_residuals(
    net: nn.Module,
    denoiser: nn.Module,
    call: Mapping[str, Any],
    control: Float[Tensor, "r c f h w"],
    scale: Float[Tensor, " r"],
) -> tuple[list[Tensor], Tensor]:
    """What a net adds to a UNet's skip connections and its middle, r c h w each, times `scale`.

    Of the UNet of pictures, whose frames are rows, `control` and `scale` are of the clips' rows.
    """
    sample: Tensor = call["sample"]
    weight = next(net.parameters())
    planes = lay_planes(control.to(weight), denoiser)
    timestep = torch.as_tensor(call["timestep"], device=sample.device)
    down, middle = net(
        sample.to(weight.dtype),
        timestep,
        call["encoder_hidden_states"].to(weight.dtype),
        controlnet_cond=planes,
        return_dict=False,
    )
    rows = scale.to(sample).repeat_interleave(len(sample) // len(scale), 0).view(-1, 1, 1, 1)
    return [residual.to(sample.dtype) * rows for residual in down], middle.to(sample.dtype) * rows
