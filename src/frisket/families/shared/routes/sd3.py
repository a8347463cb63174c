"""Routes of Stable Diffusion 3 and 3.5."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from frisket.families.routes import RoutedBlock
from frisket.families.shared.routes.stacks import list_stack


@dataclass(frozen=True, slots=True)
class Sd3Routes:
    """Places are added to the tokens before the first block, so nothing goes along with them.

    That is so in blocks of dual attention and in the last one too, which hands back no text.
    """

    def find_patch(self, denoiser: nn.Module) -> tuple[int, int, int]:
        """2 x 2 cells."""
        config: Any = denoiser.config
        return 1, config.patch_size, config.patch_size

    def list_blocks(self, denoiser: nn.Module) -> tuple[RoutedBlock, ...]:
        """All blocks, in the order of the call."""
        return list_stack(denoiser, "transformer_blocks", output=1)
