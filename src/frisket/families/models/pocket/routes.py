"""Routes of the pocket family's transformer; its UNets have none."""

from dataclasses import dataclass

from torch import nn

from frisket.families.models.pocket.transformer import PATCH, is_transformer
from frisket.families.routes import RoutedBlock, align
from frisket.families.shared.routes.stacks import list_stack

ROTARY = align(rotary_emb=("image", 1))


@dataclass(frozen=True, slots=True)
class PocketRoutes:
    """Wan's blocks, told one noise level a sample: each sample keeps its own tokens."""

    def find_patch(self, denoiser: nn.Module) -> tuple[int, int, int]:
        """2 x 2 cells of a picture; ValueError for a UNet."""
        if not is_transformer(denoiser):
            raise ValueError("a UNet of the pocket family has no tokens that it could route")
        return PATCH

    def list_blocks(self, denoiser: nn.Module) -> tuple[RoutedBlock, ...]:
        """All blocks of the transformer; none of a UNet."""
        if not is_transformer(denoiser):
            return ()
        return list_stack(denoiser, "blocks", output=None, narrow=ROTARY)
