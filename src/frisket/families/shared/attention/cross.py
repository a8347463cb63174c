"""Cross-attention of diffusers' models: UNets (SD 1.5, SDXL, pocket) and Wan."""

from functools import partial
from typing import Any

from torch import nn

from frisket.attention.base import AttentionLayer, Projections
from frisket.families.shared.attention.branches import Branch, cut_patches, find_picture_cells
from frisket.families.shared.attention.taps import AttentionCall, Tap, make_layer, split_heads
from frisket.shapes import Cells


def list_unet_layers(denoiser: nn.Module, *, folded: bool = False) -> tuple[AttentionLayer, ...]:
    """Every `attn2` in the order it is called in: on the way down, in the middle, on the way up.

    `folded`: the frames of a sample are rows of the batch, side by side.
    """
    layers = []
    for part in ("down_blocks", "mid_block", "up_blocks"):
        root = getattr(denoiser, part, None)
        for path, picture in root.named_modules() if root is not None else ():
            blocks: Any = getattr(picture, "transformer_blocks", ())
            for index, block in enumerate(blocks):
                attention: Any = getattr(block, "attn2", None)
                if attention is None:
                    continue
                tap = Tap(
                    denoiser,
                    block,
                    attention,
                    outputs=("to_q", "to_k", "to_v"),
                    read=partial(_read_unet, attention, folded),
                    entries=("to_out.0",),
                    context=picture,
                )
                name = f"{part}.{path}.transformer_blocks.{index}.attn2"
                branch = Branch(_find_unet_cells, folded=folded)
                layers.append(make_layer(name, "cross", tap, branch))
    return tuple(layers)


def _find_unet_cells(call: AttentionCall) -> Cells:
    """The grid is that of the picture handed to the transformer."""
    height, width = call.context["hidden_states"].shape[-2:]
    return 1, height, width


def _read_unet(attention: Any, folded: bool, call: AttentionCall) -> Projections:
    """No norm, no rotary embedding."""
    query, key, value = (
        split_heads(call.tensors[name], attention.heads) for name in ("to_q", "to_k", "to_v")
    )
    mask = call.inputs.get("encoder_attention_mask")
    return Projections(
        query=query,
        key=key,
        value=value,
        text=slice(0, key.shape[1]),
        cells=_find_unet_cells(call),
        present=None if mask is None else mask.bool(),
        image_output=call.tensors["> to_out.0"],
        folded=folded,
        timestep=call.inputs.get("timestep"),
        prompt=call.inputs.get("encoder_hidden_states"),
    )


def list_wan_layers(denoiser: nn.Module) -> tuple[AttentionLayer, ...]:
    """`blocks.N.attn2`: queries and keys after their norm, the text alone.

    Image-to-video models of Wan 2.1 attend to the first frame's CLIP tokens in a softmax of its
    own and add that: it is no part of what is read, and the layer's output is then not either.
    """
    blocks: Any = denoiser.blocks
    patch: Any = denoiser.config.patch_size  # type: ignore[union-attr]
    layers = []
    for index, block in enumerate(blocks):
        tap = Tap(
            denoiser,
            block,
            block.attn2,
            outputs=("norm_q", "norm_k", "to_v"),
            read=partial(_read_wan, block.attn2, tuple(patch)),
            entries=("to_out.0",),
        )
        branch = Branch(cut_patches(tuple(patch)), queries=("norm_q",))
        layers.append(make_layer(f"blocks.{index}.attn2", "cross", tap, branch))
    return tuple(layers)


def _read_wan(attention: Any, patch: tuple[int, int, int], call: AttentionCall) -> Projections:
    query, key, value = (
        split_heads(call.tensors[name], attention.heads) for name in ("norm_q", "norm_k", "to_v")
    )
    alone = attention.add_k_proj is None
    return Projections(
        query=query,
        key=key,
        value=value,
        text=slice(0, key.shape[1]),
        cells=find_picture_cells(patch, call),
        image_output=call.tensors["> to_out.0"] if alone else None,
        timestep=call.inputs.get("timestep"),
        prompt=call.inputs.get("encoder_hidden_states"),
    )
