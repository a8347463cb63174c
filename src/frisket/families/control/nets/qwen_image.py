"""ControlNets of Qwen-Image: residuals on the image stream after the transformer's blocks."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import QwenImageControlNetModel, QwenImageControlNetPipeline
from jaxtyping import Float
from torch import Tensor, nn

from frisket.families.base import FAMILIES, Parts
from frisket.families.control.base import ControlSupport, Residuals
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
from frisket.families.shared import qwen_references
from frisket.shapes import Clip

BLOCKS = "controlnet_block_samples"
LAYERS = 5  # of QwenImageControlNetModel.from_transformer, and of the public nets
MATCHED_SETTINGS = (
    "attention_head_dim",
    "num_attention_heads",
    "joint_attention_dim",
    "axes_dims_rope",
    "in_channels",
)
# Upstream's from_transformer leaves out txt_norm, whose weight then stays at ones.
COPIED = ("time_text_embed", "txt_norm", "img_in", "txt_in", "transformer_blocks")


class QwenImageControl:
    """QwenImageControlNetModel beside the text-to-image models of the family."""

    reads: Literal["pixels", "latents"] = "latents"
    shares_guidance = True  # the public pipeline computes residuals once for prompt and negative

    def refuse(self, variant: str) -> str:
        """Edit models have tokens of pictures of their own, which no ControlNet was made for."""
        if variant.startswith("edit"):
            return (
                f"no ControlNet is made for Qwen-Image {variant}, which is shown pictures already:"
                ' leave [control] out, or set model.variant = "image" or "2512"'
            )
        return ""

    def load(
        self, source: str | Path, variant: str, *, dtype: torch.dtype, device: str
    ) -> nn.Module:
        """A QwenImageControlNetModel; inpainting nets, which read a mask as well, are refused.

        InstantX's union net loads: it was trained on several kinds, and is not told which.
        """
        net = load_net(QwenImageControlNetModel, source, variant, dtype=dtype, device=device)
        reason = "Nets that read more than a control picture (inpainting) are not supported."
        expect(net, source, {"extra_condition_channels": 0, "in_channels": 64}, reason)
        return net

    def start(self, denoiser: nn.Module, *, layers: int | None = None) -> nn.Module:
        """The first `layers` blocks (5), float32."""
        transformer: Any = denoiser
        check_source(transformer)
        config = dict(transformer.config)
        block_count = len(transformer.transformer_blocks)
        config["num_layers"] = count_layers(layers, LAYERS, block_count)
        net: nn.Module = build_net(QwenImageControlNetModel, config, find_device(transformer))
        copy_weights(net, transformer, COPIED)
        return net

    def compare(self, net: nn.Module, denoiser: nn.Module) -> str:
        """By heads, the axes of its positions and the width of the text."""
        return compare_configs(net, denoiser, {name: name for name in MATCHED_SETTINGS})

    def read(
        self, net: nn.Module, vae: nn.Module | None, control: Float[Tensor, "1 3 F H W"]
    ) -> Float[Tensor, "1 c _ _ _"]:
        """Latents as the family's `encode` gives: the mode, where the pipeline draws."""
        read_picture(control)
        return FAMILIES.load("qwen_image").encode(
            check_vae(vae, "Qwen-Image"), normalise_pixels(control)
        )

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
        cells = (1, control.shape[3] // 2, control.shape[4] // 2)
        check_tokens(cells, tokens.shape[1])
        check_rows(control, (len(tokens), *control.shape[2:]), "one control a row")
        dtype = inner.txt_norm.weight.dtype
        values = net(
            hidden_states=tokens.to(dtype),
            controlnet_cond=qwen_references.tokens(control.to(tokens.device, dtype)),
            encoder_hidden_states=call["encoder_hidden_states"].to(dtype),
            encoder_hidden_states_mask=call["encoder_hidden_states_mask"],
            timestep=call["timestep"],
            img_shapes=call["img_shapes"],
            return_dict=False,
        )
        return Residuals({BLOCKS: list_residuals(values, scale, tokens, cells)})

    def join(self, call: Mapping[str, Any], residuals: Residuals) -> dict[str, Any]:
        """A list of residuals, which the transformer spreads over its blocks."""
        return join_lists(call, residuals)

    def pipeline(self, parts: Parts, net: nn.Module) -> Any:
        """QwenImageControlNetPipeline with the family's scheduler."""
        return build_pipeline(QwenImageControlNetPipeline, "qwen_image", parts, controlnet=net)

    def call(self, control: Clip, scale: float) -> dict[str, Any]:
        """The picture in [-1, 1]: the pipeline leaves tensors as they are."""
        return {
            "control_image": normalise_pixels(read_picture(control)),
            "controlnet_conditioning_scale": float(scale),
        }

    def tiny(self, denoiser: nn.Module) -> nn.Module:
        """`start` with its zero layers moved."""
        return build_tiny(partial(self.start, denoiser))


CONTROL: ControlSupport = QwenImageControl()
