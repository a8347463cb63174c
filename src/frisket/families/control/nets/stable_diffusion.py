"""ControlNets of Stable Diffusion (SD 1.5 and SDXL): residuals on a UNet's skip connections."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetPipeline,
)
from jaxtyping import Float
from torch import Tensor, nn

from frisket.families.base import Parts
from frisket.families.control.base import ControlSupport, Residual, Residuals
from frisket.families.control.computing import (
    check_count,
    check_rows,
    compare_configs,
    drop_self,
    scale_rows,
    unwrap_net,
)
from frisket.families.control.loading import expect, load_net
from frisket.families.control.starting import build_tiny, check_source, find_device
from frisket.families.control.stock import build_pipeline, read_picture
from frisket.shapes import Clip

DOWN, MIDDLE = "down_block_additional_residuals", "mid_block_additional_residual"
# Of blocks their widths alone: small nets of SDXL have no attention, and fit all the same.
MATCHED_SETTINGS = (
    "block_out_channels",
    "layers_per_block",
    "cross_attention_dim",
    "addition_embed_type",
    "projection_class_embeddings_input_dim",
    "in_channels",
)


class StableDiffusionControl:
    """ControlNetModel (Zhang et al., arXiv 2302.05543) beside a UNet."""

    reads: Literal["pixels", "latents"] = "pixels"

    def refuse(self, variant: str) -> str:
        """Every variant takes one."""
        return ""

    def load(
        self, source: str | Path, variant: str, *, dtype: torch.dtype, device: str
    ) -> nn.Module:
        """A ControlNetModel; union nets, and those that pool their residuals, are refused."""
        net = load_net(ControlNetModel, source, variant, dtype=dtype, device=device)
        kind = None if variant == "sd15" else "text_time"
        expect(net, source, {"addition_embed_type": kind}, f"It is no ControlNet of {variant}.")
        expect(
            net,
            source,
            {"conditioning_channels": 3, "global_pool_conditions": False, "in_channels": 4},
            "Only nets that read an RGB picture beside plain latents are supported.",
        )
        return net

    def start(self, denoiser: nn.Module, *, layers: int | None = None) -> nn.Module:
        """`ControlNetModel.from_unet`, float32; ValueError for `layers`, as all are copied."""
        if layers is not None:
            raise ValueError(
                "control.layers: a ControlNet of a UNet copies its whole first half; leave it out"
            )
        unet: Any = denoiser
        check_source(unet)
        net: nn.Module = ControlNetModel.from_unet(unet).to(find_device(unet))
        return net

    def compare(self, net: nn.Module, denoiser: nn.Module) -> str:
        """By the channels of their blocks and the width of the text."""
        return compare_configs(net, denoiser, {name: name for name in MATCHED_SETTINGS})

    def read(
        self, net: nn.Module, vae: nn.Module | None, control: Float[Tensor, "1 3 F H W"]
    ) -> Float[Tensor, "1 c _ _ _"]:
        """The pixels as they are; ValueError for a video."""
        read_picture(control)
        return control.float()

    def compute(
        self,
        net: nn.Module,
        denoiser: nn.Module,
        call: Mapping[str, Any],
        control: Float[Tensor, "r c f h w"],
        scale: Float[Tensor, " r"],
    ) -> Residuals:
        """One pass of the net over the call's own sample, noise level and text."""
        inner, sample = unwrap_net(net), call["sample"]
        dtype = inner.conv_in.weight.dtype
        factor = 2 ** (len(inner.config.conditioning_embedding_out_channels) - 1)
        rows, height, width = len(sample), *(factor * side for side in sample.shape[-2:])
        check_rows(
            control,
            (rows, 1, height, width),
            "a ControlNet of Stable Diffusion reads its picture at the clip's own size in pixels",
        )
        down, middle = net(
            sample.to(dtype),
            call["timestep"],
            encoder_hidden_states=call["encoder_hidden_states"].to(dtype),
            controlnet_cond=control[:, :, 0].to(sample.device, dtype),
            class_labels=call.get("class_labels"),
            added_cond_kwargs=_pick_added(call),
            return_dict=False,
        )
        build = partial(_build_residual, scale=scale, like=sample)
        return Residuals({DOWN: tuple(map(build, down)), MIDDLE: (build(middle),)})

    def join(self, call: Mapping[str, Any], residuals: Residuals) -> dict[str, Any]:
        """Residuals of the skip connections and of the middle, on top of another net's.

        ValueError where the call has a T2I-Adapter's features in their place.
        """
        if (call[DOWN] is None) != (call[MIDDLE] is None):
            raise ValueError(
                f"the denoiser was called with one of {DOWN} and {MIDDLE}: what a T2I-Adapter adds"
                " and residuals of a ControlNet do not go together"
            )
        down = tuple(residual.value for residual in residuals.places[DOWN])
        (middle,) = (residual.value for residual in residuals.places[MIDDLE])
        if call[DOWN] is not None:
            check_count(DOWN, len(call[DOWN]), len(down))
            down = tuple(before + more for before, more in zip(call[DOWN], down, strict=True))
            middle = call[MIDDLE] + middle
        return {**drop_self(call), DOWN: down, MIDDLE: middle}

    def pipeline(self, parts: Parts, net: nn.Module) -> Any:
        """StableDiffusion(XL)ControlNetPipeline with the family's DDIM."""
        if parts.variant == "sd15":
            return build_pipeline(
                StableDiffusionControlNetPipeline,
                "stable_diffusion",
                parts,
                controlnet=net,
                requires_safety_checker=False,
            )
        return build_pipeline(
            StableDiffusionXLControlNetPipeline,
            "stable_diffusion",
            parts,
            controlnet=net,
            add_watermarker=False,
        )

    def call(self, control: Clip, scale: float) -> dict[str, Any]:
        """The picture in [0, 1], as the pipelines leave it."""
        return {"image": read_picture(control), "controlnet_conditioning_scale": float(scale)}

    def tiny(self, denoiser: nn.Module) -> nn.Module:
        """`start` with random zero convolutions."""
        return build_tiny(partial(self.start, denoiser))


def _build_residual(value: Tensor, scale: Tensor, like: Tensor) -> Residual:
    height, width = value.shape[-2:]
    return Residual(scale_rows(value, scale, like), (1, height, width))


def _pick_added(call: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """SDXL's second text and sizes, without what image adapters bring along."""
    added = call.get("added_cond_kwargs")
    if added is None:
        return None
    return {name: added[name] for name in ("text_embeds", "time_ids") if name in added}


CONTROL: ControlSupport = StableDiffusionControl()
