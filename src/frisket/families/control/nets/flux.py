"""ControlNets of FLUX.1: residuals after its double and single blocks."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import FluxControlNetModel, FluxControlNetPipeline
from jaxtyping import Float
from torch import Tensor, nn

from frisket.families.base import FAMILIES, Parts
from frisket.families.control.base import ControlNotUsable, ControlSupport, Residuals
from frisket.families.control.computing import (
    check_rows,
    check_tokens,
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
from frisket.families.control.stock import build_pipeline, check_vae, normalise_pixels, read_picture
from frisket.families.shared.flux_tokens import fold, to_tokens
from frisket.shapes import Clip

DOUBLE, SINGLE = "controlnet_block_samples", "controlnet_single_block_samples"
LAYERS = 4  # double, and as many single, of train_controlnet_flux.py
MATCHED_SETTINGS = (
    "attention_head_dim",
    "num_attention_heads",
    "joint_attention_dim",
    "pooled_projection_dim",
    "axes_dims_rope",
    "in_channels",
)
COPIED = (
    *("time_text_embed", "context_embedder", "x_embedder"),
    *("transformer_blocks", "single_transformer_blocks"),
)


class FluxControl:
    """FluxControlNetModel beside FLUX.1: InstantX's form, or XLabs' that reads pixels."""

    reads: Literal["pixels", "latents"] = "latents"
    shares_guidance = True  # the public pipeline computes residuals once for prompt and negative

    def refuse(self, variant: str) -> str:
        """Kontext has tokens of a picture of its own, which no ControlNet was made for."""
        if variant == "kontext":
            return (
                "no ControlNet is made for FLUX.1 Kontext, which is shown a picture already:"
                ' leave [control] out, or set model.variant = "dev"'
            )
        return ""

    def load(
        self, source: str | Path, variant: str, *, dtype: torch.dtype, device: str
    ) -> nn.Module:
        """A FluxControlNetModel; union nets (`num_mode`) are refused."""
        net = load_net(FluxControlNetModel, source, variant, dtype=dtype, device=device)
        expect(
            net,
            source,
            {"num_mode": None},
            "Union nets, which are told a kind of control, are not supported: take one of one kind",
        )
        if variant == "schnell" and unwrap_net(net).config.guidance_embeds:
            raise ControlNotUsable(
                f"{source} is told a guidance, and FLUX.1 schnell has none: take a ControlNet"
                " without guidance_embeds"
            )
        return net

    def start(self, denoiser: nn.Module, *, layers: int | None = None) -> nn.Module:
        """The first `layers` double and single blocks (4 of each), float32."""
        transformer: Any = denoiser
        check_source(transformer)
        config = dict(transformer.config)
        double, single = len(transformer.transformer_blocks), config["num_single_layers"]
        config["num_layers"] = count_layers(layers, LAYERS, double)
        config["num_single_layers"] = min(config["num_layers"], single)
        net = build_net(FluxControlNetModel, config, find_device(transformer))
        copy_weights(net, transformer, COPIED)
        return net

    def compare(self, net: nn.Module, denoiser: nn.Module) -> str:
        """By heads, widths of the texts, and whether it is told a guidance."""
        inner, transformer = unwrap_net(net), unwrap_net(denoiser)
        reason = compare_configs(net, denoiser, {name: name for name in MATCHED_SETTINGS})
        if not reason and inner.config.guidance_embeds and not transformer.config.guidance_embeds:
            reason = (
                "this ControlNet is told a guidance and the model is not: take one without"
                " guidance_embeds. Check control.source and model.variant"
            )
        return reason

    def read(
        self, net: nn.Module, vae: nn.Module | None, control: Float[Tensor, "1 3 F H W"]
    ) -> Float[Tensor, "1 c _ _ _"]:
        """Latents as the family's `encode` gives; of XLabs' form pixels in [-1, 1].

        The posterior's mode, where the pipeline draws from it.
        """
        read_picture(control)
        if is_pixel_net(net):
            return normalise_pixels(control.float())
        return FAMILIES.load("flux").encode(check_vae(vae, "FLUX.1"), normalise_pixels(control))

    def compute(
        self,
        net: nn.Module,
        denoiser: nn.Module,
        call: Mapping[str, Any],
        control: Float[Tensor, "r c f h w"],
        scale: Float[Tensor, " r"],
    ) -> Residuals:
        """One pass of the net over the call's own tokens."""
        inner, tokens = unwrap_net(net), call["hidden_states"]
        dtype = inner.x_embedder.weight.dtype
        step = 16 if is_pixel_net(net) else 2
        cells = (1, control.shape[3] // step, control.shape[4] // step)
        check_tokens(cells, tokens.shape[1])
        check_rows(control, (len(tokens), *control.shape[2:]), "one control a row")
        condition = control.to(tokens.device, dtype)
        guidance = call["guidance"] if inner.config.guidance_embeds else None
        double, single = net(
            hidden_states=tokens.to(dtype),
            controlnet_cond=condition[:, :, 0] if is_pixel_net(net) else to_tokens(fold(condition)),
            timestep=call["timestep"],
            guidance=guidance,
            pooled_projections=call["pooled_projections"].to(dtype),
            encoder_hidden_states=call["encoder_hidden_states"].to(dtype),
            txt_ids=call["txt_ids"],
            img_ids=call["img_ids"],
            return_dict=False,
        )
        transformer = unwrap_net(denoiser)
        blocks = (len(transformer.transformer_blocks), len(transformer.single_transformer_blocks))
        lay = partial(list_residuals, scale=scale, like=tokens, cells=cells)
        places = {}
        for name, values, count in zip((DOUBLE, SINGLE), (double, single), blocks, strict=True):
            if values:
                places[name] = lay(_repeat(values, count) if is_pixel_net(net) else values)
        return Residuals(places)

    def join(self, call: Mapping[str, Any], residuals: Residuals) -> dict[str, Any]:
        """Lists of residuals, which the transformer spreads over its blocks."""
        return join_lists(call, residuals)

    def pipeline(self, parts: Parts, net: nn.Module) -> Any:
        """FluxControlNetPipeline with the family's scheduler."""
        return build_pipeline(FluxControlNetPipeline, "flux", parts, controlnet=net)

    def call(self, control: Clip, scale: float) -> dict[str, Any]:
        """The picture in [-1, 1]: the pipeline leaves tensors as they are."""
        return {
            "control_image": normalise_pixels(read_picture(control)),
            "controlnet_conditioning_scale": float(scale),
        }

    def tiny(self, denoiser: nn.Module) -> nn.Module:
        """`start` with its zero layers moved."""
        return build_tiny(partial(self.start, denoiser))


def is_pixel_net(net: nn.Module) -> bool:
    """Whether a net is of XLabs' form: it reads pixels, and its residuals repeat over blocks."""
    return unwrap_net(net).input_hint_block is not None


def _repeat(values: Sequence[Tensor], count: int) -> list[Tensor]:
    """One for each block, in turn: `controlnet_blocks_repeat` of the transformer, written out."""
    return [values[index % len(values)] for index in range(count)]


CONTROL: ControlSupport = FluxControl()
