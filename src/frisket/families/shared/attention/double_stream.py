"""Joint attention of models with a stream for text and one for the picture: FLUX, SD3.5, Qwen."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_qwenimage import apply_rotary_emb_qwen
from torch import Tensor, nn

from frisket.attention.base import AttentionLayer, Projections
from frisket.families.shared.attention.branches import Branch, cut_patches
from frisket.families.shared.attention.taps import AttentionCall, Tap, make_layer, split_heads
from frisket.shapes import Cells

IMAGE = ("norm_q", "norm_k", "to_v")
TEXT = ("norm_added_q", "norm_added_k", "add_v_proj")
Read = Callable[[Any, AttentionCall], Projections]


def list_joint_layers(
    denoiser: nn.Module,
    blocks: str,
    read: Read,
    *,
    attention: str = "attn",
    outputs: tuple[str, ...] = (*IMAGE, *TEXT),
    entries: tuple[str, ...] = ("to_out.0", "to_add_out"),
    branch: Branch | None = None,
) -> Iterator[AttentionLayer]:
    """The attention of each block in a list of the denoiser's.

    A submodule of `outputs` or `entries` that an attention does not have is left out (the last
    block of SD3 makes nothing of its text).
    """
    members: Any = getattr(denoiser, blocks, ())
    for index, block in enumerate(members):
        module = getattr(block, attention)
        names = {name for name, _ in module.named_modules()}
        tap = Tap(
            denoiser,
            block,
            module,
            outputs=tuple(name for name in outputs if name in names),
            read=partial(read, module),
            entries=tuple(name for name in entries if name in names),
        )
        yield make_layer(f"{blocks}.{index}.{attention}", "joint", tap, branch)


def count_cells(ids: Tensor) -> Cells:
    """The grid of a picture from the positions of its tokens, n (picture, row, column, ...).

    Reference pictures have another number in the first column and come later. ValueError where
    the tokens are not a whole grid.
    """
    ids = ids[0] if ids.ndim == 3 else ids
    own_ids = ids[ids[:, 0] == ids[0, 0]]
    height, width = (int(own_ids[:, axis].max() - own_ids[:, axis].min()) + 1 for axis in (1, 2))
    if height * width != len(own_ids):
        raise ValueError(f"{len(own_ids)} tokens do not fill a grid of {height} x {width}")
    return 1, height, width


def _find_flux_cells(call: AttentionCall) -> Cells:
    return count_cells(call.inputs["img_ids"])


def list_flux_layers(denoiser: nn.Module) -> tuple[AttentionLayer, ...]:
    """Joint layers `transformer_blocks.N.attn`, then those of `single_transformer_blocks`.

    A branch joins the picture after its block, as XLabs' adapters do; single blocks have none.
    """
    branch = Branch(_find_flux_cells, queries=("norm_q",), stream=1)
    return (
        *list_joint_layers(denoiser, "transformer_blocks", _read_flux, branch=branch),
        *list_joint_layers(
            denoiser, "single_transformer_blocks", _read_flux_single, outputs=IMAGE, entries=()
        ),
    )


def list_flux2_layers(denoiser: nn.Module) -> tuple[AttentionLayer, ...]:
    """As FLUX; its single blocks project queries, keys, values and the MLP in one layer.

    A branch joins before the out projection: there is no public image adapter to agree with.
    """
    branch = Branch(_find_flux_cells, queries=("norm_q",))
    return (
        *list_joint_layers(denoiser, "transformer_blocks", _read_flux, branch=branch),
        *list_joint_layers(
            denoiser,
            "single_transformer_blocks",
            _read_flux2_single,
            outputs=("norm_q", "norm_k", "to_qkv_mlp_proj"),
            entries=("to_out",),
        ),
    )


def _read_flux(attention: Any, call: AttentionCall) -> Projections:
    """Text first; both are turned by their positions."""
    query, image_key, value = (call.tensors[name] for name in IMAGE)
    text_key, text_value = (call.tensors[name] for name in TEXT[1:])
    values = [split_heads(tensor, attention.heads) for tensor in (text_value, value)]
    return _read_text_first(
        call,
        query=query,
        key=torch.cat([text_key, image_key], 1),
        value=torch.cat(values, 1),
        outputs=(call.tensors["> to_add_out"], call.tensors["> to_out.0"]),
    )


def _read_flux_single(attention: Any, call: AttentionCall) -> Projections:
    query, key, value = (call.tensors[name] for name in IMAGE)
    length = call.inputs["encoder_hidden_states"].shape[1]
    return _read_text_first(
        call,
        query=query[:, length:],
        key=key,
        value=split_heads(value, attention.heads),
        outputs=(call.output[:, :length], call.output[:, length:]),
    )


def _read_flux2_single(attention: Any, call: AttentionCall) -> Projections:
    width = attention.inner_dim
    value = call.tensors["to_qkv_mlp_proj"][..., 2 * width : 3 * width]
    length = call.inputs["encoder_hidden_states"].shape[1]
    output = call.tensors["> to_out"][..., :width]
    return _read_text_first(
        call,
        query=call.tensors["norm_q"][:, length:],
        key=call.tensors["norm_k"],
        value=split_heads(value, attention.heads),
        outputs=(output[:, :length], output[:, length:]),
    )


def _read_text_first(
    call: AttentionCall,
    *,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    outputs: tuple[Tensor, Tensor],
) -> Projections:
    """Of FLUX: text, picture, reference pictures; `query` has no text rows."""
    cells = count_cells(call.inputs["img_ids"])
    count, length = cells[1] * cells[2], key.shape[1] - query.shape[1]
    cosines, sines = call.arguments["image_rotary_emb"]
    columns = slice(length, length + count)
    turned = apply_rotary_emb(query[:, :count], (cosines[columns], sines[columns]), sequence_dim=1)
    return Projections(
        query=turned,
        key=apply_rotary_emb(key, (cosines, sines), sequence_dim=1),
        value=value,
        text=slice(0, length),
        cells=cells,
        image=columns,
        image_output=outputs[1][:, :count],
        text_output=outputs[0],
        timestep=call.inputs.get("timestep"),
        prompt=call.inputs.get("encoder_hidden_states"),
    )


def list_sd3_layers(denoiser: nn.Module) -> tuple[AttentionLayer, ...]:
    """`transformer_blocks.N.attn`; `attn2` of SD3.5 medium attends to the picture alone."""
    patch: Any = denoiser.config.patch_size  # type: ignore[union-attr]
    outputs = (*IMAGE, *TEXT, "to_q", "to_k", "add_q_proj", "add_k_proj")  # SD3.0 has no norms
    read = partial(_read_sd3, patch)
    cells = cut_patches((1, patch, patch))
    branch = Branch(cells, queries=("norm_q", "to_q"), heads_first=True, projected=True)
    layers = list_joint_layers(denoiser, "transformer_blocks", read, outputs=outputs, branch=branch)
    return tuple(layers)


def _read_sd3(patch: int, attention: Any, call: AttentionCall) -> Projections:
    """The picture first; no rotary embedding. What has a norm comes with its heads in front."""

    def take(norm: str, projection: str) -> Tensor:
        if norm in call.tensors:
            return call.tensors[norm].transpose(1, 2)
        return split_heads(call.tensors[projection], attention.heads)

    query = take("norm_q", "to_q")
    keys = [take("norm_k", "to_k"), take("norm_added_k", "add_k_proj")]
    values = [split_heads(call.tensors[name], attention.heads) for name in ("to_v", "add_v_proj")]
    height, width = call.inputs["hidden_states"].shape[-2:]
    count, length = (key.shape[1] for key in keys)
    return Projections(
        query=query,
        key=torch.cat(keys, 1),
        value=torch.cat(values, 1),
        text=slice(count, count + length),
        cells=(1, height // patch, width // patch),
        image=slice(0, count),
        image_output=call.tensors["> to_out.0"],
        text_output=call.tensors.get("> to_add_out"),
        timestep=call.inputs.get("timestep"),
        prompt=call.inputs.get("encoder_hidden_states"),
    )


def list_qwen_layers(denoiser: nn.Module) -> tuple[AttentionLayer, ...]:
    """`transformer_blocks.N.attn` of Qwen-Image and its edit models."""
    branch = Branch(_find_qwen_cells, queries=("norm_q",))
    return tuple(list_joint_layers(denoiser, "transformer_blocks", _read_qwen, branch=branch))


def _find_qwen_cells(call: AttentionCall) -> Cells:
    return tuple(call.inputs["img_shapes"][0][0])


def _read_qwen(attention: Any, call: AttentionCall) -> Projections:
    """Text, picture, reference pictures; text and pictures have rotary embeddings of their own."""
    cells = _find_qwen_cells(call)
    count = cells[0] * cells[1] * cells[2]
    of_image, of_text = call.arguments["image_rotary_emb"]
    query, image_key, value = (call.tensors[name] for name in IMAGE)
    text_key, text_value = (call.tensors[name] for name in TEXT[1:])
    keys = [
        apply_rotary_emb_qwen(text_key, of_text, use_real=False),
        apply_rotary_emb_qwen(image_key, of_image, use_real=False),
    ]
    values = [split_heads(tensor, attention.heads) for tensor in (text_value, value)]
    length = text_key.shape[1]
    mask = call.arguments.get("encoder_hidden_states_mask")
    if mask is not None:
        pictures = mask.new_ones(len(mask), image_key.shape[1], dtype=torch.bool)
        mask = torch.cat([mask.bool(), pictures], 1)
    return Projections(
        query=apply_rotary_emb_qwen(query[:, :count], of_image[:count], use_real=False),
        key=torch.cat(keys, 1),
        value=torch.cat(values, 1),
        text=slice(0, length),
        cells=cells,
        image=slice(length, length + count),
        present=mask,
        image_output=call.tensors["> to_out.0"][:, :count],
        text_output=call.tensors["> to_add_out"],
        timestep=call.inputs.get("timestep"),
        prompt=call.inputs.get("encoder_hidden_states"),
    )
