"""ControlNets of the pocket family: a copy of its UNet's first half, for pictures and for clips.

Diffusers' own module, but its control comes through the VAE, which folds it and loses nothing.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import ControlNetModel, FlowMatchEulerDiscreteScheduler
from jaxtyping import Float
from torch import Tensor, nn

from frisket.families.base import Parts
from frisket.families.control.base import ControlNotUsable, ControlSupport, Residual, Residuals
from frisket.families.control.computing import (
    check_count,
    check_rows,
    compare_configs,
    drop_self,
    scale_rows,
)
from frisket.families.control.loading import expect, load_net
from frisket.families.control.starting import build_tiny, check_source, find_device
from frisket.families.models.pocket import FAMILY
from frisket.families.models.pocket.pipeline import PocketPipeline
from frisket.families.models.pocket.unet import CHANNELS, OUTPUT_CHANNELS, lay_planes
from frisket.shapes import Clip

DOWN, MIDDLE = "down_block_additional_residuals", "mid_block_additional_residual"
CONTROLLED = ("image", "video")  # variants that take one
EMBEDDING = (32,)  # features between a control clip and the net: the VAE halved it already
SHARED_SIZES = (
    "in_channels",
    "block_out_channels",
    "down_block_types",
    "layers_per_block",
    "cross_attention_dim",
    "attention_head_dim",
)


class PocketControl:
    """The family's ControlNets; see `frisket.families.control.base.ControlSupport`."""

    reads: Literal["pixels", "latents"] = "latents"

    def refuse(self, variant: str) -> str:
        """The transformer has no skip connections to add to; nets read no first frame either."""
        if variant in CONTROLLED:
            return ""
        return f"pocket {variant} takes no ControlNet: take variant {' or '.join(CONTROLLED)}"

    def load(
        self, source: str | Path, variant: str, *, dtype: torch.dtype, device: str
    ) -> nn.Module:
        """A ControlNetModel that a run of Frisket wrote; none is packaged for the family."""
        if reason := self.refuse(variant):
            raise ControlNotUsable(reason)
        net = load_net(ControlNetModel, source, variant, dtype=dtype, device=device)
        expected = {
            "in_channels": CHANNELS[variant],
            "conditioning_channels": OUTPUT_CHANNELS[variant],
        }
        expect(net, source, expected, f"It is no ControlNet of pocket {variant}.")
        return net

    def start(self, denoiser: nn.Module, *, layers: int | None = None) -> nn.Module:
        """The whole first half and the middle, as the authors copy of a UNet, float32.

        ValueError for `layers`; ControlNotUsable for the transformer.
        """
        if layers is not None:
            raise ValueError(
                "control.layers: a ControlNet of a UNet copies its whole first half; leave it out"
            )
        _expect_unet(denoiser)
        check_source(denoiser)
        unet: Any = denoiser
        net: nn.Module = ControlNetModel.from_unet(
            unet,
            conditioning_embedding_out_channels=EMBEDDING,
            conditioning_channels=unet.config.out_channels,
        ).to(find_device(unet))
        return net

    def compare(self, net: nn.Module, denoiser: nn.Module) -> str:
        """By the sizes in both configurations."""
        names = {name: name for name in SHARED_SIZES} | {"conditioning_channels": "out_channels"}
        return compare_configs(net, denoiser, names)

    def read(
        self, net: nn.Module, vae: nn.Module | None, control: Float[Tensor, "1 3 F H W"]
    ) -> Float[Tensor, "1 c _ _ _"]:
        """Folded as a clip is, in [-1, 1]; ValueError without the VAE."""
        if vae is None:
            raise ValueError("the pocket family's VAE reads control clips, and it is not loaded")
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
        """Seven residuals for the skip connections and one for the middle.

        ValueError for a clip beside the model of pictures, and where rows or cells differ.
        """
        sample: Tensor = call["sample"]
        weight = next(net.parameters())
        planes = lay_planes(control, denoiser)
        check_rows(
            planes[:, :, None],
            (len(sample), 1, *sample.shape[2:]),
            "a pocket ControlNet reads one picture, or one clip, of the sample's own size a row",
        )
        down, middle = net(
            sample.to(weight.dtype),
            call["timestep"],
            call["encoder_hidden_states"].to(weight.dtype),
            controlnet_cond=planes.to(weight),
            return_dict=False,
        )
        build = partial(_build_residual, scale=scale, like=sample)
        return Residuals({DOWN: tuple(map(build, down)), MIDDLE: (build(middle),)})

    def join(self, call: Mapping[str, Any], residuals: Residuals) -> dict[str, Any]:
        """By the names of UNet2DConditionModel's arguments."""
        output = drop_self(call)
        down = tuple(residual.value for residual in residuals.places[DOWN])
        (middle,) = (residual.value for residual in residuals.places[MIDDLE])
        before: Any = call.get(DOWN)
        middle_before: Any = call.get(MIDDLE)
        if (before is None) != (middle_before is None):
            raise ValueError(
                f"the denoiser was called with one of {DOWN} and {MIDDLE}: residuals of a"
                " ControlNet are both"
            )
        if before is not None:
            check_count(DOWN, len(before), len(down))
            down = tuple(old + new for old, new in zip(before, down, strict=True))
            middle = middle_before + middle
        return {**output, DOWN: down, MIDDLE: middle}

    def pipeline(self, parts: Parts, net: nn.Module) -> Any:
        """The family's pipeline with the net beside the denoiser."""
        shift = FAMILY.variants[parts.variant].shift
        return PocketPipeline(parts.denoiser, FlowMatchEulerDiscreteScheduler(shift=shift), net)

    def call(self, control: Clip, scale: float) -> dict[str, Any]:
        """By the names of PocketPipeline: the clip as it is, and one scale."""
        return {"control": control, "controlnet_conditioning_scale": scale}

    def tiny(self, denoiser: nn.Module) -> nn.Module:
        """`start` with random zero convolutions."""
        return build_tiny(partial(self.start, denoiser))


def _build_residual(value: Tensor, scale: Tensor, like: Tensor) -> Residual:
    height, width = value.shape[-2:]
    return Residual(scale_rows(value, scale, like), (1, height, width))


def _expect_unet(denoiser: nn.Module) -> None:
    model: Any = denoiser
    if "block_out_channels" not in model.config:
        raise ControlNotUsable(
            f"a pocket ControlNet copies a UNet, and the denoiser is a {type(denoiser).__name__}:"
            f" take variant {' or '.join(CONTROLLED)}"
        )


CONTROL: ControlSupport = PocketControl()
