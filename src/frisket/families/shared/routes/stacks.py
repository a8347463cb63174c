"""Blocks of a denoiser in a row, as routed blocks."""

from typing import Any

from torch import nn

from frisket.families.routes import Narrow, RoutedBlock
from frisket.families.streams import Stream


def list_stack(
    denoiser: nn.Module,
    stack: str,
    *,
    hidden: str = "hidden_states",
    stream: Stream = "image",
    output: int | None,
    narrow: Narrow | None = None,
) -> tuple[RoutedBlock, ...]:
    """The blocks of `denoiser.<stack>`, which are all called alike; see `RoutedBlock`."""
    blocks: Any = getattr(denoiser, stack)
    return tuple(
        RoutedBlock(
            name=f"{stack}.{index}",
            module=block,
            hidden=hidden,
            stream=stream,
            output=output,
            narrow=narrow,
        )
        for index, block in enumerate(blocks)
    )
