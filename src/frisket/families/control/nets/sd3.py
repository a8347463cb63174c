"""ControlNets of Stable Diffusion 3 and 3.5: residuals after the transformer's blocks."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import SD3ControlNetModel, StableDiffusion3ControlNetPipeline
from jaxtyping import Float
from torch import Tensor, nn

from frisket.families.base import Parts
from frisket.families.control.base import ControlSupport, Residuals
from frisket.families.control.computing import (
    check_rows,
    compare_configs,
    join_lists,
    list_residuals,
    unwrap_net,
)
from frisket.families.control.loading import expect, load_net
from frisket.families.control.starting import (
    build_net,
    build_tiny,
    check_source,
    copy_weights,
    count_layers,
    find_device,
)
from frisket.families.control.stock import (
    build_pipeline,
    check_vae,
    normalise_pixels,
    read_picture,
    share_net,
)
from frisket.families.defaults import encode_kl
from frisket.shapes import Clip

BLOCKS = "block_controlnet_hidden_states"
LAYERS = 12  # of SD3ControlNetModel.from_transformer, which train_controlnet_sd3.py calls
MATCHED_SETTINGS = (
    "attention_head_dim",
    "num_attention_heads",
    "pooled_projection_dim",
    "patch_size",
)
COPIED = ("pos_embed", "time_text_embed", "context_embedder", "transformer_blocks")


class Sd3Control:
    """SD3ControlNetModel: InstantX's form, and that of SD 3.5 Large, which reads no text.

    `force_zeros_for_pooled_projection` of a net's configuration says how it was made: without the
    pooled text, and with control latents that are not shifted. It decides both here as well.
    """

    reads: Literal["pixels", "latents"] = "latents"

    def refuse(self, variant: str) -> str:
        """Every variant takes one."""
        return ""

    def load(
        self, source: str | Path, variant: str, *, dtype: torch.dtype, device: str
    ) -> nn.Module:
        """An SD3ControlNetModel; inpainting nets, which read a mask as well, are refused."""
        net = load_net(SD3ControlNetModel, source, variant, dtype=dtype, device=device)
        reason = "Nets that read more than a control picture (inpainting) are not supported."
        expect(net, source, {"extra_conditioning_channels": 0, "in_channels": 16}, reason)
        return net

    def start(self, denoiser: nn.Module, *, layers: int | None = None) -> nn.Module:
        """The first `layers` blocks (12) but never the last, whose text stream ends; float32."""
        transformer: Any = denoiser
        check_source(transformer)
        config = dict(transformer.config)  # upstream writes into the transformer's own
        block_count = len(transformer.transformer_blocks) - 1
        config["num_layers"] = count_layers(layers, LAYERS, block_count)
        config["extra_conditioning_channels"] = 0
        net: nn.Module = build_net(SD3ControlNetModel, config, find_device(transformer))
        copy_weights(net, transformer, COPIED)
        return net

    def compare(self, net: nn.Module, denoiser: nn.Module) -> str:
        """By heads and the width of the pooled text, and of the text where it reads any."""
        reads_text = unwrap_net(net).config.get("joint_attention_dim") is not None
        names = (*MATCHED_SETTINGS, *(("joint_attention_dim",) if reads_text else ()))
        return compare_configs(net, denoiser, {name: name for name in names})

    def read(
        self, net: nn.Module, vae: nn.Module | None, control: Float[Tensor, "1 3 F H W"]
    ) -> Float[Tensor, "1 c _ _ _"]:
        """The posterior's mode times the VAE's scale, shifted only where the net says so.

        The pipeline draws from the posterior instead.
        """
        read_picture(control)
        config: Any = check_vae(vae, "Stable Diffusion 3").config
        zeroed = unwrap_net(net).config.force_zeros_for_pooled_projection
        shift = 0.0 if zeroed else config.shift_factor
        return encode_kl(
            check_vae(vae, ""), normalise_pixels(control), config.scaling_factor, shift
        )

    def compute(
        self,
        net: nn.Module,
        denoiser: nn.Module,
        call: Mapping[str, Any],
        control: Float[Tensor, "r c f h w"],
        scale: Float[Tensor, " r"],
    ) -> Residuals:
        """One pass of the net over the call's own latents."""
        inner, sample = unwrap_net(net), call["hidden_states"]
        rows, _, height, width = sample.shape
        check_rows(control, (rows, 1, height, width), "the control must have the clip's size")
        dtype, config = inner.pos_embed_input.proj.weight.dtype, inner.config
        pooled = call["pooled_projections"].to(dtype)
        hidden = sample.to(dtype)
        if inner.pos_embed is None:  # SD 3.5 Large's own: it shares the transformer's
            embed: Any = unwrap_net(denoiser).pos_embed
            hidden = embed(sample).to(dtype)
        reads_text = config.joint_attention_dim is not None
        (values,) = net(
            hidden_states=hidden,
            controlnet_cond=control[:, :, 0].to(sample.device, dtype),
            encoder_hidden_states=call["encoder_hidden_states"].to(dtype) if reads_text else None,
            pooled_projections=(
                torch.zeros_like(pooled) if config.force_zeros_for_pooled_projection else pooled
            ),
            timestep=call["timestep"],
            return_dict=False,
        )
        cells = (1, height // config.patch_size, width // config.patch_size)
        return Residuals({BLOCKS: list_residuals(values, scale, sample, cells)})

    def join(self, call: Mapping[str, Any], residuals: Residuals) -> dict[str, Any]:
        """A list of residuals, which the transformer spreads over its blocks."""
        return join_lists(call, residuals)

    def pipeline(self, parts: Parts, net: nn.Module) -> Any:
        """StableDiffusion3ControlNetPipeline with the family's scheduler."""
        return build_pipeline(
            StableDiffusion3ControlNetPipeline,
            "sd3",
            parts,
            controlnet=share_net(net),  # it gets a pos_embed where it has none
        )

    def call(self, control: Clip, scale: float) -> dict[str, Any]:
        """The picture in [-1, 1]: the pipeline leaves tensors as they are."""
        return {
            "control_image": normalise_pixels(read_picture(control)),
            "controlnet_conditioning_scale": float(scale),
        }

    def tiny(self, denoiser: nn.Module) -> nn.Module:
        """`start` with its zero layers moved."""
        return build_tiny(partial(self.start, denoiser))


CONTROL: ControlSupport = Sd3Control()
