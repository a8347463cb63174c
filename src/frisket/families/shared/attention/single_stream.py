"""Joint attention of models that hold text and picture in one stream: Qwen-Image 2.1, Z-Image."""

import math
from typing import Any

import torch
from diffusers.models.transformers.transformer_qwenimage21 import apply_rotary_emb_qwen
from diffusers.models.transformers.transformer_z_image import SEQ_MULTI_OF
from torch import Tensor, nn

from frisket.attention.base import AttentionLayer, Projections
from frisket.families.shared.attention.double_stream import IMAGE, list_joint_layers
from frisket.families.shared.attention.taps import AttentionCall, split_heads


def list_qwen21_layers(denoiser: nn.Module) -> tuple[AttentionLayer, ...]:
    """Joint layers `transformer_blocks.N.attn`, one a block, in the order of the forward."""
    layers = list_joint_layers(
        denoiser, "transformer_blocks", _read_qwen21, outputs=IMAGE, entries=("to_out.0",)
    )
    return tuple(layers)


def _read_qwen21(attention: Any, call: AttentionCall) -> Projections:
    """Text, then the picture, which attends to all there is.

    While sampling, the pipeline computes the text once and keeps its keys: the later calls have no
    text rows. ValueError where reference pictures stand between the words.
    """
    shapes = call.inputs["img_shapes"][0]
    if len(shapes) > 1:
        raise ValueError(
            "attention of Qwen-Image 2.1 cannot be captured with reference pictures: they lie"
            " between the words of the prompt"
        )
    cells = tuple(shapes[0])
    count = math.prod(cells)
    query, key, value = (call.tensors[name] for name in IMAGE)
    value = split_heads(value, attention.heads)
    rotary = call.arguments["rotary_emb"]
    key = apply_rotary_emb_qwen(key.to(value.dtype), rotary, use_real=False)
    query = query[:, -count:].to(value.dtype)
    output = call.tensors["> to_out.0"]
    text_output = output[:, :-count] if output.shape[1] > count else None
    if call.arguments.get("kv_cache_mode") == "cached":
        kept_key, kept_value = call.arguments["layer_cache"].get()
        key, value = torch.cat([kept_key, key], 1), torch.cat([kept_value, value], 1)
    length = key.shape[1] - count
    mask = call.arguments.get("key_valid")
    if mask is None and isinstance(call.arguments.get("attention_mask"), Tensor):
        mask = call.arguments["attention_mask"][:, 0, 0]
    return Projections(
        query=apply_rotary_emb_qwen(query, rotary[-count:], use_real=False),
        key=key,
        value=value,
        text=slice(0, length),
        cells=cells,
        image=slice(length, length + count),
        present=mask,
        image_output=output[:, -count:],
        text_output=text_output,
        timestep=call.inputs.get("timestep"),
        prompt=call.inputs.get("encoder_hidden_states"),
    )


def list_z_image_layers(denoiser: nn.Module) -> tuple[AttentionLayer, ...]:
    """`layers.N.attention`; the refiners attend to text or picture alone."""
    layers = list_joint_layers(
        denoiser,
        "layers",
        _read_z_image,
        attention="attention",
        outputs=IMAGE,
        entries=("to_out.0",),
    )
    return tuple(layers)


def _read_z_image(attention: Any, call: AttentionCall) -> Projections:
    """The picture, then the text, each filled up to 32 tokens with a learned one that counts.

    A text that is shorter than the longest of the batch has such tokens, and then padding, in the
    columns of `text` beyond its end.
    """
    pictures, texts = call.inputs["x"], call.inputs["cap_feats"]
    if isinstance(pictures[0], list):
        raise ValueError(
            "attention of Z-Image cannot be captured with reference pictures (omni mode)"
        )
    sizes = {tuple(picture.shape[1:]) for picture in pictures}
    if len(sizes) > 1:
        raise ValueError(f"pictures of one batch have different sizes: {sorted(sizes)}")
    patch, depth = call.inputs.get("patch_size", 2), call.inputs.get("f_patch_size", 1)
    frames, height, width = sizes.pop()
    cells = (frames // depth, height // patch, width // patch)
    count = math.prod(cells)
    start = math.ceil(count / SEQ_MULTI_OF) * SEQ_MULTI_OF
    text = slice(start, start + max(len(text) for text in texts))
    query, key, value = (call.tensors[name] for name in IMAGE)
    rotary = call.arguments["freqs_cis"]
    output = call.tensors["> to_out.0"]
    return Projections(
        query=_turn(query[:, :count], rotary[:, :count]),
        key=_turn(key, rotary),
        value=split_heads(value, attention.heads),
        text=text,
        cells=cells,
        image=slice(0, count),
        present=call.arguments.get("attention_mask"),
        image_output=output[:, :count],
        text_output=output[:, text],
        timestep=call.inputs.get("t"),
        prompt=texts,
    )


def _turn(tensor: Tensor, rotary: Tensor) -> Tensor:
    """Pairs of channels of b n heads d as complex numbers, times b n d/2 of modulus 1."""
    pairs = torch.view_as_complex(tensor.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotary.unsqueeze(2)).flatten(3).type_as(tensor)
