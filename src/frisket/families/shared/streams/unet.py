"""Streams of the UNets: every layer has its own resolution, text comes in by cross-attention."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from frisket.families.streams import (
    DenoiserCall,
    FrameAxis,
    NameTable,
    Rows,
    Stream,
    bind_call,
    expand_t,
    find_rows,
)

TABLE: tuple[tuple[str, Stream], ...] = (
    (r"^(time|add)_|^class_embedding|time_emb_proj", "apart"),
    (r"\.attn2\.to_[kv]$", "text"),
    (r"^(conv_in|conv_out|down_blocks|mid_block|up_blocks)\b", "image"),
)


@dataclass(frozen=True, slots=True)
class UNetStreams(NameTable):
    """Of UNet2DConditionModel, told a level from 0 to 999 (or t * 1000)."""

    table: tuple[tuple[str, Stream], ...] = TABLE
    frames: FrameAxis = "cells"
    channels: int = 0  # with this many the frames are rows, with others channels (pocket)

    def read(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> DenoiserCall:
        """What a call is about; the grid of the image is each layer's own."""
        call = bind_call(model, args, kwargs)
        sample, text = call["sample"], call["encoder_hidden_states"]
        frames = self.frames
        if self.channels:
            frames = "rows" if sample.shape[1] == self.channels else "channels"
        return DenoiserCall(
            t=expand_t(call["timestep"], len(sample)).to(sample.device),
            cells=(1, *sample.shape[-2:]),
            text=text,
            sequences={"text": (Rows("text", text.shape[1]),)},
            frames=frames,
            rows=find_rows(),
        )
