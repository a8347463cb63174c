"""Wan's blocks for token routing."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from frisket.families.routes import KeptTokens, RoutedBlock, align
from frisket.families.shared.routes.stacks import list_stack

ROTARY = align(rotary_emb=("image", 1))
ROTARY_AND_TIME = align(rotary_emb=("image", 1), temb=("image", 1))


@dataclass(frozen=True, slots=True)
class WanRoutes:
    """Text comes in by cross-attention: each sample keeps its own tokens."""

    def find_patch(self, denoiser: nn.Module) -> tuple[int, int, int]:
        """As its configuration has it, f h w."""
        config: Any = denoiser.config
        frames, rows, columns = config.patch_size
        return frames, rows, columns

    def list_blocks(self, denoiser: nn.Module) -> tuple[RoutedBlock, ...]:
        """All blocks: they are of one kind."""
        return list_stack(denoiser, "blocks", output=None, narrow=_narrow)


def _narrow(arguments: dict[str, Any], kept_tokens: KeptTokens) -> dict[str, Any]:
    """Rotary rows, and the modulation where it is told one level a token (TI2V): b n 6 c."""
    by_token = arguments["temb"].ndim == 4
    return (ROTARY_AND_TIME if by_token else ROTARY)(arguments, kept_tokens)
