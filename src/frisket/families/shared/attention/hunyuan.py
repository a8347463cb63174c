"""Joint attention of HunyuanVideo and HunyuanVideo 1.5: the picture first, the text not turned."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor, nn

from frisket.attention.base import AttentionLayer, Projections
from frisket.families.shared.attention.branches import Branch, cut_patches
from frisket.families.shared.attention.double_stream import IMAGE, TEXT, list_joint_layers
from frisket.families.shared.attention.taps import AttentionCall, split_heads

PatchSize = tuple[int, int, int]


def list_hunyuan_layers(denoiser: nn.Module) -> tuple[AttentionLayer, ...]:
    """Joint layers `transformer_blocks.N.attn`, then those of `single_transformer_blocks`."""
    patch = _patch_of(denoiser)
    read, branch = partial(_read_double, patch), _make_branch(denoiser)
    return (
        *list_joint_layers(denoiser, "transformer_blocks", read, branch=branch),
        *list_joint_layers(
            denoiser,
            "single_transformer_blocks",
            partial(_read_single, patch),
            outputs=IMAGE,
            entries=(),
        ),
    )


def list_hunyuan15_layers(denoiser: nn.Module) -> tuple[AttentionLayer, ...]:
    """Joint layers `transformer_blocks.N.attn`, one a block, in the order of the forward."""
    read = partial(_read_15, _patch_of(denoiser))
    branch = _make_branch(denoiser)
    return tuple(list_joint_layers(denoiser, "transformer_blocks", read, branch=branch))


def _make_branch(denoiser: nn.Module) -> Branch:
    """Double blocks have a place for a second attention; single ones have none."""
    return Branch(cut_patches(_patch_of(denoiser)), queries=("norm_q",))


def _patch_of(denoiser: nn.Module) -> PatchSize:
    config: Any = denoiser.config
    return config.patch_size_t, config.patch_size, config.patch_size


def _read_double(patch: PatchSize, attention: Any, call: AttentionCall) -> Projections:
    key, value = (_join(attention, call, index) for index in (1, 2))
    return _read_image_first(
        patch,
        call,
        query=call.tensors["norm_q"],
        key=key,
        value=value,
        outputs=(call.tensors["> to_out.0"], call.tensors["> to_add_out"]),
        present=_flatten_mask(call.arguments.get("attention_mask")),
    )


def _join(attention: Any, call: AttentionCall, index: int) -> Tensor:
    parts = (call.tensors[names[index]] for names in (IMAGE, TEXT))
    return torch.cat([split_heads(part, attention.heads) for part in parts], 1)


def _read_single(patch: PatchSize, attention: Any, call: AttentionCall) -> Projections:
    length = call.arguments["encoder_hidden_states"].shape[1]
    query, key, value = (call.tensors[name] for name in IMAGE)
    return _read_image_first(
        patch,
        call,
        query=query[:, :-length],
        key=key,
        value=split_heads(value, attention.heads),
        outputs=call.output,
        present=_flatten_mask(call.arguments.get("attention_mask")),
    )


def _flatten_mask(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask[:, 0, 0].bool()


def _read_15(patch: PatchSize, attention: Any, call: AttentionCall) -> Projections:
    """The model puts the tokens that are there before those that are not; here they go back.

    Text columns are Qwen's, in the order of the conditioning; glyphs and the picture's come after.
    """
    columns = order_columns(call.inputs)
    key, value = (_join(attention, call, index) for index in (1, 2))
    count = call.tensors["norm_q"].shape[1]
    key, value = (_reorder(tensor, columns, count) for tensor in (key, value))
    mask = call.arguments["attention_mask"].bool().gather(1, columns)
    text = call.tensors["> to_add_out"]
    length = call.inputs["encoder_hidden_states"].shape[1]
    index = columns[:, :length, None].expand(-1, -1, text.shape[2])
    return _read_image_first(
        patch,
        call,
        query=call.tensors["norm_q"],
        key=key,
        value=value,
        outputs=(call.tensors["> to_out.0"], text.gather(1, index)),
        present=torch.cat([mask.new_ones(len(mask), count), mask], 1),
        length=length,
    )


def order_columns(inputs: Mapping[str, Any]) -> Tensor:
    """Where HunyuanVideo 1.5 has put each token: b (text, glyphs, picture), long.

    It lines up, sample by sample, the picture's tokens, glyphs and text that are there, then those
    that are not. A picture of zeros is none.
    """
    text, glyphs = (
        inputs[name].bool() for name in ("encoder_attention_mask", "encoder_attention_mask_2")
    )
    image = inputs["image_embeds"]
    image_mask = text.new_full((len(text), image.shape[1]), bool((image != 0).any()))
    present_mask = torch.cat([image_mask, glyphs, text], 1)
    # Stable: the order within each of the two groups stays picture, glyphs, text.
    order = present_mask.logical_not().to(torch.uint8).argsort(dim=1, stable=True)
    places = order.argsort(dim=1)
    widths = [image_mask.shape[1], glyphs.shape[1], text.shape[1]]
    return torch.cat(list(reversed(places.split(widths, dim=1))), 1)


def _reorder(tensor: Tensor, columns: Tensor, count: int) -> Tensor:
    """The text columns of b m heads d, which follow `count` of the picture's."""
    image, text = tensor[:, :count], tensor[:, count:]
    index = columns[..., None, None].expand(-1, -1, *text.shape[2:])
    return torch.cat([image, text.gather(1, index)], 1)


def _read_image_first(
    patch: PatchSize,
    call: AttentionCall,
    *,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    outputs: tuple[Tensor, Tensor],
    present: Tensor | None,
    length: int | None = None,
) -> Projections:
    """`query` and the first of the keys are the picture's, and are turned by their positions."""
    count = query.shape[1]
    rotary = call.arguments["image_rotary_emb"]
    image = apply_rotary_emb(key[:, :count], rotary, sequence_dim=1)
    sides = call.inputs["hidden_states"].shape[-3:]
    frames, height, width = (side // step for side, step in zip(sides, patch, strict=True))
    return Projections(
        query=apply_rotary_emb(query, rotary, sequence_dim=1),
        key=torch.cat([image, key[:, count:]], 1),
        value=value,
        text=slice(count, key.shape[1] if length is None else count + length),
        cells=(frames, height, width),
        image=slice(0, count),
        present=present,
        image_output=outputs[0],
        text_output=outputs[1],
        timestep=call.inputs.get("timestep"),
        prompt=call.inputs.get("encoder_hidden_states"),
    )
