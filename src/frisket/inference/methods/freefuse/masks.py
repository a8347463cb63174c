"""From similarity maps to one mask a concept: foreground, cleaned, shared out (FreeFuse, 3.2)."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from frisket.inference.methods.freefuse.assignment import Balance, assign_cells, scale_to_measured


@dataclass(frozen=True, slots=True)
class MaskRule:
    """How maps become masks; the defaults are the authors' but for `shifted` and `measured`.

    `background` scales the background's map before it competes (below 1 favours concepts). `window`
    is the side of the opening and closing (cells; 1 is none). The authors' windows of 2 cells look
    up and left both times, which moves a mask by two cells down and right: `shifted` does so too.
    `measured` brings maps of any size to the mean that the balance has its weights for.
    """

    background: float = 0.95
    window: int = 2
    shifted: bool = False
    measured: bool = True
    balance: Balance = field(default_factory=Balance)


DEFAULT_RULE = MaskRule()


def build_masks(
    maps: Float[Tensor, "b T n"],
    background: Float[Tensor, "b 1 n"] | None,
    cells: tuple[int, int, int],
    rule: MaskRule = DEFAULT_RULE,
) -> Float[Tensor, "b T f h w"]:
    """One mask a concept, 0 or 1: the cells that are its own and not the background's.

    No cell is in two masks. `maps` and `background` sum to 1 over cells; without a background its
    map is the mean of the concepts' (where one is above another, that is nowhere), which only makes
    sense of two or more: ValueError for one concept without a background.
    """
    if background is None and maps.shape[1] == 1:
        raise ValueError("one concept needs a background to stand before")
    behind = maps.mean(1, keepdim=True) if background is None else background * rule.background
    in_front = torch.cat([maps, behind], dim=1).argmax(1) != maps.shape[1]
    foreground = clean_mask(in_front.unflatten(1, cells), rule.window, shifted=rule.shifted)
    scaled = scale_to_measured(maps) if rule.measured else maps
    owner = assign_cells(scaled, cells, rule.balance).unflatten(1, cells)
    owner_cells = torch.stack([owner == concept for concept in range(maps.shape[1])], dim=1)
    return (owner_cells & foreground[:, None]).float()


def clean_mask(
    mask: Bool[Tensor, "b f h w"], window: int, *, shifted: bool = False
) -> Bool[Tensor, "b f h w"]:
    """Opening, then closing, frame by frame: specks go, then holes. Beyond the border is nothing.

    A window of an even side looks one cell further up and left in the first half of each and down
    and right in the second, so that what stays, stays in its place; `shifted` looks up and left
    both times, as the authors' code does.
    """
    if window <= 1:
        return mask
    cleaned_mask = mask.float()
    cleaned_mask = _grow(_shrink(cleaned_mask, window), window, mirrored=not shifted)
    cleaned_mask = _shrink(_grow(cleaned_mask, window), window, mirrored=not shifted)
    return cleaned_mask > 0.5


def _grow(mask: Tensor, window: int, *, mirrored: bool = False) -> Tensor:
    """Largest value in a window."""
    behind, ahead = window // 2, window - 1 - window // 2
    left, right = (ahead, behind) if mirrored else (behind, ahead)
    padded = functional.pad(mask, (left, right, left, right), value=0.0)
    return functional.max_pool2d(padded, window, stride=1)


def _shrink(mask: Tensor, window: int, *, mirrored: bool = False) -> Tensor:
    """Smallest value in a window; beyond the border it is the inside that goes on."""
    return 1 - _grow(1 - mask, window, mirrored=mirrored)
