"""Kept tokens drawn for a family's tiny parts."""

from math import prod

import torch
from tests.contracts.conftest import Case
from torch import Tensor

from frisket.families.experts import first


def find_token_grid(case: Case, frames: int) -> tuple[int, int, int]:
    cells = case.card.grid.cells(frames, *case.size)
    patch = case.family.routes.find_patch(first(case.parts.denoiser))
    f, h, w = (side // size for side, size in zip(cells, patch, strict=True))
    return f, h, w


def _split_tokens(case: Case, frames: int) -> tuple[int, int]:
    """How many tokens latent frame 0 of a video has (it may be handed over clean), and the rest."""
    f, h, w = find_token_grid(case, frames)
    clean = h * w if f > 1 else 0
    return clean, f * h * w - clean


def draw_tokens(case: Case, frames: int, seed: int = 0) -> Tensor:
    """Half of them in order, and frame 0: of each sample its own."""
    generator = torch.Generator().manual_seed(seed)
    clean, count = _split_tokens(case, frames)
    return torch.stack(
        [
            torch.cat(
                [
                    torch.arange(clean),
                    clean + torch.randperm(count, generator=generator)[: count // 2].sort().values,
                ]
            )
            for _ in range(2)
        ]
    )


def shuffle_tokens(case: Case, frames: int) -> Tensor:
    """All, in another order; frame 0 stays in front."""
    clean, count = _split_tokens(case, frames)
    places = torch.randperm(count, generator=torch.Generator().manual_seed(1))
    return torch.cat([torch.arange(clean), clean + places])[None]


def list_all_tokens(case: Case, frames: int) -> Tensor:
    return torch.arange(prod(find_token_grid(case, frames)))[None]


def list_windows(case: Case) -> list[tuple[int, int]]:
    """All blocks, all but the last and all but the first (across the kinds of blocks there are)."""
    count = len(case.family.routes.list_blocks(first(case.parts.denoiser)))
    return [(0, count), (0, count - 1), (1, count)]
