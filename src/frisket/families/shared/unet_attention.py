"""Cross-attention of diffusers' UNets: what SD 1.5, SDXL and the pocket models share."""

from functools import partial
from typing import Any

from torch import nn

from frisket.attention.base import AttentionLayer, Projections
from frisket.families.shared.attention_taps import AttentionCall, Tap, make_layer, split_heads


def list_cross_layers(denoiser: nn.Module, *, folded: bool = False) -> tuple[AttentionLayer, ...]:
    """Every `attn2` in the order it is called in: on the way down, in the middle, on the way up.

    `folded`: the frames of a sample are rows of the batch, side by side.
    """
    layers = []
    for part in ("down_blocks", "mid_block", "up_blocks"):
        root = getattr(denoiser, part, None)
        for path, picture in root.named_modules() if root is not None else ():
            if not hasattr(picture, "transformer_blocks"):
                continue
            for index, block in enumerate(picture.transformer_blocks):
                attention: Any = getattr(block, "attn2", None)
                if attention is None:
                    continue
                tap = Tap(
                    denoiser,
                    block,
                    attention,
                    outputs=("to_q", "to_k", "to_v"),
                    read=partial(_read_cross, attention, folded),
                    entries=("to_out.0",),
                    context=picture,
                )
                name = f"{part}.{path}.transformer_blocks.{index}.attn2"
                layers.append(make_layer(name, "cross", tap))
    return tuple(layers)


def _read_cross(attention: Any, folded: bool, call: AttentionCall) -> Projections:
    """No norm, no rotary embedding; the grid is that of the picture handed to the transformer."""
    height, width = call.context["hidden_states"].shape[-2:]
    query, key, value = (
        split_heads(call.tensors[name], attention.heads) for name in ("to_q", "to_k", "to_v")
    )
    mask = call.inputs.get("encoder_attention_mask")
    return Projections(
        query=query,
        key=key,
        value=value,
        text=slice(0, key.shape[1]),
        cells=(1, height, width),
        present=None if mask is None else mask.bool(),
        image_output=call.tensors["> to_out.0"],
        folded=folded,
        timestep=call.inputs.get("timestep"),
        prompt=call.inputs.get("encoder_hidden_states"),
    )
