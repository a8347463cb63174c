"""Factors of words and places laid on the rows of a sequence, or on the cells of a layer."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from frisket.families.routes import KeptTokens
from frisket.families.streams import DenoiserCall, Rows, Stream

SpaceFactor = Float[Tensor, "_ 1 _ _ _"]  # b 1 f h w, of one sample or of b
TokenFactor = Float[Tensor, "_ _"]  # b s, likewise
Grid = tuple[int, int, int]


class RoutingError(ValueError):
    """A factor that does not fit the call, or a module that no factor can be laid on."""


def lay_rows(
    stream: Stream,
    count: int,
    call: DenoiserCall,
    tokens: TokenFactor | None,
    space: SpaceFactor | None,
    *,
    kept_tokens: KeptTokens | None = None,
) -> Float[Tensor, "_ n 1"] | None:
    """The factor of each of `count` rows of a stream; None where none of them is touched.

    Rows of the image take the mean of `space` over their cell, its padding that over all cells,
    rows of the text what `tokens` says of their position, all others 1. Where `kept_tokens` says
    which tokens routed blocks carry, `count` may be that of the rows that stay. RoutingError where
    the stream has another number of rows, or a factor another batch or grid.
    """
    factors = _list_touching(stream, tokens, space)
    if not factors:
        return None
    rows = call.sequences.get(stream) or (_find_grid(count, call),)
    is_whole = sum(part.count for part in rows) == count
    if not is_whole:
        _check_kept(kept_tokens, rows, count)
    parts = [_lay_part(part, stream, call, tokens, space) for part in rows]
    batch = max(len(part) for part in parts)
    full = torch.cat([part.to(factors[0].device).expand(batch, -1) for part in parts], dim=1)
    return (full if is_whole or kept_tokens is None else kept_tokens.take(full, stream))[..., None]


def _check_kept(kept_tokens: KeptTokens | None, rows: tuple[Rows, ...], count: int) -> None:
    """RoutingError where `count` rows are not those that stay either."""
    if kept_tokens is None or _count_kept(kept_tokens, rows) != count:
        shape = " + ".join(f"{part.count} {part.kind}" for part in rows)
        raise RoutingError(f"it works on {count} rows, and the call has {shape}")


def lay_cells(
    call: DenoiserCall, space: SpaceFactor | None, sides: tuple[int, ...]
) -> Tensor | None:
    """The factor of a convolution's output cells (`sides`: f h w, or h w), b 1 and the sides."""
    if space is None:
        return None
    depth, height, width = (1, *sides)[-3:]
    factor = lay_space(call, space, (depth, height, width))
    return factor[:, :, 0] if len(sides) == 2 else factor


def lay_space(call: DenoiserCall, space: SpaceFactor, grid: Grid) -> SpaceFactor:
    """A plane on the latent grid as one on a layer's own grid: the area mean of its cells.

    One sample's serves all; several repeat where the call has a multiple of them (the negative
    prompts come first, in the same order). Where frames are channels, a cell is inside if it is in
    any of them. RoutingError for another grid or number of samples.
    """
    f, h, w = call.cells
    space_grid = tuple(space.shape[2:])
    if space_grid[1:] != (h, w) or (call.frames == "cells" and space_grid[0] != f):
        raise RoutingError(f"its space is {space_grid} cells (f h w), the call's are {call.cells}")
    if call.rows is not None and len(space) > 1:
        space = space[call.rows.to(space.device)]
    if call.frames == "rows":
        space = space.transpose(1, 2).flatten(0, 1).unsqueeze(2)
    elif call.frames == "channels":
        space = space.amax(2, keepdim=True)
    space = _repeat(space, len(call), "space")
    return space if space.shape[2:] == grid else functional.adaptive_avg_pool3d(space, grid)


def lay_tokens(
    call: DenoiserCall, tokens: TokenFactor, stream: Stream, count: int
) -> Float[Tensor, "_ n"]:
    """What `tokens` says of each row of the text: beyond them the last one holds (padding).

    Rows that come from nowhere on the axis (an image encoder's, glyphs') have 1.
    """
    if call.rows is not None and len(tokens) > 1:
        tokens = tokens[call.rows.to(tokens.device)]
    if call.frames == "rows" and len(call) not in {n * len(tokens) for n in (1, 2, len(call))}:
        raise RoutingError("which row is whose prompt is not known of several frames a sample")
    tokens = _repeat(tokens, len(call), "tokens")
    order = None if stream == "prompt" else call.order
    if order is None:
        beyond = tokens[:, -1:].expand(-1, max(0, count - tokens.shape[1]))
        return torch.cat([tokens[:, :count], beyond], dim=1)
    order = order.to(tokens.device).clamp_max(tokens.shape[1] - 1)
    picked = tokens.expand(len(order), -1).gather(1, order.clamp_min(0))
    return torch.where(order >= 0, picked, torch.ones_like(picked))


def _count_kept(kept_tokens: KeptTokens, rows: tuple[Rows, ...]) -> int:
    """How many rows of a stream stay in a routed block."""
    tokens = kept_tokens.tokens.shape[1]
    return sum(tokens if part.kind == "image" else part.count for part in rows)


def _list_touching(
    stream: Stream, tokens: TokenFactor | None, space: SpaceFactor | None
) -> list[Tensor]:
    """The factors that touch a stream; RoutingError for one that none can be laid on."""
    stream_factors: dict[str, tuple[Tensor | None, ...]] = {
        "image": (space,),
        "text": (tokens,),
        "prompt": (tokens,),
        "apart": (),
    }
    factors = [
        factor for factor in stream_factors.get(stream, (tokens, space)) if factor is not None
    ]
    if factors and stream == "flat":
        raise RoutingError(
            "it works on the rows of all samples one after the other, which no factor can be laid"
            " on: leave it out with lora.exclude"
        )
    return factors


def _lay_part(
    part: Rows,
    stream: Stream,
    call: DenoiserCall,
    tokens: TokenFactor | None,
    space: SpaceFactor | None,
) -> Float[Tensor, "_ n"]:
    if part.kind == "image" and space is not None:
        assert part.grid is not None
        return lay_space(call, space, part.grid).flatten(1)
    if part.kind == "padding" and space is not None:
        return lay_space(call, space, (1, 1, 1)).flatten(1).expand(-1, part.count)
    if part.kind == "text" and tokens is not None:
        return lay_tokens(call, tokens, stream, part.count)
    return torch.ones(1, part.count)


def _repeat(value: Tensor, count: int, name: str) -> Tensor:
    if len(value) in (1, count):
        return value
    if count % len(value):
        raise RoutingError(f"its {name} is of {len(value)} samples, the call of {count}")
    return value.repeat(count // len(value), *[1] * (value.ndim - 1))


def _find_grid(count: int, call: DenoiserCall) -> Rows:
    """The grid of a UNet's layer: the latent grid halved (and rounded up) until it has the rows."""
    for f, h, w in _list_halvings(call.cells):
        if f * h * w == count:
            return Rows("image", count, (f, h, w))
    raise RoutingError(f"it works on {count} rows, which is no halving of {call.cells} cells")


def _list_halvings(cells: Grid) -> Iterator[Grid]:
    _, h, w = cells
    while True:
        yield 1, h, w
        if (h, w) == (1, 1):
            return
        h, w = -(-h // 2), -(-w // 2)
