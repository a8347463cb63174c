"""Streams of transformers that are handed packed tokens: FLUX, FLUX.2, Qwen-Image."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import Any

from torch import Tensor, nn

from frisket.families.streams import (
    DenoiserCall,
    NameTable,
    Rows,
    Stream,
    bind_call,
    expand_t,
    find_rows,
)

TWO_STREAMS: tuple[tuple[str, Stream], ...] = (
    (
        r"^transformer_blocks\.\d+\.(attn\.(add_[qkv]_proj|to_add_out)$|ff_context\.|txt_mlp\.)",
        "text",
    ),
    (r"^transformer_blocks\.\d+\.(attn2?\.to_|ff\.|img_mlp\.)", "image"),
)
FLUX: tuple[tuple[str, Stream], ...] = (
    (r"^time_|modulation|\.norm\d?(_context)?\.linear$|^norm_out\.", "apart"),
    (r"^context_embedder$", "text"),
    (r"^(x_embedder|proj_out)$", "image"),
    *TWO_STREAMS,
    (r"^single_transformer_blocks\.", "joint"),
)
QWEN: tuple[tuple[str, Stream], ...] = (
    (r"^time_|\.(img|txt)_mod\.|^norm_out\.", "apart"),
    (r"^txt_in$", "text"),
    (r"^(img_in|proj_out)$", "image"),
    *TWO_STREAMS,
)
QWEN_21: tuple[tuple[str, Stream], ...] = (
    (r"^time_|^modulation\.|^norm_out\.", "apart"),
    (r"^txt_in\.", "text"),
    (r"^img_in$", "image"),
    (r"^transformer_blocks\.|^proj_out$", "joint"),
)


@dataclass(frozen=True, slots=True)
class FluxStreams(NameTable):
    """Of FLUX and FLUX.2, told t; single blocks see [text | image], references come last."""

    table: tuple[tuple[str, Stream], ...] = FLUX
    side: int = 2  # cells of the latent grid on each side of a token

    def read(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> DenoiserCall:
        """What a call is about: the picture's tokens are those whose first index is 0."""
        call = bind_call(model, args, kwargs)
        states, text, places = (
            call[name] for name in ("hidden_states", "encoder_hidden_states", "img_ids")
        )
        places = places[0] if places.ndim == 3 else places
        target_places = places[places[:, 0] == 0]
        rows, columns = (int(side) + 1 for side in target_places[:, 1:3].amax(0).tolist())
        image = list_pictures([(1, rows, columns)], states.shape[1])
        words = (Rows("text", text.shape[1]),)
        return DenoiserCall(
            t=expand_t(call["timestep"], len(states), 1.0).to(states.device),
            cells=(1, self.side * rows, self.side * columns),
            text=text,
            sequences={"image": image, "text": words, "joint": (*words, *image)},
            rows=find_rows(),
        )


@dataclass(frozen=True, slots=True)
class QwenStreams(NameTable):
    """Of Qwen-Image, told t: two streams all along, the target's tokens first."""

    table: tuple[tuple[str, Stream], ...] = QWEN

    def read(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> DenoiserCall:
        """What a call is about: `img_shapes` are in tokens of 2 x 2 cells."""
        call = bind_call(model, args, kwargs)
        states, text = call["hidden_states"], call["encoder_hidden_states"]
        frames, rows, columns = _list_shapes(call["img_shapes"])[0]
        return DenoiserCall(
            t=expand_t(call["timestep"], len(states), 1.0).to(states.device),
            cells=(frames, 2 * rows, 2 * columns),
            text=text,
            sequences={
                "image": list_pictures([(frames, rows, columns)], states.shape[1]),
                "text": (Rows("text", text.shape[1]),),
            },
            rows=find_rows(),
        )


@dataclass(frozen=True, slots=True)
class Qwen21Streams(NameTable):
    """Of Qwen-Image 2.1, told t: one sequence of text and pictures, the target's cells last."""

    table: tuple[tuple[str, Stream], ...] = QWEN_21

    def read(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> DenoiserCall:
        """What a call is about; with a cache to read from the blocks see the target alone."""
        call = bind_call(model, args, kwargs)
        states, text = call["hidden_states"], call["encoder_hidden_states"]
        cells = _list_shapes(call["img_shapes"])[-1]
        target = Rows("image", prod(cells), cells)
        cached = call["kv_cache_mode"] == "cached"
        joint = (target,) if cached else (*_list_before(call["img_mask"][0], target.count), target)
        other_count = states.shape[1] - target.count
        image = (*((Rows("other", other_count),) if other_count else ()), target)
        return DenoiserCall(
            t=expand_t(call["timestep"], len(states), 1.0).to(states.device),
            cells=cells,
            text=text,
            sequences={"image": image, "text": (Rows("text", text.shape[1]),), "joint": joint},
            rows=find_rows(),
        )


def list_pictures(grids: list[tuple[int, int, int]], count: int) -> tuple[Rows, ...]:
    """The picture's rows and, up to `count`, those of reference pictures after it."""
    picture_rows = tuple(Rows("image", prod(grid), grid) for grid in grids)
    left = count - sum(rows.count for rows in picture_rows)
    return (*picture_rows, Rows("other", left)) if left else picture_rows


def _list_shapes(shapes: Any) -> list[tuple[int, int, int]]:
    """Of the first sample, one for each picture: samples share their layout."""
    first = shapes[0]
    return [first] if isinstance(first[0], int) else list(first)


def _list_before(slots: Tensor, target: int) -> tuple[Rows, ...]:
    """What stands before the target: text, and slots of 2 x 2 cells of pictures that are shown."""
    flags = slots.tolist()[: len(slots) - target // 4]
    runs = ((picture, len(list(group))) for picture, group in groupby(flags))
    return tuple(Rows("other", 4 * n) if picture else Rows("text", n) for picture, n in runs)
