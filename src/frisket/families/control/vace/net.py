"""VACE's context blocks (arXiv 2503.07598) as a net of their own, apart from the transformer."""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.transformers.transformer_wan_vace import WanVACETransformerBlock
from jaxtyping import Float
from torch import Tensor, nn

LATENTS = 16  # channels of Wan 2.1's VAE
MASK = 64  # channels of VACE's mask: the 8 x 8 pixels of each cell
CHANNELS = 2 * LATENTS + MASK  # inactive, reactive, mask

SETTINGS = (
    "patch_size",
    "num_attention_heads",
    "attention_head_dim",
    "ffn_dim",
    "cross_attn_norm",
    "qk_norm",
    "eps",
)


class VaceNet(ModelMixin, ConfigMixin):
    """A patch embedding of the context and a chain of blocks, each with a hint to give.

    WanVACETransformer3DModel without the transformer: names of weights are its own. A hint is added
    after the transformer's block of that number in `vace_layers`.
    """

    _supports_gradient_checkpointing = True
    _keep_in_fp32_modules = ("scale_shift_table", "norm1", "norm2", "norm3")

    @register_to_config
    def __init__(
        self,
        patch_size: Sequence[int] = (1, 2, 2),
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        ffn_dim: int = 13824,
        cross_attn_norm: bool = True,
        qk_norm: str | None = "rms_norm_across_heads",
        eps: float = 1e-6,
        vace_layers: Sequence[int] = (0, 5, 10, 15, 20, 25, 30, 35),
        vace_in_channels: int = CHANNELS,
    ) -> None:
        """Random blocks; defaults are Wan2.1-VACE-14B's. ValueError where layer 0 is not named."""
        super().__init__()
        if 0 not in vace_layers:
            raise ValueError(f"vace_layers {list(vace_layers)} must have layer 0")
        width = num_attention_heads * attention_head_dim
        frames, rows, columns = patch_size
        patch = (frames, rows, columns)
        self.vace_patch_embedding = nn.Conv3d(vace_in_channels, width, patch, stride=patch)
        self.vace_blocks = nn.ModuleList(
            WanVACETransformerBlock(
                width,
                ffn_dim,
                num_attention_heads,
                qk_norm,
                cross_attn_norm,
                eps,
                None,
                apply_input_projection=number == 0,
                apply_output_projection=True,
            )
            for number in range(len(vace_layers))
        )
        self.gradient_checkpointing = False

    def forward(
        self,
        tokens: Float[Tensor, "r n d"],
        text: Float[Tensor, "r s d"],
        context: Float[Tensor, "r c f h w"],
        time: Float[Tensor, "r 6 d"],
        rotary: Any,
    ) -> list[Tensor]:
        """Hints, r n d each, of what the transformer's own embedders made of a call."""
        hidden = self.vace_patch_embedding(context).flatten(2).transpose(1, 2)
        hints = []
        for block in self.vace_blocks:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                checkpoint = self._gradient_checkpointing_func
                hint, hidden = checkpoint(block, tokens, text, hidden, time, rotary)
            else:
                hint, hidden = block(tokens, text, hidden, time, rotary)
            hints.append(hint)
        return hints


def start_net(transformer: Any, layers: int | None) -> VaceNet:
    """Copies of every second block of a transformer (VACE's own), or `layers` evenly spread.

    Projections into and out of the chain are 0, so hints are exactly 0; float32.
    """
    config, blocks = transformer.config, transformer.blocks
    count = math.ceil(len(blocks) / 2) if layers is None else layers
    places = [index * len(blocks) // count for index in range(count)]
    settings = {name: config[name] for name in SETTINGS}
    net = VaceNet(**settings, vace_layers=places)
    for block, place in zip(net.vace_blocks, places, strict=True):
        block.load_state_dict(blocks[place].state_dict(), strict=False)
        nn.init.zeros_(block.proj_out.weight)
        nn.init.zeros_(block.proj_out.bias)
    first = cast(Any, net.vace_blocks[0])
    nn.init.zeros_(first.proj_in.weight)
    nn.init.zeros_(first.proj_in.bias)
    with torch.no_grad():  # the clip itself, the reactive half, is seen as the transformer sees it
        net.vace_patch_embedding.weight.zero_()
        of_clip = slice(LATENTS, 2 * LATENTS)
        net.vace_patch_embedding.weight[:, of_clip] = transformer.patch_embedding.weight
        net.vace_patch_embedding.bias.copy_(transformer.patch_embedding.bias)
    return net
