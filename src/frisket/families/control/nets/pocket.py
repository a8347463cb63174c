"""ControlNets of the pocket family: a copy of its UNet's first half, for pictures and for clips."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import ControlNetModel, FlowMatchEulerDiscreteScheduler
from jaxtyping import Float
from torch import Tensor, nn

from frisket.families.base import Parts, WeightsNotFound
from frisket.families.control.base import ControlNotUsable, ControlSupport, Residual, Residuals
from frisket.families.models.pocket import FAMILY
from frisket.families.models.pocket.control import (
    compare_configs,
    compute_residuals,
    read_controlnet,
    start_controlnet,
)
from frisket.families.models.pocket.pipeline import PocketPipeline
from frisket.families.models.pocket.unet import CLIP_CHANNELS
from frisket.shapes import Clip, Latents

DOWN, MIDDLE = "down_block_additional_residuals", "mid_block_additional_residual"
SPREAD = 0.05  # of a tiny net's random projections


class PocketControl:
    """The family's ControlNets; see `frisket.families.control.base.ControlSupport`."""

    reads: Literal["pixels", "latents"] = "latents"

    def refuse(self, variant: str) -> str:
        """The transformer has no skip connections that a net could add to."""
        if variant != "dit":
            return ""
        return "pocket dit takes no ControlNet: it is a transformer; take variant image or video"

    def load(
        self, source: str | Path, variant: str, *, dtype: torch.dtype, device: str
    ) -> nn.Module:
        """A folder that `save_pretrained` wrote; none is packaged with frisket."""
        if reason := self.refuse(variant):
            raise ControlNotUsable(reason)
        folder = Path(source).expanduser()
        file = folder / "config.json"
        if not file.is_file():
            raise WeightsNotFound(
                f"{source} holds no ControlNet: {file} is missing. Give the folder that a run with"
                ' model.train = "controlnet" wrote; none is packaged for the pocket family.'
            )
        try:
            config: Any = ControlNetModel.load_config(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ControlNotUsable(f"{file} cannot be read: {error}") from error
        kind = config.get("_class_name")
        if kind != ControlNetModel.__name__:
            raise ControlNotUsable(f"{folder} holds a {kind} and no ControlNetModel")
        if reason := _tell_apart(config, variant):
            raise ControlNotUsable(f"{folder} {reason}")
        try:
            return read_controlnet(folder, dtype=dtype, device=device)
        except (OSError, ValueError, RuntimeError) as error:
            raise ControlNotUsable(f"{folder} cannot be loaded: {error}") from error

    def start(self, denoiser: nn.Module, *, layers: int | None = None) -> nn.Module:
        """The whole first half and the middle, as the authors copy of a UNet.

        ControlNotUsable for a number of layers, and for the transformer.
        """
        if layers is not None:
            raise ControlNotUsable(
                "a ControlNet of a UNet copies its whole first half: leave the layers out"
            )
        _expect_unet(denoiser)
        return start_controlnet(denoiser)

    def compare(self, net: nn.Module, denoiser: nn.Module) -> str:
        """By the sizes in both configurations."""
        _expect_unet(denoiser)
        return compare_configs(net, denoiser)

    def read(self, net: nn.Module, vae: nn.Module | None, control: Clip) -> Latents:
        """Folded as a clip is, in [-1, 1]."""
        if vae is None:
            raise ValueError("the pocket family's VAE is needed to read a control clip: load it")
        latents: Tensor = vae.encode(control * 2 - 1)  # type: ignore[operator]
        return latents

    def compute(
        self,
        net: nn.Module,
        denoiser: nn.Module,
        call: Mapping[str, Any],
        control: Float[Tensor, "r c f h w"],
        scale: Float[Tensor, " r"],
    ) -> Residuals:
        """Seven residuals for the skip connections, one for the middle."""
        down, middle = compute_residuals(net, denoiser, call, control, scale)
        skips = tuple(_place_residual(residual) for residual in down)
        return Residuals({DOWN: skips, MIDDLE: (_place_residual(middle),)})

    def join(self, call: Mapping[str, Any], residuals: Residuals) -> dict[str, Any]:
        """By the names of UNet2DConditionModel's arguments."""
        arguments = {name: value for name, value in call.items() if name != "self"}
        down = tuple(residual.value for residual in residuals.places[DOWN])
        middle = residuals.places[MIDDLE][0].value
        before, middle_before = arguments.get(DOWN), arguments.get(MIDDLE)
        if (before is None) != (middle_before is None):
            raise ValueError(
                f"the denoiser was called with one of {DOWN} and {MIDDLE}: residuals of a"
                " ControlNet are both"
            )
        if before is not None:
            down = tuple(old + more for old, more in zip(before, down, strict=True))
            middle = middle_before + middle
        return {**arguments, DOWN: down, MIDDLE: middle}

    def pipeline(self, parts: Parts, net: nn.Module) -> Any:
        """The family's pipeline with the net beside the denoiser."""
        shift = FAMILY.variants[parts.variant].shift
        return PocketPipeline(parts.denoiser, FlowMatchEulerDiscreteScheduler(shift=shift), net)

    def call(self, control: Clip, scale: float) -> dict[str, Any]:
        """`control` and `controlnet_conditioning_scale`."""
        return {"control": control, "controlnet_conditioning_scale": scale}

    def tiny(self, denoiser: nn.Module) -> nn.Module:
        """One just begun whose zero projections are small random numbers, seeded."""
        net = self.start(denoiser)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in net.parameters():
                if not weight.any():
                    noise = SPREAD * torch.randn(weight.shape, generator=generator)
                    weight.copy_(noise.to(weight))
        return net.requires_grad_(False).eval()


def _place_residual(value: Tensor) -> Residual:
    return Residual(value, (1, value.shape[2], value.shape[3]))


def _expect_unet(denoiser: nn.Module) -> None:
    model: Any = denoiser
    if "block_out_channels" not in model.config:
        raise ControlNotUsable(
            f"a pocket ControlNet copies a UNet, and the denoiser is a {type(denoiser).__name__}:"
            " take variant image or video"
        )


def _tell_apart(config: Mapping[str, Any], variant: str) -> str:
    """Why a net's configuration is not for a variant; empty where it is."""
    card = FAMILY.variants[variant]
    expected = CLIP_CHANNELS if card.video else card.grid.channels
    channels = config.get("conditioning_channels")
    if channels == expected:
        return ""
    return (
        f"was made for another variant than {variant}: it reads control latents of {channels}"
        f" channels, and {variant} has {expected}"
    )


CONTROL: ControlSupport = PocketControl()
