"""Where the encoder reads the prompt: its cross-attention, and what a call of it is about."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

from torch import nn

from frisket.attention.base import AttentionLayer, Projections
from frisket.families.routes import RoutedBlock
from frisket.families.shared.attention.taps import AttentionCall, Tap, make_layer, split_heads
from frisket.families.streams import (
    DenoiserCall,
    NameTable,
    Rows,
    Stream,
    bind_call,
    expand_t,
    find_rows,
)

TABLE: tuple[tuple[str, Stream], ...] = (
    (r"^(time|text)_embed\b|modulation", "apart"),
    (r"\.attn2\.to_[kv]$", "text"),
    (r"^(patch_embed|blocks|decoder_in|decoder_blocks|decoder_out)\b", "image"),
)


@dataclass(frozen=True, slots=True)
class MaskDiTStreams(NameTable):
    """Of MaskDiTModel, told t * 1000; text comes in by cross-attention and by the condition."""

    table: tuple[tuple[str, Stream], ...] = TABLE

    def read(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> DenoiserCall:
        """What a call is about; which tokens a call has that leaves some out is not said."""
        call = bind_call(model, args, kwargs)
        states, text = call["hidden_states"], call["encoder_hidden_states"]
        net: Any = model
        grid = net.find_grid(states)
        sequences: dict[Stream, tuple[Rows, ...]] = {"text": (Rows("text", text.shape[1]),)}
        if call["kept_tokens"] is None:
            sequences["image"] = (Rows("image", prod(grid), grid),)
        return DenoiserCall(
            t=expand_t(call["timestep"], len(states)).to(states.device),
            cells=tuple(states.shape[2:]),
            text=text,
            sequences=sequences,
            rows=find_rows(),
        )


@dataclass(frozen=True, slots=True)
class MaskDiTRoutes:
    """The encoder's blocks: each sample may keep tokens of its own, nothing goes with them."""

    def find_patch(self, denoiser: nn.Module) -> tuple[int, int, int]:
        """One frame, and the square of cells that the model folds into a token."""
        config: Any = denoiser.config
        return 1, config.patch_size, config.patch_size

    def list_blocks(self, denoiser: nn.Module) -> tuple[RoutedBlock, ...]:
        """The encoder's blocks in the order of the call."""
        blocks: Any = denoiser.blocks
        return tuple(
            RoutedBlock(name=f"blocks.{index}", module=block) for index, block in enumerate(blocks)
        )


def list_layers(denoiser: nn.Module) -> tuple[AttentionLayer, ...]:
    """`blocks.N.attn2`, of a model that has them."""
    blocks: Any = denoiser.blocks
    layers = []
    for index, block in enumerate(blocks):
        if block.attn2 is None:
            continue
        tap = Tap(
            denoiser,
            block,
            block.attn2,
            outputs=("to_q", "to_k", "to_v"),
            read=partial(_read, denoiser, block.attn2),
            entries=("to_out.0",),
        )
        layers.append(make_layer(f"blocks.{index}.attn2", "cross", tap))
    return tuple(layers)


def _read(denoiser: Any, attention: Any, call: AttentionCall) -> Projections:
    """No norm, no rotary embedding; ValueError for a call that leaves tokens out: no whole grid."""
    if call.inputs.get("kept_tokens") is not None:
        raise ValueError(
            "attention cannot be read of a call that leaves tokens out: take the attention term"
            " away, or set patch_masking.ratio = 0"
        )
    query, key, value = (
        split_heads(call.tensors[name], attention.heads) for name in ("to_q", "to_k", "to_v")
    )
    return Projections(
        query=query,
        key=key,
        value=value,
        text=slice(0, key.shape[1]),
        cells=denoiser.find_grid(call.inputs["hidden_states"]),
        image_output=call.tensors["> to_out.0"],
        timestep=call.inputs.get("timestep"),
        prompt=call.inputs.get("encoder_hidden_states"),
    )
